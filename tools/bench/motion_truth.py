"""Known motion of real images, and a slow estimate to compare the fast one with.

`Mover` moves an image by interpolation that is far better than any in the loop: the image is
upsampled threefold by its cosine transform (what its k-space says lies between the voxels) and
then sampled with quintic splines. Upsampling by 1 moves it with quintic splines alone, which is
less exact but does not resemble the loop's own interpolant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

__all__ = ["Mover", "brain", "jumps", "random_walk", "rigid", "slow_motion", "true_resampling"]

Floats = NDArray[np.float64]

PADDING = 12
"""Voxels (after upsampling) by which an image is continued before splines are fitted."""


def rigid(parameters: Floats, centre_mm: Floats) -> Floats:
    """World map of translations (mm) and intrinsic x-y-z rotations (rad) about a centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("XYZ", parameters[3:]).as_matrix()
    matrix[:3, 3] = parameters[:3] + centre_mm - matrix[:3, :3] @ centre_mm
    return matrix


def random_walk(
    n: int, seed: int, most_mm: float = 0.7, most_rad: float = np.deg2rad(2.4)
) -> Floats:
    """Parameters (n, 6) that begin at rest and reach, but do not pass, the given sizes."""
    steps = np.random.default_rng(seed).standard_normal((n, 6))
    walk: Floats = np.cumsum(steps, axis=0) - steps[0]
    walk[:, :3] *= most_mm / np.abs(walk[:, :3]).max()
    walk[:, 3:] *= most_rad / np.abs(walk[:, 3:]).max()
    return walk


def jumps(n: int, seed: int) -> Floats:
    """Parameters (n, 6) of single jumps: 2-4 mm along and 3-5 degrees about every axis."""
    rng = np.random.default_rng(seed)
    sizes: Floats = np.concatenate(
        [rng.uniform(2.0, 4.0, (n, 3)), np.deg2rad(rng.uniform(3.0, 5.0, (n, 3)))], axis=1
    )
    turned: Floats = sizes * rng.choice([-1.0, 1.0], (n, 6))
    return turned


def brain(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels inside the head, its rim left out."""
    smooth = scipy.ndimage.gaussian_filter(image.astype(np.float64), 1.0)
    inside: NDArray[np.bool_] = scipy.ndimage.binary_erosion(
        smooth > 0.35 * np.percentile(smooth, 98.0)
    )
    return inside


@dataclass
class Mover:
    """Moves one image by any rigid motion.

    Attributes
    ----------
    image : ndarray, shape (x, y, z)
    affine : ndarray, shape (4, 4)
        Voxel index to world, mm.
    upsampling : int
        3 for the cosine transform, 1 for splines on the voxels.
    """

    image: NDArray[Any]
    affine: Floats
    upsampling: int = 3

    def __post_init__(self) -> None:
        dense = self.image.astype(np.float64)
        for axis in range(3) if self.upsampling > 1 else ():
            n = dense.shape[axis]
            spectrum = scipy.fft.dct(dense, axis=axis)
            ends = [(0, n * (self.upsampling - 1)) if i == axis else (0, 0) for i in range(3)]
            dense = scipy.fft.idct(np.pad(spectrum, ends), axis=axis) * self.upsampling
        dense = np.pad(dense, PADDING, mode="symmetric")
        self._splines = scipy.ndimage.spline_filter(dense, 5, mode="mirror").astype(np.float32)

    def __call__(self, motion: Floats) -> NDArray[np.float32]:
        """The image as a head moved by `motion` (reference to volume, world mm) would give it."""
        back = np.linalg.inv(self.affine) @ np.linalg.inv(motion) @ self.affine
        factor = self.upsampling
        offset = factor * back[:3, 3] + (factor - 1) / 2 + PADDING
        moved: NDArray[np.float32] = scipy.ndimage.affine_transform(
            self._splines,
            factor * back[:3, :3],
            offset,
            output_shape=self.image.shape,
            output=np.float32,
            order=5,
            mode="mirror",
            prefilter=False,
        )
        return np.asfortranarray(moved)


def true_resampling(volume: NDArray[Any], affine: Floats, motion: Floats) -> Floats:
    """A volume brought back by the motion that moved it, with a quintic spline."""
    forth = np.linalg.inv(affine) @ motion @ affine
    back: Floats = scipy.ndimage.affine_transform(
        volume.astype(np.float64), forth[:3, :3], forth[:3, 3], order=5, mode="mirror"
    )
    return back


def slow_motion(
    reference: NDArray[Any],
    volume: NDArray[Any],
    affine: Floats,
    mask: NDArray[np.bool_],
    start: Floats,
    n_steps: int = 8,
) -> Floats:
    """Least-squares motion (4, 4) over every voxel of a mask, plainly in NumPy and SciPy.

    Both images are smoothed by the quintic B-spline basis; each step linearises the volume itself
    (forward compositional), unlike the loop. Gain and three intensity ramps are fitted along.
    """
    points = np.argwhere(mask).T.astype(np.float64)
    middle = points.mean(axis=1, keepdims=True)
    fixed = _smooth(reference, points)
    world = affine[:3, :3] @ points + affine[:3, 3:]
    centre = world.mean(axis=1, keepdims=True)
    intensity = np.vstack([np.ones(points.shape[1]), (points - middle) / 50.0]) * fixed
    motion = start.copy()
    for _ in range(n_steps):
        forth = np.linalg.inv(affine) @ motion @ affine
        places = forth[:3, :3] @ points + forth[:3, 3:]
        value = _smooth(volume, places)
        # Gradient in the volume's voxels, then in the reference's world.
        offsets = 0.05 * np.eye(3)[:, :, None]
        slope = np.stack(
            [(_smooth(volume, places + o) - _smooth(volume, places - o)) / 0.1 for o in offsets]
        )
        slope = (np.linalg.inv(affine)[:3, :3] @ motion[:3, :3]).T @ slope
        turn = np.cross((world - centre).T, slope.T).T
        design = np.vstack([slope, turn, -intensity])
        solved = np.linalg.lstsq(design.T, -value, rcond=None)[0]
        motion = motion @ rigid(solved[:6], centre[:, 0])
    return motion


def _smooth(image: NDArray[Any], places: Floats) -> Floats:
    smoothed: Floats = scipy.ndimage.map_coordinates(
        image.astype(np.float64), places, order=5, mode="mirror", prefilter=False
    )
    return smoothed
