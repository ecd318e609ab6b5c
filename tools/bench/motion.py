"""Motion correction: known motion of real echo-planar images, time and error, SPM run beside.

A volume of the 80x80x35 series and one of the 104x104x72 multiband series are moved by known
random walks (<= 0.7 mm, 2.4 degrees), by single jumps (2-4 mm, 3-5 degrees), and get 1 % noise.
Errors are over voxels inside the head whose true place lies in the volume; parameters are
compared at the grid's centre. Rivals: the true motion undone with quintic splines, and SPM's
realignment as OpenNFT uses it (python-rtspm, installed into `.cache/rivals`). Needs `FCNEF_DATA`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial import cKDTree

from rtloop.errors import ConfigError
from rtloop.motion import Motion, Realigner
from rtloop.pyramid import head_mask
from rtloop.readers import ScannerConfig, read_series
from rtloop.volume import Volume
from tools.bench.motion_rival import spm_realign
from tools.bench.motion_truth import (
    Mover,
    brain,
    jumps,
    random_walk,
    rigid,
    slow_motion,
    true_resampling,
)

__all__ = ["measure", "prove"]

SERIES = {"80x80x35": "bold", "104x104x72": "siemens_mosaic_multiband_104x104x72"}
FULL_MS = {"80x80x35": 6.0, "104x104x72": 20.0}
LABELLED_MS = {"80x80x35": (3.0, 1.0), "104x104x72": (10.0, 4.0)}
"""Floor and stretch."""

NOISE = 0.01
N_ROIS = 200
LABELLED_SHARE = 0.3
OURS, SPM, TRUE, NOTHING = "fcnef", "SPM (python-rtspm)", "true motion, quintic", "not corrected"

Floats = NDArray[np.float64]


@dataclass
class Case:
    """Volumes of one series whose motion is known."""

    series: str
    name: str
    image: NDArray[Any]
    affine: Floats
    centre: Floats
    truths: list[Floats]
    volumes: list[NDArray[np.float32]]
    restart: bool = False
    inside: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        """Voxels of the head that no motion of the case takes out of the volume."""
        self.inside = brain(self.image)
        places = np.argwhere(self.inside)
        held = np.ones(len(places), np.bool_)
        for truth in self.truths:
            forth = np.linalg.inv(self.affine) @ truth @ self.affine
            moved = places @ forth[:3, :3].T + forth[:3, 3]
            held &= ((moved >= 0) & (moved <= np.array(self.image.shape) - 1)).all(axis=1)
        self.inside[tuple(places[~held].T)] = False

    def error(self, found: NDArray[Any]) -> float:
        """Root mean square error inside, percent of the mean."""
        difference = found[self.inside] - self.image[self.inside]
        return float(100 * np.sqrt((difference**2).mean()) / self.image[self.inside].mean())


def measure(
    n_volumes: int = 4,
    n_seeds: int = 1,
    n_jumps: int = 2,
    rival: bool = False,
    series: str | None = None,
) -> list[dict[str, Any]]:
    """Rows of the table, fcnef's first in every case; by default a size that takes a minute.

    Parameters
    ----------
    n_volumes : int
        Volumes per random walk.
    n_seeds : int
        Walks, and sets of jumps.
    n_jumps : int
        Jumps per set.
    rival : bool
        Run SPM beside.
    series : str, optional
        Measure one series only, "80x80x35" or "104x104x72".
    """
    found: list[dict[str, Any]] = []
    for name in [series] if series else list(SERIES):
        volumes = _read(name)
        walk, jump = _cases(name, volumes, n_volumes, n_seeds, n_jumps)
        for case in (walk, jump):
            found.append(_ours(case))
            found.append(_summary(case, TRUE, [_undone(case, i) for i in _indices(case)], [], []))
            found.append(_summary(case, NOTHING, list(map(case.error, case.volumes)), [], []))
            if rival:
                found.append(_spm(case))
        found += [_ours(spoilt) for spoilt in _spoilt(walk)]
        found.append(_real(name, volumes, step=5 if rival else 20))
    return found


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    found = measure(n_volumes=20, n_seeds=3, n_jumps=4, rival=True)
    rows = {(row["series"], row["case"], row["method"]): row for row in found}
    reached: dict[str, bool] = {}
    for name in SERIES:
        walk, jump = rows[name, "walk", OURS], rows[name, "jumps", OURS]
        true, spm = rows[name, "walk", TRUE], rows[name, "walk", SPM]
        ratio = walk["rmse_percent"] / true["rmse_percent"]
        floor_ms, stretch_ms = LABELLED_MS[name]
        spoilt = [row for row in found if row["series"] == name and row["case"] in SPOILT]
        reached |= {
            f"{name}: RMSE <= 1.05 x true motion with quintic": ratio <= 1.05,
            f"{name}: RMSE <= 1.02 x (stretch)": ratio <= 1.02,
            f"{name}: largest error <= 0.02 mm, 0.03 degrees": (
                walk["max_mm"] <= 0.02 and walk["max_deg"] <= 0.03
            ),
            f"{name}: largest error <= 0.015 mm (stretch)": walk["max_mm"] <= 0.015,
            f"{name}: no failure on jumps": jump["failures"] == 0 and jump["max_mm"] < 0.1,
            f"{name}: full grid <= {FULL_MS[name]:g} ms": walk["median_ms"] <= FULL_MS[name],
            f"{name}: labelled voxels <= {floor_ms:g} ms": walk["labelled_ms"] <= floor_ms,
            f"{name}: labelled voxels <= {stretch_ms:g} ms (stretch)": (
                walk["labelled_ms"] <= stretch_ms
            ),
            f"{name}: at least 10 x faster than SPM": (spm["median_ms"] >= 10 * walk["median_ms"]),
            f"{name}: no less accurate than SPM": walk["rmse_percent"] <= spm["rmse_percent"],
            f"{name}: <= 0.05 mm with lost slices or a ramp (stretch)": (
                max(row["max_mm"] for row in spoilt) <= 0.05
            ),
        }
    multiband = rows["104x104x72", "real series", OURS]
    reached["multiband series: within 0.02 mm of all voxels' solution (stretch)"] = (
        multiband["max_mm"] <= 0.02
    )
    return {"rows": found}, reached


# --- cases ------------------------------------------------------------------------------------


def _read(name: str) -> list[Volume]:
    folder = os.environ.get("FCNEF_DATA")
    if not folder:
        raise ConfigError(
            "motion: expected the folder of real scans in FCNEF_DATA, found none; set it"
        )
    if SERIES[name] == "bold":
        path = next((Path(folder) / "bold").glob("*_bold.nii.gz"))
        return read_series(path, ScannerConfig())
    archive = next((Path(folder) / "dicom").rglob(f"{SERIES[name]}*.tar.xz"))
    with tempfile.TemporaryDirectory() as unpacked, tarfile.open(archive, "r:xz") as tar:
        tar.extractall(unpacked, filter="data")
        return read_series(next(Path(unpacked).iterdir()), ScannerConfig())


def _cases(
    name: str, volumes: list[Volume], n_volumes: int, n_seeds: int, n_jumps: int
) -> tuple[Case, Case]:
    image, affine = volumes[2].data, volumes[2].affine
    centre = affine[:3, :3] @ ((np.array(image.shape) - 1) / 2) + affine[:3, 3]
    walks = np.concatenate([random_walk(n_volumes + 1, seed)[1:] for seed in range(n_seeds)])
    leaps = np.concatenate([jumps(n_jumps, seed) for seed in range(n_seeds)])
    mover = Mover(image, affine)
    noise = NOISE * float(image[brain(image)].mean())
    rng = np.random.default_rng(0)
    cases = []
    for label, parameters in (("walk", walks), ("jumps", leaps)):
        truths = [rigid(p, centre) for p in parameters]
        moved = []
        for truth in track(truths, f"moving {name}, {label}", console=Console(stderr=True)):
            noisy = mover(truth) + noise * rng.standard_normal(image.shape)
            moved.append(np.asfortranarray(noisy, np.float32))
        cases.append(
            Case(name, label, image, affine, centre, truths, moved, restart=label == "jumps")
        )
    return cases[0], cases[1]


SPOILT = ("two slices at half", "5 % ramp, x", "5 % ramp, y")


def _spoilt(walk: Case) -> list[Case]:
    """The walk with two slices at half their signal, or with an in-plane ramp."""
    nx, ny, nz = walk.image.shape
    dark = np.ones((1, 1, nz))
    dark[..., [nz // 3, nz // 2]] = 0.5
    ramp = np.linspace(0.95, 1.05, nx)[:, None, None], np.linspace(0.95, 1.05, ny)[None, :, None]
    return [
        Case(
            walk.series, label, walk.image, walk.affine, walk.centre, walk.truths,
            [np.asfortranarray(volume * factor, np.float32) for volume in walk.volumes],
        )
        for label, factor in zip(SPOILT, (dark, *ramp), strict=True)
    ]  # fmt: skip


def _labels(image: NDArray[Any]) -> NDArray[np.int64]:
    """Flat indices (Fortran order) of `N_ROIS` compact regions, a share of the head's voxels."""
    places = np.argwhere(brain(image))
    seeds = places[np.random.default_rng(0).choice(len(places), N_ROIS, replace=False)]
    distance, _ = cKDTree(seeds).query(places)
    near = places[distance <= np.quantile(distance, LABELLED_SHARE)]
    flat = np.ravel_multi_index(tuple(near.T), image.shape, order="F")
    return np.sort(flat).astype(np.int64)


