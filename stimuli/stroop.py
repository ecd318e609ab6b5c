"""Colour–word Stroop task: the colour a word is printed in, whatever it says.

As in OpenNeuro ds005237 (Chopra et al. 2024, doi:10.1101/2024.06.18.24309054): 78 trials, 54
congruent and 24 incongruent, three colours and keys, the first word 2 s after the start and the
next one 2.25, 4.5 or 8.25 s later, each 26 times; trial types `con1`–`con3` and `inc1`–`inc6` as
there. A word is on the screen for 2 s at most, and answers count until the next one comes. How
long a word stayed and the exact colours are not in the published tables: 2 s and colours of even
legibility on black are this program's. Orders are drawn anew for each person and run from a seed
that is written down; both halves have the same numbers of everything.

`python -m stimuli.stroop --config J` shows it; J is JSON or the path of a JSON file.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from stimuli.pen import Look, Pen
from stimuli.room import Draw, Room, TaskConfig
from stimuli.scenes import Cross
from stimuli.taskmain import Task, command_line, perform, run_of
from stimuli.taskrun import Paper, Trial

__all__ = ["COLOURS", "StroopConfig", "main", "stroop_trials"]

COLOURS = {"red": "#FF3B30", "green": "#1FC24A", "blue": "#3D86FF"}
"""Contrast to black 5.6, 8.6 and 5.9 to 1."""

INCONGRUENT = {
    "inc1": ("green", "red"),
    "inc2": ("blue", "red"),
    "inc3": ("red", "green"),
    "inc4": ("blue", "green"),
    "inc5": ("red", "blue"),
    "inc6": ("green", "blue"),
}
"""Word and ink."""

CONGRUENT = {f"con{k}": (colour, colour) for k, colour in enumerate(COLOURS, start=1)}
STIMULI = CONGRUENT | INCONGRUENT

WORD_SIZE = 0.13
LEGEND_Y = -0.36
MAX_INCONGRUENT = 2
"""Longest row of incongruent trials."""

COLUMNS = {
    "onset": "Flip that showed the word, seconds from the start of the run.",
    "duration": "How long the word was on the screen, seconds.",
    "trial_type": "con1-3: word and ink are the same colour. inc1-6: they are not.",
    "response_time": "Key press less the word's flip, seconds; n/a if there was none.",
    "response": "Colour whose key was pressed; n/a if there was none.",
    "answer": "The right answer: the ink's colour.",
    "correct": "1 if the answer was right; 0 if it was wrong or there was none.",
    "stimulus_text": "The word.",
    "stimulus_color": "The ink.",
}


class StroopConfig(TaskConfig):
    """Settings of the Stroop task; `TaskConfig` has those of every task.

    `keys` are for red, green and blue. `soas_s` are the times from one word to the next, each as
    often as the others.
    """

    keys: tuple[str, ...] = ("1", "2", "3")
    n_congruent: PositiveInt = 54
    n_incongruent: int = Field(24, ge=0)
    soas_s: tuple[PositiveFloat, ...] = (2.25, 4.5, 8.25)
    first_s: PositiveFloat = 2.0
    word_s: PositiveFloat = 2.0
    n_practice: PositiveInt = 12

    @model_validator(mode="after")
    def _sound(self) -> StroopConfig:
        if len(self.keys) != len(COLOURS):
            raise ValueError(f"three keys, for red, green and blue, found {len(self.keys)}")
        return self


def stroop_trials(config: StroopConfig, seed: int) -> list[Trial]:
    """Trials of a run in order, drawn from a seed.

    Both halves hold the same numbers of congruent and incongruent trials and of every time to the
    next word, to within one.
    """
    rng = np.random.default_rng(seed)
    kinds = [
        *_halves(list(CONGRUENT), config.n_congruent, rng),
        *_halves(list(INCONGRUENT), config.n_incongruent, rng),
    ]
    order = [kind for half in (0, 1) for kind in _shuffled([k for k, h in kinds if h == half], rng)]
    soas = _halves(list(config.soas_s), len(order), rng)
    gaps = [gap for half in (0, 1) for gap in rng.permutation([g for g, h in soas if h == half])]
    return _timed(order, gaps, config)


def main(config: StroopConfig) -> int:
    """Instructions, practice if asked for, the run; exit status 0, also when it was stopped."""
    path, seed = run_of(config, "stroop")
    trials = stroop_trials(config, seed)
    with contextlib.ExitStack() as undo:
        room = Room.open(config, Look(background="#000000"), undo)
        words = Words(room.pen)
        words.prepare()
        task = Task(
            name="stroop",
            seed=seed,
            choices=tuple(COLOURS),
            columns=COLUMNS,
            instructions=_instructions(config),
            trials=trials,
            paper=Paper(words.word, words.cross),
            practice=_practice(config, seed),
            legend_y=LEGEND_Y,
        )
        return perform(room, task, path)


class Words:
    """Words in ink, and the cross between them."""

    def __init__(self, pen: Pen) -> None:
        self._pen, self._cross = pen, Cross(pen)

    def prepare(self) -> None:
        """Make every text once: the first drawing takes tens of milliseconds."""
        for word, ink in STIMULI.values():
            self._pen.write(word, WORD_SIZE, 0.0, COLOURS[ink])
        self.cross()
        self._pen.window.clearBuffer()

    def word(self, trial: Trial) -> Draw:
        text, ink = trial.columns["stimulus_text"], COLOURS[trial.columns["stimulus_color"]]
        return lambda: self._pen.write(text, WORD_SIZE, 0.0, ink)

    def cross(self) -> None:
        self._cross.draw()


def _instructions(config: StroopConfig) -> str:
    keys = "\n".join(f"{name}:  {key}" for name, key in zip(COLOURS, config.keys, strict=True))
    return (
        "You will see names of colours,\nprinted in colour.\n\n"
        "Press the key for the colour of the print,\nwhatever the word says."
        " Be quick and correct.\n\n"
        f"{keys}\n\nPress a key to go on."
    )


def _practice(config: StroopConfig, seed: int) -> list[Trial]:
    """A few trials as close together as the run's closest; in another order than the run's."""
    n_incongruent = config.n_practice // 3
    practice = config.model_copy(
        update={
            "n_congruent": config.n_practice - n_incongruent,
            "n_incongruent": n_incongruent,
            "soas_s": (min(config.soas_s),),
        }
    )
    return stroop_trials(practice, seed + 1)


def _halves(values: Sequence[Any], n: int, rng: np.random.Generator) -> list[tuple[Any, int]]:
    """`n` of the values, each as often as the others to within one, and the half of each."""
    repeated = [values[k % len(values)] for k in range(n)]
    # one after another to the two halves, starting with either
    first = int(rng.integers(2))
    return [
        (value, (first + k // len(values) + k % len(values)) % 2)
        for k, value in enumerate(repeated)
    ]


def _shuffled(kinds: list[str], rng: np.random.Generator) -> list[str]:
    """In random order without long rows of incongruent trials, where that is possible."""
    order = [kinds[k] for k in rng.permutation(len(kinds))]
    for _ in range(1000):
        row = longest = 0
        for kind in order:
            row = row + 1 if kind in INCONGRUENT else 0
            longest = max(longest, row)
        if longest <= MAX_INCONGRUENT:
            break
        order = [kinds[k] for k in rng.permutation(len(kinds))]
    return order


def _timed(order: Sequence[str], gaps: Sequence[float], config: StroopConfig) -> list[Trial]:
    trials = []
    onset_s = config.first_s
    for kind, gap_s in zip(order, gaps, strict=True):
        word, ink = STIMULI[kind]
        columns = {"trial_type": kind, "stimulus_text": word, "stimulus_color": ink}
        word_s = min(config.word_s, float(gap_s))
        trials.append(Trial(onset_s, word_s, onset_s + float(gap_s), ink, columns))
        onset_s += float(gap_s)
    return trials


if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:], "stimuli.stroop", StroopConfig, main, __doc__))
