"""Rigid head motion against a fixed reference, volume by volume, and resampling where it led.

The estimate is inverse-compositional Gauss-Newton on the voxels of the head, first on block means
of about 6 mm (a jump of several millimetres is caught there), then on the grid itself. Gain and
three linear intensity ramps are fitted along; slices that lost their signal are left out. The
state is the reference and the last accepted parameters, nothing else: `restore` continues as if
never interrupted, bit for bit. One thread; the same input gives the same bits.

A motion is x -> Rx(a) Ry(b) Rz(c) (x - centre) + centre + t in world millimetres, RAS+, with the
centre of the reference's grid; it maps a point of the reference to where the volume has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.alignment import MARGIN, Fit
from rtloop.columns import Sampler, work_buffers
from rtloop.errors import ReaderError
from rtloop.interpolants import band_interpolator
from rtloop.kernels.intake import doubt_slices
from rtloop.kernels.register import place, rigid_matrix
from rtloop.kernels.resample import fill_columns
from rtloop.kernels.sample import sample_all, sample_some
from rtloop.pyramid import Pyramid

__all__ = ["Motion", "Realigner", "framewise_displacement"]

HEAD_RADIUS_MM = 50.0
"""Turns rotations into millimetres (Power et al. 2012, doi:10.1016/j.neuroimage.2011.10.018)."""

UNSETTLED_MM = 0.1
"""A last step longer than this is no estimate."""

MIN_EXPLAINED = 0.9
"""Real series reach 0.98 and more; a head mirrored left to right reaches 0.87."""

MIN_SHARE = 0.5
MIN_SIGNAL = 0.1
"""Share of the reference's signal below which there is no image."""

MAX_TRANSLATION_MM = 15.0
MAX_ROTATION_RAD = np.deg2rad(15.0)
SLICE_TOLERANCE = 0.12
"""Departure of a slice's sum from its neighbours' course, as a share of an ordinary slice."""

MAX_DOUBTED_SHARE = 0.25
"""If more slices than this depart, the reference differs as a whole, and none is left out."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where a volume's head is, compared with the reference.

    Attributes
    ----------
    parameters : ndarray, shape (6,), float64
        Translations (mm) and rotations (rad) along and about world x, y, z; nan if not `ok`.
    matrix : ndarray, shape (4, 4), float64
        World mm, reference space to the volume's; nan if not `ok`.
    ok : bool
        Whether the estimate may be used.
    reason : str
        Why not; empty if `ok`.
    residual : float
        Root mean square difference that is left, as a share of the head's mean; nan if unknown.
    n_iterations : int
        Gauss-Newton steps, coarse and fine.
    doubted_slices : tuple of int
        Slices (along the slice axis) left out because their signal departs from the others'.
    """

    parameters: Floats
    matrix: Floats
    ok: bool = True
    reason: str = ""
    residual: float = float("nan")
    n_iterations: int = 0
    doubted_slices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.parameters.flags.writeable = False
        self.matrix.flags.writeable = False

    @classmethod
    def from_parameters(cls, parameters: ArrayLike, realigner: Realigner) -> Self:
        """The motion that has these six parameters about the realigner's centre."""
        values = np.array(parameters, np.float64)
        matrix = np.zeros((4, 4))
        rigid_matrix(values, realigner.centre_mm, matrix)
        return cls(values, matrix)


def framewise_displacement(a: Motion, b: Motion) -> float:
    """Power's FD: sum of |translations| + 50 mm * sum of |rotations| between two motions, mm."""
    change = np.abs(a.parameters - b.parameters)
    return float(change[:3].sum() + HEAD_RADIUS_MM * change[3:].sum())


