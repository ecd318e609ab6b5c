"""A head given by a formula: its image under any motion is known without interpolation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def oblique(voxel_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Floats:
    """An anisotropic, oblique affine whose grid centre is off the world's origin."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("XYZ", [0.2, -0.1, 0.15]).as_matrix() * voxel_mm
    affine[:3, 3] = [12.0, -20.0, 7.0] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


@dataclass
class Head:
    """Gaussian blobs in an ellipsoid with a soft rim, in world millimetres.

    Attributes
    ----------
    shape, affine
        Grid on which images are taken.
    level : float
        Signal of the ellipsoid.
    """

    shape: tuple[int, int, int] = (64, 60, 30)
    affine: Floats = field(default_factory=lambda: oblique((3.0, 3.0, 3.6), (64, 60, 30)))
    level: float = 8_000.0

    def __post_init__(self) -> None:
        self.centre = self.affine[:3, :3] @ ((np.array(self.shape) - 1) / 2) + self.affine[:3, 3]
        rng = np.random.default_rng(7)
        self._blobs = [
            (self.centre + rng.uniform(-55, 55, 3), rng.uniform(7, 12), rng.uniform(-0.6, 0.8))
            for _ in range(40)
        ]

    def __call__(self, motion: Floats | None = None) -> NDArray[np.float32]:
        """Image (x, y, z), Fortran-ordered, of the head moved by a world map."""
        index = np.indices(self.shape).reshape(3, -1)
        world = self.affine[:3, :3] @ index + self.affine[:3, 3:]
        if motion is not None:
            back = np.linalg.inv(motion)
            world = back[:3, :3] @ world + back[:3, 3:]
        radius = np.sqrt((((world - self.centre[:, None]) / [[62.0], [72.0], [70.0]]) ** 2).sum(0))
        value = np.ones(radius.size)
        for centre, width, height in self._blobs:
            distance2 = ((world - centre[:, None]) ** 2).sum(0)
            value += height * np.exp(-0.5 * distance2 / width**2)
        value = self.level * value / (1.0 + np.exp((radius - 1.0) / 0.05))
        return np.asfortranarray(value.reshape(self.shape).astype(np.float32))


def displacement_mm(found: Floats, truth: Floats, around: Floats, radius_mm: float = 70.0) -> float:
    """Largest distance between two motions of points on a sphere around a head's centre."""
    directions = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3)).reshape(3, -1)
    directions /= np.maximum(np.linalg.norm(directions, axis=0), 1e-9)
    points = np.vstack([around[:, None] + radius_mm * directions, np.ones(27)])
    return float(np.linalg.norm(((found - truth) @ points)[:3], axis=0).max())
