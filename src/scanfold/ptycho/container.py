"""What a model is trained on, under PtychoPINN's names: a thin view of a lazy Dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold._markup import overview
from scanfold.conventions import InputError, InputTypeError, Var, unknown
from scanfold.ptycho import forward, normalisation, probes
from scanfold.ptycho.forward import Optics, Scan
from scanfold.ptycho.positions import require_inside
from scanfold.ptycho.raw_data import RawData

Array = npt.NDArray[Any]

_PATCH = ("group", "probe_y", "probe_x", "channel")
_COORDS = ("group", "one", "axis", "channel")
#: The fields, in the order of the constructor.
FIELDS = (
    Var("X", ("group", "ky", "kx", "channel"), "float32", "diffraction amplitude"),
    Var("Y_I", _PATCH, "float32", "amplitude of the object in each frame"),
    Var("Y_phi", _PATCH, "float32", "phase of the object in each frame", "rad"),
    Var("norm_Y_I", (), "float64", "scale from amplitudes to square roots of photons"),
    Var("YY_full", ("object_y", "object_x"), "complex64", "the object"),
    Var("coords_nominal", _COORDS, "float64", "centre of the group − nominal position, axes x, y", "pixel"),
    Var("coords_true", _COORDS, "float64", "centre of the group − true position, axes x, y", "pixel"),
    Var("nn_indices", ("group", "channel"), "int32", "numbers of the frames in their scan"),
    Var(
        "global_offsets", ("group", "one", "axis", "one_channel"), "float64", "centre of the group, axes x, y", "pixel"
    ),
    Var("local_offsets", _COORDS, "float64", "centre of the group − true position, axes x, y", "pixel"),
    Var("probeGuess", ("probe_y", "probe_x"), "complex64", "probe"),
)
_BY_NAME = {v.name: v for v in FIELDS}
#: What may be None.
_OPTIONAL = {"Y_I", "Y_phi", "YY_full", "nn_indices", "global_offsets", "local_offsets"}


class PtychoDataContainer:
    """Groups of frames with their truth and coordinates, as a Dataset and as arrays of PtychoPINN's names.

    Arrays are computed when they are first asked for, and kept; `dataset` has them lazily. B groups, C channels.

    Parameters
    ----------
    X : array (B, N, N, C)
        Amplitudes.
    Y_I, Y_phi : array (B, N, N, C) or None
        Amplitude and phase of the truth.
    norm_Y_I : float
        Scale from amplitudes to square roots of photons.
    YY_full : array (H, W) or None
        The object; (n, H, W) for several.
    coords_nominal, coords_true : array (B, 1, 2, C)
        Centre of the group minus position, axes x, y; nominal and true.
    nn_indices : array (B, C) or None
        Frames in their scan.
    global_offsets : array (B, 1, 2, 1), (B, 1, 2, C) or None
        Centres of the groups.
    local_offsets : array (B, 1, 2, C) or None
        As `coords_true`.
    probeGuess : array (N, N) or (modes, N, N)
        Probe.
    dataset_intensity_stats : Dataset, optional
        Of `compute_dataset_intensity_stats`; without it `intensity_scale` takes the scale from `X`.

    Raises
    ------
    InputError, InputTypeError
        If shapes do not fit together, or something that is needed is None.

    Examples
    --------
    >>> coords = np.zeros((3, 1, 2, 4))
    >>> container = PtychoDataContainer(
    ...     X=np.ones((3, 8, 8, 4)), Y_I=None, Y_phi=None, norm_Y_I=1.0, YY_full=None, coords_nominal=coords,
    ...     coords_true=coords, nn_indices=None, global_offsets=None, local_offsets=None, probeGuess=np.ones((8, 8)),
    ... )
    >>> container.X.shape, float(container.intensity_scale(nphotons=6400))
    ((3, 8, 8, 4), 10.0)
    """

    def __init__(
        self,
        X: Any,
        Y_I: Any,
        Y_phi: Any,
        norm_Y_I: Any,
        YY_full: Any,
        coords_nominal: Any,
        coords_true: Any,
        nn_indices: Any,
        global_offsets: Any,
        local_offsets: Any,
        probeGuess: Any,
        dataset_intensity_stats: xr.Dataset | None = None,
    ):
        frames = _labelled("X", X)
        sizes = dict(zip(frames.dims, frames.shape, strict=True))
        B, N, C = sizes["group"], sizes["ky"], sizes["channel"]
        if sizes["kx"] != N:
            raise InputError(f"X has shape {frames.shape}; expected square frames (B, N, N, C)")
        expected: dict[str, list[tuple[int, ...]]] = {
            "Y_I": [(B, N, N, C)], "Y_phi": [(B, N, N, C)], "coords_nominal": [(B, 1, 2, C)],
            "coords_true": [(B, 1, 2, C)], "nn_indices": [(B, C)], "global_offsets": [(B, 1, 2, 1), (B, 1, 2, C)],
            "local_offsets": [(B, 1, 2, C)], "norm_Y_I": [()],
        }  # fmt: skip
        given = {
            "Y_I": Y_I, "Y_phi": Y_phi, "norm_Y_I": norm_Y_I, "YY_full": YY_full, "coords_nominal": coords_nominal,
            "coords_true": coords_true, "nn_indices": nn_indices, "global_offsets": global_offsets,
            "local_offsets": local_offsets,
        }  # fmt: skip
        ds = xr.Dataset({"X": frames})
        for name, value in given.items():
            if value is None:
                if name not in _OPTIONAL:
                    raise InputError(f"{name} is None; expected an array, see PtychoDataContainer")
                continue
            ds[name] = _labelled(name, value, expected.get(name))
        ds["probeGuess"] = probes.checked(probeGuess, N)
        if dataset_intensity_stats is not None:
            ds.update(_stats(dataset_intensity_stats))
        self._dataset = ds.assign_attrs(primary="X")

    @classmethod
    def from_dataset(cls, ds: xr.Dataset) -> PtychoDataContainer:
        """View a Dataset that has the fields, such as one of `mk_simdata`, or a container that was saved.

        Raises
        ------
        InputError
            If it has no `X` or no coordinates.
        """
        missing = [n for n in ("X", "coords_nominal", "coords_true", "probeGuess") if n not in ds]
        if missing:
            raise InputError(f"the Dataset has no {', '.join(missing)}; it has {', '.join(map(str, ds.data_vars))}")
        made = cls.__new__(cls)
        if "norm_Y_I" not in ds and "intensity_scale" in ds:
            ds = ds.assign(norm_Y_I=_BY_NAME["norm_Y_I"].make(ds["intensity_scale"]))
        if "local_offsets" not in ds:
            ds = ds.assign(local_offsets=_BY_NAME["local_offsets"].make(ds["coords_true"]))
        made._dataset = ds
        return made

    @classmethod
    def from_groups(cls, groups: xr.Dataset, *, nphotons: float | None = None) -> PtychoDataContainer:
        """Make one of gathered groups, lazily: amplitudes by `normalize_data`, truth cut at the true positions.

        Parameters
        ----------
        groups : Dataset
            Of `grouping.gather` or `RawData.generate_grouped_data`.
        nphotons : float, optional
            Mean photons in a frame, recorded by simulations; 1e9 if not given.

        Raises
        ------
        InputError
            If it has no groups or no probe, or an object on which a frame does not lie.
        """
        for name in ("diffraction", "probe", "position_y"):
            if name not in groups.variables:
                raise InputError(f"the groups have no {name!r}; expected a Dataset of grouping.gather")
        raw = groups["diffraction"].transpose("group", "ky", "kx", "channel")
        photons = nphotons or float(groups.attrs.get("nphotons", 1e9))
        X = normalisation.normalize_data(raw**0.5 if raw.attrs.get("kind") == "intensity" else raw)
        X = X.drop_vars(X.coords)
        truth = _truth(groups)
        true = _coordinates(groups)
        nominal = _coordinates(groups, "_nominal") if "position_y_nominal" in groups.coords else true
        return cls(
            X=X,
            Y_I=None if truth is None else abs(truth),
            Y_phi=None if truth is None else xr.ufuncs.angle(truth),
            norm_Y_I=normalisation.scale_nphotons(X, photons),
            YY_full=groups.get("object"),
            coords_nominal=nominal[1],
            coords_true=true[1],
            nn_indices=groups["nn_indices"].values if "nn_indices" in groups.variables else None,
            global_offsets=true[0],
            local_offsets=true[1],
            probeGuess=groups["probe"],
            dataset_intensity_stats=normalisation.compute_dataset_intensity_stats(X),
        )

    @classmethod
    def from_raw_data_without_pc(
        cls,
        xcoords: Any,
        ycoords: Any,
        diff3d: Any,
        probeGuess: Any,
        scan_index: Any = None,
        objectGuess: Any = None,
        *,
        N: int | None = None,
        K: int = 7,
        nsamples: int = 1,
        gridsize: int = 2,
        nphotons: float = 1e9,
        **options: Any,
    ) -> PtychoDataContainer:
        """Make one of plain arrays: a scan, its groups, and these; options as of `RawData.generate_grouped_data`."""
        raw = RawData.from_coords_without_pc(xcoords, ycoords, diff3d, probeGuess, scan_index, objectGuess)
        groups = raw.generate_grouped_data(N or raw.N, K, nsamples, gridsize, **options)
        return cls.from_groups(groups, nphotons=nphotons)

    @property
    def dataset(self) -> xr.Dataset:
        """The Dataset, lazy where its parts are."""
        return self._dataset

    @property
    def dataset_intensity_stats(self) -> xr.Dataset | None:
        """What `compute_dataset_intensity_stats` returned; None if it was not given."""
        names = [v.name for v in normalisation.STATS]
        return self._dataset[names] if set(names) <= set(self._dataset.variables) else None

    def intensity_scale(self, nphotons: float = 1e9) -> xr.DataArray:
        """Return ``√(nphotons / mean Σ X²)`` of the statistics, or else of `X`, lazily; `attrs` say which."""
        stats = self.dataset_intensity_stats
        s = normalisation.scale_nphotons(self._dataset["X"] if stats is None else stats, nphotons)
        return s.assign_attrs(of="X" if stats is None else "dataset_intensity_stats")

    def __getattr__(self, name: str) -> Any:
        """Return a field as an array, None if it was not given."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in _BY_NAME:
            raise AttributeError(str(unknown("field", name, _BY_NAME)))
        value = self._dataset[name].values if name in self._dataset else None
        self.__dict__[name] = value
        return value

    def __len__(self) -> int:
        return int(self._dataset.sizes["group"])

    def __repr__(self) -> str:
        X = self._dataset["X"]
        there = [name for name in _BY_NAME if name in self._dataset]
        return f"PtychoDataContainer({len(self)} groups, X {X.shape} {X.dtype}; {', '.join(there)})"

    def _repr_html_(self) -> str:
        return overview(self, self._dataset)


