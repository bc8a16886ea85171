"""Fit any lmfit model to every position of a scan."""

from scanfold.fitting.api import fit
from scanfold.fitting.problem import Stages
from scanfold.fitting.results import STATISTICS, parameter_names, summary
from scanfold.fitting.status import STATUS

__all__ = ["STATISTICS", "STATUS", "Stages", "fit", "parameter_names", "summary"]
