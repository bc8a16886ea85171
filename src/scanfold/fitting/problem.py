"""One fit, spelled out: everything a block needs to know, small and picklable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import lmfit
import numpy as np
import numpy.typing as npt

from scanfold.conventions import InputError, InputTypeError, unknown
from scanfold.fitting.components import Component
from scanfold.fitting.parameters import ParameterTable

Array = npt.NDArray[np.float64]

#: Likelihoods, and the number by which kernels know them.
LIKELIHOODS = {"gaussian": 0, "poisson": 1, "binomial": 2}


class Raw(NamedTuple):
    """What an engine gives for N positions, P parameters, m of them free.

    values, stderr (N, P); cov (N, m, m); chisqr, squares (N), squares being the unweighted sum of squared
    residuals; at_bound (N); nfev, code (N), codes as in `_lm_kernels`; stages (N, S, P) or (N, 0, P).
    """

    values: Array
    stderr: Array
    cov: Array
    chisqr: Array
    squares: Array
    at_bound: npt.NDArray[np.bool_]
    nfev: npt.NDArray[np.int64]
    code: npt.NDArray[np.int64]
    stages: Array

    def take(self, which: npt.NDArray[Any] | slice) -> Raw:
        """Return some of the positions; a slice is a view."""
        return Raw._make(a[which] for a in self)


class Rows(NamedTuple):
    """What an engine is given for N positions of n points.

    data (N, n); weights, keep (N, n) or (N, 0) where there are none or no gaps; start, low, high (N, P).
    """

    data: Array
    weights: Array
    keep: npt.NDArray[np.bool_]
    start: Array
    low: Array
    high: Array

    def take(self, which: npt.NDArray[Any] | slice) -> Rows:
        """Return some of the positions."""
        return Rows._make(a[which] for a in self)

    @property
    def used(self) -> npt.NDArray[np.int64]:
        """Number of points used at each position (N)."""
        if self.keep.shape[1]:
            return np.asarray(self.keep.sum(axis=1))
        return np.full(self.data.shape[0], self.data.shape[1])


@dataclass(frozen=True)
class Stages:
    """Stages of a fit: which parameters vary in each.

    Parameters
    ----------
    vary : mapping of str to str or sequence of str
        Stage name to parameter names, glob patterns, or ``"all"``.
    style : {"rietveld", "staged"}
        Each stage adds to those before it, or stands alone.
    keep : bool
        Also return the parameters after each stage, as ``stage_values(stage, param)``.

    Examples
    --------
    >>> Stages({"background": ["slope", "intercept"], "peak": "all"}).style
    'rietveld'
    """

    vary: Mapping[str, str | Sequence[str]]
    style: str = "rietveld"
    keep: bool = False

    def __post_init__(self) -> None:
        if self.style not in ("rietveld", "staged"):
            raise unknown("style of stages", self.style, ("rietveld", "staged"))
        if not isinstance(self.vary, Mapping) or not self.vary:
            raise InputTypeError("stages must be a mapping of stage names to the parameters that vary in them")


@dataclass(frozen=True)
class Problem:
    """A fit, without its data.

    Attributes
    ----------
    model, params : lmfit objects
        Of the reference engine; None in a problem that only compiled code works on.
    names : tuple of str
    free : tuple of tuples of int
        The parameters that vary in each stage; the last stage's are those of the errors.
    stage_names : tuple of str
        What the stages are called.
    poisson : int
        1 for counts, 2 for counts beside reference counts, which the weights then hold; 0 for least squares.
    expressions : tuple of (int, code)
        Targets and stack-machine code, in order; the first `feeding` feed the model.
    """

    x: Array
    names: tuple[str, ...]
    components: tuple[Component, ...]
    ops: tuple[int, ...]
    value: Array
    low: Array
    high: Array
    free: tuple[tuple[int, ...], ...]
    expressions: tuple[tuple[int, Array], ...]
    feeding: int
    poisson: int
    max_nfev: int
    keep_stages: bool
    engine: str
    method: str = "leastsq"
    model: lmfit.Model | None = field(default=None, compare=False)
    params: lmfit.Parameters | None = field(default=None, compare=False)
    own: tuple[tuple[int, int], ...] = ()
    stage_names: tuple[str, ...] = ("all",)


def stage_indices(stages: Stages | Mapping[str, Any] | None, table: ParameterTable) -> tuple[tuple[int, ...], ...]:
    """Return the indices of the parameters that vary in each stage.

    Raises
    ------
    InputError
        If a pattern matches no varying parameter.
    """
    everything = tuple(int(i) for i in np.flatnonzero(table.vary))
    if stages is None:
        return (everything,)
    stages = stages if isinstance(stages, Stages) else Stages(stages)
    result: list[tuple[int, ...]] = []
    for name, patterns in stages.vary.items():
        wanted = [patterns] if isinstance(patterns, str) else list(patterns)
        chosen: set[int] = set()
        for pattern in wanted:
            hits = [i for i in everything if pattern == "all" or fnmatchcase(table.names[i], pattern)]
            if not hits:
                raise unknown(f"parameter of stage {name!r}:", pattern, [table.names[i] for i in everything])
            chosen.update(hits)
        if stages.style == "rietveld" and result:
            chosen.update(result[-1])
        if not chosen:
            raise InputError(f"stage {name!r} varies no parameter")
        result.append(tuple(sorted(chosen)))
    return tuple(result)