def _labelled(name: str, value: Any, shapes: list[tuple[int, ...]] | None = None) -> xr.DataArray:
    """Return an array with the dimensions of its field; the lazy stay lazy."""
    var = _BY_NAME[name]
    array = value if isinstance(value, xr.DataArray) else xr.DataArray(np.asarray(value))
    if array.dtype.kind not in "biufc" or (array.dtype.kind == "c" and var.dtype != "complex64"):
        raise InputTypeError(f"{name} holds {array.dtype}; expected {var.dtype}")
    dims = var.dims
    if name == "YY_full" and array.ndim > 2:
        dims = ("image_number", *dims)
        array = array[..., 0] if array.ndim == 4 else array  # (n, H, W, 1), as older code returns it
    if name == "global_offsets" and array.ndim == 4 and array.shape[-1] != 1:
        dims = _COORDS
    if (shapes is not None and array.shape not in shapes) or array.ndim != len(dims):
        wanted = " or ".join(map(str, shapes)) if shapes else f"{len(dims)} dimensions {dims}"
        raise InputError(f"{name} has shape {array.shape}; expected {wanted}")
    renamed = array.drop_vars(array.coords).rename(dict(zip(array.dims, dims, strict=True)))
    return var.make(renamed).assign_attrs({k: v for k, v in array.attrs.items() if k == "normalization"})


