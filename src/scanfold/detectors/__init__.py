"""Virtual detectors for 4D-STEM: templates and gates from cluster labels, contrast maps, centre of mass, fields."""

from scanfold.detectors.assignment import assign
from scanfold.detectors.baseline import subtract_baseline
from scanfold.detectors.clustering import cluster
from scanfold.detectors.com import center_of_mass
from scanfold.detectors.field import electric_field
from scanfold.detectors.gates import gates
from scanfold.detectors.run import polarisation_map
from scanfold.detectors.statistics import cluster_statistics
from scanfold.detectors.templates import templates
from scanfold.detectors.virtual import virtual_maps

__all__ = [
    "assign",
    "center_of_mass",
    "cluster",
    "cluster_statistics",
    "electric_field",
    "gates",
    "polarisation_map",
    "subtract_baseline",
    "templates",
    "virtual_maps",
]
