"""The display as the loop sees it: a process with a real window and real sockets at both ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rtloop.link import Broadcaster, ReportSink
from rtloop.wire import Command, Feedback, Shown, Trigger
from stimuli.display import command_line, read_config
from stimuli.pen import Look
from tests.stimuli.test_scenes import rgb, where
from tests.stimuli.xserver import XServer

PATIENCE_S = 20.0
LOOK = Look()


class Stage:
    """The loop's ends of a display process's conversation."""

    def __init__(self, xserver: XServer, folder: Path, **options: Any) -> None:
        feedback, reports = f"ipc://{folder}/feedback", f"ipc://{folder}/reports"
        self.xserver = xserver
        self.broadcaster = Broadcaster(feedback)
        self.sink = ReportSink(reports)
        self.heard: list[Shown | Trigger | Command] = []
        self.n_published = 0
        config = {"feedback": feedback, "reports": reports, **options}
        self._errors = folder / "stderr.txt"
        with self._errors.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stimuli.display", "--config", json.dumps(config)],
                env=xserver.environment,
                stderr=stream,
            )

    @property
    def errors(self) -> str:
        """What it wrote on standard error."""
        return self._errors.read_text()

    def publish(self, scene: str = "feedback", value: float | None = None, **entries: Any) -> int:
        """Send a message; its id."""
        self.n_published += 1
        message = Feedback(
            id=self.n_published,
            index=self.n_published,
            scene=scene,
            value=value,
            published_s=time.time(),
            **{"attempt": "a", "text": "", "trial": None, "expires_s": None, **entries},
        )
        self.broadcaster.publish(message)
        self._sent = message
        return message.id

    def until(self, done: Callable[[], bool], repeat: bool = False) -> None:
        """Hear reports until `done`; `repeat` sends the last message again, as the loop does."""
        end_s = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end_s, self.heard
            assert self.process.poll() is None, self.errors
            self.hear(0.1)
            if repeat and not done():
                self.broadcaster.publish(self._sent)

    def hear(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            report = self.sink.receive(left_s)
            if report is not None:
                self.heard.append(report)

    def shown(self, id: int | None = None) -> list[Shown]:
        return [r for r in self.heard if isinstance(r, Shown) and id in (None, r.id)]

    def notes(self, words: str) -> list[str]:
        texts = [r.text for r in self.heard if isinstance(r, Command) and r.action == "note"]
        return [text for text in texts if words in text]

    def show(self, scene: str = "feedback", value: float | None = None, **entries: Any) -> Shown:
        """Publish until the display says it was shown."""
        id = self.publish(scene, value, **entries)
        self.until(lambda: bool(self.shown(id)), repeat=True)
        return self.shown(id)[0]

    def settled(self) -> np.ndarray:
        """The screen some frames later."""
        self.hear(0.1)
        return self.xserver.screenshot().astype(np.int16)

    def end(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)
        self.hear(0.2)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.broadcaster.close()
        self.sink.close()


@pytest.fixture
def stage(xserver: XServer, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`stage(**options)` starts a display."""
    stages = []

    def start(**options: Any) -> Stage:
        stages.append(Stage(xserver, tmp_path, **options))
        return stages[-1]

    yield start
    for one in stages:
        one.close()


def is_neutral(pixels: np.ndarray) -> bool:
    return bool((pixels == rgb(LOOK.background)).all())


def test_feedback_reaches_the_screen_and_the_record(stage):
    play = stage(software_paced=True)
    play.until(lambda: bool(play.notes("software-paced")))
    (opening,) = play.notes("1024x768")
    assert "60.00 Hz" in opening
    assert "keyboard backend" in opening
    play.show("rest")

    # Newest wins: of a burst, what is shown is in order, each once, and ends with the last.
    first = play.n_published + 1
    for value in range(101):
        play.publish(value=float(value))
    last = play.n_published
    play.until(lambda: bool(play.shown(last)), repeat=True)
    disc = where(play.settled(), LOOK.level)[384]
    assert abs(np.ptp(np.flatnonzero(disc)) / 2 - 0.30 * 768) <= 1
    ids = [report.id for report in play.shown()]
    assert ids == sorted(set(ids))
    assert len([id for id in ids if id >= first]) < 60

    # At a volume's pace everything is shown, and when it was is told.
    started_s = time.time()
    for value in (10.0, 20.0, 30.0):
        play.show(value=value)
    reports = play.shown()
    flips_s = [report.flip_s for report in reports]
    assert flips_s == sorted(flips_s)
    assert [r.value for r in reports[-3:]] == [10.0, 20.0, 30.0]
    assert all(started_s < r.flip_s < time.time() for r in reports[-3:])
    assert len({(r.attempt, r.id) for r in reports}) == len(reports)

    # Nothing that is too old is drawn.
    late = play.publish(value=99.0, expires_s=time.time() - 0.5)
    play.until(lambda: bool(play.shown(late)), repeat=True)
    assert play.shown(late)[0].status == "expired"
    assert is_neutral(play.settled())

    # What was shown leaves when its time is over.
    play.show(value=50.0, expires_s=time.time() + 1.0)
    assert where(play.settled(), LOOK.level).any()
    play.hear(1.0)
    assert is_neutral(play.settled())

    assert play.end() == 0
    (closing,) = play.notes("closed after")
    assert "dropped, software-paced" in closing
    assert play.errors == ""


