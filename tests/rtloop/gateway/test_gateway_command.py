"""`fcnef gateway` from a user's side: help, mistakes in one line, a real start and stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rtloop.gateway.loopback import arrive, free_port, series

COMMAND = [sys.executable, "-m", "tools.cli", "gateway"]


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(folder), "NO_COLOR": "1"}
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert done.returncode == 0
    assert "Watch an export folder, or accept DICOM C-STORE" in done.stdout
    assert "--allow" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dicom://10.1.2.3:11112"], "expected the scanner's AE title"),
        ([".", "--to", "tcp://10.1.2.3:5555"], "keys"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = call(tmp_path, *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len([line for line in done.stderr.splitlines() if "gateway: watches" not in line]) == 1


def test_it_sends_what_comes(tmp_path: Path, dicom, export, engine, until) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [*COMMAND, str(export), "--to", engine.endpoint], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: engine.connected, "the gateway")
        arrive(series(dicom("siemens_mosaic_skyra"))[1:4], export)
        until(lambda: engine.indices() == [0, 1, 2], "the volumes")
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_port_in_use_is_one_line(tmp_path: Path, run, engine) -> None:
    port = free_port()
    run(listen=f"dicom://127.0.0.1:{port}", spool=str(tmp_path / "spool"))
    done = call(tmp_path, f"dicom://127.0.0.1:{port}")
    assert done.returncode == 2
    assert "expected a free address, found Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
