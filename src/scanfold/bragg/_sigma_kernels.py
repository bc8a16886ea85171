"""Cross sections of crystalline phases along the wavelength axis, whose Bragg edges are exact discontinuities.

The coherent elastic part of a powder is a sum over families of lattice planes, each on below its edge at 2d:
σ(λ) = λ²/(2 V N) Σ m d F² (2d > λ), with multiplicity m, cell volume V, N atoms per cell, and
F² = Σ A_st exp(−2π²(u_s + u_t)/d²) over pairs of atoms, u being their mean squared displacements. The rest
(incoherent, inelastic, absorption, or all of an oriented crystal) is smooth and comes as a table.
Everything is kept as a macroscopic cross section, per cm of the pure phase.
"""

import math

import numpy as np

from scanfold._jit_kernels import jit

_jit = jit()

# The head of a model's constants: numbers, and where in them the other parts start.
(FORM, CELLS, START, STEP, PER_MICROSECOND, PER_SECOND, RESPONSE, BACKGROUND, EXTINCTION, PHASES, ROLES, ACTIVE, BINS,
 PHASE_AT, TABLE_START, TABLE_STEP, TABLE_SIZE, TEMPERATURES, TEMPERATURES_AT, NODES, NODE_START, NODE_STEP, TAPS,
 TAPS_AT, DENSITY, PREPARED, HEAD_SIZE) = range(27)  # fmt: skip
#: Which parameter plays which part of the whole model; −1 where there is none.
(THICKNESS, NORM, TEMPERATURE, K, L0, T0, BG0) = range(7)
#: α0 α1 β0 β1 σ0 σ1 σ2; the width of a square response stands at σ0.
ALPHA0 = BG0 + 5
#: A phase: numbers, where its parts are, and which parameters play its parts.
(WEIGHT, ATOMS, VOLUME, SPECIES, DISPLACEMENTS_AT, PLANES, PLANES_AT, TABLE_AT, CONTRAST, LENGTH_A, LENGTH_B, LENGTH_C,
 EXT_BLOCK, EXT_SPREAD, EXT_GRAIN, SANS, LOG_RATIO, PARAM_A, PARAM_B, PARAM_C, PARAM_BLOCK, PARAM_SPREAD, PARAM_GRAIN,
 PARAM_SANS, PHASE_SIZE) = range(25)  # fmt: skip
#: The part of a phase's volume that is spherical voids, where there is a SANS term.
VOIDS = 0.01


@_jit
def parameter(p, aux, at, default):
    """Return the parameter whose index stands at `at`, or the default where that is −1."""
    index = int(aux[at])
    return p[index] if index >= 0 else default


@_jit
def role(p, aux, which, default):
    """Return the parameter that plays a part of the whole model."""
    return parameter(p, aux, int(aux[ROLES]) + which, default)


@_jit
def phase_at(aux, i):
    """Return where phase i starts."""
    return int(aux[PHASE_AT]) + i * PHASE_SIZE


@_jit
def plane_size(species):
    """Return how many numbers describe a family of planes: 6 of the metric, m/2, and A of each pair of atoms."""
    return 7 + species * (species + 1) // 2


@_jit
def temperature_weights(aux, temperature, weights):
    """Fill weights (nodes): cubic interpolation between the temperatures of the tables."""
    count, at = int(aux[TEMPERATURES]), int(aux[TEMPERATURES_AT])
    weights[:] = 0.0
    if count == 1:
        weights[0] = 1.0
        return
    first = 0
    while first < count - 4 and aux[at + first + 2] < temperature:
        first += 1
    for j in range(first, first + 4):
        w = 1.0
        for k in range(first, first + 4):
            if k != j:
                w *= (temperature - aux[at + k]) / (aux[at + j] - aux[at + k])
        weights[j] = w


@_jit
def lattice_lengths(p, aux, at):
    """Return a, b, c of the phase at `at`."""
    return (
        parameter(p, aux, at + PARAM_A, aux[at + LENGTH_A]),
        parameter(p, aux, at + PARAM_B, aux[at + LENGTH_B]),
        parameter(p, aux, at + PARAM_C, aux[at + LENGTH_C]),
    )


