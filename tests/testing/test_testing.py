"""The proofs that other tests lean on fail when they should."""

from __future__ import annotations

import numpy as np
import pytest

from scanfold import testing


def test_a_result_that_depends_on_the_chunks_is_found():
    scan, _ = testing.peak_scan({"y": 4, "x": 3}, points=10)

    def order(data):
        return data.copy(data=data.data.map_blocks(lambda b: np.full(b.shape, b.shape[0], float), dtype=float))

    with pytest.raises(AssertionError, match=r"\{'y': 1\} and \{'y': 2\} give different results"):
        testing.assert_chunk_invariant(order, scan, [{"y": 1}, {"y": 2}])


def test_truth_makes_the_scan():
    scan, truth = testing.peak_scan({"y": 2, "x": 3}, counts=False)
    position = {"y": 1, "x": 2}
    t = {name: float(value[position]) for name, value in truth.items()}
    x = scan["energy"].values
    expected = t["amplitude"] / t["sigma"] / np.sqrt(2 * np.pi) * np.exp(-0.5 * ((x - t["center"]) / t["sigma"]) ** 2)
    np.testing.assert_allclose(scan[position], expected + t["slope"] * x + t["intercept"], rtol=1e-12)
