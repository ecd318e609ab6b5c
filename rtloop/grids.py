"""A voxel grid, shape and affine, and what lies on it or differs from it.

Two grids are one if no corner voxel of the one is farther than `GRID_TOLERANCE_MM` from its place
in the other: entries of affines cannot be compared, for a rotation that is harmless in a small
image is not in a large one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.errors import RoiError

__all__ = [
    "GRID_TOLERANCE_MM",
    "by",
    "checked_affine",
    "grid_difference",
    "sphere_indices",
    "whole_labels",
]

GRID_TOLERANCE_MM = 1e-3
"""Two grids are the same if no corner voxel is farther apart than this."""

MAX_RADIUS_MM = 100.0

Float64 = NDArray[np.float64]


def checked_affine(affine: ArrayLike) -> Float64:
    """Own float64 copy of an affine, shape (4, 4); RoiError if it is none."""
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
        raise RoiError(
            "expected a finite, invertible 4x4 affine, found none: check the image's header"
        )
    return matrix


def grid_difference(shape: tuple[int, ...], ours: Float64, theirs: Float64) -> str:
    """What separates two grids of one shape, in words; empty if they are the same.

    Parameters
    ----------
    shape : tuple of int
        Voxels along each axis.
    ours, theirs : ndarray, shape (4, 4)
        Voxel index to world, mm.
    """
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    apart = (ours - theirs)[:3, :3] @ corners + (ours - theirs)[:3, 3:]
    farthest_mm = float(np.linalg.norm(apart, axis=0).max())
    if farthest_mm <= GRID_TOLERANCE_MM:
        return ""
    return f"up to {farthest_mm:.3g} mm apart, {_cause(ours, theirs)}"


def sphere_indices(
    name: str, center_mm: ArrayLike, radius_mm: float, affine: Float64
) -> NDArray[np.int64]:
    """Voxel indices of a sphere as if the grid had no end.

    Parameters
    ----------
    name : str
        Named in errors.
    center_mm : array_like, shape (3,)
        World, mm.
    radius_mm : float
        A voxel belongs to the sphere if its centre is within this distance.
    affine : ndarray, shape (4, 4)
        Voxel index to world, mm.

    Returns
    -------
    ndarray, shape (n, 3), int64

    Raises
    ------
    RoiError
        Centre or radius make no sense, or no voxel centre is that near.
    """
    center = np.asarray(center_mm, dtype=np.float64)
    if center.shape != (3,) or not np.isfinite(center).all():
        raise RoiError(
            f"expected three finite coordinates (mm) as centre of {name!r}, found "
            f"{center.tolist()}: correct the sphere"
        )
    if not 0.0 < radius_mm <= MAX_RADIUS_MM:
        raise RoiError(
            f"expected a radius above 0 and up to {MAX_RADIUS_MM:g} mm for {name!r}, found "
            f"{radius_mm:g}: correct the sphere"
        )
    inverse = np.linalg.inv(affine)
    middle = inverse[:3, :3] @ center + inverse[:3, 3]
    reach = radius_mm * np.linalg.norm(inverse[:3, :3], axis=1)
    axes = [
        np.arange(np.floor(m - r), np.ceil(m + r) + 1) for m, r in zip(middle, reach, strict=True)
    ]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    distance_mm = np.linalg.norm((lattice - middle) @ affine[:3, :3].T, axis=1)
    # voxels exactly on the surface belong to it, whatever the rounding
    inside: NDArray[np.int64] = lattice[distance_mm <= radius_mm + 1e-6].astype(np.int64)
    if not len(inside):
        raise RoiError(
            f"expected voxels in sphere {name!r}, found none: its centre is farther than its "
            f"radius of {radius_mm:g} mm from every voxel centre; enlarge it"
        )
    return inside


def whole_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Label image as int64, shape (x, y, z); RoiError if it holds anything but labels."""
    if labels.ndim != 3:
        raise RoiError(
            f"expected a label image with 3 axes, found {labels.ndim} ({by(labels.shape)}): "
            "give one volume of labels"
        )
    # checked before the cast: NaN and infinity have no int64
    if labels.dtype.kind not in "iub" and not (
        np.isfinite(labels).all() and (labels == np.rint(labels)).all()
    ):
        raise RoiError(
            "expected whole-number labels, found fractions: the image was interpolated or is a "
            "probability map; resample labels with nearest neighbour"
        )
    whole = labels.astype(np.int64)
    if whole.min(initial=0) < 0:
        raise RoiError(f"expected labels from 0 up, found {whole.min()}: 0 is background")
    return whole


def by(sizes: Iterable[float]) -> str:
    """Sizes as people write them, such as 64x64x33."""
    return "x".join(f"{size:g}" for size in sizes)


def _cause(ours: Float64, theirs: Float64) -> str:
    our_mm, their_mm = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (ours, theirs))
    if np.abs(our_mm - their_mm).max() > 1e-4:
        return f"voxels {by(our_mm.round(3))} mm against {by(their_mm.round(3))} mm"
    if np.abs(ours[:3, :3] - theirs[:3, :3]).max() > 1e-4:
        return "oriented differently"
    shift_mm = ", ".join(f"{mm:.4g}" for mm in theirs[:3, 3] - ours[:3, 3])
    return f"shifted by ({shift_mm}) mm"
