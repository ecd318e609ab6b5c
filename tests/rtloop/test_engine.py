"""The engine against a simple model of what must become of every volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtloop.errors import PlanError, RoiError
from rtloop.events import Deadline, Event, Operator, Step, Unseen, encode
from rtloop.observer import Geometry
from rtloop.volume import Volume
from tests.rtloop.simulated import (
    AFFINE,
    N_DUMMIES,
    SHAPE,
    series,
    small_config,
    small_engine,
    small_plan,
    small_rois,
)
from tests.rtloop.test_plan import BLOCK

VOLUMES = series(60)


def walk(events: Sequence[Event], **plan: object) -> list[Step]:
    engine = small_engine(small_plan(**plan))
    return [engine.step(event) for event in events]


def stand_in(step: Step, event: Event) -> Event:
    """What a record gives in place of a volume's image."""
    if not isinstance(event, Volume):
        return event
    return step.observation or Unseen(event.index, "".join(step.reasons))


def test_a_clean_run_scores_every_window() -> None:
    steps = walk(VOLUMES)
    assert [step.status for step in steps[:N_DUMMIES]] == ["dummy"] * N_DUMMIES
    assert all(step.status == "used" for step in steps[N_DUMMIES:])
    warm = next(i for i, step in enumerate(steps) if not step.warming_up)
    # 80 % of the window, after the dummies; the regression needs 5 volumes for each of 2 columns
    assert warm == N_DUMMIES + max(10, math.ceil(0.8 * 12)) - 1
    assert all(math.isnan(step.scores[0].value) for step in steps[:warm])
    assert all(math.isfinite(step.scores[0].value) for step in steps[warm:])


def test_no_score_is_never_shown_as_zero() -> None:
    for step in walk(VOLUMES[:12]):
        assert step.screen.value is None


def test_feedback_begins_after_the_rest() -> None:
    scenes = [step.screen.scene for step in walk(VOLUMES)]
    assert set(scenes[:23]) == {"rest"}
    assert set(scenes[23:59]) == {"feedback"}
    assert scenes[59] == "end"


def test_a_dropped_volume_shifts_nothing() -> None:
    """The window after a drop is that of scanner time: it equals the clean one once it has left."""
    clean = walk(VOLUMES)
    dropped = walk(VOLUMES[:30] + VOLUMES[31:])
    assert dropped[30].missing == (30,)
    assert dropped[30].index == 31
    # betas differ by one volume of many: scores are close again, not equal
    for step in dropped[43:]:
        same = clean[step.index]
        assert step.screen.scene == same.screen.scene
        assert step.n_samples == same.n_samples
        assert abs(step.scores[0].value - same.scores[0].value) < 0.1


def test_a_late_volume_is_not_used() -> None:
    without = walk(VOLUMES[:30] + VOLUMES[31:])
    late = walk([*VOLUMES[:30], VOLUMES[31], VOLUMES[30], *VOLUMES[32:]])
    assert late[31].status == "late"
    del late[31]
    assert [encode(s.scores) for s in late] == [encode(s.scores) for s in without]


def test_a_duplicate_changes_nothing() -> None:
    clean = walk(VOLUMES)
    twice = walk([*VOLUMES[:30], VOLUMES[29], *VOLUMES[30:]])
    assert twice[30].status == "duplicate"
    del twice[30]
    assert [encode(step) for step in twice] == [encode(step) for step in clean]


def altered(volume: Volume, **changes: object) -> Volume:
    entries = {name: getattr(volume, name) for name in Volume.__slots__}
    return Volume(**{**entries, **changes})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data": np.zeros((12, 12, 9), np.int16, order="F")}, "shape"),
        ({"data": np.zeros(SHAPE, np.float32, order="F")}, "voxel type"),
        ({"affine": AFFINE + 0.5}, "affine"),
        ({"affine": np.full((4, 4), np.nan)}, "affine"),
    ],
)
def test_what_does_not_belong_is_refused(changes: dict[str, object], word: str) -> None:
    events: list[Event] = list(VOLUMES)
    events[30] = altered(VOLUMES[30], **changes)
    steps = walk(events)
    assert steps[30].status == "refused"
    assert word in steps[30].reasons[0]
    assert steps[30].weight == 0
    assert steps[31].status == "used"


