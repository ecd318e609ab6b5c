"""The loop when things go wrong around it: stalls, deaths at bad moments, strangers, full disks."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtloop.clock import ClockFit
from rtloop.engine import Engine
from rtloop.errors import RecordError
from rtloop.host import HostWatch
from rtloop.journal import Record
from rtloop.link import Listener, Reporter
from rtloop.loop import Loop
from rtloop.observer import Geometry
from rtloop.replay import verify
from rtloop.schema import is_blank
from rtloop.wire import Feedback, Note, Trigger
from tests.faults.quiet import PATIENCE_S, TR_S, Quiet, quick
from tests.rtloop.simulated import series, small_config, small_engine, small_plan, small_rois
from tests.rtloop.sites import Site
from tools.local import free_ports

VOLUMES = quick()


@pytest.fixture
def site() -> Iterator[Quiet]:
    with Quiet.site() as quiet:
        yield quiet


def test_a_slow_disk_makes_no_volume_missing(site: Quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the socket while a commit takes long has come in time."""
    add_message = Record.add_message

    def slow(self: Record, feedback: Feedback, event: int | None) -> None:
        if feedback.index in (10, 30):
            time.sleep(1.0)
        add_message(self, feedback, event)

    monkeypatch.setattr(Record, "add_message", slow)
    with site.loop() as loop, site.source() as source:
        for volume in VOLUMES:
            source.send(volume)
        assert source.drain(PATIENCE_S)
        loop.end(PATIENCE_S)
    assert site.became("late") == []
    assert [kind for kind, _ in site.faults()] == []
    assert site.outcomes() == ["complete"]


