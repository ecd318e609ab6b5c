"""The doctor's findings on this machine, and its judgement of machines that are worse."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import sys
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from rtloop.config import Network
from tools import doctor
from tools.cli import run
from tools.doctor import CORE, EXTRAS, Line, fit, table

ROOT = Path(doctor.__file__).parents[1]

TIMING = {
    "pacing": "vertical sync",
    "rate_hz": 60.0,
    "flips": 120,
    "unpaced_median_ms": 16.67,
    "median_ms": 16.67,
    "p99_ms": 16.9,
    "dropped": 0,
    "renderer": "Some GPU",
    "keyboard": "ptb",
}


def one(lines: list[Line], topic: str) -> Line:
    (line,) = [line for line in lines if line.topic == topic]
    return line


def test_packages_are_those_of_pyproject():
    pyproject = ROOT / "pyproject.toml"
    if not pyproject.exists():
        pytest.skip("installed without its sources: no pyproject.toml to compare with")
    project = tomllib.loads(pyproject.read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9-]", entry)[0] for entry in requirements} - {"fcnef"}

    assert set(CORE) == names(project["dependencies"])
    extras = project["optional-dependencies"]
    for name, packages in EXTRAS.items():
        own = names(extras[name])
        others = [e[len("fcnef[") : -1] for e in extras[name] if e.startswith("fcnef[")]
        inherited = {package for other in others for package in EXTRAS[other]}
        assert set(packages) == own | inherited
    assert set(EXTRAS) == set(extras) - {"dev", "all"}


def test_this_machine_has_what_the_tests_run_on():
    lines = doctor.check_system() + doctor.check_packages() + doctor.check_fingerprint()
    assert fit(lines)
    assert str(sys.version_info.minor) in one(lines, "Python").found
    assert "numpy" in one(lines, "core packages").found
    assert len(one(lines, "fingerprint").figures["digest"]) == 64


def test_missing_core_package_fails(monkeypatch):
    present = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "numba" else present(name))
    line = one(doctor.check_packages(), "core packages")
    assert line.status == "fail"
    assert "numba missing" in line.found
    assert line.advice


def test_missing_extra_is_said_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1.0")
    line = one(doctor.check_packages(), "extra offline")
    assert "torch missing" in line.found
    assert "fcnef[offline]" in line.advice


def test_python_outside_the_range_fails(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 13, 0))
    assert doctor._python().status == "fail"


def test_no_display_is_a_warning_that_says_so(monkeypatch):
    pytest.importorskip("psychopy", reason="PsychoPy is not installed", exc_type=ImportError)
    monkeypatch.delenv("DISPLAY", raising=False)
    line = one(doctor.check_display(10), "display")
    assert line.status == "warn"
    assert "expected a display" in line.found
    assert line.advice


def test_no_psychopy_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    line = one(doctor.check_display(10), "display")
    assert (line.status, "fcnef[stimuli]" in line.advice) == ("warn", True)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, "ok", "60.0 Hz"),
        ({"pacing": "software-paced", "unpaced_median_ms": 0.4}, "warn", "no vertical sync"),
        ({"dropped": 2}, "warn", "2 dropped"),
        ({"dropped": 1}, "ok", "1 dropped"),
        ({"renderer": "llvmpipe (LLVM 15)"}, "ok", "software renderer"),
    ],
)
def test_display_timing_is_judged(changes, status, words):
    line = doctor.judge_flips({**TIMING, **changes})
    assert line.status == status
    assert words in line.found
    assert bool(line.advice) == (status != "ok")


def test_keyboard_is_judged():
    assert doctor.judge_keyboard("ptb").status == "ok"
    assert doctor.judge_keyboard("event").status == "warn"


def test_disk_is_written_and_left_as_it_was(tmp_path):
    lines = doctor.check_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []
    speed = one(lines, "disk speed")
    assert speed.figures["n"] == doctor.N_WRITES
    assert 0 < speed.figures["median_ms"] <= speed.figures["p99_ms"]
    assert "GB free" in one(lines, "disk space").found


def test_records_folder_need_not_exist(tmp_path):
    lines = doctor.check_disk(tmp_path / "not" / "yet")
    assert str(tmp_path) in one(lines, "disk space").found
    assert not (tmp_path / "not").exists()


def test_unwritable_folder_fails(tmp_path):
    if os.geteuid() == 0:
        folder = Path("/proc")  # root may write everywhere else
    else:
        folder = tmp_path
        folder.chmod(0o500)
    line = one(doctor.check_disk(folder), "disk speed")
    assert line.status == "fail"
    assert "not writable" in line.found


@pytest.mark.parametrize(("free", "status"), [(5e8, "fail"), (5e9, "warn"), (5e10, "ok")])
def test_little_space_is_told(tmp_path, monkeypatch, free, status):
    monkeypatch.setattr(
        doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": int(free)})
    )
    assert one(doctor.check_disk(tmp_path), "disk space").status == status


def test_slow_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_synced_writes_ms", lambda _, n: [1.0] * (n - 1) + [900.0])
    assert one(doctor.check_disk(tmp_path), "disk speed").status == "warn"


def test_port_in_use_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        network = Network(feedback=f"tcp://127.0.0.1:{port}")
        monkeypatch.setattr(doctor, "Network", lambda: network)
        (line,) = doctor.check_ports()
    assert line.status == "warn"
    assert f"feedback {port}" in line.found


@pytest.mark.parametrize(
    ("watches", "instances", "status"), [(100, 128, "warn"), (65536, 8, "warn"), (65536, 128, "ok")]
)
def test_inotify_limits(tmp_path, watches, instances, status):
    (tmp_path / "max_user_watches").write_text(f"{watches}\n")
    (tmp_path / "max_user_instances").write_text(f"{instances}\n")
    (line,) = doctor.check_inotify(tmp_path)
    assert line.status == status


def test_no_inotify_is_fine(tmp_path):
    (line,) = doctor.check_inotify(tmp_path / "nothing")
    assert line.status == "ok"


def test_table_has_every_line():
    lines = [Line("disk [x]", "ok", "much"), Line("ports", "fail", "taken", "end it")]
    stream = io.StringIO()
    Console(file=stream, width=200).print(table(lines))
    text = stream.getvalue()
    for word in ("disk [x]", "ports", "fail", "taken", "end it"):
        assert word in text


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_exit_status_and_json(monkeypatch, capsys, status, code):
    line = Line("disk", status, "found", "advice", {"median_ms": 1.0})
    monkeypatch.setattr("tools.cli.doctor.examine", lambda *_: iter([("disk", [line])]))
    assert run(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["fit"] is (code == 0)
    assert report["lines"][0]["figures"] == {"median_ms": 1.0}


def test_flips_are_120_or_600(capsys):
    assert run(["doctor", "--flips", "7"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
