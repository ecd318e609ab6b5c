"""A reference volume made ready for registration at one resolution, and the steps against it.

What belongs to the reference alone (smoothed values, gradients, normal matrix of each slice) is
computed once; `Level.align` then moves six parameters until a volume fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtloop.columns import Columns, aligned_zeros, work_buffers
from rtloop.interpolants import quintic_smoother
from rtloop.kernels.layout import PAD, SPARE
from rtloop.kernels.register import N_PARAMETERS, N_SUMS, accumulate, advance, place
from rtloop.kernels.resample import fill_columns
from rtloop.kernels.simd import LANES

__all__ = ["MARGIN", "Fit", "Level"]

MANY_VOXELS = 20_000
"""Above so many compared voxels every second row along y does: estimates on real series then
differ by 0.002 mm on average from those on all voxels (10,000 random voxels: 0.02 mm)."""

MARGIN = 2
"""Voxels at the grid's ends that are not compared: smoothing them needs what lies beyond."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fit:
    """How far `Level.align` came.

    Attributes
    ----------
    n_steps : int
    last_step_mm : float
        Length of the last step (|translation| + 50 mm |rotation|); -1 if it could not be taken.
    residual : float
        Root mean square difference of the fitted volume and the reference before the last step,
        as a share of the reference's mean.
    explained : float
        Share of the reference's variance that is not left in that difference.
    share : float
        Part of the compared voxels that counted.
    """

    n_steps: int
    last_step_mm: float
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
        Voxels compared; at least `MARGIN` voxels away from the grid's ends.
    """

    def __init__(self, reference: Floats, affine: Floats, centre_mm: Floats, mask: Mask) -> None:
        self._volume_shape = np.array(reference.shape, np.int64)
        features, mask, first = _compared(reference, mask)
        values = features[3][mask]
        self._mean, self._variance = float(values.mean()), float(values.var())
        self._every = 2 if values.size > MANY_VOXELS else 1
        if self._every == 2:
            mask[:, 1::2] = False
        self._to_voxel = np.ascontiguousarray(np.linalg.inv(affine))
        # The grid of what is compared begins at the first voxel of the head.
        self._to_world = np.array(affine, np.float64)
        self._to_world[:3, 3] += affine[:3, :3] @ first
        self._centre_mm = centre_mm
        self._centre = self._to_voxel[:3, :3] @ centre_mm + self._to_voxel[:3, 3] - first
        self._counts = mask.sum(axis=(0, 1)).astype(np.float64)
        columns = Columns.of(mask)
        self._box, self._spans = columns.box, columns.spans
        self._features, places = _lay_out(features, columns)
        self._rows = np.ascontiguousarray(np.column_stack([columns.rows, places]))
        self._projection = _projection(self._to_world, self._to_voxel)
        self._normals = _normals(features, mask, self._centre, self._projection)
        self._interpolant = quintic_smoother().arguments
        self._make_buffers(mask.shape)

    def _make_buffers(self, grid: tuple[int, ...]) -> None:
        x, y, nz = (int(n) for n in self._volume_shape)
        self._buffers = work_buffers((x, y, nz), (grid[0], grid[1], grid[2]))
        self._doubt_profile = aligned_zeros((nz + 2 * PAD + SPARE) * LANES)
        self._doubt = aligned_zeros((grid[2] + SPARE) * LANES)
        self._has_doubt = True
        self._sums = np.zeros(N_SUMS)
        self._slice_weights, self._shares = np.zeros(grid[2]), np.ones(grid[2])
        self._matrix, self._passes = np.zeros((4, 4)), np.zeros(12)
        self._normal = np.zeros((N_PARAMETERS, N_PARAMETERS))
        self._step = np.zeros(N_PARAMETERS)
        self._work = np.zeros((3, 4, 4))

    def align(
        self,
        volume: NDArray[np.float32],
        parameters: Floats,
        gains: Floats,
        doubted: Mask,
        max_steps: int,
        tolerance_mm: float,
    ) -> Fit:
        """Move `parameters` (6,) and `gains` (4,) in place until the volume fits.

        Parameters
        ----------
        volume : ndarray, float32
            Buffer filled by `kernels.intake.take_in`.
        parameters : ndarray, shape (6,), float64
            Translations mm, rotations rad.
        gains : ndarray, shape (4,), float64
            Intensity of the volume in terms of the reference's, over (1, x, y, z) in voxels from
            the rotation centre.
        doubted : ndarray, shape (z,), bool
            Slices of the volume not to be used.
        max_steps : int
        tolerance_mm : float
            Stop after a step shorter than this.
        """
        self._doubt_slices(doubted)
        step_mm, n_steps = np.inf, 0
        while n_steps < max_steps and step_mm >= tolerance_mm:
            step_mm = self._take_step(volume, parameters, gains)
            n_steps += 1
        mean_square = self._sums[16] / max(self._sums[17], 1.0)
        gain = max(float(gains[0]), 1e-9)
        return Fit(
            n_steps=n_steps,
            last_step_mm=float(step_mm),
            residual=float(np.sqrt(mean_square)) / (self._mean * gain),
            explained=1.0 - float(mean_square) / (self._variance * gain**2),
            share=float((self._shares * self._counts).sum() / self._counts.sum()),
        )

    def _take_step(self, volume: NDArray[np.float32], parameters: Floats, gains: Floats) -> float:
        place(
            parameters,
            self._centre_mm,
            self._to_voxel,
            self._to_world,
            self._work,
            self._matrix,
            self._passes,
        )
        fill_columns(
            volume,
            self._volume_shape,
            self._passes,
            self._interpolant,
            self._box,
            self._spans,
            self._every,
            self._buffers,
        )
        weighted = accumulate(
            self._volume_shape[2],
            self._spans.shape[0],
            self._passes,
            self._interpolant,
            self._box,
            self._rows,
            self._features,
            gains,
            self._centre,
            self._doubt_profile,
            self._doubt,
            int(self._has_doubt),
            self._buffers,
            self._sums,
            self._slice_weights,
        )
        self._shares[:] = 1.0
        if weighted:
            np.divide(self._slice_weights, self._counts, self._shares, where=self._counts > 0.0)
        step_mm: float = advance(
            self._sums,
            self._projection,
            self._normals,
            self._shares,
            self._centre_mm,
            parameters,
            gains,
            self._normal,
            self._step,
            self._work,
        )
        return step_mm

    def _doubt_slices(self, doubted: Mask) -> None:
        """Lay out which rows of a column are not to be used: doubted ones and those beyond."""
        if doubted.any() or self._has_doubt:
            profile = np.ones(doubted.size + 2 * PAD, np.float32)
            profile[PAD : PAD + doubted.size] = doubted
            self._doubt_profile[: profile.size * LANES] = np.repeat(profile, LANES)
            self._has_doubt = bool(doubted.any())


def _compared(reference: Floats, mask: Mask) -> tuple[list[Floats], Mask, NDArray[np.int64]]:
    """Features and mask on the box around the mask, and the box's first voxel.

    Features are the smoothed reference's gradient along x, y, z (per voxel) and its value; 0 off
    the mask.
    """
    where = np.argwhere(mask)
    first, end = where.min(axis=0), where.max(axis=0) + 1
    box = tuple(slice(low, high) for low, high in zip(first, end, strict=True))
    smoother = quintic_smoother()
    before = smoother.n_taps // 2 - 1
    features = []
    for direction in (0, 1, 2, None):
        image = reference
        for axis in range(3):
            taps = smoother.slopes(0.0) if axis == direction else smoother.weights(0.0)
            ends = [(before, before + 1) if i == axis else (0, 0) for i in range(3)]
            wide = np.pad(image, ends, mode="symmetric")
            n = image.shape[axis]
            image = np.zeros_like(image)
            for k, weight in enumerate(taps):
                image += weight * wide.take(range(k, k + n), axis=axis)
        features.append(np.where(mask, image, 0.0)[box])
    return features, mask[box].copy(), first


def _lay_out(
    features: list[Floats], columns: Columns
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features in the order the columns are walked, and the place of each column."""
    nx, ny, nz = features[0].shape
    wide = np.zeros((4, columns.spans.shape[0] * LANES, ny, nz), np.float32)
    wide[:, :nx] = features
    lengths = (columns.rows[:, 3] - columns.rows[:, 2]) * 4 * LANES
    places = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = aligned_zeros(int(places[-1]))
    for (x, y, low, high), at, end in zip(columns.rows, places[:-1], places[1:], strict=True):
        flat[at:end] = wide[:, x : x + LANES, y, low:high].transpose(2, 0, 1).ravel()
    return flat, places[:-1]


def _projection(to_world: Floats, to_voxel: Floats) -> Floats:
    """The ten directions in terms of the sixteen moments, shape (16, 10).

    A small motion (t, w) moves voxel coordinates by B (t + w x (A u)), with A and B the linear
    parts of `to_world` and its inverse; moments are ordered (component, (1, x, y, z)).
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


def _normals(features: list[Floats], mask: Mask, centre: Floats, projection: Floats) -> Floats:
    """Normal matrix of the ten directions for each slice, shape (z, 10, 10)."""
    normals = np.zeros((mask.shape[2], N_PARAMETERS, N_PARAMETERS))
    for z in range(mask.shape[2]):
        x, y = np.nonzero(mask[:, :, z])
        ones = np.ones(x.size)
        u = np.stack([ones, x - centre[0], y - centre[1], (z - centre[2]) * ones])
        f = np.stack([feature[x, y, z] for feature in features])
        moments = (f[:, None] * u[None]).reshape(16, -1)
        # einsum without its optimiser calls no BLAS: the same sums in the same order every time.
        jacobian = np.einsum("kn,ki->in", moments, projection)
        normals[z] = np.einsum("in,jn->ij", jacobian, jacobian)
    return normals
