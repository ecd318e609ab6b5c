"""The slices of a simulated scan: where they lie, when each is taken, how the coil sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BRAIN_CENTRE_MM", "Grid"]

BRAIN_CENTRE_MM = (0.0, -18.0, 12.0)
"""Middle of the brain in MNI world coordinates, where slices are centred."""

HEAD_MM = (85.0, 100.0, 85.0)
"""Half axes of a head, the scale of the coil's shading."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grid:
    """The slices a scanner was told to take.

    Attributes
    ----------
    shape : tuple of int
        Voxels along x, y, z; slices lie along z.
    affine : ndarray, shape (4, 4)
        Voxel index to world, mm, RAS+.
    multiband : int
        Slices taken at once.
    """

    shape: tuple[int, int, int]
    affine: Array
    multiband: int = 1

    @classmethod
    def axial(
        cls,
        shape: tuple[int, int, int] = (64, 64, 33),
        voxel_mm: tuple[float, float, float] = (3.5, 3.5, 4.0),
        tilt_rad: float = 0.0,
        multiband: int = 1,
    ) -> Grid:
        """Slices centred on the brain, tilted about x."""
        c, s = np.cos(tilt_rad), np.sin(tilt_rad)
        affine = np.eye(4)
        affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) * np.array(voxel_mm)
        centre = np.array(BRAIN_CENTRE_MM)
        affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) - 1) / 2
        return cls(shape, affine, multiband)

    @property
    def voxel_mm(self) -> Array:
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))

    def slice_times_s(self, tr_s: float) -> tuple[float, ...]:
        """Interleaved, ascending, even slices first; groups of `multiband` at once."""
        n_shots = -(-self.shape[2] // self.multiband)
        order = [*range(0, n_shots, 2), *range(1, n_shots, 2)]
        start = {shot: place * tr_s / n_shots for place, shot in enumerate(order)}
        return tuple(round(start[z % n_shots], 6) for z in range(self.shape[2]))

    def world(self) -> Array:
        """World coordinates of every voxel's centre, shape (x, y, z, 3), mm."""
        index = np.moveaxis(np.indices(self.shape), 0, -1)
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def coil(self) -> Array:
        """Sensitivity of a receive array: brighter at the surface, a little more at the back."""
        away = (self.world() - np.array(BRAIN_CENTRE_MM)) / np.array(HEAD_MM)
        shading = 0.85 + 0.35 * (away**2).sum(axis=-1) - 0.06 * away[..., 1]
        return np.asarray(np.clip(shading, 0.5, 1.6))
