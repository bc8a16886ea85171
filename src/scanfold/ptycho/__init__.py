"""Ptychography data: objects, probes and scans simulated lazily, with real photon noise."""

from scanfold.ptycho.config import ModelConfig, TrainingConfig
from scanfold.ptycho.objects import dead_leaves, grf, lines, points, siemens_star, sim_object_image
from scanfold.ptycho.positions import scan_positions
from scanfold.ptycho.probes import default_probe, gaussian, mask
from scanfold.ptycho.simulate import generate_simulated_data

__all__ = [
    "ModelConfig",
    "TrainingConfig",
    "dead_leaves",
    "default_probe",
    "gaussian",
    "generate_simulated_data",
    "grf",
    "lines",
    "mask",
    "points",
    "scan_positions",
    "siemens_star",
    "sim_object_image",
]
