"""Large harmonizations, each in a process of its own: `-m tools.bench.harmonize_large JOB FOLDER`.

`traveling` fits 2,324 scans in memory. `store N` runs ComBat from one store on disk to another;
`plain N` does the same sums on an array in memory, as one would write them down: blocks of edges,
least squares, residuals, nothing else. Both see the same simulated numbers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.harmonize import ComBat, TravelingSubject
from offline.store import EdgeStore
from offline.synthetic import CONTROLS, PATIENTS, traveling_cohort
from tools.bench.harmonize_rival import peak_gb, reset_peak

N_ROIS, N_SITES = 379, 20
N_EDGES = N_ROIS * (N_ROIS - 1) // 2
ROWS = 500
"""Scans made at once."""

COHORT_FACTOR = 4.3
"""Residents against the cohort of the regimes: 2,326 scans with 324 traveling ones."""

Float64 = NDArray[np.float64]


def traveling() -> dict[str, Any]:
    """CPU time of one fit with cross-validation, in memory, float64."""
    controls = [round(n * COHORT_FACTOR) for n in CONTROLS]
    patients = {
        dx: {site: round(n * COHORT_FACTOR) for site, n in at.items()}
        for dx, at in PATIENTS.items()
    }
    design = traveling_cohort(n_edges=1, controls=controls, patients=patients)
    n_scans = len(design.people)
    X = 0.3 + 0.15 * np.random.default_rng(0).standard_normal((n_scans, N_EDGES))
    reset_peak()
    start = time.process_time()
    model = TravelingSubject().fit(X, design.site, design.traveler, design.diagnosis)
    return {
        "n_scans": n_scans,
        "n_edges": N_EDGES,
        "cpu_s": time.process_time() - start,
        "peak_gb": peak_gb(),
        "penalty": model.penalty_,
    }


def store(folder: Path, n_scans: int) -> dict[str, Any]:
    """ComBat out of core."""
    sites, people = _people(n_scans)
    atlas = Atlas("simulated", tuple(f"R{k:03d}" for k in range(N_ROIS)))
    source = EdgeStore.create(folder / "source", n_scans, atlas)
    with source.rows() as writer:
        for block in _scans(n_scans):
            writer.add(block)
    target = EdgeStore.create(folder / "target", n_scans, atlas)
    reset_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    ComBat().fit_transform(source, sites, people, out=target)
    done = _figures(n_scans, cpu, wall)
    return {**done, "checksum": float(np.abs(target.read(slice(0, 64)).astype(float)).sum())}


def plain(n_scans: int) -> dict[str, Any]:
    """The same in memory, float32 in and out, by plain blocked NumPy."""
    sites, people = _people(n_scans)
    X = np.empty((n_scans, N_EDGES), np.float32)
    start = 0
    for block in _scans(n_scans):
        X[start : start + len(block)] = block
        start += len(block)
    out = np.empty_like(X)
    reset_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    _plain(X, sites, people, out)
    done = _figures(n_scans, cpu, wall)
    return {**done, "checksum": float(np.abs(out[:, :64].astype(float)).sum())}


def _figures(n_scans: int, cpu: float, wall: float) -> dict[str, Any]:
    return {
        "n_scans": n_scans,
        "n_edges": N_EDGES,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_gb": peak_gb(),
    }


def _people(n_scans: int) -> tuple[NDArray[Any], pd.DataFrame]:
    rng = np.random.default_rng(2)
    sites = np.array([f"site{k:02d}" for k in rng.permutation(n_scans) % N_SITES], object)
    sex = np.where(rng.random(n_scans) < 0.5, "F", "M")
    return sites, pd.DataFrame({"age": rng.integers(20, 70, n_scans).astype(float), "sex": sex})


def _scans(n_scans: int) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(3)
    for start in range(0, n_scans, ROWS):
        n = min(ROWS, n_scans - start)
        yield 0.3 + 0.15 * rng.standard_normal((n, N_EDGES), dtype=np.float32)


def _plain(
    X: NDArray[np.float32], sites: NDArray[Any], people: pd.DataFrame, out: NDArray[np.float32]
) -> None:
    names, codes = np.unique(sites.astype(str), return_inverse=True)
    one_hot = (codes[:, None] == np.arange(len(names))).astype(float)
    C = np.column_stack([people["age"] - people["age"].mean(), people["sex"] == "M"]).astype(float)
    design = np.hstack([one_hot, C])
    solve = np.linalg.inv(design.T @ design) @ design.T
    counts, n_edges = one_hot.sum(axis=0), X.shape[1]
    of_site = [np.flatnonzero(codes == k) for k in range(len(names))]
    blocks = [slice(at, min(at + 512, n_edges)) for at in range(0, n_edges, 512)]
    mean, sd = np.empty(n_edges), np.empty(n_edges)
    slopes = np.empty((C.shape[1], n_edges))
    gamma, delta = np.empty((len(names), n_edges)), np.empty((len(names), n_edges))
    for at in blocks:
        block = X[:, at].astype(float)
        beta = solve @ block
        mean[at] = counts @ beta[: len(names)] / len(X)
        slopes[:, at] = beta[len(names) :]
        sd[at] = np.sqrt(((block - design @ beta) ** 2).mean(axis=0))
        Z = (block - mean[at] - C @ slopes[:, at]) / sd[at]
        for k, rows in enumerate(of_site):
            gamma[k, at] = Z[rows].mean(axis=0)
            delta[k, at] = Z[rows].var(axis=0, ddof=1)
    for k in range(len(names)):
        gamma[k], delta[k] = _shrunk(gamma[k], delta[k], counts[k])
    for at in blocks:
        kept = mean[at] + C @ slopes[:, at]
        Z = (X[:, at] - kept) / sd[at]
        Z = (Z - gamma[codes, at]) / np.sqrt(delta[codes, at])
        out[:, at] = Z * sd[at] + kept


def _shrunk(gamma: Float64, delta: Float64, n: float) -> tuple[Float64, Float64]:
    m, tau2, v, s2 = gamma.mean(), gamma.var(ddof=1), delta.mean(), delta.var(ddof=1)
    a, b = (2 * s2 + v**2) / s2, (v * s2 + v**3) / s2
    g, d, change = gamma, delta, 1.0
    while change > 1e-4:
        g_new = (tau2 * n * gamma + d * m) / (tau2 * n + d)
        squares = (n - 1) * delta + n * (gamma - g_new) ** 2
        d_new = (0.5 * squares + b) / (n / 2 + a - 1)
        change = max(np.max(np.abs(g_new - g) / g), np.max(np.abs(d_new - d) / d))
        g, d = g_new, d_new
    return g, d


def main(name: str, folder: Path, n_scans: int) -> None:
    if name == "traveling":
        done = traveling()
    else:
        done = store(folder, n_scans) if name == "store" else plain(n_scans)
    (folder / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
