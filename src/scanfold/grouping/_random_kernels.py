"""Random numbers by counter: what is drawn for a group depends on its number and the seed, on nothing drawn before.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195); the
permutation is a Feistel network walked until it falls into the range (Black and Rogaway 2002,
doi:10.1007/3-540-45760-7_9). NumPy alone: compiling would cost more than a plan of a few hundred groups.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
#: Up to this many numbers are permuted by sorting random words; more are walked, which needs no memory.
SORTED = 2**16
_ROUNDS = 8
#: Numbers that are walked at a time: so many stay in the processor's cache.
_AT_ONCE = 2**14


def key(seed: int, *use: int) -> np.uint64:
    """Return the key of one stream of a seed; different uses never share numbers."""
    return np.uint64(np.random.SeedSequence([int(seed), *use]).generate_state(1, np.uint64)[0])


def mix(words: Words) -> Words:
    """Scramble 64-bit words; one to one."""
    z = words + _GOLDEN
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


def below(numbers: npt.ArrayLike, draw: int, bound: Any, stream: np.uint64) -> Indices:
    """Draw for each of some numbered things an integer in [0, bound); `draw` tells several draws of one apart."""
    words = mix(mix(np.asarray(numbers).astype(np.uint64) ^ stream) + np.uint64(draw))
    return (((words >> _S32) * np.asarray(bound).astype(np.uint64)) >> _S32).astype(np.int64)


def permuted(numbers: npt.ArrayLike, count: int, stream: np.uint64) -> Indices:
    """Return where a random permutation of range(count) sends some numbers."""
    if count <= SORTED:
        return _shuffled(count, stream)[np.asarray(numbers)]
    return _walked(np.asarray(numbers), count, stream, range(_ROUNDS))


def unpermuted(numbers: npt.ArrayLike, count: int, stream: np.uint64) -> Indices:
    """Undo `permuted`."""
    if count <= SORTED:
        inverse = np.empty(count, np.int64)
        inverse[_shuffled(count, stream)] = np.arange(count)
        return inverse[np.asarray(numbers)]
    return _walked(np.asarray(numbers), count, stream, range(_ROUNDS - 1, -1, -1))


def _shuffled(count: int, stream: np.uint64) -> Indices:
    return np.argsort(mix(np.arange(count, dtype=np.uint64) ^ stream), kind="stable")


def _walked(numbers: npt.NDArray[Any], count: int, stream: np.uint64, rounds: range) -> Indices:
    out = np.empty(numbers.size, np.int64)
    flat = numbers.ravel()
    for first in range(0, flat.size, _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        out[some] = _walk(flat[some], count, stream, rounds)
    return out.reshape(numbers.shape)


def _walk(numbers: npt.NDArray[Any], count: int, stream: np.uint64, rounds: range) -> Indices:
    bits = max(1, math.ceil(math.log2(count) / 2))
    words = numbers.astype(np.uint64)
    words = _feistel(words, bits, stream, rounds)
    outside = np.flatnonzero(words >= np.uint64(count))
    while outside.size:
        again = _feistel(words[outside], bits, stream, rounds)
        words[outside] = again
        outside = outside[again >= np.uint64(count)]
    return words.astype(np.int64)


def _feistel(words: Words, bits: int, stream: np.uint64, rounds: range) -> Words:
    """Permute words of ``2 * bits`` bits; rounds in the opposite order undo it."""
    half, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    left, right = words >> half, words & mask
    back = rounds.step < 0
    for i in rounds:
        round_key = mix(np.array([stream + np.uint64(i)], np.uint64))
        if back:
            left, right = right ^ (mix(left ^ round_key) & mask), left
        else:
            left, right = right, left ^ (mix(right ^ round_key) & mask)
    return (left << half) | right
