"""Window kernels against NumPy on the window's samples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtloop.connectivity import edge_pairs
from rtloop.kernels.covariance import (
    correlate_all,
    correlate_edges,
    enter,
    project,
    refresh_edges,
    refresh_row,
    scale_rois,
    slide_edges,
    slide_rows,
)

N_REGRESSORS, N_ROIS, WINDOW = 3, 7, 11
N = N_REGRESSORS + N_ROIS


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Sums:
    """What the kernels keep, filled by them with random samples and weights."""

    def __init__(self, rng: np.random.Generator, n_volumes: int, chosen: bool) -> None:
        self.ring = np.zeros((WINDOW, N))
        self.weights = np.zeros(WINDOW)
        self.sums = np.zeros(N)
        self.cross = np.zeros((N_REGRESSORS if chosen else N, N))
        self.edges = edge_pairs(N_ROIS)[::2].copy()
        self.squares = np.zeros(N_ROIS)
        self.pairs = np.zeros(len(self.edges))
        for count in range(n_volumes):
            sample, weight, slot = rng.standard_normal(N), float(rng.random()), count % WINDOW
            if chosen:
                slide_edges(
                    sample,
                    weight,
                    slot,
                    self.ring,
                    self.weights,
                    self.edges,
                    self.squares,
                    self.pairs,
                )
            slide_rows(sample, weight, slot, self.ring, self.weights, self.sums, self.cross)

    @property
    def products(self) -> NDArray[np.float64]:
        return np.asarray((self.weights[:, None] * self.ring).T @ self.ring)


@pytest.mark.parametrize("n_volumes", [1, WINDOW - 1, WINDOW, 3 * WINDOW + 2])
def test_slide_keeps_the_window_s_sums(rng: np.random.Generator, n_volumes: int) -> None:
    state = Sums(rng, n_volumes, chosen=False)
    np.testing.assert_allclose(state.sums, state.weights @ state.ring, atol=1e-13)
    np.testing.assert_allclose(state.cross, np.triu(state.products), atol=1e-13)


def test_slide_keeps_chosen_products(rng: np.random.Generator) -> None:
    state = Sums(rng, 40, chosen=True)
    rois = state.products[N_REGRESSORS:, N_REGRESSORS:]
    np.testing.assert_allclose(state.squares, np.diag(rois), atol=1e-13)
    np.testing.assert_allclose(state.pairs, rois[tuple(state.edges.T)], atol=1e-13)
    np.testing.assert_allclose(state.cross, np.triu(state.products)[:N_REGRESSORS], atol=1e-13)


def test_refresh_recomputes_from_the_window(rng: np.random.Generator) -> None:
    state = Sums(rng, 40, chosen=False)
    state.sums += 1.0
    state.cross += np.triu(np.ones_like(state.cross))
    for row in range(N):
        refresh_row(row, state.ring, state.weights, state.sums, state.cross)
    np.testing.assert_allclose(state.sums, state.weights @ state.ring, atol=1e-13)
    np.testing.assert_allclose(state.cross, np.triu(state.products), atol=1e-13)


def test_refresh_of_edges_takes_its_part_alone(rng: np.random.Generator) -> None:
    state = Sums(rng, 40, chosen=True)
    right, state.pairs[:], state.squares[:] = state.pairs.copy(), 7.0, 7.0
    refresh_edges(
        1,
        3,
        state.ring,
        state.weights,
        state.edges,
        state.sums,
        state.squares,
        state.pairs,
    )
    np.testing.assert_allclose(state.pairs[1::3], right[1::3], atol=1e-13)
    assert np.all(state.pairs[0::3] == 7.0)
    assert np.all(state.squares[[1, 4]] != 7.0)
    assert np.all(state.squares[[0, 2, 3, 5, 6]] == 7.0)


def test_projection_and_correlation_equal_residuals(rng: np.random.Generator) -> None:
    state = Sums(rng, 40, chosen=False)
    betas = rng.standard_normal((N_REGRESSORS, N_ROIS))
    residual = state.ring[:, N_REGRESSORS:] - state.ring[:, :N_REGRESSORS] @ betas
    total = state.weights.sum()
    centred = residual - state.weights @ residual / total
    covariance = (state.weights[:, None] * centred).T @ centred

    half = np.empty((N_REGRESSORS, N_ROIS))
    removed, magnitude, scale = np.empty((3, N_ROIS))
    project(betas, total, state.sums, state.cross, half, removed, magnitude)
    squares = np.diag(state.cross)[N_REGRESSORS:].copy()
    unchanged = np.zeros(N, np.int64)
    scale_rois(total, state.sums, squares, removed, magnitude, WINDOW, unchanged, scale)
    np.testing.assert_allclose(scale, 1.0 / np.sqrt(np.diag(covariance)), rtol=1e-12)

    r = np.empty(len(edge_pairs(N_ROIS)))
    correlate_all(total, state.sums, state.cross, betas, half, scale, r)
    expected = covariance * np.outer(scale, scale)
    np.testing.assert_allclose(r, expected[tuple(edge_pairs(N_ROIS).T)], atol=1e-12)

    pairs = state.products[N_REGRESSORS:, N_REGRESSORS:][tuple(state.edges.T)]
    few = np.empty(len(state.edges))
    correlate_edges(total, state.sums, pairs, state.edges, betas, half, scale, few)
    np.testing.assert_allclose(few, expected[tuple(state.edges.T)], atol=1e-12)


def test_rounding_is_no_variance_and_r_stays_within_one() -> None:
    scale = np.empty(2)
    zero = np.zeros(2)
    squares = np.array([1e8, 1e8])
    sums = np.array([np.sqrt(1e9), np.sqrt(1e9) - 1.0])
    scale_rois(10.0, sums, squares, zero, zero, 10, np.zeros(2, np.int64), scale)
    assert np.isnan(scale[0])
    assert np.isfinite(scale[1])
    out = np.empty(1)
    for sign in (1.0, -1.0):
        cross = np.array([[4.0, sign * 4.000001], [0.0, 4.0]])
        correlate_all(5.0, zero, cross, np.empty((0, 2)), np.empty((0, 2)), np.full(2, 0.5), out)
        assert out[0] == sign


def test_enter_refuses_what_is_not_finite_and_changes_nothing() -> None:
    anchor, sample, unchanged = np.zeros(2), np.zeros(2), np.zeros(2, np.int64)
    assert enter(np.array([5.0, 6.0]), True, anchor, sample, unchanged)
    for bad in (np.nan, np.inf, -np.inf):
        assert not enter(np.array([7.0, bad]), False, anchor, sample, unchanged)
    assert anchor.tolist() == [5.0, 6.0]
    assert sample.tolist() == [0.0, 0.0]
    assert enter(np.array([5.0, 7.0]), False, anchor, sample, unchanged)
    assert unchanged.tolist() == [1, 0]
