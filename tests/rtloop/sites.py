"""A session in a folder, run by the real `fcnef run` and fed over the real stream."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtloop.journal import Record
from rtloop.link import StreamSource
from rtloop.volume import Volume
from rtloop.wire import Note
from tests.rtloop.simulated import small_config, small_plan
from tools.local import free_ports

__all__ = ["Site"]

PATIENCE_S = 40.0


class Site:
    """One small session; `start` begins its run, `feed` sends volumes until they are committed."""

    def __init__(self, folder: Path, extra: str = "", **plan: object) -> None:
        self.folder = folder
        self.ports = free_ports(4)
        self.plan = small_plan(**plan)
        self.plan.save(folder / "plan.json")
        self.session = folder / "session.toml"
        self.record = folder / "records" / "test_run.sqlite"
        self.notice = self.record.with_suffix(".processes.json")
        config = small_config()
        self.session.write_text(
            f"""name = "test"
plan = "plan.json"
[[runs]]
name = "run"
[source]
kind = "stream"
latency_p99_s = 0.2
restart_wait_s = 1.0
[engine]
dummies_s = {config.dummies_s}
[engine.motion]
enabled = false
[engine.denoise]
motion = 0
drift_order = 1
[display]
enabled = false
[network]
volumes = "tcp://127.0.0.1:{self.ports[0]}"
feedback = "tcp://127.0.0.1:{self.ports[1]}"
telemetry = "tcp://127.0.0.1:{self.ports[2]}"
reports = "tcp://127.0.0.1:{self.ports[3]}"
{extra}
"""
        )

    @contextlib.contextmanager
    def start(self) -> Iterator[subprocess.Popen[str]]:
        """`fcnef run`; whatever is left of it at the end is killed."""
        run = subprocess.Popen(
            [sys.executable, "-m", "tools.cli", "run", str(self.session)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stderr is not None
        try:
            yield run
        finally:
            if run.poll() is None:
                run.terminate()
            try:
                run.wait(10)
            except subprocess.TimeoutExpired:
                run.kill()
                run.wait()
            run.stderr.close()

    def source(self, epoch: str | None = None) -> contextlib.closing[StreamSource]:
        endpoint = f"tcp://127.0.0.1:{self.ports[0]}"
        return contextlib.closing(StreamSource(endpoint, epoch=epoch))

    def feed(self, source: StreamSource, contents: Sequence[Volume | Note]) -> None:
        """Send and wait until all is committed."""
        for content in contents:
            source.send(content)
        assert source.drain(PATIENCE_S), source.trouble

    def child(self, name: str) -> int:
        """Process id of a child, waiting for it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError, KeyError):
                return int(json.loads(self.notice.read_text())[name])
            time.sleep(0.05)
        raise AssertionError(f"no {name}")

    def kill(self, name: str) -> None:
        """SIGKILL, and nothing else."""
        os.kill(self.child(name), signal.SIGKILL)

    def steps(self) -> list[bytes]:
        """Bytes of every recorded step."""
        with Record.open(self.record) as record:
            return [e.body for a in record.attempts() for e in record.events(a)]

    def faults(self) -> list[tuple[str, int | None]]:
        with Record.open(self.record) as record:
            return [(row["kind"], row["volume_index"]) for row in record.rows("fault")]

    def outcomes(self) -> list[str | None]:
        with Record.open(self.record) as record:
            return [attempt.outcome for attempt in record.attempts()]
