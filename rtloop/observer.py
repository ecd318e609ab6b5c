"""From a volume to what the engine knows of it: motion, ROI means, tissue means.

Only labelled voxels are resampled, with a high-order kernel, at the places where motion put
them; the image itself is never resliced in the loop.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rtloop.config import EngineConfig
from rtloop.errors import PlanError, ReaderError
from rtloop.events import Observation, Unseen
from rtloop.kernels.means import pattern_correlation
from rtloop.motion import Motion, Realigner
from rtloop.plan import Plan
from rtloop.rois import RoiSet
from rtloop.volume import Volume

__all__ = ["Geometry", "Observer"]

TR_TOLERANCE = 1e-3
"""Largest relative difference between the scanner's TR and the plan's."""

AFFINE_TOLERANCE_MM = 1e-3
BRAIN_SHARE_OF_BRIGHT = 0.25
"""A voxel counts as brain above this share of the reference's 98th percentile; used for the
global signal alone, which needs no exact mask."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What all volumes of an attempt have in common, taken from its first one."""

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    dtype: str
    tr_s: float
    slice_times_s: tuple[float, ...] | None
    slice_axis: int

    @classmethod
    def of(cls, volume: Volume) -> Self:
        return cls(
            shape=volume.shape,
            affine=tuple(tuple(row) for row in volume.affine.tolist()),
            dtype=volume.data.dtype.name,
            tr_s=volume.tr_s,
            slice_times_s=volume.slice_times_s,
            slice_axis=volume.slice_axis,
        )

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Self:
        times = entries["slice_times_s"]
        return cls(
            shape=tuple(entries["shape"]),
            affine=tuple(tuple(row) for row in entries["affine"]),
            dtype=entries["dtype"],
            tr_s=entries["tr_s"],
            slice_times_s=None if times is None else tuple(times),
            slice_axis=entries["slice_axis"],
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def matrix(self) -> NDArray[np.float64]:
        return np.array(self.affine, dtype=np.float64)

    def mismatch(self, volume: Volume) -> str:
        """Why a volume does not belong to this attempt's images; empty if it does."""
        if volume.shape != self.shape:
            return f"shape: expected {self.shape}, found {volume.shape}"
        if volume.data.dtype.name != self.dtype:
            return f"voxel type: expected {self.dtype}, found {volume.data.dtype.name}"
        off_mm = float(np.abs(volume.affine - self.matrix).max())
        if not off_mm <= AFFINE_TOLERANCE_MM:
            return f"affine: expected that of the first volume, found one {off_mm:.3g} mm off"
        return ""

    def check_tr(self, plan: Plan) -> None:
        """Refuse a scanner whose TR is not the plan's.

        Raises
        ------
        PlanError
            If they differ by more than `TR_TOLERANCE`.
        """
        if abs(self.tr_s - plan.tr_s) > TR_TOLERANCE * plan.tr_s:
            raise PlanError(
                f"TR: expected the plan's {plan.tr_s:g} s, found {self.tr_s:g} s in the scanner's "
                "header; correct the protocol, or set tr_s in scanner.toml if the header is wrong"
            )


class Observer:
    """Motion and regional means of one attempt's volumes.

    Parameters
    ----------
    config : EngineConfig
        Motion and coverage settings.
    rois : RoiSet
        Regions on the grid of the volumes.
    geometry : Geometry
        Grid that every volume has to have.
    reference : ndarray, shape (x, y, z), or None
        Reference image; None takes the first volume observed.
    tissue : RoiSet or None
        Tissue masks whose means are nuisance regressors.
    """

    def __init__(
        self,
        config: EngineConfig,
        rois: RoiSet,
        geometry: Geometry,
        reference: NDArray[Any] | None = None,
        tissue: RoiSet | None = None,
    ) -> None:
        rois.check_grid(geometry.shape, geometry.matrix)
        self._config = config
        self._geometry = geometry
        self._regions = rois if tissue is None else RoiSet.join([rois, tissue])
        self._n_rois = rois.n_rois
        self._realigner: Realigner | None = None
        self._has_reference = False
        if reference is not None:
            self.adopt(reference)

    @property
    def has_reference(self) -> bool:
        return self._has_reference

    def adopt(self, reference: NDArray[Any]) -> None:
        """Make this image the reference of the attempt.

        Raises
        ------
        ReaderError
            If it holds no head, or values that are not finite.
        """
        values = reference.ravel(order="F").astype(np.float32)
        if not (np.isfinite(values).all() and values.max() > 0):
            raise ReaderError(
                "reference: expected an image with finite voxels, found one without: "
                "choose another volume"
            )
        if self._config.motion.enabled:
            self._realigner = Realigner(reference, self._geometry.matrix, self._geometry.slice_axis)
            self._sampler = self._realigner.sampler(self._regions.voxels)
        self._template = self._regions.take(reference)
        self._has_reference = True
        self._brain = np.flatnonzero(values > BRAIN_SHARE_OF_BRIGHT * np.percentile(values, 98.0))

    def restore(self, parameters: NDArray[np.float64]) -> None:
        """Continue after a restart as if the last trusted estimate had just been made."""
        if self._realigner is not None:
            self._realigner.restore(Motion.from_parameters(parameters, self._realigner))

    def observe(self, volume: Volume) -> Observation | Unseen:
        """Motion and regional means of a volume; `Unseen` if it cannot belong to the attempt."""
        reason = self._geometry.mismatch(volume)
        if reason:
            return Unseen(volume.index, reason)
        if not self._has_reference:
            try:
                self.adopt(volume.data)
            except ReaderError as error:
                return Unseen(volume.index, str(error))
        parameters, failure, values = self._sample(volume.data)
        means = self._regions.means(
            values, baseline=self._template, minimum_coverage=self._config.quality.coverage_min
        )
        global_signal = volume.data.ravel(order="F")[self._brain].mean(dtype=np.float64)
        return Observation(
            index=volume.index,
            parameters=parameters,
            failure=failure,
            signals=means[: self._n_rois],
            tissue=np.append(means[self._n_rois :], global_signal),
            likeness=self._likeness(values),
        )

    def _likeness(self, values: NDArray[np.float32]) -> float:
        """Pearson r of the labelled voxels with the reference's; 0 for a volume that is flat."""
        r = float(pattern_correlation(values, self._template))
        flat = math.isnan(r) and np.ptp(values) == 0 < np.ptp(self._template)
        return 0.0 if flat else r

    def _sample(self, data: NDArray[Any]) -> tuple[NDArray[np.float64], str, NDArray[np.float32]]:
        """Motion parameters, why they failed, and the labelled voxels' values."""
        if self._realigner is None:
            return np.zeros(6), "", self._regions.take(data)
        motion = self._realigner.estimate(data)
        values = self._realigner.resample(data, motion, self._sampler)
        return motion.parameters, "" if motion.ok else motion.reason, values
