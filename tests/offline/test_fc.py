"""Edges of many people against two passes in extended precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.errors import CohortError
from offline.fc import fc_block, fc_edges
from rtloop.connectivity import SlidingWindowFC, edge_pairs, fisher_z

Float64 = NDArray[np.float64]

R_ERROR = 5e-7
"""Largest error of r, which is float32; that of z is 1 / (1 - r²) times as large."""

Z_ERROR = 1e-6
"""Of z for the moderate correlations of 379 ROIs x 400 volumes; measured 2e-7."""


def bold(n_volumes: int, n_rois: int, seed: int = 0) -> Float64:
    """Correlated signals around 10,000 with SD 50, as scanners give them."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_rois, n_rois)) + 0.7
    noise = rng.standard_normal((n_volumes, n_rois)) @ mixing
    return np.asarray(10_000.0 + 50.0 * noise / noise.std())


def oracle(x: Float64, weights: Float64 | None = None) -> Float64:
    x = x.astype(np.longdouble)
    w = np.ones(len(x), np.longdouble) if weights is None else weights.astype(np.longdouble)
    x, w = x[w > 0], w[w > 0]
    centred = x - w @ x / w.sum()
    covariance = (centred * w[:, None]).T @ centred
    sd = np.sqrt(np.diag(covariance))
    a, b = edge_pairs(x.shape[1]).T
    return np.arctanh((covariance[a, b] / (sd[a] * sd[b])).astype(np.float64))


@settings(max_examples=40, deadline=None)
@given(
    n_volumes=st.integers(25, 120),
    n_rois=st.integers(2, 12),
    weighted=st.booleans(),
    single=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_two_passes_in_extended_precision(
    n_volumes: int, n_rois: int, weighted: bool, single: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = bold(n_volumes, n_rois, seed)
    x = x.astype(np.float32) if single else x
    weights = np.where(rng.random(n_volumes) < 0.2, 0.0, rng.uniform(0.5, 1.0, n_volumes))
    expected = oracle(x, weights if weighted else None)
    found = fc_edges(x, weights if weighted else None, min_volumes=3)
    assert found.dtype == np.float32
    assert (np.abs(found - expected) <= R_ERROR * np.cosh(expected) ** 2).all()


def test_error_at_the_size_of_a_study() -> None:
    x = bold(400, 379)
    expected = oracle(x)
    assert np.abs(np.tanh(expected)).max() < 0.9
    assert np.abs(fc_edges(x) - expected).max() <= Z_ERROR


def test_is_the_online_side_s_correlation() -> None:
    x, weights = bold(80, 6), np.random.default_rng(1).uniform(0.3, 1.0, 80)
    online = SlidingWindowFC(6, 80)
    for row, weight in zip(x, weights, strict=True):
        online.update(row, weight)
    np.testing.assert_allclose(fc_edges(x, weights), fisher_z(online.correlation()), atol=Z_ERROR)


@pytest.mark.parametrize("stand_in", [np.nan, np.inf, 0.0, 1e300])
def test_a_censored_volume_is_not_looked_at(stand_in: float) -> None:
    x, weights = bold(60, 5), np.ones(60)
    weights[[0, 7, 59]] = 0.0
    expected = fc_edges(x[weights > 0])
    x[weights == 0] = stand_in
    np.testing.assert_allclose(fc_edges(x, weights), expected, atol=1e-7)


@pytest.mark.parametrize("value", [0.0, 10_000.3, -1e-300, np.float32(0.1)])
def test_a_constant_roi_is_nan_and_nothing_else_is(value: float) -> None:
    x = bold(50, 6)
    x[:, 2] = value
    expected = oracle(np.delete(x, 2, axis=1))
    for weights in (None, np.random.default_rng(0).uniform(0.5, 1, 50), np.full(50, 0.1)):
        z = fc_edges(x, weights, min_volumes=3)
        undefined = (edge_pairs(6) == 2).any(axis=1)
        assert np.array_equal(np.isnan(z), undefined)
        if weights is None:
            np.testing.assert_allclose(z[~undefined], expected, atol=Z_ERROR)


def test_an_roi_without_signal_in_one_volume_is_nan() -> None:
    for place, bad in ((3, np.nan), (0, np.inf), (0, np.nan)):
        x = bold(50, 4)
        x[place, 1] = bad
        assert np.array_equal(np.isnan(fc_edges(x)), (edge_pairs(4) == 1).any(axis=1))


def test_a_block_is_its_scans() -> None:
    scans = [bold(n, 7, n) for n in (40, 60, 25)]
    weights = [None, np.r_[np.zeros(20), np.ones(40)], None]
    z = fc_block(scans, weights)
    for k, (scan, weight) in enumerate(zip(scans, weights, strict=True)):
        assert z[k].tobytes() == fc_edges(scan, weight).tobytes()


def test_a_later_column_changes_no_earlier_edge() -> None:
    x = bold(100, 20)
    a, b = edge_pairs(20).T
    z = fc_edges(x)[(a < 15) & (b < 15)]
    np.testing.assert_allclose(fc_edges(x[:, :15]), z, atol=1e-6)


@pytest.mark.parametrize(
    ("series", "weights", "words"),
    [
        (np.zeros((30, 1)), None, r"\(n_volumes, 2\), found \(30, 1\)"),
        (np.zeros(30), None, r"found \(30,\)"),
        (bold(19, 3), None, "at least 20 effective volumes, found 19.0"),
        (bold(30, 3), np.r_[np.ones(10), np.full(20, 0.01)], "found 10.4"),
        (bold(30, 3), np.zeros(30), "found 0.0"),
        (bold(30, 3), np.ones(29), r"each of 30 volumes, found shape \(29,\)"),
        (bold(30, 3), -np.ones(30), "negative"),
        (bold(30, 3), np.full(30, np.nan), "not finite"),
    ],
)
def test_refusals(series: Float64, weights: Float64 | None, words: str) -> None:
    with pytest.raises(CohortError, match=words):
        fc_edges(series, weights)


def test_a_signal_given_twice_is_refused_by_name() -> None:
    x = bold(50, 4)
    x[:, 3] = 5.0 - 2.0 * x[:, 1]
    with pytest.raises(CohortError, match=r"\|r\| < 1, found -1\.0000000 between ROIs B and D"):
        fc_edges(x, labels="ABCD")
    with pytest.raises(CohortError, match="between ROIs 1 and 3"):
        fc_edges(x)


def test_scans_of_another_number_of_rois_and_none_at_all() -> None:
    with pytest.raises(CohortError, match=r"\(n_volumes, 4\), found \(50, 5\)"):
        fc_block([bold(50, 4), bold(50, 5)])
    with pytest.raises(CohortError, match="at least one scan"):
        fc_block([])
    with pytest.raises(CohortError, match="weights for 2 scans, found 1"):
        fc_block([bold(50, 4)] * 2, [None])
