"""Runs SPM's realignment (python-rtspm) over volumes; executed in an environment of its own.

Arguments: folder with `reference.npy`, `volumes.npy` (n, x, y, z) and `affine.npy`. Writes
`resliced.npy`, `motions.npy` (n, 4, 4, reference to volume, world mm) and `times_ms.npy`. Settings
are those OpenNFT uses: smoothing 5 mm, a sample every 4 mm, 4th-degree B-splines; every volume
starts from the reference's position.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rtspm


def main(folder: Path) -> None:
    """Realign and reslice every volume."""
    reference, volumes = np.load(folder / "reference.npy"), np.load(folder / "volumes.npy")
    # SPM counts voxels from 1.
    affine = np.load(folder / "affine.npy") @ np.array(
        [[1.0, 0, 0, -1], [0, 1, 0, -1], [0, 0, 1, -1], [0, 0, 0, 1]]
    )
    flags = {
        "quality": 0.9, "fwhm": 5, "sep": 4, "interp": 4, "wrap": np.zeros((3, 1)), "rtm": 0,
        "PW": "", "lkp": np.arange(6), "mask": 1, "mean": 0, "which": 2,
    }  # fmt: skip
    dim = np.array(reference.shape)
    template = {"mat": affine.copy(), "dim": dim, "Vol": np.asfortranarray(reference, np.float64)}
    kept: list[list[Any]] = [[], [], [], [], [], []]
    times_ms, motions, resliced = [], [], []
    for index in range(-1, len(volumes)):
        # The reference itself comes first: it sets up what all others share.
        volume = np.asfortranarray(reference if index < 0 else volumes[index], np.float64)
        start = time.perf_counter()
        pair = [template, {"mat": affine.copy(), "dim": dim, "Vol": volume}]
        pair, *kept, _ = rtspm.spm_realign_rt(pair, flags, index, -1, *kept)
        image = rtspm.spm_reslice_rt(pair, flags)
        if index >= 0:
            times_ms.append(1e3 * (time.perf_counter() - start))
            motions.append(affine @ np.linalg.inv(pair[1]["mat"]))
            resliced.append(np.asarray(image, np.float32))
    np.save(folder / "times_ms.npy", times_ms)
    np.save(folder / "motions.npy", motions)
    np.save(folder / "resliced.npy", resliced)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
