"""Shared fixtures: real data where it is at hand, unpacked once per test session."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real scans; the test is skipped, saying why, where it is not given."""
    folder = os.environ.get("FCNEF_DATA")
    if not folder:
        pytest.skip("FCNEF_DATA is not set: no real data at hand")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"FCNEF_DATA={folder} is no folder")
    return path


@pytest.fixture(scope="session")
def dicom(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacked DICOM series by the archive's top folder, such as `siemens_mosaic_skyra`."""
    root = tmp_path_factory.mktemp("dicom")
    archives: dict[str, Path] = {}
    for archive in sorted((data / "dicom").rglob("*.tar.xz")):
        with tarfile.open(archive, "r:xz") as tar:
            first = tar.next()
            if first is not None:
                archives[first.name.split("/")[0]] = archive

    def unpack(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            with tarfile.open(archives[name], "r:xz") as tar:
                tar.extractall(root, filter="data")
        return folder

    return unpack
