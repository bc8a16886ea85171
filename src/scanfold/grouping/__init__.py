"""Neighbour groups of scan positions: sample, then group; frames are gathered when they are wanted.

A plan has these variables; indices count the positions of the scan:

"""

from scanfold.conventions import table
from scanfold.grouping.gather import gather
from scanfold.grouping.plan import VARIABLES, plan_groups

__all__ = ["gather", "plan_groups"]

__doc__ += table(VARIABLES)
