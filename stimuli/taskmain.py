"""How a task's program begins and ends, the same for every task."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from rtloop.errors import ConfigError, FcnefError
from stimuli.eventlog import EventLog
from stimuli.room import Config, Room, read_task

__all__ = ["OVER", "READY", "command_line", "finish", "seed_of"]

READY = "Get ready.\n\nThe task is about to begin."
OVER = "This part is over.\nThank you."


def finish(log: EventLog | None, n_trials: int, room: Room) -> int:
    """Close the record and say in one line what there is; the exit status, 0.

    A run that was stopped is a result, too: what was recorded stays, and says that it is not all.
    """
    if log is None:
        print("stopped before the first trial; nothing was recorded")
        return 0
    complete = log.n_trials == n_trials
    log.add(
        {
            "Completed": complete,
            "TrialsPlanned": n_trials,
            "TrialsRecorded": log.n_trials,
            "FramesDropped": room.frames.n_dropped,
        }
    )
    log.close()
    end = "complete" if complete else f"stopped, {n_trials} planned"
    frames = room.frames
    print(
        f"{log.path}: {log.n_trials} trials ({end}), keyboard backend {room.keyboard.backend},"
        f" {frames.rate_hz:.2f} Hz {frames.pacing}, {frames.n_dropped} frames dropped"
    )
    return 0


def seed_of(path: Path) -> int:
    """Seed of a run's order: another for every participant, session and run, always the same."""
    return int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "big")


def command_line(
    arguments: list[str],
    module: str,
    model: type[Config],
    main: Callable[[Config], int],
    description: str | None,
) -> int:
    """`python -m MODULE --config J`; 2 and one line on a user's mistake."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--config", required=True, help="settings: JSON, or the path of a file")
    given = parser.parse_args(arguments).config
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
        return main(read_task(model, json.loads(text)))
    except FcnefError as error:
        print(error, file=sys.stderr)
    except (OSError, ValueError) as error:
        print(ConfigError(f"task: expected settings in JSON, found: {error}"), file=sys.stderr)
    return 2