def test_a_deadline_makes_a_volume_missing() -> None:
    steps = walk([*VOLUMES[:30], Deadline(30), *VOLUMES[31:]])
    assert (steps[30].status, steps[30].missing) == ("missing", (30,))
    assert steps[31].missing == ()


def test_a_deadline_for_what_came_is_nothing() -> None:
    steps = walk([*VOLUMES[:30], Deadline(29), *VOLUMES[30:]])
    assert (steps[30].status, steps[30].missing) == ("none", ())
    del steps[30]
    assert [encode(s.scores) for s in steps] == [encode(s.scores) for s in walk(VOLUMES)]


def test_a_missing_volume_holds_the_feedback() -> None:
    steps = walk([*VOLUMES[:40], Deadline(40), *VOLUMES[41:]])
    assert steps[40].screen.scene == "hold"
    assert steps[40].screen.value == steps[39].screen.value


def test_too_few_good_volumes_give_no_score() -> None:
    """12 volumes, 80 %: three missing leave 9 of 12 and no score until they have left."""
    gone = {30, 32, 34}
    steps = walk([v for v in VOLUMES if v.index not in gone])
    for step in steps:
        n_missing = sum(step.index - 12 < k <= step.index for k in gone)
        if step.index >= 30 and n_missing == 3:
            assert math.isnan(step.scores[0].value)
            assert "good volumes of 12" in step.warming_up
        elif step.index >= 30:
            assert math.isfinite(step.scores[0].value)


def test_stop_is_neutral_at_once_and_for_good() -> None:
    steps = walk([*VOLUMES[:40], Operator("stop"), *VOLUMES[40:45]])
    assert steps[40].screen.scene == "neutral"
    assert {step.status for step in steps[41:]} == {"ignored"}
    assert {step.screen.scene for step in steps[41:]} == {"neutral"}


def test_pause_is_neutral_and_scores_go_on() -> None:
    steps = walk(
        [*VOLUMES[:40], Operator("pause"), *VOLUMES[40:45], Operator("resume"), VOLUMES[45]]
    )
    assert {step.screen.scene for step in steps[40:46]} == {"neutral"}
    assert steps[-1].screen.scene == "feedback"
    assert math.isfinite(steps[42].scores[0].value)


def test_volumes_beyond_the_plan_are_ignored() -> None:
    steps = walk(series(62))
    assert [step.status for step in steps[60:]] == ["ignored", "ignored"]


def test_no_feedback_arm_never_shows_a_value() -> None:
    steps = walk(VOLUMES, control={"arm": "none"})
    assert {step.screen.value for step in steps} == {None}
    assert encode(steps[-1].scores) == encode(walk(VOLUMES)[-1].scores)


def test_anchors_come_from_the_first_rest_alone() -> None:
    plan = {
        "calibration": {"kind": "run_baseline"},
        "timeline": {"kind": "continuous", "rest_s": 30},
    }
    steps = walk(VOLUMES, **plan)
    assert all(step.screen.value is None for step in steps[:29])
    rest = [s.scores[0].value for s in steps[:30] if math.isfinite(s.scores[0].value)]
    center, sd = np.mean(rest), np.std(rest, ddof=1)
    expected = np.clip(100 * (steps[40].scores[0].value - center + 2 * sd) / (4 * sd), 0, 100)
    assert steps[40].screen.value == pytest.approx(expected)


def test_too_short_a_rest_says_so() -> None:
    plan = {
        "calibration": {"kind": "run_baseline"},
        "timeline": {"kind": "continuous", "rest_s": 15},
    }
    steps = walk(VOLUMES, **plan)
    assert {step.screen.value for step in steps} == {None}
    assert "anchors" in steps[-1].warming_up


def block_steps(events: Sequence[Event]) -> list[Step]:
    plan = small_plan(timeline=BLOCK, n_volumes=220, window_s=40.0)
    engine = small_engine(plan)
    return [engine.step(event) for event in events]


LONG = series(220)


def test_a_trial_is_scored_once_and_shown_in_its_feedback_phase() -> None:
    steps = block_steps(LONG)
    scored = [step.index for step in steps if step.trial_score is not None]
    assert scored == [12 + 68 * k + 14 + 6 + 40 - 1 for k in range(3)]
    for k, index in enumerate(scored):
        shown = {s.screen.value for s in steps if s.screen.scene == "score" and s.screen.trial == k}
        expected = np.clip(100 * (steps[index].scores[0].value - 0.2 + 0.6) / 1.2, 0, 100)
        assert len(shown) == 1
        assert shown.pop() == pytest.approx(expected)


