"""SPM's realignment (python-rtspm, GPL) in an environment of its own, called as a program."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["spm_realign"]

FOLDER = Path(__file__).parents[2] / ".cache" / "rivals" / "rtspm"
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def spm_realign(
    reference: NDArray[Any], volumes: list[NDArray[np.float32]], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], list[NDArray[np.float64]], list[float]]:
    """Realign and reslice volumes against a reference.

    Parameters
    ----------
    reference : ndarray, shape (x, y, z)
    volumes : list of ndarray, shape (x, y, z)
    affine : ndarray, shape (4, 4)
        Voxel index to world, mm.

    Returns
    -------
    tuple
        Resliced volumes, motions (4, 4) from reference to volume in world mm, milliseconds of
        realigning and reslicing each.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "reference.npy", reference)
        np.save(folder / "volumes.npy", np.stack(volumes))
        np.save(folder / "affine.npy", affine)
        script = Path(__file__).with_name("rtspm_rival.py")
        subprocess.run(
            [_python(), str(script), name],
            env={**os.environ, **ONE_THREAD},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return (
            np.load(folder / "resliced.npy"),
            list(np.load(folder / "motions.npy")),
            np.load(folder / "times_ms.npy").tolist(),
        )


def _python() -> Path:
    """The environment's interpreter; the environment is made when first needed."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / "ready").exists():
        venv.create(FOLDER, with_pip=True, clear=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "-q", "python-rtspm"]
        subprocess.run(install, check=True, stdout=sys.stderr)
        (FOLDER / "ready").touch()
    return python
