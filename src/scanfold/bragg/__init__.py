"""Bragg-edge neutron imaging: from counts at every pixel to maps of thickness, phases and lattice, with errors."""

from scanfold.bragg.cross_section import CrossSection
from scanfold.bragg.data import Data
from scanfold.bragg.materials import materials, register_material
from scanfold.bragg.model import TransmissionModel

__all__ = ["CrossSection", "Data", "TransmissionModel", "materials", "register_material"]
