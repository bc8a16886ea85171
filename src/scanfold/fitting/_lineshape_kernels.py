"""Compiled model functions: every built-in 1-D model of lmfit, with derivatives.

Each *leaf* fills the values and the derivatives of one model component for a
whole spectrum. Leaves share one C signature, so that the fitting loop, compiled
once, calls any of them by address. Formulae are those of ``lmfit.lineshapes``
(names of parameters and their order too); w(z) is the Faddeeva function.
"""

import math

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core.sigutils import normalize_signature
from numba.extending import intrinsic

from scanfold._jit_kernels import callback, jit
from scanfold.fitting._expression_kernels import RELATIVE_STEP, run_code
from scanfold.fitting._special_kernels import betaln, exp_below, faddeeva, lgamma_real

_jit = jit()
_pointer = types.CPointer(types.float64)
#: n points, k parameters, x[n], p[k], aux, size of aux, y[n], derivatives[k, n]
LEAF = normalize_signature(
    types.void(types.intp, types.intp, _pointer, _pointer, _pointer, types.intp, _pointer, _pointer)
)
TINY = 1.0e-15
S2PI = math.sqrt(2.0 * math.pi)
S2 = math.sqrt(2.0)


@intrinsic
def call_leaf(typing_context, address, n, k, x, p, aux, aux_size, y, jac):
    """Call a leaf by its address; all arguments are integers (sizes and data pointers)."""
    signature = types.void(*[types.intp] * 9)

    def generate(context, builder, _signature, args):
        word = ir.IntType(64)
        function_type = ir.FunctionType(ir.VoidType(), [word] * 8)
        function = builder.inttoptr(args[0], function_type.as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return signature, generate


@jit(cache=False)
def numeric(function, x, p, aux, y, jac):
    """Fill values, and derivatives by central differences, from a scalar function(x, p, aux)."""
    n, k = x.size, p.size
    for i in range(n):
        y[i] = function(x[i], p, aux)
    for j in range(k):
        keep = p[j]
        step = RELATIVE_STEP * (abs(keep) if keep != 0.0 else 1.0)
        high, low = keep + step, keep - step
        p[j] = high
        for i in range(n):
            jac[j, i] = function(x[i], p, aux)
        p[j] = low
        for i in range(n):
            jac[j, i] = (jac[j, i] - function(x[i], p, aux)) / (high - low)
        p[j] = keep


@_jit
def _positive(value):
    return max(TINY, value)


@_jit
def _not_zero(value):
    return math.copysign(max(TINY, abs(value)), value)


# ---- leaves with derivatives in closed form -----------------------------------------------


def basis(n, k, x, p, aux, aux_size, y, jac):
    """Σ p_j B_j(x), with B of shape (k, n) in aux: constant, linear, quadratic, polynomial, spline."""
    p_, y_, jac_, b = carray(p, k), carray(y, n), carray(jac, (k, n)), carray(aux, (k, n))
    y_[:] = 0.0
    for j in range(k):
        for i in range(n):
            jac_[j, i] = b[j, i]
            y_[i] += p_[j] * b[j, i]


def gaussian(n, k, x, p, aux, aux_size, y, jac):
    """amplitude/(σ√2π) · exp(−(x − center)²/2σ²)."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
    sigma = _positive(p_[2])
    inverse = 1.0 / sigma
    norm = inverse / S2PI
    for i in range(n):
        t = (x_[i] - p_[1]) * inverse
        e = norm * exp_below(-0.5 * t * t)
        value = p_[0] * e
        y_[i] = value
        jac_[0, i] = e
        jac_[1, i] = value * t * inverse
        jac_[2, i] = value * (t * t - 1.0) * inverse


def lorentzian(n, k, x, p, aux, aux_size, y, jac):
    """amplitude/π · σ/((x − center)² + σ²)."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
    sigma = _positive(p_[2])
    inverse = 1.0 / sigma
    norm = inverse / math.pi
    for i in range(n):
        t = (x_[i] - p_[1]) * inverse
        q = 1.0 / (1.0 + t * t)
        e = norm * q
        value = p_[0] * e
        y_[i] = value
        jac_[0, i] = e
        jac_[1, i] = 2.0 * value * q * t * inverse
        jac_[2, i] = value * (2.0 * q * t * t - 1.0) * inverse


def voigt(n, k, x, p, aux, aux_size, y, jac):
    """Amplitude · Re w(z)/(σ√2π), z = (x − center + iγ)/(σ√2); w′ = −2zw + 2i/√π."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
    sigma = _positive(p_[2])
    norm = 1.0 / (sigma * S2PI)
    scale = 1.0 / (sigma * S2)
    for i in range(n):
        z = complex((x_[i] - p_[1]) * scale, p_[3] * scale)
        w = faddeeva(z)
        slope = -2.0 * z * w + 2j / math.sqrt(math.pi)
        factor = p_[0] * norm
        y_[i] = factor * w.real
        jac_[0, i] = norm * w.real
        jac_[1, i] = -factor * slope.real * scale
        jac_[2, i] = -factor * (w.real + (z * slope).real) / sigma
        jac_[3, i] = -factor * slope.imag * scale


def pvoigt(n, k, x, p, aux, aux_size, y, jac):
    """(1 − fraction)·gaussian(σ/√(2 ln 2)) + fraction·lorentzian(σ)."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
    sigma = _positive(p_[2])
    inverse, ln2 = 1.0 / sigma, math.log(2.0)
    norm_g, norm_l = inverse * math.sqrt(ln2 / math.pi), inverse / math.pi
    for i in range(n):
        t = (x_[i] - p_[1]) * inverse
        q = 1.0 / (1.0 + t * t)
        g, lor = norm_g * exp_below(-ln2 * t * t), norm_l * q
        mixed_g, mixed_l = (1.0 - p_[3]) * g, p_[3] * lor
        y_[i] = p_[0] * (mixed_g + mixed_l)
        jac_[0, i] = mixed_g + mixed_l
        jac_[1, i] = 2.0 * p_[0] * t * inverse * (ln2 * mixed_g + q * mixed_l)
        jac_[2, i] = p_[0] * inverse * (mixed_g * (2.0 * ln2 * t * t - 1.0) + mixed_l * (2.0 * q * t * t - 1.0))
        jac_[3, i] = p_[0] * (lor - g)


def exponential(n, k, x, p, aux, aux_size, y, jac):
    """Amplitude · exp(−x/decay)."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
    decay = _not_zero(p_[1])
    for i in range(n):
        e = math.exp(-x_[i] / decay)
        y_[i] = p_[0] * e
        jac_[0, i] = e
        jac_[1, i] = y_[i] * x_[i] / (decay * decay)


def powerlaw(n, k, x, p, aux, aux_size, y, jac):
    """Amplitude · x^exponent."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
    for i in range(n):
        e = x_[i] ** p_[1]
        y_[i] = p_[0] * e
        jac_[0, i] = e
        jac_[1, i] = y_[i] * math.log(x_[i]) if x_[i] > 0.0 else 0.0


def sine(n, k, x, p, aux, aux_size, y, jac):
    """Amplitude · sin(frequency·x + shift)."""
    x_, p_, y_, jac_ = carray(x, n), carray(p, k), carray(y, n), carray(jac, (k, n))
    for i in range(n):
        phase = p_[1] * x_[i] + p_[2]
        s, c = math.sin(phase), p_[0] * math.cos(phase)
        y_[i] = p_[0] * s
        jac_[0, i] = s
        jac_[1, i] = c * x_[i]
        jac_[2, i] = c


# ---- scalar functions whose derivatives are taken numerically -----------------------------


@_jit
def _gaussian(x, amplitude, center, sigma):
    t = x - center
    return amplitude / _positive(S2PI * sigma) * math.exp(-t * t / _positive(2.0 * sigma * sigma))


@_jit
def _voigt(x, amplitude, center, sigma, gamma):
    scale = _positive(sigma * S2)
    return amplitude * faddeeva(complex((x - center) / scale, gamma / scale)).real / _positive(sigma * S2PI)


@_jit
def _split_lorentzian(x, p, aux):
    left, right = _positive(p[2]), _positive(p[3])
    width = left if x < p[1] else right
    t = x - p[1]
    return 2.0 * p[0] / (math.pi * (left + right)) * width * width / (width * width + t * t)


@_jit
def _moffat(x, p, aux):
    t = (x - p[1]) / _positive(p[2])
    return p[0] / (t * t + 1.0) ** p[3]


@_jit
def _pearson4(x, p, aux):
    sigma, expon, skew = _positive(p[2]), _positive(p[3]), p[4]
    t = (x - p[1]) / sigma
    log_norm = 2.0 * (lgamma_real(expon, 0.5 * skew) - math.lgamma(expon)) - betaln(expon - 0.5, 0.5)
    return p[0] / sigma * math.exp(log_norm - expon * math.log1p(t * t) - skew * math.atan(t))


@_jit
def _pearson7(x, p, aux):
    sigma, expon = _positive(p[2]), _positive(p[3])
    t = (x - p[1]) / sigma
    scale = math.gamma(expon) / (math.gamma(0.5) * math.gamma(expon - 0.5))
    if not np.isfinite(scale):
        scale = math.exp(math.lgamma(expon) - math.lgamma(0.5) - math.lgamma(expon - 0.5))
    return p[0] * scale * (1.0 + t * t) ** (-expon) / sigma


@_jit
def _students_t(x, p, aux):
    sigma = _positive(p[2])
    t, half = x - p[1], (sigma + 1.0) / 2.0
    norm = math.exp(math.lgamma(half) - math.lgamma(sigma / 2.0)) / math.sqrt(sigma * math.pi)
    return p[0] * norm * (1.0 + t * t / sigma) ** (-half)


@_jit
def _breit_wigner(x, p, aux):
    t, half = x - p[1], p[2] / 2.0
    return p[0] * (p[3] * half + t) ** 2 / (half * half + t * t)


@_jit
def _lognormal(x, p, aux):
    if x <= 0.0:
        return np.nan
    sigma = p[2]
    t = math.log(x) - p[1]
    return p[0] / (x * _positive(sigma * S2PI)) * math.exp(-t * t / _positive(2.0 * sigma * sigma))


@_jit
def _damped_oscillator(x, p, aux):
    ratio = x / _positive(abs(p[1]))
    return p[0] / math.sqrt((1.0 - ratio * ratio) ** 2 + (2.0 * p[2] * ratio) ** 2)


@_jit
def _dho(x, p, aux):
    amplitude, center, sigma, gamma = p[0], p[1], p[2], p[3]
    factor = amplitude * sigma / math.pi
    if abs(x) <= 1.0e-8:
        return factor * 4.0 * gamma * center / (center * center + sigma * sigma) ** 2
    bose = 1.0 - math.exp(-x / _positive(gamma))
    if np.isnan(bose) or abs(bose) <= TINY:
        bose = TINY
    lower = 1.0 / ((x - center) ** 2 + sigma * sigma)
    upper = 1.0 / ((x + center) ** 2 + sigma * sigma)
    return factor * (lower - upper) / bose


@_jit
def _expgaussian(x, p, aux):
    # Where exp overflows and erfc vanishes their product is exp(−t²/2)·erfcx(z): the same, evaluated safely.
    sigma, gamma = p[2], p[3]
    t = (x - p[1]) / _positive(sigma)
    z = (gamma * sigma - t) / S2
    if z > 0.0:
        tail = math.exp(-0.5 * t * t) * faddeeva(complex(0.0, z)).real
    else:
        tail = math.exp(gamma * sigma * (0.5 * gamma * sigma - t)) * math.erfc(z)
    return p[0] * gamma / 2.0 * tail


@_jit
def _doniach(x, p, aux):
    sigma, rest = p[2], 1.0 - p[3]
    t = (x - p[1]) / _positive(sigma)
    phase = math.cos(math.pi * p[3] / 2.0 + rest * math.atan(t))
    return p[0] / _positive(sigma**rest) * phase / (1.0 + t * t) ** (rest / 2.0)


@_jit
def _skewed_gaussian(x, p, aux):
    lean = 1.0 + math.erf(p[3] * (x - p[1]) / _positive(S2 * p[2]))
    return lean * _gaussian(x, p[0], p[1], p[2])


@_jit
def _skewed_voigt(x, p, aux):
    lean = 1.0 + math.erf(p[4] / _positive(S2 * p[2]) * (x - p[1]))
    return lean * _voigt(x, p[0], p[1], p[2], p[3])


@_jit
def _thermal(x, p, aux):
    # aux[0] is the offset: −1 Bose, 0 Maxwell, 1 Fermi. lmfit adds a tiny imaginary part against 1/0.
    d = p[0] * math.exp((x - p[1]) / _not_zero(p[2])) + aux[0]
    return d / (d * d + TINY * TINY) if abs(d) < 1.0e150 else 1.0 / d


@_jit
def _bose(x, p, aux):
    d = math.exp((x - p[1]) / _not_zero(p[2])) - 1.0
    return p[0] / (d if abs(d) >= TINY * TINY else TINY * TINY)


@_jit
def _fermi(x, p, aux):
    return p[0] / (math.exp((x - p[1]) / _not_zero(p[2])) + 1.0)


@_jit
def _logistic(x, p, aux):
    return p[0] * (1.0 - 1.0 / (1.0 + math.exp((x - p[1]) / _positive(p[2]))))


@_jit
def _rise(form, t):
    if form == 0.0:
        return min(1.0, max(0.0, t + 0.5))
    if form == 1.0:
        return 0.5 + math.atan(t) / math.pi
    if form == 2.0:
        return 0.5 * (1.0 + math.erf(t))
    return 1.0 - 1.0 / (1.0 + math.exp(t))


@_jit
def _step(x, p, aux):
    # aux[0] is the form: 0 linear, 1 arctan, 2 erf, 3 logistic.
    sigma = p[2]
    return p[0] * _rise(aux[0], np.sign(sigma) * (x - p[1]) / max(TINY * TINY, abs(sigma)))


@_jit
def _rectangle(x, p, aux):
    up, down = (x - p[1]) / _positive(p[2]), (p[3] - x) / _positive(p[4])
    if aux[0] == 0.0:
        return 0.5 * p[0] * (min(1.0, max(-1.0, up)) + min(1.0, max(-1.0, down)))
    return p[0] * (_rise(aux[0], up) + _rise(aux[0], down) - 1.0)


@_jit
def _expsine(x, p, aux):
    return p[0] * math.sin(p[1] * x + p[2]) * math.exp(-x * p[3])


@_jit
def _expression(x, p, aux):
    code = aux.reshape(-1, 2)
    return run_code(code, p, x, np.empty(code.shape[0] + 1))


def _leaf_of(function):
    """Make a leaf from a scalar function(x, p, aux), its derivatives by central differences."""

    def leaf(n, k, x, p, aux, aux_size, y, jac):
        numeric(function, carray(x, n), carray(p, k), carray(aux, aux_size), carray(y, n), carray(jac, (k, n)))

    return leaf


_CLOSED = {f.__name__: f for f in (basis, gaussian, lorentzian, voigt, pvoigt, exponential, powerlaw, sine)}
_NUMERIC = {
    f.__name__.lstrip("_"): f
    for f in (
        _split_lorentzian, _moffat, _pearson4, _pearson7, _students_t, _breit_wigner, _lognormal, _damped_oscillator,
        _dho, _expgaussian, _doniach, _skewed_gaussian, _skewed_voigt, _thermal, _bose, _fermi, _logistic, _step,
        _rectangle, _expsine, _expression,
    )
}  # fmt: skip
LEAVES = (*_CLOSED, *_NUMERIC)
_compiled: dict = {}


def leaf_address(name):
    """Return the address of a built-in leaf, compiled when first asked for."""
    if name not in _compiled:
        closed = name in _CLOSED
        function = _CLOSED[name] if closed else _leaf_of(_NUMERIC[name])
        _compiled[name] = callback(LEAF, function, cache=closed)
    return _compiled[name].address
