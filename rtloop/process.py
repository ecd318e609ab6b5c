"""The engine's process: `python -m rtloop.process SESSION.toml RUN [PARENT]`."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from types import FrameType

from rtloop import attempts
from rtloop.config import SessionConfig
from rtloop.errors import FcnefError
from rtloop.loop import Loop

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Serve one run; a mistake is told in one line.

    PARENT is the supervisor's process id: it may have died while this process was starting.
    """
    session_path, run_name, *parent = arguments
    try:
        return serve(Path(session_path), run_name, int(parent[0]) if parent else None)
    except FcnefError as error:
        print(f"fcnef: {error}", file=sys.stderr)
        return 2


def serve(session_path: Path, run_name: str, parent: int | None = None) -> int:
    """Run the loop for one run of a session until it is over; 0 when it is."""
    session = SessionConfig.load(session_path)
    entry = next(run for run in session.runs if run.name == run_name)
    session = attempts.settle(session.for_run(entry))
    plan = attempts.load_plan(session, entry)
    with attempts.open_record(session, entry, plan) as record:
        loop = Loop(session, plan, record, parent)
        with contextlib.closing(loop):
            _stop_on_signal(loop)
            loop.run()
    return 0


def _stop_on_signal(loop: Loop) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        loop.request_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
