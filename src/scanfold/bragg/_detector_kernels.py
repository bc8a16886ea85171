"""What a detector makes of channels: response, bins, norm and background."""

import math

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.bragg._response_kernels import (
    cell_sums,
    convolve,
    decays,
    filtered,
    first_filtered,
    half_taps,
    mix,
    smear,
)
from scanfold.bragg._sigma_kernels import (
    ACTIVE,
    ALPHA0,
    BACKGROUND,
    BG0,
    BINS,
    CELLS,
    NODE_START,
    NODE_STEP,
    NODES,
    NORM,
    PER_MICROSECOND,
    RESPONSE,
    ROLES,
    START,
    STEP,
    TAPS,
    TAPS_AT,
    K,
    role,
)

_jit = jit()

NO_RESPONSE, EXPONENTIALS, SQUARE, MEASURED = range(4)
#: The slowest rate, per µs: a response of a second has no meaning.
_SLOWEST = 1.0e-6


@_jit
def index_of(aux, which):
    """Return the index of the parameter that plays a part of the whole model, −1 if none."""
    return int(aux[int(aux[ROLES]) + which])


@_jit
def is_active(aux, index):
    """Say whether derivatives by a parameter are wanted."""
    return index >= 0 and aux[int(aux[ACTIVE]) + index] != 0.0


@_jit
def background_term(x, root, j):
    """Return term j of a background at x, whose root is given."""
    return 1.0 if j == 0 else root if j == 1 else 1.0 / root if j == 2 else x if j == 3 else x * x


@_jit
def detect(x, p, aux, y, jac):
    """Add background and norm to a transmission y (n) and to its derivatives (k, n)."""
    terms, at = int(aux[BACKGROUND]), int(aux[ROLES]) + BG0
    norm, k = role(p, aux, NORM, 1.0), role(p, aux, K, 1.0)
    norm_index, k_index = index_of(aux, NORM), index_of(aux, K)
    root, behind, inside = np.empty(x.size), np.empty(x.size), np.empty(x.size)
    for i in range(x.size):
        root[i] = math.sqrt(x[i])
        b = 0.0
        for j in range(terms):
            b += p[int(aux[at + j])] * background_term(x[i], root[i], j)
        inside[i] = 1.0 if b >= 0.0 else 0.0
        behind[i] = max(b, 0.0)
    for r in range(jac.shape[0]):
        for i in range(x.size):
            jac[r, i] *= norm * (1.0 - behind[i])
    for j in range(terms):
        index = int(aux[at + j])
        for i in range(x.size):
            jac[index, i] = inside[i] * (k - norm * y[i]) * background_term(x[i], root[i], j)
    for i in range(x.size):
        if norm_index >= 0:
            jac[norm_index, i] = y[i] * (1.0 - behind[i])
        if k_index >= 0:
            jac[k_index, i] = behind[i]
        y[i] = norm * (1.0 - behind[i]) * y[i] + k * behind[i]


@_jit
def respond(p, aux, length, cell, cell_at, channels, impulses, moved, detected):
    """Fill detected (channels + 7, cells): channels as detected, then derivatives by α0 α1 β0 β1 σ0 σ1 σ2."""
    kind, cells, step = int(aux[RESPONSE]), int(aux[CELLS]), aux[STEP]
    c = channels.shape[0]
    if kind == EXPONENTIALS:
        exponentials(p, aux, length, cell, cell_at, channels, impulses, moved, detected)
        return
    sums = np.zeros((c, cells))
    for r in range(c):
        cell_sums(length, cell, 0, length.size, channels[r], impulses[r], moved[r], sums[r])
        for i in range(cells):
            sums[r, i] /= step
            detected[r, i] = sums[r, i]
    if kind == NO_RESPONSE:
        return
    if kind == MEASURED:
        at = int(aux[TAPS_AT])
        taps = aux[at : at + int(aux[TAPS])]
        for r in range(c):
            convolve(sums[r], taps, 0, cells, 0, cells, detected[r])
        return
    scale = aux[PER_MICROSECOND] / step
    width = max(role(p, aux, ALPHA0 + 4, 0.0), 1.0e-3) * scale
    smear(True, width, sums, 0, cells, 0, cells, detected, detected[c + 4])
    for i in range(cells):
        detected[c + 4, i] *= scale


@_jit
def exponentials(p, aux, length, cell, cell_at, channels, impulses, moved, detected):
    """Respond with back-to-back exponentials and a Gaussian whose widths may depend on the wavelength.

    The response at a wavelength is the cubic interpolation, in ln λ, of those of four nodes.
    """
    nodes, cells, step, start = int(aux[NODES]), int(aux[CELLS]), aux[STEP], aux[START]
    c = channels.shape[0]
    one = np.empty((c + 3, cells))
    part = np.empty((c + 3, cells))
    blend, place = np.ones(cells), np.empty(cells)
    if nodes > 1:
        for i in range(cells):
            place[i] = (math.log(start + (i + 0.5) * step) - aux[NODE_START]) / aux[NODE_STEP]
    for node in range(nodes):
        d, first, last = 1.0, 0, cells
        if nodes > 1:
            node_x = aux[NODE_START] + node * aux[NODE_STEP]
            d = 0.5 * math.exp(node_x)
            first, last = _zone(nodes, node, place, blend)
            if first >= last:
                continue
        _one_response(p, aux, d, first, last, length, cell, cell_at, channels, impulses, moved, one, part)
        _add_node(p, aux, d, first, last, one, blend, c, detected)