class Realigner:
    """Motion of volumes against one reference, and their values on its grid.

    Parameters
    ----------
    reference : array_like, shape (x, y, z)
        The volume all others are compared with.
    affine : array_like, shape (4, 4)
        Voxel index to world, mm, of the reference and of every volume.
    slice_axis : int
        Axis along which slices were acquired. Volumes sliced along another axis than z are
        copied once more.

    Raises
    ------
    ReaderError
        The reference is not a finite 3-D image with a head in it.

    Notes
    -----
    Arrays of int16, uint16 and float32 in Fortran order are read as they are; others are
    converted. An instance must not be used by two threads at once.
    """

    def __init__(self, reference: ArrayLike, affine: ArrayLike, slice_axis: int = 2) -> None:
        image = _checked(np.asarray(reference))
        # Inside, slices lie along the last axis.
        self._axes = tuple(sorted(range(3), key=lambda axis: (axis == slice_axis, axis)))
        inner = image.transpose(self._axes)
        self._shape = x, y, z = inner.shape
        self._to_world = np.ascontiguousarray(np.array(affine, np.float64)[:, [*self._axes, 3]])
        self._to_voxel = np.ascontiguousarray(np.linalg.inv(self._to_world))
        self.centre_mm = self._to_world[:3] @ [(x - 1) / 2, (y - 1) / 2, (z - 1) / 2, 1.0]
        self._pyramid = Pyramid(inner, self._to_world, self.centre_mm)
        self._loaded: NDArray[Any] | None = None
        self._load(image)
        self._reference_sums = self._pyramid.slice_sums.copy()
        self._ordinary_sum, self._window = float(np.median(self._reference_sums)), np.zeros(7)
        self._last = Motion.from_parameters(np.zeros(6), self)
        self._interpolant = band_interpolator().arguments
        self._dims = np.array(self._shape, np.int64)
        self._buffers = work_buffers(self._shape, self._shape)
        self._matrix, self._passes, self._work = np.zeros((4, 4)), np.zeros(12), np.zeros((3, 4, 4))
        self._everything = self.sampler(np.ones(image.shape, np.bool_))

    @property
    def last(self) -> Motion:
        """The last accepted estimate; no motion before the first."""
        return self._last

    def restore(self, motion: Motion) -> None:
        """Continue as if `motion` were the last accepted estimate."""
        if not motion.ok:
            raise ValueError(
                f"expected an accepted motion, found one with reason {motion.reason!r}"
            )
        self._last = motion

    def estimate(self, volume: NDArray[Any]) -> Motion:
        """Motion of a volume (x, y, z), starting from the last accepted estimate.

        A motion that is not `ok` says why and leaves the next start where it was.
        """
        self._load(volume)
        total = float(self._pyramid.slice_sums.sum())
        if not np.isfinite(total):
            return self._failed("voxels: expected finite values")
        signal = total / float(self._reference_sums.sum())
        if not signal > MIN_SIGNAL:
            return self._failed(f"signal: {100 * signal:.0f} % of the reference's")
        doubted = self._doubted_slices()
        parameters, fine, n_steps = self._pyramid.align(self._last.parameters, signal, doubted)
        reason = _implausible(parameters, fine)
        if reason:
            return self._failed(reason, fine.residual, n_steps, doubted)
        matrix = np.zeros((4, 4))
        rigid_matrix(parameters, self.centre_mm, matrix)
        self._last = Motion(parameters, matrix, True, "", fine.residual, n_steps, _indices(doubted))
        return self._last

    def sampler(self, mask: NDArray[Any]) -> Sampler:
        """Prepare `resample` for a set of voxels; do this once, not per volume.

        Parameters
        ----------
        mask : ndarray
            Bool of shape (x, y, z): values come in the order of `volume[mask]`. Or integers of
            shape (n,), flat indices in Fortran order (x fastest): values come in their order.
        """
        shape = tuple(self._shape[self._axes.index(axis)] for axis in range(3))
        if mask.dtype == np.bool_:
            voxels = np.argwhere(mask)
        else:
            voxels = np.stack(np.unravel_index(mask, shape, order="F"), axis=1)
        return Sampler.of(self._shape, voxels[:, self._axes].astype(np.int64))

    def resample(
        self, volume: NDArray[Any], motion: Motion, mask: Sampler | NDArray[Any] | None = None
    ) -> NDArray[np.float32]:
        """A volume's values on the reference's grid; nan where the volume does not reach.

        Parameters
        ----------
        volume : ndarray, shape (x, y, z)
            The array object that `estimate` saw last is not read a second time.
        motion : Motion
            All values are nan if it is not `ok`.
        mask : Sampler or ndarray, optional
            Only these voxels, see `sampler`. None takes them all.

        Returns
        -------
        ndarray, float32
            Shape (x, y, z) in Fortran order, or (n_voxels,) with a mask.
        """
        sampler = self.sampler(mask) if isinstance(mask, np.ndarray) else mask
        size = int(self._dims.prod()) if sampler is None else sampler.wanted.shape[0]
        out = np.full(size, np.nan, np.float32)
        if motion.ok:
            self._load(volume)
            self._sample(motion, sampler, out)
        if sampler is not None:
            return out
        x, y, z = self._shape
        return out.reshape(z, y, x).T.transpose(np.argsort(self._axes))

    def _load(self, volume: NDArray[Any]) -> None:
        """Read a volume into the buffers, unless it is the array read last."""
        if volume is self._loaded:
            return
        inner = volume.transpose(self._axes)
        if inner.shape != self._shape:
            raise ValueError(f"expected a volume of shape {self._shape}, found {inner.shape}")
        if inner.dtype not in (np.int16, np.uint16, np.float32):
            inner = inner.astype(np.float32)
        self._pyramid.load(np.ascontiguousarray(inner.T).reshape(-1))
        self._loaded = volume

    def _doubted_slices(self) -> NDArray[np.bool_]:
        """Slices to leave out because their signal departs from their neighbours'."""
        doubted = np.zeros(self._shape[2], np.bool_)
        sums, reference = self._pyramid.slice_sums, self._reference_sums
        n = doubt_slices(
            sums, reference, self._ordinary_sum, SLICE_TOLERANCE, doubted, self._window
        )
        if n > MAX_DOUBTED_SHARE * doubted.size:
            doubted[:] = False
        return doubted

    def _failed(
        self,
        reason: str,
        residual: float = float("nan"),
        n_steps: int = 0,
        doubted: NDArray[np.bool_] | None = None,
    ) -> Motion:
        slices = () if doubted is None else _indices(doubted)
        unknown = np.full(6, np.nan), np.full((4, 4), np.nan)
        return Motion(*unknown, False, reason, residual, n_steps, slices)

    def _sample(self, motion: Motion, sampler: Sampler | None, out: NDArray[np.float32]) -> None:
        wanted = self._everything if sampler is None else sampler
        place(
            motion.parameters.copy(),
            self.centre_mm,
            self._to_voxel,
            self._to_world,
            self._work,
            self._matrix,
            self._passes,
        )
        columns = wanted.columns
        fill_columns(
            self._pyramid.volume,
            self._dims,
            self._passes,
            self._interpolant,
            columns.box,
            columns.spans,
            1,
            self._buffers,
        )
        common = (
            self._dims,
            self._matrix,
            self._passes,
            self._interpolant,
            wanted.rows,
            self._buffers,
        )
        if sampler is None:
            sample_all(*common, out)
        else:
            sample_some(*common, wanted.wanted, out)


