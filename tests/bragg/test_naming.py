"""Indices from the names of files."""

from __future__ import annotations

import pytest

from scanfold.bragg.naming import keys_of
from scanfold.conventions import InputError


@pytest.mark.parametrize(
    ("names", "keys", "x_first"),
    [
        (["signal_x0_y1.csv", "signal_x12_y3.csv"], [(1, 0), (3, 12)], True),
        (["SIGNAL_X0_long_Y1.csv", "SIGNAL_X2_long_Y3.csv"], [(1, 0), (3, 2)], True),
        (["pix x1 y2.csv", "pix x3 y4.csv"], [(2, 1), (4, 3)], True),
        (["a_x1y2.csv", "a_x3y4.csv"], [(2, 1), (4, 3)], True),
        (["a_y2_x1.csv", "a_y4_x3.csv"], [(2, 1), (4, 3)], True),
        (["signal_row0_col5.csv", "signal_row1_col5.csv"], [(0, 5), (1, 5)], False),
        (["Row 2 Column 7.csv"], [(2, 7)], False),
        (["box1_y2.csv", "box3_y4.csv"], ["box1_y2", "box3_y4"], False),
        (["signal_1.csv", "signal_10.csv"], [1, 10], False),
        (["ob_001.csv", "ob_010.csv"], [1, 10], False),
        (["idx3_ob.csv", "idx4_ob.csv"], [3, 4], False),
        (["pixel 7 signal.csv", "pixel 8 signal.csv"], [7, 8], False),
        (["det_12_a.csv", "det_13_a.csv"], [12, 13], False),
        (["0.csv", "1.csv"], [0, 1], False),
        (["signal_center.csv", "signal_edge.csv"], ["center", "edge"], False),
        (["sample_A_signal.csv", "sample_B_signal.csv"], ["sample_A", "sample_B"], False),
        (["run7_center_ob.csv", "run7_edge_ob.csv"], ["center", "edge"], False),
        (["weld_openbeam_hot.csv", "base_openbeam_hot.csv"], ["weld", "base"], False),
        (["empty_signal_weld.csv", "empty_signal_base.csv"], ["weld", "base"], False),
        (["observed.csv", "signals.csv"], ["observed", "signals"], False),
        (["iron_powder.csv", "large_grain_steel_0deg.csv"], ["iron_powder", "large_grain_steel_0deg"], False),
        (["sample_1.csv", "sample_2.csv", "reference.csv"], ["sample_1", "sample_2", "reference"], False),
        (["signal.csv"], ["signal"], False),
    ],
)
def test_rules(names, keys, x_first):
    named = keys_of(["/some/x9_y9/folder/" + n for n in names])
    assert named.keys == keys
    assert named.x_first == x_first


@pytest.mark.parametrize(
    ("pattern", "names", "keys"),
    [
        ("_x{x}_y{y}", ["b_x1_y2.csv"], [(2, 1)]),
        ("r{row}c{col}", ["b_r1c2.csv"], [(1, 2)]),
        ("idx{i}", ["t5_idx12.csv"], [12]),
        ("t{i}_", ["t5_idx12.csv"], [5]),
        ("{name}", ["signal_x1_y2.csv", "signal_x3_y4.csv"], ["x1_y2", "x3_y4"]),
        ("_of_{name}_", ["signal_of_gold_.csv", "signal_of_iron_.csv"], ["gold", "iron"]),
    ],
)
def test_patterns(pattern, names, keys):
    assert keys_of(names, pattern).keys == keys


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        (["a_x1_y2.csv", "a_x1_y3.csv", "notes.csv"], "auto", "2 of 3 files .* 'notes' has none"),
        (["signal_1.csv", "signal_01.csv"], "auto", "'signal_1.csv' and 'signal_01.csv' both have the index 1"),
        (["a_x1_y2.csv"], "_x{x}", "expected 'auto', or one with"),
        (["a_x1_y2.csv"], "_u{x}_v{y}", "does not fit pattern"),
        (["a_x1_y2.csv"], "{what}", "expected 'auto'"),
    ],
)
def test_names_that_tell_nothing(names, pattern, message):
    with pytest.raises(InputError, match=message):
        keys_of(names, pattern)