@_jit
def planes_of(p, aux, at, nodes, d, q):
    """Fill d (Å) and q = m d F²/(2V²) (cm⁻¹ Å⁻²) of the families of planes of the phase at `at`."""
    a, b, c = lattice_lengths(p, aux, at)
    volume = aux[at + VOLUME] * a * b * c
    species, size = int(aux[at + SPECIES]), plane_size(int(aux[at + SPECIES]))
    u = np.zeros(max(species, 1))
    for t in range(nodes.size):
        for s in range(species):
            u[s] += nodes[t] * aux[int(aux[at + DISPLACEMENTS_AT]) + t * species + s]
    for g in range(int(aux[at + PLANES])):
        o = int(aux[at + PLANES_AT]) + g * size
        inverse = (
            aux[o] / (a * a) + aux[o + 1] / (b * b) + aux[o + 2] / (c * c)
            + aux[o + 3] / (a * b) + aux[o + 4] / (a * c) + aux[o + 5] / (b * c)
        )  # fmt: skip
        f2, pair = 0.0, o + 7
        for s in range(species):
            for t in range(s, species):
                f2 += aux[pair] * math.exp(-2.0 * math.pi * math.pi * (u[s] + u[t]) * inverse)
                pair += 1
        d[g] = 1.0 / math.sqrt(inverse)
        q[g] = aux[o + 6] * d[g] * f2 / (volume * volume)


@_jit
def sphere_scattering(wavelength, radius, contrast):
    """Return the macroscopic cross section (cm⁻¹) of spherical voids of radius R (Å) in a medium.

    n_p V_p² Δρ² λ²/(2πR²) ∫₀^X 9(sin x − x cos x)²/x⁵ dx with X = 4πR/λ, the integral being
    9/4·[1 − 1/X² + sin 2X/X³ − sin²X/X⁴] (Rayleigh–Gans–Debye, no interference between spheres).
    """
    x = 4.0 * math.pi * radius / wavelength
    if x < 0.05:
        shape = x * x / 2.0 * (1.0 - x * x / 10.0)
    else:
        sine = math.sin(x)
        shape = 2.25 * (1.0 - 1.0 / (x * x) + math.sin(2.0 * x) / x**3 - sine * sine / x**4)
    if radius <= 0.0:
        return 0.0
    volume = 4.0 / 3.0 * math.pi * radius**3
    area = wavelength * wavelength / (2.0 * math.pi * radius * radius)
    return 1.0e8 * VOIDS * volume * contrast * contrast * area * shape


@_jit
def becker_coppens(x, c, a, b):
    """Return (1 + c·x + a·x²/(1 + b·x))^(−1/2)."""
    return 1.0 / math.sqrt(1.0 + c * x + a * x * x / (1.0 + b * x))


@_jit
def sabine_primary(x, sine2):
    """Return Sabine's E = E_B sin²θ + E_L cos²θ of mosaic blocks (Sabine, Acta Cryst. A44 (1988) 368)."""
    bragg = 1.0 / math.sqrt(1.0 + x)
    if x <= 1.0:
        laue = 1.0 - x / 2.0 + x * x / 4.0 - 5.0 * x**3 / 48.0
    else:
        laue = math.sqrt(2.0 / (math.pi * x)) * (1.0 - 1.0 / (8.0 * x) - 3.0 / (128.0 * x * x) - 15.0 / (1024.0 * x**3))
    return bragg * sine2 + laue * (1.0 - sine2)


@_jit
def extinction_factor(kind, wavelength, d, f_over_v, block, spread, grain):
    """Return by how much extinction weakens a reflection.

    f_over_v is |F|/V (Å⁻²), block and grain are lengths (Å), spread is g (rad⁻¹). kind: 1 Sabine, 2 and 3
    Becker and Coppens with a Gaussian or a Lorentzian mosaic.
    """
    sine = wavelength / (2.0 * d)
    sine2 = min(sine * sine, 1.0)
    cosine = math.sqrt(1.0 - sine2)
    double_sine, double_cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine2
    amplitude = wavelength * f_over_v * block
    if kind == 1:
        first = sabine_primary(amplitude * amplitude, sine2)
    else:
        a = 0.20 + 0.45 * double_cosine
        b = 0.22 - 0.12 * (0.5 - double_cosine) ** 2
        first = becker_coppens(2.0 / 3.0 * amplitude * amplitude, 2.0, a, b)
    if grain <= 0.0:
        return first
    # Q·(angular density): sin 2θ cancels between Q = λ³F²/(V² sin 2θ) and α = block·sin 2θ/λ.
    alpha = block * double_sine / wavelength
    if kind == 3:
        narrow = 1.0 / (1.0 + alpha / spread)
    else:
        narrow = 1.0 / math.sqrt(1.0 + 0.5 * (alpha / spread) ** 2)
    x = (wavelength * f_over_v) ** 2 * block * narrow * grain * first
    if kind == 1:
        bragg = math.tanh(x) / x if x > 1.0e-8 else 1.0
        laue = -math.expm1(-2.0 * x) / (2.0 * x) if x > 1.0e-8 else 1.0
        return first * (bragg * sine2 + laue * (1.0 - sine2))
    if kind == 2:
        a = 0.58 + 0.48 * double_cosine + 0.24 * double_cosine**2
        b = 0.02 - 0.025 * double_cosine
        return first * becker_coppens(2.0 / 3.0 * x, 2.12, a, b)
    a = 0.025 + 0.285 * double_cosine
    b = 0.15 - 0.2 * (0.75 - double_cosine) ** 2 if double_cosine > 0.0 else -0.45 * double_cosine
    return first * becker_coppens(2.0 / 3.0 * x, 2.0, a, b)


