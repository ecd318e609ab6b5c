"""Where on the grid values are wanted: columns of sixteen x along z, and the buffers they need.

The resampling kernels walk the grid in such columns; a mask or a list of voxels becomes the few
columns that cover it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rtloop.kernels.layout import PAD, SLOPES, SPARE, VOLUME_MARGIN, WIDTH, row_stride
from rtloop.kernels.simd import LANES

__all__ = ["Columns", "Sampler", "aligned_zeros", "volume_buffer", "work_buffers"]

Shape = tuple[int, int, int]
Ints = NDArray[np.int64]


def aligned_zeros(n: int) -> NDArray[np.float32]:
    """`n` float32 zeros beginning on a 64-byte boundary."""
    block = np.zeros(n + LANES, np.float32)
    first = (-block.ctypes.data // block.itemsize) % LANES
    return block[first : first + n]


def volume_buffer(shape: Shape) -> NDArray[np.float32]:
    """Buffer for a volume's rows as `kernels.intake.take_in` lays them out."""
    nx, ny, nz = shape
    return aligned_zeros(2 * VOLUME_MARGIN + row_stride(nx) * ny * nz)


def work_buffers(volume: Shape, output: Shape) -> tuple[NDArray[np.float32], ...]:
    """What the resampling kernels write on the way: taps, weights, plane, columns, column."""
    n_blocks = -(-output[0] // LANES)
    lines = volume[1] + 2 * PAD + SPARE, volume[2] + 2 * PAD + SPARE
    return (
        aligned_zeros(2 * volume[1] * WIDTH),
        aligned_zeros(2 * SLOPES * LANES),
        aligned_zeros((n_blocks + 3) * lines[0] * LANES),
        aligned_zeros(output[1] * n_blocks * lines[1] * LANES),
        aligned_zeros((output[2] + SPARE) * LANES),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Columns that cover a set of voxels.

    Attributes
    ----------
    rows : ndarray, shape (n, 4), int64
        First x, y, first z, last z + 1 of each column, ordered by y, then x.
    spans : ndarray, shape (n_blocks, 2), int64
        y range wanted of each block of sixteen x; empty where none is.
    box : ndarray, shape (6,), int64
        x, y and z ranges around everything.
    """

    rows: Ints
    spans: Ints
    box: Ints

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Self:
        """Columns that cover a mask (x, y, z) with at least one voxel."""
        nx, ny, nz = mask.shape
        n_blocks = -(-nx // LANES)
        padded = np.zeros((n_blocks * LANES, ny, nz), np.bool_)
        padded[:nx] = mask
        blocks = np.asarray(padded.reshape(n_blocks, LANES, ny, nz).any(axis=1))
        y, block = np.nonzero(blocks.any(axis=2).T)
        along_z = blocks[block, y]
        low = along_z.argmax(axis=1)
        high = nz - along_z[:, ::-1].argmax(axis=1)
        spans = np.zeros((n_blocks, 2), np.int64)
        for b in np.unique(block):
            spans[b] = y[block == b].min(), y[block == b].max() + 1
        x_any = np.flatnonzero(mask.any(axis=(1, 2)))
        box = [x_any[0], x_any[-1] + 1, y.min(), y.max() + 1, low.min(), high.max()]
        rows = np.stack([block * LANES, y, low, high], axis=1).astype(np.int64)
        return cls(np.ascontiguousarray(rows), spans, np.array(box, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Voxels to be resampled, in the order their values shall have.

    Attributes
    ----------
    columns : Columns
    rows : ndarray, shape (n_columns, 6), int64
        The columns' rows, each with the range of its entries in `wanted`.
    wanted : ndarray, shape (n_voxels, 2), int64
        Place in the column (z * 16 + lane), place in the result.
    """

    columns: Columns
    rows: Ints
    wanted: Ints

    @classmethod
    def of(cls, shape: Shape, voxels: Ints) -> Self:
        """For voxel indices (n, 3); a voxel may occur more than once."""
        mask = np.zeros(shape, np.bool_)
        mask[tuple(voxels.T)] = True
        columns = Columns.of(mask)
        x, y, z = voxels.T
        # A number per column that grows in the order of the columns' rows.
        column_of = y * shape[0] + x // LANES
        order = np.argsort(column_of, kind="stable")
        keys = columns.rows[:, 1] * shape[0] + columns.rows[:, 0] // LANES
        bounds = [np.searchsorted(column_of[order], keys, side) for side in ("left", "right")]
        wanted = np.stack([(z * LANES + x % LANES)[order], order], axis=1).astype(np.int64)
        rows = np.column_stack([columns.rows, *bounds]).astype(np.int64)
        return cls(columns, np.ascontiguousarray(rows), np.ascontiguousarray(wanted))
