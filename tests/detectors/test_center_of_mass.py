"""Centres of mass against plain loops, closed forms, and what makes them NaN."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import detectors as det
from scanfold.conventions import InputError

from .scans import CENTER, CHUNKS, DETECTOR, SHAPE, disc_scan, loop_moments

NAMES = ("com_y", "com_x", "com_y_stderr", "com_x_stderr")


def weights_of(gate, center):
    radius = np.hypot(np.arange(DETECTOR[0])[:, None] - center[0], np.arange(DETECTOR[1]) - center[1])
    if gate is None:
        return np.ones(DETECTOR)
    inner, outer = (-1, gate[1]) if gate[0] == "disc" else gate[1:]
    return (radius <= outer) & (radius > inner)


@pytest.mark.parametrize("gate", [None, ("disc", 7.5), ("annulus", 4, 11.2), ("disc", 100)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "float32"])
def test_moments_are_those_of_a_loop(dtype, gate):
    scan, _, _ = disc_scan(dtype)
    maps = det.center_of_mass(scan.chunk(CHUNKS[2]), gate=gate, center=CENTER).compute()
    for i, j in [(0, 0), (6, 10), (3, 5)]:
        total, com, error = loop_moments(scan.values[i, j], weights_of(gate, CENTER), np.array(CENTER))
        found = maps.isel(y=i, x=j)
        assert float(found["total"]) == total
        np.testing.assert_allclose([found[n] for n in NAMES], [*com, *error], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("gate", [None, ("annulus", 4, 11.2)])
@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_integers_are_the_same_bits_whatever_the_chunks(dtype, gate):
    scan, _, _ = disc_scan(dtype)

    def maps(chunked: xr.DataArray) -> xr.Dataset:  # the record in the attributes names the chunks
        return det.center_of_mass(chunked, gate=gate, center=CENTER).drop_attrs()

    sf.testing.assert_chunk_invariant(maps, scan, CHUNKS)


def test_a_disc_finds_its_centre_in_one_more_read():
    scan, _, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    lazy = source.lazy(scan.dims, y=3, kx=20)
    with sf.testing.raise_if_computes():
        maps = det.center_of_mass(lazy, gate=("disc", 8))
    maps = maps.compute()
    assert source.elements == 2 * scan.size
    expected = det.center_of_mass(scan, gate=("disc", 8), center=CENTER)
    shift = float((maps["com_y"] - expected["com_y"]).mean())
    assert abs(shift) < 0.1
    source.elements = 0
    det.center_of_mass(lazy).compute()
    assert source.elements == scan.size


def test_gates_as_weights():
    scan, labels, _ = disc_scan()
    tmpl = det.templates(det.cluster_statistics(scan, labels, center=CENTER))
    gates = det.gates(tmpl)
    lazy = scan.chunk(CHUNKS[1])
    union = det.center_of_mass(lazy, gate=gates, center=CENTER).compute()
    weights = det.center_of_mass(lazy, gate=gates["union"], center=CENTER).compute()
    adaptive = det.center_of_mass(lazy, gate=gates, mode="adaptive", labels=labels, center=CENTER).compute()
    for i, j in [(0, 3), (2, 2), (6, 7)]:  # the first is noise: the union
        own = gates["union"].values if labels[i, j] < 0 else gates["gate"].values[labels[i, j]]
        for maps, weight in ((union, gates["union"].values), (weights, gates["union"].values), (adaptive, own)):
            total, com, error = loop_moments(scan.values[i, j], weight, np.array(CENTER))
            found = maps.isel(y=i, x=j)
            np.testing.assert_allclose(found["total"], total, rtol=1e-6)
            np.testing.assert_allclose([found[n] for n in NAMES], [*com, *error], rtol=1e-5, atol=2e-5)
    maps = det.virtual_maps(scan, tmpl, gates, labels=labels)
    np.testing.assert_allclose(maps["com_y"].sel(detector="adaptive"), adaptive["com_y"], atol=2e-5)


def test_weights_and_masks_are_read_by_their_dims():
    rng = np.random.default_rng(3)
    scan = xr.DataArray(rng.poisson(9, (4, 8, 8)), dims=("position", "ky", "kx"))
    gate = xr.DataArray(rng.random((8, 8)), dims=("ky", "kx"))
    bad = gate > 0.8
    expected = det.center_of_mass(scan, gate=gate, bad_pixels=bad, center=(3, 4))
    turned = det.center_of_mass(scan, gate=gate.T, bad_pixels=bad.T, center=(3, 4))
    xr.testing.assert_identical(turned.drop_attrs(), expected.drop_attrs())


def test_a_label_without_a_gate_is_looked_at_through_the_union():
    scan, labels, _ = disc_scan()
    tmpl = det.templates(det.cluster_statistics(scan, labels, center=CENTER))
    gates = det.gates(tmpl).sel(cluster=[0, 1])
    adaptive = det.center_of_mass(scan, gate=gates, mode="adaptive", labels=labels, center=CENTER)
    union = det.center_of_mass(scan, gate=gates, center=CENTER)
    unknown = (labels == 2) | (labels == -1)
    np.testing.assert_allclose(adaptive["com_x"].values[unknown], union["com_x"].values[unknown], atol=2e-5)
    assert (np.abs(adaptive["com_x"].values - union["com_x"].values)[~unknown] > 1e-3).all()


def test_empty_and_damaged_frames_are_nan_and_their_neighbours_are_not():
    scan, _, _ = disc_scan("float32")
    scan.values[1, 2] = 0
    scan.values[4, 4, 3, 3] = np.nan
    maps = det.center_of_mass(scan.chunk(CHUNKS[0]), center=CENTER).compute()
    bad = np.zeros(SHAPE, bool)
    bad[1, 2] = bad[4, 4] = True
    assert (maps["frame_valid"].values == ~bad).all()
    assert (np.isnan(maps["com_y"].values) == bad).all()
    assert float(maps["total"][1, 2]) == 0


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_bad_pixels_are_left_out_even_where_they_hold_no_number(dtype):
    scan, _, _ = disc_scan(dtype)
    bad = np.zeros(DETECTOR, bool)
    bad[3, 5] = bad[14, 26] = bad[20, 40] = True
    expected = det.center_of_mass(scan.where(~xr.DataArray(bad, dims=("ky", "kx")), 0), gate=("disc", 9), center=CENTER)
    scan.values[:, :, bad] = 65535 if dtype == "uint16" else np.nan
    found = det.center_of_mass(scan.chunk(CHUNKS[2]), gate=("disc", 9), center=CENTER, bad_pixels=bad).compute()
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_a_disc_follows_the_descan():
    scan, _, shifts = disc_scan(shift=2.0, mean=100.0)
    descan = xr.DataArray(shifts, dims=("y", "x", "axis"))
    maps = det.center_of_mass(scan.chunk(CHUNKS[0]), gate=("disc", 7), center=CENTER, descan=descan).compute()
    i, j = np.unravel_index(np.abs(shifts).max(axis=2).argmax(), SHAPE)
    radius = weights_of(("disc", 7), np.array(CENTER) + shifts[i, j])
    _, com, error = loop_moments(scan.values[i, j], radius, np.array(CENTER) + shifts[i, j])
    np.testing.assert_allclose([maps[n][i, j] for n in NAMES], [*com, *error], rtol=1e-9, atol=1e-11)
    assert float(np.hypot(maps["com_y"], maps["com_x"]).mean()) < 0.2


def test_units_and_centre_of_a_calibrated_scan():
    scan, _, _ = disc_scan()
    plain = det.center_of_mass(scan, center=CENTER)
    ky, kx = (0.02 * (np.arange(n) - c) for n, c in zip(DETECTOR, CENTER, strict=True))
    calibrated = scan.assign_coords(
        ky=("ky", ky, {"units": "1/angstrom"}), kx=("kx", -kx, {"units": "1/angstrom"}),
    )  # fmt: skip
    found = det.center_of_mass(calibrated)
    np.testing.assert_allclose(found["com_y"], 0.02 * plain["com_y"], rtol=1e-9)
    np.testing.assert_allclose(found["com_x"], -0.02 * plain["com_x"], rtol=1e-9)
    np.testing.assert_allclose(found["com_x_stderr"], 0.02 * plain["com_x_stderr"], rtol=1e-9)
    assert found["com_y"].attrs["units"] == found["com_x_stderr"].attrs["units"] == "1/angstrom"
    assert plain["com_y"].attrs["units"] == "pixel"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gate": ("disk", 5)}, "did you mean 'disc'"),
        ({"gate": ("disc", -5)}, "radius in pixels"),
        ({"gate": ("annulus", 9, 4)}, "inside out"),
        ({"gate": np.ones((5, 5))}, "shape"),
        ({"mode": "adaptve"}, "did you mean 'adaptive'"),
        ({"mode": "adaptive"}, "pass gate="),
        ({"center": (200, 3)}, "off the detector"),
        ({"center": (np.nan, 3)}, "two numbers"),
        ({"descan": xr.DataArray(np.zeros((3, 3, 2)), dims=("y", "x", "axis"))}, "descan"),
        ({"bad_pixels": np.zeros((3, 3))}, "bad_pixels"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_read(options, words):
    source = sf.testing.CountingArray(disc_scan()[0].values)
    with pytest.raises(InputError, match=words):
        det.center_of_mass(source.lazy(("y", "x", "ky", "kx"), y=3), **options)
    assert source.reads == 0


def test_shot_noise_errors_are_as_wide_as_the_scatter():
    rng = np.random.default_rng(1)
    ky, kx = np.arange(33)[:, None], np.arange(48)
    expected = 0.5 + 20 / (1 + np.exp(2 * (np.hypot(ky - CENTER[0], kx - CENTER[1]) - 6)))
    frames = rng.poisson(expected, (2500, 33, 48)).astype("uint16")
    scan = xr.DataArray(frames, dims=("position", "ky", "kx"))
    for gate in (None, ("disc", 9.0)):
        maps = det.center_of_mass(scan, gate=gate, center=CENTER)
        weight = weights_of(gate, CENTER)
        for name, k in (("com_y", ky - CENTER[0]), ("com_x", kx - CENTER[1])):
            truth = (weight * expected * k).sum() / (weight * expected).sum()
            pull = (maps[name] - truth) / maps[f"{name}_stderr"]
            assert abs(float(pull.std()) - 1) < 0.06
            assert abs(float(pull.mean())) < 4 / np.sqrt(2500)
