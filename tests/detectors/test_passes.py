"""The two passes against plain loops, whatever the chunks, and how often they read the scan."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import detectors as det
from scanfold.conventions import InputError

from .scans import CHUNKS, DETECTOR, SHAPE, disc_scan, loop_moments, loop_statistics

DTYPES = ("uint8", "uint16", "uint32", "int16", "float32")


def pipeline(scan: xr.DataArray, labels: np.ndarray, **options):
    stats = det.cluster_statistics(scan, labels, **options)
    tmpl = det.templates(stats, central_mask_px=2)
    gates = det.gates(tmpl, roi_r=(2, 14), top_percent=15)
    return stats, tmpl, gates, det.virtual_maps(scan, tmpl, gates, labels=labels, residual=True, disc=8)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_those_of_a_loop(dtype: str, log: bool):
    scan, labels, _ = disc_scan(dtype)
    expected = loop_statistics(scan.values, labels, log)
    stats = det.cluster_statistics(scan.chunk(CHUNKS[1]), labels, log=log).compute()
    for name, values in expected.items():
        np.testing.assert_allclose(stats[name], values, rtol=1e-6 if log else 1e-9, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_sums_of_counts_are_exact(dtype: str):
    scan, labels, _ = disc_scan(dtype)
    if dtype == "uint32":
        scan.values[2:4] += np.uint32(2**31)
    stats = det.cluster_statistics(scan.chunk(CHUNKS[2]), labels).compute()
    whole = scan.values.astype(object)
    assert (stats["counts_total"].sum("half").values == whole.sum(axis=(0, 1)).astype(float)).all()
    for number in range(3):
        expected = whole[labels == number].sum(axis=0).astype(float)
        assert (stats["counts_sum"].sel(cluster=number).sum("half").values == expected).all()
    squares = (whole**2).sum(axis=(0, 1)).astype(float)
    np.testing.assert_allclose(stats["signal_squares"].sum("half"), squares, rtol=0 if dtype != "uint32" else 1e-15)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_chunks_do_not_matter(dtype: str, log: bool):
    scan, labels, _ = disc_scan(dtype)
    reference = pipeline(scan, labels, log=log)
    for chunks in CHUNKS:
        found = [ds.compute() for ds in pipeline(scan.chunk(chunks), labels, log=log)]
        for name in reference[0]:
            if dtype == "uint16":
                np.testing.assert_array_equal(found[0][name], reference[0][name], err_msg=name)
            else:
                np.testing.assert_allclose(found[0][name], reference[0][name], rtol=1e-12, err_msg=name)
        for name in reference[3]:
            # Products are float32: what they are precise to is set by the largest terms that are added.
            scale = DETECTOR[1] / 2 if "com" in name else float(np.abs(reference[3][name]).max())
            np.testing.assert_allclose(found[3][name], reference[3][name], rtol=0, atol=1e-6 * scale, err_msg=name)


@pytest.mark.parametrize("whiten", ["diag", "none"])
@pytest.mark.parametrize("log", [False, True])
def test_scores_are_those_of_a_loop(log: bool, whiten: str):
    scan, labels, _ = disc_scan()
    stats = det.cluster_statistics(scan, labels, log=log)
    tmpl = det.templates(stats, central_mask_px=2)
    maps = det.virtual_maps(scan.chunk(CHUNKS[2]), tmpl, det.gates(tmpl), whiten=whiten).compute()
    made = loop_statistics(scan.values, labels, log)
    epsilon = 1e-6 * np.median(made["std"])
    expected = np.zeros((*SHAPE, 3))
    for number in range(3):
        template = (made["cluster_mean"][number] - made["mean"]) / (made["std"] + epsilon)
        template[~tmpl["used"].values] = 0
        template /= np.sqrt((template**2).sum())
        np.testing.assert_allclose(tmpl["template"][number], template, atol=1e-7)
        for i, j in np.ndindex(SHAPE):
            frame = scan.values[i, j].astype(float)
            centred = (np.log1p(frame) if log else frame) - made["mean"]
            if whiten == "diag":
                centred /= made["std"] + epsilon
            expected[i, j, number] = (template * centred).sum()
    np.testing.assert_allclose(maps["score"], expected, atol=2e-5 * expected.std())


def test_centres_of_mass_are_those_of_a_loop():
    scan, labels, _ = disc_scan()
    _, tmpl, gates, maps = pipeline(scan.chunk(CHUNKS[0]), labels)
    maps, gates, center = maps.compute(), gates.compute(), tmpl["center"].values
    radius = np.hypot(np.arange(DETECTOR[0])[:, None] - center[0], np.arange(DETECTOR[1]) - center[1])
    weights = {"ungated": np.ones(DETECTOR), "disc": radius <= 8, "union": gates["union"].values}
    for i, j in [(0, 0), (3, 10), (6, 4), (0, 3)]:
        frame, label = scan.values[i, j], labels[i, j]
        own = weights["union"] if label < 0 else gates["gate"].values[label]
        for name, weight in {**weights, "adaptive": own}.items():
            found = maps.isel(y=i, x=j).sel(detector=name)
            total, com, error = loop_moments(frame, weight, center)
            np.testing.assert_allclose(found["total"], total, rtol=1e-6)
            np.testing.assert_allclose([found["com_y"], found["com_x"]], com, atol=2e-5)
            if name != "adaptive":
                np.testing.assert_allclose([found["com_y_stderr"], found["com_x_stderr"]], error, rtol=1e-4)
            else:
                assert np.isnan(found["com_y_stderr"])


def test_the_scan_is_read_twice_and_no_frame_more_than_that():
    scan, labels, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    lazy = source.lazy(scan.dims, y=2, x=5)
    with sf.testing.raise_if_computes():
        stats, _, _, maps = pipeline(lazy, labels, log=True)
    assert source.reads == 0
    stats = stats.compute()
    assert source.elements == scan.size
    tmpl = det.templates(stats)
    det.virtual_maps(lazy, tmpl, det.gates(tmpl), labels=labels).compute()
    assert source.elements == 2 * scan.size
    maps.compute()  # both passes in one graph
    assert source.elements == 4 * scan.size


def test_one_run_saves_both_passes_with_two_reads(tmp_path):
    scan, labels, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    _, tmpl, gates, maps = pipeline(source.lazy(scan.dims, y=2), labels)
    merged = maps.merge(tmpl[["template", "mean"]]).merge(gates[["gate"]])
    saved = sf.save(merged, tmp_path / "maps.zarr", progress=False)
    # The run tries some positions of one block before it plans.
    assert source.elements <= 2 * scan.size + 2 * 2 * SHAPE[1] * np.prod(DETECTOR)
    expected = pipeline(scan, labels)
    np.testing.assert_allclose(saved["score"], expected[3]["score"], atol=2e-5)
    np.testing.assert_allclose(saved["template"], expected[1]["template"], atol=1e-12)


def test_a_store_knows_the_same_work_made_anew_and_refuses_another(tmp_path):
    scan, labels, _ = disc_scan()
    np.save(tmp_path / "scan.npy", scan.values)

    def maps(**options):
        lazy = sf.open_scan(tmp_path / "scan.npy", chunks={"y": 3})
        _, _, _, made = pipeline(lazy["data"], labels, log=True, **options)
        return made

    saved = sf.save(maps(), tmp_path / "maps.zarr", progress=False)
    again = sf.save(maps(), tmp_path / "maps.zarr", progress=False)
    assert again.identical(saved)
    with pytest.raises(InputError, match=r"seed|count_noise|differ"):
        sf.save(maps(count_noise=False), tmp_path / "maps.zarr", progress=False)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers_do_not_matter(scheduler):
    scan, labels, _ = disc_scan()
    reference = pipeline(scan, labels, log=True)
    stats, _, _, maps = pipeline(scan.chunk(CHUNKS[0]), labels, log=True)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        sums = stats.compute()
        found = maps[["score", "com_y"]].compute()
    for name in sums:
        np.testing.assert_array_equal(sums[name], reference[0][name], err_msg=name)
    np.testing.assert_allclose(found["score"], reference[3]["score"], atol=1e-4)
    np.testing.assert_allclose(found["com_y"], reference[3]["com_y"], atol=2e-5)
