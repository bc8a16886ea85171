"""The transmission of a sample in each bin of a detector, and its derivatives: the leaf of a Bragg-edge model.

T = norm·⟨(e^{−t·Σ} ⊛ R)⟩·(1 − b) + k·b, averaged over each bin. What acts before the response (thickness, fractions,
lattice, time calibration …) are channels of `_response_kernels`; what acts after it is plain algebra.
"""

import math

import numpy as np
from numba import carray

from scanfold._jit_kernels import jit
from scanfold.bragg._detector_kernels import bin_averages, detect, index_of, is_active, respond
from scanfold.bragg._sigma_kernels import (
    ALPHA0,
    BG0,
    CELLS,
    L0,
    LOG_RATIO,
    NORM,
    PARAM_A,
    PARAM_SANS,
    PER_SECOND,
    PHASES,
    PLANES,
    PREPARED,
    ROLES,
    START,
    STEP,
    T0,
    TEMPERATURE,
    TEMPERATURES,
    THICKNESS,
    K,
    fractions,
    phase_at,
    phase_section,
    planes_of,
    role,
    temperature_weights,
)

_jit = jit()

RELATIVE_STEP = 1.0e-5


@_jit
def all_planes(p, aux, first, d, q, nodes):
    """Fill first (phases + 1), d and q of all phases."""
    temperature_weights(aux, role(p, aux, TEMPERATURE, 293.15), nodes)
    for i in range(first.size - 1):
        planes_of(p, aux, phase_at(aux, i), nodes, d[first[i] : first[i + 1]], q[first[i] : first[i + 1]])


@_jit
def first_planes(aux):
    """Return where the planes of each phase start among all (phases + 1)."""
    phases = int(aux[PHASES])
    first = np.zeros(phases + 1, np.int64)
    for i in range(phases):
        first[i + 1] = first[i] + int(aux[phase_at(aux, i) + PLANES])
    return first


@_jit
def falling_to_rising(values):
    """Return the order in which values rise; they come nearly in falling order."""
    order = np.empty(values.size, np.int64)
    for i in range(values.size):
        k, new = i, values.size - 1 - i
        while k > 0 and values[order[k - 1]] > values[new]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = new
    return order


@_jit
def cut(aux, edges, length, middle, cell, cell_at, on):
    """Cut the cells at the edges; fill the segments, the first of each cell, and where each plane is on last.

    Returns the number of segments.
    """
    cells, start, step = int(aux[CELLS]), aux[START], aux[STEP]
    end = start + cells * step
    order = falling_to_rising(edges)
    e = 0
    while e < edges.size and edges[order[e]] <= start:
        on[order[e]] = -1
        e += 1
    s = 0
    for c in range(cells):
        left, right = start + c * step, start + (c + 1) * step
        cell_at[c] = s
        whole = True
        while e < edges.size and edges[order[e]] < right and edges[order[e]] < end:
            position = max(edges[order[e]], left)
            length[s], middle[s], cell[s] = position - left, 0.5 * (position + left), c
            on[order[e]] = s
            left, whole = position, False
            s += 1
            e += 1
        length[s], middle[s], cell[s] = step if whole else right - left, 0.5 * (left + right), c
        s += 1
    cell_at[cells] = s
    while e < edges.size:
        on[order[e]] = s - 1
        e += 1
    return s


@_jit
def section_slope(p, aux, first, index, d, q, nodes, on, wavelengths, sections, v, slope, moved):
    """Fill slope (segments), of Σ v·section, and moved (planes), of d, by parameter `index`; say whether any depends.

    By central differences of the cross sections, the edges held: they are smooth in everything but the edges.
    """
    slope[:], moved[:] = 0.0, 0.0
    keep = p[index]
    h = RELATIVE_STEP * (abs(keep) if keep != 0.0 else 1.0)
    by_temperature = index == index_of(aux, TEMPERATURE)
    weights = nodes.copy()
    work, d_, q_ = np.empty(slope.size), np.empty(d.size), np.empty(q.size)
    depends = False
    for i in range(first.size - 1):
        at, used = phase_at(aux, i), by_temperature
        for which in range(PARAM_A, PARAM_SANS + 1):
            used = used or int(aux[at + which]) == index
        if not used:
            continue
        depends = True
        part = slice(first[i], first[i + 1])
        for sign in (1.0, -1.0):
            p[index] = keep + sign * h
            temperature_weights(aux, role(p, aux, TEMPERATURE, 293.15), weights)
            planes_of(p, aux, at, weights, d_[part], q_[part])
            phase_section(p, aux, i, weights, wavelengths, d_[part], q_[part], on[part], work)
            for j in range(slope.size):
                slope[j] += sign * v[i] * work[j] / (2.0 * h)
            for g in range(first[i], first[i + 1]):
                moved[g] += sign * d_[g] / (2.0 * h)
        p[index] = keep
    return depends


