"""Bragg-edge neutron imaging: from counts at every pixel to maps of thickness, phases and lattice, with errors.

`Data` opens counts lazily, `TransmissionModel` of a `CrossSection` describes them, and its ``fit`` gives a
`GroupedFitResult`: maps of all groups, and lmfit's own result of each.

Coming from nbragg 1.0
----------------------

Names and words are the same where they could be. What differs, and why:

================================== ============================================== =====================================
nbragg                             here                                           why
================================== ============================================== =====================================
t0 in channels when loading, in    seconds everywhere                             one number, not two that differ by
seconds in the model                                                              the width of a bin
γ − 1 by subtraction               expm1(−½·log1p(−β²))                           it kept five digits: wavelengths
                                                                                  scattered by up to 1.2·10⁻⁴ at 10 Å
files pair in sort order           by the index in their names                    ``signal_2`` met ``ob_010``
one open-beam file for all: error  serves all groups; arrays and frames too       it is the usual case
``signal_row0_col1`` is a name     row 0, column 1 of a grid                      as documented there
names keep ``signal_``             ``signal_center`` is ``center``                as documented there
grids begin at 0                   at the first row and column, in steps of       ``x100 … x110`` is 11 columns, and
                                   what all numbers have in common                ``x0, x10, x20`` is 3
pairs are (x, y)                   as the files have them, (x, y) for ``x1_y2``   ``row1_col2`` is (1, 2); so are
                                   and else (row, column)                         stacks and dicts of pairs
missing groups: no entry           NaN, and a status                              nothing is lost silently
all files in memory                read by the workers that fit, block by block   52 GB for 512 × 512 pixels
``+`` drops the empty beam         keeps it                                       the sum was off by the empty ratio
wavelength grids are not compared  ValueError                                     spectra of other bins do not add up
weights 1/σ of the ratio only      also ``likelihood="poisson"``                  ratios of few counts bias the
                                                                                  thickness, and empty bins vanish
``n_jobs``, ``backend``            words for Dask's schedulers, same numbers      threads gave wrong answers there
response on σ, sample by sample    on what the detector sees, in µs;              width does not depend on the binning
                                   ``compat="nbragg"`` for published fits
σ at the centre of a bin           averaged over the bin                          edges move smoothly: strain
``vary_tof``, ``vary_lattice``     an error with ``compat="nbragg"``              σ is sampled there: its edges do not
                                                                                  move; a was rounded to 4 decimals
density of the starting weights    follows the weights                            thickness was off by up to 19 %
extinction without its plug-in:    own documented formulae                        never a silent no-op
ignored
``method="least-squares"``         an error with the close names                  it ran Nelder–Mead
failed groups vanish               stay in ``indices``, with their status         as above
``query="success == True"``        works                                          as documented there
unknown parameter: empty map       an error with the close names
``result[i].plot()`` of the last   of group i
group
``save`` compact by default,       whole by default: data, model, fits, stages;   a loaded result plots and refits;
loads with dill                    names and numbers only                         an edited file runs nothing
counts that were corrected         warn with ``likelihood="poisson"``             their noise is not that of counts
``result.fit(data, query)``        ``result.refit(query)``                        the data are in the result
================================== ============================================== =====================================
"""

from scanfold.bragg.cross_section import CrossSection
from scanfold.bragg.data import Data
from scanfold.bragg.materials import materials, register_material
from scanfold.bragg.model import TransmissionModel
from scanfold.bragg.result import GroupedFitResult

__all__ = ["CrossSection", "Data", "GroupedFitResult", "TransmissionModel", "materials", "register_material"]


def __dir__() -> list[str]:
    return sorted(__all__)
