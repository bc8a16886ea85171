"""One query everywhere: plots, tables of fits and tables of traces take the same words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import scanfold as sf
from scanfold.conventions import InputError, InputTypeError
from scanfold.plot.positions import kept, rows_kept

FITS = xr.Dataset(
    {
        "rate": ("cell", [1.0, 2.0, 3.0]),
        "rate_stderr": ("cell", [0.1, 0.5, 0.1]),
        "rsquared": ("cell", [0.99, 0.95, 0.5]),
        "status": (
            "cell",
            np.array([0, 0, 6], np.int8),
            {"flag_values": [0, 6], "flag_meanings": "converged poor_fit"},
        ),
    }
)
TABLE = pd.DataFrame(
    {
        "rate": [1.0, 2.0, 3.0],
        "rate_stderr": [0.1, 0.5, 0.1],
        "r_squared": [0.99, 0.95, 0.5],
        "status": ["converged", "converged", "poor_fit"],
        "fov": pd.array([3, None, 3], "Int64"),
    },
    index=[5, 5, 7],
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("r_squared > 0.9", [0, 1]),
        ("rsquared > 0.9", [0, 1]),
        ("rate_err < 0.2", [0, 2]),
        ("rate_stderr < 0.2 and status == 'converged'", [0]),
        ("rate > 9", []),
    ],
)
def test_maps_and_tables_are_asked_alike(query, expected):
    assert np.flatnonzero(kept(FITS, query)).tolist() == expected
    assert rows_kept(TABLE, query)["rate"].tolist() == TABLE["rate"].iloc[expected].tolist()


def test_whole_numbers_with_gaps_are_not_kept_where_they_are_missing():
    assert rows_kept(TABLE, "fov == 3")["rate"].tolist() == [1.0, 3.0]
    assert rows_kept(TABLE, None) is TABLE


@pytest.mark.parametrize(
    ("query", "error", "text"),
    [
        ("rate > @np.pi", InputError, "a Python variable"),
        ("status == 0", InputError, "use its words"),
        ("rate + 1", InputError, "is no condition"),
        ("nothing > 1", InputError, "it may use"),
        (3, InputTypeError, "query is a int"),
    ],
)
def test_what_is_no_query_is_refused_alike(query, error, text):
    for asked in (lambda: kept(FITS, query), lambda: rows_kept(TABLE, query)):
        with pytest.raises(error, match=text):
            asked()


def test_a_view_says_where_its_fits_are():
    class View:
        fits = FITS

    for look in (sf.summary, lambda view: sf.plot.parameter_map(view, "rate")):
        with pytest.raises(InputTypeError, match=r"fits is a View; .*pass its \.fits"):
            look(View())
