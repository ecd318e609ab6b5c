"""Playing series into folders, for the tests of the simulated scanner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from rtloop.readers import Assembler, ScannerConfig
from tools.faults import FaultScript
from tools.scanner import ExportFolder, play

__all__ = ["BINDING", "answers", "exported", "four_dimensional", "script"]

BINDING = ScannerConfig()


def script(*faults: dict[str, Any]) -> FaultScript:
    return FaultScript.model_validate({"fault": faults})


def exported(folder: Path, series: Any, faults: FaultScript | None = None) -> list[Path]:
    """Play at once into a folder; the files in the order they were begun."""
    outlet = ExportFolder(folder)
    play(series, outlet, faults, speed=0)
    return outlet.written


def answers(files: list[Path]) -> list[Any]:
    """What the gateway's door says to each file, in the order they were begun."""
    door = Assembler(BINDING, b"test")
    return [door.add(path, 0.0) for path in files]


def four_dimensional(folder: Path, scaled: bool) -> Path:
    """A 4-D image of integers, stored from right to left as many converters write it."""
    random = np.random.default_rng(0)
    stored = random.integers(0, 4000, (6, 7, 5, 4)).astype(np.int16)
    image = nib.Nifti1Image(stored, np.diag([-3.0, 3.0, 4.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.25
    if scaled:
        image.header.set_slope_inter(0.5, 3.0)
    path = folder / "bold.nii.gz"
    nib.save(image, path)
    return path
