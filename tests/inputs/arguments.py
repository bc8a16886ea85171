"""Arguments of every command: those that it takes, with some that it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .odd import WORD, Drawn, either

#: Files that are spoken of, and where outputs go; put() makes paths of both.
FILES = ("subject.npy", "frames.npy", "traces.csv", "signal.csv", "ob.csv", "run.npz", "config.yaml")
OUT = st.sampled_from(("made.zarr", "made", "made.npz", "made.json", "subject.npy", "nowhere/made"))
#: What a command takes for none of its options. A path that leads out of the folder is not one: it may be written to.
ODD = either(
    st.sampled_from(
        (*FILES, "nothing.h5", "nowhere/made", ".", "3,4", "3x4", "3 4", "y,x,energy", "center=1,min=2,max=0", "a=b=c",
         "=", "Model(open('ran','w'))", "x=2:1", "nan", "inf", "-inf", "1e400", "-1", "0", "1.5", "9" * 30, "", "--",
         "-", "km=nan", "delta=1,0", "Fe_sg229_Iron-alpha=nan", "Nobody=1", "tof=0", "tof=inf", "x > 1",
         "__import__('os').system('touch ran')", "-0", "1e9", "é", "=1+1")
    ),
    WORD.filter(lambda word: "/" not in word and "\x00" not in word),
)  # fmt: skip
NUMBERS = st.sampled_from(("1", "2", "4", "0.5", "1e-3", "9"))
FLAG = st.just(())
#: A start of processes, or a connection that was asked for, is no fault: only what is neither stands here.
CLUSTER = {
    "--workers": st.sampled_from(("0", "-1", "nan", "x", "1.5", "")),
    "--scheduler": st.sampled_from(("", "x", "tcp", "udp://a:1", "tls://")), "--no-progress": FLAG,
}  # fmt: skip


def _of(*words: str) -> Drawn:
    return st.sampled_from(words)


#: What each command needs, its other options, and what it takes without a name. `demo` and `doctor` are left out: they
#: do their work without any, which takes minutes. `explore` is asked for everything but to serve.
COMMANDS: dict[str, tuple[dict[str, Drawn], dict[str, Drawn], tuple[str, ...]]] = {
    "info": ({}, {}, ("subject.npy",)),
    "report": ({}, {"--out": OUT}, ("subject.npy",)),
    "explore": ({}, {"--data": _of("subject.npy"), "--port": NUMBERS, "--no-browser": FLAG}, ("subject.npy",)),
    "export": ({}, {"--format": _of("csv", ".nc", "tiff"), "--variables": _of("data", "x"), "--overwrite": FLAG},
               ("subject.npy", "made.csv")),
    "fit": (
        {"--model": _of("LinearModel", "GaussianModel + LinearModel"), "--dim": _of("kx", "energy"), "--out": OUT},
        {"--dataset": _of("data"), "--scan-shape": _of("3,4"), "--dims": _of("y,x,energy"), "--select": _of("kx=1:3"),
         "--weights": _of("counts", "1/errors"), "--param": _of("slope=1,min=0", "slope=0,vary=false"),
         "--stage": _of("a=slope"), "--guess": _of("mean"), "--engine": _of("batch", "lmfit"), "--max-nfev": NUMBERS,
         "--poor-fit": NUMBERS, "--config": _of("config.yaml"), "--csv": OUT, "--report": OUT, "--plots": OUT,
         "--method": _of("leastsq", "nelder"), "--no-signal": NUMBERS, "--covariance": FLAG, **CLUSTER},
        ("subject.npy",),
    ),
    "bragg": (
        {"--signal": _of("signal.csv"), "--openbeam": _of("ob.csv"), "--material": _of("Fe_sg229_Iron-alpha"),
         "--out": OUT},
        {"--L": NUMBERS, "--tstep": _of("1e-5"), "--vary": _of("background", "response,tof"),
         "--start": _of("thickness=1"), "--wlmin": NUMBERS, "--wlmax": NUMBERS, "--rebin": _of("tof=2"),
         "--query": _of("x > 0"), "--background": _of("none"), "--pattern": _of("_x{x}"), "--method": _of("rietveld"),
         "--response": _of("none", "square"), "--csv": OUT, "--likelihood": _of("poisson"), **CLUSTER},
        (),
    ),
    "traces": (
        {"--model": _of("trivial", "maturation")},
        {"--set": _of("offset=1"), "--bound": _of("offset=0,9"), "--fixed": _of("offset", "none"), "--csv": OUT,
         "--weights": _of("counts", "1"), "--out": OUT, "--files": _of("traces.csv"), "--cells": _of("1", "1,2"),
         "--suffix": _of("_fitted"), "--feature": _of("x"), "--report": OUT, "--plots": OUT, "--no-resume": FLAG,
         **CLUSTER},
        ("traces.csv",),
    ),
    "group": (
        {"--nsamples": _of("1", "4"), "--out": OUT},
        {"--gridsize": _of("1", "2"), "--K": _of("7"), "--seed": NUMBERS, "--sampling": _of("sequential", "local"),
         "--policy": _of("nearest", "4_quadrant"), "--max-radius": NUMBERS, "--field": _of("diffraction=d"),
         "--kind": _of("intensity"), "--gather": OUT, "--plot": OUT, "--index": FLAG, "--n-subsample": _of("9"),
         "--partition": _of("x"), "--disjoint": FLAG, "--oversample": FLAG, "--include-seed": FLAG, **CLUSTER},
        ("run.npz",),
    ),
    "simulate": (
        {"--n-images": _of("1", "3"), "--out": OUT, "--N": _of("8", "16")},
        {"--object": _of("lines", "grf"), "--size": _of("40", "60"), "--probe-scale": NUMBERS, "--nphotons": NUMBERS,
         "--pattern": _of("raster", "spiral"), "--buffer": NUMBERS, "--jitter": NUMBERS, "--gridsize": _of("1", "2"),
         "--interpolation": _of("fourier"), "--seed": NUMBERS, "--plot": OUT, "--phase": FLAG, "--counts": FLAG,
         "--no-patches": FLAG, **CLUSTER},
        (),
    ),
    # with labels that fit it would draw for half a minute
    "polar-map": (
        {"--data": _of("frames.npy"), "--labels": _of("subject.npy", "nothing.npy"), "--out": OUT},
        {"--scan-shape": st.just(("3", "4")), "--config": _of("config.yaml"), "--clusters": _of("0", "1"),
         "--chunks": NUMBERS, "--known-spacing": NUMBERS, "--device": _of("cpu"), "--dset": _of("x"),
         "--help-config": FLAG, **CLUSTER},
        (),
    ),
}  # fmt: skip


@st.composite
def _argv(draw: Callable[[Drawn], Any]) -> list[str]:
    command = draw(st.sampled_from(list(COMMANDS)))
    needed, others, unnamed = COMMANDS[command]
    argv = [draw(either(st.just(command), ODD, of=30)), *(draw(either(st.just(name), ODD, of=6)) for name in unnamed)]
    some = draw(st.lists(st.sampled_from(list(others)), max_size=3)) if others else []
    for name in [*(n for n in needed if draw(st.integers(0, 15))), *some]:
        value = draw(either((needed | others)[name], ODD, of=30 if name in CLUSTER else 6))
        argv += [name, *([value] if isinstance(value, str) else value)]
    return argv


ARGV = _argv()
#: Some that do what they say.
RIGHT = [
    ["info", "subject.npy"],
    ["explore", "subject.npy", "--no-browser"],
    ["fit", "subject.npy", "--model", "LinearModel", "--dim", "kx", "--out", "made.zarr", "--no-progress"],
    ["simulate", "--n-images", "2", "--N", "8", "--size", "40", "--out", "made.zarr", "--no-progress"],
    ["group", "run.npz", "--nsamples", "2", "--gridsize", "2", "--out", "made.zarr", "--no-progress"],
    ["traces", "traces.csv", "--model", "trivial", "--out", "made", "--no-progress"],
    [
        "bragg",
        "--signal",
        "signal.csv",
        "--openbeam",
        "ob.csv",
        "--material",
        "Fe_sg229_Iron-alpha",
        "--rebin",
        "tof=9",
        "--out",
        "made.zarr",
        "--no-progress",
    ],
]


def put(folder: Path, argv: list[str]) -> list[str]:
    """Make what is spoken of, and return the arguments with its paths."""
    rng = np.random.default_rng(0)
    np.save(folder / "subject.npy", rng.poisson(9, (3, 4, 5)))
    np.save(folder / "frames.npy", rng.poisson(9, (3, 4, 16, 16)))
    np.savez(folder / "run.npz", diff3d=np.ones((20, 4, 4), "f4"), xcoords=rng.uniform(0, 50, 20),
             ycoords=rng.uniform(0, 50, 20))  # fmt: skip
    rows = "\n".join(f"{t},{10 * (1 - np.exp(-t / 4)):.4f},{t}" for t in range(12))
    (folder / "traces.csv").write_text(f"time,1,2\n{rows}\n")
    for name, number in (("signal", 50), ("ob", 100)):
        rows = "\n".join(f"{i + 1},{number + i},{np.sqrt(number + i):.6f}" for i in range(900))
        (folder / f"{name}.csv").write_text(f"stack,counts,err\n{rows}\n")
    (folder / "config.yaml").write_text("model: LinearModel\n")
    return [str(folder / word) if word in FILES or word.startswith(("made", "nowhere")) else word for word in argv]


def main(argv: list[str]) -> None:
    """Run a command, but serve no page; exit with 2 where it refuses."""
    import panel

    from scanfold.cli import main

    panel.serve = lambda *_, **__: None  # type: ignore[attr-defined]
    if main(argv) == 2:
        raise SystemExit(2)
