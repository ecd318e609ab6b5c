"""What is due at the next flip: decided without window or clock, so tested without."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtloop.wire import Feedback
from stimuli.scenes import Picture
from stimuli.screenplay import REPORT_AGAIN_S, Screenplay

FRAME_S = 1 / 60


def message(id: int = 1, **entries) -> Feedback:
    standard = {
        "attempt": "a",
        "index": id,
        "scene": "feedback",
        "value": 50.0,
        "text": "",
        "trial": None,
        "published_s": 100.0 + id,
        "expires_s": None,
    }
    return Feedback(id=id, **{**standard, **entries})


def show(play: Screenplay, flip_s: float) -> Picture:
    """One frame of the display."""
    picture = play.due(flip_s)
    play.flipped(picture, flip_s)
    return picture


def test_waits_before_the_first_message():
    play = Screenplay()
    assert show(play, 1e6).scene == "wait"
    assert not play.take_reports()
    assert not play.started


def test_newest_wins_and_is_reported_once_with_its_first_flip():
    play = Screenplay()
    for id in (1, 2, 3):
        play.take(message(id, value=10.0 * id), 200.0)
    pictures = [show(play, 200 + k * FRAME_S) for k in range(5)]
    assert {picture.value for picture in pictures} == {30.0}
    (report,) = play.take_reports()
    assert (report.id, report.value, report.flip_s, report.status) == (3, 30.0, 200.0, "shown")


def test_overtaken_message_is_ignored():
    play = Screenplay()
    play.take(message(5), 200.0)
    play.take(message(4, value=1.0), 200.0)
    assert show(play, 200.0).value == 50.0


def test_id_used_again_by_a_restarted_engine_is_a_new_message():
    play = Screenplay()
    play.take(message(5, value=10.0), 200.0)
    show(play, 200.0)
    play.take(message(5, value=20.0, published_s=201.0), 201.0)
    assert show(play, 201.0).value == 20.0
    play.take(message(3, value=30.0, published_s=202.0), 202.0)
    assert show(play, 202.0).value == 30.0
    assert [report.value for report in play.take_reports()] == [10.0, 20.0, 30.0]


def test_expired_is_never_drawn_and_reported_once():
    play = Screenplay()
    play.take(message(expires_s=200.0), 199.99)
    assert [show(play, 200.0 + k).scene for k in (0.001, 1, 2)] == ["neutral"] * 3
    (report,) = play.take_reports()
    assert (report.id, report.status) == (1, "expired")


def test_message_that_would_expire_before_its_flip_is_not_drawn():
    play = Screenplay()
    play.take(message(expires_s=200.0), 199.995)
    assert show(play, 199.995 + FRAME_S).scene == "neutral"


def test_shown_feedback_leaves_the_screen_when_it_expires():
    play = Screenplay()
    play.take(message(expires_s=203.0), 200.0)
    assert show(play, 202.9).scene == "feedback"
    assert show(play, 203.1).scene == "neutral"
    assert [report.status for report in play.take_reports()] == ["shown"]


def test_silence_holds_and_then_goes_neutral_and_comes_back():
    play = Screenplay(silence_s=5.0)
    play.take(message(), 200.0)
    assert not show(play, 204.9).old
    held = show(play, 205.1)
    assert (held.scene, held.value, held.old) == ("feedback", 50.0, True)
    assert show(play, 210.1).scene == "neutral"
    play.take(message(2), 211.0)
    assert show(play, 211.0) == Picture("feedback", 50.0)
    notes = play.take_notes()
    assert [("hold" in n, "neutral" in n, "again" in n) for n in notes] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_repeats_keep_the_silence_away():
    play = Screenplay(silence_s=5.0)
    for now_s in range(200, 220, 4):
        play.take(message(), float(now_s))
    assert show(play, 217.0) == Picture("feedback", 50.0)


@pytest.mark.parametrize("scene", ["wait", "neutral", "end"])
def test_silence_changes_nothing_where_nothing_is_due(scene):
    play = Screenplay(silence_s=5.0)
    play.take(message(scene=scene, value=None), 200.0)
    assert show(play, 1000.0) == Picture(scene)


def test_no_silence_limit():
    play = Screenplay(silence_s=None)
    play.take(message(), 200.0)
    assert show(play, 1000.0) == Picture("feedback", 50.0)


def test_stop_is_neutral_at_the_next_flip_and_stays():
    play = Screenplay()
    play.take(message(1), 200.0)
    show(play, 200.0)
    play.take_reports()
    play.stop()
    assert show(play, 200.0 + FRAME_S).scene == "neutral"
    play.take(message(2), 200.1)
    play.take(message(3, scene="wait", value=None), 200.2)
    assert show(play, 200.2).scene == "neutral"
    assert not play.take_reports()
    play.take(message(4, scene="end", value=None), 201.0)
    assert show(play, 201.0).scene == "end"


def test_stop_ends_with_the_next_attempt():
    play = Screenplay()
    play.take(message(1), 200.0)
    play.stop()
    play.take(message(2, attempt="b", scene="rest", value=None), 300.0)
    assert show(play, 300.0).scene == "rest"


def test_stop_before_anything_came():
    play = Screenplay()
    play.stop()
    assert show(play, 1.0).scene == "neutral"


def test_neutral_message_is_reported():
    play = Screenplay()
    play.take(message(scene="neutral", value=None), 200.0)
    show(play, 200.0)
    assert [report.scene for report in play.take_reports()] == ["neutral"]


@pytest.mark.parametrize("value", [None, math.nan])
def test_feedback_without_a_value_is_hold_not_zero(value):
    play = Screenplay()
    play.take(message(value=value), 200.0)
    picture = show(play, 200.0)
    assert (picture.scene, picture.value) == ("hold", None)
    (report,) = play.take_reports()
    assert (report.scene, report.value) == ("hold", None)
    play.take(message(value=value), 200.1)
    show(play, 200.1)
    assert not play.take_reports()


def test_hold_keeps_the_last_value_of_this_attempt():
    play = Screenplay()
    play.take(message(1, value=70.0), 200.0)
    show(play, 200.0)
    play.take(message(2, scene="hold", value=None), 201.0)
    picture = show(play, 201.0)
    assert (picture.value, picture.old) == (70.0, True)
    play.take(message(3, scene="hold", value=None, attempt="b"), 202.0)
    assert show(play, 202.0).value is None
    assert [report.value for report in play.take_reports()] == [70.0, 70.0, None]


def test_value_is_reported_as_drawn():
    play = Screenplay()
    play.take(message(value=130.0), 200.0)
    show(play, 200.0)
    assert play.take_reports()[0].value == 100.0


def test_lost_report_is_sent_again_unchanged():
    play = Screenplay()
    play.take(message(), 200.0)
    show(play, 200.0)
    first = play.take_reports()
    play.take(message(), 200.0 + REPORT_AGAIN_S / 2)
    assert not play.take_reports()
    play.take(message(), 200.1 + REPORT_AGAIN_S)
    assert play.take_reports() == first
    play.take(message(), 200.2 + REPORT_AGAIN_S)
    assert not play.take_reports()


def test_lost_window_is_reported_for_what_was_due():
    play = Screenplay()
    play.take(message(), 200.0)
    play.failed(200.1)
    assert [report.status for report in play.take_reports()] == ["failed"]


def test_pending_until_the_first_flip():
    play = Screenplay()
    assert not play.pending
    play.take(message(1), 200.0)
    assert play.pending
    show(play, 200.0)
    assert not play.pending
    play.take(message(2), 201.0)
    assert play.pending
    play.stop()
    assert not play.pending


def test_started_with_the_first_scene_that_is_not_waiting():
    play = Screenplay()
    play.take(message(1, scene="wait", value=None), 200.0)
    assert not play.started
    play.take(message(2, scene="rest", value=None), 201.0)
    assert play.started


MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.one_of(st.none(), st.floats(-20, 120), st.just(math.nan)),
        st.one_of(st.none(), st.floats(-0.05, 0.2)),
        st.sampled_from(["feedback", "hold", "rest", "neutral"]),
    ),
    max_size=30,
)


@given(MESSAGES)
def test_every_message_ends_in_at_most_one_report_and_none_is_shown_late(frames):
    """Any sequence of bursts, expiries and scenes, one frame after each."""
    play = Screenplay()
    now_s, id = 200.0, 0
    sent: dict[int, Feedback] = {}
    for burst, value, expires_in_s, scene in frames:
        for _ in range(burst):
            id += 1
            expires_s = None if expires_in_s is None else now_s + expires_in_s
            last = message(id, value=value, scene=scene, published_s=now_s, expires_s=expires_s)
            sent[id] = last
            play.take(replace(last), now_s)
        now_s += FRAME_S
        picture = show(play, now_s)
        assert picture.value is None or 0 <= picture.value <= 100
        if sent and (limit_s := sent[id].expires_s) is not None and limit_s < now_s:
            assert picture.scene == "neutral"
    reports = play.take_reports()
    ids = [report.id for report in reports]
    assert ids == sorted(set(ids))
    for report in reports:
        limit_s = sent[report.id].expires_s
        if report.status == "shown":
            assert limit_s is None or report.flip_s <= limit_s
        else:
            assert limit_s is not None
            assert report.flip_s > limit_s
