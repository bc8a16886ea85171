"""Time traces of single cells: folders of CSV files, kinetic models, results with an honest quality."""

from scanfold.traces.discovery import discover_csv_files
from scanfold.traces.files import load_analysis_csv, write_analysis_csv
from scanfold.traces.fit import fit_trace_data
from scanfold.traces.folder import FolderRun, fit_folder
from scanfold.traces.models import TraceModel, get_model, list_models, register_model
from scanfold.traces.pictures import export_plots, parameter_histogram, plot_trace, position_scatter, quality_chart
from scanfold.traces.quality import Quality, compare_models, quality
from scanfold.traces.request import FittingRequest
from scanfold.traces.results import load_fitted

__all__ = [
    "FittingRequest",
    "FolderRun",
    "Quality",
    "TraceModel",
    "compare_models",
    "discover_csv_files",
    "export_plots",
    "fit_folder",
    "fit_trace_data",
    "get_model",
    "list_models",
    "load_analysis_csv",
    "load_fitted",
    "parameter_histogram",
    "plot_trace",
    "position_scatter",
    "quality",
    "quality_chart",
    "register_model",
    "write_analysis_csv",
]


def __dir__() -> list[str]:
    return sorted(__all__)
