"""A volume as it arrives becomes what the motion kernels read.

One pass over the voxels: float32 rows between their reflections (`resample` filters rows in
place), the sum of every slice (it is NaN or infinite where a voxel is; slices that lost signal
show in it), and block means on a coarser grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtloop.kernels.layout import ROW_START, VOLUME_MARGIN, kernel, reflected, row_stride
from rtloop.kernels.simd import LANES, add, load, splat, store, total

__all__ = ["doubt_slices", "take_in"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
_ZERO = np.float32(0.0)
_REST = "i8[::1], i8[::1], f4[::1], f4[::1], f4[::1], f8[::1])"


@kernel("void(f4[::1], i8, i8)")
def _reflect_row(rows: Floats, at: int, n: int) -> None:
    for r in range(8):
        near = reflected(r, n)
        rows[at - 1 - r] = rows[at + near]
        rows[at + n + r] = rows[at + n - 1 - near]


@kernel("void(f4[::1], i8, i8, i8[::1], f4[::1], i8)")
def _shrink_rows(partial: Floats, nx: int, my: int, factors: Ints, coarse: Floats, z: int) -> None:
    """Blocks along x of summed rows: one slice of the coarse volume."""
    fx = factors[0]
    mx = nx // fx
    share = np.float32(1.0 / (fx * factors[1] * factors[2]))
    stride = row_stride(mx)
    for y in range(my):
        at = VOLUME_MARGIN + (z * my + y) * stride + ROW_START
        for x in range(mx):
            block = _ZERO
            for i in range(fx):
                block += partial[y * nx + x * fx + i]
            coarse[at + x] = block * share
        _reflect_row(coarse, at, mx)


@kernel([f"void({kind}[::1], {_REST}" for kind in ("i2", "u2", "f4")])
def take_in(
    source: NDArray[Any],
    shape: Ints,
    factors: Ints,
    volume: Floats,
    coarse: Floats,
    partial: Floats,
    slice_sums: NDArray[np.float64],
) -> None:
    """Lay out one volume.

    Parameters
    ----------
    source : (z * y * x,) int16, uint16 or float32, x fastest
    shape : (3,) n_x, n_y, n_z
    factors : (3,) voxels per block of the coarse grid along x, y, z
    volume : receives `VOLUME_MARGIN`, then rows of `row_stride` floats, x from `ROW_START`
    coarse : the same for the block means; an incomplete block at the end is left out
    partial : ((y // factor + 1) * x,) buffer
    slice_sums : (z,) receives the sum of each slice
    """
    nx, ny, nz = shape
    my, mz = ny // factors[1], nz // factors[2]
    stride = row_stride(nx)
    whole = nx // LANES * LANES
    for z in range(nz):
        if z % factors[2] == 0:
            partial[:] = _ZERO
        lane_sums = splat(_ZERO)
        rest = _ZERO
        for y in range(ny):
            here = (z * ny + y) * nx
            at = VOLUME_MARGIN + (z * ny + y) * stride + ROW_START
            # Rows of an incomplete block go nowhere: they are added to the buffer's last row.
            to = min(y // factors[1], my) * nx
            for x in range(0, whole, LANES):
                value = load(source, here + x)
                store(volume, at + x, value)
                store(partial, to + x, add(load(partial, to + x), value))
                lane_sums = add(lane_sums, value)
            for x in range(whole, nx):
                one = np.float32(source[here + x])
                volume[at + x] = one
                partial[to + x] += one
                rest += one
            _reflect_row(volume, at, nx)
        slice_sums[z] = np.float64(total(lane_sums)) + np.float64(rest)
        if z % factors[2] == factors[2] - 1 and z // factors[2] < mz:
            _shrink_rows(partial, nx, my, factors, coarse, z // factors[2])


@kernel("i8(f8[::1], f8[::1], f8, f8, b1[::1], f8[::1])")
def doubt_slices(
    sums: Doubles,
    reference: Doubles,
    ordinary: float,
    tolerance: float,
    doubted: NDArray[np.bool_],
    window: Doubles,
) -> int:
    """Mark slices whose sum departs from the course of their neighbours'.

    The course is the median over seven slices of the sums' ratio to the reference's; a slice is
    doubted if it departs from it by more than `tolerance` of an `ordinary` slice's sum.

    Returns
    -------
    int
        Slices marked.
    """
    count = 0
    n = sums.size
    for z in range(n):
        size = 0
        for i in range(max(z - 3, 0), min(z + 4, n)):
            if reference[i] <= 0.0:
                continue
            ratio = sums[i] / reference[i]
            k = size
            while k > 0 and window[k - 1] > ratio:
                window[k] = window[k - 1]
                k -= 1
            window[k] = ratio
            size += 1
        course = 0.5 * (window[(size - 1) // 2] + window[size // 2]) if size > 0 else 0.0
        departure = abs(sums[z] - course * reference[z])
        doubted[z] = departure > tolerance * course * ordinary
        count += doubted[z]
    return count
