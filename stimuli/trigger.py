"""Scanner pulses and keys: what the scanner room sends to the participant's computer.

Every source answers `poll()` with the pulses since the last call, numbered from 1 and timed on the
host clock (Unix seconds): a keyboard-like trigger box, a serial line, or an emulation that keeps a
fixed TR against absolute deadlines. A device that is missing is an error when it is opened; pulses
that never come are told once, by `AbsenceWatch`, while the run goes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from rtloop.errors import TriggerError
from rtloop.wire import Trigger
from stimuli.window import psychopy_to_unix_s

if TYPE_CHECKING:
    from psychopy.hardware.keyboard import Keyboard as PsychoPyKeyboard
    from psychopy.hardware.keyboard import KeyPress

__all__ = [
    "AbsenceWatch",
    "EmulatedTriggers",
    "Keyboard",
    "KeyboardTriggers",
    "Press",
    "SerialTriggers",
    "TriggerConfig",
    "Triggers",
    "open_triggers",
]

MAX_PORT = 50
"""Characters of a port's name that are kept in a source's name."""

ALIASES = {"=": "equal"}
"""Characters whose key PsychoPy calls by a name."""


class TriggerConfig(BaseModel):
    """Where pulses come from.

    `keys` are PsychoPy's key names (keyboard), `codes` the bytes that count (serial; empty for any
    byte), `tr_s` and `start_s` (Unix seconds, None for the display's start) the emulated pulses.
    `absent_after_s` after the run began without a pulse, that is reported.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["none", "keyboard", "serial", "emulated"] = "none"
    keys: tuple[str, ...] = ("5", "num_5", "t", "=")
    port: str | None = None
    baud: int = Field(115200, gt=0)
    codes: str = ""
    tr_s: PositiveFloat | None = None
    start_s: float | None = None
    absent_after_s: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _complete(self) -> TriggerConfig:
        needed = {"serial": "port", "emulated": "tr_s"}.get(self.kind)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"a trigger of kind {self.kind!r} needs `{needed}`")
        return self


@dataclass(frozen=True, slots=True)
class Press:
    """One key going down, Unix seconds."""

    name: str
    time_s: float


class Triggers(Protocol):
    """A source of pulses; `source` names it, `fault` says why it has ended, if it has."""

    source: str
    fault: str | None

    def poll(self) -> list[Trigger]:
        """Pulses since the last call."""
        ...

    def close(self) -> None:
        """Give the device back."""
        ...


def open_triggers(config: TriggerConfig, keyboard: Keyboard) -> Triggers | None:
    """The configured source, None for none.

    Raises
    ------
    TriggerError
        If the serial device cannot be opened.
    """
    if config.kind == "keyboard":
        return KeyboardTriggers(keyboard, config.keys)
    if config.kind == "serial" and config.port is not None:
        return SerialTriggers(config.port, config.baud, config.codes)
    if config.kind == "emulated" and config.tr_s is not None:
        start_s = time.time() if config.start_s is None else config.start_s
        return EmulatedTriggers(config.tr_s, start_s)
    return None


class Keyboard:
    """All keyboards as one, by PsychoPy's best backend; needs an open window.

    "ptb" (Psychtoolbox) times a press when the system sees it. Without it, "event" (the window's
    own events) times a press when it is read: up to a frame late, and only with the window in
    focus. Of PsychoPy 2026.2.5, `Keyboard` with the event backend loses all but the first of
    several presses in one call, so `psychopy.event` is read directly there.

    Parameters
    ----------
    names : iterable of str
        Keys to keep; the others are forgotten.
    backend : str or None
        "ptb", "event", or None for the best one there is.
    """

    def __init__(self, names: Iterable[str] = (), backend: str | None = None) -> None:
        self._names = frozenset(ALIASES.get(name, name) for name in names)
        self._waiting: list[Press] = []
        self._down: list[KeyPress] = []
        self._device = None if backend == "event" else _psychtoolbox_keyboard()
        self.backend: Literal["ptb", "event"] = "event" if self._device is None else "ptb"

    def take(self, names: Iterable[str]) -> list[Press]:
        """Presses of these keys since they were last taken, oldest first."""
        wanted = {ALIASES.get(name, name) for name in names}
        self._waiting += [press for press in self._read() if press.name in self._names]
        taken = [press for press in self._waiting if press.name in wanted]
        self._waiting = [press for press in self._waiting if press.name not in wanted]
        return taken

    def close(self) -> None:
        """Stop listening."""
        if self._device is not None:
            self._device.stop()

    def _read(self) -> list[Press]:
        if self._device is None:
            from psychopy import event

            return [
                Press(name, psychopy_to_unix_s(time_s))
                for name, time_s in event.getKeys(timeStamped=True)
            ]
        return [
            Press(press.name, psychopy_to_unix_s(press.tDown))
            for press in self._presses(self._device)
        ]

    def _presses(self, device: PsychoPyKeyboard) -> list[KeyPress]:
        """Keys that went down, each once. PsychoPy tells each again when it is released, as the
        same object, and one pressed and released between two calls only then. A release may also
        come between the two calls made here."""
        pressed = device.getKeys(waitRelease=False)
        released = device.getKeys(waitRelease=True)
        known = [id(press) for press in self._down + pressed]
        brief = [press for press in released if id(press) not in known]
        self._down = [p for p in self._down + pressed if not any(p is r for r in released)]
        return sorted(pressed + brief, key=lambda press: float(press.tDown))


