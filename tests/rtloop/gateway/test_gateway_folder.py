"""A scanner's folder to the engine, with real files, a real watch and a real stream."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from rtloop.readers import ScannerConfig, read_series
from tests.rtloop.gateway.loopback import arrive, series

FORMS = {
    "siemens_mosaic_skyra": 10,
    "siemens_mosaic_prisma_64x64x18": 12,
    "siemens_xa30_enhanced": 20,
    "s1925": 3 * 18,
    "mr_0004": 3 * 15,
    "philips_ingenia": None,
}


def some_of(folder: Path, count: int | None) -> list[Path]:
    """The first files of a series; of Philips' slice-wise order all slices of three volumes."""
    if count is None:
        return [path for path in series(folder) if int(path.stem.split("_")[1]) % 12 in (1, 2, 3)]
    return series(folder, "*")[: count + 1] if "skyra" in folder.name else series(folder, "*")
