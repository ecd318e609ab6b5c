"""A participant of a task program: starts it on the virtual screen, looks, and presses keys.

The actor's own press times are the truth that response times are held against.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.stimuli.xserver import XServer

__all__ = ["Actor"]

PATIENCE_S = 30.0


class Actor:
    """One task program with the person before it."""

    def __init__(self, xserver: XServer, out: Path, module: str, **options: Any) -> None:
        config = {
            "participant": "p01", "session": "1", "out": str(out), "fullscreen": True,
            "software_paced": True, **options,
        }  # fmt: skip
        self.xserver, self._out = xserver, out
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--config", json.dumps(config)],
            env=xserver.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self) -> float:
        """Read on to the last page and start the run; when the start key went down."""
        self.until(lambda: self.bright() > 500)
        self.turn("1")
        page = self.xserver.screenshot()
        pressed_s = self.xserver.press("5")
        self.until(lambda: not np.array_equal(page, self.xserver.screenshot()))
        return pressed_s

    def turn(self, key: str) -> None:
        """Press a key until another page is shown."""
        page = self.xserver.screenshot()
        self.settle()
        while np.array_equal(page, self.xserver.screenshot()):
            self.xserver.press(key)
            self.settle()

    def settle(self) -> None:
        time.sleep(0.3)

    def until(self, done: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end_s, "nothing came"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def rows(self) -> list[Mapping[str, str]]:
        """Trials recorded so far."""
        found = sorted(self._out.rglob("*_events.tsv"))
        if not found:
            return []
        with found[-1].open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))

    def about(self) -> dict[str, Any]:
        """What is written beside the trials."""
        return json.loads(sorted(self._out.rglob("*_events.json"))[-1].read_text())

    def ended(self) -> tuple[int, str, str]:
        """Exit status and what was printed."""
        printed, complained = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, printed, complained

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.until_blank()

    def until_blank(self) -> None:
        """The window is gone: the next one is seen to come."""
        end_s = time.monotonic() + PATIENCE_S
        while self.bright() > 500 and time.monotonic() < end_s:
            time.sleep(0.02)

    def bright(self) -> int:
        """Pixels on the screen that are light."""
        return int((self.xserver.screenshot() > 120).any(axis=2).sum())
