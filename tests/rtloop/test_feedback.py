"""Calibration map and timeline: values at known scores, scenes at known times."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtloop.errors import ConfigError
from rtloop.feedback import MIN_BASELINE_WINDOWS, ScoreMap, Timeline, anchors_from_rest
from rtloop.plan import LinearAnchors, Percentiles, Plan, RunBaseline
from tests.rtloop.test_plan import BLOCK, entries


def test_linear_map_hits_its_anchors() -> None:
    score_map = ScoreMap(LinearAnchors(center=0.3, sd=0.1))
    assert score_map(0.1) == pytest.approx(0)
    assert score_map(0.3) == pytest.approx(50)
    assert score_map(0.5) == pytest.approx(100)
    assert score_map(9.0) == 100
    assert score_map(-9.0) == 0


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_linear_map_never_reverses(a: float, b: float) -> None:
    score_map = ScoreMap(LinearAnchors(center=0.0, sd=0.4))
    low, high = sorted((a, b))
    assert score_map(low) <= score_map(high)  # type: ignore[operator]


def test_no_score_has_no_feedback() -> None:
    assert ScoreMap(LinearAnchors(center=0, sd=1))(math.nan) is None
    assert ScoreMap(RunBaseline())(0.2) is None


def test_percentile_map_is_the_published_one() -> None:
    score_map = ScoreMap(Percentiles(rest_scores=tuple(i / 100 for i in range(1, 101))))
    assert score_map(0.30) == pytest.approx(0)
    assert score_map(0.50) == pytest.approx(50)
    assert score_map(0.70) == pytest.approx(100)


def test_baseline_is_fixed_once() -> None:
    score_map = ScoreMap(RunBaseline())
    for k in range(MIN_BASELINE_WINDOWS):
        assert not score_map.close()
        score_map.collect(0.1 * (k % 3))
    assert score_map.close()
    before = score_map(0.2)
    score_map.collect(5.0)
    score_map.close()
    assert score_map(0.2) == before


def test_anchors_are_mean_and_sample_sd() -> None:
    anchors = anchors_from_rest([0.0, 1.0] * 10 + [math.nan])
    assert anchors.center == pytest.approx(0.5)
    assert anchors.sd == pytest.approx(math.sqrt(20 * 0.25 / 19))


def test_too_little_rest_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least"):
        anchors_from_rest([0.1] * 3 + [math.nan] * 50)
    with pytest.raises(ConfigError, match="vary"):
        anchors_from_rest([0.1] * 30)


def test_continuous_timeline() -> None:
    timeline = Timeline(Plan.create(**entries()))
    assert timeline.moment(0.0).scene == "rest"
    assert timeline.moment(59.9).remaining_s == pytest.approx(0.1)
    assert timeline.moment(60.0).scene == "feedback"
    assert timeline.moment(300.0).scene == "end"


def test_block_timeline_walks_its_phases() -> None:
    timeline = Timeline(Plan.create(**entries(timeline=BLOCK)))
    assert [timeline.moment(12 + t).scene for t in (0, 14, 54, 62)] == [
        "rest",
        "instruction",
        "fixation",
        "score",
    ]
    assert timeline.moment(12 + 68 + 14).trial == 1
    assert timeline.moment(12 + 3 * 68).trial is None


@given(st.sampled_from([0.8, 0.867, 1.0, 1.259, 2.0]))
def test_score_windows_lie_in_the_shifted_phase(tr_s: float) -> None:
    """No volume of a score window may have been acquired before or after the shifted phase."""
    plan = Plan.create(**entries(timeline=BLOCK, tr_s=tr_s))
    timeline = Timeline(plan)
    found = [i for i in range(plan.n_volumes) if timeline.trial_scored_at(i) is not None]
    assert [timeline.trial_scored_at(i) for i in found] == [0, 1, 2]
    for trial, last in enumerate(found):
        start_s = 12 + 68 * trial + 14 + 6
        first = last - plan.window + 1
        assert (first + 0.5) * tr_s >= start_s - 1e-9
        assert (last + 0.5) * tr_s <= start_s + 40 + tr_s / 2 + 1e-9
