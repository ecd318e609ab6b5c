"""Playing a record back to the operator's page and the participant's display, as it was."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtloop.errors import ConfigError, RecordError
from rtloop.journal import Record
from rtloop.link import Broadcaster
from rtloop.plan import Plan
from rtloop.stage import Stage
from rtloop.telemetry import VOLUME_FAULTS, ready_body, step_body
from rtloop.wire import Telemetry
from tools.local import free_ports

__all__ = ["play"]

READY_S = 2.0
"""Time that page and display get to connect before the first step."""

INTRODUCE_S = 1.0
"""How often it is said what the run is, so that a page opened late knows and nobody waits."""

LINGER_S = 0.3
"""Time the page gets to hear the last word."""


def play(record: Path, *, console: bool, display: bool, speed: float) -> int:
    """Play the last attempt of a record back; returns when it is over.

    Parameters
    ----------
    record : Path
        The run's record.
    console, display : bool
        Where to.
    speed : float
        Pace in multiples of the recorded one.

    Raises
    ------
    ConfigError
        If the speed is not positive.
    RecordError
        If the file is no record, or holds no volume.
    """
    if not speed > 0:
        raise ConfigError(f"--speed: expected a positive factor, found {speed:g}; correct it")
    with Record.open(record) as source, contextlib.ExitStack() as undo:
        if not source.attempts():
            raise RecordError(f"record {record}: expected a run with volumes, found none")
        player = _Player(source, speed, undo)
        if console:
            player.show_page(undo)
        if display:
            player.show_screen(undo)
        player.wait(READY_S)
        player.run()
    return 0


class _Player:
    """The engine's place: broadcasts what the record says it told, at the recorded pace."""

    def __init__(self, source: Record, speed: float, undo: contextlib.ExitStack) -> None:
        self._source, self._speed = source, speed
        self._about = source.about()
        self._plan = Plan.model_validate(self._about["plan"])
        *endpoints, self._page = (f"127.0.0.1:{port}" for port in free_ports(4))
        self._feedback, self._telemetry, self._reports = (f"tcp://{e}" for e in endpoints)
        self._stage = Stage(undo.enter_context(contextlib.closing(Broadcaster(self._feedback))), 0)
        self._teller = undo.enter_context(contextlib.closing(Broadcaster(self._telemetry)))

    def show_page(self, undo: contextlib.ExitStack) -> None:
        """Serve the operator's page, and say where."""
        settings = {
            "run": f"{self._about['session']} · {self._about['run']} (playback)",
            "telemetry": self._telemetry,
            "reports": self._reports,
            "page": self._page,
            "parent_pid": os.getpid(),
        }
        undo.enter_context(_child("rtloop.console", json.dumps(settings)))
        print(f"page: http://{self._page}/", flush=True)

    def show_screen(self, undo: contextlib.ExitStack) -> None:
        """Open the participant's display."""
        settings = {"feedback": self._feedback, "reports": self._reports}
        undo.enter_context(_child("stimuli.display", "--config", json.dumps(settings)))

    def wait(self, duration_s: float) -> None:
        """Let time pass, saying now and then what the run is."""
        until = time.monotonic() + duration_s
        while (left_s := until - time.monotonic()) > 0:
            self._tell("ready", ready_body(self._plan))
            time.sleep(min(left_s, INTRODUCE_S))

    def run(self) -> None:
        """From the attempt's first step to its end."""
        attempt = self._source.attempts()[-1]
        times = {row["event"]: row for row in self._source.rows("times")}
        faults, shown = deque(self._told_faults(attempt.name)), self._shown()
        blinded = self._plan.control.allocation is not None
        self._tell("attempt", {"name": attempt.name})
        start, first_s = time.monotonic(), None
        for recorded in self._source.events(attempt):
            arrived_s = times[recorded.n]["arrived_s"]
            first_s = arrived_s if first_s is None else first_s
            left_s = start + (arrived_s - first_s) / self._speed - time.monotonic()
            self.wait(left_s)
            # A playback that was held up goes on from there: nobody could follow a burst.
            start -= min(left_s, 0.0)
            while faults and faults[0]["time_s"] <= arrived_s:
                row = faults.popleft()
                body = {name: row[name] for name in ("kind", "reason", "action")}
                self._tell("fault", {**body, "index": row["volume_index"]})
            step = recorded.step
            self._stage.show(step.screen, attempt.name, step.index)
            self._tell("step", step_body(step, _latency_ms(times[recorded.n]), blinded))
            if recorded.n in shown:
                self._tell("shown", shown[recorded.n])
        if attempt.outcome is not None:
            self._tell("attempt closed", {"name": attempt.name, "outcome": attempt.outcome})
        self.wait(LINGER_S)

    def _told_faults(self, attempt: str) -> list[dict[str, Any]]:
        """Faults of this attempt that its steps do not tell themselves, in their order."""
        rows = self._source.rows("fault")
        return [
            row
            for row in rows
            if row["kind"] not in VOLUME_FAULTS and row["attempt"] in (None, attempt)
        ]

    def _shown(self) -> dict[int, dict[str, Any]]:
        """What reached the screen of what each event sent."""
        events = {row["id"]: row["event"] for row in self._source.rows("message")}
        return {
            events[row["message"]]: {"value": row["value"], "scene": row["scene"]}
            for row in self._source.rows("shown")
            if row["status"] == "shown" and row["message"] in events
        }

    def _tell(self, kind: str, body: dict[str, Any]) -> None:
        self._teller.publish(Telemetry(kind, body))


def _latency_ms(row: dict[str, Any]) -> float | None:
    """Volume complete -> feedback published, as recorded."""
    if row["received_s"] is None:
        return None
    return 1e3 * float(row["published_s"] - row["received_s"])


@contextlib.contextmanager
def _child(module: str, *arguments: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
