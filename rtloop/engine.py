"""The loop: one event in, one step out.

Volume -> motion and ROI means -> quality -> cleaned signals -> sliding-window FC -> circuit
score -> feedback. The engine is pure: it reads no clock and no file, and the same events in the
same order give the same bits. Clocks, sockets and the record are `loop`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtloop.circuit import Score
from rtloop.config import EngineConfig
from rtloop.control import select_arm
from rtloop.events import (
    Deadline,
    Event,
    Observation,
    Operator,
    Screen,
    Step,
    Unseen,
    VolumeStatus,
    Watch,
)
from rtloop.feedback import ScoreMap, Timeline
from rtloop.observer import Geometry, Observer
from rtloop.plan import Plan
from rtloop.quality import ConfoundWatch, VolumeQuality
from rtloop.rois import RoiSet
from rtloop.scoring import NO_SCORE, Scorer, Window
from rtloop.seeding import SeedRun
from rtloop.volume import Volume

__all__ = ["Engine"]

VALUE_SCENES = ("feedback", "score")

ASIDE: tuple[VolumeStatus, ...] = ("late", "duplicate", "ignored", "none")
"""What takes no place in time, and so changes nothing of what is shown."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What became of a volume before it entered the window."""

    status: VolumeStatus
    reasons: tuple[str, ...] = ()
    observation: Observation | None = None
    weight: float = 0.0
    fd_mm: float = math.nan


