"""Numbers out of text, without the GIL: the bytes of a table to columns of floats."""

import numpy as np

from scanfold._jit_kernels import jit

_jit = jit()

#: Powers of ten that are exact: up to 15 digits times or over one of them are rounded once, hence correctly.
_POWERS = 10.0 ** np.arange(23)
#: Mantissas above this take no further digit: what is left out is below 10⁻¹⁷ of the number.
_MOST = 10**17
_NEWLINE, _RETURN, _SPACE, _TAB, _MINUS, _PLUS, _POINT, _ZERO = 10, 13, 32, 9, 45, 43, 46, 48
_E, _SMALL_E = 69, 101


@_jit
def _number(text, at, end):
    """Read one number from text[at:end], and say whether it is one: exact up to 15 digits, else within 1 ulp."""
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    mantissa, digits, exponent = np.int64(0), 0, 0
    seen_point = False
    while at < end:
        c = text[at]
        if _ZERO <= c <= 57:
            digits += 1
            if mantissa < _MOST:
                mantissa = 10 * mantissa + (c - _ZERO)
                exponent -= seen_point
            else:
                exponent += not seen_point
        elif c == _POINT and not seen_point:
            seen_point = True
        else:
            break
        at += 1
    if digits == 0:
        return np.nan, False
    if at < end:
        if text[at] != _E and text[at] != _SMALL_E:
            return np.nan, False
        at += 1
        below = at < end and text[at] == _MINUS
        if at < end and (below or text[at] == _PLUS):
            at += 1
        if at >= end:
            return np.nan, False
        power = 0
        while at < end:
            if not _ZERO <= text[at] <= 57 or power > 400:
                return np.nan, False
            power = 10 * power + (text[at] - _ZERO)
            at += 1
        exponent += -power if below else power
    if mantissa != 0 and abs(exponent) > 22:
        return np.nan, False
    value = float(mantissa)
    if mantissa != 0:
        value = value * _POWERS[exponent] if exponent >= 0 else value / _POWERS[-exponent]
    return (-value if negative else value), True


@_jit
def _is_nan(text, at, end):
    """Say whether text[at:end] is nan in any case."""
    if end - at != 3:
        return False
    n, a, m = text[at] | 32, text[at + 1] | 32, text[at + 2] | 32
    return n == 110 and a == 97 and m == 110


@_jit
def parse(text, at, separator, wanted, out):
    """Read the columns of a table.

    text : (bytes,) uint8, the table from `at` on; separator : its byte, 32 for any run of spaces and tabs
    wanted : (k,) columns to keep, -1 for none; out : (k, rows) float64, filled; absent and empty fields are NaN
    Returns the number of rows, or -1 - row at the first that holds what is no plain number, or is one too many.
    """
    size, rows = text.size, 0
    while at < size:
        end = at
        while end < size and text[end] != _NEWLINE:
            end += 1
        stop = end
        while stop > at and (text[stop - 1] == _RETURN or text[stop - 1] == _SPACE or text[stop - 1] == _TAB):
            if text[stop - 1] == separator and separator == _TAB:
                break
            stop -= 1
        if stop > at:
            if rows == out.shape[1]:
                return -1 - rows
            out[:, rows] = np.nan
            if not _row(text, at, stop, separator, wanted, out, rows):
                return -1 - rows
            rows += 1
        at = end + 1
    return rows


@_jit
def _row(text, at, stop, separator, wanted, out, row):
    """Read the fields of text[at:stop] into out[:, row]; False where one is no plain number."""
    column = 0
    while at <= stop:
        while at < stop and (text[at] == _SPACE or (text[at] == _TAB and separator != _TAB)):
            at += 1
        first = at
        while at < stop and text[at] != separator and not (separator == _SPACE and text[at] == _TAB):
            at += 1
        last = at
        while last > first and (text[last - 1] == _SPACE or (text[last - 1] == _TAB and separator != _TAB)):
            last -= 1
        for i in range(wanted.size):
            if wanted[i] == column and last > first and not _is_nan(text, first, last):
                value, plain = _number(text, first, last)
                if not plain:
                    return False
                out[i, row] = value
        column += 1
        if at >= stop:
            break
        at += 1
    return True
