"""The gateway as a process: killed and started again, asked to stop, orphaned, misconfigured."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rtloop.errors import ConfigError, KeyFileError
from rtloop.gateway import GatewayConfig
from rtloop.gateway.config import read_secret
from tests.rtloop.gateway.loopback import arrive, series

MOSAIC = "siemens_mosaic_prisma_64x64x18"
Start = Callable[[GatewayConfig], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `python -m rtloop.gateway`; whatever still runs afterwards is killed."""
    processes: list[subprocess.Popen[str]] = []

    def begin(config: GatewayConfig) -> subprocess.Popen[str]:
        path = tmp_path / "gateway.json"
        path.write_text(config.model_dump_json())
        command = [sys.executable, "-m", "rtloop.gateway", str(path)]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_killed_midway_and_started_again(
    start: Start, dicom, export, settings, engine, until
) -> None:
    files = series(dicom(MOSAIC))[:40]
    first = start(settings())
    until(lambda: engine.connected, "the gateway")
    arrive(files[:10], export)
    until(lambda: len(engine.volumes) >= 5, "some volumes")
    first.kill()
    arrive(files[10:20], export)
    start(settings())
    arrive(files[20:], export)
    until(lambda: len(engine.volumes) >= 40, "all volumes")
    assert engine.indices() == list(range(40)), "each once, in order"
    assert len({volume.attempt for volume in engine.volumes}) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean(start: Start, dicom, export, settings, engine, until, number) -> None:
    process = start(settings())
    until(lambda: engine.connected, "the gateway")
    arrive(series(dicom(MOSAIC))[:3], export)
    until(lambda: len(engine.volumes) == 3, "the volumes")
    process.send_signal(number)
    assert process.wait(timeout=20) == 0
    said = process.communicate()[1]
    assert "Traceback" not in said


def test_a_stop_before_the_engine_came(start: Start, export, settings, engine, until) -> None:
    engine.close()
    process = start(settings())
    assert process.stderr is not None
    assert "waits for the engine" in process.stderr.readline()
    process.terminate()
    assert process.wait(timeout=20) == 0


def test_it_ends_with_its_parent(tmp_path: Path, export, settings, until) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(settings(parent_pid=None).model_dump_json())
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True);"
            "p.wait()",
            *(sys.executable, "-m", "rtloop.gateway", str(path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stderr is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert "waits for the engine" in parent.stderr.readline()
    parent.kill()
    until(lambda: not child.is_running() or child.status() == "zombie", "the gateway's end")
    parent.communicate()


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, "expected either watch or listen, found none"),
        ({"watch": ".", "listen": "dicom://127.0.0.1:1"}, "found both"),
        ({"listen": "dicom://127.0.0.1:11112"}, "spool: expected a folder for received DICOM"),
        ({"listen": "11112", "spool": "s"}, "listen: expected dicom://HOST:PORT"),
        ({"listen": "dicom://127.0.0.1:70000", "spool": "s"}, "listen: expected dicom://HOST:PORT"),
        ({"listen": "dicom://0.0.0.0:11112", "spool": "s"}, "expected the scanner's AE title"),
        ({"watch": ".", "colour": 1}, "colour"),
        ({"watch": ".", "allowed_callers": ["A" * 17]}, "allowed_callers"),
        ({"watch": ".", "rescan_s": 0}, "rescan_s"),
        ({"watch": ".", "engine": "5555"}, "engine"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, entries, expected: str) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps({"secret": "secret", **entries}))
    with pytest.raises(ConfigError) as raised:
        GatewayConfig.load(path)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable file, found No such file"):
        GatewayConfig.load(tmp_path / "none.json")


def test_a_wrong_configuration_ends_in_one_line(tmp_path: Path) -> None:
    entries = {"watch": "nowhere"}
    expected = "expected the folder the scanner exports into, found none"
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps({"secret": "secret", **entries}))
    done = subprocess.run(
        [sys.executable, "-m", "rtloop.gateway", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_the_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    made = read_secret(path)
    assert len(made) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_secret(path) == made
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="expected mode 0600"):
        read_secret(path)
    path.chmod(0o600)
    path.write_text("no key\n")
    with pytest.raises(KeyFileError, match="64 hexadecimal digits"):
        read_secret(path)