class Engine:
    """The loop's arithmetic for one attempt at a run.

    Parameters
    ----------
    plan : Plan
        Target, window, timeline, calibration.
    config : EngineConfig
        Motion, denoising, quality.
    rois : RoiSet
        The plan's ROIs on the volumes' grid.
    reference : ndarray, shape (x, y, z), or None
        Reference for motion; None takes the first volume after the dummies.
    geometry : Geometry
        What the attempt's first volume says of its images.
    tissue : RoiSet or None
        White matter and CSF, where the configuration regresses them out.
    seeds : sequence of SeedRun
        Finished runs that the nuisance regression starts from.

    Raises
    ------
    RoiError
        If the ROIs do not lie on the volumes' grid, or an edge names an unknown one.
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
        seeds: Sequence[SeedRun] = (),
    ) -> None:
        geometry.check_tr(plan)
        self.observer = Observer(config, rois, geometry, reference, tissue)
        self.scorer = Scorer(plan, config, rois, geometry, seeds)
        self.n_dummies = math.ceil(config.dummies_s / plan.tr_s - 1e-9)
        self.next_index = 0
        self.trailing_missing = 0
        self.reference_index: int | None = None
        self.stopped = False
        self._tr_s = plan.tr_s
        self._n_volumes = plan.n_volumes
        self._n_tissues = len(config.denoise.tissue)
        self._seen: set[int] = set()
        self._paused = False
        self._used = False
        self._quality = VolumeQuality(rois.n_rois, plan.tr_s, config.quality)
        self._timeline = Timeline(plan)
        self._map = ScoreMap(plan.calibration)
        self._arm = select_arm(plan.control)
        self._watch = ConfoundWatch(
            config.quality.confound_limit, plan.window, ("fd", "global_signal")
        )
        self._window: Window | None = None
        self._last_value: float | None = None
        self._trial_values: dict[int, float | None] = {}

    def step(self, event: Event) -> Step:
        """Take one event; the state moves on and the answer is returned.

        Parameters
        ----------
        event : Volume, Observation, Unseen, Deadline or Operator
            `Observation` and `Unseen` stand for a volume whose image was processed before.
        """
        if isinstance(event, Operator):
            return self._operate(event)
        if isinstance(event, Deadline):
            missing, scored = self._pass_over(event.index + 1)
            status: VolumeStatus = "missing" if missing else "none"
            return self._answer(event.index, _Entry(status), missing, scored)
        return self._take_volume(event)

    # --- volumes --------------------------------------------------------------------------

    def _take_volume(self, event: Volume | Observation | Unseen) -> Step:
        refusal = self._refusal(event.index)
        if refusal is not None:
            return self._answer(event.index, refusal, (), None)
        missing, scored = self._pass_over(event.index)
        entry = self._look(event)
        self._seen.add(event.index)
        self.trailing_missing = 0 if entry.observation is not None else self.trailing_missing + 1
        scored = self._enter(event.index, entry) or scored
        return self._answer(event.index, entry, missing, scored)

    def _refusal(self, index: int) -> _Entry | None:
        """Why a volume of this index is not looked at; None if it is."""
        if index in self._seen:
            return _Entry("duplicate", ("this index was processed before",))
        if index < self.next_index:
            self._seen.add(index)
            return _Entry("late", (f"volume {self.next_index - 1} was processed before",))
        if self.stopped or index >= self._n_volumes:
            return _Entry("ignored", ("the run is over",))
        return None

    def _look(self, event: Volume | Observation | Unseen) -> _Entry:
        """Observe a volume and judge it."""
        if event.index < self.n_dummies:
            return _Entry("dummy")
        seen = self.observer.observe(event) if isinstance(event, Volume) else event
        if isinstance(seen, Unseen):
            return _Entry("refused", (seen.reason,))
        if self.reference_index is None:
            self.reference_index = seen.index
        judged = self._quality.judge(
            seen.index,
            seen.parameters,
            seen.signals,
            seen.tissue[: self._n_tissues],
            seen.failure,
            seen.likeness,
        )
        status: VolumeStatus = "used" if judged.weight > 0 else "censored"
        return _Entry(status, judged.reasons, seen, judged.weight, judged.fd_mm)

    def _pass_over(self, until: int) -> tuple[tuple[int, ...], Score | None]:
        """Every index before `until` that has not come is missing; it takes its place in time."""
        missing = tuple(range(self.next_index, min(until, self._n_volumes)))
        scored = None
        for index in missing:
            self.trailing_missing += 1
            scored = self._enter(index, _Entry("missing")) or scored
        return missing, scored

    def _enter(self, index: int, entry: _Entry) -> Score | None:
        """One volume of scanner time; returns the score of a trial that ends with it."""
        self.next_index = index + 1
        seen = entry.observation
        if seen is None:
            self._window = self.scorer.enter(index, None)
        else:
            self._window = self.scorer.enter(
                index, seen.signals, seen.parameters, seen.tissue[: self._n_tissues], entry.weight
            )
        self._watch.update(
            self._window.scores[0].value,
            entry.fd_mm,
            math.nan if seen is None else float(seen.tissue[-1]),
        )
        self._calibrate(index, entry)
        trial = self._timeline.trial_scored_at(index)
        if trial is None:
            return None
        self._trial_values[trial] = self._map(self._window.scores[0].value)
        return self._window.scores[0]

    def _calibrate(self, index: int, entry: _Entry) -> None:
        """Resting windows of the run itself, where the plan takes its anchors from them."""
        assert self._window is not None
        if self._map.ready:
            return
        if self._timeline.in_first_rest((index + 1) * self._tr_s):
            if entry.weight > 0:
                self._map.collect(self._window.scores[0].value)
        else:
            self._map.close()

    # --- people ---------------------------------------------------------------------------

    def _operate(self, event: Operator) -> Step:
        if event.action == "stop":
            self.stopped = True
        else:
            self._paused = event.action == "pause"
        return self._answer(self.next_index - 1, _Entry("none", (event.action,)), (), None)

    # --- the answer -----------------------------------------------------------------------

    def _answer(
        self, index: int, entry: _Entry, missing: tuple[int, ...], scored: Score | None
    ) -> Step:
        window = self._window
        if entry.status not in ASIDE:
            self._used = entry.status == "used"
        screen = self._screen(self._used)
        return Step(
            index=index,
            status=entry.status,
            reasons=entry.reasons,
            missing=missing,
            observation=entry.observation,
            weight=entry.weight,
            fd_mm=entry.fd_mm,
            n_samples=window.n_samples if window else 0.0,
            correlations=window.correlations.copy() if window else np.empty(0),
            scores=window.scores if window else (NO_SCORE,),
            warming_up=self._warming_up(),
            trial=screen.trial,
            trial_score=scored,
            screen=screen,
            watch=Watch(**self._watch.correlations, alarms=self._watch.alarms),
        )

    def _warming_up(self) -> str:
        """Why there is no feedback yet; empty if there is."""
        if self._window is None:
            return "no volume yet"
        if self._window.warming_up or self._map.ready:
            return self._window.warming_up
        return "no anchors yet: they come from the windows of the first rest"

    def _screen(self, used: bool) -> Screen:
        """What the screen shows from the end of the last volume of scanner time on."""
        if self.stopped or self._paused:
            return Screen("neutral", None, "", None, None)
        moment = self._timeline.moment(self.next_index * self._tr_s)
        valid_for_s = moment.remaining_s if math.isfinite(moment.remaining_s) else None
        if moment.scene not in VALUE_SCENES:
            return Screen(moment.scene, None, moment.text, moment.trial, valid_for_s)
        if self._timeline.continuous:
            return self._continuous_screen(moment.text, used)
        value = self._arm.shown(self._trial_values.get(moment.trial or 0))
        if value is None:
            return Screen("fixation", None, "", moment.trial, valid_for_s)
        return Screen(moment.scene, value, moment.text, moment.trial, valid_for_s)

    def _continuous_screen(self, text: str, used: bool) -> Screen:
        """The newest value; the last one, marked as held, where this volume gave none."""
        assert self._window is not None
        value = self._map(self._window.scores[0].value) if used else None
        if value is not None:
            self._last_value = value
        held = value is None
        shown = self._arm.shown(self._last_value)
        # A value is good until its successor is overdue.
        valid_for_s = 3.0 * self._tr_s
        if shown is None:
            return Screen("fixation", None, "", None, None)
        return Screen("hold" if held else "feedback", shown, text, None, valid_for_s)