def test_a_run_whose_end_never_comes_after_a_restart_ends(
    site: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine died, and the last volumes were dropped: nobody will send anything again."""
    monkeypatch.setattr("rtloop.loop.RESUME_S", 0.3)
    site.leave(VOLUMES[:58])
    with site.loop() as loop, site.source():
        loop.end(PATIENCE_S)
    assert site.outcomes() == ["complete"]
    assert [index for kind, index in site.faults() if kind == "missing"] == [58, 59]
    assert verify(site.record).identical


def test_a_resumed_run_gives_nothing_up_before_its_source_is_back(
    site: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtloop.loop.RESUME_S", 0.3)
    site.leave(VOLUMES[:30])
    with site.loop() as loop:
        time.sleep(1.5)
        with site.source() as source:
            for volume in VOLUMES[30:]:
                source.send(volume)
            assert source.drain(PATIENCE_S)
            loop.end(PATIENCE_S)
    assert ("missing", 30) not in site.faults()
    assert len(site.became("used")) == 57


def test_the_end_of_the_series_is_heard_and_acknowledged(site: Quiet) -> None:
    with site.loop() as loop, site.source() as source:
        for volume in VOLUMES:
            source.send(volume)
        source.send(Note("series_closed", "one", None, "complete", 1.0))
        assert source.drain(PATIENCE_S)
        loop.end(PATIENCE_S)
    assert ("series_closed", None) in site.faults()


def test_a_series_that_does_not_fit_is_passed_by(site: Quiet) -> None:
    """Of another TR or grid, in the middle of a run: the run goes on, and so does its attempt."""
    other_tr = quick("two", 3, tr_s=2.0)
    far = VOLUMES[0].affine.copy()
    far[:3, 3] = 500.0
    grid = [replace(volume, attempt="three", affine=far) for volume in VOLUMES[:2]]
    with site.loop() as loop, site.source() as source:
        for volume in [*VOLUMES[:30], *other_tr, *grid, *VOLUMES[30:]]:
            source.send(volume)
        assert source.drain(PATIENCE_S)
        loop.end(PATIENCE_S)
    assert site.outcomes() == ["complete"]
    assert [f for f in site.faults() if f[0] == "foreign"] == [
        ("foreign", 0), ("foreign", 1), ("foreign", 2), ("foreign", 0), ("foreign", 1),
    ]  # fmt: skip
    assert len(site.became("used")) == 57
    assert verify(site.record).identical


def test_when_the_record_fails_the_screen_is_neutral(
    site: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it fails: here while a trigger is noted."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Record, "add_trigger", full)
    scenes = []
    network = site.session.network
    with (
        pytest.raises(RecordError, match="feedback stops until"),
        contextlib.closing(Listener(network.feedback)) as listener,
        contextlib.closing(Reporter(network.reports)) as reporter,
        site.loop() as loop,
        site.source() as source,
    ):
        for volume in VOLUMES[:40]:
            source.send(volume)
        assert source.drain(PATIENCE_S)
        reporter.send(Trigger(1, 5.0, "keyboard"))
        until = time.monotonic() + PATIENCE_S
        while "neutral" not in scenes and time.monotonic() < until:
            heard = listener.receive(0.1)
            scenes += [heard.scene] if isinstance(heard, Feedback) else []
        loop.end(PATIENCE_S)
    assert scenes[-1] == "neutral"
    assert site.outcomes() == [None], "left open, to be resumed when there is room"


def test_a_loop_whose_parent_died_before_it_began_leaves(site: Quiet) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    record = Record.create(site.record, {"session": "test"})
    with record, contextlib.closing(Loop(site.session, site.plan, record, child)) as loop:
        began = time.monotonic()
        loop.run()
        assert time.monotonic() - began < PATIENCE_S
    assert ("supervisor lost", None) in site.faults()


def test_children_end_with_a_supervisor_that_dies_while_they_start(tmp_path: Path) -> None:
    (page,) = free_ports(1)
    site = Site(tmp_path, f'console = "127.0.0.1:{page}"')
    text = site.session.read_text()
    site.session.write_text(text.replace('kind = "stream"', 'kind = "folder"\nwatch = "."'))
    with site.start() as run:
        children = {name: site.child(name) for name in ("engine", "gateway", "console")}
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        until = time.monotonic() + PATIENCE_S
        while any(map(_lives, children.values())) and time.monotonic() < until:
            time.sleep(0.05)
        left = [name for name, pid in children.items() if _lives(pid)]
        for name in left:
            os.kill(children[name], signal.SIGKILL)
    assert left == [], "outlived their supervisor"


@pytest.mark.parametrize("outcome", ["complete", "stopped"])
def test_an_engine_that_dies_when_all_is_done_has_done_it(tmp_path: Path, outcome: str) -> None:
    """Killed while it says farewell: the run is over, and was no failure."""
    site = Site(tmp_path)
    with site.start() as run, site.source() as source:
        site.feed(source, series(60 if outcome == "complete" else 20))
        if outcome == "stopped":
            run.send_signal(signal.SIGTERM)
        until = time.monotonic() + PATIENCE_S
        while site.outcomes() != [outcome] and time.monotonic() < until:
            time.sleep(0.01)
        site.kill("engine")
        assert run.wait(PATIENCE_S) == 0
    assert site.outcomes() == [outcome]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("again", [39, 20])
def test_what_takes_no_place_in_time_leaves_the_screen_as_it_is(again: int) -> None:
    """A volume that comes twice is no reason to tell the participant that feedback is held."""
    volumes, engine = series(60), small_engine()
    for volume in volumes[:40]:
        shown = engine.step(volume).screen
    assert shown.scene == "feedback"
    assert engine.step(volumes[again]).screen == shown


def test_a_late_volume_does_not_hold_the_feedback_of_its_successor() -> None:
    volumes, engine = series(60), small_engine()
    for volume in [*volumes[:38], volumes[39]]:
        shown = engine.step(volume).screen
    late = engine.step(volumes[38])
    assert late.status == "late"
    assert shown.scene == "feedback"
    assert late.screen == shown


# --- the host --------------------------------------------------------------------------------


class Clocks:
    """A host clock that can be set, beside one that cannot; reading may take long."""

    def __init__(self) -> None:
        self.now, self.ahead, self.pauses = 100.0, 1e9, list[float]()

    def monotonic(self) -> float:
        self.now += 1e-4
        return self.now

    def time(self) -> float:
        self.now += self.pauses.pop() if self.pauses else 1e-4
        return self.now + self.ahead


def test_a_clock_that_is_set_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clocks = Clocks()
    monkeypatch.setattr("rtloop.host.time", clocks)
    watch = HostWatch(tmp_path)
    assert watch.look(0) == []
    clocks.ahead -= 3600.0
    ((kind, reason, _),) = watch.look(0)
    assert (kind, reason) == ("clock step", "host clock moved by -3600.000 s")
    assert watch.look(0) == []


def test_being_set_aside_between_two_clocks_is_no_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clocks = Clocks()
    monkeypatch.setattr("rtloop.host.time", clocks)
    watch = HostWatch(tmp_path)
    clocks.pauses = [5.0]
    assert watch.look(0) == []
    assert watch.look(0) == []


def test_scores_do_not_see_a_clock_step(site: Quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's clock is set back by an hour in the middle of a run."""
    clocks = Clocks()
    clocks.monotonic = time.monotonic  # type: ignore[method-assign]
    clocks.time = lambda: time.time() + clocks.ahead  # type: ignore[method-assign]
    clocks.ahead = 0.0
    monkeypatch.setattr("rtloop.host.time", clocks)
    with site.loop() as loop, site.source() as source:
        for volume in VOLUMES[:30]:
            source.send(volume)
        assert source.drain(PATIENCE_S)
        clocks.ahead = -3600.0
        for volume in VOLUMES[30:]:
            source.send(volume)
        assert source.drain(PATIENCE_S)
        loop.end(PATIENCE_S)
    assert [kind for kind, _ in site.faults()] == ["clock step"]
    assert len(site.became("used")) == 57
    assert verify(site.record).identical


def test_a_volume_that_comes_many_times_says_nothing_of_the_clock(site: Quiet) -> None:
    """Nor does a late one: both come out of their time."""
    told = [replace(volume, acquired_s=100.0 + volume.index * TR_S) for volume in VOLUMES]
    now_s = time.time()
    timed = [replace(volume, received_s=now_s + volume.index * TR_S) for volume in told]
    late = replace(timed[35], received_s=now_s + 37 * TR_S)
    with site.loop() as loop, site.source() as source:
        for volume in [timed[0]] * 12 + [*timed[1:35], *timed[36:38], late, *timed[38:]]:
            source.send(volume)
        assert source.drain(PATIENCE_S)
        loop.end(PATIENCE_S)
    assert site.outcomes() == ["complete"]
    kinds = [kind for kind, _ in site.faults()]
    assert kinds == ["duplicate"] * 11 + ["missing", "late"]


@pytest.mark.parametrize("acquired_s", [5.0, None])
def test_a_scanner_clock_that_stands_still_breaks_nothing(acquired_s: float | None) -> None:
    fit = ClockFit(1.0)
    for index in range(8):
        fit.update(index, float(index), 100.0 + index)
    for k in range(60):
        fit.update(8 + k, acquired_s, 200.0 + 3.0 * k * k)
    same = ClockFit(1.0)
    for k in range(60):
        same.update(0, acquired_s, 100.0 + k)


# --- images that are none -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_an_empty_image_is_no_reference(value: float) -> None:
    """The next volume becomes it; the run is not lost."""
    volumes, engine = series(60), small_engine()
    empty = np.full(volumes[3].shape, value, np.int16 if value == 0 else np.float32, order="F")
    volumes[3] = replace(volumes[3], data=empty)
    if value != 0:
        volumes = [replace(v, data=np.asfortranarray(v.data, np.float32)) for v in volumes]
        geometry = Geometry.of(volumes[0])
        engine = Engine(small_plan(), small_config(), small_rois(small_plan()), None, geometry)
    steps = [engine.step(volume) for volume in volumes]
    assert steps[3].status == "refused"
    assert "expected an image with finite voxels" in steps[3].reasons[0]
    assert {step.status for step in steps[4:]} == {"used"}
    assert sum(math.isfinite(step.scores[0].value) for step in steps) > 40


@pytest.mark.parametrize("value", [0, 1000, 32767])
def test_a_flat_image_is_not_used(value: int) -> None:
    """A volume of one value has no likeness to anything."""
    volumes, engine = series(60), small_engine()
    flat = np.full(volumes[30].shape, value, np.int16, order="F")
    steps = [engine.step(volume) for volume in [*volumes[:30], replace(volumes[30], data=flat)]]
    assert steps[30].status == "censored"
    assert steps[30].weight == 0


# --- a record whose making was cut short -------------------------------------------------------

HALF_MADE = """
import os, sys
from pathlib import Path
from rtloop import journal

class Dying:
    def __init__(self, db, left): self.db, self.left = db, left
    def __getattr__(self, name): return getattr(self.db, name)
    def execute(self, *arguments):
        if self.left == 0: os.kill(os.getpid(), 9)
        self.left -= 1
        return self.db.execute(*arguments)
    def executescript(self, text):
        for statement in text.split(";"): self.execute(statement)

real = journal.connect
journal.connect = lambda path, writable: (
    Dying(real(path, True), int(sys.argv[2])) if writable else real(path, False))
journal.Record.create(Path(sys.argv[1]), {"plan": 1, "engine": 2})
"""


@pytest.mark.parametrize("after", [0, 3, 12, 19])
def test_a_record_half_made_is_made_anew(site: Quiet, after: int) -> None:
    """Killed at any instant of making it, the engine finds no record, not a broken one."""
    site.record.parent.mkdir()
    made = subprocess.run(
        [sys.executable, "-c", HALF_MADE, str(site.record), str(after)], check=False
    )
    assert made.returncode == -signal.SIGKILL
    assert is_blank(site.record)
    with site.loop() as loop, site.source() as source:
        for volume in VOLUMES:
            source.send(volume)
        assert source.drain(PATIENCE_S)
        loop.end(PATIENCE_S)
    assert site.outcomes() == ["complete"]


def test_a_file_that_is_no_record_is_not_blank(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert not is_blank(tmp_path / "notes.txt")
    assert is_blank(tmp_path / "none.sqlite")
