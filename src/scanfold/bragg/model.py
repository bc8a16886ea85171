"""`TransmissionModel`: the transmission of a sample, its parameters and stages, and its fit to every group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import lmfit
import numpy as np
import numpy.typing as npt

from scanfold._markup import overview, table
from scanfold.bragg.constants import RESPONSES, TERMS
from scanfold.bragg.cross_section import CrossSection
from scanfold.bragg.materials import Material
from scanfold.bragg.parameters import Vary, complete, make_parameters, parameters_of, plain_parameters
from scanfold.bragg.stages import check_stages
from scanfold.bragg.transmission import Transmission
from scanfold.conventions import InputError, InputTypeError, require_bool, require_number, require_word, unknown

Array = npt.NDArray[np.float64]

#: Format of what `TransmissionModel.to_dict` returns.
MODEL_FORMAT = 1


class TransmissionModel:
    """The transmission of a sample in each bin of a time-of-flight detector.

    T = norm·⟨e^(−n·t·σ) ⊛ R⟩·(1 − b) + k·b, averaged over each bin: cross section σ and number density n of the
    phases, thickness t, response R of source and detector in time, background b.

    Parameters
    ----------
    cross_section : CrossSection
    params : lmfit.Parameters, optional
        Take the place of those of the same name.
    response : {"jorgensen", "full_jorgensen", "square", "measured", "none"}
        Back-to-back exponentials (α0, β0 in µs⁻¹) with a Gaussian (σ0 in µs); the same with α = α0 + α1/d,
        β = β0 + β1/d⁴, σ² = σ0² + (σ1·d)² + (σ2·d²)² at every wavelength, d = λ/2 in Å; a rectangle (width in µs).
    background : {"polynomial3", "polynomial5", "constant", "sample_dependent", "none"}
        b = bg0 + bg1√λ + bg2/√λ (+ bg3 λ + bg4 λ²), λ in Å, never below 0; k (1 to 10) with "sample_dependent".
    tof_length : float
        Flight path (m) where the data do not say theirs.
    vary_basic, vary_background, vary_response, vary_tof, vary_weights, vary_lattice, vary_extinction, vary_sans, \
