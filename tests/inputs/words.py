"""Configurations, parameters, model strings, expressions, labels, arguments: of what belongs there, and what not."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .damage import VALUES, WORDS, json_of, text_of

#: Python objects that nobody expects, beside those of JSON.
ODD: tuple[Any, ...] = (
    *VALUES, b"bytes", 1 + 2j, np.float32(2), np.int64(-3), np.nan, (1, 2), (1, 2, 3), {1, 2}, np.arange(3),
    np.zeros((2, 0)),
    np.array("x"), object(), len, Path("x"), range(3), slice(2), {"value": 1}, {"min": 2, "max": 1}, {"expr": "1/0"},
    {"value": "nan"}, {"vary": "no"}, {"value": np.inf}, {1: 2}, xr.DataArray([1.0, 2.0], dims="y"), Ellipsis,
    NotImplemented,
)  # fmt: skip


def pick(rng: np.random.Generator, among: Any) -> Any:
    """Return one of some."""
    return among[int(rng.integers(len(among)))]


@dataclass
class WordTrial:
    """Something to say, and what hears it."""

    make: Callable[[Path, np.random.Generator], Any]
    hear: Callable[[Any], Any]
    names: tuple[str, ...] | None = None
    most: float = 300.0

    def begin(self, folder: Path) -> None:
        """Load and compile what the first use needs."""
        shutil.rmtree(folder / "bad", ignore_errors=True)
        (folder / "bad").mkdir()
        for seed in range(3):
            try:
                self.hear(self.make(folder / "bad", np.random.default_rng(10**6 + seed)))
            except BaseException:
                continue

    def prepare(self, folder: Path, seed: int) -> Any:
        """Make one."""
        shutil.rmtree(folder / "bad", ignore_errors=True)
        (folder / "bad").mkdir()
        return self.make(folder / "bad", np.random.default_rng(seed))

    def attempt(self, said: Any) -> tuple[str, str]:
        """Say it."""
        self.hear(said)
        return "right", ""


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
    "1:2:3", "~",
    "[[[[", "}", "- - -", "!!binary x", "!!timestamp x", "!!int x", "!!float .", "|", ">", "@", "`", "%", "? ", "'",
    "- 1", ".inf",
    ".nan", "1e400", "<<: 1", "&a {b: *a}", "[" * 2000, "{a: " * 2000, "9" * 5000, "\x07", "true", "[8, 80]", "none",
    "adaptive",
)  # fmt: skip


def _yaml(base: Callable[[], str]) -> Callable[[Path, np.random.Generator], Path]:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        lines = base().splitlines()
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(lines)))
            head, colon, _ = lines[at].partition(":")
            match rng.integers(5):
                case 0 | 1 | 2:
                    lines[at] = f"{head}{colon} {pick(rng, YAML_WORDS + WORDS)}"
                case 3:
                    lines.insert(at, pick(rng, lines))
                case 4:
                    lines[at] = pick(rng, YAML_WORDS + WORDS)
        content = "\n".join(lines).encode("utf-8", errors="replace")
        path = folder / "subject.yaml"
        path.write_bytes(text_of(content, rng) if rng.random() < 0.2 else content)
        return path

    return make


def _polar_yaml() -> str:
    from scanfold.detectors.config import as_yaml, resolve

    return as_yaml(resolve(None))


def _resolve(given: Any) -> Any:
    from scanfold.detectors.config import check, resolve

    check(resolve(given), (8, 8), (3, 4))


def _polar_mapping(folder: Path, rng: np.random.Generator) -> Any:
    from scanfold.detectors.config import resolve

    config: Any = copy.deepcopy(resolve(None))
    for _ in range(int(rng.integers(1, 4))):
        section = pick(rng, list(config))
        if rng.random() < 0.1 or not isinstance(config[section], dict):
            config[pick(rng, [section, *WORDS, 1, None])] = pick(rng, ODD)
        else:
            config[section][pick(rng, [*config[section], "x"]) if rng.random() < 0.95 else pick(rng, WORDS)] = pick(
                rng, ODD
            )
    return config


def _read_config(path: Path) -> Any:
    from scanfold.cli.options import read_config

    return read_config(str(path))


# --- fits -----------------------------------------------------------------------------------------------------------

MODEL = "LorentzianModel(prefix='p_') + LinearModel()"
MODEL_WORDS = (
    "LorentzianModel", "GaussianModel(prefix='a_')", "LinearModel()", "PolynomialModel(degree=2)",
    "SplineModel(xknots=[1,2,3,4])",
    "ExpressionModel('a*x+b')", "ExpressionModel('__import__(\"os\").system(\"touch ran\")')", "+", "-", "*", "/",
    "**", "(", ")",
    "StepModel(form='erf')", "StepModel(form='x')", "prefix", "=", "'p_'", "'1'", "' '", "'é_'",
    "__import__('os').system('touch ran')",
    "lambda: 1", "[x for x in y]", "().__class__", "PolynomialModel(degree=99)", "PolynomialModel(degree='x')",
    "PolynomialModel(degree=-1)",
    "SplineModel(xknots=[])", "SplineModel(xknots=[2,1])", "SplineModel(xknots=['a'])",
    "GaussianModel(prefix='for ')", "1", "1e999",
    "GaussianModel(prefix=5)", "GaussianModel(independent_vars=['y'])", "GaussianModel(nan_policy='omit')",
    "Model(len)", "open('ran','w')",
    "ExpressionModel('a'*9**9)", "ExpressionModel(open('x'))", "\n", "\t", "#", "\\", "\x00", "é", ",", ";", ":=",
    "await x", "f'{1}'",
    "GaussianModel(prefix='lambda')", "GaussianModel(prefix='a'*10**10)", "GaussianModel(**{})", "-LinearModel()",
    "'x'", "\ud800",
)  # fmt: skip
EXPR_WORDS = (
    "sigma", "center", "slope", "x", "pi", "e", "1", "0", "1e999", "2", "+", "-", "*", "/", "**", "(", ")", ",",
    "sqrt", "exp(", "log(-1)",
    "max(1,2)", "min(1)", "abs(", "__import__('os').system('touch ran')", "open('ran','w')", "().__class__.__bases__",
    "lambda: 0",
    "[1]", "{1}", "'a'", "a.b", "a[0]", "x if y else z", "1 < 2", "not 1", "and", "9**9**9**9", "1/0", "0**-1", "nan",
    "inf", "None",
    "True", "1j", "wofz(1j*sigma)", "real(", "loggammafcn(", "import os", ";", "\n", ":=", "print(1)", "center_",
    "p_sigma", "p_center",
    "\x00", "é", "0x10", "1_0", "eval('1')", "exec", "globals()", "getattr(a,'b')", "~1", "1 @ 2", "1 % 2", "1 // 2",
    "f'{1}'", "...", "\ud800",
)  # fmt: skip


def _sentence(words: tuple[str, ...], most: int) -> Callable[[np.random.Generator], str]:
    def make(rng: np.random.Generator) -> str:
        if rng.random() < 0.02:
            return pick(rng, ("(", "-", "[", "a.", "not ", "sigma+", "LinearModel()+")) * int(rng.integers(1, 3000))
        space = pick(rng, ("", " "))
        return space.join(pick(rng, words if rng.random() < 0.97 else WORDS) for _ in range(int(rng.integers(0, most))))

    return make


def _spectra() -> xr.DataArray:
    values = np.random.default_rng(0).poisson(5, (2, 3, 12)).astype(float)
    return xr.DataArray(values, dims=("y", "x", "energy"), coords={"energy": np.arange(12.0)}, name="counts").chunk(y=1)


def _parsed(text: str) -> Any:
    from scanfold.cli.models import parse_model

    return parse_model(text).make_params()


def _fit(options: dict[str, Any]) -> Any:
    """Build the graph of a fit, which raises what is to be raised before any computing."""
    import scanfold as sf
    from scanfold.cli.models import parse_model

    given = {"dim": "energy", "params": None, **options}
    return sf.fit(_spectra(), parse_model(MODEL), given.pop("params"), **given)


def _params(folder: Path, rng: np.random.Generator) -> Any:
    names = ("p_amplitude", "p_center", "p_sigma", "p_fwhm", "p_height", "slope", "intercept")
    out: dict[Any, Any] = {}
    for _ in range(int(rng.integers(1, 4))):
        name = pick(rng, names) if rng.random() < 0.85 else pick(rng, (*WORDS, 1, None, ("a",)))
        if rng.random() < 0.4:
            out[name] = pick(rng, ODD)
        else:
            keys = ("value", "min", "max", "vary", "expr", "brute_step", "user_data", "")
            out[name] = {pick(rng, keys): pick(rng, ODD) for _ in range(int(rng.integers(1, 4)))}
    return {"params": pick(rng, ODD) if rng.random() < 0.05 else out}


def _expr(folder: Path, rng: np.random.Generator) -> Any:
    text = _sentence(EXPR_WORDS, 7)(rng)
    return {"params": {pick(rng, ("p_sigma", "slope", "extra")): {"expr": text}}}


def _fit_options(folder: Path, rng: np.random.Generator) -> Any:
    names = ("dim", "weights", "likelihood", "guess", "engine", "method", "covariance", "errors", "max_nfev", "retry",
    "poor_fit",
             "no_signal", "stages")  # fmt: skip
    some = (
        "counts",
        "energy",
        "poisson",
        "lmfit",
        "batch",
        "leastsq",
        "nelder",
        1,
        0.5,
        {"a": ["slope"]},
        {"a": "slope"},
    )
    return {pick(rng, names): pick(rng, ODD if rng.random() < 0.7 else some) for _ in range(int(rng.integers(1, 3)))}


# --- scans, labels, requests ----------------------------------------------------------------------------------------


def _open_options(folder: Path, rng: np.random.Generator) -> Any:
    path = folder / "subject.npy"
    np.save(path, np.zeros((12, 5, 6), "u2"))
    names = ("dataset", "scan_shape", "dims", "chunks", "locking", "format", "fields", "kind")
    some = (
        (3, 4),
        ("a", "b", "c"),
        "ptycho",
        {"position": 5},
        {"ky": -1},
        5,
        -1,
        ("y", "y", "x"),
        [[1, 2], 3],
        {"x": (3, 3)},
    )
    return path, {
        pick(rng, names): pick(rng, ODD if rng.random() < 0.6 else some) for _ in range(int(rng.integers(1, 4)))
    }


def _open(said: tuple[Path, dict[str, Any]]) -> Any:
    import scanfold as sf

    return sf.open_scan(said[0], **said[1])


def _label_arrays(folder: Path, rng: np.random.Generator) -> Any:
    base = np.arange(12).reshape(3, 4) % 3
    shapes: tuple[Any, ...] = ((3, 4), (12,), (4, 3), (3, 4, 2), (12, 2), (0,), (), (3, 4, 0), (1, 12), (3, 4, 5))
    kinds = ("int8", "uint64", "float64", "float16", "complex64", "bool", "U3", "object", "datetime64[s]", "int64")
    if rng.random() < 0.3:
        return pick(rng, ODD)
    values = np.resize(base, pick(rng, shapes)) if rng.random() < 0.6 else rng.integers(-3, 9, pick(rng, shapes))
    values = values.astype(pick(rng, kinds))
    if values.dtype.kind == "f" and values.size:
        values.flat[int(rng.integers(values.size))] = pick(rng, (np.nan, np.inf, -np.inf, 0.5, -2, 1e300))
    return values


def _as_labels(values: Any) -> Any:
    from scanfold.detectors.labels import as_labels

    return as_labels(values, xr.DataArray(np.zeros((3, 4, 2, 2)), dims=("y", "x", "ky", "kx")), ("y", "x"))


def _request(folder: Path, rng: np.random.Generator) -> Any:
    model = pick(rng, ("maturation", "trivial", "TRIVIAL", *ODD, *WORDS)) if rng.random() < 0.3 else "maturation"
    names = ("km", "delta", "beta", "t0", "offset", "ktl", 1, "")
    mapping = lambda: {pick(rng, names): pick(rng, ODD) for _ in range(2)}  # noqa: E731
    made = [mapping() if rng.random() < 0.7 else pick(rng, ODD) for _ in range(2)]
    return [model, *made, pick(rng, (None, None, *ODD, ["km"], "delta")), pick(rng, (None, None, "counts", *ODD))]


def _requested(said: list[Any]) -> Any:
    from scanfold.traces import FittingRequest

    return FittingRequest(*said).describe()


def _result(folder: Path, rng: np.random.Generator) -> Any:
    """Write a result of Bragg-edge fits as JSON, with something else in it."""
    path = folder / "subject.json"
    variable = {"dims": ["group"], "shape": [2], "dtype": "float64", "attrs": {}, "data": [1.0, "NaN"]}
    flags = {"flag_values": [0, 1], "flag_meanings": "converged failed"}
    status = {"dims": ["group"], "shape": [2], "dtype": "int8", "attrs": flags, "data": [0, 1]}
    fits = {"attrs": {"provenance": "{}"}, "coords": {}, "variables": {"thickness": variable, "status": status}}
    import json

    from scanfold.bragg.result_files import KIND, VERSION

    content = json.dumps({"kind": KIND, "version": VERSION, "fits": fits, "model": None}).encode()
    path.write_bytes(json_of(content, rng))
    return path


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


def _damaged(content: str, name: str) -> Callable[[Path, np.random.Generator], Path]:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        path = folder / name
        changed = content.replace(" ", ",") if name.endswith(".ncmat") else content
        out = text_of(changed.encode(), rng)
        path.write_bytes(out.replace(b",", b" ") if name.endswith(".ncmat") else out)
        return path

    return make


def _register(path: Path) -> Any:
    from scanfold import bragg

    return bragg.register_material(path)


def _from_mtex(path: Path) -> Any:
    from scanfold import bragg

    return bragg.CrossSection.from_mtex(path, "Fe_sg229_Iron-alpha")


# --- the command line -----------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[str, ...]] = {
    "info": (), "report": ("--out",),
    "fit": ("--model", "--dim", "--out", "--dataset", "--scan-shape", "--dims", "--select", "--weights", "--param",
    "--stage", "--guess",
            "--engine", "--max-nfev", "--poor-fit", "--workers", "--config", "--csv", "--report", "--method",
            "--no-signal"),
    "bragg": ("--signal", "--openbeam", "--material", "--out", "--L", "--tstep", "--vary", "--start", "--wlmin",
    "--rebin", "--query",
              "--background", "--pattern"),
    "traces": ("--model", "--set", "--bound", "--fixed", "--weights", "--out", "--files", "--cells", "--suffix",
    "--csv"),
    "group": ("--nsamples", "--gridsize", "--K", "--seed", "--sampling", "--policy", "--max-radius", "--out",
    "--field", "--kind"),
    "simulate": ("--object", "--probe", "--n", "--nphotons", "--out", "--seed", "--gridsize", "--config", "--scan"),
    "polar-map": ("--data", "--labels", "--out", "--scan-shape", "--config", "--clusters", "--chunks",
    "--known-spacing", "--device"),
}  # fmt: skip
ARGUMENTS = (
    "subject.npy", "labels.npy", "traces.csv", "nothing.h5", "out/made", "nowhere/made", ".", "/", "3,4", "3x4",
    "3 4", "y,x,energy", "energy", "center=1",
    "center=1,min=2,max=0", "a=b=c", "=", "counts", "1/errors", "LinearModel", "LinearModel + GaussianModel",
    "Model(open('ran','w'))",
    "x=1:2", "x=2:1", "nan", "inf", "-inf", "1e400", "-1", "0", "1.5", "9" * 30, "", "--", "-", "--help", "é", "\x00",
    "trivial", "maturation",
    "km=nan", "delta=1,0", "Fe_sg229_Iron-alpha", "Fe_sg229_Iron-alpha=nan", "Nobody=1", "tof=0", "tof=2", "x > 1",
    "__import__('os')", "random", "config.yaml",
)  # fmt: skip


def _argv(folder: Path, rng: np.random.Generator) -> Any:
    np.save(folder / "subject.npy", np.ones((3, 4, 5)))
    np.save(folder / "labels.npy", np.arange(12) % 2)
    (folder / "traces.csv").write_text("time,1\n0,1\n1,2\n")
    (folder / "config.yaml").write_text("model: LinearModel\n")
    command = pick(rng, list(COMMANDS)) if rng.random() < 0.97 else pick(rng, WORDS)
    argv = [command]
    if rng.random() < 0.8:
        argv.append(pick(rng, ARGUMENTS))
    for option in rng.permutation(np.array(COMMANDS.get(command, ()), object))[: int(rng.integers(0, 9))]:
        argv += [option, pick(rng, ARGUMENTS if rng.random() < 0.9 else WORDS)]
    return [str(folder / a) if len(a) < 99 and (folder / a).is_file() else a for a in argv if "\x00" not in a]


def _main(argv: list[str]) -> Any:
    from scanfold.cli import main

    if main(argv) == 2:
        raise SystemExit(2)


TRIALS = {
    "config of polar-map (YAML)": WordTrial(_yaml(_polar_yaml), _resolve),
    "config of polar-map (mapping)": WordTrial(_polar_mapping, _resolve),
    "config of fit (YAML)": WordTrial(_yaml(lambda: RUN), _read_config, names=("subject",)),
    "model strings": WordTrial(lambda folder, rng: _sentence(MODEL_WORDS, 6)(rng), _parsed),
    "expr": WordTrial(_expr, _fit),
    "parameter sets": WordTrial(_params, _fit),
    "options of fit": WordTrial(_fit_options, _fit),
    "options of open_scan": WordTrial(_open_options, _open),
    "labels (arrays)": WordTrial(_label_arrays, _as_labels),
    "requests of traces": WordTrial(_request, _requested),
    "results of bragg (JSON)": WordTrial(_result, _load_result),
    "materials (.ncmat)": WordTrial(_damaged(NCMAT, "subject.ncmat"), _register),
    "textures (MTEX, CSV)": WordTrial(_damaged(MTEX, "subject.csv"), _from_mtex),
    "arguments of commands": WordTrial(_argv, _main),
}
