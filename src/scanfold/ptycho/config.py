"""What a simulation and the training on it agree about: frozen, passed by hand, never global."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scanfold.conventions import InputError, InputTypeError
from scanfold.grouping.options import whole

#: Numbers from here on are taken for infinite: amplitudes are float32.
HUGE = 1e36
#: Pixels along a side of a frame, and of an object.
MOST_FRAME, MOST_OBJECT = 2**14, 2**20


@dataclass(frozen=True)
class ModelConfig:
    """The frames that a model takes.

    Parameters
    ----------
    N : int
        Pixels along one side of a frame.
    gridsize : int
        Frames along one side of a group; a group has ``gridsize**2`` channels.

    Raises
    ------
    InputError, InputTypeError
        If one of them is no whole number from 1 on.

    Examples
    --------
    >>> ModelConfig(N=64, gridsize=2).channels
    4
    """

    N: int = 64
    gridsize: int = 1

    def __post_init__(self) -> None:
        whole("N", self.N, most=MOST_FRAME)
        whole("gridsize", self.gridsize)

    @property
    def channels(self) -> int:
        """Frames in a group."""
        return self.gridsize**2


@dataclass(frozen=True)
class TrainingConfig:
    """What is trained on.

    Parameters
    ----------
    model : ModelConfig
    n_groups : int
        Groups; a simulation makes as many frames.
    nphotons : float
        Mean photons in a frame.
    neighbor_count : int
        K, the nearest neighbours that a group is drawn from.

    Raises
    ------
    InputError, InputTypeError
        If one of them cannot be.

    Examples
    --------
    >>> TrainingConfig(ModelConfig(64, gridsize=2), n_groups=2000).nphotons
    1000000000.0
    """

    model: ModelConfig
    n_groups: int = 512
    nphotons: float = 1e9
    neighbor_count: int = 7

    def __post_init__(self) -> None:
        if not isinstance(self.model, ModelConfig):
            raise InputTypeError(f"model= takes a ModelConfig(N=…, gridsize=…); found {type(self.model).__name__}")
        whole("n_groups", self.n_groups)
        whole("neighbor_count", self.neighbor_count)
        positive("nphotons", self.nphotons)


def positive(name: str, value: object, *, zero: bool = False) -> float:
    """Return a finite number above 0, or from 0 on."""
    expected = "at least 0" if zero else "above 0"
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputTypeError(f"{name}={value!r}; expected a number {expected}")
    if not value < HUGE or value < 0 or (value == 0 and not zero):
        raise InputError(f"{name}={value}; expected a finite number {expected}")
    return float(value)


def as_array(name: str, value: Any) -> np.ndarray:
    """Return an array, of whatever it holds; raise where lists of unequal lengths make none."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InputTypeError(f"{name} is a {type(value).__name__} that makes no array: {error}") from None


def streams(seed: int, count: int) -> list[np.ndarray]:
    """Return `count` keys of two words that share no random numbers, spawned from one seed.

    Examples
    --------
    >>> [key.tolist() for key in streams(0, 2)] == [key.tolist() for key in streams(0, 3)][:2]
    True
    """
    children = np.random.SeedSequence(whole("seed", seed, least=0)).spawn(count)
    return [child.generate_state(2, np.uint32).astype(np.uint64) for child in children]