def test_a_trial_whose_last_volume_is_missing_is_scored_at_its_deadline() -> None:
    last = 12 + 14 + 6 + 40 - 1
    steps = block_steps([*LONG[:last], Deadline(last), *LONG[last + 1 :]])
    assert steps[last].trial_score is not None
    assert math.isfinite(steps[last].trial_score.value)


def test_a_trial_with_too_little_left_has_no_score() -> None:
    start, last = 12 + 14 + 6, 12 + 14 + 6 + 40 - 1
    gone = set(range(start, start + 9))
    steps = block_steps([v for v in LONG if v.index not in gone])
    scored = next(step for step in steps if step.index == last)
    assert scored.trial_score is not None
    assert math.isnan(scored.trial_score.value)
    assert not [s for s in steps if s.screen.scene == "score" and s.screen.trial == 0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_volume_is_accounted_for_once(data: st.DataObject) -> None:
    """Any order, with losses, repeats, deadlines: statuses are those of a simple model."""
    order = data.draw(st.permutations(range(8)).map(lambda p: [k for k in p if k != p[0]]))
    repeats = data.draw(st.lists(st.sampled_from(range(8)), max_size=4))
    deadlines = data.draw(st.lists(st.integers(0, 9), max_size=3))
    events: list[Event] = [VOLUMES[k] for k in [*order, *repeats]]
    for index in deadlines:
        events.insert(data.draw(st.integers(0, len(events))), Deadline(index))
    steps = walk(events)
    frontier, came, passed = 0, set[int](), set[int]()
    for event, step in zip(events, steps, strict=True):
        if isinstance(event, Deadline):
            assert step.missing == tuple(range(frontier, event.index + 1))
            passed |= set(step.missing)
            frontier = max(frontier, event.index + 1)
            continue
        k = event.index
        if k in came:
            assert step.status == "duplicate"
        elif k < frontier:
            assert step.status == "late"
            came.add(k)
        else:
            assert step.missing == tuple(range(frontier, k))
            assert step.status == ("dummy" if k < N_DUMMIES else "used")
            passed |= set(step.missing)
            came.add(k)
            frontier = k + 1


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.integers(5, 55), max_size=8),
    st.integers(1, 55),
    st.sampled_from(["missing", "deadline"]),
)
def test_a_restart_continues_with_the_same_bits(gone: set[int], cut: int, how: str) -> None:
    """An engine rebuilt from what the record holds goes on as the one that died would have."""
    events: list[Event] = []
    for volume in VOLUMES:
        if volume.index not in gone:
            events.append(volume)
        elif how == "deadline":
            events.append(Deadline(volume.index))
    whole = walk(events)
    again = small_engine()
    for event, step in zip(events[:cut], whole[:cut], strict=True):
        assert encode(again.step(stand_in(step, event))) == encode(step)
    first = again.reference_index
    if first is not None:
        again.observer.adopt(VOLUMES[first].data)
    for event, step in zip(events[cut:], whole[cut:], strict=True):
        assert encode(again.step(event)) == encode(step)


def test_a_tr_that_is_not_the_plans_is_refused() -> None:
    with pytest.raises(PlanError, match="expected the plan's 2 s, found 1 s"):
        small_engine(small_plan(tr_s=2.0))


def test_rois_off_the_grid_are_refused() -> None:
    plan = small_plan()
    geometry = Geometry.of(altered(VOLUMES[0], affine=np.diag([2.0, 2.0, 2.0, 1.0])))
    engine = small_engine
    with pytest.raises(RoiError, match=r"grid|space"):
        type(engine(plan))(plan, small_config(), small_rois(plan), None, geometry)


def test_both_circuits_are_computed_even_where_they_share_an_edge() -> None:
    both = {
        "sham_edges": [{"a": "B", "b": "A", "direction": -1}],
    }
    last = walk(VOLUMES, **both)[-1]
    assert last.scores[1].value == -last.scores[0].value
    assert last.correlations[0] == last.correlations[1]
