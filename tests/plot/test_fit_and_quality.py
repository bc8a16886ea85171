"""The pictures of one position and of a whole run show the numbers that were fitted."""

from __future__ import annotations

import lmfit
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.stats import chi2

import scanfold as sf
from scanfold.conventions import InputError
from scanfold.plot import overview
from scanfold.plot.tally import EDGES, tally


def curves(ax) -> dict[str, np.ndarray]:
    """Return what an Axes draws, by label."""
    found = {line.get_label(): line.get_ydata() for line in ax.lines}
    found |= {c.get_label(): c.lines[0].get_ydata() for c in ax.containers}
    return found


def test_the_fit_at_a_position_is_lmfits_own(peaks):
    scan, fits = peaks
    figure = sf.plot.fit(fits, scan, y=2, x=3)
    top, bottom = figure.axes
    drawn = curves(top)
    x, y = scan["energy"].values, scan[2, 3].values
    result = (lmfit.models.GaussianModel() + lmfit.models.LinearModel()).fit(
        y, x=x, weights=1 / np.sqrt(np.maximum(y, 1)), **{n: float(fits[n][2, 3]) for n in
        ("amplitude", "center", "sigma", "slope", "intercept")},
    )  # fmt: skip
    np.testing.assert_array_equal(drawn["data"], y)
    np.testing.assert_allclose(drawn["best fit"], result.best_fit, rtol=1e-4)
    np.testing.assert_allclose(drawn["linear"], result.eval_components()["linear"], rtol=2e-3)
    np.testing.assert_allclose(drawn["gaussian on linear"], result.best_fit, rtol=1e-4)
    np.testing.assert_allclose(bottom.containers[0].lines[0].get_ydata(), y - drawn["best fit"])
    bars = top.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([np.ptp(s[:, 1]) / 2 for s in bars], np.sqrt(np.maximum(y, 1)))
    assert top.get_title() == f"y=2, x=3, converged, redchi {float(fits.redchi[2, 3]):.3g}"
    assert (top.get_ylabel(), bottom.get_xlabel()) == ("detector counts [count]", "energy [keV]")
    plt.close(figure)


def test_two_peaks_of_a_product_are_not_put_on_a_baseline():
    scan, _ = sf.testing.peak_scan({"position": 1})
    model = lmfit.models.GaussianModel(prefix="p_") * lmfit.models.ConstantModel(prefix="k_")
    params = {"k_c": {"value": 1.0, "vary": False}, "p_amplitude": 1000, "p_center": 5, "p_sigma": 0.6}
    fits = sf.fit(scan, model, params, dim="energy")
    drawn = curves(sf.plot.fit(fits, scan, position=0).axes[0])
    assert {"p", "k"} <= set(drawn)
    assert np.all(drawn["k"] == 1.0)


def test_without_weights_there_are_no_error_bars_and_poisson_has_its_own(peaks):
    scan, _ = peaks
    model = lmfit.models.GaussianModel() + lmfit.models.LinearModel()
    plain = sf.plot.fit(sf.fit(scan, model, dim="energy"), scan, y=0, x=0)
    assert not plain.axes[0].containers[0].has_yerr
    fits = sf.fit(scan, model, dim="energy", likelihood="poisson")
    poisson = sf.plot.fit(fits, scan, y=0, x=0).axes[0]
    bars = poisson.containers[0].lines[2][0].get_segments()
    expected = np.sqrt(curves(poisson)["best fit"])
    np.testing.assert_allclose([np.ptp(s[:, 1]) / 2 for s in bars], expected)
    plt.close("all")


def test_weights_given_as_an_array_are_passed_on(peaks):
    scan, _ = peaks
    weights = xr.ones_like(scan) * 0.25
    fits = sf.fit(scan, lmfit.models.GaussianModel() + lmfit.models.LinearModel(), dim="energy", weights=weights)
    with pytest.raises(InputError, match="weights=…"):
        sf.plot.fit(fits, scan, y=0, x=0)
    figure = sf.plot.fit(fits, scan, weights=weights, y=0, x=0)
    bars = figure.axes[0].containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([np.ptp(s[:, 1]) / 2 for s in bars], 4.0)
    plt.close("all")


def decay(t, a, k):
    return a * np.exp(-k * t)


def test_a_function_of_the_user_is_passed():
    t = xr.DataArray(np.linspace(0, 5, 30), dims="time")
    scan = (xr.DataArray([2.0, 3.0], dims="group") * decay(t, 1.0, 1.0)).assign_coords(group=["a", "b"], time=t.data)
    fits = sf.fit(scan, decay, {"a": 1, "k": 0.5}, dim="time")
    with pytest.raises(InputError, match="model=…"):
        sf.plot.fit(fits, scan, group="b")
    figure = sf.plot.fit(fits, scan, model=decay, group="b")
    np.testing.assert_allclose(curves(figure.axes[0])["best fit"], decay(t, 3.0, 1.0), rtol=1e-6)
    assert figure.axes[0].get_title().startswith("group=b, converged")
    plt.close("all")


