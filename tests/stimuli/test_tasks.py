"""Reaction-time tasks: what is shown when, and one real window each with scripted key presses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rtloop.errors import ConfigError, RecordError
from stimuli.eventlog import EventLog, events_path
from stimuli.matching import SHAPES, MatchingConfig, find_faces, matching_run
from stimuli.room import read_task
from stimuli.stroop import COLOURS, STIMULI, StroopConfig, stroop_trials
from tests.stimuli.actor import Actor
from tests.stimuli.xserver import XServer

FRAME_S = 1 / 60


def stroop(**entries: Any) -> StroopConfig:
    return read_task(StroopConfig, {"participant": "p01", "out": "x", **entries})


def matching(**entries: Any) -> MatchingConfig:
    return read_task(MatchingConfig, {"participant": "p01", "out": "x", **entries})


# --- schedules --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_stroop_has_the_published_counts_in_both_halves(seed):
    trials = stroop_trials(stroop(), seed)
    kinds = [trial.columns["trial_type"] for trial in trials]
    assert len(trials) == 78
    assert Counter(kinds) == {**{f"con{k}": 18 for k in (1, 2, 3)},
                              **{f"inc{k}": 4 for k in range(1, 7)}}  # fmt: skip
    assert Counter(kinds[:39]) == Counter(kinds[39:])
    incongruent = "".join("x" if kind.startswith("inc") else "." for kind in kinds)
    assert "xxx" not in incongruent[:39]
    assert "xxx" not in incongruent[39:]


def test_stroop_has_the_published_times():
    trials = stroop_trials(stroop(), 3)
    onsets = np.array([trial.onset_s for trial in trials])
    assert onsets[0] == 2.0
    gaps = np.append(np.diff(onsets), trials[-1].closes_s - onsets[-1])
    assert Counter(gaps.round(6)) == {2.25: 26, 4.5: 26, 8.25: 26}
    assert trials[-1].closes_s == pytest.approx(392.0)
    assert all(t.duration_s == 2.0 and t.closes_s - t.onset_s >= 2.25 for t in trials)


def test_the_right_answer_is_the_ink():
    for trial in stroop_trials(stroop(), 0):
        word, ink = STIMULI[trial.columns["trial_type"]]
        assert trial.answer == ink == trial.columns["stimulus_color"]
        assert trial.columns["stimulus_text"] == word
        assert (word == ink) == trial.columns["trial_type"].startswith("con")


def test_orders_follow_the_seed_alone():
    assert stroop_trials(stroop(), 7) == stroop_trials(stroop(), 7)
    assert stroop_trials(stroop(), 7) != stroop_trials(stroop(), 8)


def faces_folder(path: Path, names: list[str]) -> Path:
    path.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        colour = (90 + 20 * k, 120, 200 - 20 * k)
        Image.new("RGB", (60, 80), colour).save(path / name)
    return path


FACES = ["anger_01.png", "anger_02.png", "fear_01.png", "fear_02.png"]


def test_matching_has_the_published_blocks(tmp_path):
    config = matching(faces=str(faces_folder(tmp_path / "faces", FACES)))
    trials, cues = matching_run(config, find_faces(config), 1)
    kinds = [trial.columns["trial_type"] for trial in trials]
    assert kinds == (["shape"] * 6 + ["face"] * 6) * 9
    assert [kind for _, kind in cues] == ["shape", "face"] * 9
    onsets = np.array([trial.onset_s for trial in trials]).reshape(18, 6)
    assert onsets[0, 0] == 11.0
    assert np.allclose(np.diff(onsets, axis=1), 3.0)
    assert np.allclose(np.diff(onsets[:, 0]), 21.0)
    assert np.allclose([at for at, _ in cues], onsets[:, 0] - 3.0)
    assert all(trial.duration_s == 1.9 for trial in trials)


def test_the_match_is_where_the_answer_says(tmp_path):
    config = matching(faces=str(faces_folder(tmp_path / "faces", FACES)))
    trials, _ = matching_run(config, find_faces(config), 2)
    for trial in trials:
        top = trial.columns["stim_top"]
        match = trial.columns[f"stim_{trial.answer}"]
        other = trial.columns["stim_right" if trial.answer == "left" else "stim_left"]
        if trial.columns["trial_type"] == "shape":
            assert top == match != other
            assert {top, other} <= set(SHAPES)
        else:
            assert top.split("_")[0] == match.split("_")[0] != other.split("_")[0]
            assert top != match
    sides = Counter((t.columns["block"], t.answer) for t in trials)
    assert set(sides.values()) == {3}


def test_faces_are_the_labs(tmp_path):
    with pytest.raises(ConfigError, match="--faces DIR") as info:
        find_faces(matching())
    assert "\n" not in str(info.value)
    with pytest.raises(ConfigError, match="found none at"):
        find_faces(matching(faces=str(tmp_path / "nowhere")))
    few = faces_folder(tmp_path / "few", ["anger_01.png", "anger_02.png", "fear_01.png"])
    with pytest.raises(ConfigError, match="2 anger, 1 fear"):
        find_faces(matching(faces=str(few)))
    trials, cues = matching_run(
        matching(shapes_only=True), find_faces(matching(shapes_only=True)), 0
    )
    assert len(trials) == 54
    assert len(cues) == 9


@pytest.mark.parametrize(
    ("make", "entries", "words"),
    [
        (stroop, {"keys": ["1", "2"]}, "three keys"),
        (stroop, {"keys": ["1", "2", "2"]}, "each key once"),
        (stroop, {"keys": ["1", "2", "escape"]}, "cannot quit"),
        (stroop, {"keys": ["5", "1", "2"]}, "cannot start the run.* found 5;"),
        (stroop, {"keys": ["t", "space", "1"]}, "cannot start the run.* found space, t;"),
        (stroop, {"keys": ["1", "2", ""]}, "by its name, found none in '1, 2, '"),
        (matching, {"keys": ["2", "3"], "start_keys": ["3"]}, "cannot start the run.* found 3;"),
        (stroop, {"soas_s": [0.0]}, "soas_s"),
        (stroop, {"colour": "red"}, "colour"),
        (matching, {"keys": ["1", "2", "3"]}, "two keys"),
        (matching, {"picture_s": 4.0}, "gone before"),
    ],
)
def test_wrong_settings_are_one_line(make, entries, words):
    with pytest.raises(ConfigError, match=words) as info:
        make(**entries)
    assert "\n" not in str(info.value)


# --- events -----------------------------------------------------------------------------------


def test_events_are_whole_after_every_trial(tmp_path):
    path = events_path(tmp_path, "p01", "1", "stroop")
    assert path.name == "sub-p01_ses-1_task-stroop_run-1_events.tsv"
    assert not list(tmp_path.iterdir())
    log = EventLog(path, {"onset": "when", "response": "what", "correct": "whether"}, {"Seed": 3})
    assert path.read_text() == "onset\tresponse\tcorrect\n"
    log.trial({"onset": 1.5, "response": None, "correct": False})
    assert path.read_text() == "onset\tresponse\tcorrect\n1.500000\tn/a\t0\n"
    log.trial({"onset": 2.5, "response": "red", "correct": True})
    log.close()
    assert path.read_text().splitlines()[-1] == "2.500000\tred\t1"
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["onset"] == {"Description": "when"}
    assert about["Seed"] == 3
    assert not list(path.parent.glob("*.part"))
    assert events_path(tmp_path, "sub-p01", "ses-1", "stroop").name.endswith("run-2_events.tsv")


def test_a_run_number_that_was_taken_meanwhile_is_not_taken_again(tmp_path):
    path = events_path(tmp_path, "p01", "1", "stroop")
    logs = [EventLog(path, {"onset": ""}, {"Seed": seed}) for seed in range(3)]
    for log in logs:
        log.trial({"onset": float(len(log.path.name))})
        log.close()
    assert logs[0].path == path
    assert [log.path.name.split("_")[3] for log in logs] == ["run-1", "run-2", "run-3"]
    for seed, log in enumerate(logs):
        assert len(log.path.read_text().splitlines()) == 2
        assert json.loads(log.path.with_suffix(".json").read_text())["Seed"] == seed
    assert len(list(path.parent.iterdir())) == 6


def test_labels_that_bids_does_not_allow_are_refused(tmp_path):
    with pytest.raises(RecordError, match="letters and digits"):
        events_path(tmp_path, "p_01", "1", "stroop")


@pytest.mark.parametrize("participant", ["p01", "p" * 300])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, participant):
    path = events_path(tmp_path, "p01", "1", "stroop")
    (tmp_path / "sub-p01").write_text("")
    with pytest.raises(RecordError, match="name another") as info:
        events_path(tmp_path, participant, "1", "stroop")
    assert "\n" not in str(info.value)
    with pytest.raises(RecordError, match="name another") as info:
        EventLog(path, {"onset": ""}, {})
    assert "\n" not in str(info.value)


# --- on a screen ------------------------------------------------------------------------------


@pytest.fixture
def actor(xserver: XServer, tmp_path: Path) -> Iterator[Callable[..., Actor]]:
    started: list[Actor] = []

    def start(module: str, **options: Any) -> Actor:
        started.append(Actor(xserver, tmp_path, module, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


REAL = [
    *"abcdefghijklmnopqrstuvwxyz0123456789", *(f"num_{k}" for k in range(10)), "num_add", "f1",
    "f12", "left", "right", "up", "down", "space", "return", "tab", "home", "end", "insert",
    "delete", "pageup", "pagedown", "comma", "period", "minus", "equal", "semicolon", "lshift",
    "rctrl",
]  # fmt: skip
UNREAL = ["", "foo", "A", "_5", "Left", "enter", "128", "mod_shift", "motion_up", "hash", "unknown"]


@pytest.mark.parametrize("backend", ["ptb", "event"])
def test_keys_are_those_the_keyboard_tells(xserver, backend):
    program = (
        "import json, sys; from stimuli.room import _is_key; given = json.load(sys.stdin);"
        f"print('told', json.dumps([name for name in given if _is_key(name, {backend!r})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=xserver.environment, input=json.dumps(REAL + UNREAL), capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.rpartition("told ")[2]) == REAL


@pytest.mark.parametrize("backend", [None, "event"])
def test_a_key_that_no_keyboard_has_is_one_line(actor, backend):
    person = actor("stimuli.stroop", keys=["foo", "2", "baz"], keyboard=backend)
    status, printed, complained = person.ended()
    assert (status, printed) == (2, "")
    assert complained.count("\n") == 1
    assert "found foo, baz, which" in complained
    assert not person.rows()


SHORT = {
    "n_congruent": 4, "n_incongruent": 2, "soas_s": [1.2], "first_s": 1.0, "word_s": 0.7, "seed": 5,
}  # fmt: skip
WORD = 1500
"""Light pixels of a word; the cross between words has fewer."""

PICTURES = 20000


def errors_s(started_s: float, rows: list[Any], pressed: list[float | None]) -> list[float]:
    """Response times less the truth: the person's own press times, the run's start among them."""
    return [
        started_s + float(row["onset"]) + float(row["response_time"]) - press
        for row, press in zip(rows, pressed, strict=False)
        if press is not None
    ]


def test_stroop_times_responses_to_a_frame(actor, xserver):
    person = actor("stimuli.stroop", **SHORT)
    started_s = person.begin()
    trials = stroop_trials(stroop(**SHORT), SHORT["seed"])
    right = [1 + list(COLOURS).index(trial.answer) for trial in trials]
    right[4] = 1 + right[4] % 3
    pressed: list[float | None] = []
    for k, key in enumerate(right):
        person.until(lambda: person.bright() > WORD)
        pressed.append(None if k == 2 else xserver.press(str(key)))
        person.until(lambda: person.bright() < WORD)
    status, printed, complained = person.ended()
    assert (status, complained) == (0, "")
    about, rows = person.about(), person.rows()
    backend = about["StimulusPresentation"]["KeyboardBackend"]
    assert backend in ("ptb", "event")
    assert f"6 trials (complete), keyboard backend {backend}" in printed
    assert about["Completed"] is True
    assert [row["correct"] for row in rows] == ["1", "1", "0", "1", "0", "1"]
    assert rows[2]["response_time"] == rows[2]["response"] == "n/a"
    # all but one: a busy machine may set either program aside for longer than a frame
    assert sorted(map(abs, errors_s(started_s, rows, pressed)))[-2] <= FRAME_S
    shown = [(row["stimulus_text"], row["stimulus_color"]) for row in rows]
    assert shown == [STIMULI[trial.columns["trial_type"]] for trial in trials]
    onsets = np.array([float(row["onset"]) for row in rows])
    # non-slip: whatever a trial did, the next ones are on the grid
    assert np.median(np.abs(onsets - (1.0 + 1.2 * np.arange(6)))) <= FRAME_S


def test_the_windows_own_keys_time_as_well_and_the_quit_key_keeps_what_was_recorded(actor, xserver):
    person = actor("stimuli.stroop", keyboard="event", **SHORT)
    started_s = person.begin()
    pressed: list[float | None] = []
    for _ in range(3):
        person.until(lambda: person.bright() > WORD)
        pressed.append(xserver.press("1"))
        person.until(lambda: person.bright() < WORD)
    person.until(lambda: len(person.rows()) == 3)
    xserver.press("Escape")
    status, printed, complained = person.ended()
    assert (status, complained) == (0, "")
    assert "stopped, 6 planned), keyboard backend event" in printed
    about, rows = person.about(), person.rows()
    assert len(rows) in (3, 4)
    assert about["Completed"] is False
    assert about["TrialsRecorded"] == len(rows)
    assert sorted(map(abs, errors_s(started_s, rows, pressed)))[-2] <= FRAME_S


def test_a_kill_loses_no_finished_trial(actor, xserver):
    person = actor("stimuli.stroop", **SHORT)
    person.begin()
    person.until(lambda: person.bright() > WORD)
    xserver.press("2")
    # the answer is on disk before the next word comes
    person.until(lambda: person.bright() < WORD)
    person.until(lambda: len(person.rows()) == 1)
    assert person.bright() < WORD
    person.process.send_signal(signal.SIGKILL)
    person.process.wait()
    (row,) = person.rows()
    assert row["response"] == "green"
    assert None not in row.values()


def test_matching_on_a_screen(actor, xserver, tmp_path):
    person = actor(
        "stimuli.matching",
        faces=str(faces_folder(tmp_path / "faces", FACES)),
        n_blocks=2, trials_per_block=1, n_practice=1, practice=True,
        count_s=0.2, cue_s=0.5, soa_s=1.6, picture_s=0.9,
    )  # fmt: skip
    person.until(lambda: person.bright() > 500)
    person.turn("1")
    # practice: one trial, its feedback, a page
    person.until(lambda: person.bright() > PICTURES)
    xserver.press("1")
    person.until(lambda: person.bright() < PICTURES)
    words = xserver.screenshot()
    person.until(lambda: not np.array_equal(words, xserver.screenshot()))
    started_s = person.begin()
    person.until(lambda: person.bright() > PICTURES)
    pressed_s = xserver.press("1")
    status, printed, complained = person.ended()
    assert (status, complained) == (0, "")
    rows = person.rows()
    assert [row["trial_type"] for row in rows] == ["shape", "face"]
    assert [row["response"] for row in rows] == ["left", "n/a"]
    assert [row["correct"] for row in rows] == ["1", "0"]
    # an answer on the busiest of machines may be read late, but never wrongly by a whole trial
    assert abs(errors_s(started_s, rows, [pressed_s])[0]) < 0.2
    assert float(rows[1]["onset"]) - float(rows[0]["onset"]) == pytest.approx(2.1, abs=0.2)
    assert person.about()["Faces"] == FACES
    assert "2 trials (complete)" in printed
