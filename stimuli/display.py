"""The participant's feedback window, a process of its own: `python -m stimuli.display --config J`.

Each frame: take the newest feedback until shortly before the flip, draw what is due, flip, report.
Every message that reached the screen is reported once with the time of the flip that first showed
it; one whose time was over is reported as expired and never drawn. What `screenplay` decides,
`scenes` draws and `window` times, this module wires to the loop's endpoints, to triggers and to
the keys by which the participant can stop. J is JSON or the path of a JSON file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from rtloop.errors import ConfigError, DisplayError, FcnefError, WireError
from rtloop.link import Listener, Reporter
from rtloop.wire import Command, Feedback, Scene
from stimuli.capture import Capture
from stimuli.pen import Look
from stimuli.scenes import Picture, Scenes
from stimuli.screenplay import Screenplay
from stimuli.trigger import AbsenceWatch, Keyboard, TriggerConfig, Triggers, open_triggers
from stimuli.window import Frames, finish_drawing, open_window, renderer

__all__ = ["Display", "DisplayConfig", "main"]

MAX_NOTE = 1000
"""Longest line for the record, characters."""

REDRAW_S = 0.5
"""Where flips do not wait for a screen, a picture that has not changed is drawn this often only:
software rendering costs the loop on the same processor a quarter of a core otherwise."""

KEY_POLL_S = 0.002
"""How often keys are read while waiting, where a press is timed by its reading."""

PARENT_CHECK_S = 0.5
"""How often it is looked whether the program that started this one still lives."""


class DisplayConfig(BaseModel):
    """Everything the display is told when it starts; unknown entries are errors.

    `keys` is the file of this program's CURVE keys, None on loopback.
    `software_paced` keeps the frame rate by the clock where flips do not wait for a screen (Xvfb);
    it is found by itself, too, and always told in the record. `keyboard` is PsychoPy's backend:
    "ptb" hears every keyboard of the machine and times presses best, "event" hears the window
    alone, for a machine on which the operator types; None takes the first there is.
    `silence_s` without a message sets the hold sign, twice as long the neutral screen. Screenshots
    of `capture_scenes` are written to `capture_folder`, at most `capture_max`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    feedback: str
    reports: str
    keys: Path | None = None
    screen: int = Field(0, ge=0)
    size: tuple[PositiveInt, PositiveInt] = (1024, 768)
    fullscreen: bool = False
    look: Look = Look()
    frame_rate_hz: PositiveFloat | None = None
    software_paced: bool = False
    silence_s: PositiveFloat | None = 5.0
    stop_keys: tuple[str, ...] = ("escape",)
    keyboard: Literal["ptb", "event"] | None = None
    trigger: TriggerConfig = TriggerConfig()
    capture_folder: Path | None = None
    capture_scenes: tuple[Scene, ...] = (
        "wait", "rest", "instruction", "fixation", "feedback", "score", "hold", "neutral", "end",
    )  # fmt: skip
    capture_max: int = Field(20, ge=0)
    exit_with_parent: bool = True
    parent_pid: PositiveInt | None = None
    """Process with whose end the display leaves; None for the one that started it. Opening a
    window takes seconds, in which that one may die."""


def main(config: DisplayConfig) -> int:
    """Show feedback until told to end (SIGTERM, SIGINT, the parent's death).

    Returns
    -------
    int
        0, or 1 when the window was lost: the display is worth starting again.

    Raises
    ------
    DisplayError
        If no window can be opened.
    TriggerError
        If the trigger device is missing.
    """
    with contextlib.ExitStack() as undo:
        display = Display(config, undo)
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, display.end)
            undo.callback(signal.signal, number, before)
        try:
            display.run()
        except WindowLostError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


class WindowLostError(DisplayError):
    """Raised when drawing or flipping fails in a window that had been opened."""


