"""Neighbour groups of scan positions: sample, then group; frames are gathered when they are wanted.

A plan has these variables; indices count the positions of the scan:

"""

from scanfold.conventions import table
from scanfold.grouping.batches import iter_batches
from scanfold.grouping.gather import gather
from scanfold.grouping.groups import VARIABLES
from scanfold.grouping.index import PositionIndex, index_positions, open_index
from scanfold.grouping.layouts import convert_layout, cut_patches, to_legacy_dict
from scanfold.grouping.overlap import coverage, disc_overlap, overlap_metrics
from scanfold.grouping.pictures import draw_groups
from scanfold.grouping.plan import plan_groups
from scanfold.grouping.positions import to_pixels
from scanfold.grouping.split import kfold, split

__all__ = [
    "PositionIndex",
    "convert_layout",
    "coverage",
    "cut_patches",
    "disc_overlap",
    "draw_groups",
    "gather",
    "index_positions",
    "iter_batches",
    "kfold",
    "open_index",
    "overlap_metrics",
    "plan_groups",
    "split",
    "to_legacy_dict",
    "to_pixels",
]


def __dir__() -> list[str]:
    return sorted(__all__)


__doc__ += table(VARIABLES)
