"""Nuisance regression: time per volume early and late in a run, error, and the naive way beside.

Simulated signals of 200 ROIs at BOLD magnitude (baseline 10,000, SD 50) that depend on motion and
tissue; 30 regressors (24 motion, level, cubic drift, white matter, CSF). The naive way fits the
whole run anew for each volume with `numpy.linalg.lstsq`. Errors are against least squares in
extended precision.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtloop.denoise import Denoiser, NuisanceModel

__all__ = ["exact_residuals", "measure", "prove"]

N_ROIS = 200
N_CHECKED = 8
"""ROIs whose residuals are compared; extended precision is slow."""

BLOCK = 1000
LIMIT_US = 150.0
ERROR_LIMIT = 1e-9

Float64 = NDArray[np.float64]


def measure(n_volumes: int = 100_000) -> list[dict[str, Any]]:
    """Rows of the table: what, at which volume, median and p99 in microseconds, error in SD."""
    model = NuisanceModel(24, 3, ("white_matter", "csf"), False, n_volumes, 1.0)
    denoiser = Denoiser(N_ROIS, model)
    rows, signals, times_us = [], [], []
    found = []
    for index, motion, tissue, x in _volumes(n_volumes):
        start = time.perf_counter()
        row = model.row(index, motion, tissue)
        denoiser.update(row, x)
        denoiser.residual(x, row)
        times_us.append(1e6 * (time.perf_counter() - start))
        rows.append(row.copy())
        signals.append(x[:N_CHECKED].copy())
        seen = index + 1
        if seen in (300, 2000, n_volumes):
            error = _error(denoiser, np.array(rows), np.array(signals))
            # the table's early row speaks of volumes 100 to 300
            lately = times_us[100:] if seen == 300 else times_us[-BLOCK:]
            found.append(_entry("fcnef, one row", seen, lately, error))
            if seen in (300, 2000):
                found.append(_naive(np.array(rows), x))
    return found


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    found = measure()
    ours = [entry for entry in found if entry["method"] == "fcnef, one row"]
    early, late = ours[0], ours[-1]
    reached = {
        f"median <= {LIMIT_US:g} us": max(e["median_us"] for e in ours) <= LIMIT_US,
        "cost independent of run length (medians within 25 %)": (
            abs(late["median_us"] / early["median_us"] - 1) < 0.25
        ),
        "residuals within 1e-9 SD": max(e["error_sd"] for e in ours) <= ERROR_LIMIT,
    }
    return {"rows": found}, reached


def exact_residuals(X: Float64, Y: Float64) -> NDArray[np.longdouble]:
    """Least-squares residuals of Y on X in extended precision, by twofold Gram-Schmidt.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Of full rank.
    Y : ndarray, shape (n, q)
    """
    basis: list[NDArray[np.longdouble]] = []
    for column in X.astype(np.longdouble).T:
        for _ in range(2):
            for q in basis:
                column = column - q * (q @ column)
        basis.append(column / np.sqrt(column @ column))
    left = Y.astype(np.longdouble)
    for _ in range(2):
        for q in basis:
            left = left - np.outer(q, q @ left)
    return left


def _volumes(n_volumes: int) -> Iterator[tuple[int, Float64, Float64, Float64]]:
    """Index, motion, tissue and ROI signals, simulated in blocks."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((8, N_ROIS))
    position = np.zeros(6)
    for first in range(0, n_volumes, BLOCK):
        n = min(BLOCK, n_volumes - first)
        steps = rng.standard_normal((n, 6)) * ([0.005] * 3 + [1e-4] * 3)
        motion = position + np.cumsum(steps, axis=0) + steps
        # heads come back; an unbounded walk would leave the scanner
        position = 0.5 * motion[-1]
        tissue = 9_000.0 + 20.0 * rng.standard_normal((n, 2))
        x = 10_000.0 + 50.0 * rng.standard_normal((n, N_ROIS))
        x += np.hstack([200.0 * motion, tissue - 9_000.0]) @ mixing
        for k in range(n):
            yield first + k, motion[k], tissue[k], x[k]


def _error(denoiser: Denoiser, rows: Float64, signals: Float64) -> float:
    """Largest error of any residual of the run so far, in SD of its signal's residuals."""
    exact = exact_residuals(rows, signals - signals[0])
    found = signals - rows @ denoiser.betas[:, :N_CHECKED]
    return float((np.abs(found - exact).max(axis=0) / exact.std(axis=0)).max())


def _naive(rows: Float64, x: Float64) -> dict[str, Any]:
    """Fit everything so far anew; the signals' values do not matter for the time."""
    signals = np.random.default_rng(1).normal(x, 50.0, (len(rows), N_ROIS))

    def fit() -> None:
        signals[-1] - rows[-1] @ np.linalg.lstsq(rows, signals, rcond=None)[0]

    return _entry("naive, lstsq on the run", len(rows), _timed_us(fit, 15), None)


def _timed_us(call: Callable[[], None], repeat: int) -> list[float]:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(1e6 * (time.perf_counter() - start))
    return times


def _entry(method: str, volume: int, times_us: list[float], error: float | None) -> dict[str, Any]:
    return {
        "method": method,
        "volume": volume,
        "median_us": float(np.median(times_us)),
        "p99_us": float(np.percentile(times_us, 99)),
        "error_sd": error,
    }


def main() -> int:
    """Print the table, or JSON with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--volumes", type=int, default=100_000)
    options = parser.parse_args()
    found = measure(options.volumes)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    table = Table(title="Nuisance regression, 200 ROIs, 30 regressors")
    for heading in ("method", "at volume", "median us", "p99 us", "error / SD"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for entry in found:
        error = "-" if entry["error_sd"] is None else f"{entry['error_sd']:.1e}"
        times = (f"{entry[key]:.0f}" for key in ("median_us", "p99_us"))
        table.add_row(entry["method"], f"{entry['volume']:,}", *times, error)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