@_jit
def transmission(x, p, aux, y, jac):
    """Fill y (n) and jac (k, n) for the bins of x."""
    if not np.isfinite(p).all():  # sizes below follow from parameters
        y[:], jac[:] = np.nan, 0.0
        return
    y[:], jac[:] = 0.0, 0.0
    if is_prepared(p, aux):
        length, cell, cell_at, channels, impulses, moved, names = prepared_channels(p, aux)
    else:
        length, cell, cell_at, channels, impulses, moved, names = own_channels(p, aux)
    detected = np.zeros((names.size + 7, int(aux[CELLS])))
    respond(p, aux, length, cell, cell_at, channels, impulses, moved, detected)
    bin_averages(aux, x, names, detected, y, jac)
    detect(x, p, aux, y, jac)


@_jit
def segments(p, aux):
    """Return planes and edges, the cross sections of the phases on the segments, their fractions, and the segments."""
    phases, cells = int(aux[PHASES]), int(aux[CELLS])
    first = first_planes(aux)
    planes = first[phases]
    d, q, on = np.empty(planes), np.empty(planes), np.empty(planes, np.int64)
    nodes = np.empty(int(aux[TEMPERATURES]))
    all_planes(p, aux, first, d, q, nodes)
    stretch = 2.0 - role(p, aux, L0, 1.0)
    offset = role(p, aux, T0, 0.0) * aux[PER_SECOND]
    room = cells + planes
    length, middle, cell = np.empty(room), np.empty(room), np.empty(room, np.int64)
    cell_at = np.empty(cells + 1, np.int64)
    edges = np.empty(planes)
    for g in range(planes):
        edges[g] = (2.0 * d[g] - offset) / stretch
    count = cut(aux, edges, length, middle, cell, cell_at, on)
    length, middle, cell = length[:count], middle[:count], cell[:count]
    wavelengths = np.empty(count)
    for j in range(count):
        wavelengths[j] = stretch * middle[j] + offset
    v = np.empty(phases)
    fractions(p, aux, v)
    sections = np.empty((phases, count))
    for i in range(phases):
        part = slice(first[i], first[i + 1])
        phase_section(p, aux, i, nodes, wavelengths, d[part], q[part], on[part], sections[i])
    return (first, d, q, nodes, on, edges, stretch, middle, wavelengths), sections, v, length, cell, cell_at


@_jit
def own_channels(p, aux):
    """Return the segments (length, cell, first of each cell) and the channels on them, for any parameters."""
    planes, sections, v, length, cell, cell_at = segments(p, aux)
    first, d, q, nodes, on, edges, stretch, middle, wavelengths = planes
    channels, impulses, moved, names = channels_of(
        p, aux, first, d, q, nodes, on, edges, stretch, length, middle, wavelengths, sections, v
    )
    return length, cell, cell_at, channels, impulses, moved, names


@_jit
def prepared(p, aux):
    """Return p, then the number of segments and for each Σ v·section, length and cell, then the first of each cell.

    It is put behind the constants of a fit in which only the thickness and what acts after the response vary.
    """
    _, sections, v, length, cell, cell_at = segments(p, aux)
    n, total = length.size, np.zeros(length.size)
    for i in range(v.size):
        for j in range(n):
            total[j] += v[i] * sections[i, j]
    out = np.empty(p.size + 1 + 3 * n + cell_at.size)
    k = p.size
    out[:k], out[k] = p, n
    out[k + 1 : k + 1 + n], out[k + 1 + n : k + 1 + 2 * n] = total, length
    out[k + 1 + 2 * n : k + 1 + 3 * n], out[k + 1 + 3 * n :] = cell, cell_at
    return out


@_jit
def is_prepared(p, aux):
    """Say whether the constants hold the cross sections of these parameters."""
    at = int(aux[PREPARED])
    if at == 0:
        return False
    for index in range(p.size):
        still = acts_before(aux, index) and index != index_of(aux, THICKNESS)
        if still and p[index] != aux[at + index]:
            return False
    return True


@_jit
def prepared_channels(p, aux):
    """Return what `own_channels` does, from what the constants hold."""
    at = int(aux[PREPARED]) + p.size
    n = int(aux[at])
    total, length = aux[at + 1 : at + 1 + n], aux[at + 1 + n : at + 1 + 2 * n]
    cell = aux[at + 1 + 2 * n : at + 1 + 3 * n].astype(np.int64)
    cell_at = aux[at + 1 + 3 * n : at + 2 + 3 * n + int(aux[CELLS])].astype(np.int64)
    index, thickness = index_of(aux, THICKNESS), role(p, aux, THICKNESS, 1.0)
    c = 2 if is_active(aux, index) else 1
    names = np.full(c, -1)
    channels, impulses, moved = np.empty((c, n)), np.zeros((c, 1)), np.zeros(c, np.bool_)
    for j in range(n):
        channels[0, j] = math.exp(-thickness * total[j])
    if c == 2:
        names[1] = index
        for j in range(n):
            channels[1, j] = -total[j] * channels[0, j]
    return length, cell, cell_at, channels, impulses, moved, names


