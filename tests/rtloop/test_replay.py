"""Replay: a sound record is identical, a changed one is named, a damaged one is one line."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtloop import attempts
from rtloop.config import SessionConfig
from rtloop.errors import FcnefError, RecordError
from rtloop.events import Deadline, Event, Operator, decode, encode
from rtloop.journal import Record, Times
from rtloop.replay import rescore, verify
from rtloop.volume import Volume
from tests.rtloop.simulated import series, small_config, small_plan, small_rois
from tools.cli import run

VOLUMES = series(60)
EVENTS: list[Event] = [
    *VOLUMES[:20],
    VOLUMES[19],
    *VOLUMES[21:30],
    VOLUMES[20],
    Deadline(30),
    Operator("pause"),
    Operator("resume"),
    *VOLUMES[31:],
]
"""A duplicate, a late volume, a missing one, a pause."""


def session_in(folder: Path, **engine: object) -> SessionConfig:
    small_plan().save(folder / "plan.json")
    return SessionConfig.model_validate(
        {
            "name": "test",
            "plan": "plan.json",
            "runs": [{"name": "run"}],
            "engine": {**small_config().model_dump(), **engine},
            "folder": folder,
        }
    )


def recorded(folder: Path, events: list[Event] = EVENTS, outcome: str | None = "complete") -> Path:
    """A record of events, as the loop writes it."""
    session = session_in(folder)
    plan = attempts.load_plan(session, session.runs[0])
    with attempts.open_record(session, session.runs[0], plan) as record:
        first = next(event for event in events if isinstance(event, Volume))
        running = attempts.begin(session, plan, record, first, 1.0)
        for event in events:
            step = running.engine.step(event)
            with record.transaction():
                record.add_event(running.attempt, event, step, Times(None, 1.0, 1.0, 1.0))
        if outcome is not None:
            with record.transaction():
                record.close_attempt(running.attempt, 2.0, outcome)  # type: ignore[arg-type]
        return record.path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "run.sqlite"))


def change(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert db.execute(statement, values).rowcount == 1


def event_of(path: Path, index: int, kind: str = "volume") -> int:
    """Number of the first event that speaks of a volume."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        row = db.execute(
            "SELECT min(n) FROM event WHERE volume_index = ? AND kind = ?", (index, kind)
        ).fetchone()
    return int(row[0])


def command(*arguments: str) -> tuple[int, str]:
    """`fcnef replay` in this process: exit status and what it said."""
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        status = run(["replay", *arguments])
    return status, words.getvalue().lstrip()


@pytest.mark.parametrize("start", ["volumes", "rois"])
def test_a_sound_record_is_identical(sound: Path, start) -> None:
    verdict = verify(sound, start)
    assert verdict.identical
    assert verdict.acceptable
    assert verdict.n_events == len(EVENTS)
    assert verdict.n_scores > 30
    status, words = command(str(sound), "--from", start)
    assert status == 0
    assert f"identical: {len(EVENTS)} events" in words


