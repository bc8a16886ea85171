"""The constants of a Bragg-edge model on one axis, as the kernels take them: one array, and where in it what is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scanfold.bragg.crystals import HM, TABLE_STEP, Crystal, crystal, smooth_table

if TYPE_CHECKING:
    from scanfold.bragg.transmission import Transmission

Array = npt.NDArray[np.float64]

#: Widest cell (Å), on which a transmission between edges counts as constant.
WIDEST = 0.005
#: How far (Å) cells go beyond the data, so that what the response brings in from there is physics too.
MARGIN = 0.3
#: Shortest wavelength (Å) of any cell.
SHORTEST = 0.05
#: Nodes of a response that depends on the wavelength, per unit of ln λ.
NODES_PER_E = 20
#: By how much a lattice may shrink (or the calibration move) before planes that were beyond the data are missed.
ROOM = 0.9

RESPONSES = {"none": 0, "jorgensen": 1, "full_jorgensen": 1, "square": 2, "measured": 3}
TERMS = {"none": 0, "constant": 1, "polynomial3": 3, "sample_dependent": 3, "polynomial5": 5}
EXTINCTIONS = {"sabine": 1, "bc_gauss": 2, "bc_lorentz": 3}
_SHAPE = ("α0", "α1", "β0", "β1", "σ0", "σ1", "σ2")


@dataclass(frozen=True)
class Grid:
    """Equal cells along the measured wavelength, and where each bin lies on them.

    Attributes
    ----------
    start, step : float
        In Å.
    cells : int
    bins : array of shape (n, 5)
        First and last cell of each bin, and the weights of both and of those between them.
    """

    start: float
    step: float
    cells: int
    bins: Array


def bin_edges(x: Array, width: float | None) -> tuple[Array, Array]:
    """Return where bins of given centres begin and end: of one width, or up to the midpoints."""
    if width is not None or x.size < 2:
        half = 0.5 * (width if width is not None else 1e-3)
        return x - half, x + half
    order = np.argsort(x)
    middle = 0.5 * (x[order][1:] + x[order][:-1])
    low = np.concatenate([[2 * x[order][0] - middle[0]], middle])
    high = np.concatenate([middle, [2 * x[order][-1] - middle[-1]]])
    back = np.argsort(order)
    return low[back], high[back]


def grid_of(function: Transmission, x: Array) -> Grid:
    """Return the cells for the bins of an axis: whole numbers of them to a bin, where the bins are equal."""
    low, high = bin_edges(x, function.bin_width)
    narrowest = float((high - low).min())
    step = narrowest / (_finer(function) * max(1, math.ceil(narrowest / WIDEST - 1e-6)))
    margin = 0.0 if function.response == "none" else MARGIN
    before = math.ceil(margin / step)
    while before > 0 and low.min() - before * step < SHORTEST:
        before -= 1
    start = float(low.min()) - before * step
    places = (np.stack([low, high], axis=1) - start) / step
    rounded = np.round(places)
    places = np.where(np.abs(places - rounded) < 1e-6, rounded, places)
    cells = math.ceil(float(places.max())) + math.ceil(margin / step)
    return Grid(start, step, cells, shares(*places.T))


def shares(low: Array, high: Array) -> Array:
    """Return which cells bins begin and end in, and the weights (n, 5) that make means over [low, high) of them.

    Examples
    --------
    >>> shares(np.array([0.0, 2.5]), np.array([2.0, 2.75])).tolist()
    [[0.0, 1.0, 0.5, 0.5, 0.5], [2.0, 2.0, 1.0, 0.0, 4.0]]
    """
    first, last = np.floor(low), np.ceil(high) - 1.0
    width = high - low
    alone = first == last
    head = np.where(alone, width, first + 1.0 - low)
    tail = np.where(alone, 0.0, high - last)
    return np.stack([first, last, head / width, tail / width, 1.0 / width], axis=1)


def _finer(function: Transmission) -> int:
    """Return into how many cells a bin is cut for a response that knows cells only, not the edges in them."""
    if function.response in ("square", "measured"):
        return 4
    values = dict(zip(function.names, function.values, strict=True))
    gaussian = any(values.get(n, 0.0) != 0.0 or n in function.active for n in ("σ0", "σ1", "σ2"))
    return 2 if gaussian and not function.compat else 1


def head(function: Transmission, x: Array, derivatives: bool) -> Array:
    """Return all constants of a model on an axis."""
    from scanfold.bragg import _sigma_kernels as k

    grid = grid_of(function, x)
    low, high = _true_range(function, grid)
    first, last = math.floor(low / TABLE_STEP), math.ceil(high / TABLE_STEP) + 2
    parts: list[Array] = [np.zeros(k.HEAD_SIZE)]
    size = k.HEAD_SIZE

    def put(values: Array) -> int:
        nonlocal size
        parts.append(np.ascontiguousarray(values, np.float64).ravel())
        size += parts[-1].size
        return size - parts[-1].size

    top = parts[0]
    per_microsecond = HM / function.flight_path * 1e-6
    temperatures = function.temperatures
    nodes, node_start, node_step = _nodes(function, grid)
    numbers = {
        k.CELLS: grid.cells, k.START: grid.start, k.STEP: grid.step, k.PER_MICROSECOND: per_microsecond,
        k.PER_SECOND: 1e6 * per_microsecond, k.RESPONSE: RESPONSES[function.response],
        k.BACKGROUND: TERMS[function.background], k.PHASES: len(function.phases), k.TABLE_START: first * TABLE_STEP,
        k.TABLE_STEP: TABLE_STEP, k.TABLE_SIZE: last - first, k.TEMPERATURES: len(temperatures), k.NODES: nodes,
        k.NODE_START: node_start, k.NODE_STEP: node_step,
        k.EXTINCTION: max((EXTINCTIONS[m.ext_method] for _, m in function.phases if m.ext_l is not None), default=0),
    }  # fmt: skip
    for at, value in numbers.items():
        top[at] = value
    active = np.array([n in function.active for n in function.names], float) * derivatives
    top[k.ROLES], top[k.ACTIVE] = put(_roles(function)), put(active)
    top[k.BINS], top[k.TEMPERATURES_AT] = put(grid.bins), put(np.array(temperatures))
    taps = _taps(function, grid)
    top[k.TAPS], top[k.TAPS_AT] = taps.size, put(taps)
    total = sum(material.weight for _, material in function.phases)
    phases = []
    for i, (_, material) in enumerate(function.phases):
        # Planes are listed for data that reach down to `low`, with room for the lattice to change.
        cells = [crystal(material, t, ROOM * low) for t in temperatures]
        tables = [smooth_table(material, t, first, last - first) for t in temperatures]
        entry = _phase(function, i, cells[0])
        entry[k.WEIGHT] = material.weight / total
        entry[k.DISPLACEMENTS_AT] = put(np.array([c.displacements for c in cells]))
        entry[k.PLANES_AT] = put(cells[0].planes)
        entry[k.TABLE_AT] = put(np.array(tables))
        phases.append(entry)
    top[k.PHASE_AT] = put(np.array(phases))
    top[k.DENSITY] = sum(
        e[k.WEIGHT] * e[k.ATOMS] / (e[k.VOLUME] * np.prod(e[k.LENGTH_A : k.LENGTH_C + 1])) for e in phases
    )
    constants = np.concatenate(parts)
    return _with_sections(function, constants) if derivatives and not function.compat else constants


def _with_sections(function: Transmission, constants: Array) -> Array:
    """Return the constants with the cross sections at their end, where none of what they depend on varies."""
    from scanfold.bragg import _sigma_kernels as k
    from scanfold.bragg import _transmission_kernels as kernels

    varying = [i for i, name in enumerate(function.names) if name in function.active and name != "thickness"]
    if any(kernels.acts_before(constants, i) for i in varying):
        return constants
    constants[k.PREPARED] = constants.size
    return np.concatenate([constants, kernels.prepared(np.array(function.values), constants)])


def _true_range(function: Transmission, grid: Grid) -> tuple[float, float]:
    """Return which true wavelengths the cells can be at."""
    low, high = grid.start, grid.start + grid.cells * grid.step
    moves = any(n in function.names for n in ("L0", "t0"))
    room = ROOM if moves else 1.0
    return max(0.5 * SHORTEST, room * low - 1e-3), high / room + 1e-3


def _nodes(function: Transmission, grid: Grid) -> tuple[int, float, float]:
    """Return at how many wavelengths a response is evaluated, ln of the first, and their step in ln λ."""
    if function.response != "full_jorgensen":
        return 1, 0.0, 1.0
    low, high = math.log(grid.start), math.log(grid.start + grid.cells * grid.step)
    count = max(4, math.ceil((high - low) * NODES_PER_E) + 1)
    return count, low, (high - low) / (count - 1)


def _roles(function: Transmission) -> Array:
    """Return the index of the parameter that plays each part, −1 where there is none."""
    shape = ("", "", "", "", "width", "", "") if function.response == "square" else _SHAPE
    words = ("thickness", "norm", "temp", "k", "L0", "t0", *(f"bg{i}" for i in range(5)), *shape)
    return np.array([function.names.index(w) if w in function.names else -1 for w in words], float)


def _phase(function: Transmission, i: int, cell: Crystal) -> Array:
    """Return the entry of a phase, but where its parts are."""
    from scanfold.bragg import _sigma_kernels as k

    material = function.phases[i][1]
    own = (material.a, material.b, material.c)
    number = str(i + 1) if len(function.phases) > 1 else ""

    def index(word: str) -> int:
        return function.names.index(word) if word in function.names else -1

    lengths = [own[j] or cell.lengths[j] for j in range(3)]
    lengths = [lengths[cell.tied[j]] for j in range(3)]
    entry = np.zeros(k.PHASE_SIZE)
    numbers = {
        k.ATOMS: cell.atoms, k.VOLUME: cell.shape, k.SPECIES: cell.displacements.size, k.PLANES: len(cell.planes),
        k.CONTRAST: cell.contrast, k.LENGTH_A: lengths[0], k.LENGTH_B: lengths[1], k.LENGTH_C: lengths[2],
        k.EXT_BLOCK: material.ext_l or 0.0, k.EXT_SPREAD: material.ext_g or 0.0,
        k.EXT_GRAIN: material.ext_L or 0.0, k.SANS: material.sans or 0.0,
        k.LOG_RATIO: index(f"p{i + 1}") if i < len(function.phases) - 1 else -1,
        k.PARAM_A: index("abc"[cell.tied[0]] + number), k.PARAM_B: index("abc"[cell.tied[1]] + number),
        k.PARAM_C: index("abc"[cell.tied[2]] + number), k.PARAM_BLOCK: index(f"ext_l{number}"),
        k.PARAM_SPREAD: index(f"ext_g{number}"), k.PARAM_GRAIN: index(f"ext_L{number}"),
        k.PARAM_SANS: index(f"sans{number}"),
    }  # fmt: skip
    for at, value in numbers.items():
        entry[at] = value
    return entry


def _taps(function: Transmission, grid: Grid) -> Array:
    """Return taps on the cells or, in nbragg's form, the grid of its response: in 0.1 of a step, or in µs."""
    if function.compat and function.response == "jorgensen":
        return np.arange(-20, 20, 0.1)
    if function.compat and function.response == "full_jorgensen":
        return np.arange(-0.005, 0.005, 10e-6) * 1e6
    return measured_taps(function, grid) if function.response == "measured" else np.zeros(0)


def measured_taps(function: Transmission, grid: Grid) -> Array:
    """Return a measured response as taps on the cells: its trapezoids, shared out linearly between cells."""
    assert function.measured is not None
    delay, weight = (np.asarray(v, np.float64) for v in function.measured)
    position = delay * HM / function.flight_path * 1e-6 / grid.step
    half = int(np.ceil(np.abs(position).max())) + 1
    fine = np.linspace(position[0], position[-1], 16 * (2 * half + 1) + 1)
    amount = np.interp(fine, position, weight)
    taps = np.zeros(2 * half + 1)
    below = np.floor(fine).astype(int)
    np.add.at(taps, half + below, amount * (1 - (fine - below)))
    np.add.at(taps, half + below + 1, amount * (fine - below))
    return np.asarray(taps / taps.sum())