vary_orientation : bool, optional
        None: the group is absent (but thickness and norm, which then vary); False: present and fixed.
    measured : pair of sequences, optional
        Of a measured response: delays (µs), rising, and weights.
    compat : {None, "nbragg"}
        The form of nbragg, to reproduce published fits: the response acts on σ, sample by sample, whatever their
        spacing; σ is taken at each wavelength, not over its bin; n stays that of the starting weights.

    Attributes
    ----------
    params : lmfit.Parameters
        Change values, bounds and ``vary`` here before a fit.
    cross_section : CrossSection
    stages : dict
        Names to words: groups, parameters, lists, wildcards, "one-by-one", "wlmin=…"; by default one stage for
        each group that varies.

    Raises
    ------
    InputError, InputTypeError
        For unknown words, and groups that no phase can have.

    Examples
    --------
    >>> iron = CrossSection(iron="Fe_sg229_Iron-alpha")
    >>> model = TransmissionModel(iron, vary_basic=True, vary_background=True)
    >>> list(model.params)
    ['thickness', 'norm', 'temp', 'bg0', 'bg1', 'bg2']
    >>> model.evaluate({"thickness": 2.0}, [3.9, 4.1]).round(4).tolist()
    [0.0346, 0.239]
    """

    def __init__(
        self,
        cross_section: CrossSection,
        params: lmfit.Parameters | None = None,
        response: str = "jorgensen",
        background: str = "polynomial3",
        tof_length: float = 9.0,
        vary_basic: bool | None = None,
        vary_weights: bool | None = None,
        vary_background: bool | None = None,
        vary_tof: bool | None = None,
        vary_response: bool | None = None,
        vary_orientation: bool | None = None,
        vary_lattice: bool | None = None,
        vary_extinction: bool | None = None,
        vary_sans: bool | None = None,
        *,
        measured: tuple[Sequence[float], Sequence[float]] | None = None,
        compat: str | None = None,
    ):
        if not isinstance(cross_section, CrossSection):
            raise InputTypeError(f"cross_section is a {type(cross_section).__name__}; expected a bragg.CrossSection")
        for kind, value, valid in (("response", response, RESPONSES), ("background", background, TERMS)):
            require_word(kind, value, valid)
        if compat is not None:
            require_word("compat", compat, ("nbragg",))
        self.vary = Vary(
            vary_basic, vary_background, vary_tof, vary_lattice, vary_orientation, vary_weights, vary_response,
            vary_extinction, vary_sans,
        )  # fmt: skip
        require_bool(**{f"vary_{n}": v for n, v in self.vary._asdict().items() if v is not None})
        self.cross_section = CrossSection(complete(cross_section.phases, self.vary))
        self.compat, self.tof_length = compat, require_number("tof_length", tof_length)
        present = response == "measured" or vary_response is not None
        self.response = response if present else "none"
        self.background = background if vary_background is not None else "none"
        self.measured = _measured(self.response, measured)
        if compat:
            _check_compat(self.response, self.vary)
        self.params = make_parameters(self.cross_section.phases, self.response, self.background, self.vary, compat)
        if params is not None:
            _replace(self.params, params)
        self._stages: dict[str, str | list[str]] | None = None

    @property
    def stages(self) -> dict[str, str | list[str]]:
        """Names of stages to what varies in them."""
        return self._stages if self._stages is not None else self._default_stages()

    @stages.setter
    def stages(self, stages: Mapping[str, str | Sequence[str]] | str | None) -> None:
        self._stages = None if stages is None else check_stages(stages, self.params)

    def _default_stages(self) -> dict[str, str | list[str]]:
        made: dict[str, str | list[str]] = {}
        for group, vary in self.vary._asdict().items():
            if group == "response" and vary and self.response == "full_jorgensen":
                made |= {"response_sig1": ["σ1"], "response_beta": ["σ1", "β0"], "response_alpha": ["σ1", "β0", "α1"]}
            elif vary or (group == "basic" and vary is None):
                made[group] = group
        return made

    def function(
        self,
        *,
        active: Sequence[str] = (),
        temperatures: Sequence[float] | None = None,
        flight_path: float | None = None,
        bin_width: float | None = None,
    ) -> Transmission:
        """Return T(λ) as a function of the parameters, for an instrument; see `Transmission`."""
        names = [n for n, p in self.params.items() if not p.expr]
        return Transmission(
            tuple(self.cross_section.phases.items()), self.response, self.background, tuple(names),
            tuple(float(self.params[n].value) for n in names), tuple(n for n in names if n in active),
            tuple(temperatures or (float(self.params["temp"].value),)), flight_path or self.tof_length, bin_width,
            self.measured, self.compat,
        )  # fmt: skip

    def evaluate(
        self,
        params: lmfit.Parameters | Mapping[str, float] | None,
        wavelength: Any,
        *,
        flight_path: float | None = None,
        bin_width: float | None = None,
    ) -> Array:
        """Return the transmission at wavelengths.

        Parameters
        ----------
        params : lmfit.Parameters or mapping of names to numbers
            What is missing is as in ``model.params``.
        wavelength : array of shape (n,)
            Centres of the bins (Å).
        flight_path : float, optional
            In m.
        bin_width : float, optional
            In Å; by default bins reach to the midpoints between the wavelengths.

        Returns
        -------
        array of shape (n,)
        """
        function = self.function(flight_path=flight_path, bin_width=bin_width)
        values = {n: float(getattr(p, "value", p)) for n, p in (params or {}).items()}
        return function(wavelength, **{n: v for n, v in values.items() if n in function.names})

    def lmfit_model(self, **instrument: Any) -> lmfit.Model:
        """Return the lmfit model of `function`, which takes the same options."""
        return lmfit.Model(self.function(**instrument), independent_vars=["wavelength"])

    def fit(self, data: Any, params: Any = None, **options: Any) -> Any:
        """Fit every group of some data; see `scanfold.bragg.fits.fit_groups` for all options.

        Parameters
        ----------
        data : bragg.Data or Dataset
        params : lmfit.Parameters or mapping, optional
            Take the place of those of ``model.params``; values may be DataArrays over the groups.
        **options
            ``wlmin, wlmax, method, stages, likelihood, n_jobs, backend, progress_bar`` …

        Returns
        -------
        GroupedFitResult
            Lazy until looked at or saved.
        """
        from scanfold.bragg.fits import fit_groups

        return fit_groups(self, data, params, **options)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain JSON; a material of your own carries its NCMAT text."""
        return {
            "format": MODEL_FORMAT,
            "phases": {n: asdict(m) for n, m in self.cross_section.phases.items()},
            "response": self.response, "background": self.background, "tof_length": self.tof_length,
            "vary": self.vary._asdict(), "measured": self.measured, "compat": self.compat,
            "params": plain_parameters(self.params), "stages": self._stages,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> TransmissionModel:
        """Return the model that `to_dict` described; nothing that it holds is run.

        Raises
        ------
        InputError
            If it is another format, or was damaged.
        """
        if not isinstance(described, Mapping) or described.get("format") != MODEL_FORMAT:
            found = described.get("format") if isinstance(described, Mapping) else type(described).__name__
            raise InputError(f"the model has format {found!r}; this version reads {MODEL_FORMAT}")
        try:
            return cls._from_plain(described)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"the description of the model is damaged: {type(error).__name__}: {error}") from None

    @classmethod
    def _from_plain(cls, described: Mapping[str, Any]) -> TransmissionModel:
        phases = {}
        for name, settings in described["phases"].items():
            directions = {k: tuple(v) if v is not None else None for k, v in settings.items() if k in ("dir1", "dir2")}
            phases[name] = Material(**{**settings, **directions})
        vary = {f"vary_{n}": v for n, v in described["vary"].items()}
        model = cls(
            CrossSection(phases), None, described["response"], described["background"], described["tof_length"],
            measured=described["measured"], compat=described["compat"], **vary,
        )  # fmt: skip
        _replace(model.params, parameters_of(described["params"]))
        model._stages = None if described["stages"] is None else check_stages(described["stages"], model.params)
        return model

    def __repr__(self) -> str:
        """Show what it is made of."""
        form = f", compat={self.compat!r}" if self.compat else ""
        parts = f"response={self.response!r}, background={self.background!r}{form}"
        return f"TransmissionModel({self.cross_section!r}, {parts})"

    def _repr_html_(self) -> str:
        rows = [[p.name, p.value, p.min, p.max, p.expr or ("" if p.vary else "fixed")] for p in self.params.values()]
        return overview(self, table(["parameter", "start", "min", "max", "expr"], rows))