def test_participant_can_stop(stage, xserver):
    play = stage(trigger={"kind": "keyboard", "absent_after_s": 0.2})
    play.until(lambda: bool(play.notes("keyboard backend")))
    # Found by itself: flips on a virtual screen do not wait for it.
    assert play.notes("software-paced")
    play.show(value=50.0)
    play.until(lambda: bool(play.notes("expected scanner pulses from keyboard")))
    for key in ("5", "t", "5"):
        xserver.press(key)
    play.until(lambda: len([r for r in play.heard if isinstance(r, Trigger)]) == 3)
    pulses = [report for report in play.heard if isinstance(report, Trigger)]
    assert [pulse.count for pulse in pulses] == [1, 2, 3]
    assert where(play.settled(), LOOK.level).any()

    xserver.press("Escape")
    stops = lambda: [r for r in play.heard if isinstance(r, Command) and r.action == "stop"]  # noqa: E731
    play.until(lambda: bool(stops()))
    assert is_neutral(play.settled())
    n_shown = len(play.shown())
    play.publish(value=80.0)
    xserver.press("Escape")
    assert is_neutral(play.settled())
    play.hear(0.3)
    assert [(stop.by, "escape" in stop.text) for stop in stops()] == [("participant", True)]
    assert len(play.shown()) == n_shown
    assert len(play.notes("expected scanner pulses")) == 1


def test_stop_from_the_loop_and_silence_and_pictures(stage, tmp_path):
    folder = tmp_path / "screens"
    play = stage(
        software_paced=True, silence_s=0.5, capture_folder=str(folder), capture_max=4,
        look={"style": "thermometer"},
    )  # fmt: skip
    play.until(lambda: bool(play.notes("style thermometer")))
    # a message may come before the first frame is drawn
    play.until((folder / "00-wait.png").exists)
    play.show(value=40.0)
    taken = play.settled()
    play.until(lambda: bool(play.notes("set to hold")))
    held = play.settled()
    assert where(held, LOOK.sign).any()
    assert not where(held, LOOK.level).any()
    play.until(lambda: bool(play.notes("set to neutral")))
    assert is_neutral(play.settled())
    play.show(value=45.0)
    assert play.notes("messages again")
    play.show("neutral")
    assert is_neutral(play.settled())
    play.end()
    pictures = sorted(path.name for path in folder.iterdir())
    assert pictures[0] == "00-wait.png"
    assert pictures[1] == "01-feedback-40.png"
    assert len(pictures) == 4
    saved = np.asarray(Image.open(folder / "01-feedback-40.png"), np.int16)
    assert (saved == taken).all()


def test_display_ends_with_the_program_that_started_it(xserver, tmp_path):
    config = {"feedback": f"ipc://{tmp_path}/f", "reports": f"ipc://{tmp_path}/r"}
    sink = ReportSink(config["reports"])
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'stimuli.display', '--config', sys.argv[1]])\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(config)],
        env=xserver.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        display = int(parent.stdout.readline())
        try:
            assert isinstance(sink.receive(PATIENCE_S), Command)
            parent.kill()
            closing = sink.receive(PATIENCE_S)
            assert isinstance(closing, Command)
            assert "closed after" in closing.text
        except BaseException:
            os.kill(display, signal.SIGKILL)
            raise
        finally:
            sink.close()


def run(config: dict[str, Any], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stimuli.display", "--config", json.dumps(config)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ENDPOINTS = {"feedback": "tcp://127.0.0.1:9", "reports": "tcp://127.0.0.1:9"}


def test_no_display_is_one_line_and_exit_2():
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
    done = run(ENDPOINTS, environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "display" in done.stderr


def test_missing_trigger_device_is_one_line_and_exit_2(xserver):
    trigger = {"kind": "serial", "port": "/dev/no-such-tty"}
    done = run({**ENDPOINTS, "trigger": trigger}, xserver.environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "/dev/no-such-tty" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "JSON"),
        ('{"feedback": "a", "reports": "b", "colour": 1}', "colour"),
        ('{"feedback": "a", "reports": "b", "size": [0, 5]}', "size.0"),
        ('{"reports": "b", "look": {"style": "smiley"}}', "look.style"),
        ("/no/such/file.json", "/no/such/file.json"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(text, words, capsys):
    assert command_line(["--config", text]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_settings_from_a_file(tmp_path, capsys):
    path = tmp_path / "display.json"
    path.write_text(json.dumps({**ENDPOINTS, "look": {"texts": {"rest": "Ruhe"}}}))
    assert read_config(str(path)).look.texts.rest == "Ruhe"
    assert command_line(["--config", str(path), "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["look"]["texts"]["rest"] == "Ruhe"
