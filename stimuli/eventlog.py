"""A task's BIDS events, whole after every trial: a program that is killed loses no finished one.

The table is written anew beside itself and renamed for every trial, so that whoever reads it while
trials come, at whatever instant, finds a complete table (a few kilobytes: a fraction of a
millisecond). What the columns mean, and with which keyboard and at which frame rate they were
measured, is in the JSON beside it. A run's files are never overwritten: the next free run number is
taken, also where another program took the one that was free when this one started.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtloop.errors import RecordError

__all__ = ["EventLog", "events_path"]

LABEL = re.compile(r"[A-Za-z0-9]+")


def events_path(out: Path, participant: str, session: str, task: str) -> Path:
    """Where the next run's events go: `sub-P/ses-S/beh/sub-P_ses-S_task-T_run-N_events.tsv`.

    Raises
    ------
    RecordError
        If a label has other characters than letters and digits, or no file can be written there.
    """
    labels = {"sub": participant.removeprefix("sub-"), "ses": session.removeprefix("ses-")}
    for name, label in labels.items():
        if not LABEL.fullmatch(label):
            raise RecordError(
                f"expected a {name} label of letters and digits, found {label!r}; BIDS names allow"
                " no others"
            )
    folder = out / f"sub-{labels['sub']}" / f"ses-{labels['ses']}" / "beh"
    path = folder / f"sub-{labels['sub']}_ses-{labels['ses']}_task-{task}_run-1_events.tsv"
    try:
        # tried where the folder is or will be made, so that nothing is left behind
        there = next(place for place in path.parents if os.path.lexists(place))
        tempfile.TemporaryFile(dir=there).close()
        while path.exists():
            path = _next_run(path)
    except OSError as error:
        raise _refusal(path, error) from error
    return path


class EventLog:
    """Events of one run.

    Parameters
    ----------
    path : Path
        `…_run-N_events.tsv`; folders are made. If it is there already, the next run number that is
        free is taken: attribute `path`.
    columns : mapping of str to str
        Columns in order, with what each means.
    about : mapping of str to Any
        Further entries of the JSON; `add` may bring more.

    Raises
    ------
    RecordError
        If the folder or the files cannot be written.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], about: Mapping[str, Any]) -> None:
        self.n_trials = 0
        self._columns = tuple(columns)
        self._lines = ["\t".join(columns)]
        self._about = {name: {"Description": text} for name, text in columns.items()} | dict(about)
        self.path = self._create(path)
        self.add({})

    def trial(self, row: Mapping[str, Any]) -> None:
        """Write one more trial; a value that is None, or not given, is n/a."""
        self._lines.append("\t".join(_cell(row.get(name)) for name in self._columns))
        self.n_trials += 1
        self._replace(self.path, self._table())

    def add(self, about: Mapping[str, Any]) -> None:
        """Write entries into the JSON."""
        self._about |= dict(about)
        text = json.dumps(self._about, indent=2, ensure_ascii=False) + "\n"
        self._replace(self.path.with_suffix(".json"), text)

    def close(self) -> None:
        """Make sure that the disk has it all."""
        try:
            descriptor = os.open(self.path, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _refusal(self.path, error) from error

    def _create(self, path: Path) -> Path:
        """The table without trials, where there was no file."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    with path.open("x", encoding="utf-8", newline="\n") as stream:
                        stream.write(self._table())
                    return path
                except FileExistsError:
                    path = _next_run(path)
        except OSError as error:
            raise _refusal(path, error) from error

    def _table(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _replace(self, path: Path, text: str) -> None:
        partial = path.with_name(path.name + ".part")
        try:
            partial.write_text(text, encoding="utf-8", newline="\n")
            partial.replace(path)
        except OSError as error:
            raise _refusal(self.path, error) from error


def _next_run(path: Path) -> Path:
    stem, _, run = path.name.removesuffix("_events.tsv").rpartition("_run-")
    return path.with_name(f"{stem}_run-{int(run) + 1}_events.tsv")


def _refusal(path: Path, error: OSError) -> RecordError:
    return RecordError(
        f"{path}: expected a folder to write events to, found: {error.strerror}; name another"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6f}" if isinstance(value, float) else str(value)