@_jit
def phase_section(p, aux, i, nodes, wavelengths, d, q, on, out):
    """Fill out (points): the macroscopic cross section (cm⁻¹) of phase i at true wavelengths (Å).

    on (planes) is the last point at which a family of planes reflects; d and q are as `planes_of` fills them.
    """
    at = phase_at(aux, i)
    a, b, c = lattice_lengths(p, aux, at)
    density = aux[at + ATOMS] / (aux[at + VOLUME] * a * b * c)
    start, inverse, size = aux[TABLE_START], 1.0 / aux[TABLE_STEP], int(aux[TABLE_SIZE])
    count, planes = wavelengths.size, int(aux[at + PLANES])
    kind = int(aux[EXTINCTION]) if parameter(p, aux, at + PARAM_BLOCK, aux[at + EXT_BLOCK]) > 0.0 else 0
    out[:] = 0.0
    if kind == 0:
        for g in range(planes):
            if on[g] >= 0:
                out[on[g]] += q[g]
        for j in range(count - 2, -1, -1):
            out[j] += out[j + 1]
    else:
        _extinguished(p, aux, at, kind, wavelengths, d, q, on, out)
    for j in range(count):
        out[j] *= wavelengths[j] * wavelengths[j]
    for t in range(nodes.size):
        if nodes[t] == 0.0:
            continue
        table, factor = int(aux[at + TABLE_AT]) + t * size, nodes[t] * density
        for j in range(count):
            position = min(max((wavelengths[j] - start) * inverse, 0.0), size - 1.001)
            k = int(position)
            f = position - k
            out[j] += factor * ((1.0 - f) * aux[table + k] + f * aux[table + k + 1])
    radius = parameter(p, aux, at + PARAM_SANS, aux[at + SANS])
    if radius > 0.0:
        for j in range(count):
            out[j] += sphere_scattering(wavelengths[j], radius, aux[at + CONTRAST])


@_jit
def _extinguished(p, aux, at, kind, wavelengths, d, q, on, out):
    """Fill out with Σ q·y of the planes that reflect."""
    size = plane_size(int(aux[at + SPECIES]))
    # From µm and minutes of arc (full width at half maximum) to Å and rad⁻¹.
    block = 1.0e4 * parameter(p, aux, at + PARAM_BLOCK, aux[at + EXT_BLOCK])
    spread = 8090.0 / max(parameter(p, aux, at + PARAM_SPREAD, aux[at + EXT_SPREAD]), 1.0e-6)
    grain = 1.0e4 * parameter(p, aux, at + PARAM_GRAIN, aux[at + EXT_GRAIN])
    for g in range(int(aux[at + PLANES])):
        multiplicity = 2.0 * aux[int(aux[at + PLANES_AT]) + g * size + 6]
        # q = m d F²/2V², and 1 barn is 10⁻⁸ Å²
        f_over_v = math.sqrt(2.0e-8 * q[g] / (multiplicity * d[g]))
        for j in range(on[g] + 1):
            out[j] += q[g] * extinction_factor(kind, wavelengths[j], d[g], f_over_v, block, spread, grain)


@_jit
def fractions(p, aux, v):
    """Fill v (phases): the volume fractions, softmax of the log ratios to the last phase where there are any."""
    last = v.size - 1
    if int(aux[phase_at(aux, 0) + LOG_RATIO]) < 0:
        for i in range(v.size):
            v[i] = aux[phase_at(aux, i) + WEIGHT]
        return
    top = 0.0
    for i in range(last):
        top = max(top, p[int(aux[phase_at(aux, i) + LOG_RATIO])])
    total = 0.0
    for i in range(v.size):
        ratio = p[int(aux[phase_at(aux, i) + LOG_RATIO])] if i < last else 0.0
        v[i] = math.exp(ratio - top)
        total += v[i]
    for i in range(v.size):
        v[i] /= total
