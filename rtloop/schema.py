"""The record's file: its tables, and how SQLite opens it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["SCHEMA", "SCHEMA_VERSION", "connect", "is_blank"]

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE about(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE attempt(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, opened_s REAL NOT NULL,
    closed_s REAL, outcome TEXT, rois BLOB NOT NULL, geometry TEXT NOT NULL);
CREATE TABLE event(
    n INTEGER PRIMARY KEY, attempt INTEGER NOT NULL REFERENCES attempt(id),
    kind TEXT NOT NULL, volume_index INTEGER NOT NULL, header BLOB NOT NULL);
CREATE TABLE image(event INTEGER PRIMARY KEY REFERENCES event(n), voxels BLOB NOT NULL);
CREATE TABLE step(
    event INTEGER PRIMARY KEY REFERENCES event(n), volume_index INTEGER NOT NULL,
    status TEXT NOT NULL, reasons TEXT NOT NULL, weight REAL, fd_mm REAL,
    raw_score REAL, standard_error REAL, scene TEXT NOT NULL, feedback REAL, trial INTEGER,
    body BLOB NOT NULL);
CREATE TABLE times(
    event INTEGER PRIMARY KEY REFERENCES event(n), acquired_s REAL, received_s REAL,
    arrived_s REAL, published_s REAL);
CREATE TABLE message(
    id INTEGER PRIMARY KEY, event INTEGER REFERENCES event(n), scene TEXT NOT NULL,
    value REAL, trial INTEGER, published_s REAL NOT NULL, expires_s REAL);
CREATE TABLE shown(
    n INTEGER PRIMARY KEY, message INTEGER NOT NULL, scene TEXT NOT NULL, value REAL,
    flip_s REAL NOT NULL, status TEXT NOT NULL, UNIQUE(message, flip_s, status));
CREATE TABLE trigger_pulse(
    n INTEGER PRIMARY KEY, count INTEGER NOT NULL, time_s REAL NOT NULL, source TEXT NOT NULL);
CREATE TABLE fault(
    n INTEGER PRIMARY KEY, time_s REAL NOT NULL, attempt TEXT, volume_index INTEGER,
    kind TEXT NOT NULL, reason TEXT NOT NULL, action TEXT NOT NULL);
CREATE TABLE command(
    n INTEGER PRIMARY KEY, time_s REAL NOT NULL, action TEXT NOT NULL, by TEXT NOT NULL,
    text TEXT NOT NULL);
CREATE TABLE kept(name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE stream(epoch TEXT PRIMARY KEY, acknowledged INTEGER NOT NULL);
CREATE INDEX event_by_attempt ON event(attempt, volume_index);
"""


def is_blank(path: Path) -> bool:
    """Whether no record is there yet: no file, or what a process left that died making one."""
    if not path.exists():
        return True
    try:
        with closing(connect(path, writable=False)) as db:
            (n_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return int(n_tables) == 0
    except sqlite3.Error:
        return False


def connect(path: Path, writable: bool) -> sqlite3.Connection:
    """A connection that commits nothing by itself; a reader's changes nothing on disk."""
    mode = "rwc" if writable else "ro"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)
    if writable:
        # Volumes are megabytes: large pages keep their overflow chains short.
        db.execute("PRAGMA page_size = 16384")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    return db
