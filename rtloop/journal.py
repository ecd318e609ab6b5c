"""The run's record: one SQLite file that holds everything that happened, as it happened.

Write-ahead log, `synchronous=FULL`, one transaction per event: what is committed survives the
death of any process at any instant, and nothing else counts as having happened. Every volume is
kept as it was received, so every score can be computed again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgpack

from rtloop.errors import RecordError
from rtloop.events import Event, Step, encode
from rtloop.rows import (
    MESSAGE_COLUMNS,
    STEP_COLUMNS,
    Recorded,
    describe,
    event_of,
    sound,
    step_columns,
)
from rtloop.schema import SCHEMA, SCHEMA_VERSION, connect, is_blank
from rtloop.volume import Volume
from rtloop.wire import Command, Feedback, Note, Shown, Trigger

__all__ = ["Attempt", "Outcome", "Record", "Recorded", "Times"]

Outcome = Literal["complete", "incomplete", "aborted", "stopped"]

_EVENTS = f"""
SELECT event.n, kind, event.volume_index, header, body,
    {", ".join(f"step.{name}" for name in STEP_COLUMNS)},
    {", ".join(f"message.{name}" for name in MESSAGE_COLUMNS)}
FROM event LEFT JOIN step ON step.event = event.n LEFT JOIN message ON message.event = event.n
WHERE attempt = ? ORDER BY event.n
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at the run: a series from its first volume to its end, however it ended."""

    id: int
    name: str
    opened_s: float
    outcome: Outcome | None
    rois: bytes
    geometry: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Times:
    """Host clock (Unix s) along an event's way; `acquired_s` is the scanner's own clock."""

    acquired_s: float | None
    received_s: float | None
    arrived_s: float
    published_s: float


class Record:
    """A run record, opened for writing by the engine's process and for reading by anyone."""

    def __init__(self, path: Path, connection: sqlite3.Connection, writable: bool) -> None:
        self.path = path
        self._db = connection
        self._writable = writable

    @classmethod
    def create(cls, path: Path, about: dict[str, Any]) -> Self:
        """Make a new record.

        Parameters
        ----------
        path : Path
            File to create; its folder is made. It must not exist.
        about : dict
            What the run is: plan, configuration, versions, fingerprint (JSON values).

        Raises
        ------
        RecordError
            If the file exists already or cannot be written.
        """
        if not is_blank(path):
            raise RecordError(f"record {path}: expected a new file, found one; choose another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            record = cls(path, connect(path, writable=True), True)
            # In one piece: there is no instant at which a record has tables but no content.
            record._db.executescript(f"BEGIN IMMEDIATE;{SCHEMA}")
            for key, value in {"schema_version": SCHEMA_VERSION, **about}.items():
                record._db.execute("INSERT INTO about VALUES(?, ?)", (key, json.dumps(value)))
            record._db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise RecordError(
                f"record {path}: expected a writable file, found: {error}; choose another folder"
            ) from error
        return record

    @classmethod
    def open(cls, path: Path, writable: bool = False) -> Self:
        """Open an existing record; reading never changes it.

        Raises
        ------
        RecordError
            If the file is missing, is no record, or is of another schema version.
        """
        if not path.is_file():
            raise RecordError(f"record {path}: expected a file, found none; check the path")
        try:
            record = cls(path, connect(path, writable), writable)
            version = record.about().get("schema_version")
        except sqlite3.Error as error:
            raise RecordError(f"record {path}: expected a run record, found: {error}") from error
        if version != SCHEMA_VERSION:
            raise RecordError(
                f"record {path}: expected schema version {SCHEMA_VERSION}, found {version}; "
                "use the fcnef release that wrote it"
            )
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; whoever wrote it leaves one file, without a log beside it."""
        if self._writable:
            # Somebody who is reading keeps the log where it is; it is read along then.
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or not at all.

        Raises
        ------
        RecordError
            If it cannot be committed (disk full, file gone): nothing of it happened.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._abandon()
            raise RecordError(
                f"record {self.path}: expected to commit, found: {error}; feedback stops until "
                "the record can be written"
            ) from error
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    # --- what the run is ------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        with self._reading(), sound("about"):
            rows = self._db.execute("SELECT * FROM about").fetchall()
            return {key: json.loads(value) for key, value in rows}

    def attempts(self) -> list[Attempt]:
        with self._reading(), sound("attempt"):
            rows = self._db.execute(
                "SELECT id, name, opened_s, outcome, rois, geometry FROM attempt ORDER BY id"
            )
            return [
                Attempt(id, name, opened_s, outcome, rois, json.loads(geometry))
                for id, name, opened_s, outcome, rois, geometry in rows
            ]

    def open_attempt(
        self, name: str, time_s: float, rois: bytes, geometry: dict[str, Any]
    ) -> Attempt:
        cursor = self._db.execute(
            "INSERT INTO attempt(name, opened_s, rois, geometry) VALUES(?, ?, ?, ?)",
            (name, time_s, rois, json.dumps(geometry)),
        )
        assert cursor.lastrowid is not None
        return Attempt(cursor.lastrowid, name, time_s, None, rois, geometry)

    def close_attempt(self, attempt: Attempt, time_s: float, outcome: Outcome) -> None:
        self._db.execute(
            "UPDATE attempt SET closed_s = ?, outcome = ? WHERE id = ?",
            (time_s, outcome, attempt.id),
        )

    def keep(self, name: str, body: bytes) -> None:
        """Keep a file's content that the run depends on (reference, tissue masks)."""
        self._db.execute("INSERT OR REPLACE INTO kept VALUES(?, ?)", (name, body))

    def kept(self, name: str) -> bytes | None:
        with self._reading():
            row = self._db.execute("SELECT body FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    # --- events and their steps -----------------------------------------------------------

    def add_event(self, attempt: Attempt, event: Event, step: Step, times: Times) -> int:
        """Record an event with the step it led to; returns its number in the record."""
        kind, header = describe(event)
        cursor = self._db.execute(
            "INSERT INTO event(attempt, kind, volume_index, header) VALUES(?, ?, ?, ?)",
            (attempt.id, kind, step.index, msgpack.packb(header, use_bin_type=True)),
        )
        n = cursor.lastrowid
        assert n is not None
        if isinstance(event, Volume) and step.status != "duplicate":
            voxels = event.data.T.data.cast("B")
            self._db.execute("INSERT INTO image VALUES(?, ?)", (n, voxels))
        self._add_step(n, step)
        self._db.execute(
            "INSERT INTO times VALUES(?, ?, ?, ?, ?)",
            (n, times.acquired_s, times.received_s, times.arrived_s, times.published_s),
        )
        return n

    def _add_step(self, n: int, step: Step) -> None:
        row = (n, *step_columns(step), encode(step))
        self._db.execute(f"INSERT INTO step VALUES({', '.join('?' * len(row))})", row)

    def events(self, attempt: Attempt) -> Iterator[Recorded]:
        """Events of an attempt in the order in which the engine took them.

        Raises
        ------
        RecordError
            If the file is damaged.
        """
        with self._reading():
            for n, kind, index, header, body, *rest in self._db.execute(_EVENTS, (attempt.id,)):
                if body is None:
                    raise RecordError(
                        f"record {self.path}: event {n}: expected a step, found none; "
                        "the file is damaged"
                    )
                with sound(f"event {n}"):
                    entries = msgpack.unpackb(header, raw=False)
                columns, message = rest[: len(STEP_COLUMNS)], rest[len(STEP_COLUMNS) :]
                sent = tuple(message) if message[0] is not None else None
                yield Recorded(n, kind, index, entries, body, tuple(columns), sent)

    def event(self, recorded: Recorded) -> Event:
        """The event itself, voxels included.

        Raises
        ------
        RecordError
            If the record is damaged: header or voxels are missing or cut.
        """
        with self._reading():
            row = self._db.execute(
                "SELECT voxels FROM image WHERE event = ?", (recorded.n,)
            ).fetchone()
        return event_of(recorded, None if row is None else row[0])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What SQLite cannot read is no record, or a damaged one."""
        try:
            yield
        except sqlite3.Error as error:
            raise RecordError(
                f"record {self.path}: expected a run record, found: {error}; "
                "take a copy of it from a backup"
            ) from error

    def committed(self) -> dict[str, list[tuple[int, int]]]:
        """Volume indices on record, as inclusive ranges, per attempt's name."""
        ranges: dict[str, list[tuple[int, int]]] = {}
        rows = self._db.execute(
            "SELECT DISTINCT name, volume_index FROM event JOIN attempt ON attempt.id = attempt "
            "WHERE kind = 'volume' ORDER BY attempt.id, volume_index"
        )
        for name, index in rows:
            known = ranges.setdefault(name, [])
            if known and known[-1][1] == index - 1:
                known[-1] = (known[-1][0], index)
            else:
                known.append((index, index))
        return ranges

    # --- the stream, the screen, faults, people ---------------------------------------------

    def acknowledged(self, epoch: str) -> int:
        """Last committed place of a stream's epoch; -1 for none."""
        row = self._db.execute(
            "SELECT acknowledged FROM stream WHERE epoch = ?", (epoch,)
        ).fetchone()
        return -1 if row is None else int(row[0])

    def acknowledge(self, epoch: str, seq: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO stream VALUES(?, ?)", (epoch, seq))

    def last_message(self) -> int:
        """Number of the newest feedback message; 0 for none."""
        row = self._db.execute("SELECT max(id) FROM message").fetchone()
        return int(row[0] or 0)

    def add_message(self, feedback: Feedback, event: int | None) -> None:
        """Record what was sent to the display, with the event that led to it."""
        self._db.execute(
            "INSERT INTO message VALUES(?, ?, ?, ?, ?, ?, ?)",
            (
                feedback.id,
                event,
                feedback.scene,
                feedback.value,
                feedback.trial,
                feedback.published_s,
                feedback.expires_s,
            ),
        )

    def add_shown(self, shown: Shown) -> None:
        """Record a flip; a display that was not heard tells it again, and it counts once."""
        self._db.execute(
            "INSERT OR IGNORE INTO shown(message, scene, value, flip_s, status) "
            "VALUES(?, ?, ?, ?, ?)",
            (shown.id, shown.scene, shown.value, shown.flip_s, shown.status),
        )

    def add_trigger(self, trigger: Trigger) -> None:
        self._db.execute(
            "INSERT INTO trigger_pulse(count, time_s, source) VALUES(?, ?, ?)",
            (trigger.count, trigger.time_s, trigger.source),
        )

    def add_command(self, command: Command) -> None:
        self._db.execute(
            "INSERT INTO command(time_s, action, by, text) VALUES(?, ?, ?, ?)",
            (command.time_s, command.action, command.by, command.text),
        )

    def add_fault(
        self,
        time_s: float,
        kind: str,
        reason: str,
        action: str,
        attempt: str | None = None,
        index: int | None = None,
    ) -> None:
        self._db.execute(
            "INSERT INTO fault(time_s, attempt, volume_index, kind, reason, action) "
            "VALUES(?, ?, ?, ?, ?, ?)",
            (time_s, attempt, index, kind, reason, action),
        )

    def add_note(self, note: Note, action: str) -> None:
        self.add_fault(note.received_s, note.kind, note.reason, action, note.attempt, note.index)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table as dictionaries, for reports; images and step bodies are left out."""
        cursor = self._db.execute(f'SELECT * FROM "{table}" ORDER BY 1')
        names = [column[0] for column in cursor.description]
        keep = [i for i, name in enumerate(names) if name not in {"body", "voxels", "rois"}]
        return [{names[i]: row[i] for i in keep} for row in cursor]
