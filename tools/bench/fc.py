"""Sliding-window FC: time per volume and error, with the naive ways beside it in the same run.

Simulated signals at BOLD magnitude (baseline 10,000, SD 50). One volume costs an update and the
correlation of all edges. The naive way correlates the window anew with `numpy.corrcoef` (after
subtracting betas' regressors, where there are any); the pair loop does what point-and-click
tools do, one `numpy.corrcoef` per edge. Errors are against two passes in extended precision.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtloop.circuit import Circuit
from rtloop.connectivity import SlidingWindowFC, edge_pairs

__all__ = ["measure", "measure_error", "prove"]

BASELINE, SD = 10_000.0, 50.0
CASES = ((100, 0, 60), (379, 0, 60), (200, 24, 60), (200, 30, 60), (200, 30, 150))
"""n_rois, n_regressors, window in volumes."""

LIMITS_US = {(100, 0): 20.0, (379, 0): 250.0, (200, 24): 1000.0, (200, 30): 1000.0}
N_ERROR_UPDATES = 100_000
ERROR_LIMIT = 1e-9

Float64 = NDArray[np.float64]


def measure(n_volumes: int = 3000) -> list[dict[str, Any]]:
    """Rows of the table: method, size, median and p99 in microseconds."""
    rows = []
    for n_rois, n_regressors, window in CASES:
        size = {"n_rois": n_rois, "n_regressors": n_regressors, "window": window}
        rows += [{**size, **entry} for entry in _case(n_rois, n_regressors, window, n_volumes)]
    rows += [
        {"n_rois": 10, "n_regressors": n, "window": 60, **_score(n, n_volumes // 3)}
        for n in (9, 27)
    ]
    return rows


def measure_error(n_updates: int = N_ERROR_UPDATES) -> float:
    """Largest error of any r, looked at every 997 volumes of a long run with drift."""
    n_rois, window = 20, 50
    rng = np.random.default_rng(0)
    fc = SlidingWindowFC(n_rois, window)
    mixing = rng.standard_normal((n_rois, n_rois)) / np.sqrt(n_rois)
    last = np.empty((window, n_rois))
    worst = 0.0
    for count in range(n_updates):
        drift = 300.0 * np.sin(count / 5000.0)
        x = BASELINE + SD * (mixing @ rng.standard_normal(n_rois)) + drift
        last[count % window] = x
        fc.update(x)
        if count % 997 == 996 or count == n_updates - 1:
            worst = max(worst, _error(fc, last))
    return worst


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    rows, error = measure(), measure_error()
    reached = {
        f"{n_rois} ROIs, {n_regressors} regressors: median <= {limit:g} us": all(
            row["median_us"] <= limit
            for row in rows
            if row["method"] == "fcnef" and (row["n_rois"], row["n_regressors"]) == key
        )
        for key, limit in LIMITS_US.items()
        for n_rois, n_regressors in [key]
    }
    reached[f"error <= {ERROR_LIMIT:g} after {N_ERROR_UPDATES:,} updates"] = error <= ERROR_LIMIT
    return {"rows": rows, "largest_error": error}, reached


def _case(n_rois: int, n_regressors: int, window: int, n_volumes: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    x = BASELINE + SD * rng.standard_normal((n_volumes, n_rois))
    rows = rng.standard_normal((n_volumes, n_regressors))
    betas = SD * rng.standard_normal((n_regressors, n_rois))
    x += rows @ betas
    fc = SlidingWindowFC(n_rois, window, n_regressors=n_regressors)
    out = np.empty(len(fc.edges))
    used = betas if n_regressors else None

    def volume(t: int) -> None:
        fc.update(x[t], 1.0, rows[t])
        fc.correlation(used, out)

    upper = np.triu_indices(n_rois, 1)

    def naive(t: int) -> None:
        last = slice(t + 1 - window, t + 1)
        np.corrcoef((x[last] - rows[last] @ betas).T)[upper]

    ours = _timed("fcnef", volume, range(n_volumes), skip=window)
    yield ours
    late = range(window, n_volumes, max(1, n_volumes // 200))
    yield _against(ours, _timed("numpy.corrcoef of the window", naive, late))
    if n_rois <= 100:

        def pairs(t: int) -> None:
            series = x[t + 1 - window : t + 1].T
            for a, b in zip(*upper, strict=True):
                np.corrcoef(series[a], series[b])[0, 1]

        yield _against(ours, _timed("numpy.corrcoef per edge", pairs, range(window, window + 5)))


def _score(n_regressors: int, n_volumes: int) -> dict[str, Any]:
    """A circuit of 20 edges: lagged covariances, score and standard error, TR 1 s."""
    n_rois, window = 10, 60
    rng = np.random.default_rng(0)
    circuit = Circuit(edge_pairs(n_rois)[::2][:20], np.ones(20))
    run = circuit.autocorrelation(1.0, n_regressors)
    fc = SlidingWindowFC(n_rois, window, circuit.edges, n_regressors)
    x = BASELINE + SD * rng.standard_normal((n_volumes, n_rois))
    rows = rng.standard_normal((n_volumes, n_regressors))
    betas = rng.standard_normal((n_regressors, n_rois))

    def volume(t: int) -> None:
        fc.update(x[t], 1.0, rows[t])
        run.update(x[t][circuit.rois], 1.0, rows[t])
        r = fc.correlation(betas)
        circuit.score(r, run, fc.weights, betas, fc.regressor_products())

    return _timed("fcnef, 20 edges with SE", volume, range(n_volumes), skip=200)


def _timed(method: str, call: Callable[[int], None], at: range, skip: int = 0) -> dict[str, Any]:
    times_us = []
    for t in at:
        start = time.perf_counter()
        call(t)
        times_us.append(1e6 * (time.perf_counter() - start))
    return {
        "method": method,
        "median_us": float(np.median(times_us[skip:])),
        "p99_us": float(np.percentile(times_us[skip:], 99)),
    }


def _against(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return {**theirs, "times_fcnef": theirs["median_us"] / ours["median_us"]}


def _error(fc: SlidingWindowFC, last: Float64) -> float:
    exact = last.astype(np.longdouble)
    exact = exact - exact.mean(axis=0)
    covariance = exact.T @ exact
    sd = np.sqrt(np.diag(covariance))
    a, b = fc.edges.T
    return float(np.abs(fc.correlation() - covariance[a, b] / (sd[a] * sd[b])).max())


def main() -> None:
    parser = argparse.ArgumentParser(description="Sliding-window FC: time per volume and error.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    figures, reached = prove()
    if arguments.json:
        print(json.dumps({**figures, "reached": reached}, indent=2))
        return
    table = Table(title="Sliding-window FC, one volume: update and correlation of all edges")
    table.add_column("method")
    for column in ("ROIs", "regressors", "window", "median us", "p99 us", "x fcnef"):
        table.add_column(column, justify="right")
    for row in figures["rows"]:
        times = row.get("times_fcnef")
        table.add_row(
            row["method"],
            *(str(row[name]) for name in ("n_rois", "n_regressors", "window")),
            f"{row['median_us']:,.1f}",
            f"{row['p99_us']:,.1f}",
            "" if times is None else f"{times:,.0f}",
        )
    console = Console(width=110)
    console.print(table)
    console.print(
        f"largest error after {N_ERROR_UPDATES:,} updates: {figures['largest_error']:.1e}"
    )
    for claim, holds in reached.items():
        console.print(f"{'reached    ' if holds else 'NOT REACHED'}  {claim}")


if __name__ == "__main__":
    main()
