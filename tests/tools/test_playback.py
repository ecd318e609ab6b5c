"""Playing a record back: the page and the display hear what the record says they heard."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtloop import attempts
from rtloop.errors import ConfigError, RecordError
from rtloop.journal import Record
from rtloop.link import Listener
from rtloop.wire import Feedback, Telemetry
from tests.rtloop.simulated import series, small_plan
from tests.tools.recorded import LATENCY_S, session_for, write_record
from tools import playback
from tools.playback import play

LOST = (30, 31)
PATIENCE_S = 30.0


@pytest.fixture
def record(tmp_path: Path) -> Path:
    volumes = [volume for volume in series() if volume.index not in LOST]
    path = write_record(tmp_path / "run.sqlite", events=volumes)
    with Record.open(path, writable=True) as opened, opened.transaction():
        opened.add_fault(20.5, "engine restarted", "left open", "state rebuilt", "one", None)
        opened.add_fault(20.5, "engine restarted", "elsewhere", "state rebuilt", "other", None)
    return path


class Heard:
    """Everything that was broadcast, and when."""

    def __init__(self) -> None:
        self.telemetry: list[tuple[float, Telemetry]] = []
        self.feedback: list[Feedback] = []

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [message.body for _, message in self.telemetry if message.kind == kind]


def played(monkeypatch: pytest.MonkeyPatch, record: Path, speed: float = 400.0) -> Heard:
    """Play a record without children, and listen."""
    heard, ports = Heard(), playback.free_ports(4)
    monkeypatch.setattr(playback, "free_ports", lambda _: ports)
    monkeypatch.setattr(playback, "READY_S", 0.5)
    done = threading.Event()

    def listen(port: int, take: Callable[[Any], None]) -> None:
        with contextlib.closing(Listener(f"tcp://127.0.0.1:{port}")) as listener:
            while (message := listener.receive(0.1)) is not None or not done.is_set():
                if message is not None:
                    take(message)

    ears = [
        threading.Thread(target=listen, args=(ports[0], heard.feedback.append)),
        threading.Thread(
            target=listen,
            args=(ports[1], lambda m: heard.telemetry.append((time.monotonic(), m))),
        ),
    ]
    for ear in ears:
        ear.start()
    try:
        assert play(record, console=False, display=False, speed=speed) == 0
    finally:
        done.set()
        for ear in ears:
            ear.join(PATIENCE_S)
    return heard


def test_everything_is_told_as_it_was(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = played(monkeypatch, record)
    with Record.open(record) as source:
        steps = [event.step for event in source.events(source.attempts()[0])]
    told = heard.bodies("step")
    assert [body["index"] for body in told] == [step.index for step in steps]
    assert [body["feedback"] for body in told] == [step.screen.value for step in steps]
    assert told[-2]["raw_score"] == steps[-2].scores[0].value
    assert told[40]["latency_ms"] == pytest.approx(1e3 * LATENCY_S)
    lost = [(fault["index"], fault["kind"]) for body in told for fault in body["faults"]]
    assert lost == [(index, "missing") for index in LOST]
    shown = heard.bodies("shown")
    assert [body["value"] for body in shown] == [step.screen.value for step in steps]
    feedback = {message.index: message.value for message in heard.feedback}
    assert feedback == {step.index: step.screen.value for step in steps}


def test_what_no_step_tells_is_told_once_in_its_place(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults of volumes come with their step; the others, of this attempt, in between."""
    heard = played(monkeypatch, record)
    kinds = [
        message.body["index"] if message.kind == "step" else message.body["reason"]
        for _, message in heard.telemetry
        if message.kind in ("step", "fault")
    ]
    assert kinds.count("left open") == 1
    assert "elsewhere" not in kinds
    assert "never arrived in time" not in kinds
    # the record's clock: volume 20 came at 21 s
    assert kinds.index("left open") == kinds.index(20) - 1


def test_it_begins_and_ends_as_a_run_does(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = played(monkeypatch, record)
    kinds = [message.kind for _, message in heard.telemetry if message.kind != "ready"]
    assert kinds[0] == "attempt"
    assert kinds[-1] == "attempt closed"
    assert heard.bodies("attempt closed") == [{"name": "one", "outcome": "complete"}]
    assert heard.bodies("ready")[0]["edges"] == ["A – B"]


def test_speed_is_a_multiple_of_the_recorded_pace(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """57 s between first and last volume, thirty times as fast; never faster than asked."""
    heard = played(monkeypatch, record, speed=30.0)
    times = [time_s for time_s, message in heard.telemetry if message.kind == "step"]
    assert times[-1] - times[0] >= 57.0 / 30.0 - 0.1
    # the page is told what the run is all the while, so that it does not take it for dead
    assert len(heard.bodies("ready")) > 10


def test_a_blinded_run_is_played_back_blind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(control={"arm": "real", "allocation": "a1"})
    heard = played(monkeypatch, write_record(tmp_path / "run.sqlite", plan))
    assert heard.bodies("ready")[0]["blinded"]
    assert not any("raw_score" in body for body in heard.bodies("step"))


def test_an_open_attempt_has_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = write_record(tmp_path / "run.sqlite", events=series(20), outcome=None)
    assert played(monkeypatch, record).bodies("attempt closed") == []


def test_wrong_speeds_and_empty_records_are_refused(record: Path, tmp_path: Path) -> None:
    for speed in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="--speed: expected a positive factor"):
            play(record, console=False, display=False, speed=speed)
    path, session = tmp_path / "empty.sqlite", session_for(tmp_path)
    Record.create(path, attempts.about(session, session.runs[0], small_plan())).close()
    with pytest.raises(RecordError, match="expected a run with volumes"):
        play(path, console=True, display=False, speed=1.0)


def test_the_page_is_served_and_gone_afterwards(record: Path) -> None:
    """The real command with a real console; nothing of it is left when it ends."""
    command = [sys.executable, "-m", "tools.cli", "replay", str(record), "--console"]
    run = subprocess.Popen([*command, "--speed", "10"], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    try:
        line = run.stdout.readline()
        assert line.startswith("page: http://127.0.0.1:")
        address = line.split()[1]
        give_up = time.monotonic() + PATIENCE_S
        while not (page := served(address)) and time.monotonic() < give_up:
            time.sleep(0.05)
        assert "<title>fcnef console</title>" in page
        run.terminate()
        run.wait(PATIENCE_S)
        give_up = time.monotonic() + 5.0
        while time.monotonic() < give_up and served(address):
            time.sleep(0.05)
        assert not served(address)
    finally:
        run.kill()
        run.wait()
        run.stdout.close()


def served(address: str) -> str:
    """The page's text; empty where nothing answers."""
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
        return str(answer.read().decode())
    return ""
