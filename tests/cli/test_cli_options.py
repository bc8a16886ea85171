"""Options of `scanfold fit`: the command line and the file say the same, and slips are named."""

from __future__ import annotations

import pytest
import yaml

from scanfold.cli import make_parser
from scanfold.cli.fit import gather
from scanfold.cli.options import OPTIONS, parameters
from scanfold.conventions import InputError

NEEDED = ["--model", "GaussianModel", "--dim", "energy", "--out", "out.zarr"]
#: Every option, as it is typed, and as it stands in a file.
ALL = [
    (["--model", "GaussianModel + LinearModel"], {"model": "GaussianModel + LinearModel"}),
    (["--dim", "energy"], {"dim": "energy"}),
    (["--out", "fits.zarr"], {"out": "fits.zarr"}),
    (["--dataset", "entry/counts"], {"dataset": "entry/counts"}),
    (["--scan-shape", "49,45"], {"scan_shape": [49, 45]}),
    (["--dims", "y,x,energy"], {"dims": ["y", "x", "energy"]}),
    (["--select", "energy=970:1020.5", "--select", "y=:-3"], {"select": {"energy": [970, 1020.5], "y": ":-3"}}),
    (["--weights", "counts"], {"weights": "counts"}),
    (["--likelihood", "poisson"], {"likelihood": "poisson"}),
    (
        ["--param", "center=1001,min=990,max=1.01e3", "--param", "sigma=vary=false,value=2", "--param",
         "slope=expr=max(sigma, 2)*3"],
        {"params": {"center": {"value": 1001, "min": 990, "max": "1.01e3"}, "sigma": {"vary": False, "value": 2},
                    "slope": {"expr": "max(sigma, 2)*3"}}},
    ),
    (["--stage", "first=slope,intercept", "--stage", "rest=all"],
     {"stages": {"first": ["slope", "intercept"], "rest": "all"}}),
    (["--guess", "mean"], {"guess": "mean"}),
    (["--engine", "lmfit"], {"engine": "lmfit"}),
    (["--method", "nelder"], {"method": "nelder"}),
    (["--covariance"], {"covariance": True}),
    (["--errors", "raise"], {"errors": "raise"}),
    (["--max-nfev", "300"], {"max_nfev": 300}),
    (["--no-retry"], {"retry": False}),
    (["--poor-fit", "1e-9"], {"poor_fit": 1e-9}),
    (["--no-signal", "12"], {"no_signal": 12}),
    (["--workers", "2"], {"workers": 2}),
    (["--no-progress"], {"progress": False}),
    (["--report", "fits.html"], {"report": "fits.html"}),
    (["--plots", "maps"], {"plots": "maps"}),
    (["--csv", "fits.csv"], {"csv": "fits.csv"}),
]  # fmt: skip
ALONE = [
    (["--scheduler", "tcp://127.0.0.1:1"], {"scheduler": "tcp://127.0.0.1:1"}),
    *(([f"--{name}", "a.pem", "--scheduler", "tls://127.0.0.1:1"],
       {name.replace("-", "_"): "a.pem", "scheduler": "tls://127.0.0.1:1"})
      for name in ("tls-ca-file", "tls-cert", "tls-key")),
]  # fmt: skip


def options(*argv: str) -> dict[str, object]:
    return gather(make_parser().parse_args(["fit", *argv]))


def test_the_list_above_is_of_every_option():
    assert {next(iter(c)) for _, c in ALL + ALONE} == {o.name for o in OPTIONS}


@pytest.mark.parametrize(("typed", "written"), ALL + ALONE, ids=lambda v: next(iter(v)))
def test_a_file_and_the_command_line_say_the_same(typed, written, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"file": "a.h5", "model": "GaussianModel", "dim": "energy", "out": "b", **written}))
    needed = ["a.h5", "--model", "GaussianModel", "--dim", "energy", "--out", "b"]
    assert options("--config", str(path)) == options(*needed, *typed)
    assert options(*needed, *typed) != options(*needed) or written in ({"dim": "energy"},)


def test_all_options_of_a_file_together(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"file": "a.h5"} | {k: v for _, c in ALL for k, v in c.items()}))
    assert options("--config", str(path)) == options("a.h5", *(word for typed, _ in ALL for word in typed))


def test_the_command_line_wins(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "file: a.h5\nmodel: GaussianModel\ndim: energy\nout: b\nparams: {center: 5, sigma: 1}\nretry: false"
    )
    found = options("other.h5", "--config", str(path), "--dim", "tof", "--param", "center=6")
    assert (found["file"], found["dim"], found["out"], found["retry"]) == ("other.h5", "tof", "b", False)
    assert found["params"] == {"center": {"value": 6.0}, "sigma": {"value": 1.0}}


def test_parameters_are_what_fit_takes():
    assert parameters(["center=1001,min=990,max=1010,vary=false"]) == {
        "center": {"value": 1001.0, "min": 990.0, "max": 1010.0, "vary": False}
    }
    assert parameters(["a=-1e3"]) == {"a": {"value": -1000.0}}
    assert parameters({"a": 3, "b": {"min": 0}}) == {"a": {"value": 3.0}, "b": {"min": 0.0}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("modle: GaussianModel", "did you mean 'model'"),
        ("scan-shape: [2, 3]", "did you mean 'scan_shape'"),
        ("- a list", "holds a list"),
        ("model: [", "is not plain YAML"),
        ("model: !!python/object/apply:os.system ['touch hacked']", "is not plain YAML"),
        ("engine: bach", "did you mean 'batch'"),
        ("scan_shape: [2, 3, 4]", "rows and columns"),
        ("scan_shape: [2.5, 3]", "whole number"),
        ("workers: 0", "at least 1"),
        ("workers: true", "expected a number"),
        ("retry: maybe", "true or false"),
        ("select: {energy: [5, 2]}", "energy=2:5"),
        ("params: {center: {mn: 5}}", "did you mean 'min'"),
        ("params: {center: fast}", "value of 'center' is 'fast'"),
        ("params: 5", "expected NAME=VALUE"),
        ("model: 5", "--model: 5; expected a text"),
    ],
)
def test_a_slip_in_a_file_is_named(content, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        options("a.h5", *NEEDED, "--config", str(path))
    assert says in str(raised.value)
    assert str(path) in str(raised.value)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--select", "energy"], "DIM=LO:HI"),
        (["--select", "energy=3"], "two bounds"),
        (["--select", "energy=a:b"], "expected a number"),
        (["--param", "center"], "NAME=VALUE"),
        (["--param", "center=1,vary=perhaps"], "true or false"),
        (["--param", "center=1,2"], "setting of 'center'"),
        (["--stage", "all"], "STAGE=NAME"),
        (["--workers", "two"], "--workers: 'two'"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "give one of them"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
    ],
)
def test_a_slip_on_the_command_line_is_named(typed, says):
    with pytest.raises(InputError) as raised:
        options("a.h5", *NEEDED, *typed)
    assert says in str(raised.value)


def test_what_is_missing_is_said():
    with pytest.raises(InputError, match="file, --model, --dim, --out missing"):
        options()
