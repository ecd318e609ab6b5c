"""Lagged covariances of a run against NumPy on all of its residuals at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtloop.autocorrelation import Autocorrelation, lags_for
from rtloop.connectivity import SlidingWindowFC

Float64 = NDArray[np.float64]

N_VOLUMES, N_ROIS, N_LAGS = 200, 3, 6


def scans(seed: int, n_regressors: int = 4) -> tuple[Float64, Float64, Float64]:
    """Signals at BOLD magnitude, regressors (the first is the level), weights, some 0."""
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.standard_normal((N_VOLUMES, n_regressors)), axis=0)
    rows[:, 0] = 1.0
    noise = np.cumsum(rng.standard_normal((N_VOLUMES, N_ROIS)), axis=0)
    x = 10_000.0 + 20.0 * noise + 30.0 * rows @ rng.standard_normal((n_regressors, N_ROIS))
    weights = np.where(rng.random(N_VOLUMES) < 0.2, 0.0, rng.uniform(0.3, 1.0, N_VOLUMES))
    return x, rows, weights


def fed(x: Float64, rows: Float64, weights: Float64) -> Autocorrelation:
    run = Autocorrelation(N_ROIS, N_LAGS, rows.shape[1])
    for values, row, weight in zip(x, rows, weights, strict=True):
        run.update(values if weight > 0 else None, float(weight), row)
    return run


def lagged(residual: Float64, weights: Float64, lag: int) -> Float64:
    """Covariance at one lag, both directions of time averaged, sums centred on their own means."""
    now, then = residual[lag:], residual[: len(residual) - lag]
    w = weights[lag:] * weights[: len(weights) - lag]
    now, then = now - w @ now / w.sum(), then - w @ then / w.sum()
    product = (w[:, None] * now).T @ then / w.sum()
    return np.asarray(0.5 * (product + product.T))


def taper(lag: int) -> float:
    return min(1.0, 2.0 * (1.0 - lag / (N_LAGS + 1)))


def fitted(x: Float64, rows: Float64, weights: Float64) -> Float64:
    root = np.sqrt(weights)[:, None]
    return np.asarray(np.linalg.lstsq(root * rows, root * x, rcond=None)[0])


@pytest.mark.parametrize("with_betas", [True, False])
def test_equals_residuals_of_the_whole_run(with_betas: bool) -> None:
    x, rows, weights = scans(0)
    betas = fitted(x, rows, weights)
    residual = x - rows @ betas if with_betas else x - x[0]
    found = fed(x, rows, weights).covariances(betas if with_betas else None)
    for lag in range(N_LAGS + 1):
        expected = taper(lag) * lagged(residual, weights, lag)
        np.testing.assert_allclose(found[lag], expected, atol=1e-9 * np.abs(expected).max())


def test_seeding_rest_counts_with_its_own_level_and_drift_removed() -> None:
    """As the regression does it: a block design, own columns per run, motion shared."""
    n_own = 2
    x, rows, weights = scans(1)
    rest, rest_rows, rest_weights = scans(2)
    rest += 500.0
    run = Autocorrelation(N_ROIS, N_LAGS, 4)
    rest_weights[:3] = [0.0, 1.0, 0.0]
    broken, told = rest.copy(), rest_weights.copy()
    broken[rest_weights == 0] = np.nan
    told[0] = 1.0  # nobody censored it, but it is not finite
    run.seed(rest_rows, broken, told, n_own)
    for values, row, weight in zip(x, rows, weights, strict=True):
        run.update(values if weight > 0 else None, float(weight), row)

    block = np.zeros((2 * N_VOLUMES, n_own + 4))
    block[:N_VOLUMES, :n_own] = rest_rows[:, :n_own]
    block[:N_VOLUMES, 2 * n_own :] = rest_rows[:, n_own:]
    block[N_VOLUMES:, n_own:] = rows
    signals = np.concatenate((rest, x))
    betas = fitted(signals, block, np.concatenate((rest_weights, weights)))
    residual = signals - block @ betas

    found = run.covariances(betas[n_own:])
    parts = (residual[:N_VOLUMES], rest_weights), (residual[N_VOLUMES:], weights)
    for lag in range(N_LAGS + 1):
        counts = [w[lag:] @ w[: len(w) - lag] for _, w in parts]
        pooled = sum(n * lagged(*part, lag) for n, part in zip(counts, parts, strict=True))
        expected = taper(lag) * pooled / sum(counts)
        np.testing.assert_allclose(found[lag], expected, atol=1e-9 * np.abs(expected).max())


def test_seeding_comes_first() -> None:
    x, rows, weights = scans(3)
    run = fed(x, rows, weights)
    with pytest.raises(ValueError, match="before the first volume"):
        run.seed(rows, x, weights)
    run.reset()
    run.seed(rows, x, weights)
    assert run.n_samples == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_betas_from_the_window_alone_spend_one_dimension_per_regressor() -> None:
    """The level is no regressor of the centred window: K - 1 of K columns."""
    x, rows, _ = scans(4)
    weights = np.ones(N_VOLUMES)
    run, window = fed(x, rows, weights), SlidingWindowFC(N_ROIS, N_VOLUMES, None, 4)
    for values, row in zip(x, rows, strict=True):
        window.update(values, 1.0, row)
    assert run.spent(window.regressor_products()) == pytest.approx(3.0, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_spent_dimensions_are_the_leverages_of_the_window(seed: int) -> None:
    x, rows, weights = scans(seed)
    rows = np.concatenate((rows, rows[:, 1:2] + rows[:, 2:3]), axis=1)  # says nothing new
    weights = (weights > 0).astype(float)
    n = 40
    run, window = fed(x, rows, weights), SlidingWindowFC(N_ROIS, n, None, 5)
    for values, row, weight in zip(x, rows, weights, strict=True):
        window.update(values, weight, row)
    kept = weights > 0
    basis = np.linalg.svd(rows[kept], full_matrices=False)[0][:, :4]
    hat = basis @ basis.T
    last = int(weights[-n:].sum())
    centre = np.eye(last) - 1.0 / last
    inside = centre @ hat[-last:, -last:] @ centre
    assert run.spent(window.regressor_products()) == pytest.approx((inside**2).sum(), rel=1e-7)


def test_same_volumes_same_bits() -> None:
    x, rows, weights = scans(6)
    first, second = fed(x, rows, weights), fed(x, rows, weights)
    second.reset()
    for values, row, weight in zip(x, rows, weights, strict=True):
        second.update(values, float(weight), row)
        second.covariances()
    betas = fitted(x, rows, weights)
    assert first.covariances(betas).tobytes() == second.covariances(betas).tobytes()


def test_a_lag_never_seen_is_unknown() -> None:
    run = Autocorrelation(2, 3)
    rng = np.random.default_rng(0)
    for t in range(60):
        run.update(rng.standard_normal(2), float(t % 2))
    found = run.covariances()
    assert np.isnan(found[[1, 3]]).all()
    assert np.isfinite(found[[0, 2]]).all()


def test_ready_only_after_enough_of_the_run() -> None:
    run = Autocorrelation(1, 4)
    for t in range(20):
        assert not run.ready, t
        run.update([float(t)])
        run.update(None, 0.0)
    assert run.ready
    assert run.n_samples == 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((np.zeros(2), 1.0, np.zeros(4)), "x has shape"),
        ((np.zeros(3), 1.0, None), "regressors has shape"),
        ((np.zeros(3), -0.1, np.zeros(4)), "weight"),
        ((np.array([0.0, np.nan, 0.0]), 1.0, np.zeros(4)), "not finite"),
        ((np.zeros(3), 1.0, np.full(4, np.inf)), "not finite"),
    ],
)
def test_a_refused_volume_changes_nothing(arguments: tuple, told: str) -> None:
    run = fed(*scans(7))
    before = run.covariances().tobytes()
    with pytest.raises(ValueError, match=told):
        run.update(*arguments)
    assert run.covariances().tobytes() == before


def test_wrong_sizes_are_said() -> None:
    with pytest.raises(ValueError, match="n_rois and n_lags >= 1"):
        Autocorrelation(0, 3)
    with pytest.raises(ValueError, match="betas has shape"):
        Autocorrelation(2, 3, 4).covariances(np.zeros((3, 2)))


def test_lags_cover_twenty_seconds() -> None:
    assert [lags_for(tr_s) for tr_s in (0.8, 1.0, 2.0, 2.5, 30.0)] == [25, 20, 10, 8, 1]
