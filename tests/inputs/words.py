"""Configurations, parameters, model strings, expressions, labels, options: of what belongs there, and what not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from . import arguments
from .odd import ANYTHING, JSON, NUMBER, Drawn, as_json, changed, edited, either, mapping, one, options, sentence


def _as_it_is(folder: Path, said: Any) -> Any:
    return said


@dataclass
class WordTrial:
    """Something to say, what hears it, and some that are right, or what makes them."""

    said: Drawn
    hear: Callable[[Any], Any]
    right: Sequence[Any] | Callable[[], Sequence[Any]]
    #: What makes the files that are spoken of.
    put: Callable[[Path, Any], Any] = _as_it_is
    names: tuple[str, ...] | None = None
    most: float = 300.0
    #: What it may come to where it is its work to write.
    writes: tuple[str, ...] = ()

    def begin(self, folder: Path) -> None:
        """Say what is right, which loads and compiles what the first use needs."""
        for right in self.right() if callable(self.right) else self.right:
            self.hear(self.prepare(folder, right))

    def prepare(self, folder: Path, said: Any) -> Any:
        """Write what is spoken of."""
        shutil.rmtree(folder / "bad", ignore_errors=True)
        (folder / "bad").mkdir()
        return self.put(folder / "bad", said)

    def attempt(self, said: Any) -> tuple[str, str]:
        """Say it."""
        self.hear(said)
        return "right", ""


def _file(name: str) -> Callable[[Path, bytes], Path]:
    def put(folder: Path, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return put


# --- configurations -------------------------------------------------------------------------------------------------

RUN = """file: map.h5
model: LorentzianModel + LinearModel
dim: energy
out: fits.zarr
scan_shape: [4, 5]
dims: [y, x, energy]
select: {energy: [1, 5], x: "0:3"}
weights: counts
likelihood: poisson
params: {center: {value: 3, min: 1, max: 5}, slope: 0, sigma: {expr: 2*slope}}
stages: {first: [center], second: [slope, intercept]}
max_nfev: 100
retry: false
poor_fit: 1e-6
workers: 2
"""
YAML_WORDS = (
    "!!python/object/apply:os.system ['touch ran']", "&a [*a]", "*nobody", "{? [1] : 2}", "2026-99-99", "0o777",
    "1:2:3", "~", "[[[[", "}", "- - -", "!!binary x", "!!timestamp x", "!!int x", "!!float .", "|", ">", "@", "`", "%",
    "? ", "'", "- 1", ".inf", ".nan", "1e400", "<<: 1", "&a {b: *a}", "[" * 2000, "{a: " * 2000, "9" * 5000, "\x07",
    "true", "[8, 80]", "none", "adaptive",
)  # fmt: skip


def _polar() -> Any:
    from scanfold.detectors.config import resolve

    return resolve(None)


def _polar_yaml() -> str:
    from scanfold.detectors.config import as_yaml

    return as_yaml(_polar())


def _resolve(given: Any) -> Any:
    from scanfold.detectors.config import check, resolve

    check(resolve(given), (128, 128), (30, 40))


def _read_config(path: Path) -> Any:
    from scanfold.cli.options import read_config

    return read_config(str(path))


# --- fits -----------------------------------------------------------------------------------------------------------

MODEL = "LorentzianModel(prefix='p_') + LinearModel()"
MODEL_WORDS = (
    "LorentzianModel", "GaussianModel(prefix='a_')", "LinearModel()", "PolynomialModel(degree=2)",
    "SplineModel(xknots=[1,2,3,4])", "ExpressionModel('a*x+b')",
    "ExpressionModel('__import__(\"os\").system(\"touch ran\")')", "+", "-", "*", "/", "**", "(", ")",
    "StepModel(form='erf')", "StepModel(form='x')", "prefix", "=", "'p_'", "'1'", "' '", "'é_'",
    "__import__('os').system('touch ran')", "lambda: 1", "[x for x in y]", "().__class__", "PolynomialModel(degree=99)",
    "PolynomialModel(degree='x')", "PolynomialModel(degree=-1)", "SplineModel(xknots=[])", "SplineModel(xknots=[2,1])",
    "SplineModel(xknots=['a'])", "GaussianModel(prefix='for ')", "1", "1e999", "GaussianModel(prefix=5)",
    "GaussianModel(independent_vars=['y'])", "GaussianModel(nan_policy='omit')", "Model(len)", "open('ran','w')",
    "ExpressionModel('a'*9**9)", "ExpressionModel(open('x'))", "\n", "\t", "#", "\\", "\x00", "é", ",", ";", ":=",
    "await x", "f'{1}'", "GaussianModel(prefix='lambda')", "GaussianModel(prefix='a'*10**10)", "GaussianModel(**{})",
    "-LinearModel()", "'x'", "\ud800",
)  # fmt: skip
EXPR_WORDS = (
    "sigma", "center", "slope", "x", "pi", "e", "1", "0", "1e999", "2", "+", "-", "*", "/", "**", "(", ")", ",",
    "sqrt", "exp(", "log(-1)", "max(1,2)", "min(1)", "abs(", "__import__('os').system('touch ran')", "open('ran','w')",
    "().__class__.__bases__", "lambda: 0", "[1]", "{1}", "'a'", "a.b", "a[0]", "x if y else z", "1 < 2", "not 1",
    "and", "9**9**9**9", "1/0", "0**-1", "nan", "inf", "None", "True", "1j", "wofz(1j*sigma)", "real(",
    "loggammafcn(", "import os", ";", "\n", ":=", "print(1)", "center_", "p_sigma", "p_center", "\x00", "é", "0x10",
    "1_0", "eval('1')", "exec", "globals()", "getattr(a,'b')", "~1", "1 @ 2", "1 % 2", "1 // 2", "f'{1}'", "...",
    "\ud800",
)  # fmt: skip
NAMES = ("p_amplitude", "p_center", "p_sigma", "p_fwhm", "p_height", "slope", "intercept")
SETTINGS = {
    "value": either(NUMBER), "min": either(NUMBER), "max": either(NUMBER), "vary": one(True, False),
    "expr": one("2*slope", "p_sigma", "1"), "brute_step": ANYTHING, "": ANYTHING,
}  # fmt: skip
FIT = {
    "dim": one("energy", "y"), "weights": one("counts", None), "likelihood": one("poisson", "gaussian"),
    "reference": one(None), "guess": one("auto", "model", "mean", "params"), "engine": one("auto", "batch", "lmfit"),
    "method": one("leastsq", "nelder", "least_squares"), "covariance": one(True, False), "errors": one("flag", "raise"),
    "max_nfev": one(1, 100, None), "retry": one(True, False), "poor_fit": one(0.5, 1e-6), "no_signal": one(0, 10.0),
    "stages": one({"a": ["slope"]}, {"a": "slope"}, {"a": ["p_center"], "b": ["slope", "intercept"]}),
}  # fmt: skip


def _spectra() -> xr.DataArray:
    values = np.random.default_rng(0).poisson(5, (2, 3, 12)).astype(float)
    return xr.DataArray(values, dims=("y", "x", "energy"), coords={"energy": np.arange(12.0)}, name="counts").chunk(y=1)


def _parsed(text: str) -> Any:
    from scanfold.cli.models import parse_model

    return parse_model(text).make_params()


def _fit(given: Any) -> Any:
    """Build the graph of a fit, which raises what is to be raised before any computing."""
    import scanfold as sf
    from scanfold.cli.models import parse_model

    return sf.fit(_spectra(), parse_model(MODEL), **{"dim": "energy", **given})


def _of_lmfit(folder: Path, said: list[tuple[str, str, Any]]) -> Any:
    """Make Parameters of lmfit, and set on them what lmfit itself lets pass."""
    from scanfold.cli.models import parse_model

    params = parse_model(MODEL).make_params()
    for name, setting, value in said:
        try:
            setattr(params[name], setting, value)
        except Exception:
            continue
    return {"params": params}


# --- scans, labels, requests ----------------------------------------------------------------------------------------

OPEN = {
    "dataset": one(None, "data"), "scan_shape": one((3, 4), (4, 3), (5, 5)), "dims": one(("y", "x", "ky", "kx")),
    "chunks": one({"position": 5}, {"ky": -1}, 5, -1, [[1, 2], 3], {"x": (3, 3)}), "locking": one(None, True, False),
    "format": one("ptycho", None), "fields": one(None, {"diffraction": "x"}), "kind": one(None, "amplitude"),
    "verify": one(False, True),
}  # fmt: skip


def _frames(folder: Path, said: Any) -> Any:
    np.save(folder / "subject.npy", np.zeros((12, 5, 6), "u2"))
    return folder / "subject.npy", said


def _open(said: tuple[Path, dict[str, Any]]) -> Any:
    import scanfold as sf

    return sf.open_scan(said[0], **said[1])


def _labels() -> Drawn:
    shapes = st.sampled_from(((3, 4), (12,), (4, 3), (3, 4, 2), (12, 2), (0,), (), (3, 4, 0), (1, 12), (3, 4, 5)))
    small = hnp.arrays(st.sampled_from(("i1", "u8", "f8", "f2")), shapes, elements=st.integers(0, 3))
    wrong = hnp.arrays(hnp.scalar_dtypes() | st.just(np.dtype("U3")), shapes)
    objects = hnp.arrays(object, shapes, elements=JSON)
    return small | wrong | objects | hnp.arrays(np.float64, (3, 4), elements=st.floats()) | ANYTHING


def _as_labels(values: Any) -> Any:
    from scanfold.detectors.labels import as_labels

    return as_labels(values, xr.DataArray(np.zeros((3, 4, 2, 2)), dims=("y", "x", "ky", "kx")), ("y", "x"))


RATES = ("km", "delta", "beta", "t0", "offset", "ktl")
REQUEST = {
    "model_type": either(st.sampled_from(("maturation", "trivial", "TRIVIAL", "exponential_decay")), of=8),
    "model_params": either(mapping(RATES, either(NUMBER))),
    "model_bounds": either(mapping(RATES, either(st.tuples(NUMBER, NUMBER)))),
    "fixed": one(None, ["km"], "delta", ()),
    "weights": one(None, "counts", 2.0, [1.0] * 12),
}


def _requested(given: dict[str, Any]) -> Any:
    """Ask for fits of three traces, without fitting them."""
    from scanfold import traces

    request = traces.FittingRequest(**{"model_type": "maturation", **given})
    data = xr.DataArray(np.ones((3, 12)), dims=("cell", "time"), coords={"time": np.arange(12.0)}).chunk(cell=1)
    return request.describe(), traces.fit_trace_data(data, request)


BEAM = {
    "response": one("jorgensen", "full_jorgensen", "square", "none"), "background": one("polynomial3", "none"),
    "tof_length": either(NUMBER), "compat": one(None, "nbragg"), "measured": one(None, ((0, 1, 2), (1, 2, 1))),
    **{f"vary_{n}": one(None, True, False) for n in ("basic", "tof", "response", "lattice", "background", "sans")},
    "params": either(mapping(("thickness", "norm", "temp", "α0", "bg0", "L0"), either(st.dictionaries(
        st.sampled_from(("value", "min", "max", "vary", "expr")), either(NUMBER), max_size=2)))),
    "wlmin": either(NUMBER), "wlmax": either(NUMBER), "likelihood": one("gaussian", "poisson"),
    "method": one("leastsq", "rietveld", "staged"), "backend": one(None, "threading"), "n_jobs": one(None, 1),
    "stages": one("all", {"a": "basic"}, {"a": ["thickness", "norm"], "b": "background"}),
    "material": one("Fe_sg229_Iron-alpha", {"mat": "Fe_sg229_Iron-alpha", "temp": 300.0, "mos": 5.0}),
}  # fmt: skip


def _bragg(given: dict[Any, Any]) -> Any:
    """Make a model of transmission, and ask for fits of it, without fitting."""
    from scanfold import bragg

    fits = ("params", "wlmin", "wlmax", "likelihood", "method", "backend", "n_jobs", "stages")
    section = bragg.CrossSection(iron=given.get("material", "Fe_sg229_Iron-alpha"))
    made = {k: v for k, v in given.items() if k not in (*fits, "material")}
    model = bragg.TransmissionModel(section, **made)
    x = xr.DataArray(np.linspace(1.5, 5, 40), dims="wavelength")
    counts = (100 * xr.ones_like(x)).expand_dims(group=2).assign_coords(wavelength=x)
    data = bragg.Data.from_grouped(counts, 2 * counts, L=9.0, tstep=1e-5)
    return model.fit(data, **{"wlmin": 1.0, "wlmax": 6.0, **{k: v for k, v in given.items() if k in fits}})


SIMULATION = {
    "n_images": one(1, 4, 9), "nphotons": either(NUMBER), "gridsize": one(1, 2), "buffer": either(NUMBER),
    "positions": one("uniform", "raster", "spiral", "fermat", "lissajous", (np.array([30.0, 31]), [30.0, 31])),
    "jitter": either(NUMBER), "interpolation": one("bilinear", "fourier"), "noise": one(True, False),
    "counts": one(True, False), "beam_stop": one(None, np.ones((16, 16), bool)), "psf": either(NUMBER),
    "saturation": either(NUMBER), "background": either(NUMBER), "return_patches": one(True, False),
    "chunks": one(None, 1, 4), "seed": either(st.integers()), "shape": one(None, (2, 2)), "turns": one(None, (2, 3)),
    "objectGuess": one(np.ones((60, 60), complex)), "probeGuess": one(np.ones((16, 16), complex), np.ones((2, 16, 16))),
}  # fmt: skip


def _simulated(given: dict[Any, Any]) -> Any:
    from scanfold import ptycho

    usual = {"objectGuess": ptycho.lines(60), "probeGuess": ptycho.default_probe(16), "n_images": 4}
    return ptycho.generate_simulated_data(**{**usual, **given})


PLAN = {
    "nsamples": one(1, 4, 20), "gridsize": one(1, 2), "group_size": one(None, 1, 4), "K": one(None, 7, 19),
    "seed": either(st.integers()), "sampling": one("random", "sequential", "stratified", "poisson_disk", "local"),
    "policy": one("random", "nearest", "min_dist", "4_quadrant"), "include_seed": one(True, False),
    "disjoint": one(True, False), "max_radius": either(NUMBER), "enable_oversampling": one(True, False),
    "partition": one(None, np.arange(20) % 2), "n_subsample": one(None, 10), "subsample_seed": either(st.integers()),
    "positions": one(np.arange(40.0).reshape(2, 20)), "order": one("tile", "plan"), "chunks": one(None, 2),
}  # fmt: skip
#: Each kernel of plans is compiled for one of these.
PLANS = (
    {}, {"sampling": "stratified"}, {"sampling": "poisson_disk"}, {"sampling": "local"}, {"gridsize": 2},
    {"gridsize": 2, "policy": "nearest"}, {"gridsize": 2, "policy": "min_dist"}, {"gridsize": 2, "disjoint": True},
    {"gridsize": 2, "policy": "4_quadrant"}, {"gridsize": 2, "partition": np.arange(20) % 2},
)  # fmt: skip


def _grouped(given: dict[Any, Any]) -> Any:
    """Plan groups and gather their frames."""
    from scanfold import grouping

    y, x = np.random.default_rng(0).uniform(0, 50, (2, 20))
    places = {"position_y": ("position", y), "position_x": ("position", x)}
    scan = xr.Dataset(
        {"diffraction": (("position", "ky", "kx"), np.ones((20, 4, 4), "f4"))}, places, {"primary": "diffraction"}
    )
    how = {"nsamples": 4, **{k: v for k, v in given.items() if k not in ("positions", "order", "chunks")}}
    plan = grouping.plan_groups(given.get("positions", scan), **how)
    return grouping.gather(scan, plan, **{k: given[k] for k in ("order", "chunks") if k in given})


def _result() -> Any:
    """Return what a file of results of Bragg-edge fits holds."""
    from scanfold.bragg.result_files import KIND, VERSION

    variable = {"dims": ["group"], "shape": [2], "dtype": "float64", "attrs": {}, "data": [1.0, "NaN"]}
    flags = {"flag_values": [0, 1], "flag_meanings": "converged failed"}
    status = {"dims": ["group"], "shape": [2], "dtype": "int8", "attrs": flags, "data": [0, 1]}
    variables = {"thickness": variable, "thickness_stderr": variable, "status": status}
    fits = {"attrs": {"provenance": "{}"}, "coords": {}, "variables": variables}
    return {"kind": KIND, "version": VERSION, "fits": fits, "model": None}


def _load_result(path: Path) -> Any:
    from scanfold import bragg

    return bragg.GroupedFitResult.load(str(path))


NCMAT = """NCMAT v5
@CELL
  cubic 2.866