def _measured(response: str, measured: Any) -> tuple[tuple[float, ...], ...] | None:
    """Return a measured response as numbers; raise unless there is one where it is asked for."""
    if response != "measured":
        if measured is not None:
            raise InputError(f"measured is given, and response is {response!r}; type response='measured'")
        return None
    if measured is None:
        raise InputError("response='measured' needs measured=(delays in µs, weights)")
    try:
        delay, weight = (np.asarray(v, np.float64) for v in measured)
    except (TypeError, ValueError):
        raise InputTypeError("measured takes two rows of numbers, (delays in µs, weights)") from None
    if delay.ndim != 1 or delay.shape != weight.shape or delay.size < 2 or not (np.diff(delay) > 0.0).all():
        raise InputError(
            f"measured has delays of shape {delay.shape} and weights of shape {weight.shape}; expected two rows of "
            "equal length, delays rising"
        )
    if not (np.isfinite(weight).all() and weight.sum() > 0.0):
        raise InputError("the weights of a measured response must be finite numbers with a sum above 0")
    return tuple(delay.tolist()), tuple(weight.tolist())


def _check_compat(response: str, vary: Vary) -> None:
    """Raise for what the form of nbragg does not have, or has in no way that could be fitted."""
    if response not in ("none", "jorgensen", "full_jorgensen"):
        raise InputError(f"compat='nbragg' has no response {response!r}; expected jorgensen, full_jorgensen or none")
    if vary.tof or vary.lattice:
        raise InputError(
            "compat='nbragg' samples σ at each wavelength, so that its edges do not move with L0, t0 or the lattice; "
            "fit those without compat"
        )


def _replace(params: lmfit.Parameters, given: lmfit.Parameters) -> None:
    for name, parameter in given.items():
        if name not in params:
            raise unknown("parameter", name, params)
        params[name].set(
            value=parameter.value, vary=parameter.vary, min=parameter.min, max=parameter.max, expr=parameter.expr
        )
