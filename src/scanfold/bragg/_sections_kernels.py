"""Cross sections at single wavelengths, without bins."""

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.bragg._sigma_kernels import TEMPERATURES, phase_section
from scanfold.bragg._transmission_kernels import all_planes, first_planes

_jit = jit()


@_jit
def last_points(edges, wavelengths, on):
    """Fill on (planes) with the last of the points, in rising order, that is below each edge; −1 if none is."""
    for g in range(edges.size):
        on[g] = np.searchsorted(wavelengths, edges[g]) - 1


@_jit
def sections_at(p, aux, wavelengths, out):
    """Fill out (phases, n) with macroscopic cross sections (cm⁻¹) at rising true wavelengths (n)."""
    first = first_planes(aux)
    planes = first[-1]
    d, q, on = np.empty(planes), np.empty(planes), np.empty(planes, np.int64)
    nodes = np.empty(int(aux[TEMPERATURES]))
    all_planes(p, aux, first, d, q, nodes)
    last_points(2.0 * d, wavelengths, on)
    for i in range(out.shape[0]):
        part = slice(first[i], first[i + 1])
        phase_section(p, aux, i, nodes, wavelengths, d[part], q[part], on[part], out[i])
