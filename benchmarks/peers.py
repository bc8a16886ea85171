"""The peers, on the problem of `_problem`: each a context manager that yields the work, and imports its library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np

from benchmarks._problem import NAMES, START, Array, composite, count_weights, gaussian_line, scan

Answer = dict[str, Array]
Work = Callable[[], Answer]


@contextmanager
def lmfit_loop(positions: int, plain: bool) -> Iterator[Work]:
    """``Model.fit`` at every position: a plain function, or the sum of lmfit's own models."""
    import lmfit

    data, _ = scan(positions)
    x, counts = data["energy"].values, data.values
    model = lmfit.Model(gaussian_line) if plain else composite()
    params = model.make_params(**START)

    def work() -> Answer:
        fits = [model.fit(row, params, x=x, weights=count_weights(row)) for row in counts]
        return {name: np.array([f.params[name].value for f in fits]) for name in NAMES}

    yield work


@contextmanager
def scipy_loop(positions: int) -> Iterator[Work]:
    """``scipy.optimize.curve_fit`` at every position, by its default method (MINPACK)."""
    from scipy.optimize import curve_fit

    data, _ = scan(positions)
    x, counts = data["energy"].values, data.values
    start = list(START.values())

    def work() -> Answer:
        fits = [curve_fit(gaussian_line, x, row, start, sigma=1 / count_weights(row))[0] for row in counts]
        return dict(zip(NAMES, np.array(fits).T, strict=True))

    yield work


@contextmanager
def xarray_curvefit(positions: int) -> Iterator[Work]:
    """``DataArray.curvefit``, which takes no weights per position."""
    data, _ = scan(positions)

    def work() -> Answer:
        fits = data.curvefit("energy", gaussian_line, p0=START)["curvefit_coefficients"]
        return {name: fits.sel(param=name).values for name in NAMES}

    yield work


@contextmanager
def xarray_lmfit(positions: int) -> Iterator[Work]:
    """``DataArray.xlm.modelfit``, without keeping its result objects."""
    import lmfit
    import xarray_lmfit  # noqa: F401  (registers .xlm)

    data, _ = scan(positions)
    weights = data.copy(data=count_weights(data.values))
    model = lmfit.Model(gaussian_line)
    params = model.make_params(**START)

    def work() -> Answer:
        fits = data.xlm.modelfit("energy", model=model, params=params, weights=weights, output_result=False)
        coefficients = fits["modelfit_coefficients"]
        return {name: coefficients.sel(param=name).values for name in NAMES}

    yield work


@contextmanager
def hyperspy_multifit(positions: int) -> Iterator[Work]:
    """HyperSpy's ``multifit``; each position starts where the one before ended, as it does by default."""
    import hyperspy.api as hs

    data, _ = scan(positions)
    x = data["energy"].values
    signal = hs.signals.Signal1D(data.values)
    signal.axes_manager[-1].scale, signal.axes_manager[-1].offset = x[1] - x[0], x[0]
    signal.set_noise_variance(hs.signals.Signal1D(1.0 / count_weights(data.values) ** 2))
    model = signal.create_model()
    peak, line = hs.model.components1D.Gaussian(), hs.model.components1D.Polynomial(order=1)
    model.extend([peak, line])
    parameters = dict(zip(NAMES, (peak.A, peak.centre, peak.sigma, line.a1, line.a0), strict=True))

    def work() -> Answer:
        for name, parameter in parameters.items():
            parameter.map["values"] = START[name]
            parameter.map["is_set"] = False
            parameter.value = START[name]
        model.axes_manager.indices = (0,)
        with open(os.devnull, "w") as silence, redirect_stderr(silence):
            model.multifit(optimizer="lm", show_progressbar=False)
        return {name: p.map["values"].copy() for name, p in parameters.items()}

    yield work


@contextmanager
def astropy_parallel(positions: int) -> Iterator[Work]:
    """``parallel_fit_dask`` with Levenberg–Marquardt, in this process."""
    from astropy.modeling.fitting import LMLSQFitter, parallel_fit_dask
    from astropy.modeling.models import Gaussian1D, Linear1D

    data, _ = scan(positions)
    x, counts = data["energy"].values, data.values
    height = START["amplitude"] / (START["sigma"] * np.sqrt(2 * np.pi))
    model = Gaussian1D(height, START["center"], START["sigma"]) + Linear1D(START["slope"], START["intercept"])

    def work() -> Answer:
        fits: Any = parallel_fit_dask(
            model=model, fitter=LMLSQFitter(), data=counts, weights=count_weights(counts), fitting_axes=1, world=(x,),
            scheduler="synchronous",
        )  # fmt: skip
        found = {name: np.asarray(getattr(fits, name).value) for name in fits.param_names}
        sigma = np.abs(found["stddev_0"])
        amplitude = found["amplitude_0"] * sigma * np.sqrt(2 * np.pi)
        values = (amplitude, found["mean_0"], sigma, found["slope_1"], found["intercept_1"])
        return dict(zip(NAMES, values, strict=True))

    yield work


@contextmanager
def scipp_curve_fit(positions: int) -> Iterator[Work]:
    """``scipp.curve_fit`` of a function on NumPy arrays, its fastest way, in this process."""
    import scipp

    data, _ = scan(positions)
    variances = 1.0 / count_weights(data.values) ** 2
    x = scipp.array(dims=["energy"], values=data["energy"].values)
    spectra = scipp.array(dims=["position", "energy"], values=data.values.astype(float), variances=variances)
    signal = scipp.DataArray(spectra, coords={"x": x})

    def work() -> Answer:
        found, _ = scipp.curve_fit(["x"], gaussian_line, signal, p0=START, unsafe_numpy_f=True)
        return {name: found[name].values for name in NAMES}

    yield work