class Display:
    """One window and its loop.

    Parameters
    ----------
    config : DisplayConfig
        Settings.
    undo : contextlib.ExitStack
        Takes what has to be closed: window, sockets, trigger device.
    """

    def __init__(self, config: DisplayConfig, undo: contextlib.ExitStack) -> None:
        self._config = config
        self._parent = os.getppid() if config.parent_pid is None else config.parent_pid
        self._parent_checked_s = time.monotonic()
        self._ending = False
        self._window = open_window(
            config.size, config.screen, config.fullscreen, config.look.background
        )
        undo.callback(self._window.close)
        self._scenes = Scenes(self._window, config.look)
        self._keyboard = Keyboard((*config.stop_keys, *config.trigger.keys), config.keyboard)
        undo.callback(self._keyboard.close)
        self._triggers = open_triggers(config.trigger, self._keyboard)
        if self._triggers is not None:
            undo.callback(self._triggers.close)
        self._absence = AbsenceWatch(_source(self._triggers), config.trigger.absent_after_s)
        self._listener = undo.enter_context(
            contextlib.closing(Listener(config.feedback, newest_only=True, keys=config.keys))
        )
        self._reporter = undo.enter_context(
            contextlib.closing(Reporter(config.reports, keys=config.keys))
        )
        self._trouble = ""
        self._capture = undo.enter_context(
            contextlib.closing(
                Capture(config.capture_folder, config.capture_scenes, config.capture_max)
            )
        )
        self._screenplay = Screenplay(config.silence_s)
        self._frames = Frames(self._window, config.frame_rate_hz, config.software_paced)
        self._drawn: Picture | None = None
        self._drawn_s = 0.0

    def end(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Leave after the next flip; a signal handler."""
        self._ending = True

    def run(self) -> None:
        """Frame after frame until `end`, then a neutral screen."""
        self._note(self._opening())
        while not self._ending:
            self._gather()
            self._show(self._screenplay.due(self._frames.expected_unix_s()))
            self._watch()
        self._show(Picture("neutral"))
        self._note(self._closing())

    def _gather(self) -> None:
        """Take messages, pulses and keys until the coming flip has to be drawn."""
        while True:
            left_s = self._frames.latch_s() - time.monotonic()
            if self._keyboard.backend == "event":
                left_s = min(left_s, KEY_POLL_S)
            self._receive(max(0.0, left_s))
            self._hear_keys()
            if self._ending or time.monotonic() >= self._frames.latch_s():
                return

    def _receive(self, timeout_s: float) -> None:
        try:
            message = self._listener.receive(timeout_s)
        except WireError as error:
            # Another release talks to us: what cannot be read is not shown, the screen goes on.
            self._complain(str(error))
            return
        if isinstance(message, Feedback):
            self._screenplay.take(message, time.time())

    def _hear_keys(self) -> None:
        for press in self._keyboard.take(self._config.stop_keys):
            if not self._screenplay.stopped:
                text = f"participant pressed {press.name}"
                self._reporter.send(Command("stop", "participant", text, press.time_s))
            self._screenplay.stop()
        for pulse in self._triggers.poll() if self._triggers else ():
            self._absence.seen()
            self._reporter.send(pulse)

    def _show(self, picture: Picture) -> None:
        if self._is_shown(picture):
            self._frames.skip()
            self._report()
            return
        try:
            self._scenes.draw(picture)
            self._capture.look(self._window, picture)
            if self._frames.pacing == "software-paced":
                finish_drawing()
            flip_s = self._frames.flip()
        except Exception as error:  # drivers and window systems raise what they like
            self._screenplay.failed(time.time())
            self._report()
            raise WindowLostError(
                f"expected the participant's window, found it lost ({error}); start it again"
            ) from error
        self._screenplay.flipped(picture, flip_s)
        self._report()
        self._drawn, self._drawn_s = picture, time.monotonic()

    def _is_shown(self, picture: Picture) -> bool:
        """Whether the screen shows just this, and nothing has to be told of another flip."""
        fresh = time.monotonic() - self._drawn_s < REDRAW_S
        unpaced = self._frames.pacing == "software-paced"
        return unpaced and fresh and picture == self._drawn and not self._screenplay.pending

    def _report(self) -> None:
        for shown in self._screenplay.take_reports():
            self._reporter.send(shown)
        for note in self._screenplay.take_notes():
            self._note(note)

    def _watch(self) -> None:
        """What is looked at once per frame besides the picture."""
        now_s = time.monotonic()
        if self._triggers is not None:
            if self._screenplay.started:
                self._absence.start(now_s)
            if absent := self._absence.fault(now_s):
                self._note(absent)
            if self._triggers.fault:
                self._note(self._triggers.fault)
                self._triggers.fault = None
        self._complain(self._listener.trouble or self._reporter.trouble)
        if step_s := self._frames.take_clock_step_s():
            self._note(f"display: host clock was set by {step_s:+.3f} s")
        if self._config.exit_with_parent and now_s - self._parent_checked_s > PARENT_CHECK_S:
            # Not PR_SET_PDEATHSIG: that fires when the starting *thread* ends.
            self._parent_checked_s = now_s
            self._ending |= os.getppid() != self._parent

    def _note(self, text: str) -> None:
        self._reporter.send(Command("note", "supervisor", text[:MAX_NOTE], time.time()))

    def _complain(self, trouble: str) -> None:
        """Say once what is wrong with the connection: on the terminal, too, for a note may not
        get through."""
        if trouble and trouble != self._trouble:
            print(f"display: {trouble}", file=sys.stderr, flush=True)
            self._note(f"display: {trouble}")
        self._trouble = trouble or self._trouble

    def _opening(self) -> str:
        width, height = self._window.size
        frames = self._frames
        return (
            f"display: {width}x{height} on screen {self._config.screen}, {frames.rate_hz:.2f} Hz "
            f"{frames.pacing}, {renderer(self._window)}, style {self._config.look.style}, "
            f"keyboard backend {self._keyboard.backend}, triggers {_source(self._triggers)}"
        )

    def _closing(self) -> str:
        frames = self._frames
        return (
            f"display: closed after {frames.n_frames} frames, {frames.n_dropped} dropped, "
            f"{frames.pacing}"
        )


def _source(triggers: Triggers | None) -> str:
    return "none" if triggers is None else triggers.source


def read_config(text: str) -> DisplayConfig:
    """Settings from JSON, or from the JSON file at that path.

    Raises
    ------
    ConfigError
        If it is no JSON or has a wrong entry; all are named.
    """
    try:
        if not text.lstrip().startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        return DisplayConfig.model_validate_json(text)
    except OSError as error:
        raise ConfigError(f"display: expected a JSON file, found: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, entry['loc'])) or 'JSON'}: {entry['msg']}"
            for entry in error.errors()
        )
        raise ConfigError(f"display: {wrong}; correct the display's options") from error


def command_line(arguments: list[str]) -> int:
    """`python -m stimuli.display`; 2 and one line on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m stimuli.display", description=__doc__)
    parser.add_argument("--config", required=True, help="settings: JSON, or the path of a file")
    parser.add_argument("--print-config", action="store_true", help="print them and end")
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config)
        if options.print_config:
            print(json.dumps(config.model_dump(mode="json"), indent=2))
            return 0
        return main(config)
    except FcnefError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    status = command_line(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything of ours is closed; tidying up PsychoPy's modules takes a second of the loop's time.
    os._exit(status)
