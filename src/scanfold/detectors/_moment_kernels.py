"""Moments of frames inside a circle, from the sums of their rows and columns: integers stay integers."""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from scanfold._jit_kernels import jit

_jit = jit()

#: total, sums of i x and j x, sums of i² x and j² x; i and j are pixel indices on the whole detector.
MOMENTS = 5
#: Bytes of a cache line, and how far ahead of the sums frames are fetched from memory.
LINE, AHEAD = 64, 4096


@intrinsic
def _prefetch(_, address):
    """Ask the processor for the cache line at an address, which need not be one: nothing is read, nothing fails."""

    def generate(context, builder, signature, arguments):
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
        # To read, to keep, data.
        builder.call(function, [builder.inttoptr(arguments[0], pointer), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@_jit
def _extent(distance, radius, center, size):
    """Return the first pixel inside a circle along a row at this distance, and the one after the last."""
    if radius < 0.0:  # no circle: the whole row
        return 0, size
    if abs(distance) > radius:
        return 0, 0
    half = math.sqrt(radius * radius - distance * distance)
    first, last = math.ceil(center - half), math.floor(center + half) + 1
    return min(max(int(first), 0), size), max(min(int(last), size), 0)


@_jit
def add_moments(frames, origin, centers, radii, bad, sign, columns, out):
    """Add the moments of frames (N, ky, kx) inside circles to `out` (N, 5), times `sign`.

    Parameters
    ----------
    frames : array (N, ky, kx)
        Counts; `origin` (2,) is the index of their first pixel on the whole detector.
    centers, radii : arrays (N, 2), (N,)
        The circle of each frame, in indices on the whole detector; a negative radius is the whole frame.
    bad : array (B, 2)
        Indices in the block of pixels to leave out.
    columns : array (kx,)
        Room for the sums of columns; its dtype must hold the sum of a row and of a column.
    """
    zero = columns.dtype.type(0)
    height, width = frames.shape[1], frames.shape[2]
    for n in range(frames.shape[0]):
        frame = frames[n]
        cy, cx, radius = centers[n, 0] - origin[0], centers[n, 1] - origin[1], radii[n]
        columns[:] = zero
        total = first_y = second_y = 0.0
        for i in range(height):
            first, last = _extent(i - cy, radius, cx, width)
            if last <= first:
                continue
            row, into = frame[i, first:last], columns[first:last]
            gathered = zero
            # Rows are too short for the processor to see on its own that the frames follow each other in memory.
            ahead = row.ctypes.data + AHEAD
            for byte in range(0, row.size * row.itemsize, LINE):
                _prefetch(ahead + byte)
            for j in range(last - first):
                value = columns.dtype.type(row[j])
                gathered += value
                into[j] += value
            index = float(i + origin[0])
            weight = float(gathered)
            total += weight
            first_y += weight * index
            second_y += weight * index * index
        first_x = second_x = 0.0
        for j in range(width):
            index, weight = float(j + origin[1]), float(columns[j])
            first_x += weight * index
            second_x += weight * index * index
        for b in range(bad.shape[0]):
            i, j = bad[b, 0], bad[b, 1]
            first, last = _extent(i - cy, radius, cx, width)
            if first <= j < last:
                weight, y, x = float(frame[i, j]), float(i + origin[0]), float(j + origin[1])
                total -= weight
                first_y -= weight * y
                second_y -= weight * y * y
                first_x -= weight * x
                second_x -= weight * x * x
        out[n, 0] += sign * total
        out[n, 1] += sign * first_y
        out[n, 2] += sign * first_x
        out[n, 3] += sign * second_y
        out[n, 4] += sign * second_x


@_jit
def look_up(counts, table, out):
    """Put table[count] into out, both flat."""
    for p in range(counts.size):
        out[p] = table[counts[p]]


@_jit
def look_up_logs(counts, table, out):
    """Put log1p of counts, from the table where it reaches, into out, both flat; return the least count."""
    least = 0.0
    for p in range(counts.size):
        count = np.int64(counts[p])
        if count < 0:
            least = min(least, float(count))
        elif count < table.size:
            out[p] = table[count]
        else:
            out[p] = math.log1p(float(count))
    return least


@_jit
def weighted_squares(values, mean, weight, out):
    """Put the sums of weight (x - mean)² of float frames (N, P) into out (N,)."""
    for n in range(values.shape[0]):
        row = values[n]
        total = 0.0
        for p in range(mean.size):
            difference = np.float64(row[p]) - mean[p]
            total += weight[p] * difference * difference
        out[n] = total
