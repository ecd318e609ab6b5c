"""The participant's window: opened without decoration, flipped at a known pace, timed on the host
clock.

PsychoPy is imported only after a screen was found, because its import opens a window of its own
and fails without one. Its flip time is taken when the graphics driver has released the drawn
buffer (`glFinish` after the swap); it becomes Unix time by adding the difference of the two clocks
read immediately after the flip, so that it can be compared with the times in every other message.
`python -m stimuli.window --flips 120` measures this screen and prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rtloop.errors import DisplayError, FcnefError

if TYPE_CHECKING:
    from psychopy.visual import Window

__all__ = [
    "SOFTWARE_RATE_HZ",
    "Clocks",
    "Frames",
    "finish_drawing",
    "open_window",
    "psychopy_to_unix_s",
    "renderer",
    "time_flips",
]

SOFTWARE_RATE_HZ = 60.0
"""Pace that is kept in software where flips do not wait for the screen."""

SCREEN_RATES_HZ = (20.0, 370.0)
"""Frame rates that screens have: flips at another one do not wait for a screen, even where a busy
machine lets it look so."""

DRAW_SHARE = 0.4
"""Last part of a frame that is kept for drawing: what arrives before it is still shown by the
coming flip, so that a message waits at most 1.4 frames."""

CLOCK_STEP_S = 0.005
"""Smallest jump of the host clock against the monotonic one that is reported."""

Pacing = Literal["vertical sync", "software-paced"]


def open_window(
    size: tuple[int, int] = (1024, 768),
    screen: int = 0,
    fullscreen: bool = False,
    background: str = "#20242A",
) -> Window:
    """A plain window in pixel units, origin in its centre, mouse hidden.

    Parameters
    ----------
    size : tuple of int
        Width and height, pixels; a full-screen window takes the screen's own.
    screen : int
        Screen number, from 0.
    fullscreen : bool
        Cover the screen.
    background : str
        Colour, "#RRGGBB".

    Raises
    ------
    DisplayError
        If there is no display, no such screen, no OpenGL, or PsychoPy is not installed.
    """
    available = _screens()
    if not 0 <= screen < len(available):
        numbers = "0" if len(available) == 1 else f"0 to {len(available) - 1}"
        raise DisplayError(
            f"expected screen {screen} for the participant, found {numbers}; set `screen`"
        )
    if fullscreen:
        size = available[screen]
    try:
        return _create(size, screen, fullscreen, background)
    except Exception as error:  # each platform and driver has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DisplayError(
            f"expected an OpenGL window of {size[0]}x{size[1]}, found: {reason}; check the "
            "graphics driver with `fcnef doctor`"
        ) from error


def _screens() -> list[tuple[int, int]]:
    """Sizes of the screens, pixels."""
    try:
        import pyglet
    except ImportError as error:
        raise DisplayError(
            "expected PsychoPy for the participant's screen, found none; pip install fcnef[stimuli]"
        ) from error
    try:
        return [(s.width, s.height) for s in pyglet.canvas.get_display().get_screens()]
    except Exception as error:  # NoSuchDisplayException exists under X11 only
        where = f"DISPLAY={os.environ.get('DISPLAY', '')!r}" if os.name == "posix" else "none"
        raise DisplayError(
            f"expected a display for the participant's screen, found none ({where}); start it in "
            "a graphical session, set DISPLAY, or run it under xvfb-run"
        ) from error


def _create(size: tuple[int, int], screen: int, fullscreen: bool, background: str) -> Window:
    from psychopy import logging, monitors, prefs, visual

    # Nothing on the participant's machine may call home or write on the terminal of the loop.
    prefs.connections["allowUsageStats"] = False
    prefs.connections["checkForUpdates"] = False
    logging.console.setLevel(logging.ERROR)
    monitor = monitors.Monitor("participant", width=50, distance=60, autoLog=False)
    monitor.setSizePix(size)
    return visual.Window(
        size=size,
        screen=screen,
        fullscr=fullscreen,
        monitor=monitor,
        color=background,
        units="pix",
        allowGUI=False,
        waitBlanking=True,
        checkTiming=False,
        winType="pyglet",
        title="fcnef",
        autoLog=False,
    )


def psychopy_to_unix_s(time_s: float) -> float:
    """Host clock (Unix seconds) of a recent time on PsychoPy's clock.

    The clocks' difference is read now, so the time should be at most some seconds old: PsychoPy's
    clock is monotonic on some systems and the host clock itself on others.
    """
    from psychopy import logging

    offset_s, _ = min(
        (_offset(time.time, logging.defaultClock.getTime) for _ in range(3)), key=_gap
    )
    return float(time_s + offset_s)


def _offset(of: Callable[[], float], to: Callable[[], float]) -> tuple[float, float]:
    """Seconds by which one clock is ahead of another, and how long the reading took: on a busy
    machine the process may be set aside between the two."""
    before_s = to()
    there_s = of()
    after_s = to()
    return there_s - (before_s + after_s) / 2, after_s - before_s


def _gap(reading: tuple[float, float]) -> float:
    return reading[1]


@dataclass(frozen=True, slots=True)
class Clocks:
    """How time passes: seconds of a monotonic clock, waiting, the host clock (Unix seconds), and
    PsychoPy's time as the host's."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    host_s: Callable[[], float] = time.time
    to_host_s: Callable[[float], float] = psychopy_to_unix_s