# --- methods ----------------------------------------------------------------------------------


def _ours(case: Case) -> dict[str, Any]:
    realigner = Realigner(case.image, case.affine)
    sampler = realigner.sampler(_labels(case.image))
    rest = realigner.last
    rmse, times_ms, labelled_ms = [], [], []
    found: list[Motion] = []
    for volume in (case.volumes[0], *case.volumes):
        if case.restart or not found:
            realigner.restore(rest)
        start = time.perf_counter()
        motion = realigner.estimate(volume)
        estimated = time.perf_counter()
        full = realigner.resample(volume, motion)
        resampled = time.perf_counter()
        realigner.resample(volume, motion, sampler)
        end = time.perf_counter()
        times_ms.append(1e3 * (resampled - start))
        labelled_ms.append(1e3 * (estimated - start + end - resampled))
        rmse.append(case.error(full))
        found.append(motion)
    # The first volume came twice: once to warm up.
    row = _summary(case, OURS, rmse[1:], times_ms[1:], [m.matrix for m in found[1:]])
    row["labelled_ms"] = float(np.median(labelled_ms[1:]))
    row["labelled_p99_ms"] = float(np.percentile(labelled_ms[1:], 99))
    row["failures"] = sum(not motion.ok for motion in found)
    row["steps"] = float(np.mean([motion.n_iterations for motion in found[1:]]))
    return row


