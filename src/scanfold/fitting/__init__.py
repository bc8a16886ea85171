"""Fit any lmfit model to every position of a scan.

Every fit has, beside its parameters and their ``_stderr``, these variables ("..." are the scan dims):

"""

from scanfold import runs
from scanfold.conventions import table
from scanfold.fitting.api import fit
from scanfold.fitting.curves import evaluate, model_of, result_at
from scanfold.fitting.problem import Stages
from scanfold.fitting.registry import MODELS, build_model
from scanfold.fitting.results import STATISTICS, parameter_names, summary, warn_correlated
from scanfold.fitting.status import STATUS

__all__ = [
    "MODELS",
    "STATISTICS",
    "STATUS",
    "Stages",
    "build_model",
    "evaluate",
    "fit",
    "model_of",
    "parameter_names",
    "result_at",
    "summary",
]


def __dir__() -> list[str]:
    return sorted(__all__)


__doc__ += table(STATISTICS)

# A finished run of fits says which parameters the data do not tell apart.
runs.on_finish["fit"] = warn_correlated
