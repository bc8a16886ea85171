"""`Data`: neutron counts and transmission of one spectrum or of many groups, as one labelled lazy Dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from scanfold._markup import overview
from scanfold.bragg import corrections, loading, regions
from scanfold.bragg.indices import PRESENT, indices_of, place_of, scan_dims
from scanfold.bragg.variables import VARIABLES
from scanfold.conventions import InputError, InputTypeError, table

if TYPE_CHECKING:
    import pandas as pd

#: A file, a glob, a folder, several of them, DataFrames or arrays.
Source = Any


class Data:
    """Counts and transmission over ``(y, x | tof)``, ``(position | tof)``, ``(group | tof)``, or of one spectrum.

    A thin view of ``data.dataset``, which is lazy where it comes from files: they are read when something is computed,
    block by block. Every operation returns new Data and leaves this one as it is.

    Parameters
    ----------
    dataset : Dataset
        As the ``from_…`` constructors make it.
    dropna : bool
        Leave rows without a transmission out of the tables in `groups`.

    Notes
    -----
    Variables ("..." are the scan dims), beside the coordinates ``tof`` (s) and ``wavelength`` (Å):

    """

    def __init__(self, dataset: xr.Dataset, *, dropna: bool = False):
        self.dataset = dataset
        self._dropna = dropna

    @classmethod
    def from_grouped(
        cls,
        signal: Source,
        openbeam: Source,
        empty_signal: Source = None,
        empty_openbeam: Source = None,
        *,
        L: float = 9,
        tstep: float = 10e-6,
        L0: float = 1,
        t0: float = 0,
        pattern: str = "auto",
        indices: Sequence[Any] | None = None,
        query: str | None = None,
        dropna: bool = False,
        n_jobs: int | None = None,
    ) -> Data:
        r"""Open many spectra at once.

        Parameters
        ----------
        signal, openbeam, empty_signal, empty_openbeam : str, path, list, dict, DataFrame or DataArray
            A glob (``"signal_x*_y*.csv"``), a folder of tables, a list of files or DataFrames, a dict of index to
            file or DataFrame (a pair is (row, column)); or a stack: HDF5, zarr, TIFF, or a DataArray over
            ``(y, x, tof)``. One file, DataFrame or 1-D array serves all groups. Files go together by their
            indices; open beams without a signal are left out. The empties are given both or not at all.
        L : float
            Flight path in m.
        tstep : float
            Width of a bin in s. A stack whose axis has units of time or length has its own.
        L0, t0 : float
            Calibration, t = tstep·[n + (1 − L0)·n] + t0 with n from the column tof (1, 2, 3 … without one); t0 in s.
        pattern : str
            How names of files hold indices: ``"auto"``, or such as ``"_x{x}_y{y}"``, ``"row{row}_col{col}"``,
            ``"idx{i}"``, ``"{name}"``. "auto" takes ``x1…y2`` and ``row 2 col 1`` as places in a grid, ``idx 3``,
            ``pixel 3``, ``det 3`` or a last ``_3`` as numbers along a line, and else what is left of the names without
            the word of the measurement and what they have in common.
        indices : sequence, optional
            Which groups, in this order; or, for as many spectra, what they are called, in the order of their files.
        query : str, optional
            A pandas query on ``x`` and ``y``, ``i``, or ``name``; what it leaves out is not opened.
        dropna : bool
            Leave rows without a transmission out of the tables in `groups`. Fits leave them out in any case.
        n_jobs : int, optional
            Taken for scripts written for nbragg and not needed: files are read by the workers of what is computed.

        Returns
        -------
        Data
            Grids are as large as rows and columns span, NaN where there is no file.

        Raises
        ------
        InputError, InputTypeError
            Before anything but the first file is read: nothing matches, a partner is missing, two files have one
            index, numbers of bins differ. A file that differs from the first one raises when it is read.

        Examples
        --------
        >>> import pandas as pd
        >>> rows = {f"{name}": pd.DataFrame({"counts": [n, 2 * n]}) for name, n in (("center", 40), ("edge", 10))}
        >>> data = Data.from_grouped(rows, openbeam=pd.DataFrame({"counts": [100, 100]}))
        >>> data.indices, data.dataset["transmission"].sel(group="edge").values.tolist()
        (['center', 'edge'], [0.1, 0.2])
        """
        if n_jobs is not None and (isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer)):
            raise InputTypeError(f"n_jobs={n_jobs!r}; expected a whole number")
        given = _counts(signal, openbeam, empty_signal, empty_openbeam)
        ds = loading.grouped(given, loading.Calibration(L, tstep, L0, t0), pattern, indices, query)
        return cls(ds, dropna=dropna)

    @classmethod
    def from_counts(
        cls,
        signal: Source,
        openbeam: Source,
        empty_signal: Source = None,
        empty_openbeam: Source = None,
        *,
        L: float = 9,
        tstep: float = 10e-6,
        L0: float = 1,
        t0: float = 0,
        dropna: bool = False,
    ) -> Data:
        """Read one spectrum of counts: files, DataFrames or 1-D arrays; see `from_grouped`.

        Examples
        --------
        >>> data = Data.from_counts(np.array([30, 60]), np.array([100, 100]), L=9, tstep=1e-3)
        >>> data.dataset["transmission"].values.tolist(), data.is_grouped
        ([0.3, 0.6], False)
        """
        given = _counts(signal, openbeam, empty_signal, empty_openbeam)
        return cls(loading.single(given, loading.Calibration(L, tstep, L0, t0)), dropna=dropna)

    @classmethod
    def from_transmission(
        cls,
        source: str | PathLike[str] | pd.DataFrame,
        index: str = "wavelength",
        *,
        L: float = 9,
        tstep: float = 10e-6,
        L0: float = 1,
        t0: float = 0,
        dropna: bool = False,
    ) -> Data:
        """Read one spectrum that is a transmission already: wavelength (Å) or energy (eV), transmission, error.

        Files are separated by spaces or commas, with or without a header. L is needed where the model refines the
        calibration.

        Examples
        --------
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"wavelength": [1.0, 2.0], "trans": [0.5, 0.6], "err": [0.01, 0.01]})
        >>> Data.from_transmission(rows).dataset["wavelength"].values.tolist()
        [1.0, 2.0]
        """
        if index not in ("wavelength", "energy"):
            raise InputError(f"index={index!r}; expected 'wavelength' (Å) or 'energy' (eV)")
        return cls(loading.transmission(source, index, loading.Calibration(L, tstep, L0, t0)), dropna=dropna)

    @classmethod
    def from_dataset(
        cls,
        dataset: xr.Dataset,
        *,
        L: float | None = None,
        tstep: float = 10e-6,
        L0: float = 1,
        t0: float = 0,
        dropna: bool = False,
    ) -> Data:
        """Take a labelled Dataset: ``signal`` and ``openbeam``, or ``transmission``, with ``<name>_err`` or without.

        Its axis is a coordinate ``wavelength`` in Å, one in units of time, or channels. Without `L` it is
        ``dataset.attrs["L"]``, or 9 m.

        Examples
        --------
        >>> axis = {"wavelength": ("wavelength", [1.0, 2.0], {"units": "angstrom"})}
        >>> ds = xr.Dataset({"transmission": (("position", "wavelength"), [[0.5, 0.6]])}, coords=axis)
        >>> Data.from_dataset(ds).indices
        ['0']
        """
        if not isinstance(dataset, xr.Dataset):
            raise InputTypeError(f"expected an xarray Dataset, found {type(dataset).__name__}")
        path = dataset.attrs.get("L", 9) if L is None else L
        return cls(loading.from_dataset(dataset, loading.Calibration(path, tstep, L0, t0)), dropna=dropna)

    @property
    def is_grouped(self) -> bool:
        """Whether there are several groups, rather than one spectrum."""
        return bool(scan_dims(self.dataset))

    @property
    def indices(self) -> list[str] | None:
        """Index of each group, such as ``"(0,1)"``, ``"5"``, ``"center"``; None for one spectrum."""
        return indices_of(self.dataset) if self.is_grouped else None

    @property
    def group_shape(self) -> tuple[int, ...] | None:
        """(rows, columns) of a grid, (n,) of a line, None for names and for one spectrum."""
        dims = scan_dims(self.dataset)
        return None if dims in ((), ("group",)) else tuple(self.dataset.sizes[d] for d in dims)

    @property
    def groups(self) -> Mapping[str, pd.DataFrame]:
        """Index → table of the group, made when it is looked up: wavelength, trans, err, tof and counts."""
        return Groups(self)

    @property
    def table(self) -> pd.DataFrame:
        """The table of one spectrum, or of the first group."""
        return self._table(dict.fromkeys(scan_dims(self.dataset), 0))

    @property
    def L(self) -> float:
        """Flight path in m."""
        return float(self.dataset.attrs["L"])

    @property
    def tstep(self) -> float:
        """Width of a bin in s, as it was given."""
        return float(self.dataset.attrs["tstep"])

    def _table(self, place: Mapping[str, int]) -> pd.DataFrame:
        here = self.dataset.isel(place).compute()
        names = {"transmission": "trans", "transmission_err": "err"}
        order = ["transmission", "transmission_err", *(n for n in here.data_vars if "transmission" not in str(n))]
        import pandas as pd

        columns = {"wavelength": here["wavelength"].values}
        for name in order:
            if name in here and here[name].dims == ("tof",):
                columns[names.get(str(name), str(name))] = here[name].values
        columns["tof"] = here["tof"].values
        frame = pd.DataFrame(columns)
        return frame.dropna(subset=["trans", "err"]).reset_index(drop=True) if self._dropna else frame

    def _with(self, ds: xr.Dataset) -> Data:
        return type(self)(ds, dropna=self._dropna)

    def subset(self, indices: Sequence[Any]) -> Data:
        """Return some groups, in this order; a grid stays a grid, NaN where nothing was asked for."""
        return self._with(regions.subset(self.dataset, indices))

    def crop(
        self, wlmin: float | None = None, wlmax: float | None = None, *, y: Any = None, x: Any = None,
        position: Any = None,
    ) -> Data:  # fmt: skip
        """Return a window of wavelengths (Å), and of rows, columns or positions as (first, last); ends included."""
        return self._with(regions.crop(self.dataset, wlmin, wlmax, {"y": y, "x": x, "position": position}))

    def mask(self, mask: Any) -> Data:
        """Return the data without the positions where `mask` (bool, over the scan dims) is True."""
        return self._with(regions.mask(self.dataset, mask))

    def roi(self, **region: Any) -> Data:
        """Return named groups, each the sum of a region.

        Parameters
        ----------
        **region
            Name to a box ``{"y": (first, last), "x": (first, last)}`` (labels, ends included), a list of
            indices, or a bool array over the scan dims, True inside.

        Examples
        --------
        >>> counts = xr.DataArray(np.ones((4, 4, 2)), dims=("y", "x", "tof"))
        >>> data = Data.from_grouped(5 * counts, openbeam=10 * counts).roi(top={"y": (2, 3)}, corner=[(0, 0)])
        >>> data.indices, data.dataset["signal"].isel(tof=0).values.tolist()
        (['top', 'corner'], [40.0, 5.0])
        """
        return self._with(regions.roi(self.dataset, region))

    def rebin(self, **factors: int) -> Data:
        """Return sums of neighbouring bins and pixels: ``rebin(tof=2, y=4, x=4)``.

        Counts add and errors add in quadrature; of pixels only those that were measured. What does not fill the
        last group of bins or pixels is left out. A transmission without counts is averaged, along tof only.
        """
        return self._with(regions.rebin(self.dataset, factors))

    def smooth(self, **sizes: int) -> Data:
        """Return overlapping windows: each position gets the sum of its neighbourhood, ``smooth(y=3, x=3)``.

        Neighbours then share counts: their errors are right one by one, and are not independent.
        """
        return self._with(regions.smooth(self.dataset, sizes))

    def normalise_charge(
        self, signal: Any, openbeam: Any, empty_signal: Any = None, empty_openbeam: Any = None
    ) -> Data:
        """Return the data with each count over its proton charge, frames, or time; see `corrections.exposed`."""
        given = _counts(signal, openbeam, empty_signal, empty_openbeam)
        return self._with(corrections.exposed(self.dataset, given))

    def correct_overlap(self, triggers: Any, *, windows: Sequence[float] = ()) -> Data:
        """Return counts as if no pixel had been blind after its first neutron; see `corrections.overlap`."""
        return self._with(corrections.overlap(self.dataset, triggers, windows))

    def correct_dead_time(self, dead_time: float, pulses: Any) -> Data:
        """Return counts as if the detector had had no dead time; see `corrections.dead_time`."""
        return self._with(corrections.dead_time(self.dataset, dead_time, pulses))

    def subtract_dark(self, dark: Any, *, scale: float | Mapping[str, float] = 1.0) -> Data:
        """Return counts without those that come without a beam; see `corrections.without_dark`."""
        return self._with(corrections.without_dark(self.dataset, dark, scale))

    def __add__(self, other: Data) -> Data:
        """Add another measurement of the same groups: counts add, errors add in quadrature."""
        if not isinstance(other, Data):
            return NotImplemented
        if self.is_grouped != other.is_grouped:
            raise InputTypeError("grouped data and one spectrum do not add up; use subset, or group the spectrum")
        return self._with(regions.added(self.dataset, other.dataset))

    def add_groups(
        self, signal: Source, openbeam: Source, empty_signal: Source = None, empty_openbeam: Source = None, *,
        pattern: str = "auto",
    ) -> Data:  # fmt: skip
        """Return the data with another measurement of the same groups added; see `from_grouped`."""
        a = self.dataset.attrs
        more = Data.from_grouped(
            signal, openbeam, empty_signal, empty_openbeam, L=a["L"], tstep=a["tstep"], L0=a["L0"], t0=a["t0"],
            pattern=pattern,
        )  # fmt: skip
        return self + more

    def plot(self, index: Any = None, *, ax: Any = None, **kw: Any) -> Any:
        """Draw the transmission of one group over wavelength, with its errors; `kw` goes to ``Axes.errorbar``."""
        from scanfold.bragg.pictures import spectrum

        place = place_of(self.dataset, index) if index is not None else dict.fromkeys(scan_dims(self.dataset), 0)
        return spectrum(self.dataset, place, ax, kw)

    def plot_map(self, wlmin: float = 1.0, wlmax: float = 5.0, *, ax: Any = None, **kw: Any) -> Any:
        """Draw the mean transmission between two wavelengths (Å) over the groups; `kw` goes to `plot.parameter_map`."""
        from scanfold.bragg.pictures import mean_map

        return mean_map(self.crop(wlmin, wlmax).dataset, wlmin, wlmax, ax, kw)

    def __len__(self) -> int:
        return len(self.indices or [0])

    def __repr__(self) -> str:
        """Say what there is, without reading it."""
        ds = self.dataset
        wavelength = ds["wavelength"].values
        shape = " × ".join(f"{d} {ds.sizes[d]}" for d in scan_dims(ds)) or "one spectrum"
        sparse = f", {len(self)} of them measured" if PRESENT in ds.coords else ""
        span = f"{np.nanmin(wavelength):.4g}–{np.nanmax(wavelength):.4g} Å"
        return f"<bragg.Data: {shape}{sparse}; {ds.sizes['tof']} bins, {span}; {', '.join(map(str, ds.data_vars))}>"

    def _repr_html_(self) -> str:
        return overview(self, self.dataset)


class Groups(Mapping[str, "pd.DataFrame"]):
    """Index → table; each is computed when it is looked up."""

    def __init__(self, data: Data):
        self._data = data

    def __getitem__(self, index: Any) -> pd.DataFrame:
        """Return the table of one group; all forms of an index are understood."""
        return self._data._table(place_of(self._data.dataset, index))

    def __iter__(self) -> Iterator[str]:
        return iter(self._data.indices or [])

    def __len__(self) -> int:
        return len(self._data.indices or [])

    def __repr__(self) -> str:
        return f"<tables of {self._data!r}>"


def _counts(signal: Any, openbeam: Any, empty_signal: Any, empty_openbeam: Any) -> dict[str, Any]:
    given = {"signal": signal, "openbeam": openbeam, "empty_signal": empty_signal, "empty_openbeam": empty_openbeam}
    # nbragg's scripts pass "" for none.
    return {k: None if isinstance(v, str) and not v else v for k, v in given.items()}


_TABLE = "\n".join("    " + line for line in table(VARIABLES).splitlines())
Data.__doc__ = f"{(Data.__doc__ or '').rstrip()}\n\n{_TABLE}\n"
