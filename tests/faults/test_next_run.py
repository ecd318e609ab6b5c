"""The next run of a session, begun while the files of the one before it lie fresh in the folder."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtloop import attempts
from rtloop.config import RunEntry
from rtloop.gateway import GatewayConfig
from rtloop.readers import ScannerConfig, read_series
from tests.faults.quiet import PATIENCE_S, Quiet, quick
from tests.rtloop.gateway.loopback import Engine, Running

SECRET = "ab" * 32


@contextlib.contextmanager
def gateway(folder: Path, engine: Engine, *elsewhere: str) -> Iterator[Running]:
    secret = folder.parent / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    config = GatewayConfig(
        watch=str(folder),
        engine=engine.endpoint,
        secret=str(secret),
        rescan_s=0.05,
        parent_pid=0,
        elsewhere=elsewhere,
    )
    running = Running(config)
    try:
        yield running
    finally:
        running.close()
        assert running.error is None


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


@pytest.fixture
def engine() -> Iterator[Engine]:
    one = Engine()
    one.start()
    yield one
    one.close()


def test_the_files_of_another_run_are_not_taken(
    dicom: Callable[[str], Path], tmp_path: Path, engine: Engine
) -> None:
    """GE: the newest file is one slice of many, and does not say that its series is complete."""
    folder = tmp_path / "export"
    shutil.copytree(dicom("s1925"), folder, copy_function=shutil.copyfile)
    former = read_series(folder, ScannerConfig(), bytes.fromhex(SECRET))[0].attempt
    with gateway(folder, engine, former):
        wait_for(lambda: engine.notes)
        live = next(folder.iterdir())
        # its last slices may even come now
        (folder / "again").write_bytes(live.read_bytes())
        time.sleep(0.5)
    assert engine.kinds() == ["skipped"]
    assert engine.notes[0].reason == "a series that another run has recorded"
    assert engine.volumes == []


def test_a_session_tells_its_gateway_what_its_other_runs_have_recorded() -> None:
    with Quiet.site() as site:
        two = RunEntry(name="two")
        session = site.session.model_copy(update={"runs": (*site.session.runs, two)})
        site.leave(quick("one")[:20])
        assert attempts.recorded_elsewhere(session, two) == ["one"]
        assert attempts.recorded_elsewhere(session, session.runs[0]) == []
        site.record.write_bytes(b"damaged")
        assert attempts.recorded_elsewhere(session, two) == []
