"""Playing a record back to the operator's page and the participant's display, as it was."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtloop.errors import ConfigError
from rtloop.journal import Record
from rtloop.link import Broadcaster
from rtloop.stage import Stage
from rtloop.telemetry import step_body
from rtloop.wire import Telemetry
from tools.local import free_ports

__all__ = ["play"]

READY_S = 2.0
"""Time that page and display get to connect before the first step."""


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
        If the file is no record.
    """
    if not speed > 0:
        raise ConfigError(f"--speed: expected a positive factor, found {speed:g}; correct it")
    ports = free_ports(4)
    feedback, telemetry, reports = (f"tcp://127.0.0.1:{port}" for port in ports[:3])
    with Record.open(record) as source, contextlib.ExitStack() as undo:
        about = source.about()
        if console:
            page = f"127.0.0.1:{ports[3]}"
            settings = {
                "run": f"{about['session']} · {about['run']} (playback)",
                "telemetry": telemetry,
                "reports": reports,
                "page": page,
            }
            undo.enter_context(_child("rtloop.console", json.dumps(settings)))
            print(f"page: http://{page}/", flush=True)
        if display:
            settings = {"feedback": feedback, "reports": reports}
            undo.enter_context(_child("stimuli.display", "--config", json.dumps(settings)))
        stage = Stage(undo.enter_context(contextlib.closing(Broadcaster(feedback))), 0)
        teller = undo.enter_context(contextlib.closing(Broadcaster(telemetry)))
        time.sleep(READY_S)
        _play_steps(source, about, stage, teller, speed)
    return 0


def _play_steps(
    source: Record, about: dict[str, Any], stage: Stage, teller: Broadcaster, speed: float
) -> None:
    attempt = source.attempts()[-1]
    arrived_s = {row["event"]: row["arrived_s"] for row in source.rows("times")}
    blinded = about["plan"]["control"]["allocation"] is not None
    teller.publish(Telemetry("attempt", {"name": attempt.name}))
    start = time.monotonic()
    first_s: float | None = None
    for recorded in source.events(attempt):
        first_s = arrived_s[recorded.n] if first_s is None else first_s
        due = start + (arrived_s[recorded.n] - first_s) / speed
        time.sleep(max(0.0, due - time.monotonic()))
        step = recorded.step
        stage.show(step.screen, attempt.name, step.index)
        teller.publish(Telemetry("step", step_body(step, None, blinded)))


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
