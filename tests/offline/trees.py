"""A small derivatives tree as fMRIPrep writes it, with made-up images."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["AFFINE", "SHAPE", "write_labels", "write_run"]

SHAPE = (8, 8, 8)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
TR_S = 2.0


def write_labels(path: Path, n_rois: int = 8) -> NDArray[np.int16]:
    """Label k + 1 is a slab of voxels; the image is returned."""
    labels = np.zeros(SHAPE, np.int16)
    for k in range(n_rois):
        labels[k % 8, 1 : 4 if k < 8 else 7, 2:6] = k + 1
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), path)
    return labels


def write_run(
    root: Path,
    participant: str,
    series: NDArray[np.float64],
    labels: NDArray[np.int16],
    session: str = "",
    seed: int = 0,
    moved: tuple[int, ...] = (),
    unsteady: int = 0,
    mask: NDArray[np.bool_] | None = None,
    run: str = "",
) -> pd.DataFrame:
    """One run whose voxels are their ROI's series plus noise and motion; its confounds."""
    rng = np.random.default_rng(seed)
    n = len(series)
    folder = root / f"sub-{participant}" / (f"ses-{session}" if session else "") / "func"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"sub-{participant}" + (f"_ses-{session}" if session else "") + f"_task-rest{run}"
    motion = np.cumsum(0.05 * rng.standard_normal((n, 6)), axis=0)
    bold = np.full((*SHAPE, n), 10_000.0)
    for k in range(series.shape[1]):
        bold[labels == k + 1] = series[:, k]
    bold += rng.standard_normal((*SHAPE, 1)) * motion[:, 0] * 20.0
    image = nibabel.Nifti1Image(bold.astype(np.float32), AFFINE)
    image.header.set_zooms((3.0, 3.0, 3.0, TR_S))
    nibabel.save(image, folder / f"{stem}_space-MNI_desc-preproc_bold.nii.gz")
    inside = np.ones(SHAPE, bool) if mask is None else mask
    nibabel.save(
        nibabel.Nifti1Image(inside.astype(np.uint8), AFFINE),
        folder / f"{stem}_space-MNI_desc-brain_mask.nii.gz",
    )
    confounds = _confounds(motion, rng, moved, unsteady)
    path = folder / f"{stem}_desc-confounds_timeseries.tsv"
    confounds.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return confounds


def _confounds(
    motion: NDArray[np.float64],
    rng: np.random.Generator,
    moved: tuple[int, ...],
    unsteady: int,
) -> pd.DataFrame:
    n = len(motion)
    table = pd.DataFrame({"csf": rng.standard_normal(n), "white_matter": rng.standard_normal(n)})
    table["global_signal"] = rng.standard_normal(n)
    for k, name in enumerate(("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")):
        table[name] = motion[:, k]
        table[f"{name}_derivative1"] = np.r_[np.nan, np.diff(motion[:, k])]
        table[f"{name}_power2"] = motion[:, k] ** 2
        table[f"{name}_derivative1_power2"] = table[f"{name}_derivative1"] ** 2
    table["cosine00"] = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    fd = np.full(n, 0.1)
    fd[0] = np.nan
    fd[list(moved)] = 0.9
    table["framewise_displacement"] = fd
    table["std_dvars"] = np.r_[np.nan, np.ones(n - 1)]
    for k in range(unsteady):
        table[f"non_steady_state_outlier{k:02d}"] = (np.arange(n) == k).astype(float)
    return table
