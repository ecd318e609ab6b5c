"""Reference and current volume at two resolutions: block means of about 6 mm, and the grid itself.

A coarse fit costs little and catches jumps of several millimetres; the fine one starts next to
its goal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtloop.alignment import MARGIN, Fit, Level
from rtloop.columns import volume_buffer
from rtloop.errors import ReaderError
from rtloop.kernels.intake import take_in
from rtloop.kernels.layout import ROW_START, VOLUME_MARGIN

__all__ = ["Pyramid", "head_mask"]

COARSE_VOXEL_MM = 6.0
MIN_COARSE_VOXELS = 12
"""The coarse grid keeps at least so many voxels along an axis, where there are as many."""

HEAD_SHARE_OF_MEAN = 0.4
"""A voxel belongs to the head above this share of the mean of all that is not air."""

MIN_HEAD_VOXELS = 500
MIN_HEAD_BLOCKS = 50
MAX_COARSE_STEPS = 25
COARSE_TOLERANCE_MM = 0.05
MAX_FINE_STEPS = 8
FINE_TOLERANCE_MM = 0.06
"""A fine step leaves 1 % of its length to be done, 10 % where the images differ in contrast."""

RETRY_BELOW = 0.95
"""Explained variance of the coarse fit below which other starting points are tried."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Pyramid:
    """Fits volumes to a reference, coarsely and then finely.

    Parameters
    ----------
    reference : ndarray, shape (x, y, z)
        Slices along z.
    affine : ndarray, shape (4, 4), float64
        Voxel index to world, mm.
    centre_mm : ndarray, shape (3,), float64
        World point about which rotations are counted.

    Attributes
    ----------
    fine : Level
        The reference on its own grid.
    volume : ndarray, float32
        Buffer that holds the volume last loaded.
    slice_sums : ndarray, shape (z,), float64
        Its slices' sums; not finite where a voxel is not.

    Raises
    ------
    ReaderError
        There is no head in the reference.
    """

    def __init__(self, reference: NDArray[Any], affine: Floats, centre_mm: Floats) -> None:
        self._dims = np.array(reference.shape, np.int64)
        size_mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        most = np.maximum(self._dims // MIN_COARSE_VOXELS, 1)
        self._factors = np.clip(np.rint(COARSE_VOXEL_MM / size_mm), 1, most).astype(np.int64)
        image = reference.astype(np.float64)
        coarse = _block_means(image, self._factors)
        self._coarse_affine = affine.copy()
        self._coarse_affine[:3, :3] *= self._factors
        self._coarse_affine[:3, 3] += affine[:3, :3] @ ((self._factors - 1) / 2)
        self.fine = Level(image, affine, centre_mm, head_mask(image, MIN_HEAD_VOXELS))
        self._coarse = Level(
            coarse, self._coarse_affine, centre_mm, head_mask(coarse, MIN_HEAD_BLOCKS)
        )
        nx, ny, nz = image.shape
        self._coarse_shape = mx, my, mz = coarse.shape
        self.volume, self._blocks = volume_buffer((nx, ny, nz)), volume_buffer((mx, my, mz))
        self._partial = np.zeros((my + 1) * nx, np.float32)
        self.slice_sums = np.zeros(nz)
        self._reference_centre = _centre_of_signal(coarse)

    def load(self, voxels: NDArray[Any]) -> None:
        """Read a volume, flat with x fastest, of type int16, uint16 or float32."""
        take_in(
            voxels,
            self._dims,
            self._factors,
            self.volume,
            self._blocks,
            self._partial,
            self.slice_sums,
        )

    def align(self, start: Floats, signal: float, doubted: Mask) -> tuple[Floats, Fit, int]:
        """Fit the volume last loaded.

        Parameters
        ----------
        start : ndarray, shape (6,), float64
            Parameters to begin with.
        signal : float
            Volume's signal as a share of the reference's.
        doubted : ndarray, shape (z,), bool
            Slices not to be used.

        Returns
        -------
        ndarray, Fit, int
            Parameters, the fine fit, steps of both.
        """
        parameters, gains, coarse = self._align_coarsely(start, signal, doubted)
        gains[1:] /= self._factors
        fine = self.fine.align(
            self.volume, parameters, gains, doubted, MAX_FINE_STEPS, FINE_TOLERANCE_MM
        )
        return parameters, fine, coarse.n_steps + fine.n_steps

    def _align_coarsely(
        self, start: Floats, signal: float, doubted: Mask
    ) -> tuple[Floats, Floats, Fit]:
        """Parameters, gains and fit on block means, from other starts where the first fails."""
        n, factor = self._coarse_shape[2], int(self._factors[2])
        blocks = np.array([doubted[i * factor : (i + 1) * factor].any() for i in range(n)])
        found = self._coarse_fit(start, signal, blocks)
        for other in (np.zeros(6), self._centred()) if found[2].explained < RETRY_BELOW else ():
            again = self._coarse_fit(other, signal, blocks)
            if again[2].explained > found[2].explained:
                found = again
        return found

    def _coarse_fit(self, start: Floats, signal: float, blocks: Mask) -> tuple[Floats, Floats, Fit]:
        parameters, gains = start.copy(), np.array([signal, 0.0, 0.0, 0.0])
        fit = self._coarse.align(
            self._blocks, parameters, gains, blocks, MAX_COARSE_STEPS, COARSE_TOLERANCE_MM
        )
        return parameters, gains, fit

    def _centred(self) -> Floats:
        """Parameters that lay the reference's centre of signal on the volume's."""
        mx, my, mz = self._coarse_shape
        rows = self._blocks[VOLUME_MARGIN : self._blocks.size - VOLUME_MARGIN].reshape(mz, my, -1)
        image = rows[:, :, ROW_START : ROW_START + mx].T.astype(np.float64)
        shift = _centre_of_signal(image) - self._reference_centre
        return np.concatenate([self._coarse_affine[:3, :3] @ shift, np.zeros(3)])


def _block_means(image: Floats, factors: NDArray[np.int64]) -> Floats:
    """Means over blocks of voxels; an incomplete block at the end is left out."""
    for axis, factor in enumerate(factors):
        n = image.shape[axis] // int(factor)
        blocks = image.take(range(n * int(factor)), axis=axis)
        shape = (*image.shape[:axis], n, int(factor), *image.shape[axis + 1 :])
        image = blocks.reshape(shape).mean(axis=axis + 1)
    return image


def head_mask(image: Floats, at_least: int = MIN_HEAD_VOXELS) -> Mask:
    """Voxels brighter than air, and their neighbours, away from the grid's ends.

    Raises
    ------
    ReaderError
        They are fewer than `at_least`.
    """
    threshold = HEAD_SHARE_OF_MEAN * image[image >= image.mean() / 8].mean()
    bright: Mask = image > threshold
    head = bright.copy()
    for axis in range(3):
        for step in (1, -1):
            head |= np.roll(bright, step, axis)
    inner = np.zeros_like(head)
    inside = (slice(MARGIN, -MARGIN),) * 3
    inner[inside] = head[inside]
    if (n := int(inner.sum())) < at_least:
        raise ReaderError(
            f"motion reference: expected a head of at least {at_least} voxels of "
            f"{' x '.join(map(str, image.shape))}, found {n}: choose another volume"
        )
    return inner


def _centre_of_signal(image: Floats) -> Floats:
    """Signal's centre of gravity, voxels."""
    signal = np.clip(image, 0.0, None)
    profiles = [signal.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    return np.array([(p * np.arange(p.size)).sum() / max(p.sum(), 1e-30) for p in profiles])
