"""The supervisor with programs that do as they are told: who is restarted, and who is not."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rtloop.session import Child, Supervisor

PATIENCE_S = 20.0

OBEDIENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(0)))
print("ready", flush=True)
time.sleep(60)
"""
"""An engine: ends with 0 a while after it was asked to."""

FRAIL = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: sys.exit(0))
time.sleep(60)
"""
"""A gateway: ends at once when Ctrl-C reaches it."""


def child(name: str, code: str, vital: bool = True) -> Child:
    return Child(name, [sys.executable, "-c", code], vital)


def until(true: Callable[[], object]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)


class Running:
    """A supervisor in a thread."""

    def __init__(self, folder: Path, engine: Child, *others: Child) -> None:
        self.engine, self.others = engine, others
        self.notice = folder / "run.processes.json"
        self.supervisor = Supervisor(engine, list(others), self.notice)
        self.status: int | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        until(self.notice.exists)
        time.sleep(0.3)  # the programs have set their signal handlers

    def _run(self) -> None:
        self.status = self.supervisor.run()

    def end(self) -> int | None:
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        assert not self.notice.exists()
        for one in (self.engine, *self.others):
            assert one.process is None or one.process.poll() is not None
        return self.status


def kill(child: Child, number: int = signal.SIGKILL) -> None:
    assert child.process is not None
    os.kill(child.process.pid, number)


def test_ctrl_c_restarts_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It reaches every program of the terminal, while the engine still closes the run."""
    gateway = child("gateway", FRAIL)
    running = Running(tmp_path, child("engine", OBEDIENT), gateway)
    kill(gateway, signal.SIGINT)
    running.supervisor.request_stop()
    assert running.end() == 0
    assert gateway.n_restarts == 0
    assert "restarted" not in capfd.readouterr().err


def test_an_engine_that_dies_when_told_to_stop_does_not_go_on(tmp_path: Path) -> None:
    engine = child("engine", "import time; time.sleep(60)")
    running = Running(tmp_path, engine)
    running.supervisor.request_stop()
    assert running.end() == 1
    assert engine.n_restarts == 0


def test_a_dead_child_is_restarted(tmp_path: Path) -> None:
    display = child("display", FRAIL, vital=False)
    running = Running(tmp_path, child("engine", OBEDIENT), display)
    kill(display)
    until(lambda: display.n_restarts == 1 and display.status is None)
    running.supervisor.request_stop()
    assert running.end() == 0


@pytest.mark.parametrize(("vital", "expected"), [(True, 2), (False, 0)])
def test_who_gives_up_ends_the_run_if_it_is_vital(
    tmp_path: Path, vital: bool, expected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 is a user's mistake: starting again would not help."""
    engine = child("engine", "import time; time.sleep(1.5)")
    running = Running(tmp_path, engine, child("gateway", "raise SystemExit(2)", vital))
    assert running.end() == expected
    assert capfd.readouterr().err.count("gateway gave up (exit status 2)") == 1


def test_a_child_that_dies_for_ever_gives_up(tmp_path: Path) -> None:
    gateway = child("gateway", "raise SystemExit(3)")
    running = Running(tmp_path, child("engine", OBEDIENT), gateway)
    assert running.end() == 1
    assert gateway.n_restarts == 4
