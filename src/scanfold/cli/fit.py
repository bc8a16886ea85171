"""``scanfold fit``: open, fit, save; then the report, the maps and the table that were asked for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from scanfold.cli.clusters import cluster, cluster_options
from scanfold.cli.options import OPTIONS, Bounds, read_config, taken
from scanfold.cli.outputs import check_outputs, write_outputs
from scanfold.cli.pictures import draw_maps
from scanfold.conventions import InputError, require_dim, unknown

HELP = "fit a model at every position of a scan"
EXAMPLE = (
    'scanfold fit raman_map.h5 --model "LorentzianModel + LinearModel" --dim raman_shift \\\n'
    "    --select raman_shift=970:1020 --weights counts --out fits.zarr --report fits.html"
)
_OF_FIT = ("likelihood", "guess", "engine", "method", "covariance", "errors", "max_nfev", "retry", "poor_fit",
           "no_signal")  # fmt: skip
_OF_OPEN = ("dataset", "scan_shape", "dims")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", nargs="?", help="the scan: HDF5, zarr, NPZ, NPY, TIFF, or a vendor's format")
    parser.add_argument("--config", metavar="RUN.YAML", help="take options from a file; those given here win")
    for option in OPTIONS:
        if isinstance(option.default, bool):
            how: dict[str, Any] = {"action": "store_const", "const": option.implies}
        else:
            how = {"metavar": option.metavar, "action": "append" if option.repeated else "store"}
        parser.add_argument(option.option, dest=option.name, help=option.help, default=None, **how)


def run(arguments: argparse.Namespace) -> int:
    """Fit, and write what was asked for."""
    options = gather(arguments)
    outputs = check_outputs(options, "csv", "plots", "report")
    from scanfold.export import export_csv
    from scanfold.report import report
    from scanfold.runs import save

    fits, drawn = make_fits(options)
    with cluster(options):
        fits = save(fits, options["out"], progress=options["progress"])
    print(f"wrote {options['out']}")
    write_outputs(
        outputs,
        csv=lambda path: export_csv(fits, path, overwrite=True),
        plots=lambda folder: draw_maps(fits, folder),
        report=lambda path: report(fits, path, **drawn),
    )
    return 0


def gather(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all options: defaults, then those of the file, then those of the command line.

    Raises
    ------
    InputError
        If one cannot be used, or one that is needed is missing.
    """
    given = {o.name: taken(o.name, v) for o in OPTIONS if (v := getattr(arguments, o.name)) is not None}
    if arguments.file is not None:
        given["file"] = arguments.file
    kept = read_config(arguments.config) if arguments.config else {}
    options = {"file": None, **{o.name: o.default for o in OPTIONS}, **kept, **given}
    for name in ("select", "params", "stages"):
        options[name] = {**(kept.get(name) or {}), **(given.get(name) or {})}
    missing = [n if n == "file" else f"--{n}" for n in ("file", "model", "dim", "out") if not options[n]]
    if missing:
        raise InputError(f"{', '.join(missing)} missing; `scanfold info FILE` prints a command to start from")
    cluster_options(options)
    return options


def make_fits(options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the fits as a lazy Dataset, and what a report draws single fits from."""
    from scanfold.cli.models import parse_model
    from scanfold.conventions import primary
    from scanfold.fitting import fit
    from scanfold.io import open_scan

    model = parse_model(options["model"])
    scan = open_scan(options["file"], **{k: options[k] for k in _OF_OPEN if options[k] is not None})
    weights = _weights(options["weights"], scan)
    data = select(primary(scan), options["select"])
    if weights is not None and not isinstance(weights, str):
        weights = select(weights, options["select"])
    require_dim(data, options["dim"])
    fits = fit(
        data,
        model,
        options["params"] or None,
        dim=options["dim"],
        weights=weights,
        stages=options["stages"] or None,
        **{k: options[k] for k in _OF_FIT},
    )
    return fits, {"data": data, "model": model, "weights": weights}


def select(array: Any, wanted: Mapping[str, Bounds]) -> Any:
    """Return the part of an array between bounds, given in the units of each dimension, ends included.

    Raises
    ------
    InputError
        If there is no such dimension, or nothing of it lies between the bounds.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> energy = xr.DataArray(np.arange(5.0), dims="energy", coords={"energy": np.arange(9.0, 4.0, -1.0)})
    >>> select(energy, {"energy": (6.0, 7.5)}).energy.values.tolist()
    [7.0, 6.0]
    """
    import numpy as np

    for dim, (low, high) in wanted.items():
        require_dim(array, dim)
        values = np.asarray(array[dim])
        inside = (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
        places = np.flatnonzero(inside)
        if not places.size:
            units = array[dim].attrs.get("units", "")
            raise InputError(
                f"--select {dim}: nothing there; it runs from {values.min():g} to {values.max():g} {units}"
            )
        whole = places.size == places[-1] - places[0] + 1
        array = array.isel({dim: slice(int(places[0]), int(places[-1]) + 1) if whole else places})
    return array


def _weights(given: str | None, scan: Any) -> Any:
    if given is None or given == "counts":
        return given
    one, slash, name = given.partition("/")
    if one.strip() != "1" or not slash:
        raise InputError(f"--weights: {given!r}; expected counts, or 1/NAME where NAME holds standard errors")
    if name.strip() not in scan:
        raise unknown("variable for --weights", name.strip(), map(str, scan.data_vars))
    return 1.0 / scan[name.strip()].astype("float64")
