"""The DICOM entrance, spoken to by dcmtk's `storescu` and `echoscu` on loopback."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

import rtloop.gateway.spool
from rtloop.errors import LinkError
from rtloop.gateway.config import Address
from rtloop.gateway.spool import Spool
from rtloop.gateway.storage import StorageService
from rtloop.readers import ScannerConfig, read_series
from tests.rtloop.gateway.loopback import arrive, free_port, series

Serve = Callable[..., tuple[Spool, int, list[str]]]


def dcmtk(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"dcmtk's {program} is not installed")
    return subprocess.run(
        [path, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    services: list[StorageService] = []

    def begin(
        callers: tuple[str, ...] = (), reserve_bytes: int = 0
    ) -> tuple[Spool, int, list[str]]:
        spool = Spool(tmp_path / "spool", reserve_bytes)
        failures: list[str] = []
        address = Address(host="127.0.0.1", port=free_port())
        services.append(StorageService(address, spool, "FCNEF", callers, failures.append))
        services[-1].start()
        return spool, address.port, failures

    yield begin
    for service in services:
        service.close()


def first(folder: Path, count: int) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*.dcm"))[:count]]


def test_classic_and_enhanced_objects_are_stored_as_sent(serve: Serve, dicom) -> None:
    spool, port, failures = serve()
    files = first(dicom("siemens_mosaic_skyra"), 2) + first(dicom("siemens_xa30_enhanced"), 2)
    sent = dcmtk("storescu", "-aec", "FCNEF", "127.0.0.1", str(port), *files)
    assert sent.returncode == 0, sent.stderr
    stored = sorted(spool.folder.iterdir())
    assert len(stored) == 4
    for path, source in zip(stored, files, strict=True):
        assert pydicom.dcmread(path).PixelData == pydicom.dcmread(source).PixelData
    assert not failures


def test_a_full_disk_is_answered_as_out_of_resources(serve: Serve, dicom) -> None:
    spool, port, failures = serve(reserve_bytes=1 << 60)
    (file,) = first(dicom("siemens_mosaic_skyra"), 1)
    sent = dcmtk("storescu", "-v", "127.0.0.1", str(port), file)
    assert "0xa700" in (sent.stdout + sent.stderr).lower() or "OutOfResources" in sent.stderr
    assert list(spool.folder.iterdir()) == []
    assert len(failures) == 1
    assert str(spool.folder) not in failures[0]


def test_only_listed_callers_may_store(serve: Serve, dicom) -> None:
    spool, port, _ = serve(callers=("SCANNER",))
    (file,) = first(dicom("siemens_mosaic_skyra"), 1)
    stranger = dcmtk("storescu", "-aet", "STRANGER", "127.0.0.1", str(port), file)
    assert stranger.returncode != 0
    assert list(spool.folder.iterdir()) == []
    friend = dcmtk("storescu", "-aet", "SCANNER", "127.0.0.1", str(port), file)
    assert friend.returncode == 0, friend.stderr
    assert len(list(spool.folder.iterdir())) == 1


def test_it_answers_an_echo(serve: Serve) -> None:
    _, port, _ = serve()
    assert dcmtk("echoscu", "127.0.0.1", str(port)).returncode == 0


def test_a_port_in_use_is_one_line(serve: Serve, tmp_path: Path) -> None:
    _, port, _ = serve()
    second = StorageService(
        Address(host="127.0.0.1", port=port), Spool(tmp_path / "other"), "FCNEF", (), print
    )
    with pytest.raises(LinkError, match="expected a free address, found") as raised:
        second.start()
    assert "\n" not in str(raised.value)


def store(port: int, files: list[str]) -> None:
    sent = dcmtk("storescu", "127.0.0.1", str(port), *files)
    assert sent.returncode == 0, sent.stderr


def test_stored_volumes_reach_the_engine_and_leave_the_spool(
    run, engine, until, dicom, tmp_path: Path
) -> None:
    port, spool = free_port(), tmp_path / "spool"
    run(listen=f"dicom://127.0.0.1:{port}", spool=str(spool))
    until(lambda: engine.connected, "the gateway")
    folder = tmp_path / "sent"
    folder.mkdir()
    files = arrive(series(dicom("siemens_xa30_enhanced") / "7_func-bold_task-fa_run-1")[:5], folder)
    files += arrive(series(dicom("siemens_xa30_enhanced") / "9_gre_field_mapping"), folder)
    store(port, [str(path) for path in files])
    until(lambda: len(engine.volumes) == 5, "the volumes")
    until(lambda: not list(spool.iterdir()), "an empty spool")
    for got, expected in zip(engine.volumes, read_series(folder, ScannerConfig()), strict=True):
        assert got.index == expected.index
        assert np.array_equal(got.data, expected.data)
    assert engine.kinds().count("skipped") == 1


def test_what_was_answered_survives_a_gateway_that_dies(
    run, engine, until, dicom, tmp_path: Path
) -> None:
    port, spool = free_port(), tmp_path / "spool"
    listen = f"dicom://127.0.0.1:{port}"
    files = [str(path) for path in series(dicom("mr_0004"), "*")[: 4 * 15 + 7]]
    engine.acknowledging.clear()
    first = run(listen=listen, spool=str(spool))
    until(lambda: engine.connected, "the gateway")
    store(port, files[:40])
    until(lambda: engine.log, "the first item")
    assert len(list(spool.iterdir())) == 40, "nothing is acknowledged: everything stays"
    first.close()
    engine.acknowledging.set()
    second = run(listen=listen, spool=str(spool))
    until(lambda: len(engine.volumes) == 2, "what lay in the spool")
    store(port, files[40:])
    until(lambda: len(engine.volumes) == 4, "the rest")
    until(lambda: len(list(spool.iterdir())) == 7, "slices of the unfinished volume alone")
    assert engine.indices() == [0, 1, 2, 3]
    second.close()


def test_a_failed_store_is_told_to_the_engine(
    run, engine, until, dicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtloop.gateway.spool, "RESERVE_BYTES", 1 << 60)
    port = free_port()
    run(listen=f"dicom://127.0.0.1:{port}", spool=str(tmp_path / "spool"))
    until(lambda: engine.connected, "the gateway")
    (file,) = first(dicom("siemens_mosaic_skyra"), 1)
    dcmtk("storescu", "127.0.0.1", str(port), file)
    until(lambda: engine.kinds() == ["refused"], "the note")
    assert engine.notes[0].reason == "a DICOM object was not taken: No space left on device"


def test_an_open_entrance_says_so(run, until, tmp_path: Path, engine) -> None:
    gateway = run(
        listen=f"dicom://0.0.0.0:{free_port()}",
        spool=str(tmp_path / "spool"),
        allowed_callers=("SCANNER", "CONSOLE"),
    )
    until(lambda: gateway.said, "the line")
    assert "whoever says SCANNER or CONSOLE may store" in gateway.said[0]
