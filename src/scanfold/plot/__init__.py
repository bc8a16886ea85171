"""Pictures: maps of parameters, one fit in full, the quality of a whole run; waves and diffraction frames."""

from scanfold.plot.maps import parameter_map
from scanfold.plot.overview import quality
from scanfold.plot.spectrum import fit
from scanfold.plot.waves import complex_image, patterns

__all__ = ["complex_image", "fit", "parameter_map", "patterns", "quality"]


def __dir__() -> list[str]:
    return sorted(__all__)
