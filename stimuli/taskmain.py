"""A task's program, the same for every task: its pages, its practice, its run and its record.

`stroop` and `matching` bring a `Task`: what is shown, and what is written of it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtloop.errors import ConfigError, FcnefError
from stimuli.eventlog import EventLog, events_path
from stimuli.room import Config, Draw, Room, Stopped, TaskConfig, read_task
from stimuli.taskrun import Paper, Shown, Trial, run_trials

__all__ = ["Task", "command_line", "perform", "run_of"]

READY = "Get ready.\n\nThe task is about to begin."
OVER = "This part is over.\nThank you."

OVER_S = 2.0
"""How long the last page stays."""

LEGEND_SIZE = 0.036


@dataclass(frozen=True)
class Task:
    """What one task has of its own.

    Attributes
    ----------
    name : str
        As in the events' JSON.
    seed : int
        What the order was drawn from.
    choices : sequence of str
        What the keys stand for, in their order.
    columns : mapping of str to str
        Columns of the events, in order, with what each means.
    instructions : str
        First page.
    trials : sequence of Trial
        The run, in order of onset.
    paper : Paper
        How the run looks.
    practice : sequence of Trial
        Trials with feedback, shown if the settings ask for practice; not recorded.
    legend_y : float
        Height of the keys, which practice shows beneath, as a share of the window's.
    shown : sequence of Shown
        What else the run shows.
    about : mapping of str to Any
        Further entries of the events' JSON.
    """

    name: str
    seed: int
    choices: Sequence[str]
    columns: Mapping[str, str]
    instructions: str
    trials: Sequence[Trial]
    paper: Paper
    practice: Sequence[Trial]
    legend_y: float
    shown: Sequence[Shown] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def perform(room: Room, task: Task, path: Path) -> int:
    """Show instructions, practice if asked for, and the run, and record it.

    Parameters
    ----------
    room : Room
    task : Task
    path : Path
        The run's `…_events.tsv`, as of `run_of`; written only once the run was started, and with
        the next run number if there is such a file by then.

    Returns
    -------
    int
        Exit status: 0, also when it was stopped.

    Raises
    ------
    RecordError
        If the events cannot be written.
    """
    log = None
    with contextlib.suppress(Stopped):
        _read_page(room, task.instructions)
        if room.config.practice:
            _practise(room, task)
        begin = room.await_key(room.page(READY), room.config.start_keys)
        log = EventLog(path, task.columns, _about(room, task))
        run_trials(room, task.trials, task.choices, task.paper, log, task.shown, begin.time_s)
        room.show(room.page(OVER))
        room.hold(room.frames.expected_unix_s() + OVER_S)
    return _finish(log, len(task.trials), room)


def run_of(config: TaskConfig, task: str) -> tuple[Path, int]:
    """Where a run's events go, and the seed of its order.

    The seed, if the settings have none, is another for every participant, session and run, and
    always the same.

    Raises
    ------
    RecordError
        As of `events_path`.
    """
    path = events_path(config.out, config.participant, config.session, task)
    if config.seed is not None:
        return path, config.seed
    return path, int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "big")


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


def _read_page(room: Room, text: str) -> None:
    """Show a page until it was read."""
    room.await_key(room.page(text), (*room.config.keys, *room.config.start_keys))


def _practise(room: Room, task: Task) -> None:
    n_right = run_trials(room, task.practice, task.choices, _with_legend(room, task), log=None)
    _read_page(room, f"{n_right} of {len(task.practice)} right.\n\nPress a key to go on.")


def _with_legend(room: Room, task: Task) -> Paper:
    """The run's paper with the keys beneath."""
    keys = zip(room.config.keys, task.choices, strict=True)
    legend = "     ".join(f"{key} = {choice}" for key, choice in keys)

    def above(draw: Draw) -> Draw:
        def both() -> None:
            draw()
            room.pen.write(legend, LEGEND_SIZE, task.legend_y, room.pen.look.faint)

        return both

    return Paper(lambda trial: above(task.paper.stimulus(trial)), above(task.paper.between))


def _about(room: Room, task: Task) -> dict[str, Any]:
    """What was shown and how it was measured, for the events' JSON."""
    keys = dict(zip(task.choices, room.config.keys, strict=True))
    entries = {"TaskName": task.name, "Seed": task.seed, "Keys": keys}
    return {**entries, **task.about, **room.about()}


def _finish(log: EventLog | None, n_trials: int, room: Room) -> int:
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
