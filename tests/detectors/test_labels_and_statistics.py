"""Labels from arrays and files, soft weights, dose, background, halves; what cannot be used is said before a pass."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

import scanfold as sf
from scanfold import detectors as det
from scanfold.conventions import InputError, InputTypeError
from scanfold.detectors.labels import halves, read_labels

from .scans import CENTER, CHUNKS, DETECTOR, SHAPE, disc_scan


@pytest.mark.parametrize("form", ["map", "flat", "DataArray", "turned", "npy", "cluster_labels", "labels", "only"])
def test_every_form_of_labels_gives_the_same(form, tmp_path):
    scan, labels, _ = disc_scan()
    path = tmp_path / ("l.npy" if form == "npy" else "l.npz")
    given = {
        "map": labels,
        "flat": labels.ravel(),
        "DataArray": xr.DataArray(labels, dims=("y", "x")),
        "turned": xr.DataArray(labels.T, dims=("x", "y")),
    }.get(form, path)
    if form == "npy":
        np.save(path, labels)
    elif form == "only":
        np.savez(path, something=labels.ravel())
    elif form == "cluster_labels":
        np.savez(path, labels=np.zeros(3), cluster_labels=labels)
    elif form == "labels":
        np.savez(path, features=np.zeros((3, 4)), labels=labels)
    expected = det.cluster_statistics(scan, labels)
    np.testing.assert_array_equal(det.cluster_statistics(scan, given)["cluster_mean"], expected["cluster_mean"])


def with_gap(labels):
    return np.where(labels == 1, 2, labels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda labels: labels[:-1], "expected"),
        (lambda labels: labels.T, "shape"),
        (lambda labels: np.zeros_like(labels), "name 1 cluster"),
        (lambda labels: np.full_like(labels, -1), "name 0 cluster"),
        (with_gap, "cluster 1 is empty"),
        (lambda labels: labels - 5, "least label"),
        (lambda labels: labels + 0.5, "whole numbers"),
        (lambda labels: np.zeros((*labels.shape, 3)), "is empty"),
        (lambda labels: -np.ones((*labels.shape, 3)), "not negative"),
        (lambda labels: "no such file.npz", "no file"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_before_the_scan_is_read(change, words):
    scan, labels, _ = disc_scan()
    source = sf.testing.CountingArray(scan.values)
    with pytest.raises(InputError, match=words):
        det.cluster_statistics(source.lazy(scan.dims, y=3), change(labels))
    assert source.reads == 0


def test_labels_of_the_wrong_kind(tmp_path):
    scan, labels, _ = disc_scan()
    with pytest.raises(InputTypeError, match="lazy"):
        det.cluster_statistics(scan, xr.DataArray(labels, dims=("y", "x")).chunk(y=2))
    with pytest.raises(InputTypeError, match="dtype"):
        det.cluster_statistics(scan, np.full(SHAPE, "a"))
    np.savez(tmp_path / "two.npz", a=labels, b=labels)
    with pytest.raises(InputError, match="Save it under that name"):
        read_labels(tmp_path / "two.npz")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot read"):
        read_labels(tmp_path / "objects.npy")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="cannot read"):
        read_labels(tmp_path / "broken.npz")


def test_noise_counts_in_the_mean_or_not_and_has_no_template():
    scan, labels, _ = disc_scan()
    frames = scan.values.astype(float)
    counted = det.cluster_statistics(scan.chunk(CHUNKS[0]), labels).compute()
    left = det.cluster_statistics(scan.chunk(CHUNKS[0]), labels, count_noise=False).compute()
    np.testing.assert_allclose(counted["mean"], frames.mean(axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(left["mean"], frames[labels >= 0].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(left["std"], frames[labels >= 0].std(axis=0), rtol=1e-9)
    assert counted["cluster"].values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("log", [False, True])
def test_soft_weights(log):
    scan, labels, _ = disc_scan()
    weights = np.random.default_rng(0).random((*SHAPE, 3))
    stats = det.cluster_statistics(scan.chunk(CHUNKS[2]), weights, log=log).compute()
    signal = np.log1p(scan.values.astype(float)) if log else scan.values.astype(float)
    expected = np.einsum("yxc,yxkl->ckl", weights, signal) / weights.sum(axis=(0, 1))[:, None, None]
    np.testing.assert_allclose(stats["cluster_mean"], expected, rtol=1e-10)
    np.testing.assert_allclose(stats["mean"], signal.mean(axis=(0, 1)), rtol=1e-10)
    np.testing.assert_allclose(stats["std"], signal.std(axis=(0, 1)), rtol=1e-8)
    sharp = (labels[..., None] == np.arange(3)).astype(float)
    hard = det.cluster_statistics(scan, labels, log=log)
    np.testing.assert_allclose(
        det.cluster_statistics(scan, sharp, log=log)["cluster_mean"], hard["cluster_mean"], rtol=1e-7
    )


@pytest.mark.parametrize("log", [False, True])
def test_dose(log):
    scan, labels, _ = disc_scan()
    dose = np.random.default_rng(0).uniform(0.5, 2, SHAPE)
    stats = det.cluster_statistics(scan.chunk(CHUNKS[1]), labels, log=log, dose=xr.DataArray(dose, dims=("y", "x")))
    stats = stats.compute()
    signal = scan.values / dose[..., None, None]
    signal = np.log1p(signal) if log else signal
    np.testing.assert_allclose(stats["mean"], signal.mean(axis=(0, 1)), rtol=1e-10)
    np.testing.assert_allclose(stats["mean_counts"], scan.values.mean(axis=(0, 1)), rtol=1e-12)
    tmpl = det.templates(stats)
    gates = det.gates(tmpl)
    maps = det.virtual_maps(scan.chunk(CHUNKS[1]), tmpl, gates, dose=xr.DataArray(dose, dims=("y", "x"))).compute()
    used, scale = tmpl["used"].values, tmpl["scale"].values
    expected = np.einsum("ckl,yxkl->yxc", tmpl["template"].values * used / scale, signal - stats["mean"].values)
    np.testing.assert_allclose(maps["score"], expected, atol=2e-5 * expected.std())
    with pytest.raises(InputError, match="dose"):
        det.virtual_maps(scan, tmpl, gates)
    with pytest.raises(InputError, match="positive"):
        det.cluster_statistics(scan, labels, dose=xr.DataArray(np.zeros(SHAPE), dims=("y", "x")))


@pytest.mark.parametrize("log", [False, True])
def test_the_mean_of_an_annulus_is_taken_off_every_frame(log):
    scan, labels, _ = disc_scan()
    radius = np.hypot(np.arange(DETECTOR[0])[:, None] - CENTER[0], np.arange(DETECTOR[1]) - CENTER[1])
    ring = (radius >= 11) & (radius <= 14)
    lazy = scan.chunk(CHUNKS[0])
    stats = det.cluster_statistics(lazy, labels, log=log, background=("annulus", 11, 14), center=CENTER).compute()
    signal = np.log1p(scan.values.astype(float)) if log else scan.values.astype(float)
    signal = signal - signal[..., ring].mean(axis=-1)[..., None, None]
    np.testing.assert_allclose(stats["mean"], signal.mean(axis=(0, 1)), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(stats["std"], signal.std(axis=(0, 1)), rtol=1e-8)
    tmpl = det.templates(stats)
    maps = det.virtual_maps(lazy, tmpl, det.gates(tmpl)).compute()
    weights = tmpl["template"].values * tmpl["used"].values / tmpl["scale"].values
    expected = np.einsum("ckl,yxkl->yxc", weights, signal - stats["mean"].values)
    np.testing.assert_allclose(maps["score"], expected, atol=3e-5 * expected.std())
    with pytest.raises(InputError, match="centre of the beam"):
        det.cluster_statistics(lazy, labels, background=("annulus", 11, 14))
    with pytest.raises(InputError, match="whole frames"):
        det.cluster_statistics(scan.chunk(CHUNKS[2]), labels, background=("annulus", 11, 14), center=CENTER)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("background", ["mean", np.full(DETECTOR, 2.5)])
def test_a_background_that_is_the_same_for_all_frames_cancels(background, log):
    scan, labels, _ = disc_scan()
    plain, subtracted = (det.cluster_statistics(scan, labels, log=log, background=b) for b in (None, background))
    np.testing.assert_array_equal(det.templates(plain)["template"], det.templates(subtracted)["template"])
    assert "background" in subtracted.attrs["preprocess"]


def test_negative_counts_have_no_logarithm():
    scan, labels, _ = disc_scan("int16")
    scan.values[3, 3, 5, 5] = -2
    det.cluster_statistics(scan, labels)
    for dtype in ("int16", "float32"):
        with pytest.raises(InputError, match="negative counts have no logarithm"):
            det.cluster_statistics(scan.astype(dtype).chunk(y=2), labels, log=True).compute()


def test_values_that_are_no_numbers_are_left_out_pixel_by_pixel():
    scan, labels, _ = disc_scan("float32")
    scan.values[2, 2] = np.nan
    scan.values[4, 5, 6, 7] = np.inf
    for log in (False, True):
        stats = det.cluster_statistics(scan.chunk(CHUNKS[2]), labels, log=log).compute()
        good = np.where(np.isfinite(scan.values), scan.values, np.nan).astype(float)
        signal = np.log1p(good) if log else good
        np.testing.assert_allclose(stats["mean"], np.nanmean(signal, axis=(0, 1)), rtol=1e-6)
        np.testing.assert_allclose(stats["std"], np.nanstd(signal, axis=(0, 1)), rtol=1e-5)
    maps = det.virtual_maps(scan, det.templates(stats), det.gates(det.templates(stats)))
    assert np.argwhere(~maps["frame_valid"].values).tolist() == [[2, 2], [4, 5]]
    assert (np.isnan(maps["score"]).any("cluster") == ~maps["frame_valid"]).all()
    assigned = det.assign(maps)
    assert (assigned["assignment"].values == -1).sum() == 2


def test_halves_are_equal_in_every_cluster_and_do_not_depend_on_chunks():
    scan, labels, _ = disc_scan()
    stats = det.cluster_statistics(scan, labels, seed=3)
    assert (np.abs(stats["frames"].diff("half")) <= 1).all()
    assert float(stats["frames_total"].sum()) == labels.size
    checked = det.labels.as_labels(labels, scan, ("y", "x"))
    assert (halves(checked, 3) == halves(checked, 3)).all()
    assert (halves(checked, 3) != halves(checked, 4)).any()


def test_halves_of_real_structure_agree_and_those_of_noise_do_not():
    scan, labels, _ = disc_scan(mean=100.0)
    real = det.split_half(det.cluster_statistics(scan, labels, log=True, shuffled=True))
    assert (real["correlation"] > 0.5).all()
    for name in ("correlation", "ssim"):
        assert (real[name] > real[f"{name}_other"]).all()
        assert (real[name] > real[f"{name}_shuffled"]).all()
    assert (abs(real["correlation_shuffled"]) < 0.3).all()
    shuffled = np.random.default_rng(0).permutation(labels.ravel())
    with pytest.warns(UserWarning, match="may be noise"):
        noise = det.split_half(det.cluster_statistics(scan, shuffled, log=True))
    assert (noise["correlation"] < 0.3).all()


@pytest.mark.parametrize("kind", ["counts", "log", "annulus", "float", "soft"])
def test_shuffled_labels_keep_the_frames_of_every_half(kind):
    scan, labels, _ = disc_scan()
    labels = np.maximum(labels, 0)  # noise is shuffled too
    options = {"log": kind == "log", "seed": 3}
    if kind == "annulus":
        options |= {"background": ("annulus", 8, 12), "center": (10, 10)}
    given = np.eye(labels.max() + 1)[labels] if kind == "soft" else labels
    scan = scan.astype("float32") if kind == "float" else scan
    plain = det.cluster_statistics(scan, given, **options)
    stats = det.cluster_statistics(scan.chunk(y=3), given, shuffled=True, **options)
    xr.testing.assert_allclose(stats.drop_vars("shuffled_sum").compute(), plain, rtol=1e-12)
    null = stats["shuffled_sum"].compute()
    # Every frame is in one false cluster of its own half, and the false clusters are not the true ones.
    np.testing.assert_allclose(null.sum("cluster"), plain["signal_sum"].sum("cluster"), rtol=1e-9, atol=1e-9)
    assert (abs(null - plain["signal_sum"]).max(("half", "ky", "kx")) > 0).all()
    again = det.cluster_statistics(scan, given, shuffled=True, **options)["shuffled_sum"]
    np.testing.assert_allclose(null, again, rtol=1e-12)


def test_halves_are_templates_of_their_own_frames():
    scan, labels, _ = disc_scan()
    stats = det.cluster_statistics(scan, labels)
    half = halves(det.labels.as_labels(labels, scan, ("y", "x")), 0)
    made = []
    for number in (0, 1):
        frames, own = scan.values[half == number].astype(float), labels[half == number]
        std = frames.std(axis=0)
        used = std > 0
        epsilon = 1e-6 * np.median(std[used])
        template = np.where(used, (frames[own == 1].mean(axis=0) - frames.mean(axis=0)) / (std + epsilon), 0)
        made.append(template.ravel())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = det.split_half(stats)
    np.testing.assert_allclose(found["correlation"][1], np.corrcoef(*made)[0, 1], rtol=1e-9)


def test_clusters_of_a_scan_without_labels():
    scan, labels, _ = disc_scan(mean=60.0)
    source = sf.testing.CountingArray(scan.values)
    with sf.testing.raise_if_computes():
        lazy = det.cluster(source.lazy(scan.dims, y=2), 3)
    assert source.reads == 0
    found = lazy.compute()
    assert source.elements == scan.size
    assert (found == det.cluster(scan, 3)).all()
    kept = labels >= 0
    pairs = {(a, b) for a, b in zip(found.values[kept], labels[kept], strict=True)}
    assert len(pairs) == 3  # one to one
    assert (np.diff(np.bincount(found.values.ravel())) <= 0).all()
    with pytest.raises(InputError, match="expected 2 to"):
        det.cluster(scan, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"center": (500, 2)}, "off the detector"),
        ({"bad_pixels": "all"}, "auto"),
        ({"bad_pixels": np.zeros((2, 2), bool)}, "bad_pixels"),
        ({"background": "median"}, "annulus"),
        ({"background": np.zeros((2, 2))}, "background"),
        ({"background": ("annulus", 5, 2), "center": CENTER}, "inner < outer"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    scan, labels, _ = disc_scan()
    with pytest.raises(InputError, match=words):
        det.cluster_statistics(scan, labels, **options)


def test_frames_need_detector_dimensions():
    with pytest.raises(InputError, match="ky and kx"):
        det.cluster_statistics(xr.DataArray(np.ones((3, 4, 5)), dims=("y", "x", "energy")), [0])
    with pytest.raises(InputTypeError, match="complex"):
        det.center_of_mass(xr.DataArray(np.ones((3, 4, 5), complex), dims=("position", "ky", "kx")))
