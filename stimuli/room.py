"""Where a task takes place: settings, the window with its clock, and the keys.

Whatever is shown is shown by `Room.show`, at a host time, and told with the time of its flip;
keys are heard whenever the room waits. The quit key, SIGTERM and SIGINT raise `Stopped`.
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
from stimuli.pen import Look, Pen
from stimuli.trigger import Keyboard, Press
from stimuli.window import Frames, finish_drawing, open_window, renderer

if TYPE_CHECKING:
    from psychopy.visual import Window

__all__ = ["Config", "Draw", "Room", "Stopped", "TaskConfig", "read_task"]

Draw = Callable[[], None]

KEY_POLL_S = 0.001
"""How often keys are read while waiting where a press is timed by its reading."""

PAGE_SIZE = 0.048


class TaskConfig(BaseModel):
    """What every task is told; unknown entries are errors.

    `keys` are PsychoPy's key names, one a choice, in the order of the task's choices, and none that
    starts or ends the run; a response box that types is a keyboard. `start_keys` start the run (a
    scanner's pulse such as "5" or "t", or a key); `keyboard` is PsychoPy's backend, None for the
    best there is. `seed` fixes the order of trials; None takes one from participant, session and
    run.
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
        if "" in self.keys:
            raise ValueError(f"each key by its name, found none in {', '.join(self.keys)!r}")
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"each key once, found {', '.join(self.keys)}")
        both = set(self.keys) & set(self.quit_keys)
        if both:
            raise ValueError(f"a key that answers cannot quit, found {', '.join(sorted(both))}")
        both = set(self.keys) & set(self.start_keys)
        if both:
            raise ValueError(
                f"a key that answers cannot start the run, as {', '.join(self.start_keys)} do (the"
                f" scanner's pulse among them), found {', '.join(sorted(both))}"
            )
        return self


Config = TypeVar("Config", bound=TaskConfig)


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
        """Open the window and the keyboard; `undo` takes what has to be closed.

        Raises
        ------
        DisplayError
            If no window can be opened.
        ConfigError
            If the keyboard has no key of a name in `config.keys`.
        """
        window = open_window(config.size, config.screen, config.fullscreen, look.background)
        undo.callback(window.close)
        names = (*config.keys, *config.start_keys, *config.quit_keys)
        keyboard = Keyboard(names, config.keyboard)
        undo.callback(keyboard.close)
        unknown = [name for name in config.keys if not _is_key(name, keyboard.backend)]
        if unknown:
            raise ConfigError(
                "task: keys: expected PsychoPy's names of keys, such as 1, a, num_1 or left, found"
                f" {', '.join(unknown)}, which the keyboard never tells; correct its options"
            )
        frames = Frames(window, software_paced=config.software_paced)
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


def _is_key(name: str, backend: str) -> bool:
    """Whether there are presses of this name."""
    if backend == "ptb":
        from psychopy.hardware.keyboard import keyNames

        return name in keyNames.values()
    from pyglet.window import key

    # as psychopy.event makes them of pyglet's: "5" of _5, "return" of ENTER, and where pyglet has
    # no name for a key, the letter it types
    told = {
        key.symbol_string(value).lower().lstrip("_")
        for symbol, value in vars(key).items()
        if isinstance(value, int) and not symbol.startswith(("MOD_", "MOTION_"))
    }
    letter = len(name) == 1 and not name.isascii() and name == name.lower()
    return letter or name in told - {"enter"} | {"return"}