class Frames:
    """Paces a window's flips, times them and counts those that came late.

    The loop of a program is: do something until `latch_s()`, draw, `flip()`.

    Parameters
    ----------
    window : psychopy.visual.Window
        Window to flip; anything with a `flip()` that returns PsychoPy's time.
    rate_hz : float or None
        Frame rate; None measures it, or takes `SOFTWARE_RATE_HZ` where flips do not wait.
    software_paced : bool
        Pace by absolute deadlines on the monotonic clock. Chosen by itself, and said in `pacing`,
        where flips turn out not to wait for the screen.
    clocks : Clocks
        How time passes; other clocks serve the tests.
    """

    def __init__(
        self,
        window: Window,
        rate_hz: float | None = None,
        software_paced: bool = False,
        clocks: Clocks = Clocks(),
    ) -> None:
        self.window = window
        self._clocks = clocks
        measured_hz = None if software_paced else _blocking_rate_hz(window, clocks)
        self.pacing: Pacing = "software-paced" if measured_hz is None else "vertical sync"
        self.rate_hz = rate_hz or measured_hz or SOFTWARE_RATE_HZ
        self.period_s = 1.0 / self.rate_hz
        self.n_frames = 0
        self.n_dropped = 0
        self._clock_step_s = 0.0
        self._flipped_s = clocks.now_s()
        self._deadline_s = self._flipped_s + self.period_s
        self._offset_s, _ = min((_offset(clocks.host_s, clocks.now_s) for _ in range(3)), key=_gap)

    def latch_s(self) -> float:
        """Monotonic time until which the coming flip's content may still change, seconds."""
        return self._deadline_s - DRAW_SHARE * self.period_s

    def expected_unix_s(self) -> float:
        """When the coming flip is due, Unix seconds."""
        return self._clocks.host_s() + max(0.0, self._deadline_s - self._clocks.now_s())

    def flip(self) -> float:
        """Show what was drawn.

        Returns
        -------
        float
            Time of the flip, Unix seconds.
        """
        if self.pacing == "software-paced":
            self._await_deadline()
        flip_s = self._clocks.to_host_s(self.window.flip())
        self._count(self._clocks.now_s())
        return flip_s

    def skip(self) -> None:
        """Let a frame pass without a flip, for a picture that has not changed; only where the
        pace is kept in software, since elsewhere it is the flip that waits."""
        self._await_deadline()
        self._count(self._clocks.now_s())

    def take_clock_step_s(self) -> float:
        """Seconds by which the host clock has been set since the last call, 0 if it was not."""
        step_s, self._clock_step_s = self._clock_step_s, 0.0
        return step_s

    def _await_deadline(self) -> None:
        self._clocks.sleep(max(0.0, self._deadline_s - self._clocks.now_s()))

    def _count(self, now_s: float) -> None:
        if self.n_frames and now_s - self._flipped_s > 1.5 * self.period_s:
            self.n_dropped += round((now_s - self._flipped_s) / self.period_s) - 1
        self.n_frames += 1
        self._flipped_s = now_s
        self._deadline_s = self._next_deadline(now_s)
        offset_s, gap_s = _offset(self._clocks.host_s, self._clocks.now_s)
        if gap_s < CLOCK_STEP_S / 2 and abs(offset_s - self._offset_s) > CLOCK_STEP_S:
            self._clock_step_s += offset_s - self._offset_s
            self._offset_s = offset_s

    def _next_deadline(self, now_s: float) -> float:
        if self.pacing == "vertical sync":
            return now_s + self.period_s
        # Absolute deadlines do not drift; those already missed are left out, never caught up.
        missed = max(0, int((now_s - self._deadline_s) // self.period_s))
        return self._deadline_s + (missed + 1) * self.period_s


def finish_drawing() -> None:
    """Wait until what was drawn is rendered, so that the flip has nothing left to do but show it.

    For a renderer in software, which would start only when the buffers are swapped.
    """
    from pyglet import gl

    gl.glFinish()


def renderer(window: Window) -> str:
    """OpenGL renderer in use, such as "llvmpipe (LLVM 15.0.6, 256 bits)"."""
    del window  # asked for because there is a current OpenGL context only while one is open
    from pyglet.gl import gl_info

    return str(gl_info.get_renderer())


def time_flips(n_flips: int) -> dict[str, Any]:
    """Open a window, flip `n_flips` times at its pace, say how regularly that went.

    Raises
    ------
    DisplayError
        If no window can be opened.
    """
    window = open_window(size=(640, 480))
    try:
        unpaced_ms = 1000 * statistics.median(_intervals_s(window, 30, Clocks()))
        frames = Frames(window)
        times_s = []
        for _ in range(n_flips + 1):
            frames.flip()
            times_s.append(time.monotonic())
        intervals_ms = sorted(1000 * (b - a) for a, b in itertools.pairwise(times_s))
        return {
            "pacing": frames.pacing,
            "rate_hz": frames.rate_hz,
            "flips": n_flips,
            "unpaced_median_ms": unpaced_ms,
            "median_ms": statistics.median(intervals_ms),
            "p99_ms": intervals_ms[min(n_flips - 1, round(0.99 * n_flips))],
            "dropped": frames.n_dropped,
            "renderer": renderer(window),
            "keyboard": _keyboard_backend(),
        }
    finally:
        window.close()


def _keyboard_backend() -> str:
    from stimuli.trigger import Keyboard

    with contextlib.closing(Keyboard()) as keyboard:
        return keyboard.backend


def _intervals_s(window: Window, n: int, clocks: Clocks, pause_s: float = 0.0) -> list[float]:
    """Durations of `n` frames, each with a pause before its flip."""
    intervals_s = []
    window.flip()
    last_s = clocks.now_s()
    for _ in range(n):
        clocks.sleep(pause_s)
        window.flip()
        now_s = clocks.now_s()
        intervals_s.append(now_s - last_s)
        last_s = now_s
    return intervals_s


def _blocking_rate_hz(window: Window, clocks: Clocks) -> float | None:
    """Frame rate if flips wait for the screen, None if they return at once.

    A pause of half a frame before the flip vanishes in a frame that waits for the screen, and
    lengthens one that does not.
    """
    median_s = statistics.median(_intervals_s(window, 30, clocks))
    paused_s = statistics.median(_intervals_s(window, 20, clocks, pause_s=median_s / 2))
    slowest_hz, fastest_hz = SCREEN_RATES_HZ
    waits = paused_s < 1.25 * median_s and slowest_hz <= 1.0 / median_s <= fastest_hz
    return 1.0 / median_s if waits else None


def command_line(arguments: list[str]) -> int:
    """`python -m stimuli.window --flips N`: one line of JSON; 2 if there is no window."""
    parser = argparse.ArgumentParser(prog="python -m stimuli.window", description=__doc__)
    parser.add_argument("--flips", type=int, default=120, help="frames to time")
    try:
        print(json.dumps(time_flips(parser.parse_args(arguments).flips)))
    except FcnefError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:]))
