"""The engine against a simple model of it: whatever comes, in whatever order, and after restarts.

The model keeps a set of what came, a frontier of scanner time and the ROI means by mask; its score
is least squares and `numpy.corrcoef` over what was used so far. It knows nothing of the engine's
arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from rtloop.events import Deadline, Event, Observation, Operator, Step, Unseen, encode
from rtloop.volume import Volume
from tests.rtloop.simulated import (
    AFFINE,
    N_DUMMIES,
    SHAPE,
    series,
    small_engine,
    small_plan,
    small_rois,
)

PLAN = small_plan()
VOLUMES = series(PLAN.n_volumes)
ROIS = small_rois(PLAN)
MIN_SAMPLES = 0.8 * PLAN.window
MIN_VOLUMES = 5 * 2
"""Per regressor: level and linear drift."""

REST_VOLUMES = 24


def means(volume: Volume) -> NDArray[np.float64]:
    """ROI means by distance from the spheres' centres."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    places = grid @ AFFINE[:3, :3] + AFFINE[:3, 3]
    centers = [(9.0, 15.0, 12.0), (24.0, 15.0, 12.0)]
    inside = [np.linalg.norm(places - center, axis=-1) <= 4.0 for center in centers]
    return np.array([volume.data[mask].astype(np.float64).mean() for mask in inside])


MEANS = np.array([means(volume) for volume in VOLUMES])


@dataclass
class Model:
    """What should have become of each volume, and the score that follows from it."""

    frontier: int = 0
    came: set[int] = field(default_factory=set)
    used: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    stopped: bool = False
    paused: bool = False

    def arrives(self, index: int, good: str) -> tuple[str, tuple[int, ...]]:
        """Status and newly missing volumes of one that comes; `good` is what it would become."""
        if index in self.came:
            return "duplicate", ()
        if index < self.frontier:
            self.came.add(index)
            return "late", ()
        if self.stopped or index >= PLAN.n_volumes:
            return "ignored", ()
        passed = self._pass(index)
        self.came.add(index)
        self.frontier = index + 1
        status = "dummy" if index < N_DUMMIES else good
        if status == "used":
            self.used.append(index)
        return status, passed

    def is_due(self, index: int) -> tuple[int, ...]:
        return self._pass(min(index + 1, PLAN.n_volumes))

    def _pass(self, until: int) -> tuple[int, ...]:
        passed = tuple(range(self.frontier, until))
        self.missing += passed
        self.frontier = max(self.frontier, until)
        return passed

    def score(self) -> float:
        """Fisher z of the window that ends with the frontier."""
        window = [k for k in self.used if k >= self.frontier - PLAN.window]
        if len(self.used) < MIN_VOLUMES or len(window) < MIN_SAMPLES:
            return math.nan
        design = np.stack([np.ones(len(self.used)), np.array(self.used, float)], axis=1)
        signals = MEANS[self.used]
        betas = np.linalg.lstsq(design, signals - signals.mean(axis=0), rcond=None)[0]
        residuals = signals - signals.mean(axis=0) - design @ betas
        inside = np.isin(self.used, window)
        return float(np.arctanh(np.corrcoef(residuals[inside].T)[0, 1]))