def _indices(case: Case) -> range:
    return range(len(case.volumes))


def _undone(case: Case, i: int) -> float:
    return case.error(true_resampling(case.volumes[i], case.affine, case.truths[i]))


def _spm(case: Case) -> dict[str, Any]:
    resliced, motions, times_ms = spm_realign(case.image, case.volumes, case.affine)
    return _summary(case, SPM, list(map(case.error, resliced)), times_ms, motions)


def _real(name: str, volumes: list[Volume], step: int) -> dict[str, Any]:
    """Estimates on the series as it is, against plain least squares on every voxel compared."""
    image, affine = volumes[0].data, volumes[0].affine
    realigner = Realigner(image, affine, volumes[0].slice_axis)
    mask = head_mask(image.astype(np.float64))
    found: list[Motion] = []
    truths, chosen = [], []
    for volume in track(volumes[1:60], f"following {name}", console=Console(stderr=True)):
        motion = realigner.estimate(volume.data)
        if volume.index % step == step - 1:
            found.append(motion)
            chosen.append(volume.data.astype(np.float32))
            truths.append(slow_motion(image, volume.data, affine, mask, np.eye(4), n_steps=5))
    centre = np.asarray(realigner.centre_mm)
    case = Case(name, "real series", image, affine, centre, truths, chosen)
    row = _summary(case, OURS, [np.nan], [], [motion.matrix for motion in found])
    row["failures"] = sum(not motion.ok for motion in found)
    return row


