"""Neighbour groups of scan positions: sample, then group; frames are gathered when they are wanted.

A plan has these variables; indices count the positions of the scan:

"""

from scanfold.conventions import table
from scanfold.grouping.gather import gather
from scanfold.grouping.groups import VARIABLES
from scanfold.grouping.index import PositionIndex, index_positions, open_index
from scanfold.grouping.plan import plan_groups

__all__ = ["PositionIndex", "gather", "index_positions", "open_index", "plan_groups"]

__doc__ += table(VARIABLES)
