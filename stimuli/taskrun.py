"""One run of a reaction-time task: pictures at absolute times, responses timed against the flip.

Every picture is due at a time from the run's start, so that lateness of one never moves another.
It is drawn for the first flip that is due then or later, less half a frame, and a response time
is the key's time less the time of the flip that showed the stimulus, both on PsychoPy's clock. A
trial takes the first response key between its own flip and the next trial's. `stroop` and
`matching` say what is shown and when; this module shows it, listens, and writes each trial as it
closes. The quit key, SIGTERM and SIGINT end the run after the coming flip; what was recorded stays.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from rtloop import __version__
from rtloop.errors import ConfigError
from stimuli.eventlog import EventLog
from stimuli.pen import Look, Pen
from stimuli.trigger import Keyboard, Press
from stimuli.window import Frames, finish_drawing, open_window, renderer

if TYPE_CHECKING:
    from psychopy.visual import Window

__all__ = [
    "Draw",
    "Paper",
    "Room",
    "Shown",
    "Stopped",
    "TaskConfig",
    "Trial",
    "read_task",
    "run_trials",
]

Draw = Callable[[], None]

KEY_POLL_S = 0.001
"""How often keys are read while waiting where a press is timed by its reading."""

RATES_HZ = (20.0, 370.0)
"""Frame rates of screens."""

GAP_S = 0.05
"""Shortest time between two pictures for which the screen in between is shown."""

FEEDBACK_S = 0.8
PAGE_SIZE = 0.048
FEEDBACK_SIZE = 0.06


class TaskConfig(BaseModel):
    """What every task is told; unknown entries are errors.

    `keys` are PsychoPy's key names, one a choice, in the order of the task's choices; a response
    box that types is a keyboard. `start_keys` start the run (a scanner's pulse such as "5" or "t",
    or a key); `keyboard` is PsychoPy's backend, None for the best there is. `seed` fixes the order
    of trials; None takes one from participant, session and run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    participant: Annotated[str, Field(min_length=1)]
    session: Annotated[str, Field(min_length=1)] = "1"
    out: Path
    keys: tuple[str, ...]
    start_keys: tuple[str, ...] = ("5", "t", "space", "return")
    quit_keys: tuple[str, ...] = ("escape",)
    practice: bool = False
    screen: int = Field(0, ge=0)
    size: tuple[PositiveInt, PositiveInt] = (1024, 768)
    fullscreen: bool = True
    software_paced: bool = False
    keyboard: Literal["ptb", "event"] | None = None
    seed: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _distinct(self) -> TaskConfig:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"each key once, found {', '.join(self.keys)}")
        both = set(self.keys) & set(self.quit_keys)
        if both:
            raise ValueError(f"a key that answers cannot quit, found {', '.join(sorted(both))}")
        return self


Config = TypeVar("Config", bound=TaskConfig)


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
    """How one task looks: trials and the time between them.

    `feedback` are the words after a practice trial: right, wrong, too late.
    """

    stimulus: Callable[[Trial], Draw]
    between: Draw
    feedback: tuple[str, str, str] = ("Correct", "Wrong", "Too slow")


class Stopped(Exception):
    """The quit key was pressed, or the program was told to end."""


