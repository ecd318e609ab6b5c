"""From planes as stored to an array closest to RAS+: flips and permutations, never resampling.

DICOM speaks of planes of rows and columns in patient coordinates (LPS+, mm; PS3.3, C.7.6.2);
a volume wants an array `(x, y, z)` whose axes are closest to right, anterior, superior and an
affine in RAS+ mm. The planes are written once, straight into the array the volume keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from rtloop.readers.outcome import Unreadable

__all__ = ["Placement", "plane_affine", "scaled_dtype", "stack"]

EVEN_TOLERANCE_MM = 0.1
"""Slices further than this from an even spacing make no volume. Scanners round positions to
0.1 mm at worst (PAR/REC), so the value leaves nothing but a real gap out."""

FloatArray = NDArray[np.float64]

_nibabel: Any = orientations  # has no types


@dataclass(frozen=True, slots=True)
class Placement:
    """How an array of axes (column, row, slice) lies in RAS+ space and becomes the volume's array.

    Attributes
    ----------
    affine : ndarray, shape (4, 4), float64
        Index of the volume's array to world, mm, RAS+.
    axes : tuple of int
        The volume's axis that each stored axis (column, row, slice) becomes.
    flipped : tuple of bool
        Whether that axis runs the other way in the volume's array.
    shape : tuple of int
        Shape of the volume's array.
    """

    affine: FloatArray
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    shape: tuple[int, int, int]

    @classmethod
    def closest_to_ras(cls, affine: FloatArray, shape: tuple[int, int, int]) -> Placement:
        """Placement of an array of this shape whose indices `affine` maps to RAS+ mm."""
        return _closest_to_ras(affine.tobytes(), shape)

    def direction(self, stored_axis: int, positive: bool) -> str:
        """A stored axis and sense as BIDS spells them: i, j, k of the volume, '-' if falling."""
        rising = positive != self.flipped[stored_axis]
        return "ijk"[self.axes[stored_axis]] + ("" if rising else "-")

    def stored_view(self, data: NDArray[np.generic]) -> NDArray[np.generic]:
        """The volume's array seen with the stored axes (column, row, slice), a view."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return data.transpose(self.axes)[steps]


@lru_cache(maxsize=64)
def _closest_to_ras(affine_bytes: bytes, shape: tuple[int, int, int]) -> Placement:
    affine = np.frombuffer(affine_bytes, np.float64).reshape(4, 4)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise Unreadable("position and orientation: expected three independent axes in mm")
    orientation = _nibabel.io_orientation(affine)
    axes = tuple(int(axis) for axis in orientation[:, 0])
    turned = affine @ _nibabel.inv_ornt_aff(orientation, shape)
    turned.setflags(write=False)
    new_shape = [0, 0, 0]
    for stored, axis in enumerate(axes):
        new_shape[axis] = shape[stored]
    return Placement(
        affine=turned,
        axes=(axes[0], axes[1], axes[2]),
        flipped=(orientation[0, 1] < 0, orientation[1, 1] < 0, orientation[2, 1] < 0),
        shape=(new_shape[0], new_shape[1], new_shape[2]),
    )


def plane_affine(
    positions_mm: FloatArray,
    orientation: Sequence[float],
    pixel_spacing_mm: Sequence[float],
) -> FloatArray:
    """Affine of stored axes (column, row, slice) to RAS+ mm (PS3.3, equation C.7.6.2.1-1).

    Parameters
    ----------
    positions_mm : ndarray, shape (n_slices, 3)
        Centre of each plane's first voxel, LPS+, in stacking order; at least two planes.
    orientation : six floats
        Unit vectors of rising column and rising row, LPS+ (ImageOrientationPatient).
    pixel_spacing_mm : two floats
        Distance between rows, then between columns (PixelSpacing).

    Returns
    -------
    ndarray, shape (4, 4), float64
        Rows and columns as for NIfTI.

    Raises
    ------
    Unreadable
        If an entry is missing or the planes are not evenly spaced.
    """
    if len(orientation) != 6 or len(pixel_spacing_mm) != 2 or len(positions_mm) < 2:
        raise Unreadable(
            "expected ImageOrientationPatient, PixelSpacing and two or more slices with "
            "ImagePositionPatient, found fewer values"
        )
    n_slices = len(positions_mm)
    step = (positions_mm[-1] - positions_mm[0]) / (n_slices - 1)
    even = positions_mm[0] + np.arange(n_slices)[:, None] * step
    if not np.abs(positions_mm - even).max() <= EVEN_TOLERANCE_MM:
        raise Unreadable("slice positions: expected even spacing, found a gap or a jump")
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(orientation[:3]) * pixel_spacing_mm[1]
    affine[:3, 1] = np.asarray(orientation[3:]) * pixel_spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions_mm[0]
    affine[:2] *= -1.0  # LPS+ to RAS+
    return affine


def scaled_dtype(
    stored: np.dtype[np.generic], bits_stored: int | None, scaled: bool
) -> np.dtype[np.generic]:
    """Voxel type of the volume: integers stay integers, what is scaled or wide is float32.

    Unsigned values of up to 15 bits become int16, as every NIfTI program reads them.
    """
    if scaled or stored.kind not in "iu" or stored.itemsize != 2:
        return np.dtype(np.float32)
    if stored.kind == "u" and (bits_stored or 16) > 15:
        return np.dtype(np.uint16)
    return np.dtype(np.int16)


def stack(
    planes: Sequence[NDArray[Any]],
    placement: Placement,
    dtype: np.dtype[np.generic],
    scaling: Sequence[tuple[float, float]] | None = None,
) -> NDArray[np.generic]:
    """Write planes into the volume's array.

    Parameters
    ----------
    planes : sequence of ndarray, each (rows, columns)
        In stacking order.
    placement : Placement
        Where they lie.
    dtype : dtype
        Voxel type of the result.
    scaling : sequence of (slope, intercept), optional
        Per plane; the values are `stored * slope + intercept`.

    Returns
    -------
    ndarray, shape `placement.shape`, Fortran-ordered
        Axes closest to RAS+; owns its memory.
    """
    data = np.empty(placement.shape, dtype, order="F")
    stored = placement.stored_view(data)
    for number, plane in enumerate(planes):
        if scaling is None:
            stored[:, :, number] = plane.T
        else:
            slope, intercept = scaling[number]
            stored[:, :, number] = plane.T * slope + intercept
    return data