@_jit
def channels_of(p, aux, first, d, q, nodes, on, edges, stretch, length, middle, wavelengths, sections, v):
    """Return channels and impulses (c, segments), whether there are impulses (c), and their parameters (c).

    The first channel is the transmission itself, under the name −1.
    """
    phases, count = sections.shape
    thickness = role(p, aux, THICKNESS, 1.0)
    wanted = np.empty(p.size + 1, np.int64)
    wanted[0], c = -1, 1
    for index in range(p.size):
        if is_active(aux, index) and acts_before(aux, index):
            wanted[c] = index
            c += 1
    names = wanted[:c]
    channels, impulses, moved = np.zeros((c, count)), np.zeros((c, count)), np.zeros(c, np.bool_)
    total, slope, shift = np.zeros(count), np.empty(count), np.empty(d.size)
    for i in range(phases):
        for j in range(count):
            total[j] += v[i] * sections[i, j]
    for j in range(count):
        channels[0, j] = math.exp(-thickness * total[j])
    for r in range(1, c):
        index, own = names[r], channels[r]
        if index == index_of(aux, THICKNESS):
            for j in range(count):
                own[j] = -total[j] * channels[0, j]
            continue
        if index == index_of(aux, L0) or index == index_of(aux, T0):
            by_calibration(p, aux, index, stretch, middle, wavelengths, first, d, q, nodes, on, v, slope)
            moved[r] = True
            for g in range(d.size):
                step = edges[g] / stretch if index == index_of(aux, L0) else -aux[PER_SECOND] / stretch
                add_impulse(channels[0], middle, length, on[g], step, impulses[r])
        elif not by_fraction(aux, index, sections, v, total, slope):
            section_slope(p, aux, first, index, d, q, nodes, on, wavelengths, sections, v, slope, shift)
            for g in range(d.size):
                if shift[g] != 0.0:
                    moved[r] = True
                    add_impulse(channels[0], middle, length, on[g], 2.0 * shift[g] / stretch, impulses[r])
        for j in range(count):
            own[j] = -thickness * slope[j] * channels[0, j]
    return channels, impulses, moved, names


@_jit
def acts_before(aux, index):
    """Say whether a parameter acts before the response: it is none of norm, background and response."""
    at = int(aux[ROLES])
    if index == int(aux[at + NORM]) or index == int(aux[at + K]):
        return False
    for which in range(BG0, ALPHA0 + 7):
        if int(aux[at + which]) == index:
            return False
    return True


@_jit
def add_impulse(values, middle, length, segment, step, impulses):
    """Add what moving the edge at the end of a segment by `step` does: the drop there, all at one place.

    The values are those of the middles of both segments; between them goes the slope beside the edge, that of two
    neighbours which have no edge between them.
    """
    s = segment
    if not 0 <= s < values.size - 1:
        return
    slope = np.inf
    for j in (s - 1, s + 1):
        if 0 <= j < values.size - 1 and middle[j + 1] > middle[j]:
            own = (values[j + 1] - values[j]) / (middle[j + 1] - middle[j])
            slope = own if abs(own) < abs(slope) else slope
    if slope == np.inf:
        slope = 0.0
    impulses[s] += (values[s] - values[s + 1] + 0.5 * slope * (length[s] + length[s + 1])) * step


@_jit
def by_fraction(aux, index, sections, v, total, slope):
    """Fill slope (segments) of Σ v·section by a log ratio of fractions; say whether `index` is one."""
    for i in range(v.size - 1):
        if int(aux[phase_at(aux, i) + LOG_RATIO]) == index:
            for j in range(slope.size):
                slope[j] = v[i] * (sections[i, j] - total[j])
            return True
    return False


@_jit
def by_calibration(p, aux, index, stretch, middle, wavelengths, first, d, q, nodes, on, v, slope):
    """Fill slope (segments) of Σ v·section by L0 or t0, the edges held: true wavelength is stretch·λ + t0·h/(mL)."""
    h = 1.0e-4
    slope[:] = 0.0
    work, near = np.empty(slope.size), np.empty(slope.size)
    for i in range(v.size):
        part = slice(first[i], first[i + 1])
        for sign in (1.0, -1.0):
            for j in range(slope.size):
                near[j] = wavelengths[j] + sign * h
            phase_section(p, aux, i, nodes, near, d[part], q[part], on[part], work)
            for j in range(slope.size):
                slope[j] += sign * v[i] * work[j] / (2.0 * h)
    for j in range(slope.size):
        slope[j] *= -middle[j] if index == index_of(aux, L0) else aux[PER_SECOND]


def physical(n, k, x, p, aux, aux_size, y, jac):
    """Transmission in bins, the response acting on what the detector sees."""
    transmission(carray(x, n), carray(p, k), carray(aux, aux_size), carray(y, n), carray(jac, (k, n)))