def test_a_position_without_a_fit_shows_its_data_and_says_so(peaks):
    scan, fits = peaks
    top = sf.plot.fit(fits, scan, y=1, x=2).axes[0]
    assert top.get_title() == "y=1, x=2, too few points"
    assert set(curves(top)) == {"data (not fitted)"}
    plt.close("all")


def test_the_fit_is_drawn_into_given_axes(peaks):
    scan, fits = peaks
    figure = Figure()
    axes = figure.subplots(2, 1)
    before = plt.get_fignums()
    assert sf.plot.fit(fits, scan, axes=axes, y=0, x=0) is figure
    assert plt.get_fignums() == before


def test_a_tally_counts_what_numpy_counts(peaks):
    _, fits = peaks
    counts = tally(fits.chunk(y=1, x=2))
    assert counts.status == {"converged": 19, "too_few_points": 1}
    assert counts.positions == 20
    good = fits["redchi"].values[np.isfinite(fits["redchi"].values)]
    np.testing.assert_array_equal(counts.redchi, np.histogram(good, EDGES)[0])
    assert counts.nfev.sum() == int((fits["nfev"] > 0).sum())


def test_a_tally_reads_lazy_fits_once():
    sources = {n: sf.testing.CountingArray(np.ones((6, 4))) for n in ("status", "redchi", "nfev")}
    fits = xr.Dataset({n: s.lazy(("y", "x"), y=2) for n, s in sources.items()})
    fits["status"].attrs = {"flag_values": [1], "flag_meanings": "converged"}
    assert tally(fits).status == {"converged": 24}
    assert {n: s.elements for n, s in sources.items()} == dict.fromkeys(sources, 24)


def test_quality_shows_counts_and_the_expected_range(peaks):
    _, fits = peaks
    figure = sf.plot.quality(fits)
    status, redchi, nfev, table = figure.axes
    codes = status.images[0].get_array()
    assert codes[1, 2] == 3  # too_few_points is the fourth flag
    assert (np.delete(codes.ravel(), 7) == 0).all()
    cells = [[table.tables[0][r, c].get_text().get_text() for c in (1, 2, 3)] for r in range(3)]
    assert cells == [["converged", "19", "95.0%"], ["too few points", "1", "5.0%"], ["all", "20", ""]]
    shade = redchi.patches[0].get_extents().transformed(redchi.transData.inverted())
    assert (shade.x0, shade.x1) == pytest.approx(tuple(chi2.ppf([0.005, 0.995], 95) / 95))
    assert redchi.patches[-1].get_data().values.sum() == 19
    assert nfev.get_title() == "nfev"
    plt.close(figure)


def test_quality_of_unweighted_fits_expects_nothing(peaks):
    scan, _ = peaks
    fits = sf.fit(scan, lmfit.models.GaussianModel() + lmfit.models.LinearModel(), dim="energy").compute()
    assert overview.expected_redchi(fits, fits["n_used"]) is None
    figure = sf.plot.quality(fits, figure=Figure())
    assert "no weights" in figure.axes[1].get_xlabel()


def test_quality_of_groups_is_a_row_of_colours():
    scan, _ = sf.testing.peak_scan({"group": 3})
    scan = scan.assign_coords(group=np.array(["a", "b", "c"], object))
    scan[1] = np.nan
    fits = sf.fit(scan, lmfit.models.GaussianModel() + lmfit.models.LinearModel(), dim="energy", weights="counts")
    figure = sf.plot.quality(fits, figure=Figure())
    colours = [p.get_facecolor() for p in figure.axes[0].patches]
    assert colours[0] == colours[2] != colours[1]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["a", "b", "c"]


def test_quality_of_what_is_no_fit():
    with pytest.raises(InputError, match="lacks status, redchi"):
        sf.plot.quality(xr.Dataset({"a": ("x", [1.0])}))


def test_the_status_map_of_a_huge_scan_is_thinned(monkeypatch):
    monkeypatch.setattr(overview, "_LARGEST", 100)
    monkeypatch.setattr(overview, "_PIXELS", 10)
    source = sf.testing.CountingArray(np.ones((40, 30)))
    fits = xr.Dataset({n: source.lazy(("y", "x"), y=10) for n in ("status", "redchi", "nfev", "n_used")})
    fits["status"].attrs = {"flag_values": [1], "flag_meanings": "converged"}
    figure = overview.quality(fits, figure=Figure())
    assert figure.axes[0].images[0].get_array().shape == (10, 10)
    assert figure.axes[0].images[0].get_extent()[1] > 28
