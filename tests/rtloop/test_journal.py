"""The record: what is committed is there, what is not is not, volumes come back as they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rtloop.errors import RecordError
from rtloop.events import Deadline, Operator, encode
from rtloop.journal import Record, Times
from rtloop.observer import Geometry
from rtloop.volume import Volume
from rtloop.wire import Command, Note, Shown, Trigger
from tests.rtloop.simulated import series, small_engine, small_plan, small_rois

TIMES = Times(1.0, 2.0, 3.0, 4.0)


def fill(path: Path, n_volumes: int = 20) -> Record:
    """A record of a short attempt, one volume missing."""
    record = Record.create(path, {"session": "s"})
    volumes = series(n_volumes)
    engine = small_engine()
    with record.transaction():
        geometry = Geometry.of(volumes[0]).to_json()
        attempt = record.open_attempt("one", 0.0, small_rois(small_plan()).to_bytes(), geometry)
    for event in [*volumes[:10], Deadline(10), *volumes[11:], Operator("stop")]:
        with record.transaction():
            record.add_event(attempt, event, engine.step(event), TIMES)
    return record


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    with fill(tmp_path / "run.sqlite") as record:
        (attempt,) = record.attempts()
        events = [record.event(recorded) for recorded in record.events(attempt)]
    volumes = series(20)
    assert events[10] == Deadline(10)
    assert events[-1] == Operator("stop")
    for event in events:
        if isinstance(event, Volume):
            original = volumes[event.index]
            assert event.data.dtype == original.data.dtype
            assert event.data.flags.f_contiguous
            np.testing.assert_array_equal(event.data, original.data)
            np.testing.assert_array_equal(event.affine, original.affine)
            assert (event.tr_s, event.received_s) == (original.tr_s, original.received_s)


def test_steps_come_back_bit_by_bit(tmp_path: Path) -> None:
    engine = small_engine()
    with fill(tmp_path / "run.sqlite") as record:
        (attempt,) = record.attempts()
        for recorded in record.events(attempt):
            assert encode(engine.step(record.event(recorded))) == recorded.body
            assert encode(recorded.step) == recorded.body


def test_committed_ranges(tmp_path: Path) -> None:
    with fill(tmp_path / "run.sqlite") as record:
        assert record.committed() == {"one": [(0, 9), (11, 19)]}


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    with fill(tmp_path / "run.sqlite") as record:
        before = record.rows("fault"), record.acknowledged("e")
        with pytest.raises(ZeroDivisionError), record.transaction():
            record.add_fault(0.0, "missing", "why", "what")
            record.acknowledge("e", 7)
            raise ZeroDivisionError
        assert (record.rows("fault"), record.acknowledged("e")) == before


def test_reports_are_kept(tmp_path: Path) -> None:
    with fill(tmp_path / "run.sqlite") as record:
        with record.transaction():
            record.add_shown(Shown(3, "one", "feedback", 41.5, 12.25))
            record.add_trigger(Trigger(1, 11.0, "keyboard"))
            record.add_command(Command("note", "operator", "coughed", 10.0))
            record.add_note(Note("refused", "one", 4, "cut short", 9.0), "counts as missing")
        assert record.rows("shown")[0]["value"] == 41.5
        assert record.rows("trigger_pulse")[0]["count"] == 1
        assert record.rows("command")[0]["text"] == "coughed"
        assert record.rows("fault")[0]["reason"] == "cut short"


def test_reading_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "run.sqlite").close()
    before = (tmp_path / "run.sqlite").read_bytes()
    with Record.open(tmp_path / "run.sqlite") as record:
        record.rows("step")
        with pytest.raises(RecordError), record.transaction():
            record.acknowledge("e", 1)
    assert (tmp_path / "run.sqlite").read_bytes() == before


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    fill(tmp_path / "run.sqlite").close()
    with pytest.raises(RecordError, match="expected a new file"):
        Record.create(tmp_path / "run.sqlite", {})


@pytest.mark.parametrize("content", [b"", b"not a database, certainly not one" * 40])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.sqlite").write_bytes(content)
    with pytest.raises(RecordError):
        Record.open(tmp_path / "x.sqlite")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="found none"):
        Record.open(tmp_path / "x.sqlite")


WRITER = """
import sys
from pathlib import Path
from rtloop.journal import Record
from tests.rtloop.test_journal import fill
record = fill(Path(sys.argv[1]), 12)
k = 0
while True:
    with record.transaction():
        record.add_fault(0.0, "missing", "x" * 5000, "counted", None, k)
        record.acknowledge("epoch", k)
    print(k, flush=True)
    k += 1
"""


def test_what_was_committed_survives_kill(tmp_path: Path) -> None:
    """Each number printed was committed before; after SIGKILL each is there, in one piece."""
    path = tmp_path / "run.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    told = -1
    deadline = time.monotonic() + 30
    while told < 40 and time.monotonic() < deadline:
        told = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split()
    writer.wait()
    writer.stdout.close()
    told = int(rest[-1]) if rest else told
    with Record.open(path, writable=True) as record:
        faults = [row["volume_index"] for row in record.rows("fault") if row["action"] == "counted"]
        assert faults == list(range(len(faults)))
        assert len(faults) in (told + 1, told + 2)
        assert record.acknowledged("epoch") == faults[-1]