def test_the_command_in_a_process_of_its_own(copy: Path) -> None:
    change(copy, "UPDATE step SET raw_score = 0.5 WHERE event = ?", event_of(copy, 40))
    replayed = subprocess.run(
        [sys.executable, "-m", "tools.cli", "replay", str(copy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert replayed.returncode == 1
    assert "volume 40" in replayed.stdout
    assert "Traceback" not in replayed.stderr


# --- somebody changed the record ------------------------------------------------------------


def tamper_score(path: Path, event: int) -> None:
    """The score in the step's body, which reports decode."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        body = db.execute("SELECT body FROM step WHERE event = ?", (event,)).fetchone()[0]
        old = np.float64(decode(body).scores[0].value).byteswap().tobytes()
        new = np.float64(decode(body).scores[0].value + 1e-12).byteswap().tobytes()
        assert old in body
        db.execute("UPDATE step SET body = ? WHERE event = ?", (body.replace(old, new), event))


def tamper_observation(path: Path, event: int) -> None:
    """One bit of an ROI mean."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        body = db.execute("SELECT body FROM step WHERE event = ?", (event,)).fetchone()[0]
        signals = decode(body).observation.signals.tobytes()  # type: ignore[union-attr]
        changed = bytes([signals[0] ^ 1]) + signals[1:]
        db.execute(
            "UPDATE step SET body = ? WHERE event = ?", (body.replace(signals, changed), event)
        )


def tamper_voxel(path: Path, event: int) -> None:
    """One voxel of an ROI."""
    voxel = int(small_rois(small_plan()).voxels[0])
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        body = db.execute("SELECT voxels FROM image WHERE event = ?", (event,)).fetchone()[0]
        voxels = np.frombuffer(body, np.int16).copy()
        voxels[voxel] ^= 1
        db.execute("UPDATE image SET voxels = ? WHERE event = ?", (voxels.tobytes(), event))


def column(name: str, value: object) -> Callable[[Path, int], None]:
    """A column that repeats the step for people and reports."""

    def tamper(path: Path, event: int) -> None:
        change(path, f"UPDATE step SET {name} = ? WHERE event = ?", value, event)

    return tamper


@pytest.mark.parametrize(
    ("tamper", "word"),
    [
        (tamper_score, "scores"),
        (tamper_observation, "observation"),
        (tamper_voxel, "observation"),
        (column("raw_score", 0.1), "raw_score"),
        (column("raw_score", None), "raw_score"),
        (column("feedback", 99.0), "feedback"),
        (column("status", "censored"), "status"),
        (column("weight", 0.0), "weight"),
    ],
)
def test_a_change_is_found_and_named(copy: Path, tamper, word: str) -> None:
    tamper(copy, event_of(copy, 40))
    verdict = verify(copy)
    assert not verdict.acceptable
    assert "volume 40" in verdict.difference
    assert word in verdict.difference
    status, words = command(str(copy))
    assert status == 1
    assert "volume 40" in words


def test_changed_signals_are_found_from_the_rois_too(copy: Path) -> None:
    """The scores that followed are not those of the changed signals."""
    tamper_observation(copy, event_of(copy, 40))
    verdict = verify(copy, "rois")
    assert not verdict.acceptable
    assert "scores" in verdict.difference


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM image WHERE event = ?", "voxels"),
        ("UPDATE image SET voxels = x'0102' WHERE event = ?", "voxels"),
        ("DELETE FROM step WHERE event = ?", "step"),
        ("UPDATE step SET body = x'c1c1' WHERE event = ?", "event"),
        ("UPDATE event SET header = x'80' WHERE n = ?", "event"),
        ("UPDATE event SET header = x'c1' WHERE n = ?", "event"),
        ("UPDATE event SET kind = 'wish' WHERE n = ?", "event"),
    ],
)
def test_a_row_that_is_gone_or_broken_is_one_line(copy: Path, statement: str, what: str) -> None:
    change(copy, statement, event_of(copy, 40))
    with pytest.raises(RecordError, match="expected") as caught:
        verify(copy)
    assert "\n" not in str(caught.value)
    status, words = command(str(copy))
    assert status == 2
    assert "Traceback" not in words


# --- damaged files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    ["plan", "engine", "fingerprint"],
)
@pytest.mark.parametrize("value", [None, "{}", "not json", '"text"'])
def test_an_about_that_says_nothing_is_one_line(copy: Path, entry: str, value: str | None) -> None:
    if value is None:
        change(copy, "DELETE FROM about WHERE key = ?", entry)
    else:
        change(copy, "UPDATE about SET value = ? WHERE key = ?", value, entry)
    if (entry, value) == ("engine", "{}"):
        pytest.skip("no setting given is every setting at its default")
    status, words = command(str(copy))
    assert status == 2, words
    assert words.count("\n") == 1


@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.01, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_one_line(copy: Path, keep: float) -> None:
    body = copy.read_bytes()
    copy.write_bytes(body[: int(keep * len(body))])
    status, words = command(str(copy))
    assert status == 2, words
    assert "expected" in words
    assert words.count("\n") == 1


@pytest.mark.parametrize("seed", range(8))
def test_overwritten_pages_are_found_or_one_line(copy: Path, seed: int) -> None:
    """Whatever a failing disk leaves: a difference, one line, or nothing that matters."""
    random = np.random.default_rng(seed)
    body = bytearray(copy.read_bytes())
    for start in random.integers(0, len(body) - 4096, 6):
        body[start : start + 4096] = random.bytes(4096)
    copy.write_bytes(body)
    status, words = command(str(copy))
    assert status in (1, 2), words
    assert "Traceback" not in words


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(84)])
def test_what_is_no_record_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(content)
    status, words = command(str(path))
    assert status == 2
    assert words.count("\n") == 1


