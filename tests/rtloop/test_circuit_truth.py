"""Scores with known truth (short form of `make proof truth`), and on real rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtloop.circuit import Circuit
from rtloop.connectivity import SlidingWindowFC, edge_pairs
from tools.bench.truth import Condition, examine

SHORT = Condition("short form", tr_s=2.0, window_s=40, run_s=300)
N_WINDOWS = 500
CHANCE_MEAN = 2.0 / np.sqrt(N_WINDOWS)
CHANCE_SD = 2.0 / np.sqrt(2.0 * N_WINDOWS)
"""Two standard errors of a mean and of an SD over so many windows, which the full form, with
more of them, does not need on top of 0.1 and 0.9-1.1."""


@pytest.mark.slow
def test_standard_error_on_known_truth() -> None:
    """(estimate - truth) / standard error over independent windows, simulated signals."""
    for row in examine(SHORT, N_WINDOWS):
        assert row["refused"] == 0, row
        assert abs(row["mean"]) <= 0.1 + CHANCE_MEAN, row
        assert 0.9 - CHANCE_SD <= row["sd"] <= 1.1 + CHANCE_SD, row


def test_standard_error_on_real_rest(data: Path) -> None:
    """Windows of 40 s scatter about their own run as their standard error says.

    Real rest of 40 people, MIST-122, TR about 2.5 s. Truth is not known: the run's own
    correlation stands for it, and FC that drifts within a run widens the ratio.
    """
    tr_s, window = 2.5, 16
    rng = np.random.default_rng(0)
    ratios: dict[int, list[float]] = {1: [], 10: []}
    with np.load(data / "rest" / "rpn_3site_mist122_timeseries.npz") as file:
        people = [name for name in file.files if name != "columns" and not name.endswith("_fd")]
        runs = [file[name][:, 1:].astype(np.float64) for name in people[:40]]
    for x in runs:
        time = np.linspace(-1.0, 1.0, len(x))
        drift = np.stack([time**k for k in range(4)], axis=1)
        x = x[:, rng.choice(np.flatnonzero(x.std(axis=0) > 0), 5, replace=False)]
        betas = np.linalg.lstsq(drift, x, rcond=None)[0]
        own = np.corrcoef((x - drift @ betas).T)
        for n_edges, values in ratios.items():
            pairs = edge_pairs(5)[:n_edges]
            circuit = Circuit(pairs, np.ones(n_edges))
            run = circuit.autocorrelation(tr_s, 4)
            for signals, row in zip(x, drift, strict=True):
                run.update(signals[circuit.rois], 1.0, row)
            fc = SlidingWindowFC(5, window, pairs, 4)
            truth = np.arctanh(own[tuple(pairs.T)]).mean()
            for t, (signals, row) in enumerate(zip(x, drift, strict=True)):
                fc.update(signals, 1.0, row)
                if t % window == window - 1:
                    r, products = fc.correlation(betas), fc.regressor_products()
                    score = circuit.score(r, run, fc.weights, betas, products)
                    values.append((score.estimate - truth) / score.standard_error)
    for values in ratios.values():
        assert len(values) >= 480
        assert abs(np.mean(values)) < 0.15
        assert 0.85 < np.std(values) < 1.25
