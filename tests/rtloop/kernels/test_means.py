"""ROI means and pattern correlation against NumPy, with voxels missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtloop.kernels.means import pattern_correlation, roi_means

NONE = np.zeros(0, dtype=np.float32)


def means(
    values: NDArray, groups: list[NDArray], baseline: NDArray = NONE, minimum: float = 0.0
) -> tuple[NDArray, NDArray]:
    starts = np.concatenate([[0], np.cumsum([len(group) for group in groups])]).astype(np.int64)
    members = np.concatenate(groups).astype(np.int64)
    out, coverage = np.full((2, len(groups)), -1.0)
    roi_means(values.astype(np.float32), starts, members, baseline, minimum, out, coverage)
    return out, coverage


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_equals_nanmean(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = (10_000 + 50 * rng.standard_normal(200)).astype(np.float32)
    values[rng.random(200) < share] = rng.choice([np.nan, np.inf, -np.inf])
    groups = [rng.integers(0, 200, size) for size in (1, 7, 90)]
    out, coverage = means(values, groups)
    for mean, covered, group in zip(out, coverage, groups, strict=True):
        good = values[group][np.isfinite(values[group])].astype(np.float64)
        assert covered == len(good) / len(group)
        if len(good):
            assert mean == pytest.approx(good.mean(), rel=1e-14)
        else:
            assert np.isnan(mean)


def test_lost_below_minimum_coverage() -> None:
    values = np.arange(20.0)
    values[:2] = np.nan
    groups = [np.arange(20), np.arange(10)]
    out, coverage = means(values, groups, minimum=0.9)
    assert coverage.tolist() == [0.9, 0.8]
    assert out[0] == np.arange(2, 20).mean()
    assert np.isnan(out[1])


def test_baseline_keeps_the_level_when_bright_voxels_go() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.uniform(5_000, 15_000, 100).astype(np.float32)
    values = baseline + np.float32(30.0)
    everything = [np.arange(100)]
    whole, _ = means(values, everything, baseline)
    values[np.argsort(baseline)[-8:]] = np.nan
    kept, coverage = means(values, everything, baseline)
    plain, _ = means(values, everything)
    assert coverage[0] == 0.92
    assert abs(kept[0] - whole[0]) < 0.01
    assert abs(plain[0] - whole[0]) > 100.0


def test_baseline_changes_nothing_while_all_voxels_are_there() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal(100).astype(np.float32)
    baseline = rng.standard_normal(100).astype(np.float32)
    everything = [np.arange(100)]
    assert means(values, everything, baseline)[0] == means(values, everything)[0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 300))
def test_pattern_correlation_equals_corrcoef_at_bold_magnitude(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a = (10_000 + 50 * rng.standard_normal(n)).astype(np.float32)
    b = (10_000 + 0.5 * (a - 10_000) + 30 * rng.standard_normal(n)).astype(np.float32)
    a[rng.random(n) < 0.1] = np.nan
    b[rng.random(n) < 0.1] = np.inf
    good = np.isfinite(a) & np.isfinite(b)
    r = pattern_correlation(a, b)
    if good.sum() < 3:
        assert np.isnan(r)
    else:
        expected = np.corrcoef(a[good].astype(float), b[good].astype(float))[0, 1]
        assert r == pytest.approx(expected, abs=1e-10)


def test_flat_pattern_has_no_correlation() -> None:
    assert np.isnan(pattern_correlation(np.ones(5, np.float32), np.arange(5, dtype=np.float32)))


def test_read_only_input_is_taken() -> None:
    values = np.frombuffer(np.arange(4, dtype=np.float32).tobytes(), dtype=np.float32)
    assert pattern_correlation(values, values) == pytest.approx(1.0)
