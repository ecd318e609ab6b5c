"""A console as a process of its own, with the test in the engine's place."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from rtloop.events import Step
from rtloop.link import Broadcaster, ReportSink
from rtloop.telemetry import ready_body, step_body
from rtloop.wire import Telemetry
from tests.rtloop.simulated import series, small_engine, small_plan
from tools.local import free_ports

__all__ = ["PATIENCE_S", "STEPS", "Site", "closing_code", "next_message", "next_of", "site"]

PATIENCE_S = 20.0
LOST = (30, 31)


def _steps(n: int = 60) -> list[Step]:
    """A small run; its scores get the standard error that only longer runs have."""
    engine = small_engine()
    found = [engine.step(volume) for volume in series(n) if volume.index not in LOST]
    return [
        replace(step, scores=tuple(replace(score, standard_error=0.25) for score in step.scores))
        for step in found
    ]


STEPS = _steps()


@dataclass
class Site:
    """A console, and the test in the engine's place."""

    page: str
    telemetry: Broadcaster
    reports: ReportSink
    process: subprocess.Popen[bytes] | None = None

    def tell(self, kind: str, body: dict[str, Any]) -> None:
        self.telemetry.publish(Telemetry(kind, body))

    def tell_run(self, count: int, blinded: bool = False) -> None:
        """A run as the loop tells it."""
        self.tell("ready", {**ready_body(small_plan()), "blinded": blinded})
        self.tell("attempt", {"name": "one"})
        for step in STEPS[:count]:
            self.tell("step", step_body(step, 4.5, blinded))
            # the broadcast drops what a listener is too slow for; a scanner is slower than this
            time.sleep(0.005)

    def connect(self, **options: Any) -> ClientConnection:
        return connect(f"ws://{self.page}/live", open_timeout=PATIENCE_S, **options)

    def heard(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> dict[str, Any]:
        """A snapshot of which something is true; the console hears asynchronously."""
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            with self.connect() as client:
                body = next_message(client)["body"]
            if wanted([*body["newest"], *body["events"], *body["course"]]):
                return dict(body)
            time.sleep(0.05)
        raise AssertionError("never heard")


def next_message(client: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(client.recv(PATIENCE_S)))


def closing_code(client: ClientConnection) -> int | None:
    """Why the other side closed, once it has."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            client.recv(PATIENCE_S)
    return client.close_code


def next_of(client: ClientConnection, kind: str) -> dict[str, Any]:
    while (message := next_message(client))["kind"] != kind:
        pass
    return message


@contextlib.contextmanager
def site(page: str = "") -> Iterator[Site]:
    """A console as a process of its own, which hears the test's broadcast."""
    telemetry, reports, free = (f"127.0.0.1:{port}" for port in free_ports(3))
    page = page or free
    config = {"run": "ses · run", "telemetry": f"tcp://{telemetry}", "reports": f"tcp://{reports}"}
    command = [sys.executable, "-m", "rtloop.console", json.dumps({**config, "page": page})]
    with (
        contextlib.closing(Broadcaster(config["telemetry"])) as broadcaster,
        contextlib.closing(ReportSink(config["reports"])) as sink,
    ):
        process = subprocess.Popen(command)
        try:
            made = Site(page, broadcaster, sink, process)
            _wait_until_open(made)
            yield made
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _wait_until_open(made: Site) -> None:
    """Served, and listening: what is told before is not heard."""
    assert made.process is not None
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        assert made.process.poll() is None
        with contextlib.suppress(OSError), made.connect() as client:
            next_message(client)
            made.tell("ping", {})
            with contextlib.suppress(TimeoutError):
                client.recv(0.2)
                return
    raise AssertionError("the console did not open")