@_jit
def _zone(nodes, node, place, blend):
    """Fill blend (cells) with the weight of a node, and return the cells where it is not 0."""
    first, last = place.size, 0
    for i in range(place.size):
        u = place[i]
        k = min(max(int(np.floor(u)) - 1, 0), nodes - 4)
        if node < k or node > k + 3:
            blend[i] = 0.0
            continue
        w = 1.0
        for m in range(k, k + 4):
            if m != node:
                w *= (u - m) / (node - m)
        blend[i] = w
        first, last = min(first, i), i + 1
    return first, last


@_jit
def rates(p, aux, d):
    """Return α, β (per Å), σ (Å) and its σ0, σ1·d, σ2·d² at a lattice spacing."""
    at, unit = int(aux[ROLES]) + ALPHA0, aux[PER_MICROSECOND]
    values = np.zeros(7)
    for j in range(7):
        index = int(aux[at + j])
        values[j] = p[index] if index >= 0 else 0.0
    alpha = max(values[0] + values[1] / d, _SLOWEST) / unit
    beta = max(values[2] + values[3] / d**4, _SLOWEST) / unit
    sigma = math.sqrt(values[4] ** 2 + (values[5] * d) ** 2 + (values[6] * d * d) ** 2)
    return alpha, beta, sigma * unit


@_jit
def _one_response(p, aux, d, first, last, length, cell, cell_at, channels, impulses, moved, out, work):
    """Fill out (channels + 3, first … last − 1): channels, and derivatives of the first by α, β (per Å) and σ (Å)."""
    cells, step = int(aux[CELLS]), aux[STEP]
    alpha, beta, sigma = rates(p, aux, d)
    c = channels.shape[0]
    gauss = 0 if sigma <= 0.0 else half_taps(False, sigma / step)
    # Where a filter starts far enough away, what came before is forgotten.
    before = min(first, gauss + int(40.0 / (beta * step)) + 2)
    after = min(cells - last, gauss + int(40.0 / (alpha * step)) + 2)
    low, high = first - before, last + after
    begin, end = cell_at[low], cell_at[high]
    fade = np.empty(end)
    out[: c + 3, low:high] = 0.0
    work[:c, low:high] = 0.0
    for backwards, rate, rows, by_rate in ((False, beta, out, out[c + 1]), (True, alpha, work, out[c])):
        decays(length, begin, end, step, rate, fade)
        first_filtered(length, cell, begin, end, backwards, channels[0], rate, fade, rows[0], by_rate)
        for r in range(1, c):
            filtered(length, cell, begin, end, backwards, channels[r], impulses[r], moved[r], rate, fade, rows[r])
    mix(alpha, beta, step, work[:c, low:high], out[:c, low:high], out[c, low:high], out[c + 1, low:high])
    if gauss:
        for r in range(c + 2):
            for i in range(low, high):
                work[r, i] = out[r, i]
        smear(False, sigma / step, work[: c + 2], low, high, first, last, out, out[c + 2])
        for i in range(first, last):
            out[c + 2, i] /= step


@_jit
def _add_node(p, aux, d, first, last, one, blend, c, detected):
    """Add a node's response to what is detected, its derivatives by α, β, σ to those by their parameters."""
    at, unit = int(aux[ROLES]) + ALPHA0, aux[PER_MICROSECOND]
    for r in range(c):
        for i in range(first, last):
            detected[r, i] += blend[i] * one[r, i]
    _, _, sigma = rates(p, aux, d)
    sigma /= unit
    for j in range(7):
        index = int(aux[at + j])
        if not is_active(aux, index):
            continue
        if j < 4:
            row, factor = c + j // 2, 1.0 / unit
            factor *= (1.0, 1.0 / d, 1.0, 1.0 / d**4)[j]
        else:
            row, power = c + 2, (1.0, d, d * d)[j - 4]
            factor = unit * p[index] * power * power / sigma if sigma > 0.0 else 0.0
        for i in range(first, last):
            detected[c + j, i] += factor * blend[i] * one[row, i]


@_jit
def bin_averages(aux, x, names, detected, y, jac):
    """Average cells over bins: into y (n) the first channel, into jac (k, n) the others."""
    bins, c = aux[int(aux[BINS]) : int(aux[BINS]) + 5 * x.size].reshape((x.size, 5)), names.size
    averages(bins, detected[0], y)
    for r in range(1, c):
        averages(bins, detected[r], jac[names[r]])
    for j in range(7):
        index = index_of(aux, ALPHA0 + j)
        if is_active(aux, index):
            averages(bins, detected[c + j], jac[index])


@_jit
def averages(bins, values, out):
    """Fill out (n) with means of cells over bins (n, 5): first and last cell, weights of both and of those between."""
    for i in range(out.size):
        first, last = int(bins[i, 0]), int(bins[i, 1])
        total = 0.0
        for c in range(first + 1, last):
            total += values[c]
        out[i] = bins[i, 2] * values[first] + bins[i, 3] * values[last] + bins[i, 4] * total
