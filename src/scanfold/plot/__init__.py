"""Pictures of fits: maps of parameters, one position in full, the quality of a whole run."""

from scanfold.plot.maps import parameter_map
from scanfold.plot.overview import quality
from scanfold.plot.spectrum import fit

__all__ = ["fit", "parameter_map", "quality"]
