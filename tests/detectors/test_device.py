"""The device: refused where it is missing, and the same products through CuPy's interface, played by NumPy."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from scanfold import detectors as det
from scanfold.conventions import InputError

from .scans import disc_scan


def test_a_device_that_is_not_there_is_refused_before_reading():
    scan, labels, _ = disc_scan()
    tmpl = det.templates(det.cluster_statistics(scan, labels))
    gates = det.gates(tmpl)
    with pytest.raises(InputError, match="expected cpu, or cuda:0"):
        det.virtual_maps(scan, tmpl, gates, device="tpu")
    if "cupy" not in sys.modules:
        with pytest.raises(InputError, match=r"scanfold\[gpu\]"):
            det.virtual_maps(scan, tmpl, gates, device="cuda:0")


def test_products_through_cupy_are_those_of_the_cpu(monkeypatch):
    scan, labels, _ = disc_scan()
    tmpl = det.templates(det.cluster_statistics(scan, labels, log=True))
    gates = det.gates(tmpl)
    expected = det.virtual_maps(scan, tmpl, gates)
    chosen = []

    def device(number: int):
        chosen.append(number)
        return nullcontext()

    runtime = SimpleNamespace(getDeviceCount=lambda: 2)
    cuda = SimpleNamespace(Device=device, runtime=runtime)
    fake = SimpleNamespace(cuda=cuda, asarray=np.asarray, asnumpy=np.asarray, float32=np.float32)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    found = det.virtual_maps(scan, tmpl, gates, device="cuda:1")
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)
    np.testing.assert_allclose(found["com_x"], expected["com_x"], atol=1e-5)
    assert set(chosen) == {1}
