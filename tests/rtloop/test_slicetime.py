"""Slice-time alignment against signals whose value between samples is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtloop.errors import ConfigError
from rtloop.slicetime import MAX_ERROR, SliceAligner, largest_offset_s


class BandLimited:
    """Simulated signals with flat power in .01-.1 Hz, known at every moment."""

    def __init__(self, n_signals: int, seed: int = 0, top_hz: float = 0.1) -> None:
        rng = np.random.default_rng(seed)
        self.hz = rng.uniform(0.01, top_hz, (400, 1))
        self.phase = rng.uniform(0, 2 * np.pi, (400, n_signals))

    def at(self, times_s: NDArray, offsets_s: NDArray | float = 0.0) -> NDArray:
        """Signal k at `times_s + offsets_s[k]`, SD 1, shape (n_times, n_signals)."""
        offsets = np.broadcast_to(offsets_s, self.phase.shape[1:])
        angle = 2 * np.pi * self.hz * (times_s[:, None, None] + offsets[:, None].T)
        return np.sin(angle + self.phase).sum(axis=1) * np.sqrt(2 / 400)


def align(x: NDArray, offsets_s: NDArray, tr_s: float, bad: tuple[int, ...] = ()) -> NDArray:
    aligner = SliceAligner(offsets_s, tr_s)
    return np.array([aligner.update(row, n not in bad)[0].copy() for n, row in enumerate(x)])


def sampled(offsets_s: NDArray, tr_s: float, n: int = 400) -> tuple[NDArray, NDArray]:
    """Signals as the scanner samples them, and their values at the earliest ROI's time."""
    signals, times = BandLimited(len(offsets_s)), np.arange(n) * tr_s
    return signals.at(times, offsets_s), signals.at(times, offsets_s.min())


@pytest.mark.parametrize(
    ("tr_s", "limit"), [(0.8, 0.02), (1.0, 0.02), (2.0, 0.02), (2.5, 0.04), (3.0, 0.07)]
)
def test_error_against_the_true_value(tr_s: float, limit: float) -> None:
    offsets = np.linspace(0.1, 0.97, 12) * tr_s
    x, truth = sampled(offsets, tr_s)
    error = np.sqrt(((align(x, offsets, tr_s) - truth)[4:] ** 2).mean(axis=0))
    unaligned = np.sqrt(((x - truth) ** 2).mean(axis=0))
    assert error.max() < limit
    assert error.max() < 0.2 * unaligned.max()


@pytest.mark.parametrize(("offset_s", "scaled"), [(1.0, 0.93), (1.9, 0.75)])
def test_correlation_is_restored(offset_s: float, scaled: float) -> None:
    # one signal seen by two ROIs at different moments of the volume
    one = BandLimited(1, seed=3)
    times = np.arange(4000) * 2.0
    x = np.hstack([one.at(times, 0.0), one.at(times, offset_s)])
    assert np.corrcoef(x.T)[0, 1] == pytest.approx(scaled, abs=0.02)
    aligned = align(x, np.array([0.0, offset_s]), 2.0)[4:]
    assert np.corrcoef(aligned.T)[0, 1] > 0.9995


def test_level_passes_unchanged() -> None:
    aligned = align(np.full((10, 3), 10_000.0), np.array([0.0, 0.7, 1.9]), 2.0, bad=(5,))
    np.testing.assert_allclose(aligned[3:5], 10_000.0, rtol=1e-12)
    np.testing.assert_allclose(aligned[6:], 10_000.0, rtol=1e-12)


def test_earliest_roi_is_untouched() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 2))
    assert (align(x, np.array([0.3, 1.1]), 2.0)[:, 0] == x[:, 0]).all()


def test_white_noise_is_not_amplified() -> None:
    offsets = np.linspace(0, 1.95, 20)
    noise = np.random.default_rng(0).standard_normal((20_000, 20))
    assert (align(noise, offsets, 2.0)[4:].std(axis=0) < 1.03).all()


def test_causal() -> None:
    rng = np.random.default_rng(1)
    offsets = np.array([0.0, 1.2])
    x = rng.standard_normal((30, 2))
    other = x.copy()
    other[20:] = 99.0
    assert align(x, offsets, 2.0)[:20].tobytes() == align(other, offsets, 2.0)[:20].tobytes()


@pytest.mark.parametrize(("tr_s", "lost"), [(1.0, [20]), (2.0, [20]), (3.0, [20, 21])])
def test_what_a_missing_volume_costs(tr_s: float, lost: list[int]) -> None:
    offsets = np.array([0.0, 0.6]) * tr_s
    x, truth = sampled(offsets, tr_s, 60)
    x[20] = 1e9
    aligned = align(x, offsets, tr_s, bad=(20,))
    assert np.flatnonzero(np.isnan(aligned[4:]).any(axis=1)).tolist() == [n - 4 for n in lost]
    good = ~np.isnan(aligned[4:]).any(axis=1)
    assert np.abs(aligned[4:] - truth[4:])[good].max() < 0.5


def test_error_beside_a_missing_volume_stays_in_bounds() -> None:
    offsets = np.array([0.0, 1.0])
    signals, errors = BandLimited(2, seed=9), []
    for start in range(400):
        times = 37.0 * start + 2.0 * np.arange(6)
        aligned = align(signals.at(times, offsets), offsets, 2.0, bad=(4,))
        errors.append(aligned[5, 1] - signals.at(times, 0.0)[5, 1])
    assert 0.05 < np.std(errors) < MAX_ERROR


def test_validity() -> None:
    aligner = SliceAligner([0.0, 1.0], 2.0)
    x = np.ones(2)
    told = [aligner.update(x)[1], aligner.update(x)[1], aligner.update(x, False)[1]]
    # the first volume has nothing before it
    assert told == [False, True, False]
    aligned, valid = aligner.update(np.array([1.0, np.nan]))
    assert not valid
    assert aligned[0] == 1.0
    assert np.isnan(aligned[1])


def test_equal_offsets_change_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    assert align(x, np.full(3, 0.8), 2.0).tobytes() == x.tobytes()


def test_long_tr_still_gains() -> None:
    offsets = np.array([0.0, 2.5])
    x, truth = sampled(offsets, 5.0)
    error, before = ((align(x, offsets, 5.0) - truth)[4:, 1].std(), (x - truth)[:, 1].std())
    assert error < 0.5 * before
    assert error == pytest.approx(SliceAligner(offsets, 5.0).errors[1], rel=0.3)


@pytest.mark.parametrize("offsets", [[0.0, 2.0], [0.0, np.nan]])
def test_impossible_offsets(offsets: list[float]) -> None:
    with pytest.raises(ConfigError, match="less than the TR of 2 s"):
        SliceAligner(offsets, 2.0)


def test_largest_offset() -> None:
    offsets = np.array([0.0, 0.4, 1.5])
    assert largest_offset_s(offsets, [(0, 1), (2, 1)]) == pytest.approx(1.1)
    assert largest_offset_s(offsets, []) == 0.0