def _summary(
    case: Case, method: str, rmse: list[float], times_ms: list[float], motions: list[Floats]
) -> dict[str, Any]:
    """A row; errors of motion are at the grid's centre and as angles, and inside the head."""
    row: dict[str, Any] = {
        "series": case.series,
        "case": case.name,
        "method": method,
        "volumes": len(case.volumes),
        "rmse_percent": float(np.mean(rmse)),
    }
    if times_ms:
        row["median_ms"] = float(np.median(times_ms))
        row["p99_ms"] = float(np.percentile(times_ms, 99))
    if motions:
        errors = np.array(
            [_distance(case, *pair) for pair in zip(motions, case.truths, strict=True)]
        )
        for i, what in enumerate(("mm", "deg", "head_mm")):
            row[f"mean_{what}"] = float(errors[:, i].mean())
            row[f"max_{what}"] = float(errors[:, i].max())
    return row


def _distance(case: Case, found: Floats, truth: Floats) -> tuple[float, float, float]:
    """Distance at the centre (mm), angle (degrees), mean distance inside the head (mm)."""
    difference = np.linalg.inv(truth) @ found
    centre = np.append(case.centre, 1.0)
    turn = difference[:3, :3] - difference[:3, :3].T
    sine = 0.5 * float(np.linalg.norm([turn[2, 1], turn[0, 2], turn[1, 0]]))
    angle = np.arcsin(min(1.0, sine))
    places = np.argwhere(case.inside)[::7] @ case.affine[:3, :3].T + case.affine[:3, 3]
    moved = places @ difference[:3, :3].T + difference[:3, 3]
    return (
        float(np.linalg.norm((difference @ centre - centre)[:3])),
        float(np.rad2deg(angle)),
        float(np.linalg.norm(moved - places, axis=1).mean()),
    )


# --- the table --------------------------------------------------------------------------------

COLUMNS = {
    "RMSE %": "rmse_percent",
    "mm mean": "mean_mm",
    "mm max": "max_mm",
    "deg max": "max_deg",
    "head mm": "mean_head_mm",
    "ms": "median_ms",
    "p99": "p99_ms",
    "labelled ms": "labelled_ms",
    "lab. p99": "labelled_p99_ms",
    "failed": "failures",
}


def main() -> int:
    """Print the table, or JSON with `--json`; `--quick` takes a minute and leaves SPM out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    size: dict[str, Any] = {} if options.quick else {"n_volumes": 20, "n_seeds": 3, "n_jumps": 4}
    found = measure(**size, rival=not options.quick)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    table = Table(title="Motion correction, known motion of real images, one thread")
    for heading in ("series", "case", "method", *COLUMNS):
        table.add_column(heading, justify="right" if heading in COLUMNS else "left")
    for row in found:
        cells = (_cell(row.get(key)) for key in COLUMNS.values())
        table.add_row(row["series"], row["case"], row["method"], *cells)
    Console(width=max(Console().width, 150)).print(table)
    return 0


def _cell(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
