"""From raw score to what is shown: the calibration map and the run's timeline.

The map is fitted on rest and never on what it is used to judge; by default it is linear between
±2 SD of the participant's resting windows of the same length. The timeline follows scanner time:
volume `i` covers `[i, i + 1)·TR`, whether or not it ever arrived.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rtloop.errors import ConfigError
from rtloop.plan import (
    BlockTimeline,
    ContinuousTimeline,
    LinearAnchors,
    Percentiles,
    Plan,
    RunBaseline,
)
from rtloop.wire import Scene

__all__ = ["MIN_BASELINE_WINDOWS", "Moment", "ScoreMap", "Timeline", "anchors_from_rest"]

MIN_BASELINE_WINDOWS = 10
"""Fewest resting scores that anchors may be taken from."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the screen shows at a time, and for how long that stays so.

    `trial` counts from 0 and is None outside trials; `remaining_s` is scanner time to the next
    change, infinite after the end.
    """

    scene: Scene
    text: str
    trial: int | None
    remaining_s: float


class Timeline:
    """The plan's timeline in scanner time.

    Parameters
    ----------
    plan : Plan
        Gives timeline, TR, window and haemodynamic delay.
    """

    def __init__(self, plan: Plan) -> None:
        self.end_s = plan.n_volumes * plan.tr_s
        self._timeline = plan.timeline
        self._last_index = (
            {} if isinstance(plan.timeline, ContinuousTimeline) else _score_windows(plan)
        )

    @property
    def continuous(self) -> bool:
        return isinstance(self._timeline, ContinuousTimeline)

    def moment(self, time_s: float) -> Moment:
        """The screen at `time_s` after the start of the first volume."""
        if time_s >= self.end_s:
            return Moment("end", "", None, math.inf)
        if time_s < self._timeline.rest_s:
            return Moment("rest", "", None, self._timeline.rest_s - time_s)
        if isinstance(self._timeline, ContinuousTimeline):
            return Moment("feedback", self._timeline.instruction, None, self.end_s - time_s)
        return self._trial_moment(self._timeline, time_s - self._timeline.rest_s, time_s)

    def in_first_rest(self, time_s: float) -> bool:
        """Whether the run's first rest has not ended before `time_s`."""
        return time_s <= self._timeline.rest_s

    def trial_scored_at(self, index: int) -> int | None:
        """The trial whose score window ends with this volume; None if none does."""
        return self._last_index.get(index)

    def _trial_moment(self, timeline: BlockTimeline, since_s: float, time_s: float) -> Moment:
        trial = int(since_s // timeline.trial_s)
        if trial >= timeline.n_trials:
            return Moment("rest", "", None, self.end_s - time_s)
        left_s = since_s - trial * timeline.trial_s
        for phase in timeline.phases:
            if left_s < phase.duration_s:
                return Moment(phase.scene, phase.text, trial, phase.duration_s - left_s)
            left_s -= phase.duration_s
        # Rounding may place the very end of a trial behind its last phase.
        return Moment(timeline.phases[0].scene, timeline.phases[0].text, trial, 0.0)


def _score_windows(plan: Plan) -> dict[int, int]:
    """Last volume index of each trial's score window -> trial.

    A volume belongs to the window if the middle of its acquisition lies in the score phase
    shifted by the haemodynamic delay; every window has `plan.window` volumes.
    """
    assert isinstance(plan.timeline, BlockTimeline)
    start_s = plan.timeline.span_s(plan.timeline.score_phase)[0] + plan.haemodynamic_delay_s
    last = {}
    for trial in range(plan.timeline.n_trials):
        window_s = plan.timeline.rest_s + trial * plan.timeline.trial_s + start_s
        first = math.ceil(window_s / plan.tr_s - 0.5 - 1e-9)
        last[first + plan.window - 1] = trial
    return last


class ScoreMap:
    """Raw score -> feedback 0..100; None while it cannot be said.

    With `RunBaseline` the map collects the scores of the run's first rest (`collect`) and is
    fixed once (`close`); it never moves afterwards.
    """

    def __init__(self, calibration: LinearAnchors | Percentiles | RunBaseline) -> None:
        self._calibration: LinearAnchors | Percentiles | None = None
        self._span_sd = 2.0
        if isinstance(calibration, RunBaseline):
            self._span_sd = calibration.span_sd
        else:
            self._calibration = calibration
        self._rest: list[float] = []
        self._sorted: list[float] = (
            sorted(calibration.rest_scores) if isinstance(calibration, Percentiles) else []
        )

    @property
    def ready(self) -> bool:
        return self._calibration is not None

    @property
    def anchors(self) -> LinearAnchors | Percentiles | None:
        return self._calibration

    def collect(self, score: float) -> None:
        """Take a resting score of this run; ignored once the map is fixed."""
        if self._calibration is None and math.isfinite(score):
            self._rest.append(score)

    def close(self) -> bool:
        """End of the first rest: fix the anchors if there is enough to fix them on."""
        if self._calibration is None and len(self._rest) >= MIN_BASELINE_WINDOWS:
            self._calibration = anchors_from_rest(self._rest, self._span_sd)
        return self.ready

    def __call__(self, score: float) -> float | None:
        if self._calibration is None or not math.isfinite(score):
            return None
        if isinstance(self._calibration, Percentiles):
            share = bisect.bisect_right(self._sorted, score) / len(self._sorted)
            return 100.0 * min(max((share - 0.3) / 0.4, 0.0), 1.0)
        reach = self._calibration.span_sd * self._calibration.sd
        position = (score - self._calibration.center + reach) / (2.0 * reach)
        return 100.0 * min(max(position, 0.0), 1.0)


def anchors_from_rest(scores: Sequence[float], span_sd: float = 2.0) -> LinearAnchors:
    """Linear anchors from resting scores of windows of the run's own length.

    Parameters
    ----------
    scores : sequence of float
        Raw scores of resting windows; nan (no score) is left out.
    span_sd : float
        Feedback 0 and 100 lie this many SD below and above the mean.

    Raises
    ------
    ConfigError
        If fewer than `MIN_BASELINE_WINDOWS` scores are finite, or they do not vary.
    """
    finite = [score for score in scores if math.isfinite(score)]
    if len(finite) < MIN_BASELINE_WINDOWS:
        raise ConfigError(
            f"calibration: expected at least {MIN_BASELINE_WINDOWS} scored resting windows, found "
            f"{len(finite)}; record a longer rest"
        )
    center = math.fsum(finite) / len(finite)
    sd = math.sqrt(math.fsum((score - center) ** 2 for score in finite) / (len(finite) - 1))
    if not sd > 0:
        raise ConfigError("calibration: expected resting scores that vary, found none; check ROIs")
    return LinearAnchors(center=center, sd=sd, span_sd=span_sd)
