"""A reference volume made ready for registration at one resolution, and the steps against it.

What belongs to the reference alone (smoothed values, gradients, normal matrix of each slice) is
computed once; `Level.align` then moves six parameters until a volume fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtloop.interpolants import quintic_smoother
from rtloop.kernels.register import N_PARAMETERS, N_SUMS, accumulate, advance, place
from rtloop.kernels.resample import PAD, SPARE, VOLUME_MARGIN, fill_columns, row_stride
from rtloop.kernels.simd import LANES

__all__ = ["Columns", "Fit", "Level", "aligned_zeros", "buffers", "volume_buffer"]

Shape = tuple[int, int, int]
Floats = NDArray[np.float64]


def aligned_zeros(n: int) -> NDArray[np.float32]:
    """`n` float32 zeros beginning on a 64-byte boundary."""
    block = np.zeros(n + LANES, np.float32)
    first = (-block.ctypes.data // block.itemsize) % LANES
    return block[first : first + n]


def volume_buffer(shape: Shape) -> NDArray[np.float32]:
    """Buffer for a volume's rows as `take_in` lays them out."""
    nx, ny, nz = shape
    return aligned_zeros(2 * VOLUME_MARGIN + row_stride(nx) * ny * nz)


def buffers(shape: Shape) -> tuple[NDArray[np.float32], ...]:
    """What the resampling kernels write on the way: taps, weights, plane, columns, column."""
    nx, ny, nz = shape
    n_blocks = -(-nx // LANES)
    return (
        aligned_zeros(LANES),
        aligned_zeros(2 * LANES * LANES),
        aligned_zeros(n_blocks * (ny + 2 * PAD + SPARE) * LANES),
        aligned_zeros(ny * n_blocks * (nz + 2 * PAD + SPARE) * LANES),
        aligned_zeros((nz + SPARE) * LANES),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Where on the grid values are wanted, in columns of sixteen x along z.

    Attributes
    ----------
    rows : ndarray, shape (n, 4), int64
        First x, y, and z range of each column, ordered by y then x.
    spans : ndarray, shape (n_blocks, 2), int64
        y range wanted of each block of sixteen x.
    box : ndarray, shape (6,), int64
        x, y and z ranges around all of it.
    """

    rows: NDArray[np.int64]
    spans: NDArray[np.int64]
    box: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Columns:
        """Columns that cover a mask (x, y, z) with at least one voxel."""
        nx, ny, nz = mask.shape
        n_blocks = -(-nx // LANES)
        padded = np.zeros((n_blocks * LANES, ny, nz), np.bool_)
        padded[:nx] = mask
        blocks = padded.reshape(n_blocks, LANES, ny, nz).any(axis=1)
        y, block = np.nonzero(blocks.any(axis=2).T)
        along_z = blocks[block, y]
        low = along_z.argmax(axis=1)
        high = nz - along_z[:, ::-1].argmax(axis=1)
        rows = np.ascontiguousarray(np.stack([block * LANES, y, low, high], axis=1), np.int64)
        spans = np.zeros((n_blocks, 2), np.int64)
        for b in np.unique(block):
            spans[b] = y[block == b].min(), y[block == b].max() + 1
        x_any = np.flatnonzero(mask.any(axis=(1, 2)))
        box = [x_any[0], x_any[-1] + 1, y.min(), y.max() + 1, low.min(), high.max()]
        return cls(rows, spans, np.array(box, np.int64))


@dataclass(frozen=True, slots=True)
class Fit:
    """How far `Level.align` came.

    `residual` is the root mean square difference between the fitted volume and the reference, as
    a share of the reference's mean, before the last step; `explained` the share of the
    reference's variance that is not left in it; `share` the part of the mask that counted.
    """

    n_steps: int
    converged: bool
    residual: float
    explained: float
    share: float


class Level:
    """The reference at one resolution.

    Parameters
    ----------
    reference : ndarray, shape (x, y, z), float64
    affine : ndarray, shape (4, 4), float64
        Voxel index to world, mm.
    centre_mm : ndarray, shape (3,), float64
        World point about which rotations are counted.
    mask : ndarray, shape (x, y, z), bool
        Voxels compared; at least two voxels away from the grid's ends.
    """

    def __init__(
        self, reference: Floats, affine: Floats, centre_mm: Floats, mask: NDArray[np.bool_]
    ) -> None:
        x, y, z = reference.shape
        self.shape: Shape = (x, y, z)
        self._dims = np.array(self.shape, np.int64)
        self._to_world = np.ascontiguousarray(affine, np.float64)
        self._to_voxel = np.ascontiguousarray(np.linalg.inv(affine))
        self._centre_mm = centre_mm
        self._centre = self._to_voxel[:3, :3] @ centre_mm + self._to_voxel[:3, 3]
        self._smoother = quintic_smoother()
        columns = Columns.of(mask)
        self._box, self._spans = columns.box, columns.spans
        features = _features(reference, mask)
        value = features[3][mask]
        self.mean = float(value.mean())
        self._variance = float(value.var())
        self._counts = mask.sum(axis=(0, 1)).astype(np.float64)
        self._features, places = _lay_out(features, columns)
        self._columns = np.ascontiguousarray(np.column_stack([columns.rows, places]))
        self._projection = _projection(self._to_world, self._to_voxel)
        self._normals = _normals(features, mask, self._centre, self._projection)
        self.buffers = buffers(self.shape)
        self._doubt = aligned_zeros((z + SPARE) * LANES)
        self._doubt_profile = aligned_zeros((z + 2 * PAD + SPARE) * LANES)
        self._sums = np.zeros(N_SUMS)
        self._slice_weights = np.zeros(z)
        self._work = np.zeros((3, 4, 4))
        self._matrix = np.zeros((4, 4))
        self._passes = np.zeros(12)
        self._normal = np.zeros((N_PARAMETERS, N_PARAMETERS))
        self._step = np.zeros(N_PARAMETERS)

    def align(
        self,
        volume: NDArray[np.float32],
        parameters: Floats,
        gains: Floats,
        doubted: NDArray[np.bool_],
        max_steps: int,
        tolerance_mm: float,
    ) -> Fit:
        """Move `parameters` (6,) and `gains` (4,) in place until the volume fits.

        Parameters
        ----------
        volume : ndarray, float32
            Buffer filled by `take_in`.
        doubted : ndarray, shape (z,), bool
            Slices of the volume not to be used.
        max_steps : int
        tolerance_mm : float
            Stop after a step shorter than this (|translation| + 50 mm |rotation|).
        """
        any_doubt = int(doubted.any())
        if any_doubt or not self._doubt_profile[0]:
            profile = np.ones(self.shape[2] + 2 * PAD, np.float32)
            profile[PAD : PAD + self.shape[2]] = doubted
            self._doubt_profile[: profile.size * LANES] = np.repeat(profile, LANES)
        smoother, sums = self._smoother, self._sums
        table = smoother.arguments
        step_mm, n_steps, share = -1.0, 0, 1.0
        for n_steps in range(1, max_steps + 1):
            place(parameters, self._centre_mm, self._to_voxel, self._to_world,
                  self._work, self._matrix, self._passes)
            fill_columns(volume, self._dims, self._passes, table, self._box,
                         self._spans, self.buffers)
            weighted = accumulate(self._dims, self._passes, table, self._box,
                                  self._columns, self._features, gains, self._centre,
                                  self._doubt_profile, self._doubt, any_doubt, self.buffers,
                                  sums, self._slice_weights)
            shares = np.ones_like(self._counts)
            if weighted:
                np.divide(self._slice_weights, self._counts, out=shares, where=self._counts > 0)
                share = float(sums[17] / self._counts.sum())
            step_mm = advance(sums, self._projection, self._normals, shares, self._centre_mm,
                              parameters, gains, self._normal, self._step, self._work)
            if not step_mm >= tolerance_mm:
                break
        if any_doubt:
            self._doubt_profile[0] = 0.0
        mean_square = sums[16] / max(sums[17], 1.0)
        return Fit(
            n_steps=n_steps,
            converged=0.0 <= step_mm < tolerance_mm,
            residual=float(np.sqrt(mean_square)) / (self.mean * max(gains[0], 1e-6)),
            explained=1.0 - float(mean_square) / (self._variance * max(gains[0], 1e-6) ** 2),
            share=share,
        )


def _features(reference: Floats, mask: NDArray[np.bool_]) -> list[Floats]:
    """Gradient along x, y, z (per voxel) and value of the smoothed reference, 0 off the mask."""
    smoother = quintic_smoother()
    half = smoother.n_taps // 2 - 1
    features = []
    for axis in (0, 1, 2, None):
        image = reference
        for other in range(3):
            taps = smoother.slopes(0.0) if other == axis else smoother.weights(0.0)
            # Tap 0 of n/2 - 1 before; the last tap has no weight on the grid itself.
            wide = np.pad(image, [(half + 1,) * 2 if i == other else (0, 0) for i in range(3)],
                          mode="symmetric")
            n = image.shape[other]
            image = sum(
                weight * wide.take(range(k + 1, k + 1 + n), axis=other)
                for k, weight in enumerate(taps)
            )
        features.append(np.where(mask, image, 0.0))
    return features


def _lay_out(
    features: list[Floats], columns: Columns
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features in the order the columns are walked, and the place of each column."""
    nx = features[0].shape[0]
    lanes = columns.spans.shape[0] * LANES
    wide = np.zeros((4, lanes, *features[0].shape[1:]), np.float32)
    wide[:, :nx] = features
    lengths = (columns.rows[:, 3] - columns.rows[:, 2]) * 4 * LANES
    places = np.concatenate([[0], np.cumsum(lengths)])
    flat = aligned_zeros(int(places[-1]))
    for (x, y, low, high), at, end in zip(columns.rows, places, places[1:], strict=False):
        flat[at:end] = wide[:, x : x + LANES, y, low:high].transpose(2, 0, 1).ravel()
    return flat, places[:-1].astype(np.int64)


def _projection(to_world: Floats, to_voxel: Floats) -> Floats:
    """The ten directions in terms of the sixteen moments, shape (16, 10).

    A small motion moves voxel coordinates by B (t + w x (A u)), A and B the linear parts of
    `to_world` and its inverse; moments are ordered (component, (1, x, y, z)).
    """
    forward, back = to_world[:3, :3], to_voxel[:3, :3]
    projection = np.zeros((4, 4, N_PARAMETERS))
    projection[:3, 0, :3] = back
    for axis in range(3):
        turn = np.zeros((3, 3))
        turn[(axis + 2) % 3, (axis + 1) % 3] = 1.0
        turn[(axis + 1) % 3, (axis + 2) % 3] = -1.0
        projection[:3, 1:, 3 + axis] = back @ turn @ forward
    projection[3, :, 6:] = np.eye(4)
    return np.ascontiguousarray(projection.reshape(16, N_PARAMETERS))


def _normals(
    features: list[Floats], mask: NDArray[np.bool_], centre: Floats, projection: Floats
) -> Floats:
    """Normal matrix of the ten directions for each slice, shape (z, 10, 10)."""
    nz = mask.shape[2]
    normals = np.zeros((nz, N_PARAMETERS, N_PARAMETERS))
    for z in range(nz):
        x, y = np.nonzero(mask[:, :, z])
        u = np.stack([np.ones(x.size), x - centre[0], y - centre[1], np.full(x.size, z - centre[2])])
        f = np.stack([feature[x, y, z] for feature in features])
        moments = (f[:, None] * u[None]).reshape(16, -1)
        # einsum without its optimiser calls no BLAS: the same sums in the same order everywhere.
        jacobian = np.einsum("kn,ki->in", moments, projection)
        normals[z] = np.einsum("in,jn->ij", jacobian, jacobian)
    return normals
