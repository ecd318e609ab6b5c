"""One run of a reaction-time task: pictures at absolute times, responses timed against the flip.

Every picture is due at a time from the run's start, so that lateness of one never moves another.
It is drawn for the first flip that is due then or later, less half a frame, and a response time
is the key's time less the time of the flip that showed the stimulus, both on PsychoPy's clock. A
trial takes the first response key between its own flip and the next trial's. `stroop` and
`matching` say what is shown and when; this module shows it, listens, and writes each trial as it
closes. The quit key, SIGTERM and SIGINT end the run after the coming flip; what was recorded stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stimuli.eventlog import EventLog
from stimuli.room import Draw, Room

__all__ = ["Paper", "Shown", "Trial", "run_trials"]

GAP_S = 0.05
"""Shortest time between two pictures for which the screen in between is shown."""

RIGHT, WRONG, TOO_LATE = "Correct", "Wrong", "Too slow"
"""Words after a practice trial."""

FEEDBACK_S = 0.8
FEEDBACK_SIZE = 0.06


@dataclass(frozen=True)
class Trial:
    """One stimulus: when, for how long, what is right, and what the table says of it.

    `onset_s` counts from the start of the run; `closes_s` is when answers stop to count.
    """

    onset_s: float
    duration_s: float
    closes_s: float
    answer: str
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """Something that is no trial, such as a countdown or a cue, from the run's start, s."""

    onset_s: float
    duration_s: float
    draw: Draw


@dataclass(frozen=True)
class Paper:
    """How one task looks: trials and the time between them."""

    stimulus: Callable[[Trial], Draw]
    between: Draw


def run_trials(
    room: Room,
    trials: Sequence[Trial],
    choices: Sequence[str],
    paper: Paper,
    log: EventLog | None,
    shown: Sequence[Shown] = (),
    start_s: float | None = None,
) -> int:
    """Show trials at their times and write each as it closes.

    Parameters
    ----------
    room : Room
    trials : sequence of Trial
        In order of onset.
    choices : sequence of str
        What the keys stand for, in their order.
    paper : Paper
    log : EventLog or None
        None for practice: nothing is written, and every trial is followed by feedback, which
        moves the later ones.
    shown : sequence of Shown
        What else is shown, before, between and after.
    start_s : float or None
        Start of the run on the host clock; None for the flip of the first picture.

    Returns
    -------
    int
        Trials that were answered right.

    Raises
    ------
    Stopped
        When the quit key was pressed.
    """
    first_s = room.show(paper.between)
    clock = _RunClock(room, first_s if start_s is None else start_s)
    room.take()
    n_right = 0
    waiting: _Open | None = None
    items: list[Trial | Shown] = sorted([*trials, *shown], key=lambda item: item.onset_s)
    for place, item in enumerate(items):
        next_s = items[place + 1].onset_s if place + 1 < len(items) else float("inf")
        draw = item.draw if isinstance(item, Shown) else paper.stimulus(item)
        flip_s = room.show(draw, clock.at(item.onset_s))
        if waiting is not None:
            n_right += waiting.close(room, flip_s, log)
            waiting = None
        room.forget(flip_s)
        end_s = item.onset_s + item.duration_s
        off_s = clock.at(min(end_s, next_s))
        if next_s - end_s > GAP_S:
            off_s = room.show(paper.between, off_s)
        if isinstance(item, Shown):
            continue
        waiting = _Open(item, choices, flip_s, clock.since(flip_s), off_s - flip_s)
        until_s = clock.at(min(item.closes_s, next_s)) - room.frames.period_s
        answered = room.hold(until_s, until_answered=True)
        if log is None:
            n_right += _tell(room, waiting, clock, paper)
            waiting = None
        elif answered:
            # written at once: everything of it is known
            n_right += waiting.close(room, clock.at(item.closes_s), log)
            waiting = None
    if waiting is not None:
        end_s = clock.at(waiting.trial.closes_s)
        room.hold(end_s)
        n_right += waiting.close(room, end_s, log)
    return n_right


class _RunClock:
    """Times of the run on the host clock, which may be set while it lasts."""

    def __init__(self, room: Room, start_s: float) -> None:
        self._room, self._start_s = room, start_s

    def at(self, since_s: float) -> float:
        """Host time of a time of the run."""
        self._start_s += self._room.frames.take_clock_step_s()
        return self._start_s + since_s

    def since(self, host_s: float) -> float:
        """Time of the run of a host time."""
        return host_s - self._start_s

    def delay(self, seconds: float) -> None:
        """Move all that follows."""
        self._start_s += seconds


@dataclass
class _Open:
    """A trial that may still be answered; `response` is what it was answered with, once closed."""

    trial: Trial
    choices: Sequence[str]
    flip_s: float
    onset_s: float
    duration_s: float
    response: str | None = None

    def close(self, room: Room, end_s: float, log: EventLog | None) -> bool:
        """Write it with the first key before `end_s`; whether it was answered right."""
        end_s = min(end_s, self.flip_s + self.trial.closes_s - self.trial.onset_s)
        heard = room.take()
        room.put_back([press for press in heard if press.time_s >= end_s])
        valid = [press for press in heard if self.flip_s <= press.time_s < end_s]
        press = valid[0] if valid else None
        if press is not None:
            self.response = self.choices[room.config.keys.index(press.name)]
        if log is not None:
            log.trial(
                {
                    "onset": self.onset_s,
                    "duration": self.duration_s,
                    "response_time": None if press is None else press.time_s - self.flip_s,
                    "response": self.response,
                    "answer": self.trial.answer,
                    "correct": self.response == self.trial.answer,
                    **self.trial.columns,
                }
            )
        return self.response == self.trial.answer


def _tell(room: Room, trial: _Open, clock: _RunClock, paper: Paper) -> bool:
    """Feedback after a practice trial; later trials wait for it."""
    before_s = room.frames.expected_unix_s()
    right = trial.close(room, before_s, None)
    words = TOO_LATE if trial.response is None else RIGHT if right else WRONG
    look = room.pen.look
    colour = look.level if right else look.sign
    flip_s = room.show(lambda: room.pen.write(words, FEEDBACK_SIZE, 0.0, colour))
    room.show(paper.between, flip_s + FEEDBACK_S)
    clock.delay(room.frames.expected_unix_s() - before_s)
    return right
