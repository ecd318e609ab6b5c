"""Opening, pacing and timing of the window.

Vertical sync is the one thing a virtual screen does not have: a window that waits is simulated
for it; everything else happens on the real one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from stimuli.window import Clocks, Frames


class World:
    """Time that passes only by waiting; a window whose flips wait for a screen, or do not."""

    def __init__(self, vertical_sync_hz: float | None = None, flip_cost_s: float = 0.001) -> None:
        self.now_s, self.step_s = 1000.0, 0.0
        self.sync_hz, self.flip_cost_s = vertical_sync_hz, flip_cost_s
        self.clocks = Clocks(
            now_s=lambda: self.now_s,
            sleep=self.wait,
            host_s=lambda: self.now_s + 1.7e9 + self.step_s,
            to_host_s=lambda time_s: time_s + 1.7e9 + self.step_s,
        )

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def flip(self) -> float:
        self.now_s += self.flip_cost_s
        if self.sync_hz is not None:
            self.now_s = (int(self.now_s * self.sync_hz + 1e-6) + 1) / self.sync_hz
        return self.now_s


@pytest.mark.parametrize("rate_hz", [60.0, 59.94, 75.0, 120.0])
def test_a_screen_that_waits_is_recognised_and_measured(rate_hz):
    world = World(rate_hz)
    frames = Frames(world, clocks=world.clocks)
    assert frames.pacing == "vertical sync"
    assert frames.rate_hz == pytest.approx(rate_hz, rel=0.01)


@pytest.mark.parametrize("flip_cost_s", [0.0003, 0.002, 0.009])
def test_flips_that_do_not_wait_are_paced_in_software(flip_cost_s):
    world = World(None, flip_cost_s)
    frames = Frames(world, clocks=world.clocks)
    assert frames.pacing == "software-paced"
    assert frames.rate_hz == 60.0


@pytest.mark.parametrize("rate_hz", [415.0, 8.0])
def test_a_rate_that_no_screen_has_is_no_screen(rate_hz):
    """On a busy machine flips that return at once can look like waiting ones."""
    world = World(rate_hz)
    frames = Frames(world, clocks=world.clocks)
    assert frames.pacing == "software-paced"
    assert frames.rate_hz == 60.0


def test_software_pace_keeps_absolute_deadlines():
    world = World(None)
    frames = Frames(world, software_paced=True, clocks=world.clocks)
    start_s = world.now_s
    flips_s = []
    for k in range(600):
        world.wait(0.001 * (k % 9))
        flips_s.append(frames.flip() - 1.7e9)
    expected = [start_s + (k + 1) / 60 + 0.001 for k in range(600)]
    assert flips_s == pytest.approx(expected, abs=1e-6)
    assert (frames.n_frames, frames.n_dropped) == (600, 0)


def test_a_skipped_frame_keeps_the_pace():
    world = World(None)
    frames = Frames(world, software_paced=True, clocks=world.clocks)
    start_s = world.now_s
    for k in range(100):
        if k % 3:
            frames.skip()
        else:
            frames.flip()
    assert (world.now_s - start_s) * 60 == pytest.approx(100, abs=0.1)
    assert (frames.n_frames, frames.n_dropped) == (100, 0)


def test_dropped_frames_are_counted_and_never_caught_up():
    world = World(None)
    frames = Frames(world, software_paced=True, clocks=world.clocks)
    first_s = frames.flip()
    world.wait(3.4 / 60)
    late_s = frames.flip()
    next_s = frames.flip()
    assert frames.n_dropped == 2
    assert (next_s - first_s) * 60 == pytest.approx(4, abs=1e-3)
    assert (next_s - late_s) * 60 < 1


def test_dropped_frames_under_vertical_sync():
    world = World(60.0)
    frames = Frames(world, clocks=world.clocks)
    frames.flip()
    world.wait(2.5 / 60)
    frames.flip()
    frames.flip()
    assert frames.n_dropped == 2


def test_content_may_change_until_shortly_before_the_flip():
    world = World(None)
    frames = Frames(world, software_paced=True, clocks=world.clocks)
    frames.flip()
    assert world.now_s < frames.latch_s() < world.now_s + 1 / 60
    expected_s = frames.expected_unix_s()
    assert frames.flip() == pytest.approx(expected_s + world.flip_cost_s, abs=1e-6)


def test_clock_step_is_told_once_and_leaves_the_pace_alone():
    world = World(None)
    frames = Frames(world, software_paced=True, clocks=world.clocks)
    frames.flip()
    assert frames.take_clock_step_s() == 0.0
    world.step_s = -3600.0
    before_s = world.now_s
    frames.flip()
    assert (world.now_s - before_s) * 60 == pytest.approx(1, abs=1e-3)
    assert frames.take_clock_step_s() == pytest.approx(-3600.0)
    frames.flip()
    assert frames.take_clock_step_s() == 0.0


def test_being_set_aside_between_two_clocks_is_no_clock_step():
    world = World(None)
    frames = Frames(world, software_paced=True, clocks=world.clocks)
    frames.flip()

    def slow_host_s() -> float:
        world.wait(0.02)
        return world.now_s + 1.7e9

    frames._clocks = Clocks(world.clocks.now_s, world.wait, slow_host_s, world.clocks.to_host_s)
    frames.flip()
    assert frames.take_clock_step_s() == 0.0


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_flips_of_a_real_window(xserver):
    done = run(["stimuli.window", "--flips", "30"], xserver.environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    figures = json.loads(done.stdout)
    assert figures["flips"] == 30
    assert figures["pacing"] == "software-paced"
    assert figures["rate_hz"] == 60.0
    assert figures["keyboard"] in ("ptb", "event")
    assert figures["renderer"]
    assert figures["median_ms"] <= figures["p99_ms"]


@pytest.mark.parametrize("display", [None, ":7654"])
def test_no_display_is_one_line_and_exit_2(display):
    pytest.importorskip("pyglet")
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
    if display is not None:
        environment["DISPLAY"] = display
    done = run(["stimuli.window", "--flips", "1"], environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "expected a display" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_screen_is_one_line(xserver):
    code = (
        "from stimuli.window import open_window\n"
        "from rtloop.errors import DisplayError\n"
        "try:\n    open_window(screen=3)\n"
        "except DisplayError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=xserver.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "expected screen 3" in done.stdout
    assert done.stdout.count("\n") == 1