@dataclass
class Room:
    """The window, its clock and the keys, for as long as a task lasts; made by `open`."""

    window: Window
    pen: Pen
    frames: Frames
    keyboard: Keyboard
    config: TaskConfig
    _presses: list[Press] = field(default_factory=list)
    _ending: bool = False
    _shown: Draw | None = None

    @classmethod
    def open(cls, config: TaskConfig, look: Look, undo: contextlib.ExitStack) -> Room:
        """Open the window and the keyboard; `undo` takes what has to be closed."""
        window = open_window(config.size, config.screen, config.fullscreen, look.background)
        undo.callback(window.close)
        names = (*config.keys, *config.start_keys, *config.quit_keys)
        keyboard = Keyboard(names, config.keyboard)
        undo.callback(keyboard.close)
        frames = Frames(window, software_paced=config.software_paced)
        if not RATES_HZ[0] <= frames.rate_hz <= RATES_HZ[1]:
            # no screen: flips that return at once were taken for waiting ones on a busy machine
            frames = Frames(window, software_paced=True)
        room = cls(window, Pen(window, look), frames, keyboard, config)
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, room.end)
            undo.callback(signal.signal, number, before)
        return room

    def end(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Leave after the next flip; a signal handler."""
        self._ending = True

    def about(self) -> dict[str, Any]:
        """How it was measured, for the events' JSON."""
        width, height = (int(length) for length in self.window.size)
        return {
            "StimulusPresentation": {
                "SoftwareName": "fcnef",
                "SoftwareVersion": __version__,
                "KeyboardBackend": self.keyboard.backend,
                "ScreenRefreshRate": round(self.frames.rate_hz, 3),
                "ScreenResolution": [width, height],
                "Pacing": self.frames.pacing,
                "Renderer": renderer(self.window),
            },
        }

    def show(self, draw: Draw, at_s: float | None = None) -> float:
        """Show a picture at a host time (Unix s), or with the next flip; the time of its flip."""
        if at_s is not None:
            self.hold(at_s)
        draw()
        if self.frames.pacing == "software-paced":
            finish_drawing()
        flip_s = self.frames.flip()
        self._shown = draw
        return flip_s

    def hold(self, until_s: float, until_answered: bool = False) -> bool:
        """Keep what is shown, and listen, until the coming flip is the one due at `until_s`.

        With `until_answered` no longer than until a response key was pressed, which is told.
        """
        while self.frames.expected_unix_s() < until_s - self.frames.period_s / 2:
            self._listen()
            if until_answered and self.waiting():
                return True
            if self.frames.pacing == "software-paced":
                self.frames.skip()
            else:
                if self._shown is not None:
                    self._shown()
                self.frames.flip()
        self._listen()
        return False

    def take(self) -> list[Press]:
        """Presses of response keys since they were last taken, oldest first."""
        self._hear()
        taken = self.waiting()
        self._presses = [press for press in self._presses if press.name not in self.config.keys]
        return sorted(taken, key=lambda press: press.time_s)

    def waiting(self) -> list[Press]:
        """Presses of response keys that were not taken yet."""
        return [press for press in self._presses if press.name in self.config.keys]

    def forget(self, before_s: float) -> None:
        """Presses before this time were answers to nothing."""
        self._presses = [press for press in self._presses if press.time_s >= before_s]

    def put_back(self, presses: Sequence[Press]) -> None:
        """Presses that belong to what comes next."""
        self._presses = [*presses, *self._presses]

    def await_key(self, draw: Draw, names: Sequence[str]) -> Press:
        """Show a page until one of these keys is pressed."""
        self._hear()
        self._presses.clear()
        self.show(draw)
        while True:
            self.hold(self.frames.expected_unix_s() + self.frames.period_s)
            for press in self._presses:
                if press.name in names:
                    self._presses.clear()
                    return press

    def page(self, text: str) -> Draw:
        """A page of text."""
        return lambda: self.pen.write(text, PAGE_SIZE, 0.0, self.pen.look.ink)

    def _listen(self) -> None:
        """Hear keys until the coming flip has to be drawn."""
        pause_s = KEY_POLL_S if self.keyboard.backend == "event" else self.frames.period_s
        while True:
            self._hear()
            left_s = self.frames.latch_s() - time.monotonic()
            if left_s <= 0.0:
                return
            time.sleep(min(left_s, pause_s))

    def _hear(self) -> None:
        names = (*self.config.keys, *self.config.start_keys, *self.config.quit_keys)
        for press in self.keyboard.take(dict.fromkeys(names)):
            if press.name in self.config.quit_keys:
                self._ending = True
            self._presses.append(press)
        if self._ending:
            raise Stopped


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
    items = sorted([*trials, *shown], key=lambda item: item.onset_s)
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
    """A trial that may still be answered."""

    trial: Trial
    choices: Sequence[str]
    flip_s: float
    onset_s: float
    duration_s: float

    def close(self, room: Room, end_s: float, log: EventLog | None) -> bool:
        """Write it with the first key before `end_s`; whether it was answered right."""
        end_s = min(end_s, self.flip_s + self.trial.closes_s - self.trial.onset_s)
        heard = room.take()
        room.put_back([press for press in heard if press.time_s >= end_s])
        valid = [press for press in heard if self.flip_s <= press.time_s < end_s]
        press = valid[0] if valid else None
        response = None if press is None else self.choices[room.config.keys.index(press.name)]
        if log is not None:
            log.trial(
                {
                    "onset": self.onset_s,
                    "duration": self.duration_s,
                    "response_time": None if press is None else press.time_s - self.flip_s,
                    "response": response,
                    "answer": self.trial.answer,
                    "correct": response == self.trial.answer,
                    **self.trial.columns,
                }
            )
        return response == self.trial.answer


def _tell(room: Room, trial: _Open, clock: _RunClock, paper: Paper) -> bool:
    """Feedback after a practice trial; later trials wait for it."""
    before_s = room.frames.expected_unix_s()
    answered = any(press.time_s >= trial.flip_s for press in room.waiting())
    right = trial.close(room, before_s, None)
    words = paper.feedback[0 if right else 1] if answered else paper.feedback[2]
    look = room.pen.look
    colour = look.level if right else look.sign
    flip_s = room.show(lambda: room.pen.write(words, FEEDBACK_SIZE, 0.0, colour))
    room.show(paper.between, flip_s + FEEDBACK_S)
    clock.delay(room.frames.expected_unix_s() - before_s)
    return right


def read_task(model: type[Config], entries: Mapping[str, Any]) -> Config:
    """Settings of a task, checked.

    Raises
    ------
    ConfigError
        Naming every wrong entry.
    """
    try:
        return model.model_validate(dict(entries))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, entry['loc'])) or 'task'}: {entry['msg']}"
            for entry in error.errors()
        )
        raise ConfigError(f"task: {wrong}; correct its options") from error
