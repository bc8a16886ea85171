"""``scanfold group``: plan neighbour groups of a ptychography scan; gather their frames into a store if asked to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scanfold.cli import clusters
from scanfold.cli.options import pairs
from scanfold.cli.outputs import check_outputs, write_outputs
from scanfold.conventions import InputError

HELP = "choose groups of neighbouring positions of a ptychography scan"
EXAMPLE = "scanfold group run.npz --nsamples 512 --gridsize 2 --out plan.zarr --gather groups.zarr --plot groups.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("file", help="NPZ, CXI, .ptyd, HDF5 with --field, or a store; or an index, FILE.positions")
    parser.add_argument("--nsamples", type=int, required=True, metavar="N", help="how many groups, exactly")
    parser.add_argument("--gridsize", type=int, default=1, metavar="G", help="groups have G² members (default 1)")
    parser.add_argument("--group-size", type=int, metavar="C", help="members of a group, in place of --gridsize")
    parser.add_argument("--K", type=int, metavar="K", help="nearest neighbours that a group is drawn from")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal plans (default 0)")
    parser.add_argument("--sampling", default="random", help="random, sequential, stratified, poisson_disk or local")
    parser.add_argument("--policy", default="random", help="random, nearest, min_dist or 4_quadrant")
    parser.add_argument("--include-seed", action="store_true", help="the seed is the first member")
    parser.add_argument("--disjoint", action="store_true", help="no position is in two groups")
    parser.add_argument("--max-radius", type=float, metavar="R", help="neighbours farther than this do not count")
    parser.add_argument("--partition", metavar="NAME", help="groups never mix labels of this variable")
    parser.add_argument("--oversample", action="store_true", help="allow more groups than positions")
    parser.add_argument("--n-subsample", type=int, metavar="N", help="plan on so many positions only, drawn first")
    parser.add_argument("--subsample-seed", type=int, metavar="SEED", help="of that drawing (default: --seed)")
    parser.add_argument(
        "--kind", choices=("amplitude", "intensity"), help="what the frames are, if not as the format says"
    )
    parser.add_argument("--field", action="append", default=[], metavar="FIELD=NAME", help="an array of an HDF5 file")
    parser.add_argument("--index", action="store_true", help="plan over an index on disk, made beside FILE at first")
    parser.add_argument("--out", required=True, metavar="STORE", help="store of the plan (zarr)")
    parser.add_argument("--gather", metavar="STORE", help="also write the frames of the groups")
    parser.add_argument("--plot", metavar="PATH", help="also draw the positions and groups")
    parser.add_argument("--report", metavar="PATH", help="also write an HTML report")
    clusters.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plan, and write what was asked for."""
    from scanfold.grouping import gather, plan_groups
    from scanfold.runs import save

    outputs = check_outputs(vars(arguments), "out", "gather", "plot", "report")
    where = clusters.cluster_options(vars(arguments))
    scan = _opened(arguments)
    if not hasattr(scan, "variables") and (arguments.gather or arguments.plot):
        raise InputError("an index holds positions only; --gather and --plot take the scan itself")
    plan = plan_groups(
        scan, nsamples=arguments.nsamples, gridsize=arguments.gridsize, K=arguments.K, seed=arguments.seed,
        sampling=arguments.sampling, policy=arguments.policy, include_seed=arguments.include_seed,
        disjoint=arguments.disjoint, max_radius=arguments.max_radius, partition=arguments.partition,
        enable_oversampling=arguments.oversample, group_size=arguments.group_size,
        n_subsample=arguments.n_subsample, subsample_seed=arguments.subsample_seed,
    )  # fmt: skip
    with clusters.cluster(where):
        saved = save(plan, arguments.out, progress=arguments.progress)
        if arguments.gather:
            groups = gather(scan, saved if plan.chunks else plan)
            save(groups, arguments.gather, progress=arguments.progress)
    part = f", {100 * float(plan['coverage']):.1f} % of the positions" if "coverage" in plan else ""
    print(f"{saved.sizes['group']} groups of {saved.sizes['channel']}{part}")
    print(f"wrote {arguments.out}")
    if arguments.gather:
        print(f"wrote {arguments.gather}")
    from scanfold.report import report

    # an index has no coordinates to draw the groups on
    placed = scan if hasattr(scan, "variables") else None
    write_outputs(outputs, plot=lambda path: _draw(plan, scan, path), report=lambda path: report(saved, path, placed))
    return 0


def _opened(arguments: argparse.Namespace) -> Any:
    from scanfold.grouping import index_positions, open_index
    from scanfold.io import open_scan

    if (Path(arguments.file) / "index.json").is_file():
        return open_index(arguments.file)
    if arguments.index:
        return index_positions(arguments.file, partition=arguments.partition)
    fields = dict(pairs(arguments.field, "--field FIELD=NAME, such as diffraction=entry/data"))
    return open_scan(arguments.file, format="ptycho", fields=fields or None, kind=arguments.kind)


def _draw(plan: Any, scan: Any, path: Path) -> None:
    from matplotlib.figure import Figure

    from scanfold.grouping import draw_groups

    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    draw_groups(plan, scan, ax=figure.subplots())
    figure.savefig(path, dpi=120)