@SPACEGROUP
  229
@ATOMPOSITIONS
  Fe 0 0 0
  Fe 1/2 1/2 1/2
@DYNINFO
  element  Fe
  fraction 1
  type     vdosdebye
@DEBYETEMPERATURE
  Fe 420
"""
MTEX = "volume_mtex,fwhm,xh,xk,xl,yh,yk,yl\n0.3,10,1,0,0,0,1,0\n0.2,12,1,1,0,0,0,1\n"


def _register(path: Path) -> Any:
    from scanfold import bragg

    return bragg.register_material(path)


def _from_mtex(path: Path) -> Any:
    from scanfold import bragg

    return bragg.CrossSection.from_mtex(path, "Fe_sg229_Iron-alpha")


PARAMS = either(mapping(NAMES, either(options(SETTINGS), of=3)), of=20).map(lambda p: {"params": p})
FIELD = st.sampled_from(("value", "min", "max", "vary", "stderr", "init_value"))
SET = st.tuples(st.sampled_from(NAMES), FIELD, NUMBER)
EXPR = st.tuples(st.sampled_from(("p_sigma", "slope", "extra")), sentence(EXPR_WORDS, 7))
TRIALS = {
    "config of polar-map (YAML)": WordTrial(
        st.deferred(lambda: edited(_polar_yaml(), YAML_WORDS)), _resolve, [b""], put=_file("subject.yaml")
    ),
    "config of polar-map (mapping)": WordTrial(st.deferred(lambda: changed(_polar(), ANYTHING)), _resolve, [{}]),
    "config of fit (YAML)": WordTrial(
        edited(RUN, YAML_WORDS), _read_config, [RUN.encode()], put=_file("subject.yaml"), names=("subject",)
    ),
    "model strings": WordTrial(sentence(MODEL_WORDS, 6), _parsed, [MODEL]),
    "expr": WordTrial(EXPR.map(lambda e: {"params": {e[0]: {"expr": e[1]}}}), _fit, [{}]),
    "parameter sets": WordTrial(PARAMS, _fit, [{"params": {"slope": {"value": 1}}}]),
    "parameter sets of lmfit": WordTrial(st.lists(SET, min_size=8, max_size=16), _fit, [[]], put=_of_lmfit),
    "options of fit": WordTrial(options(FIT, 3), _fit, [{}, {"engine": "lmfit"}]),
    "options of open_scan": WordTrial(options(OPEN, 3), _open, [{}], put=_frames),
    "labels (arrays)": WordTrial(_labels(), _as_labels, [np.arange(12) % 3]),
    "requests of traces": WordTrial(options(REQUEST), _requested, [{}]),
    "models and fits of bragg": WordTrial(options(BEAM), _bragg, [{}]),
    "options of simulate": WordTrial(options(SIMULATION), _simulated, [{}]),
    "options of plan_groups, gather": WordTrial(options(PLAN), _grouped, PLANS),
    "results of bragg (JSON)": WordTrial(
        st.deferred(lambda: changed(_result(), JSON).map(as_json)), _load_result,
        lambda: [as_json(_result())], put=_file("subject.json"),
    ),
    "materials (.ncmat)": WordTrial(edited(NCMAT), _register, [NCMAT.encode()], put=_file("subject.ncmat")),
    "textures (MTEX, CSV)": WordTrial(edited(MTEX), _from_mtex, [MTEX.encode()], put=_file("subject.csv")),
    "arguments of commands": WordTrial(
        arguments.ARGV, arguments.main, arguments.RIGHT, put=arguments.put, writes=("right",)
    ),
}  # fmt: skip
