"""Sliding-window FC against a two-pass oracle, at BOLD magnitude, and where it is undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtloop.connectivity import SlidingWindowFC, edge_index, edge_pairs, fisher_z
from tests.rtloop.window_oracle import window_correlation

Float64 = NDArray[np.float64]

CHOSEN = np.array([[4, 1], [0, 5], [2, 3]])


def bold(n_volumes: int, n_rois: int, seed: int = 0) -> Float64:
    """Correlated signals around 10,000 with SD 50 and slow drift."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_rois, n_rois))
    noise = rng.standard_normal((n_volumes, n_rois)) @ mixing
    drift = 200.0 * np.sin(np.arange(n_volumes) / 1000.0)[:, None]
    return np.asarray(10_000.0 + 50.0 * noise / noise.std() + drift)


def run(
    x: Float64,
    weights: Float64,
    window: int,
    edges: NDArray[np.int64] | None = None,
    regressors: Float64 | None = None,
) -> SlidingWindowFC:
    n_regressors = 0 if regressors is None else regressors.shape[1]
    fc = SlidingWindowFC(x.shape[1], window, edges, n_regressors)
    for t in range(len(x)):
        fc.update(x[t], weights[t], None if regressors is None else regressors[t])
    return fc


@settings(max_examples=60, deadline=None)
@given(
    n_volumes=st.integers(4, 60),
    window=st.integers(4, 25),
    n_regressors=st.integers(0, 4),
    chosen=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_two_passes_over_the_window(
    n_volumes: int, window: int, n_regressors: int, chosen: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = bold(n_volumes, 6, seed)
    regressors = 3.0 + rng.standard_normal((n_volumes, n_regressors))
    weights = np.where(rng.random(n_volumes) < 0.3, 0.0, rng.uniform(0.2, 1.0, n_volumes))
    betas = 20.0 * rng.standard_normal((n_regressors, 6))
    x += regressors @ betas
    x[weights == 0] = np.nan
    fc = run(x, weights, window, CHOSEN if chosen else None, regressors)
    last = slice(max(0, n_volumes - window), n_volumes)
    for used in (betas, None) if n_regressors else (None,):
        r = fc.correlation(used)
        if fc.effective_samples < 3:
            assert np.isnan(r).all()
            continue
        oracle = window_correlation(x[last], weights[last], fc.edges, regressors[last], used)
        np.testing.assert_allclose(r, oracle.astype(float), atol=1e-9)


@pytest.mark.parametrize("edges", [None, CHOSEN])
def test_after_100_000_updates_at_bold_magnitude(edges: NDArray[np.int64] | None) -> None:
    n_volumes, window = 100_000, 50
    x = bold(n_volumes, 6)
    x[50_000] += 1e6  # a spike nobody censored
    regressors = np.random.default_rng(1).standard_normal((n_volumes, 2)) + 100.0
    betas = np.full((2, 6), 30.0)
    x += regressors @ betas
    fc = SlidingWindowFC(6, window, edges, 2)
    worst = 0.0
    for t in range(n_volumes):
        fc.update(x[t], 1.0, regressors[t])
        if t % 9973 == 9972 or t == n_volumes - 1:
            last = slice(t + 1 - window, t + 1)
            args = x[last], np.ones(window), fc.edges, regressors[last]
            for used in (None, betas):
                error = fc.correlation(used) - window_correlation(*args, used)
                worst = max(worst, float(np.abs(error).max()))
    assert worst <= 1e-9


@pytest.mark.parametrize("edges", [None, CHOSEN])
def test_refresh_wipes_out_what_an_outlier_left(edges: NDArray[np.int64] | None) -> None:
    x = bold(400, 6)
    x[20] *= 1e9
    fc = run(x, np.ones(400), 10, edges)
    oracle = window_correlation(x[-10:], np.ones(10), fc.edges)
    np.testing.assert_allclose(fc.correlation(), oracle.astype(float), atol=1e-9)


def test_chosen_edges_equal_the_same_among_all() -> None:
    x, weights = bold(80, 6), np.random.default_rng(2).random(80)
    every, some = run(x, weights, 30), run(x, weights, 30, CHOSEN)
    places = edge_index(6, CHOSEN[:, 0], CHOSEN[:, 1])
    np.testing.assert_allclose(some.correlation(), every.correlation()[places], atol=1e-12)


@pytest.mark.parametrize("edges", [None, CHOSEN])
def test_same_updates_same_bits(edges: NDArray[np.int64] | None) -> None:
    x, weights = bold(300, 6), np.random.default_rng(3).random(300)
    first = run(x, weights, 40, edges)
    once = first.correlation()
    second = SlidingWindowFC(6, 40, edges)
    buffer = np.empty(len(second.edges))
    second.update(x[5])  # whatever was before a reset leaves no trace
    second.reset()
    for row, weight in zip(x, weights, strict=True):
        second.update(row.astype(np.float64).copy(), float(weight))
        assert second.correlation(out=buffer) is buffer  # nor does asking in between
    assert once.tobytes() == buffer.tobytes()
    assert first.correlation() is not once


def test_later_volumes_do_not_change_earlier_output() -> None:
    x = bold(120, 6)
    outputs = []
    for n in (60, 120):
        fc = SlidingWindowFC(6, 20)
        outputs.append([])
        for row in x[:n]:
            fc.update(row)
            outputs[-1].append(fc.correlation().tobytes())
    assert outputs[1][:60] == outputs[0]


@pytest.mark.parametrize("edges", [None, CHOSEN])
def test_a_censored_volume_takes_its_place_and_nothing_else(
    edges: NDArray[np.int64] | None,
) -> None:
    x = bold(50, 6)
    seen = []
    for stand_in in (None, np.full(6, np.nan), np.full(6, np.inf), x[7], np.zeros(3)):
        fc = SlidingWindowFC(6, 12, edges)
        for t, row in enumerate(x):
            fc.update(stand_in if t in (30, 41, 42, 49) else row, float(t not in (30, 41, 42, 49)))
        seen.append(fc.correlation().tobytes())
        assert fc.weights.tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0]
        assert fc.n_valid == fc.effective_samples == 9
    assert len(set(seen)) == 1


def test_window_is_scanner_time() -> None:
    """After a window's length of missing volumes nothing of what was before is left."""
    fc = run(bold(30, 6), np.ones(30), 10)
    for _ in range(10):
        fc.update(None, 0.0)
    assert fc.effective_samples == 0.0
    assert np.isnan(fc.correlation()).all()


@pytest.mark.parametrize("edges", [None, CHOSEN])
def test_a_constant_signal_has_no_correlation(edges: NDArray[np.int64] | None) -> None:
    """Also one that got stuck far from its anchor, while its sums still hold a spike's rounding."""
    n_rois, window = 60, 10
    x = bold(60, n_rois)
    x[:, 0] = 1234.5
    x[30:, 3] = 10_000.3
    x[29, 3] = 1e9
    fc = SlidingWindowFC(n_rois, window, edges)
    undefined = np.isin(fc.edges, (0, 3)).any(axis=1)
    for t, row in enumerate(x):
        fc.update(row)
        if t >= 30 + window - 1:
            assert np.isnan(fc.correlation()[undefined]).all()
            assert np.isfinite(fc.correlation()[~undefined]).all()


def test_a_signal_that_is_all_nuisance_has_no_correlation() -> None:
    rng = np.random.default_rng(4)
    regressors = rng.standard_normal((60, 2))
    betas = 50.0 * rng.standard_normal((2, 3))
    x = 10_000.0 + regressors @ betas
    x[:, 2] += 50.0 * rng.standard_normal(60)
    assert np.isnan(run(x, np.ones(60), 30, None, regressors).correlation(betas)).all()


def test_betas_not_known_yet_give_nan() -> None:
    x, regressors = bold(30, 3), np.random.default_rng(5).standard_normal((30, 2))
    fc = run(x, np.ones(30), 20, None, regressors)
    assert np.isnan(fc.correlation(np.full((2, 3), np.nan))).all()
    assert np.isfinite(fc.correlation()).all()


def test_too_few_samples_are_nan_never_zero() -> None:
    x = bold(10, 3)
    fc = SlidingWindowFC(3, 10)
    assert np.isnan(fc.correlation()).all()
    for t in range(2):
        fc.update(x[t])
        assert np.isnan(fc.correlation()).all()
    fc.update(x[2], 0.3)  # 3 volumes, but worth less than 3
    assert np.isnan(fc.correlation()).all()
    fc.update(x[3], 0.3)
    assert np.isfinite(fc.correlation()).all()


def test_three_equal_weights_are_three_samples() -> None:
    for weight in np.random.default_rng(6).random(200):
        fc = run(bold(3, 3), np.full(3, weight), 5)
        assert np.isfinite(fc.correlation()).all()


def test_regressor_products_are_the_window_s() -> None:
    rng = np.random.default_rng(7)
    regressors, weights = 5.0 + rng.standard_normal((40, 3)), rng.random(40)
    fc = run(bold(40, 4), weights, 25, None, regressors)
    last, w = regressors[-25:], weights[-25:]
    centred = last - w @ last / w.sum()
    expected = (w[:, None] * centred).T @ centred
    np.testing.assert_allclose(fc.regressor_products(), expected, atol=1e-10)
    assert not SlidingWindowFC(4, 5, None, 3).regressor_products().any()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"x": np.zeros(4)}, "x has shape"),
        ({"x": None}, "x has shape"),
        ({"x": [1.0, np.nan, 2.0]}, "not finite"),
        ({"x": [1.0, 2.0, 3.0], "weight": -1.0}, "weight"),
        ({"x": [1.0, 2.0, 3.0], "weight": np.nan}, "weight"),
        ({"x": [1.0, 2.0, 3.0], "regressors": None}, "regressors has shape"),
        ({"x": [1.0, 2.0, 3.0], "regressors": [np.inf, 0.0]}, "not finite"),
    ],
)
def test_a_refused_volume_leaves_the_window_as_it_was(
    arguments: dict[str, object], told: str
) -> None:
    x, regressors = bold(30, 3), np.random.default_rng(8).standard_normal((30, 2))
    fc = run(x, np.ones(30), 20, None, regressors)
    before = fc.correlation().tobytes()
    with pytest.raises(ValueError, match=told):
        fc.update(**{"regressors": [0.0, 0.0], **arguments})  # type: ignore[arg-type]
    assert fc.correlation().tobytes() == before


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SlidingWindowFC(1, 5), "n_rois >= 2"),
        (lambda: SlidingWindowFC(3, 0), "window >= 1"),
        (lambda: SlidingWindowFC(3, 5, [[0, 3]]), "0..2"),
        (lambda: SlidingWindowFC(3, 5, [[1, 1]]), "different"),
        (lambda: SlidingWindowFC(3, 5, [0, 1]), "edges has shape"),
        (lambda: SlidingWindowFC(3, 5).correlation(out=np.empty(2)), "out has shape"),
        (lambda: edge_index(4, 2, 4), "0..3"),
    ],
)
def test_wrong_arguments_are_said(make: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()  # type: ignore[operator]


@given(st.integers(2, 60))
def test_edge_order_is_the_upper_triangle_row_major(n_rois: int) -> None:
    pairs = edge_pairs(n_rois)
    assert np.array_equal(pairs, np.argwhere(np.triu(np.ones((n_rois, n_rois)), 1)))
    assert np.array_equal(edge_index(n_rois, pairs[:, 1], pairs[:, 0]), np.arange(len(pairs)))


def test_fisher_z_clips_only_at_one() -> None:
    assert fisher_z([0.5, -0.999, 0.0]).tolist() == np.arctanh([0.5, -0.999, 0.0]).tolist()
    assert 14.0 < fisher_z(1.0) == -fisher_z(-1.0) < 15.0
    assert np.isnan(fisher_z(np.nan))
