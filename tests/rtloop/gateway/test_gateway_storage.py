"""The DICOM entrance, spoken to by dcmtk's `storescu` and `echoscu` on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from rtloop.errors import LinkError
from rtloop.gateway.config import Address
from rtloop.gateway.spool import Spool
from rtloop.gateway.storage import StorageService

Serve = Callable[..., tuple[Spool, int, list[str]]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
