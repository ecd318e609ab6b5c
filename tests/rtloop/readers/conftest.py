"""dcm2niix's conversions of the real series, each made once, and ways to edit real files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from rtloop.readers import Assembler, Complete, Outcome, ScannerConfig
from rtloop.volume import Volume

SERIES = (
    "siemens_mosaic_skyra",
    "siemens_mosaic_prisma_64x64x18",
    "siemens_mosaic_multiband_104x104x72",
    "siemens_xa30_enhanced",
    "s1925",
    "mr_0004",
    "philips_ingenia",
)
SMALL = ("siemens_mosaic_skyra", "siemens_xa30_enhanced", "mr_0004", "philips_ingenia")
SECRET = b"a secret of the tests"


@dataclass(frozen=True)
class Reference:
    """dcm2niix's 4-D image, closest to RAS+, and its sidecar."""

    data: np.ndarray[Any, Any]
    affine: np.ndarray[Any, Any]
    sidecar: dict[str, Any]


@pytest.fixture(scope="session")
def reference(
    dicom: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Reference]:
    """dcm2niix's reading of a series by its folder's name (`dcm2niix -p n`)."""
    dcm2niix = pytest.importorskip("dcm2niix")
    made: dict[str, Reference] = {}

    def convert(name: str) -> Reference:
        if name not in made:
            out = tmp_path_factory.mktemp("dcm2niix")
            command = [dcm2niix.bin, "-p", "n", "-z", "n", "-o", out, dicom(name)]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            images = [nib.load(path) for path in out.glob("*.nii")]
            (image,) = [image for image in images if image.ndim == 4]
            sidecar = json.loads(Path(image.get_filename()).with_suffix(".json").read_text())
            image = nib.as_closest_canonical(image)
            made[name] = Reference(np.asarray(image.dataobj), image.affine, sidecar)
        return made[name]

    return convert


@pytest.fixture(scope="session")
def files(dicom: Callable[[str], Path]) -> Callable[[str], list[Path]]:
    """Files of a real series in the order of their volumes; of XA30, the task run's."""

    def ordered(name: str) -> list[Path]:
        paths = [path for path in dicom(name).rglob("*") if path.is_file()]
        if name == "siemens_xa30_enhanced":
            paths = [path for path in paths if path.parent.name.startswith("7_")]
        if name == "philips_ingenia":
            # names count through all volumes of a slice: 75, of which 12 are here
            return sorted(paths, key=lambda path: ((int(path.stem[-4:]) - 1) % 75, path.name))
        return sorted(paths, key=lambda p: (int("".join(filter(str.isdigit, p.suffix)) or 0), p))

    return ordered


def assembled(
    paths: list[Path], binding: ScannerConfig | None = None
) -> tuple[list[Volume], list[Outcome]]:
    """Volumes of these files, in the order they completed, and every answer."""
    assembler = Assembler(binding or ScannerConfig(), SECRET)
    outcomes = [assembler.add(path, float(number)) for number, path in enumerate(paths)]
    return [outcome.volume for outcome in outcomes if isinstance(outcome, Complete)], outcomes


def edited(source: Path, target: Path, edit: Callable[[pydicom.Dataset], None]) -> Path:
    """A copy of a DICOM file, changed."""
    dataset = pydicom.dcmread(source)
    edit(dataset)
    dataset.save_as(target)
    return target


def same(one: Volume, other: Volume) -> bool:
    """Whether two volumes agree in everything but when they came."""
    return (
        one.data.tobytes("F") == other.data.tobytes("F")
        and one.data.dtype == other.data.dtype
        and np.array_equal(one.affine, other.affine)
        and all(
            getattr(one, name) == getattr(other, name)
            for name in (
                *("attempt", "index", "shape", "tr_s", "acquired_s"),
                *("slice_times_s", "slice_axis", "n_volumes", "protocol"),
            )
        )
    )
