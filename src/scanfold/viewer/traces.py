"""The desk for time traces: data, fitting, results, as three panels of one page."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import panel as pn

from scanfold.conventions import InputError, ScanError, primary
from scanfold.plot import colours
from scanfold.traces import (  # fmt: skip
    FittingRequest,
    FolderRun,
    discover_csv_files,
    fit_folder,
    get_model,
    list_models,
    load_analysis_csv,
    parameter_histogram,
    quality_chart,
)
from scanfold.traces.pictures import varied
from scanfold.viewer import Shown

#: Milliseconds between two looks at a run.
GLANCE = 250
#: Cells that are drawn of a file when it is opened.
FIRST = 8
ALL = "all cells"


class TraceDesk(Shown):
    """Choose traces, fit them without waiting for it, look at the results.

    Parameters
    ----------
    folder : str or Path
        A folder of CSV files of traces, or one file.

    Attributes
    ----------
    page : panel.Tabs
        What a notebook or a browser shows.
    run : FolderRun or None
        The last run that was started.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser().absolute()
        self.files = discover_csv_files(self.folder)
        self.run: FolderRun | None = None
        self._error: ScanError | None = None
        self._starting: threading.Thread | None = None
        names = [f.name for f in self.files]
        self.files_chosen = pn.widgets.MultiSelect(name="files", options=names, value=names, size=12, width=260)
        self.file = pn.widgets.Select(name="look at", options=names, width=260)
        self.cells = pn.widgets.MultiSelect(name="cells", options=[], size=12, width=200)
        self._traces = pn.Column()
        self.model = pn.widgets.Select(name="model", options=list_models(), value="maturation", width=260)
        self._formula = pn.pane.Str(styles={"white-space": "pre-wrap", "max-width": "60em"})
        self._rows = pn.Column()
        self.subset = pn.widgets.RadioButtonGroup(options=[ALL, "the chosen cells of the file looked at"], value=ALL)
        beside = self.folder if self.folder.is_dir() else self.folder.parent
        self.out = pn.widgets.TextInput(name="folder of the results", value=str(beside), width=420)
        self.start = pn.widgets.Button(name="start", button_type="primary")
        self.cancel = pn.widgets.Button(name="cancel", disabled=True)
        self._bar = pn.indicators.Progress(value=0, width=420)
        self._said = pn.pane.Alert("", alert_type="light", visible=False)
        self.threshold = pn.widgets.FloatSlider(name="R² above", start=0.0, end=1.0, step=0.01, value=0.9, width=300)
        self.parameter = pn.widgets.Select(name="histogram of", options=[], width=200)
        self._results = pn.Column()
        self.export_to = pn.widgets.TextInput(name="folder of the pictures", value=str(beside / "plots"), width=420)
        self.export = pn.widgets.Button(name="export pictures")
        self._connect()
        self.page = pn.Tabs(
            ("data", self._data_panel()), ("fitting", self._fit_panel()), ("results", self._results_panel())
        )
        self._open_file()
        self._show_model()
        self._show_results()

    def __repr__(self) -> str:
        return f"<TraceDesk: {len(self.files)} files in {self.folder}; {self.run or 'no run yet'}>"

    def _connect(self) -> None:
        self.file.param.watch(lambda _: self._open_file(), "value")
        self.cells.param.watch(lambda _: self._draw_traces(), "value")
        self.model.param.watch(lambda _: self._show_model(), "value")
        for widget in (self.threshold, self.parameter):
            widget.param.watch(lambda _: self._show_results(), "value")
        self.start.on_click(lambda _: self.begin())
        self.cancel.on_click(lambda _: self.stop())
        self.export.on_click(lambda _: self.export_pictures())

    def _data_panel(self) -> Any:
        return pn.Row(pn.Column(self.files_chosen, self.file), self.cells, self._traces)

    def _fit_panel(self) -> Any:
        buttons = pn.Row(self.start, self.cancel, self._bar)
        return pn.Column(self.model, self._formula, self._rows, self.subset, self.out, buttons, self._said)

    def _results_panel(self) -> Any:
        choices = pn.Row(self.parameter, self.threshold)
        return pn.Column(choices, self._results, pn.Row(self.export_to, self.export))

    # -- data

    def _path(self) -> Path:
        return next(f for f in self.files if f.name == self.file.value)

    def _open_file(self) -> None:
        """List the cells of a file, and draw the first; what is wrong with it is said."""
        try:
            found = load_analysis_csv(self._path())
        except ScanError as error:
            self.cells.options = []
            self._traces[:] = [pn.pane.Alert(str(error), alert_type="warning")]
            return
        self._opened = primary(found)
        labels = [str(c) for c in found["cell"].values]
        self.cells.param.update(options=labels, value=labels[:FIRST])

    def _draw_traces(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        ax = figure.add_subplot()
        shown = self._opened.sel(cell=self._opened["cell"].astype(str).isin(self.cells.value)).compute()
        for i, trace in enumerate(shown):
            ax.plot(shown["time"], trace, ".-", color=colours.COMPONENTS[i % len(colours.COMPONENTS)], markersize=3)
        ax.set(xlabel="time [h]", ylabel=str(shown.attrs.get("long_name", shown.name)), title=str(self.file.value))
        self._traces[:] = [pn.pane.Matplotlib(figure, tight=True, width=700)]

    # -- fitting

    def _show_model(self) -> None:
        """List the parameters of the model with their starts and bounds."""
        model = get_model(str(self.model.value))
        self._formula.object = f"{model.formula}\n{model.source}".strip()
        self._fields = {
            name: (
                pn.widgets.FloatInput(value=float(model.defaults[name]), width=130),
                pn.widgets.FloatInput(value=float(model.bounds[name][0]), width=130),
                pn.widgets.FloatInput(value=float(model.bounds[name][1]), width=130),
                pn.widgets.Checkbox(value=name in model.fixed, width=60),
            )
            for name in model.names
        }
        head = [pn.pane.Str(text, width=130) for text in ("parameter", "value", "lowest", "highest", "fixed")]
        rows = [
            pn.Row(pn.pane.Str(f"{name} {model.units.get(name, '')}".strip(), width=130), *fields)
            for name, fields in self._fields.items()
        ]
        self._rows[:] = [pn.Row(*head), *rows]

    def request(self) -> FittingRequest:
        """Return what is to be fitted, as the fields say.

        Raises
        ------
        InputError
            If the fields contradict each other.
        """
        model = get_model(str(self.model.value))
        values = {n: f[0].value for n, f in self._fields.items() if f[3].value or f[0].value != model.defaults[n]}
        bounds = {n: (f[1].value, f[2].value) for n, f in self._fields.items()}
        return FittingRequest(model.name, values, bounds, [n for n, f in self._fields.items() if f[3].value])

    def begin(self) -> None:
        """Start a run and come back at once; a thread of its own compiles, and fits."""
        self._error = None
        self._say("")
        self.start.disabled, self.cancel.disabled = True, False
        chosen = None if self.subset.value == ALL else list(self.cells.value)
        files = [str(self.file.value)] if chosen is not None else list(self.files_chosen.value)
        try:
            request = self.request()
            if not files or chosen == []:
                raise InputError("nothing is chosen: choose files, or cells, in the first panel")
        except ScanError as error:
            self._error = error
            self.look()
            return
        self._starting = threading.Thread(target=self._begin, args=(request, files, chosen), daemon=True)
        self._starting.start()
        if pn.state.curdoc is not None:
            self._watch = pn.state.add_periodic_callback(self.look, GLANCE)

    def _begin(self, request: FittingRequest, files: list[str], chosen: list[str] | None) -> None:
        out = Path(self.out.value).expanduser()
        if chosen is not None:
            out = out / "chosen_cells"
        try:
            self.run = fit_folder(
                self.folder, request, out=out, files=files, cells=chosen, progress=False, block=False,
                resume=chosen is None,
            )  # fmt: skip
        except ScanError as error:
            self._error = error

    @property
    def busy(self) -> bool:
        """Whether a run is starting or going on."""
        starting = self._starting is not None and self._starting.is_alive()
        return starting or (self.run is not None and not self.run.done)

    def stop(self) -> None:
        """Stop after the files in hand; starting again goes on from there."""
        if self.run is not None:
            self.run.cancel()

    def look(self) -> None:
        """Show how far the run is, and its results when it has ended."""
        if self.run is not None:
            done, total = self.run.progress
            self._bar.value = round(100 * done / max(total, 1))
        if self.busy:
            return
        if (watch := getattr(self, "_watch", None)) is not None:
            watch.stop()
            self._watch = None
        self.start.disabled, self.cancel.disabled = False, True
        if self._error is None and self.run is not None:
            try:
                self.run.wait()
            except ScanError as error:
                self._error = error
        if self._error is not None:
            self._say(str(self._error), "danger")
        elif self.run is not None:
            failed = "".join(f"\n\n{name}: {reason}" for name, reason in self.run.failures.items())
            self._say(f"{self.run!r}{failed}", "warning" if failed else "success")
            self._show_results()

    def _say(self, text: str, kind: str = "light") -> None:
        self._said.param.update(object=text, alert_type=kind, visible=bool(text))

    # -- results

    def _show_results(self) -> None:
        """Draw the quality of all cells, and the histogram of a parameter of those above the chosen R²."""
        if self.run is None or not self.run.paths:
            self._results[:] = [pn.pane.Str("no results yet: start a fit in the second panel")]
            return
        from matplotlib.figure import Figure

        results = self.run.results
        names = varied(results)
        if self.parameter.options != names:
            self.parameter.param.update(options=names, value=names[0])
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        quality_chart(results, ax=left)
        parameter_histogram(results, str(self.parameter.value), query=self.query, ax=right)
        text = pn.pane.Str(str(self.run.quality()))
        self._results[:] = [pn.pane.Matplotlib(figure, tight=True, width=1000), text]

    @property
    def query(self) -> str:
        """Which cells the histograms show."""
        return f"r_squared > {self.threshold.value:g}"

    def export_pictures(self) -> None:
        """Write the pictures of the results into the folder that the page names."""
        try:
            if self.run is None:
                raise InputError("no results yet: start a fit first")
            paths = self.run.export_plots(self.export_to.value, query=self.query)
        except ScanError as error:
            self._results.append(pn.pane.Alert(str(error), alert_type="danger"))
            return
        self._results.append(
            pn.pane.Alert(f"wrote {len(paths)} pictures into {self.export_to.value}", alert_type="success")
        )