def _psychtoolbox_keyboard() -> PsychoPyKeyboard | None:
    """PsychoPy's keyboard on Psychtoolbox; None where that cannot be had."""
    from psychopy.hardware import keyboard

    if not keyboard.havePTB:
        return None
    try:
        return keyboard.Keyboard(backend="ptb")
    except Exception:  # Psychtoolbox raises errors of its own, such as for missing rights
        return None


class KeyboardTriggers:
    """Pulses of a trigger box that types, such as "5" or "t" once per volume."""

    def __init__(self, keyboard: Keyboard, keys: Iterable[str]) -> None:
        self.source = f"keyboard ({keyboard.backend})"
        self.fault: str | None = None
        self._keyboard, self._keys = keyboard, tuple(keys)
        self._count = 0

    def poll(self) -> list[Trigger]:
        pulses = []
        for press in self._keyboard.take(self._keys):
            self._count += 1
            pulses.append(Trigger(self._count, press.time_s, self.source))
        return pulses

    def close(self) -> None:
        """Nothing to give back: the keyboard belongs to the display."""


class SerialTriggers:
    """Pulses as bytes on a serial line, timed by a thread that waits for them.

    Parameters
    ----------
    port : str
        Device, such as /dev/ttyUSB0 or COM3.
    baud : int
        Bits per second.
    codes : str
        Characters that count as a pulse; empty for any byte.

    Raises
    ------
    TriggerError
        If the device is missing or cannot be opened.
    """

    def __init__(self, port: str, baud: int = 115200, codes: str = "") -> None:
        import serial

        # Device names by id are long; their end tells them apart.
        self.source = f"serial ({port[-MAX_PORT:]})"
        self.fault: str | None = None
        self._codes = codes.encode("latin-1")
        self._pulses: deque[float] = deque()
        self._count = 0
        try:
            self._line = serial.Serial(port, baud, timeout=0.2)
        except (serial.SerialException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise TriggerError(
                f"expected a trigger device at {port}, found: {reason}; plug it in, correct "
                "`trigger.port`, or set trigger.kind to 'keyboard'"
            ) from error
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="serial triggers", daemon=True)
        self._reader.start()

    def poll(self) -> list[Trigger]:
        pulses = []
        while self._pulses:
            self._count += 1
            pulses.append(Trigger(self._count, self._pulses.popleft(), self.source))
        return pulses

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError, AttributeError):  # the device may be gone already
            self._line.cancel_read()
        self._reader.join()
        self._line.close()

    def _read(self) -> None:
        import serial

        try:
            while not self._stop.is_set():
                received = self._line.read(1)
                now_s = time.time()
                received += self._line.read(self._line.in_waiting)
                counted = [b for b in received if not self._codes or b in self._codes]
                self._pulses.extend([now_s] * len(counted))
        except (serial.SerialException, OSError) as error:
            reason = " ".join(str(error).split())
            self.fault = f"trigger: {self.source} was lost ({reason}); check its cable"


class EmulatedTriggers:
    """Pulses without a scanner: at `start_s + k·tr_s`, however late they are polled, and by
    `feed`.

    Parameters
    ----------
    tr_s : float or None
        Time between pulses, seconds; None for fed pulses only.
    start_s : float
        Time of the first one, Unix seconds.
    clock : callable
        Host clock; a parameter for the tests.
    """

    source = "emulated"

    def __init__(
        self,
        tr_s: float | None = None,
        start_s: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.fault: str | None = None
        self._tr_s, self._start_s, self._clock = tr_s, start_s, clock
        self._n_timed = 0
        self._fed: list[float] = []
        self._count = 0

    def feed(self, time_s: float) -> None:
        """One more pulse, Unix seconds."""
        self._fed.append(time_s)

    def poll(self) -> list[Trigger]:
        times_s, self._fed = self._fed, []
        if self._tr_s is not None:
            now_s = self._clock()
            while (due_s := self._start_s + self._n_timed * self._tr_s) <= now_s:
                times_s.append(due_s)
                self._n_timed += 1
        pulses = []
        for time_s in sorted(times_s):
            self._count += 1
            pulses.append(Trigger(self._count, time_s, self.source))
        return pulses

    def close(self) -> None:
        """Nothing to give back."""


class AbsenceWatch:
    """Tells once if no pulse came within `absent_after_s` of the run's start."""

    def __init__(self, source: str, absent_after_s: float) -> None:
        self._source, self._absent_after_s = source, absent_after_s
        self._started_s: float | None = None
        self._done = False

    def start(self, now_s: float) -> None:
        """The run has begun (only the first call counts), seconds on any one clock."""
        if self._started_s is None:
            self._started_s = now_s

    def seen(self) -> None:
        """A pulse has come."""
        self._done = True

    def fault(self, now_s: float) -> str | None:
        """The line for the record when it is due, None before and after."""
        if self._done or self._started_s is None:
            return None
        if now_s - self._started_s < self._absent_after_s:
            return None
        self._done = True
        return (
            f"trigger: expected scanner pulses from {self._source}, found none within "
            f"{self._absent_after_s:g} s of the run's start; check the box, its cable and `trigger`"
        )
