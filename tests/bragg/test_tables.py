"""Text tables: columns by name, by place, numbers as Python reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanfold.bragg.files import COLUMNS, read_counts
from scanfold.conventions import InputError
from scanfold.io.tables import read_table


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    return str(path)


@pytest.mark.parametrize("column", list(COLUMNS))
def test_every_name_of_a_column_is_known(tmp_path, column):
    place = list(COLUMNS).index(column)
    for alias in COLUMNS[column]:
        for name in (alias, alias.upper(), f" {alias.title()} ", f'"{alias}"', f"{alias} [us]"):
            names = ["tof", "counts", "err"]
            names[place] = name
            # Columns stand in another order than by place, so that only the name can find them.
            text = f"other,{names[2]},{names[1]},{names[0]}\n9,3,2,1\n9,6,5,4\n"
            assert read_table(table(tmp_path, text), COLUMNS).tolist() == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b,c\n1,20,3\n2,30,4\n", ([1, 2], [20, 30], [3, 4])),
        ("1,20,3\n2,30,4\n", ([1, 2], [20, 30], [3, 4])),
        ("a,b\n5,20\n6,30\n", ([5, 6], [20, 30], [20**0.5, 30**0.5])),
        ("20\n30\n", ([1, 2], [20, 30], [20**0.5, 30**0.5])),
        ("whatever\n20\n30\n", ([1, 2], [20, 30], [20**0.5, 30**0.5])),
        ("counts\n20\n30\n", ([1, 2], [20, 30], [20**0.5, 30**0.5])),
        ("Counts,Time\n20,0.5\n30,1\n", ([0.5, 1], [20, 30], [20**0.5, 30**0.5])),
        (",stack,counts,err\n1,1,20,3\n2,2,30,4\n", ([1, 2], [20, 30], [3, 4])),
        (" stack counts err\n0 1 20 3\n1 2 30 4\n", ([1, 2], [20, 30], [3, 4])),
        ("stack\tcounts\terr\n1\t20\t\n2\t30\t\n", ([1, 2], [20, 30], [20**0.5, 30**0.5])),
        ("tof;counts;err\r\n1;20;nan\r\n2;30;NaN\r\n", ([1, 2], [20, 30], [20**0.5, 30**0.5])),
        ("\ufefftof,counts\n1,2e1\n2,+3.0E+1\n\n", ([1, 2], [20, 30], [20**0.5, 30**0.5])),
        ('tof,counts\n"1","20"\n"2","30"\n', ([1, 2], [20, 30], [20**0.5, 30**0.5])),
        ("  1   20   3\n  2\t30   4", ([1, 2], [20, 30], [3, 4])),
    ],
)
def test_tables_as_programs_write_them(tmp_path, text, expected):
    channels, counts = read_counts(table(tmp_path, text))
    np.testing.assert_array_equal(channels, expected[0])
    np.testing.assert_array_equal(counts, expected[1:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("tof,counts\n", "no rows"),
        ("tof,counts\n1,many\n", "'many' in column 'counts', row 1"),
        ("tof,counts\n1,5\n2,-5\n", r"negative counts \(-5 in bin 1\) and no errors"),
        ("tof,counts,err\n1,5,2\n2,5,-2\n", "negative errors"),
        ("tof,counts\n2,5\n1,5\n", "does not grow"),
        ("tof,counts\n1,5\n,5\n", "does not grow"),
        ("tof,err\n1,5\n2,5\n", "no counts"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    path = table(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        read_counts(path)
    assert path in str(error.value)


def test_negative_counts_with_errors_are_what_was_left_of_a_subtraction(tmp_path):
    counts = read_counts(table(tmp_path, "tof,counts,err\n1,-5,2\n2,5,3\n"))[1]
    assert counts.tolist() == [[-5, 5], [2, 3]]


def test_a_table_with_a_picture_in_it_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "photo.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    with pytest.raises(InputError, match=r"photo\.csv"):
        read_counts(str(path))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20))
def test_numbers_are_those_that_python_reads(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("numbers") / "table.csv"
    path.write_text("counts\n" + "\n".join(map(repr, values)) + "\n")
    (found,) = read_table(str(path), {"counts": ("counts",)})
    assert np.all(np.abs(found - values) <= np.spacing(np.abs(values)))


@given(st.lists(st.decimals(-(10**9), 10**9, places=5), min_size=1, max_size=20))
def test_numbers_of_up_to_fifteen_digits_are_exact(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("numbers") / "table.csv"
    path.write_text("counts\n" + "\n".join(map(str, values)) + "\n")
    (found,) = read_table(str(path), {"counts": ("counts",)})
    assert found.tolist() == [float(v) for v in values]
