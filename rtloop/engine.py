"""The loop: one event in, one step out.

Volume -> motion and ROI means -> quality -> cleaned signals -> sliding-window FC -> circuit
score -> feedback. The engine is pure: it reads no clock and no file, and the same events in the
same order give the same bits. Clocks, sockets and the record are `loop`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtloop.circuit import Autocorrelation, Circuit
from rtloop.config import EngineConfig
from rtloop.connectivity import SlidingWindowFC
from rtloop.control import select_arm
from rtloop.denoise import Denoiser, NuisanceModel
from rtloop.events import (
    Deadline,
    Event,
    Observation,
    Operator,
    Score,
    Screen,
    Step,
    Unseen,
    VolumeStatus,
    Watch,
)
from rtloop.feedback import ScoreMap, Timeline
from rtloop.observer import Geometry, Observer
from rtloop.plan import Plan, PlanEdge
from rtloop.quality import ConfoundWatch, VolumeQuality
from rtloop.rois import RoiSet, SliceAligner
from rtloop.volume import Volume

__all__ = ["Engine"]


@dataclass(frozen=True, slots=True)
class _Window:
    """What the window says after a volume has entered it."""

    correlations: NDArray[np.float64]
    scores: tuple[Score, ...]
    n_samples: float
    warming_up: str


@dataclass(frozen=True, slots=True)
class _Entered:
    """What became of one volume on its way into the window."""

    status: VolumeStatus
    reasons: tuple[str, ...]
    weight: float
    fd_mm: float


class Engine:
    """The loop's arithmetic for one attempt at a run.

    Parameters
    ----------
    plan : Plan
        Target, window, timeline, calibration.
    config : EngineConfig
        Motion, denoising, quality.
    rois : RoiSet
        The plan's ROIs on the volumes' grid, in the plan's order.
    reference : ndarray, shape (x, y, z), or None
        Reference for motion; None takes the first volume after the dummies.
    geometry : Geometry
        What the attempt's first volume says of its images.
    tissue : RoiSet or None
        White matter and CSF, where the configuration regresses them out.

    Raises
    ------
    RoiError
        If the ROIs do not lie on the volumes' grid.
    PlanError
        If the scanner's TR is not the plan's.
    """

    def __init__(
        self,
        plan: Plan,
        config: EngineConfig,
        rois: RoiSet,
        reference: NDArray[Any] | None,
        geometry: Geometry,
        tissue: RoiSet | None = None,
    ) -> None:
        geometry.check_tr(plan)
        self._plan = plan
        self._config = config
        self._observer = Observer(config, rois, geometry, reference, tissue)
        self.n_dummies = math.ceil(config.dummies_s / plan.tr_s - 1e-9)
        self._next = 0
        self._seen: set[int] = set()
        self._reference_index: int | None = None
        self._closed = False
        self._paused = False

        self._circuits = [_circuit(plan.edges, rois)]
        if plan.sham_edges:
            self._circuits.append(_circuit(plan.sham_edges, rois))
        self._quality = VolumeQuality(rois.n_rois, plan.tr_s, config.quality)
        self._aligner = _aligner(config, rois, geometry, self._circuits)
        self._nuisance = NuisanceModel(
            motion=config.denoise.motion,
            drift_order=config.denoise.drift_order,
            tissue=config.denoise.tissue,
            tissue_derivatives=config.denoise.tissue_derivatives,
            n_volumes_planned=plan.n_volumes,
            tr_s=plan.tr_s,
        )
        self._denoiser = Denoiser(rois.n_rois, self._nuisance)
        self._connectivity = _Connectivity(plan, config, rois, self._circuits, self._nuisance)

        self._timeline = Timeline(plan)
        self._map = ScoreMap(plan.calibration)
        self._arm = select_arm(plan.control)
        self._watch = ConfoundWatch(config.quality.confound_limit)
        self._last_value: float | None = None
        self._trial_values: dict[int, float | None] = {}
