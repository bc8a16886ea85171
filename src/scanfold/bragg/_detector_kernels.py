"""What a detector makes of channels: response, bins, norm and background."""

import math

import numpy as np

from scanfold._jit_kernels import jit
from scanfold.bragg._response_kernels import (
    anticausal,
    by_rate,
    causal,
    cell_sums,
    convolve,
    decays,
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
    for i in range(x.size):
        root, b = math.sqrt(x[i]), 0.0
        for j in range(terms):
            b += p[int(aux[at + j])] * background_term(x[i], root, j)
        inside = b >= 0.0
        b = max(b, 0.0)
        factor = norm * (1.0 - b)
        for r in range(jac.shape[0]):
            jac[r, i] *= factor
        if norm_index >= 0:
            jac[norm_index, i] = y[i] * (1.0 - b)
        if k_index >= 0:
            jac[k_index, i] = b
        if inside:
            for j in range(terms):
                jac[int(aux[at + j]), i] = (k - norm * y[i]) * background_term(x[i], root, j)
        y[i] = factor * y[i] + k * b


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
    for r in range(c + 3):
        for i in range(low, high):
            out[r, i] = work[r, i] = 0.0
    decays(length, begin, end, step, beta, fade)
    for r in range(c):
        causal(length, cell, begin, end, channels[r], impulses[r], moved[r], beta, fade, out[r])
    by_rate(length, cell, begin, end, False, channels[0], beta, fade, out[c + 1])
    decays(length, begin, end, step, alpha, fade)
    for r in range(c):
        anticausal(length, cell, begin, end, channels[r], impulses[r], moved[r], alpha, fade, work[r])
    by_rate(length, cell, begin, end, True, channels[0], alpha, fade, out[c])
    mix(alpha, beta, work[:c], out[:c], out[c], out[c + 1], low, high)
    for r in range(c + 2):
        for i in range(low, high):
            out[r, i] /= step
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
    at, c = int(aux[BINS]), names.size
    for i in range(x.size):
        low, high = aux[at + 2 * i], aux[at + 2 * i + 1]
        y[i] = _average(detected[0], low, high)
        for r in range(1, c):
            jac[names[r], i] = _average(detected[r], low, high)
        for j in range(7):
            index = index_of(aux, ALPHA0 + j)
            if is_active(aux, index):
                jac[index, i] = _average(detected[c + j], low, high)


@_jit
def _average(values, low, high):
    """Return the mean of cells over [low, high), positions counted in cells."""
    begin, end = int(low), int(np.ceil(high))
    total = 0.0
    for c in range(begin, end):
        total += values[c] * (min(high, c + 1.0) - max(low, float(c)))
    return total / (high - low)
