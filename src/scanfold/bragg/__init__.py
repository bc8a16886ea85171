"""Bragg-edge neutron imaging: from counts at every pixel to maps of thickness, phases and lattice, with errors."""

from scanfold.bragg.data import Data

__all__ = ["Data"]
