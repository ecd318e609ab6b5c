"""A run as it is at a site: real processes, real sockets, and processes killed on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from rtloop import attempts
from rtloop.config import SessionConfig
from rtloop.errors import ConfigError, DisplayError, FcnefError, LinkError, PlanError, RecordError
from rtloop.events import encode
from rtloop.journal import Record
from rtloop.link import Listener, Reporter
from rtloop.replay import verify
from rtloop.session import next_run, preflight, run_session
from rtloop.wire import Command, Feedback, Note, Shown, Trigger
from tests.rtloop.simulated import series, small_engine
from tests.rtloop.sites import PATIENCE_S, Site

VOLUMES = series(60)


def clean_steps() -> list[bytes]:
    engine = small_engine()
    return [encode(engine.step(volume)) for volume in VOLUMES]


def gone(pid: int, within_s: float) -> bool:
    """Whether a process that is no child of ours ends in time."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_run_from_first_to_last_volume(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES)
        assert run.wait(PATIENCE_S) == 0
    assert site.steps() == clean_steps()
    assert site.outcomes() == ["complete"]
    assert not site.notice.exists()
    verdict = verify(site.record)
    assert verdict.identical
    assert verdict.n_events == 60
    assert verify(site.record, "rois").identical


def test_an_engine_killed_twice_continues_with_the_same_bits(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES[:20])
        site.kill("engine")
        for volume in VOLUMES[20:40]:
            source.send(volume)
        # killed again while volumes are under way, at no particular instant
        before = source.acknowledged
        until = time.monotonic() + PATIENCE_S
        while source.acknowledged < before + 5 and time.monotonic() < until:
            source.poll(0.05)
        site.kill("engine")
        site.feed(source, VOLUMES[40:])
        assert run.wait(PATIENCE_S) == 0
    assert site.steps() == clean_steps()
    assert [kind for kind, _ in site.faults()].count("engine restarted") >= 1
    assert verify(site.record).identical


def test_a_killed_supervisor_takes_its_children_along_and_resumes(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.source() as source:
        with site.start() as run:
            site.feed(source, VOLUMES[:25])
            engine = site.child("engine")
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
            assert gone(engine, 3.0)
        site.notice.unlink(missing_ok=True)
        with site.start() as run:
            site.feed(source, VOLUMES[25:])
            assert run.wait(PATIENCE_S) == 0
    assert site.steps() == clean_steps()
    assert site.outcomes() == ["complete"]


def test_a_restarted_source_sends_nothing_twice(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.start() as run:
        with site.source() as source:
            site.feed(source, VOLUMES[:30])
        with site.source() as source:
            until = time.monotonic() + PATIENCE_S
            while not source.connected and time.monotonic() < until:
                source.poll(0.1)
            assert source.committed == {"one": [(0, 29)]}
            site.feed(source, VOLUMES[30:])
            assert run.wait(PATIENCE_S) == 0
    assert site.steps() == clean_steps()


def test_an_aborted_series_is_closed_and_kept(tmp_path: Path) -> None:
    site = Site(tmp_path)
    again = series(60, attempt="two", seed=8)
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES[:22])
        site.feed(source, [Note("series_closed", "one", None, "aborted", 1.0)])
        # a straggler of the old attempt must not disturb the new one
        site.feed(source, [*again[:10], VOLUMES[22], *again[10:]])
        assert run.wait(PATIENCE_S) == 0
    assert site.outcomes() == ["aborted", "complete"]
    assert ("late", 22) in site.faults()
    engine = small_engine()
    assert site.steps()[22:] == [encode(engine.step(volume)) for volume in again]
    assert verify(site.record).identical


def test_a_missing_volume_is_found_by_its_deadline(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES[:59])
        assert run.wait(PATIENCE_S) == 0
    assert ("missing", 59) in site.faults()
    assert site.outcomes() == ["complete"]
    assert verify(site.record).identical


def test_a_series_that_ends_early_is_incomplete(tmp_path: Path) -> None:
    site = Site(tmp_path, n_volumes=30)
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES[:24])
        assert run.wait(PATIENCE_S) == 0
    assert site.outcomes() == ["incomplete"]
    assert [index for kind, index in site.faults() if kind == "missing"] == list(range(24, 30))


