"""Scans as PtychoPINN names them: a thin view of a lazy Dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold._markup import overview
from scanfold.conventions import InputError, InputTypeError, provenance
from scanfold.grouping import gather, plan_groups
from scanfold.io import open_scan
from scanfold.ptycho import npz, objects, probes
from scanfold.ptycho.config import ModelConfig
from scanfold.ptycho.simulate import generate_simulated_data
from scanfold.runs import save

Array = npt.NDArray[Any]

#: Attributes of `RawData`, and the variables they are.
FIELDS = {
    "xcoords": "position_x",
    "ycoords": "position_y",
    "xcoords_start": "position_x_nominal",
    "ycoords_start": "position_y_nominal",
    "probeGuess": "probe",
    "objectGuess": "object",
    "Y": "Y",
    "scan_index": "scan_index",
    "object_index": "object_index",
}


class RawData:
    """Frames, positions, probe and what else belongs to a scan, as arrays under PtychoPINN's names.

    Every array is computed when it is first asked for, and kept. `dataset` has the same, lazily and labelled; reading
    coordinates reads no frames.

    Parameters
    ----------
    xcoords, ycoords : array (M,)
        True positions along the object's columns and rows, in pixels.
    xcoords_start, ycoords_start : array (M,)
        Nominal positions.
    diff3d : array (M, N, N)
        Diffraction amplitudes, zero frequency in the middle.
    probeGuess : array (N, N) or (modes, N, N)
        Probe.
    scan_index : array (M,), optional
        The scan of each frame, 0 if not given.
    objectGuess : array (H, W), optional
        Object.
    Y : array (M, N, N), optional
        The object at each position.
    object_index : array (M,), optional
        The object of each frame.

    Raises
    ------
    InputError, InputTypeError
        If shapes do not fit together, or a number is not finite.

    Examples
    --------
    >>> x = y = np.linspace(50, 150, 10)
    >>> raw = RawData.from_coords_without_pc(x, y, np.ones((10, 8, 8)), np.ones((8, 8)))
    >>> raw.diff3d.shape, raw.scan_index.tolist() == [0] * 10
    ((10, 8, 8), True)
    """

    def __init__(
        self,
        xcoords: Any,
        ycoords: Any,
        xcoords_start: Any,
        ycoords_start: Any,
        diff3d: Any,
        probeGuess: Any,
        scan_index: Any = None,
        objectGuess: Any = None,
        Y: Any = None,
        *,
        object_index: Any = None,
    ):
        frames = _frames(diff3d)
        count, N = frames.sizes["position"], frames.sizes["ky"]
        ds = xr.Dataset({"diffraction": frames})
        columns = {
            "position_y": ycoords, "position_x": xcoords,
            "position_y_nominal": ycoords_start, "position_x_nominal": xcoords_start,
            "scan_index": np.zeros(count, np.int64) if scan_index is None else scan_index,
            "object_index": object_index,
        }  # fmt: skip
        for name, values in columns.items():
            if values is not None:
                ds = ds.assign_coords({name: ("position", _column(name, values, count), _attrs(name))})
        ds["probe"] = probes.checked(probeGuess, N)
        if objectGuess is not None:
            ds["object"] = objects.checked(objectGuess)
        if Y is not None:
            ds["Y"] = _patches(Y, count, N)
        self._dataset = ds.assign_attrs(primary="diffraction", kind="amplitude")

    @classmethod
    def from_dataset(cls, ds: xr.Dataset) -> RawData:
        """View a Dataset of `open_scan(format="ptycho")`, `generate_simulated_data`, or with the same names.

        Raises
        ------
        InputError
            If it has no frames, or no positions.
        """
        if not isinstance(ds, xr.Dataset):
            raise InputTypeError(f"expected a Dataset, found {type(ds).__name__}")
        for name in ("diffraction", "position_y", "position_x"):
            if name not in ds.variables:
                raise InputError(f"the Dataset has no {name!r}; it has {', '.join(map(str, ds.variables))}")
        raw = cls.__new__(cls)
        raw._dataset = ds
        return raw

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> RawData:
        """Open a file of `open_scan(path, format="ptycho")`, whose options it takes; frames stay in the file.

        Raises
        ------
        InputError
            If it is damaged, of no known layout, or lacks something; see `open_scan`.
        """
        return cls.from_dataset(open_scan(path, format="ptycho", **options))

    @classmethod
    def from_coords_without_pc(
        cls, xcoords: Any, ycoords: Any, diff3d: Any, probeGuess: Any, scan_index: Any = None, objectGuess: Any = None
    ) -> RawData:
        """Make one whose nominal positions are the true ones."""
        return cls(xcoords, ycoords, xcoords, ycoords, diff3d, probeGuess, scan_index, objectGuess)

    @classmethod
    def from_simulation(
        cls,
        xcoords: Any,
        ycoords: Any,
        probeGuess: Any,
        objectGuess: Any,
        scan_index: Any = None,
        **options: Any,
    ) -> RawData:
        """Simulate frames at these positions; `generate_simulated_data` has further options."""
        sim = generate_simulated_data(objectGuess, probeGuess, positions=(ycoords, xcoords), **options)
        if scan_index is not None:
            index = _column("scan_index", scan_index, sim.sizes["position"])
            sim = sim.assign_coords(scan_index=("position", index, _attrs("scan_index")))
        return cls.from_dataset(sim)

    @property
    def dataset(self) -> xr.Dataset:
        """The Dataset, lazy where its parts are."""
        return self._dataset

    @property
    def kind(self) -> str:
        """What the frames are: "amplitude" or "intensity"."""
        attrs = self._dataset["diffraction"].attrs
        return str(attrs.get("kind", self._dataset.attrs.get("kind", "amplitude")))

    @property
    def N(self) -> int:
        """Pixels along a side of a frame."""
        return int(self._dataset.sizes["ky"])

    @property
    def amplitude(self) -> xr.DataArray:
        """The frames as amplitudes, float32, lazily: square roots of intensities."""
        frames = self._dataset["diffraction"]
        made = frames.astype("float32")
        made = made**0.5 if self.kind == "intensity" else made
        return made.assign_attrs(long_name="diffraction amplitude", kind="amplitude")

    @cached_property
    def diff3d(self) -> Array:
        """Diffraction amplitudes (M, N, N), float32, in memory."""
        return np.asarray(self.amplitude.values)

    @cached_property
    def norm_Y_I(self) -> float | None:
        """The intensity scale s of a simulation, or of a file that has it; None for other scans."""
        s = self._dataset.get("intensity_scale")
        return None if s is None else float(s)

    def __getattr__(self, name: str) -> Any:
        """Return an array under PtychoPINN's name; None if the scan has none."""
        if name.startswith("_") or name not in FIELDS:
            raise AttributeError(f"RawData has no {name!r}; it has {', '.join(['diff3d', 'norm_Y_I', *FIELDS])}")
        value = self._values(name)
        self.__dict__[name] = value
        return value

    def _values(self, name: str) -> Array | None:
        variable = self._dataset.get(FIELDS[name])
        if variable is not None:
            return np.asarray(variable.values)
        if name == "scan_index":
            return np.zeros(self._dataset.sizes["position"], np.int64)
        return getattr(self, name.removesuffix("_start")) if name.endswith("_start") else None

    def __repr__(self) -> str:
        frames = self._dataset["diffraction"]
        there = [name for name, variable in FIELDS.items() if variable in self._dataset.variables]
        return f"RawData({frames.shape[0]} frames of {self.N} × {self.N}, {self.kind}; {', '.join(there)})"

    def _repr_html_(self) -> str:
        return overview(self, self._dataset)

    def generate_grouped_data(
        self,
        N: int,
        K: int = 7,
        nsamples: int = 1,
        gridsize: int | None = None,
        *,
        seed: int = 0,
        sequential_sampling: bool = False,
        enable_oversampling: bool = False,
        **options: Any,
    ) -> xr.Dataset:
        """Return exactly `nsamples` groups of ``gridsize²`` neighbouring frames, lazily.

        Parameters
        ----------
        N : int
            Pixels along a side of a frame, as the model expects them.
        K : int
            The nearest neighbours that a group is drawn from.
        nsamples : int
            Groups.
        gridsize : int, optional
            Frames along one side of a group; that of a simulation, or 1, if not given.
        seed, sequential_sampling, enable_oversampling, **options
            As of `grouping.plan_groups` (``sampling="sequential"``).

        Returns
        -------
        Dataset
            Of `grouping.gather`: the amplitudes are ``diffraction (group, channel, ky, kx)``.

        Raises
        ------
        InputError
            If N or gridsize are not those of the scan, or the groups are not possible.
        """
        recorded = self._dataset.attrs.get("gridsize")
        wanted = ModelConfig(N, gridsize if gridsize is not None else int(recorded or 1))
        if wanted.N != self.N:
            raise InputError(f"N={N}, and the frames of this scan are {self.N} × {self.N}")
        if recorded is not None and wanted.gridsize != recorded:
            raise InputError(
                f"gridsize={wanted.gridsize}, and the scan was simulated for gridsize={recorded}; "
                "simulation and training use one gridsize"
            )
        sampling = options.pop("sampling", "sequential" if sequential_sampling else "random")
        plan = plan_groups(
            self._dataset, nsamples=nsamples, gridsize=wanted.gridsize, K=K if wanted.channels > 1 else None, seed=seed,
            sampling=sampling, enable_oversampling=enable_oversampling, **options,
        )  # fmt: skip
        frames = self.amplitude if self.kind == "intensity" else self._dataset["diffraction"]
        groups = gather(self._dataset.assign(diffraction=frames), plan)
        known = {k: self._dataset.attrs[k] for k in ("nphotons",) if k in self._dataset.attrs}
        return groups.assign_attrs(known, gridsize=wanted.gridsize)

    def to_zarr(self, store: str | os.PathLike[str], **options: Any) -> xr.Dataset:
        """Write it with `scanfold.save`, and return the store, opened lazily."""
        return save(self._dataset, store, **options)

    def to_npz(self, path: str | os.PathLike[str]) -> Path:
        """Write an NPZ file of PtychoPINN's contract, piece by piece, taking the place of `path` at the end.

        Amplitudes are ``diff3d`` (M, N, N) float32; the record of the scan is JSON in ``_metadata``, readable without
        pickle.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InputError
            If the folder is not there.
        """
        target = Path(path)
        if not target.absolute().parent.is_dir():
            raise InputError(f"to_npz({str(path)!r}): there is no folder {str(target.absolute().parent)!r}")
        names = ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "scan_index", "probeGuess", "object_index",
                 "objectGuess", "norm_Y_I")  # fmt: skip
        small = {name: value for name in names if (value := getattr(self, name)) is not None}
        members = {"diff3d": self.amplitude.transpose("position", "ky", "kx")}
        members |= {name: xr.DataArray(np.asarray(value)) for name, value in small.items()}
        if "Y" in self._dataset:
            members["Y"] = self._dataset["Y"]
        members["_metadata"] = xr.DataArray(np.array(json.dumps(self._metadata())))
        npz.write(target, members)
        return target

    def _metadata(self) -> Mapping[str, Any]:
        attrs = self._dataset.attrs
        try:
            kept = dict(json.loads(attrs.get("metadata", "{}")))  # of the file that it was read from
            physics = dict(kept.get("physics_parameters", {}))
        except (ValueError, TypeError):
            kept, physics = {}, {}
        known = {"N": self.N} | {k: attrs[k] for k in ("nphotons", "gridsize") if k in attrs}
        made = provenance(self._dataset) or kept.get("provenance", {})
        return {"schema_version": "1.0.0", **kept, "physics_parameters": physics | known, "provenance": made}


