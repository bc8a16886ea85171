"""One position in full: data, best fit, components, residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from scanfold.conventions import primary, provenance, unknown
from scanfold.plot import colours
from scanfold.plot.positions import axis_of, indices, label_of, plain, words_of


def fit(
    fits: xr.Dataset,
    data: xr.DataArray | xr.Dataset,
    *,
    model: Callable[..., Any] | None = None,
    weights: xr.DataArray | np.ndarray | None = None,
    axes: Any = None,
    **position: Any,
) -> Any:
    """Draw the fit at one position: data, best fit and components, and the residual below.

    Parameters
    ----------
    fits : Dataset
        Of `scanfold.fit`.
    data : DataArray, or Dataset with a primary variable
        What was fitted.
    model : lmfit.Model or callable, optional
        Needed for a function of your own; lmfit's models are rebuilt from their names.
    weights : DataArray or array, optional
        The weights of the fit, where they were an array.
    axes : matplotlib Axes, or a pair of them, optional
        For the fit and, of a pair, for the residual; otherwise a new figure.
    **position
        One value for each scan dim. A whole number is an index, as in ``fits.isel``; a name or a number with a
        decimal point is looked up in the coordinate of the dim (the nearest, for numbers): ``y=3`` is the fourth
        row and ``y=3.0`` the row nearest to the coordinate 3.

    Returns
    -------
    figure : matplotlib Figure
        With two Axes, or as it was.

    Raises
    ------
    InputError
        For a position that is not there, or a model or weights that must be passed.

    Examples
    --------
    >>> import lmfit, scanfold as sf
    >>> line = xr.DataArray([[1.0, 3.1, 4.9, 7.0]], dims=("position", "time"))
    >>> fits = sf.fit(line, lmfit.models.LinearModel(), dim="time")
    >>> figure = fit(fits, line, position=0)
    >>> figure.axes[1].get_ylabel()
    'residual'
    """
    place = indices(fits, position)
    array = primary(data)
    dim = str(provenance(fits).get("options", {}).get("dim", array.dims[-1]))
    if dim not in array.dims:
        raise unknown("dimension of the data", dim, map(str, array.dims))
    here, spectrum = fits.isel(place).compute(), array.isel(place).compute()
    top, bottom = _axes(axes)
    x = axis_of(spectrum.to_dataset(name="spectrum"), dim)
    top.set_title(_title(fits, here, place), fontsize="medium")
    top.set_ylabel(label_of(array, array.name or "data"))
    if bottom is None:
        top.set_xlabel(x.label)
    else:
        bottom.set(xlabel=x.label, ylabel="residual")
        bottom.axhline(0, color=colours.LEFT_OUT, linewidth=0.8)
    if _without_values(here):
        top.set_xlim(x.values.min(), x.values.max())
        top.plot(x.values, spectrum.values, ".", color=colours.DATA, markersize=4, label="data (not fitted)")
        top.legend(fontsize="small", frameon=False)
        return top.figure
    from scanfold.fitting.curves import result_at

    result = result_at(here, spectrum, model=model, weights=_weights_at(weights, place))
    _draw(top, bottom, result, _errors(fits, result))
    return top.figure


def _without_values(here: xr.Dataset) -> bool:
    """Say whether the position has no fitted values at all."""
    names = [n for n in here.data_vars if f"{n}_stderr" in here]
    return not np.isfinite([float(here[n]) for n in names]).all()


def _weights_at(weights: Any, place: dict[str, int]) -> Any:
    if not isinstance(weights, xr.DataArray):
        return weights
    return weights.isel({d: i for d, i in place.items() if d in weights.dims}).values


def _axes(axes: Any) -> Any:
    if axes is not None:
        return axes if np.ndim(axes) else (axes, None)
    import matplotlib.pyplot as plt

    return plt.subplots(2, 1, sharex=True, height_ratios=(3, 1), layout="constrained")[1]


def _title(fits: xr.Dataset, here: xr.Dataset, place: dict[str, int]) -> str:
    """Say where it is, what became of the fit, and its reduced χ²."""
    parts = []
    for d, i in place.items():
        axis = axis_of(fits, d)
        parts.append(f"{d}={axis.words[i]}" if axis.words is not None else f"{d}={i}")
    if "status" in here:
        parts.append(str(words_of(here["status"])).replace("_", " "))
    if "redchi" in here and np.isfinite(here["redchi"]):
        parts.append(f"redchi {float(here['redchi']):.3g}")
    return plain(", ".join(parts))


def _errors(fits: xr.Dataset, result: Any) -> npt.NDArray[np.float64] | None:
    """Return the standard deviation of each point that the fit assumed, None where it assumed none."""
    if provenance(fits).get("options", {}).get("likelihood") == "poisson":
        return np.asarray(np.sqrt(np.maximum(result.best_fit, 0.0)), np.float64)
    if result.weights is None:
        return None
    weights = np.asarray(result.weights, np.float64)
    # A point of weight zero was left out: it has no error bar.
    return 1.0 / np.where(weights > 0, weights, np.nan)


def _draw(top: Any, bottom: Any, result: Any, errors: npt.NDArray[np.float64] | None) -> None:
    x = next(iter(result.userkws.values()))
    points = {"color": colours.DATA, "fmt": ".", "markersize": 4, "elinewidth": 0.8, "linewidth": 0}
    top.errorbar(x, result.data, errors, label="data", zorder=2, **points)
    for i, (name, values) in enumerate(_components(result).items()):
        colour = colours.COMPONENTS[i % len(colours.COMPONENTS)]
        top.plot(x, values, "--", color=colour, linewidth=1.2, label=plain(name))
    top.plot(x, result.best_fit, color=colours.BEST, linewidth=1.8, label="best fit", zorder=3)
    top.legend(fontsize="small", frameon=False)
    if bottom is not None:
        bottom.errorbar(x, result.data - result.best_fit, errors, **points)


def _components(result: Any) -> dict[str, npt.NDArray[np.float64]]:
    """Return the curves of a composite; in a sum, peaks stand on the polynomials, so that weak ones are seen."""
    curves = {
        name.rstrip("_"): np.broadcast_to(np.asarray(values, np.float64), result.best_fit.shape)
        for name, values in result.eval_components().items()
    }
    if len(curves) < 2:
        return {}
    polynomials = {m.prefix.rstrip("_") or m._name for m in result.model.components if _is_polynomial(m)}
    base = [curves[n] for n in polynomials if n in curves]
    if not base or not np.allclose(sum(curves.values()), result.best_fit):
        return curves
    ground = np.sum(base, axis=0)
    return {n if n in polynomials else f"{n} on {', '.join(sorted(polynomials))}": c if n in polynomials else c + ground
            for n, c in curves.items()}  # fmt: skip


def _is_polynomial(model: Any) -> bool:
    return type(model).__name__ in ("ConstantModel", "LinearModel", "QuadraticModel", "PolynomialModel")
