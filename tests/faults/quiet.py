"""A small, fast run in this process: the real loop over made-up volumes, with a TR of 0.1 s."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rtloop import attempts
from rtloop.config import SessionConfig
from rtloop.journal import Record, Times
from rtloop.link import StreamSource
from rtloop.plan import Plan
from rtloop.volume import Volume
from tests.rtloop.simulated import series, small_plan
from tools.proof.rig import loop_thread

__all__ = ["PATIENCE_S", "TR_S", "Quiet", "quick"]

TR_S = 0.1
PATIENCE_S = 30.0


def quick(attempt: str = "one", n_volumes: int = 60, tr_s: float = TR_S) -> list[Volume]:
    """Volumes that say they are scanned every 0.1 s."""
    return [replace(volume, tr_s=tr_s) for volume in series(n_volumes, attempt)]


class Quiet:
    """A session in a folder of its own, its plan, and its record."""

    def __init__(self, folder: Path, **plan: object) -> None:
        self.folder = folder
        rest = {"kind": "continuous", "rest_s": 24 * TR_S}
        entries = {"tr_s": TR_S, "window_s": 12 * TR_S, "timeline": rest, **plan}
        self.plan: Plan = small_plan(**entries)
        self.plan.save(folder / "plan.json")
        names = ("volumes", "feedback", "telemetry", "reports")
        self.session = SessionConfig.model_validate(
            {
                "name": "test",
                "plan": "plan.json",
                "runs": [{"name": "run"}],
                "folder": folder,
                "source": {"kind": "stream", "latency_p99_s": 0.1, "restart_wait_s": 1.0},
                "engine": {
                    "dummies_s": 3 * TR_S,
                    "motion": {"enabled": False},
                    "denoise": {"motion": 0, "drift_order": 1},
                },
                "display": {"enabled": False},
                "network": {name: f"ipc://{folder / name}" for name in names},
            }
        )
        self.record = self.session.record_path(self.session.runs[0])

    @classmethod
    @contextlib.contextmanager
    def site(cls, **plan: object) -> Iterator[Quiet]:
        """A site whose folder has a name short enough for a socket."""
        with tempfile.TemporaryDirectory(prefix="fcnef-") as folder:
            yield cls(Path(folder), **plan)

    def loop(self) -> contextlib.AbstractContextManager:
        return loop_thread(self.session, self.plan)

    @contextlib.contextmanager
    def source(self) -> Iterator[StreamSource]:
        """A scanner that the loop has welcomed."""
        with contextlib.closing(StreamSource(self.session.network.volumes)) as source:
            until = time.monotonic() + PATIENCE_S
            while not source.connected and time.monotonic() < until:
                source.poll(0.1)
            yield source

    def leave(self, volumes: list[Volume]) -> None:
        """The record that an engine leaves which died after these volumes."""
        with attempts.open_record(self.session, self.session.runs[0], self.plan) as record:
            running = attempts.begin(self.session, self.plan, record, volumes[0], 1.0)
            for volume in volumes:
                step = running.engine.step(volume)
                with record.transaction():
                    record.add_event(running.attempt, volume, step, Times(None, None, 1.0, 1.0))

    def became(self, status: str) -> list[int]:
        """Indices of a status, over all attempts."""
        with Record.open(self.record) as record:
            steps = [e.step for a in record.attempts() for e in record.events(a)]
        return [step.index for step in steps if step.status == status]

    def outcomes(self) -> list[str | None]:
        with Record.open(self.record) as record:
            return [attempt.outcome for attempt in record.attempts()]

    def faults(self) -> list[tuple[str, int | None]]:
        with Record.open(self.record) as record:
            return [(row["kind"], row["volume_index"]) for row in record.rows("fault")]