class EngineAgainstModel(RuleBasedStateMachine):
    """One run after another; events as the loop hands them on."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        self.engine = small_engine(PLAN)
        self.model = Model()
        self.steps: list[tuple[Event, Step]] = []

    def take(self, event: Event) -> Step:
        step = self.engine.step(event)
        self.steps.append((event, step))
        return step

    def arrive(self, volume: Volume, good: str = "used") -> None:
        status, missing = self.model.arrives(volume.index, good)
        step = self.take(volume)
        assert (step.status, step.missing) == (status, missing), step
        assert (step.weight > 0) == (status == "used")

    @rule(n=st.integers(1, 12))
    def volumes_come(self, n: int) -> None:
        for index in range(self.model.frontier, min(self.model.frontier + n, PLAN.n_volumes)):
            self.arrive(VOLUMES[index])

    @rule(n=st.integers(1, 4))
    def volumes_are_dropped(self, n: int) -> None:
        index = self.model.frontier + n
        if index < PLAN.n_volumes:
            self.arrive(VOLUMES[index])

    @precondition(lambda self: self.model.came)
    @rule(data=st.data())
    def one_comes_twice(self, data: st.DataObject) -> None:
        self.arrive(VOLUMES[data.draw(st.sampled_from(sorted(self.model.came)))])

    @precondition(lambda self: self.model.missing)
    @rule(data=st.data())
    def one_comes_late(self, data: st.DataObject) -> None:
        self.arrive(VOLUMES[data.draw(st.sampled_from(sorted(self.model.missing)))])

    @rule()
    def two_change_places(self) -> None:
        first = self.model.frontier
        if first + 1 < PLAN.n_volumes:
            self.arrive(VOLUMES[first + 1])
            self.arrive(VOLUMES[first])

    @precondition(lambda self: self.model.used)
    @rule(wrong=st.sampled_from(["shape", "affine", "dtype"]))
    def one_does_not_belong(self, wrong: str) -> None:
        if self.model.frontier >= PLAN.n_volumes:
            return
        volume = VOLUMES[self.model.frontier]
        changed = {
            "shape": {"data": np.asfortranarray(volume.data[:-1])},
            "affine": {"affine": volume.affine + 0.5},
            "dtype": {"data": np.asfortranarray(volume.data.astype(np.float32))},
        }[wrong]
        self.arrive(replace(volume, **changed), "refused")

    @precondition(lambda self: self.model.used)
    @rule(seed=st.integers(0, 3))
    def one_is_no_brain(self, seed: int) -> None:
        """Voxels shuffled: unlike the reference, so censored."""
        if self.model.frontier >= PLAN.n_volumes:
            return
        volume = VOLUMES[self.model.frontier]
        shuffled = np.random.default_rng(seed).permutation(volume.data.ravel())
        data = np.asfortranarray(shuffled.reshape(volume.data.shape))
        self.arrive(replace(volume, data=data), "censored")

    @rule(ahead=st.integers(-3, 3))
    def one_is_overdue(self, ahead: int) -> None:
        index = max(0, self.model.frontier + ahead)
        missing = () if self.model.stopped and ahead < 0 else self.model.is_due(index)
        step = self.take(Deadline(index))
        assert step.missing == missing
        assert step.status == ("missing" if missing else "none")

    @rule(action=st.sampled_from(["pause", "resume"]))
    def somebody_acts(self, action: str) -> None:
        self.model.paused = action == "pause"
        self.take(Operator(action))  # type: ignore[arg-type]

    @precondition(lambda self: self.model.frontier > 40)
    @rule()
    def somebody_stops_the_run(self) -> None:
        self.model.stopped = True
        self.take(Operator("stop"))

    @rule()
    def the_engine_dies(self) -> None:
        """Built again from what the record holds: the same steps, and the same from there on."""
        again = small_engine(PLAN)
        for event, step in self.steps:
            assert encode(again.step(stand_in(event, step))) == encode(step)
        if again.reference_index is not None:
            again.observer.adopt(VOLUMES[again.reference_index].data)
        self.engine = again

    @rule()
    def the_series_is_aborted(self) -> None:
        """Another attempt: nothing of the former one is left."""
        self.begin()

    @invariant()
    def every_volume_has_one_place(self) -> None:
        assert self.engine.next_index == self.model.frontier
        placed = [k for _, step in self.steps for k in step.missing]
        placed += [
            step.index
            for _, step in self.steps
            if step.status in ("dummy", "used", "censored", "refused")
        ]
        assert sorted(placed) == list(range(self.model.frontier))

    @invariant()
    def the_score_is_the_models(self) -> None:
        if not self.steps:
            return
        expected, step = self.model.score(), self.steps[-1][1]
        np.testing.assert_allclose(step.scores[0].value, expected, rtol=0, atol=1e-9)
        assert math.isfinite(expected) == (step.warming_up == "")

    @invariant()
    def the_screen_is_never_wrong(self) -> None:
        if not self.steps:
            return
        step = self.steps[-1][1]
        if self.model.stopped or self.model.paused:
            assert step.screen.scene == "neutral"
        if step.screen.scene == "feedback":
            assert step.screen.value is not None
            assert self.model.frontier >= REST_VOLUMES
            assert math.isfinite(step.scores[0].value)


def stand_in(event: Event, step: Step) -> Event:
    """The event as a restart finds it: an observation in place of the image."""
    if not isinstance(event, Volume):
        return event
    if isinstance(step.observation, Observation):
        return step.observation
    return Unseen(event.index, step.reasons[0] if step.reasons else "")


TestEngineAgainstModel = EngineAgainstModel.TestCase
TestEngineAgainstModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
