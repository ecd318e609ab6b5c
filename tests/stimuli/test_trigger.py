"""Pulses from a real pseudo-terminal, real key presses on a virtual screen, and emulated ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from pydantic import ValidationError

from rtloop.errors import TriggerError
from stimuli.trigger import (
    AbsenceWatch,
    EmulatedTriggers,
    SerialTriggers,
    TriggerConfig,
    open_triggers,
)


def until(condition, seconds: float = 5.0) -> None:
    """Wait for what another thread or process does."""
    end_s = time.monotonic() + seconds
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.005)
    assert condition()


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_emulated_pulses_keep_absolute_deadlines():
    clock = Clock()
    triggers = EmulatedTriggers(0.8, start_s=1000.5, clock=clock)
    assert triggers.poll() == []
    times_s, counts = [], []
    for late_s in (0.51, 0.7, 2.3, 0.0, 0.9):
        clock.now_s += late_s
        for pulse in triggers.poll():
            times_s.append(pulse.time_s)
            counts.append(pulse.count)
    assert counts == [1, 2, 3, 4, 5]
    assert times_s == [1000.5 + 0.8 * k for k in range(5)]


def test_fed_pulses_are_numbered():
    triggers = EmulatedTriggers()
    triggers.feed(5.0)
    triggers.feed(6.0)
    assert [(p.count, p.time_s, p.source) for p in triggers.poll()] == [
        (1, 5.0, "emulated"),
        (2, 6.0, "emulated"),
    ]
    assert triggers.poll() == []


@pytest.fixture
def terminal():
    """Scanner's end (file descriptor) and device path of a pseudo-terminal."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    pytest.importorskip("serial", reason="pyserial is not installed")
    tty = pytest.importorskip("tty")
    scanner, device = pty.openpty()
    tty.setraw(device)
    yield scanner, os.ttyname(device)
    for descriptor in (scanner, device):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_serial_pulses_are_timed_when_they_arrive(terminal):
    scanner, device = terminal
    triggers = SerialTriggers(device, codes="5")
    try:
        sent_s = []
        for _ in range(3):
            sent_s.append(time.time())
            os.write(scanner, b"x5")
            time.sleep(0.05)
        pulses = []
        until(lambda: pulses.extend(triggers.poll()) or len(pulses) == 3)
    finally:
        triggers.close()
    assert [pulse.count for pulse in pulses] == [1, 2, 3]
    # Each was timed before the next was sent, although all were polled at the end.
    assert all(a <= p.time_s for a, p in zip(sent_s, pulses, strict=True))
    assert all(p.time_s < b for p, b in zip(pulses[:-1], sent_s[1:], strict=True))


def test_any_serial_byte_counts_without_codes(terminal):
    scanner, device = terminal
    triggers = SerialTriggers(device)
    try:
        os.write(scanner, b"\x01\xff\x00")
        pulses = []
        until(lambda: pulses.extend(triggers.poll()) or len(pulses) == 3)
    finally:
        triggers.close()


def test_lost_serial_device_is_said_and_closing_still_works(terminal):
    scanner, device = terminal
    triggers = SerialTriggers(device)
    try:
        os.close(scanner)
        until(lambda: triggers.fault is not None)
        assert device in triggers.fault
        assert "\n" not in triggers.fault
        assert triggers.poll() == []
    finally:
        triggers.close()


def test_missing_serial_device_is_one_line():
    pytest.importorskip("serial", reason="pyserial is not installed")
    with pytest.raises(TriggerError, match="expected a trigger device at /dev/no-such-tty") as info:
        open_triggers(TriggerConfig(kind="serial", port="/dev/no-such-tty"), keyboard=None)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"kind": "serial"},
        {"kind": "emulated"},
        {"kind": "parallel"},
        {"kind": "emulated", "tr_s": 0},
        {"keys": ["5"], "baudrate": 9600},
    ],
)
def test_wrong_trigger_settings_are_refused(entries):
    with pytest.raises(ValidationError):
        TriggerConfig(**entries)


def test_no_triggers_unless_asked_for():
    assert open_triggers(TriggerConfig(), keyboard=None) is None


def test_absence_is_told_once():
    watch = AbsenceWatch("keyboard (ptb)", 10.0)
    assert watch.fault(1e9) is None
    watch.start(100.0)
    watch.start(105.0)
    assert watch.fault(109.9) is None
    line = watch.fault(110.0)
    assert line is not None
    assert "keyboard (ptb)" in line
    assert "10 s" in line
    assert "\n" not in line
    assert watch.fault(111.0) is None


def test_no_absence_once_a_pulse_came():
    watch = AbsenceWatch("serial", 10.0)
    watch.start(100.0)
    watch.seen()
    assert watch.fault(1e9) is None


KEYS = ("5", "t", "=", "escape")


@pytest.mark.parametrize("backend", ["ptb", "event"])
def test_real_key_presses(xserver, backend):
    order = json.dumps([backend, KEYS, 1.5])
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stimuli.typist", order],
        env=xserver.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as typist:
        assert typist.stdout is not None
        used = typist.stdout.readline().strip()
        time.sleep(0.1)
        sent = [(key, xserver.press(x)) for key, x in PRESSED]
        received = json.loads(typist.stdout.readline())
    if used != backend:
        pytest.skip(f"PsychoPy has no {backend} keyboard here")
    assert [name for name, _ in received] == [key for key, _ in sent if key != "a"]
    for (_, seen_s), (_, sent_s) in zip(received, [s for s in sent if s[0] != "a"], strict=True):
        assert abs(seen_s - sent_s) < 0.5


PRESSED = [
    ("5", "5"), ("5", "5"), ("t", "t"), ("a", "a"), ("equal", "equal"), ("escape", "Escape"),
    ("5", "5"),
]  # fmt: skip


def test_a_key_let_go_while_it_is_read_is_one_press(xserver):
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stimuli.held"],
        env=xserver.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as held:
        assert held.stdin is not None
        assert held.stdout is not None
        if held.stdout.readline().strip() != "ptb":
            held.kill()
            pytest.skip("PsychoPy has no ptb keyboard here")
        for to, said in (("down", "half read\n"), ("up", "1 0\n")):
            xserver.move("5", to)
            held.stdin.write("\n")
            held.stdin.flush()
            assert held.stdout.readline() == said
