"""A task in a room without a screen: frames by a clock of the test's own, keys by a script.

What a real window shows, and how well it times, is in `test_tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stimuli.pen import Look
from stimuli.room import Room, TaskConfig
from stimuli.taskmain import Task, perform, run_of
from stimuli.taskrun import Paper, Trial, run_trials
from stimuli.trigger import Press

FRAME_S = 0.1


class Frames:
    """Flips a frame apart; a frame's keys are heard without waiting."""

    period_s, rate_hz, pacing, n_dropped = FRAME_S, 1 / FRAME_S, "vertical sync", 0

    def __init__(self) -> None:
        self.now_s = 100.0

    def expected_unix_s(self) -> float:
        return self.now_s + FRAME_S

    def latch_s(self) -> float:
        return 0.0

    def flip(self) -> float:
        self.now_s += FRAME_S
        return self.now_s

    def take_clock_step_s(self) -> float:
        return 0.0


class Keys:
    """`told(now_s, n)` is what is heard at the n-th reading of one frame, from 1."""

    backend = "event"

    def __init__(self, frames: Frames, told: Callable[[float, int], list[Press]]) -> None:
        self._frames, self._told = frames, told
        self._read_s, self._n = 0.0, 0

    def take(self, names: Iterable[str]) -> list[Press]:
        now_s = self._frames.now_s
        self._n = self._n + 1 if now_s == self._read_s else 1
        self._read_s = now_s
        return self._told(now_s, self._n)


class Stage:
    """A room, and the words that were written in it."""

    def __init__(self, told: Callable[[float, int], list[Press]], **entries: Any) -> None:
        self.words: list[str] = []
        pen = SimpleNamespace(look=Look(), write=lambda text, *_: self.words.append(text))
        frames = Frames()
        config = TaskConfig(**{"participant": "p01", "out": "x", "keys": ("1", "2"), **entries})
        window = SimpleNamespace(size=(640, 480))
        parts = (window, pen, frames, Keys(frames, told), config)
        self.room = Room(*cast("tuple[Any, Any, Any, Any, TaskConfig]", parts))


PAPER = Paper(lambda trial: lambda: None, lambda: None)
TRIAL = Trial(0.5, 0.4, 1.5, "left", {"trial_type": "shape"})


@pytest.mark.parametrize(
    ("key", "press_s", "reading", "words", "n_right"),
    [
        ("1", 1.25, 1, "Correct", 1),
        ("2", 1.25, 1, "Wrong", 0),
        # heard only when the trial is closed
        ("1", 1.25, 2, "Correct", 1),
        ("2", 1.25, 2, "Wrong", 0),
        # heard before the trial is closed, but pressed after its end
        ("1", 1.55, 1, "Too slow", 0),
        ("2", 1.55, 1, "Too slow", 0),
        (None, 0.0, 1, "Too slow", 0),
    ],
)
def test_practice_says_what_it_counts(key, press_s, reading, words, n_right):
    start_s = 100.0 + FRAME_S  # the first flip
    left = [] if key is None else [Press(key, start_s + press_s)]

    def told(now_s: float, n: int) -> list[Press]:
        # in the last frame before the trial ends
        last = now_s > start_s + TRIAL.closes_s - 2.5 * FRAME_S
        heard = list(left) if last and n >= reading else []
        del left[: len(heard)]
        return heard

    stage = Stage(told)
    assert run_trials(stage.room, [TRIAL], ("left", "right"), PAPER, None) == n_right
    assert not left
    assert set(stage.words) == {words}


def test_the_keys_are_shown_in_practice_alone(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("stimuli.room.renderer", lambda window: "none")

    def told(now_s: float, n: int) -> list[Press]:
        return [Press("2", now_s), Press("5", now_s)] if n == 1 else []

    stage = Stage(told, out=tmp_path, practice=True)
    path, seed = run_of(stage.room.config, "shapes")
    written_in_run: list[int] = []

    def stimulus(trial: Trial) -> Callable[[], None]:
        return lambda: written_in_run.append(len(stage.words)) if path.exists() else None

    task = Task(
        name="shapes", seed=seed, choices=("left", "right"), columns={"onset": "", "response": ""},
        instructions="Instructions", trials=[TRIAL], paper=Paper(stimulus, PAPER.between),
        practice=[TRIAL], legend_y=-0.4,
    )  # fmt: skip
    assert perform(stage.room, task, path) == 0
    assert "1 trials (complete)" in capsys.readouterr().out
    shown = list(dict.fromkeys(stage.words))
    legend = "1 = left     2 = right"
    assert shown[:3] == ["Instructions", legend, "Wrong"]
    assert written_in_run
    assert legend not in stage.words[written_in_run[0] :]


def test_every_run_has_a_seed_of_its_own(tmp_path: Path):
    def seed(task: str = "stroop", **entries: Any) -> int:
        config = {"participant": "p01", "out": tmp_path, "keys": ("1", "2"), **entries}
        return run_of(TaskConfig(**config), task)[1]

    assert seed() == seed(session="ses-1") == 3595207016
    assert len({seed(), seed(session="2"), seed(participant="p02"), seed("matching")}) == 4
    assert seed(seed=7) == 7
