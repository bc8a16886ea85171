"""Fits of a transmission model to every group of a data set."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lmfit
import numpy as np
import xarray as xr

from scanfold.bragg.corrections import CORRECTED
from scanfold.bragg.parameters import units_of
from scanfold.bragg.stages import Stage, check_stages, expand_stages, within
from scanfold.conventions import InputError, InputTypeError, provenance, require_number, require_word, unknown
from scanfold.fitting import Stages, fit, parameter_names

if TYPE_CHECKING:
    from scanfold.bragg.model import TransmissionModel

#: nbragg's words for how a fit is spread, as Dask's schedulers.
BACKENDS = {"loky": "processes", "threading": "threads", "sequential": "sync"}
_STYLES = ("rietveld", "staged")
#: Temperatures of the tables around the start, where temperature varies: their ratio, and how many to either side.
_RATIO, _AROUND = 1.15, 4


def fit_groups(
    model: TransmissionModel,
    data: Any,
    params: lmfit.Parameters | Mapping[str, Any] | None = None,
    *,
    wlmin: float = 1.0,
    wlmax: float = 6.0,
    method: str = "leastsq",
    stages: Mapping[str, str | Sequence[str]] | str | None = None,
    likelihood: str = "gaussian",
    n_jobs: int | None = None,
    backend: str | None = None,
    progress_bar: bool = False,
    **options: Any,
) -> Any:
    """Fit a model to every group.

    Parameters
    ----------
    model : TransmissionModel
    data : bragg.Data or Dataset
        With ``transmission`` and ``transmission_err`` over groups and ``tof``, the coordinate ``wavelength`` (Å)
        and ``attrs["L"]`` (m).
    params : lmfit.Parameters or mapping, optional
        In place of those of the model; values, min and max may be DataArrays over the groups.
    wlmin, wlmax : float
        Window in Å; both ends are outside.
    method : str
        Of lmfit; "rietveld" and "staged" fit in stages, each keeping what varied before it, or not.
    stages : mapping or "all", optional
        By default those set on the model; the model's groups, one after the other, with "rietveld" and "staged".
    likelihood : {"gaussian", "poisson"}
        Least squares of the transmission, or signal counts given signal and open beam counts; these must be as
        recorded (sums of bins and pixels and charges are taken care of; corrected counts warn).
    n_jobs, backend : int, {"loky", "threading", "sequential"}, optional
        Fit in so many processes or threads (−1: all cores) when the result is looked at; the numbers are the
        same. Without them it is computed by whatever Dask is set to.
    progress_bar : bool
        Show a bar while the result is computed because it is looked at.
    **options
        Of `scanfold.fit`: guess, engine, covariance, errors, max_nfev, retry …

    Returns
    -------
    GroupedFitResult

    Raises
    ------
    InputError, InputTypeError
        Before any computing: data without what is needed, an empty window, unknown words.
    """
    if not isinstance(method, str):
        raise InputTypeError(f"method is {method!r}; expected a method of lmfit, rietveld or staged")
    dataset = _dataset(data)
    table = _parameters(model, params)
    style, chosen = _stages(model, table, method, stages)
    window = _window(dataset, require_number("wlmin", wlmin), require_number("wlmax", wlmax))
    function = instrument_model(model, table, window)
    if model.compat or chosen:
        options.setdefault("guess", "params")
    values, extra = _measured(window, likelihood)
    options |= extra | {"dim": "wavelength", "method": "leastsq" if method in _STYLES else method}
    scheduler = _scheduler(n_jobs, backend)
    if any(s.window != (None, None) for s in chosen):
        fits = _stages_in_windows(values, function, table, chosen, style, options)
    else:
        fits = fit(values, function, table, stages=_as_stages(chosen, style), **options)
    for name in (n for n in table if n in fits):
        if (unit := units_of(name, model.compat)) is not None:
            fits[name].attrs["units"] = fits[f"{name}_stderr"].attrs["units"] = unit
    from scanfold.bragg.result import GroupedFitResult

    return GroupedFitResult(fits, model, data, scheduler=scheduler, progress=progress_bar)


def instrument_model(model: TransmissionModel, table: Mapping[str, Any], window: xr.Dataset) -> lmfit.Model:
    """Return the lmfit model for the bins of some data; `table` are the settings of its parameters."""
    return model.lmfit_model(
        active=[n for n, s in table.items() if s.get("vary") or _is_own(s)], temperatures=_temperatures(table),
        flight_path=float(window.attrs.get("L", model.tof_length)),
        bin_width=_bin_width(window["wavelength"].values),
    )  # fmt: skip


def _dataset(data: Any) -> xr.Dataset:
    dataset = getattr(data, "dataset", data)
    if not isinstance(dataset, xr.Dataset):
        raise InputTypeError(f"data is a {type(data).__name__}; expected bragg.Data, or its Dataset")
    for name in ("transmission", "transmission_err"):
        if name not in dataset:
            raise InputError(f"the data have no {name!r}; they have {', '.join(map(str, dataset.data_vars))}")
    if "wavelength" not in dataset.coords:
        raise InputError("the data have no coordinate 'wavelength' (Å)")
    return dataset


def _window(dataset: xr.Dataset, wlmin: float, wlmax: float) -> xr.Dataset:
    """Return the data inside a window, along ``wavelength``."""
    wavelengths = dataset["wavelength"]
    (dim,) = wavelengths.dims
    inside = np.flatnonzero((wavelengths.values > wlmin) & (wavelengths.values < wlmax))
    if inside.size == 0:
        raise InputError(
            f"no data between wlmin={wlmin} and wlmax={wlmax} Å; the wavelengths go from "
            f"{float(wavelengths.min()):.4g} to {float(wavelengths.max()):.4g} Å"
        )
    cut = dataset.isel({dim: slice(int(inside[0]), int(inside[-1]) + 1)})
    if dim != "wavelength":
        cut = cut.swap_dims({dim: "wavelength"}).drop_vars([dim], errors="ignore")
    names = [n for n in cut.data_vars if "wavelength" in cut[n].dims and cut[n].chunks is not None]
    return cut.assign({n: cut[n].chunk(wavelength=-1) for n in names})


def _bin_width(wavelengths: Any) -> float | None:
    """Return the width (Å) of equal bins; None where they differ."""
    if wavelengths.size < 2:
        return None
    steps = np.diff(wavelengths)
    width = float(np.median(steps))
    return width if np.abs(steps - width).max() < 1e-3 * width else None


def counts_of(dataset: xr.Dataset) -> tuple[xr.DataArray, dict[str, Any]]:
    """Return signal counts, and how `scanfold.fit` takes the open beam beside them.

    T = S/O·(O_e/S_e), each over its exposure, so that the signal is exposed longer than the open beam by S_e/O_e and
    by the ratio of both exposures; the noise of the empty runs is not in the errors.

    Raises
    ------
    InputError
        If the data hold no counts.
    """
    for name in ("signal", "openbeam"):
        if name not in dataset:
            raise InputError(
                f"likelihood='poisson' needs the counts, and the data have no {name!r}; use likelihood='gaussian'"
            )
    if CORRECTED in dataset.attrs:
        warnings.warn(
            f"these counts were corrected for {dataset.attrs[CORRECTED]}: their noise is not that of counts, and the "
            "errors of likelihood='poisson' are too small by as much; 'gaussian' takes the errors of the data",
            stacklevel=4,
        )
    exposure = xr.ones_like(dataset["wavelength"], dtype=np.float64)
    exposure = exposure * dataset.get("signal_exposure", 1.0) / dataset.get("openbeam_exposure", 1.0)
    if "empty_ratio" in dataset:
        exposure = exposure / dataset["empty_ratio"]
    reference = dataset["openbeam"].drop_attrs(), exposure.drop_attrs()
    return dataset["signal"].drop_attrs(deep=False), {"likelihood": "binomial", "reference": reference}


def _measured(window: xr.Dataset, likelihood: str) -> tuple[xr.DataArray, dict[str, Any]]:
    """Return what is fitted, and its weights or what stands beside it."""
    require_word("likelihood", likelihood, ("gaussian", "poisson"))
    if likelihood == "poisson":
        return counts_of(window)
    error = window["transmission_err"]
    return window["transmission"].drop_attrs(deep=False), {"weights": (1.0 / error.where(error > 0.0)).drop_attrs()}


def _parameters(model: TransmissionModel, params: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of all parameters, the user's over the model's."""
    table: dict[str, dict[str, Any]] = {n: _settings(p) for n, p in model.params.items()}
    if params is not None and not isinstance(params, Mapping):
        raise InputTypeError(f"params is a {type(params).__name__}; expected lmfit.Parameters or a mapping of names")
    for name, given in (params or {}).items():
        if name not in table:
            raise unknown("parameter", name, table)
        if isinstance(given, lmfit.Parameter):
            table[name] = _settings(given)
            continue
        settings = given if isinstance(given, Mapping) else {"value": given}
        for key in ("value", "min", "max"):
            if settings.get(key) is not None and not isinstance(settings[key], xr.DataArray):
                require_number(f"{key} of parameter {name!r}", settings[key])
        table[name] = table[name] | {k: v for k, v in settings.items() if v is not None}
        if "expr" in table[name] and settings.get("expr") is None and name in model.function().names:
            table[name].pop("expr")
    return table