def convert(
    path: str | os.PathLike[str], store: str | os.PathLike[str], *, progress: bool = True, **options: Any
) -> xr.Dataset:
    """Write a ptychography file into a zarr store once, so that it is read in parts from then on.

    Parameters
    ----------
    path : path
        NPZ or any file of `open_scan(format="ptycho")`.
    store : path
        A new folder.
    progress : bool
        As of `scanfold.save`.
    **options
        Of `open_scan`: `kind`, `fields`, `chunks`.

    Returns
    -------
    Dataset
        The store, opened lazily.

    Raises
    ------
    InputError
        If the file cannot be opened, or the store holds something else.
    """
    return save(open_scan(path, format="ptycho", **options), store, progress=progress)


def _frames(diff3d: Any) -> xr.DataArray:
    frames = diff3d if isinstance(diff3d, xr.DataArray) else xr.DataArray(np.asarray(diff3d), dims=None)
    if frames.ndim != 3 or frames.shape[1] != frames.shape[2] or not frames.size:
        raise InputError(f"diff3d has shape {frames.shape}; expected square frames (M, N, N)")
    if frames.dtype.kind not in "biuf":
        raise InputTypeError(f"diff3d holds {frames.dtype}; expected real amplitudes")
    frames = frames.rename(dict(zip(frames.dims, ("position", "ky", "kx"), strict=True))).drop_vars(frames.coords)
    middle = np.arange(frames.shape[1]) - frames.shape[1] // 2
    attrs = {"units": "pixel", "long_name": "distance from zero frequency"}
    frames = frames.assign_coords(ky=("ky", middle, attrs), kx=("kx", middle, attrs)).rename("diffraction")
    return frames.assign_attrs(kind="amplitude", long_name="diffraction amplitude")


def _column(name: str, values: Any, count: int) -> Array:
    found = np.asarray(values)
    if found.shape != (count,):
        raise InputError(f"{name} has shape {found.shape}, and there are {count} frames; expected one value for each")
    if name.endswith("index"):
        return found.astype(np.int64)
    if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise InputError(f"{name} holds numbers that are not finite; leave those frames out")
    return found.astype(np.float64)


def _patches(Y: Any, count: int, N: int) -> xr.DataArray:
    values = np.asarray(Y)
    if values.ndim == 4 and values.shape[-1] == 1:
        values = values[..., 0]  # (M, N, N, 1), as older files have it
    if values.shape != (count, N, N):
        raise InputError(f"Y has shape {values.shape}; expected a patch for each frame: ({count}, {N}, {N})")
    attrs = {"long_name": "the object at each position"}
    return xr.DataArray(values.astype(np.complex64), dims=("position", "probe_y", "probe_x"), attrs=attrs)


def _attrs(name: str) -> dict[str, str]:
    kind, axis, *nominal = name.split("_")
    if kind == "position":
        return {"units": "pixel", "long_name": f"{'intended ' if nominal else ''}position of the beam along {axis}"}
    return {"long_name": f"{kind} that the frame is of"}
