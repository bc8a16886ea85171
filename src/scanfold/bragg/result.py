"""`GroupedFitResult`: the fits of all groups as one view, and lmfit's own result of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import xarray as xr

from scanfold._paths import location
from scanfold.bragg import result_files, result_pictures, result_tables
from scanfold.bragg.data import Data
from scanfold.bragg.indices import indices_of, place_of, scan_dims
from scanfold.bragg.measured import Measured
from scanfold.conventions import InputError, InputTypeError
from scanfold.fitting import parameter_names, result_at
from scanfold.runs.progress import while_computing

if TYPE_CHECKING:
    import pandas as pd
    from lmfit.model import ModelResult


class GroupedFitResult:
    """The fits of a model to all groups: a thin view of a Dataset of fits, the model, and the data.

    Nothing is computed before something is looked at; then all groups are, once. `save` computes out of core instead.

    Parameters
    ----------
    fits : Dataset
        As `scanfold.fit` makes it, lazy or not, over the scan dims of the data.
    model : TransmissionModel or lmfit.Model
        What was fitted.
    data : Data, or its Dataset
        The data, of which the fits may have used a window. None where they are not at hand.
    scheduler : mapping, optional
        How the fits are computed when they are looked at: keywords of ``Dataset.compute``.
    progress : bool
        Show a bar meanwhile, if that is not on a cluster, which shows its own.

    Examples
    --------
    >>> import lmfit, scanfold as sf
    >>> import numpy as np, pandas as pd
    >>> tables = {n: pd.DataFrame({"counts": t * np.arange(100, 130)}) for n, t in (("thin", 8), ("thick", 5))}
    >>> data = Data.from_grouped(tables, pd.DataFrame({"counts": 10 * np.arange(100, 130)}))
    >>> model = lmfit.models.ConstantModel()
    >>> fits = sf.fit(data.dataset["transmission"], model, dim="tof", weights=1 / data.dataset["transmission_err"])
    >>> result = GroupedFitResult(fits, model, data)
    >>> result.indices, round(result["thin"].params["c"].value, 6)
    (['thin', 'thick'], 0.8)
    """

    def __init__(
        self,
        fits: xr.Dataset,
        model: Any,
        data: Data | xr.Dataset | None = None,
        *,
        scheduler: Mapping[str, Any] | None = None,
        progress: bool = False,
    ):
        if not isinstance(fits, xr.Dataset):
            raise InputTypeError(f"fits is a {type(fits).__name__}; expected the Dataset that a fit returns")
        self._names = parameter_names(fits)
        data = Data(data) if isinstance(data, xr.Dataset) else data
        self._fits, self.model, self.data = fits, model, data
        self._scheduler, self._progress = dict(scheduler or {}), progress
        self._kept: dict[tuple[int, ...], ModelResult] = {}

    @property
    def fits(self) -> xr.Dataset:
        """The maps: each parameter, its ``_stderr``, statistics and ``status``; in memory once they were looked at."""
        return self._fits

    def compute(self) -> xr.Dataset:
        """Compute all fits, once, and return the maps in memory."""
        if self.lazy:
            with while_computing(self._progress):
                self._fits = self._fits.compute(**self._scheduler)
        return self._fits

    @property
    def indices(self) -> list[str]:
        """Index of each group, those that could not be fitted too."""
        return indices_of(self._fits) or ["0"]

    @property
    def group_shape(self) -> tuple[int, ...] | None:
        """(rows, columns) of a grid, (n,) of a line, None for names."""
        dims = scan_dims(self._fits)
        return None if dims in ((), ("group",)) else tuple(self._fits.sizes[d] for d in dims)

    @property
    def results(self) -> Mapping[str, ModelResult]:
        """Index → lmfit ModelResult, made when it is looked up."""
        return _Results(self)

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters."""
        return list(self._names)

    def place(self, index: Any = None) -> dict[str, int]:
        """Return where a group is along the scan dims; without an index, of the only or the first group."""
        if index is None or not scan_dims(self._fits):
            return dict(place_of(self._fits, self.indices[0])) if scan_dims(self._fits) else {}
        return place_of(self._fits, index)

    def __getitem__(self, index: Any) -> ModelResult:
        """Return lmfit's result of one group, by ``(1, 2)``, ``"(1,2)"``, ``5``, ``"5"`` or a name.

        Raises
        ------
        NoSuchIndex
            If there is no such group.
        InputError
            If the group has no fit (its status is in the message), or the data are not at hand.
        """
        place = self.place(index)
        key = tuple(place.values())
        if key not in self._kept:
            measured = self.measured(place)
            here = self.compute().isel(place)
            self._kept[key] = result_at(here, measured.values, model=measured.model, weights=measured.weights)
        return self._kept[key]

    def measured(self, place: Mapping[str, int] | None = None) -> Measured:
        """Return what was fitted, as the fit saw it: everywhere, or at one place.

        Raises
        ------
        InputError
            If the data or the model are not at hand.
        """
        return Measured.of(self._fits, self.model, self.data, place)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[str]:
        return iter(self.indices)

    def __contains__(self, index: object) -> bool:
        try:
            self.place(index)
        except InputError:
            return False
        return index is not None

    @property
    def lazy(self) -> bool:
        """Whether the fits are not computed, or not read, yet."""
        return any(v.chunks is not None for v in self._fits.variables.values())

    def __repr__(self) -> str:
        """Say what there is; no group is fitted for that."""
        shape = " × ".join(f"{d} {self._fits.sizes[d]}" for d in scan_dims(self._fits)) or "one spectrum"
        state = "not computed yet" if self.lazy else result_tables.statuses(self._fits)
        return f"<GroupedFitResult: {len(self)} groups ({shape}); {', '.join(self._names)}; {state}>"

    def _repr_html_(self) -> str:
        return result_tables.overview_html(self, compute=False)

    def summary(self, query: str | None = None) -> pd.DataFrame:
        """Tabulate the groups: index, success, status, redchi, chisqr, nfev, nvarys, each parameter and ``_err``.

        Parameters
        ----------
        query : str, optional
            A pandas query on the columns, such as ``"success and redchi < 2"``.
        """
        return result_tables.summary(self, query)

    def summary_html(self, query: str | None = None) -> str:
        """Return `summary` as an HTML table."""
        return result_tables.as_html(self.summary(query))

    def fit_report(self, index: Any = None) -> str:
        """Return lmfit's report of one group as HTML, or for no index the counts of statuses and the summary."""
        return result_tables.overview_html(self) if index is None else result_tables.report_html(self, index)

    def stages_summary(self, index: Any = None) -> pd.DataFrame:
        """Tabulate the parameters of one group, and its redchi, after each stage of the fit.

        Returns
        -------
        DataFrame
            A row for each parameter and one for redchi; columns (stage, "value"), (stage, "stderr"), (stage, "vary"),
            the first of them ("Initial", "value").
        """
        return result_tables.stages_summary(self, index)

    def plot(self, index: Any = None, ax: Any = None, **kw: Any) -> Any:
        """Draw the fit of one group: with its residual in a new figure, or without it in `ax`.

        Parameters
        ----------
        index
            The group; the first if not given.
        ax : matplotlib Axes, or a pair of them, optional
            Where to draw.
        **kw
            For `Axes.set`, such as ``ylim=(0, 1)``.

        Returns
        -------
        matplotlib Axes
        """
        return result_pictures.group(self, index, ax, kw)

    def plot_parameter_map(
        self,
        name: str,
        query: str | None = None,
        kind: str | None = None,
        *,
        plot_errors: bool = False,
        cmap: Any = None,
        vmin: float | None = None,
        vmax: float | None = None,
        ax: Any = None,
        title: str | None = None,
        **kw: Any,
    ) -> Any:
        """Draw one parameter or statistic over the groups.

        Parameters
        ----------
        name : str
            A parameter, ``<parameter>_err``, or a statistic such as ``redchi``.
        query : str, optional
            A pandas query such as ``"success == True and redchi < 2"``; other groups are grey.
        kind : {"pcolormesh", "line", "bar"}, optional
            By default as the groups are: a grid, a line, names. A grid as a line or bars has its groups row after row.
        plot_errors : bool
            Draw the standard errors instead.
        cmap, vmin, vmax
            Colours of a grid.
        ax : matplotlib Axes, optional
        title : str, optional
        **kw
            For `scanfold.plot.parameter_map`.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        InputError
            For a name that is not there, a query that cannot be used, a kind that does not fit.
        """
        colours = {k: v for k, v in (("cmap", cmap), ("vmin", vmin), ("vmax", vmax)) if v is not None}
        return result_pictures.parameter_map(self, name, query, kind, plot_errors, ax, title, {**colours, **kw})

    def plot_total_xs(
        self,
        index: Any = None,
        *,
        plot_dspace: bool = False,
        split_phases: bool = False,
        dspace_min: float = 1.0,
        logy: bool = False,
        ax: Any = None,
    ) -> Any:
        """Draw the total cross section of the fitted material of one group, in barn per atom.

        Parameters
        ----------
        index
            The group; the first if not given.
        plot_dspace : bool
            Mark the Bragg edges, at λ = 2d, with their planes.
        split_phases : bool
            Also draw the part of each phase.
        dspace_min : float
            Edges of planes closer than this (Å) are not marked.
        logy : bool
            Logarithmic axis.
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        return result_pictures.total_xs(self, index, plot_dspace, split_phases, dspace_min, logy, ax)

    def plot_stage_progression(self, index: Any = None, names: Any = None, *, axes: Any = None) -> Any:
        """Draw redchi and some parameters of one group after each stage; return the figure."""
        return result_pictures.stages(self, index, names, axes)

    def save(
        self, file: str | PathLike[str], compact: bool = False, model_filename: str | PathLike[str] | None = None,
        *, progress: bool = False,
    ) -> GroupedFitResult:  # fmt: skip
        """Write fits, model and data to one file that needs nothing else, and return the result that it holds.

        Fits that were not computed yet are computed into a zarr store block by block, out of core; if that is
        interrupted, the same line goes on with it.

        Parameters
        ----------
        file : path
            ``.zarr``: a store, which `scanfold.open_scan` opens too. ``.json``: a single text file, for results that
            fit in memory; a result that is there already is replaced.
        compact : bool
            Leave the data out; they are then passed to `load`, where a plot or a new fit needs them.
        model_filename : path, optional
            Also write the model to a JSON file of its own.
        progress : bool
            Show the progress of fits that are computed now.

        Raises
        ------
        InputError
            If the suffix is another one, or something else is there.
        """
        return result_files.save(self, location(file), compact, model_filename, progress)

    @classmethod
    def load(
        cls, file: str | PathLike[str], model_filename: str | PathLike[str] | None = None, model: Any = None,
        data: Data | None = None,
    ) -> GroupedFitResult:  # fmt: skip
        """Open what `save` wrote: a store lazily, a JSON file at once. Nothing that a file holds is run.

        Parameters
        ----------
        file : path
        model_filename : path, optional
            Take the model from this JSON file.
        model : TransmissionModel or lmfit.Model, optional
            Take this model; needed for a function of your own.
        data : Data, optional
            Take these data, where the file was saved without.

        Raises
        ------
        InputError
            If the file is not there, is no result, or was damaged.
        """
        return result_files.load(cls, location(file), model_filename, model, data)

    def refit(
        self, query: str | None = None, indices: Any = None, params: Any = None, **options: Any
    ) -> GroupedFitResult:
        """Fit some groups again, each from its own values, and return a result with the new fits among the others.

        Parameters
        ----------
        query : str, optional
            Which groups, as in `summary`: ``"status == 'poor_fit' or redchi > 2"``.
        indices : sequence, optional
            Which groups; all without either.
        params : mapping or lmfit.Parameters, optional
            Starts and settings that differ from the fitted values, by name.
        **options
            Options of the model's ``fit`` that differ from those of the first one.

        Raises
        ------
        InputError
            If nothing is chosen, or the data are not at hand.
        """
        from scanfold.bragg.refitting import refit

        return refit(self, query, indices, params, options)


class _Results(Mapping[str, Any]):
    """Index → ModelResult."""

    def __init__(self, result: GroupedFitResult):
        self._result = result

    def __getitem__(self, index: Any) -> Any:
        return self._result[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._result.indices)

    def __len__(self) -> int:
        return len(self._result)