def test_feedback_reports_and_commands(tmp_path: Path) -> None:
    """A display hears the newest feedback, reports its flip, and stops the run."""
    site = Site(tmp_path)
    feedback, reports = (f"tcp://127.0.0.1:{site.ports[k]}" for k in (1, 3))
    with (
        site.start() as run,
        site.source() as source,
        contextlib.closing(Listener(feedback, newest_only=True)) as listener,
        contextlib.closing(Reporter(reports)) as reporter,
    ):
        site.feed(source, VOLUMES[:40])
        heard = listener.receive(PATIENCE_S)
        assert isinstance(heard, Feedback)
        # the newest is repeated until its flip is reported
        until = time.monotonic() + PATIENCE_S
        while heard.index < 39 and time.monotonic() < until:
            heard = listener.receive(1.0) or heard
        assert (heard.scene, heard.index) == ("feedback", 39)
        assert heard.value is not None
        reporter.send(Trigger(1, 5.0, "keyboard"))
        reporter.send(Shown(heard.id, heard.attempt, heard.scene, heard.value, 7.5))
        reporter.send(Command("stop", "participant", "", time.time()))
        scenes = set[str]()
        while run.poll() is None and time.monotonic() < until:
            message = listener.receive(0.2)
            if isinstance(message, Feedback):
                scenes.add(message.scene)
        assert run.wait(PATIENCE_S) == 0
    assert scenes & {"neutral", "end"}
    assert site.outcomes() == ["stopped"]
    with Record.open(site.record) as record:
        shown = record.rows("shown")
        assert [(row["message"], row["value"], row["flip_s"]) for row in shown] == [
            (heard.id, heard.value, 7.5)
        ]
        assert record.rows("trigger_pulse")[0]["source"] == "keyboard"
        assert record.rows("command")[0]["by"] == "participant"
        messages = {row["id"]: row for row in record.rows("message")}
        assert messages[heard.id]["value"] == heard.value


def test_a_finished_run_is_not_recorded_over(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES)
        assert run.wait(PATIENCE_S) == 0
    with pytest.raises(ConfigError, match="found all complete"):
        run_session(site.session)
    with pytest.raises(ConfigError, match="expected one of run"):
        run_session(site.session, "other")


def test_another_plan_cannot_continue_a_record(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.start() as run, site.source() as source:
        site.feed(source, VOLUMES[:20])
        run.send_signal(signal.SIGKILL)
        run.wait()
    site.plan.model_copy(update={"window_s": 20.0}).save(tmp_path / "plan.json")
    with site.start() as run:
        assert run.wait(PATIENCE_S) == 2
        assert run.stderr is not None
        assert "expected the plan it was begun with" in run.stderr.read()


def test_rois_outside_the_images_end_the_run_in_one_line(tmp_path: Path) -> None:
    spheres = [
        {"name": "A", "center_mm": [9, 15, 12], "radius_mm": 4},
        {"name": "B", "center_mm": [240, 15, 12], "radius_mm": 4},
    ]
    site = Site(tmp_path, rois={"kind": "spheres", "spheres": spheres})
    with site.start() as run, site.source() as source:
        source.send(VOLUMES[0])
        until = time.monotonic() + PATIENCE_S
        while run.poll() is None and time.monotonic() < until:
            source.poll(0.1)
        assert run.wait(PATIENCE_S) == 2
        assert run.stderr is not None
        words = run.stderr.read()
    assert "expected sphere 'B'" in words
    assert "Traceback" not in words


# --- before the first volume ----------------------------------------------------------------


def check(site: Site) -> None:
    session = SessionConfig.load(site.session)
    preflight(session, next_run(session))


def test_preflight_passes_a_good_site(tmp_path: Path) -> None:
    check(Site(tmp_path))


def test_dummies_that_are_not_exported_take_no_volume(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "scanner.toml").write_text("dummies_exported = false\n")
    text = site.session.read_text().replace("[source]", '[source]\nscanner = "scanner.toml"')
    site.session.write_text(text)
    session = SessionConfig.load(site.session)
    assert session.engine.dummies_s == 3.0
    assert attempts.settle(session).engine.dummies_s == 0.0
    (tmp_path / "scanner.toml").write_text("")
    assert attempts.settle(session) == session


def test_preflight_finds_a_port_in_use(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", site.ports[1]))
        other.listen()
        with pytest.raises(LinkError, match="expected a free port"):
            check(site)


def test_preflight_finds_an_unwritable_record(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "records").write_text("a file where the folder should be")
    with pytest.raises(RecordError, match="expected a writable folder"):
        check(site)


def test_preflight_finds_a_missing_plan(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "plan.json").unlink()
    with pytest.raises(PlanError, match="expected a readable file"):
        check(site)


def test_preflight_finds_no_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    site.session.write_text(
        site.session.read_text().replace("enabled = false\n[network]", "[network]")
    )
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(DisplayError, match="expected"):
        check(site)


def test_preflight_finds_a_display_option_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psychopy")
    site = Site(tmp_path)
    text = site.session.read_text().replace(
        "enabled = false\n[network]", "[display.options]\nstyle = 3\n[network]"
    )
    site.session.write_text(text)
    monkeypatch.setenv("DISPLAY", ":99")
    with pytest.raises(DisplayError, match="style"):
        check(site)


@pytest.mark.parametrize(
    "change",
    [
        ('name = "test"', 'name = "te st"'),
        ("[network]", "[network]\nsurprise = 1"),
        ("motion = 0", "motion = 7"),
        ('kind = "stream"', 'kind = "telepathy"'),
        ("[source]", "[source"),
        ("drift_order = 1", "drift_order = nan"),
    ],
)
def test_a_wrong_session_file_is_one_line(tmp_path: Path, change: tuple[str, str]) -> None:
    site = Site(tmp_path)
    site.session.write_text(site.session.read_text().replace(*change, 1))
    with pytest.raises(FcnefError) as caught:
        SessionConfig.load(site.session)
    assert "\n" not in str(caught.value)
