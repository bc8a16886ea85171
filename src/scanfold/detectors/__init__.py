"""Virtual detectors for 4D-STEM: templates and gates from cluster labels, contrast maps, centre of mass, fields."""

from scanfold.detectors.assignment import assign
from scanfold.detectors.baseline import subtract_baseline
from scanfold.detectors.calibration import calibrate, descan, pixel_size_from_points
from scanfold.detectors.clustering import cluster
from scanfold.detectors.com import center_of_mass
from scanfold.detectors.field import electric_field
from scanfold.detectors.gates import gates
from scanfold.detectors.interactive import interactive_center, interactive_kspace
from scanfold.detectors.orientation import derivatives, find_rotation, integrate_phase
from scanfold.detectors.run import polarisation_map
from scanfold.detectors.statistics import cluster_statistics
from scanfold.detectors.templates import templates
from scanfold.detectors.validation import planted_shifts, split_half
from scanfold.detectors.virtual import virtual_maps

__all__ = [
    "assign",
    "calibrate",
    "center_of_mass",
    "cluster",
    "cluster_statistics",
    "derivatives",
    "descan",
    "electric_field",
    "find_rotation",
    "gates",
    "integrate_phase",
    "interactive_center",
    "interactive_kspace",
    "pixel_size_from_points",
    "planted_shifts",
    "polarisation_map",
    "split_half",
    "subtract_baseline",
    "templates",
    "virtual_maps",
]


def __dir__() -> list[str]:
    return sorted(__all__)