def _checked(reference: NDArray[Any]) -> NDArray[Any]:
    """The reference, if it is a finite 3-D image."""
    finite = bool(np.isfinite(reference).all())
    if reference.ndim != 3 or min(reference.shape) <= 2 * MARGIN + 2 or not finite:
        raise ReaderError(
            f"motion reference: expected a finite 3-D image, found shape {reference.shape}"
            f"{'' if finite else ' with voxels that are not finite'}: choose another volume"
        )
    return reference


def _implausible(parameters: Floats, fit: Fit) -> str:
    """Why a fit is no estimate of motion; empty if it may be one."""
    if not fit.last_step_mm >= 0.0 or not np.isfinite(parameters).all():
        return "fit: no solution"
    if fit.share < MIN_SHARE:
        return f"overlap: {100 * fit.share:.0f} % of the head compared"
    if fit.explained < MIN_EXPLAINED:
        return f"fit: explains {100 * max(fit.explained, 0.0):.0f} % of the reference"
    if fit.last_step_mm > UNSETTLED_MM:
        return f"fit: still moving by {fit.last_step_mm:.2f} mm after {fit.n_steps} steps"
    shift_mm, turn_rad = np.abs(parameters[:3]).max(), np.abs(parameters[3:]).max()
    if shift_mm > MAX_TRANSLATION_MM or turn_rad > MAX_ROTATION_RAD:
        return f"motion: {shift_mm:.1f} mm, {np.rad2deg(turn_rad):.1f} degrees from the reference"
    return ""


def _indices(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(mask))