def _settings(p: lmfit.Parameter) -> dict[str, Any]:
    if p.expr:
        return {"expr": p.expr}
    return {"value": float(p.value), "min": float(p.min), "max": float(p.max), "vary": bool(p.vary)}


def _is_own(settings: Mapping[str, Any]) -> bool:
    return any(isinstance(v, xr.DataArray) for v in settings.values())


def _temperatures(table: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the temperatures of the tables: that of the parameter, or some around it where it varies."""
    settings = table["temp"]
    value = settings.get("value", 293.15)
    if not settings.get("vary") and not isinstance(value, xr.DataArray) and not settings.get("expr"):
        return (float(value),)
    middle = float(value.mean()) if isinstance(value, xr.DataArray) else float(value)
    found = tuple(middle * _RATIO**i for i in range(-_AROUND, _AROUND + 1))
    settings["min"] = max(settings.get("min", 0.0), found[0])
    settings["max"] = min(settings.get("max", found[-1]), found[-1])
    return found


def _stages(
    model: TransmissionModel, table: Mapping[str, Mapping[str, Any]], method: str, stages: Any
) -> tuple[str, list[Stage]]:
    """Return the style of the stages, and the stages; none if all vary together."""
    style = method if method in _STYLES else "rietveld"
    wanted = stages if stages is not None else model._stages
    if wanted is None:
        if method not in _STYLES:
            return style, []
        wanted = model.stages
    params = model.params.copy()
    for name, settings in table.items():
        if not settings.get("expr"):
            params[name].set(vary=bool(settings.get("vary")))
    return style, expand_stages(check_stages(wanted, params), params)


def _as_stages(chosen: Sequence[Stage], style: str) -> Stages | None:
    if not chosen:
        return None
    return Stages({s.name: list(s.vary) for s in chosen}, style=style, keep=True)


def _stages_in_windows(
    values: xr.DataArray, function: lmfit.Model, table: Mapping[str, Mapping[str, Any]], chosen: Sequence[Stage],
    style: str, options: Mapping[str, Any],
) -> xr.Dataset:  # fmt: skip
    """Fit stage after stage, each in its own window, from the result of the one before; return the last.

    It has the parameters after each stage, as fits in stages of one window have, and all evaluations.
    """
    fits: xr.Dataset | None = None
    free: set[str] = set()
    before: list[xr.Dataset] = []
    for stage in chosen:
        free = free | set(stage.vary) if style == "rietveld" else set(stage.vary)
        settings: dict[str, dict[str, Any]] = {n: dict(s) for n, s in table.items()}
        for name, own in settings.items():
            if "expr" not in own:
                own["vary"] = name in free
                if fits is not None:
                    own["value"] = fits[name].drop_vars(list(fits[name].coords)).drop_attrs()
        inside = within(values, "wavelength", stage.window)
        fits = fit(inside, function, settings, **{**options, "guess": "params", "retry": False})
        before.append(fits)
    assert fits is not None
    return _joined(before, table, chosen)


def _joined(each: Sequence[xr.Dataset], table: Mapping[str, Mapping[str, Any]], chosen: Sequence[Stage]) -> xr.Dataset:
    """Return the last fit with the record and the values of all stages."""
    names = parameter_names(each[-1])
    rows = [xr.concat([f[n].drop_attrs() for n in names], "param", coords="minimal", compat="override") for f in each]
    kept = xr.concat(rows, "stage", coords="minimal", compat="override").transpose(..., "stage", "param")
    out = each[-1].assign(
        stage_values=kept.assign_attrs(long_name="parameters after each stage"),
        nfev=sum(f["nfev"] for f in each).astype("int32").assign_attrs(each[-1]["nfev"].attrs),  # type: ignore[union-attr]
    )
    out = out.assign_coords(param=np.array(names, object), stage=np.array([s.name for s in chosen], object))
    recorded = provenance(each[-1])
    options = recorded["options"]
    options["stages"] = [provenance(f)["options"]["stages"][-1] for f in each]
    options["stage_names"], options["keep_stages"] = [s.name for s in chosen], True
    options["windows"] = [list(s.window) for s in chosen]
    for name, settings in table.items():
        if "value" in settings and not isinstance(settings["value"], xr.DataArray):
            options["parameters"][name]["value"] = float(settings["value"])
            options["own"].pop(f"{name}.value", None)
    return out.assign_attrs(provenance=json.dumps(recorded, sort_keys=True))


def _scheduler(n_jobs: int | None, backend: str | None) -> dict[str, Any]:
    """Return nbragg's words as what Dask computes with; nothing where none is given."""
    if backend is not None:
        require_word("backend", backend, BACKENDS)
    if n_jobs is None and backend is None:
        return {}
    jobs = n_jobs if n_jobs is not None else -1
    if not isinstance(jobs, int) or jobs == 0 or jobs < -1:
        raise InputError(f"n_jobs is {n_jobs}; expected a number of workers, or -1 for all cores")
    scheduler = "sync" if jobs == 1 else BACKENDS[backend or "loky"]
    return {"scheduler": scheduler} | ({} if jobs == -1 or scheduler == "sync" else {"num_workers": jobs})