def _stats(stats: Any) -> dict[str, xr.DataArray]:
    names = [v.name for v in normalisation.STATS]
    if not isinstance(stats, xr.Dataset) or not set(names) <= set(stats.variables):
        raise InputTypeError(
            "dataset_intensity_stats= takes what compute_dataset_intensity_stats(X) returns; "
            f"found {type(stats).__name__}"
        )
    return {name: stats[name] for name in names}


def _coordinates(groups: xr.Dataset, kind: str = "") -> tuple[Array, Array]:
    """Return centres (B, 1, 2, 1) and centre − position (B, 1, 2, C), axes x, y."""
    places = np.stack(
        [np.asarray(groups[f"position_{axis}{kind}"].transpose("group", "channel")) for axis in "xy"], axis=1
    )
    centre = places.mean(axis=-1, keepdims=True)
    return centre[:, None], (centre - places)[:, None]


def _truth(groups: xr.Dataset) -> xr.DataArray | None:
    """Return the object at each frame, (group, probe_y, probe_x, channel), gathered or cut from the object."""
    if "Y" in groups:
        return groups["Y"].transpose("group", "probe_y", "probe_x", "channel")
    if "object" not in groups:
        return None
    y, x = (groups[n].transpose("group", "channel").values.ravel() for n in ("position_y", "position_x"))
    N, C = groups.sizes["ky"], groups.sizes["channel"]
    require_inside(y, x, groups["object"].shape, N)
    wave = groups["probe"] if groups["probe"].ndim == 3 else groups["probe"].expand_dims("mode")
    chunk = C * forward.chunk_of(y.size // C, 8 * N * N * C, None)
    scan = Scan(xr.DataArray(y, dims="position"), xr.DataArray(x, dims="position"), chunk)
    patches = forward.object_patches(Optics(groups["object"], wave), scan)
    return forward.folded(patches, C)