# --- a record that nobody has finished -------------------------------------------------------


def test_an_open_record_is_replayed(tmp_path: Path) -> None:
    path = recorded(tmp_path, EVENTS[:35], outcome=None)
    verdict = verify(path)
    assert verdict.identical
    assert verdict.n_events == 35


def test_a_record_is_replayed_while_it_is_written(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    plan = attempts.load_plan(session, session.runs[0])
    with attempts.open_record(session, session.runs[0], plan) as record:
        running = attempts.begin(session, plan, record, VOLUMES[0], time.time())
        for n, volume in enumerate(VOLUMES[:30], 1):
            step = running.engine.step(volume)
            with record.transaction():
                record.add_event(running.attempt, volume, step, Times(None, None, 1.0, 1.0))
            if n % 10 == 0:
                assert verify(record.path).n_events == n
        with record.transaction():
            record.add_event(
                running.attempt, VOLUMES[30], running.engine.step(VOLUMES[30]),
                Times(None, None, 1.0, 1.0),
            )  # fmt: skip
            assert verify(record.path).n_events == 30, "what is not committed has not happened"


# --- the same volumes, scored another way ----------------------------------------------------


def with_window(folder: Path, window_s: float, **engine: object) -> SessionConfig:
    folder.mkdir()
    session = session_in(folder, **engine)
    small_plan(window_s=window_s).save(folder / "plan.json")
    return session


def test_rescoring_gives_what_a_run_with_that_config_would_have_given(
    sound: Path, tmp_path: Path
) -> None:
    other = with_window(tmp_path / "other", 20.0, denoise={"motion": 0, "drift_order": 2})
    out = tmp_path / "new.sqlite"
    assert rescore(sound, other, out) == len(EVENTS)
    plan = attempts.load_plan(other, other.runs[0])
    with attempts.open_record(other, other.runs[0], plan) as record:
        engine = attempts.begin(other, plan, record, VOLUMES[0], 0.0).engine
        wanted = [encode(engine.step(event)) for event in EVENTS]
    with Record.open(out) as record, Record.open(sound) as old:
        (attempt,) = record.attempts()
        found = [event.body for event in record.events(attempt)]
        before = [event.body for event in old.events(old.attempts()[0])]
        assert attempt.outcome == "complete"
    assert found == wanted
    assert found != before
    assert verify(out).identical
    assert verify(out, "rois").identical


def test_rescoring_by_the_command(sound: Path, tmp_path: Path) -> None:
    other = with_window(tmp_path / "other", 16.0)
    toml = tmp_path / "other" / "session.toml"
    toml.write_text(
        'name = "again"\nplan = "plan.json"\n[[runs]]\nname = "run"\n'
        f"[engine]\ndummies_s = {other.engine.dummies_s}\n[engine.motion]\nenabled = false\n"
        "[engine.denoise]\nmotion = 0\ndrift_order = 1\n"
    )
    out = tmp_path / "again.sqlite"
    status, words = command(str(sound), "--config", str(toml), "--out", str(out))
    assert (status, out.exists()) == (0, True), words
    assert verify(out).identical
    status, words = command(str(sound), "--config", str(toml), "--out", str(out))
    assert status == 2
    assert "expected a new file" in words


def test_rescoring_that_cannot_be_done_leaves_no_file(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    session = session_in(folder)
    spheres = [
        {"name": "A", "center_mm": [9, 15, 12], "radius_mm": 4},
        {"name": "B", "center_mm": [240, 15, 12], "radius_mm": 4},
    ]
    small_plan(rois={"kind": "spheres", "spheres": spheres}).save(folder / "plan.json")
    out = tmp_path / "new.sqlite"
    with pytest.raises(FcnefError, match="expected sphere 'B'"):
        rescore(sound, session, out)
    assert not list(tmp_path.glob("new.sqlite*"))


def test_a_damaged_record_cannot_be_rescored_and_leaves_no_file(copy: Path, tmp_path: Path) -> None:
    other = with_window(tmp_path / "other", 20.0)
    change(copy, "DELETE FROM image WHERE event = ?", event_of(copy, 40))
    with pytest.raises(RecordError, match="expected"):
        rescore(copy, other, tmp_path / "new.sqlite")
    assert not list(tmp_path.glob("new.sqlite*"))
