"""One brain image: its identity, its times, its geometry.

Identity is (run attempt, scanner volume index), never a file name, an arrival order or a count
of what was processed. The array is stored x-fastest, as NIfTI does, in the orientation closest
to RAS+, so that `data.T` is the C-contiguous `(z, y, x)` array the kernels walk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WIRE_DTYPES", "Volume"]

WIRE_DTYPES = ("int16", "uint16", "float32")
"""Voxel types a volume may have; readers convert everything else to float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A 3-D image and what the scanner says of it.

    Attributes
    ----------
    attempt : str
        Keyed hash of what identifies the acquisition (the series' instance UID where there is
        one). An aborted and restarted series is a new attempt.
    index : int
        The scanner's volume index, from 0, dummies included where they are exported.
    data : ndarray, shape (x, y, z)
        Voxel values, Fortran-ordered, one of `WIRE_DTYPES`, axes closest to RAS+.
    affine : ndarray, shape (4, 4), float64
        Voxel index to world, mm, RAS+.
    tr_s : float
        Repetition time, seconds, as the scanner states it.
    received_s : float
        Host clock (Unix seconds) when the volume was complete on the gateway's side.
    acquired_s : float or None
        Scanner clock at the start of acquisition, seconds since its midnight; None if not told.
    slice_times_s : tuple of float or None
        Start of each slice within the volume, seconds, along `slice_axis`; None if not told.
    slice_axis : int
        Axis of `data` along which slices were acquired.
    n_volumes : int or None
        Volumes the header announces for the series; None if not told.
    protocol : dict
        Whitelisted acquisition parameters (echo time, phase-encoding direction, ...).
    """

    attempt: str
    index: int
    data: NDArray[Any]
    affine: NDArray[np.float64]
    tr_s: float
    received_s: float
    acquired_s: float | None = None
    slice_times_s: tuple[float, ...] | None = None
    slice_axis: int = 2
    n_volumes: int | None = None
    protocol: dict[str, Any] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.data.shape
        return x, y, z

    @property
    def voxel_size_mm(self) -> NDArray[np.float64]:
        """Edge lengths of a voxel along each array axis, mm, shape (3,)."""
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))
