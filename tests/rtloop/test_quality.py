"""Bad-volume rules, FD at fast TRs, and the confound watch on simulated runs with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtloop.config import QualityConfig
from rtloop.quality import (
    ConfoundWatch,
    FramewiseDisplacement,
    Verdict,
    VolumeQuality,
    framewise_displacement,
)

STILL = np.zeros(6)


def moved(mm: float) -> NDArray:
    return np.array([mm, 0, 0, 0, 0, 0.0])


def fd_course(parameters: NDArray, tr_s: float) -> NDArray:
    displacement = FramewiseDisplacement(tr_s)
    return np.array([displacement.update(n, row) for n, row in enumerate(parameters)])


def breathing(tr_s: float, amplitude_mm: float, hz: float, duration_s: float = 300.0) -> NDArray:
    """Simulated: apparent motion along and about two axes, 1.5 times the amplitude in all."""
    wave = amplitude_mm * np.sin(2 * np.pi * hz * np.arange(0, duration_s, tr_s))
    return np.outer(wave, [0, 1, 0.25, 0.25 / 50, 0, 0])


# --- FD --------------------------------------------------------------------------------------


def test_fd_is_powers() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 6))
    expected = np.abs(a - b)[:3].sum() + 50.0 * np.abs(a - b)[3:].sum()
    assert framewise_displacement(a, b) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("tr_s", [1.5, 2.0, 3.0])
def test_fd_of_slow_series_is_to_the_previous_volume(tr_s: float) -> None:
    parameters = np.random.default_rng(1).normal(0, [0.1] * 3 + [0.002] * 3, (30, 6))
    steps = [
        framewise_displacement(*pair) for pair in zip(parameters[1:], parameters, strict=False)
    ]
    course = fd_course(parameters, tr_s)
    assert np.isnan(course[0])
    np.testing.assert_array_equal(course[1:], steps)


@pytest.mark.parametrize(("tr_s", "n_back"), [(0.5, 8), (0.8, 5), (1.0, 4), (1.4, 3), (1.5, 1)])
def test_fast_series_look_back_four_seconds(tr_s: float, n_back: int) -> None:
    assert FramewiseDisplacement(tr_s).n_back == n_back


@pytest.mark.parametrize("tr_s", [0.5, 0.8, 1.0])
def test_fd_of_fast_series_against_the_obvious(tr_s: float) -> None:
    parameters = np.random.default_rng(2).normal(0, 0.1, (40, 6))
    n_back = FramewiseDisplacement(tr_s).n_back
    expected = [
        framewise_displacement(parameters[n], np.median(parameters[max(0, n - n_back) : n], axis=0))
        for n in range(1, 40)
    ]
    np.testing.assert_allclose(fd_course(parameters, tr_s)[1:], expected, rtol=1e-12)


@pytest.mark.parametrize("tr_s", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("hz", [0.22, 0.3])
def test_breathing_is_not_censored_at_fast_tr(tr_s: float, hz: float) -> None:
    # .3 mm of apparent motion: a difference over two seconds would exceed .5 mm
    parameters = breathing(tr_s, 0.2, hz)
    lag = round(2.0 / tr_s)
    over_two_seconds = np.abs(parameters[lag:] - parameters[:-lag]) @ [1, 1, 1, 50, 50, 50]
    assert (over_two_seconds > 0.5).mean() > 0.15
    assert np.nanmax(fd_course(parameters, tr_s)) < 0.5


@pytest.mark.parametrize("tr_s", [0.5, 0.8, 1.0, 2.0])
def test_step_is_seen_at_once_and_held_two_seconds(tr_s: float) -> None:
    parameters = np.zeros((40, 6))
    parameters[20:, 2] = 0.8
    bad = np.flatnonzero(fd_course(parameters, tr_s) > 0.5)
    assert bad[0] == 20
    assert len(bad) * tr_s == pytest.approx(2.0, abs=tr_s)
    assert (np.diff(bad) == 1).all()


@pytest.mark.parametrize("tr_s", [0.5, 0.8, 1.0])
def test_spike_is_one_volume_at_fast_tr(tr_s: float) -> None:
    parameters = np.zeros((40, 6))
    parameters[20, 2] = 3.0
    assert np.flatnonzero(fd_course(parameters, tr_s) > 0.5).tolist() == [20]


@pytest.mark.parametrize("tr_s", [0.8, 2.0])
def test_fd_after_a_gap_is_to_the_last_known_position(tr_s: float) -> None:
    displacement = FramewiseDisplacement(tr_s)
    displacement.update(0, STILL)
    displacement.update(1, moved(0.1))
    assert np.isnan(displacement.update(2, STILL * np.nan))
    assert displacement.update(60, moved(0.4)) == pytest.approx(0.3)


# --- verdicts --------------------------------------------------------------------------------

SIGNALS = 10_000.0 + 500.0 * np.random.default_rng(0).standard_normal(20)


def judge_second(**changes: object) -> Verdict:
    quality = VolumeQuality(20, 2.0, QualityConfig())
    assert quality.judge(0, STILL, SIGNALS).reasons == ()
    arguments = {"index": 1, "parameters": STILL, "signals": SIGNALS} | changes
    return quality.judge(**arguments)


def test_good_volume() -> None:
    verdict = judge_second()
    assert verdict.weight == 1.0
    assert verdict.reasons == ()
    assert verdict.fd_mm == 0.0
    assert verdict.template_correlation == pytest.approx(1.0)


LOST = SIGNALS.copy()
LOST[3] = np.nan


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parameters": moved(0.51)}, "motion: FD 0.51 mm above 0.5 mm"),
        ({"parameters": STILL * np.nan}, "motion estimate failed: not finite"),
        ({"failure": "did not converge"}, "motion estimate failed: did not converge"),
        ({"signals": LOST}, "ROI lost: 1 of 20 have no mean"),
        ({"tissue": np.array([1.0, np.nan])}, "tissue signal not finite"),
        ({"signals": SIGNALS[::-1].copy()}, "unlike the template: r"),
        ({"template_correlation": 0.69}, "unlike the template: r 0.69 below 0.7"),
    ],
)
def test_each_reason_alone_takes_the_weight(changes: dict, reason: str) -> None:
    verdict = judge_second(**changes)
    assert verdict.weight == 0.0
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith(reason)


def test_limits_are_those_of_the_rules() -> None:
    rules = QualityConfig(fd_threshold_mm=1.0, template_correlation_min=0.2)
    quality = VolumeQuality(20, 2.0, rules)
    quality.judge(0, STILL, SIGNALS)
    assert quality.judge(1, moved(0.9), SIGNALS, template_correlation=0.3).weight == 1.0
    assert len(quality.judge(2, moved(2.0), SIGNALS, template_correlation=0.1).reasons) == 2


def test_all_reasons_are_told() -> None:
    verdict = judge_second(parameters=moved(1.0), signals=LOST, template_correlation=0.1)
    assert len(verdict.reasons) == 3


def test_distrusted_position_is_not_compared_with() -> None:
    quality = VolumeQuality(2, 2.0)
    quality.judge(0, STILL, np.ones(2))
    quality.judge(1, moved(40.0), np.ones(2), failure="implausible jump")
    assert quality.judge(2, moved(0.1), np.ones(2)).weight == 1.0


def test_template_is_the_first_good_volume_or_the_one_given() -> None:
    quality = VolumeQuality(20, 2.0)
    assert quality.judge(0, STILL, LOST).weight == 0.0
    assert quality.judge(1, STILL, SIGNALS).weight == 1.0
    assert quality.judge(2, STILL, SIGNALS).template_correlation == pytest.approx(1.0)
    given = VolumeQuality(20, 2.0, template=SIGNALS[::-1].copy())
    assert given.judge(0, STILL, SIGNALS).weight == 0.0


def test_two_rois_are_no_pattern() -> None:
    quality = VolumeQuality(2, 2.0)
    quality.judge(0, STILL, np.array([1.0, 2.0]))
    verdict = quality.judge(1, STILL, np.array([2.0, 1.0]))
    assert np.isnan(verdict.template_correlation)
    assert verdict.weight == 1.0


# --- confound watch --------------------------------------------------------------------------


def band_limited(rng: np.random.Generator, n: int, top_hz: float = 0.1) -> NDArray:
    hz = np.fft.rfftfreq(n, 2.0)
    spectrum = rng.standard_normal(len(hz)) + 1j * rng.standard_normal(len(hz))
    x = np.fft.irfft(spectrum * ((hz > 0.005) & (hz < top_hz)), n)
    return x / x.std()


def sliding_z(rng: np.random.Generator, n: int, window: int) -> NDArray:
    """Score of two unrelated signals: Fisher z in a sliding window."""
    a, b = band_limited(rng, n), band_limited(rng, n)
    score = np.full(n, np.nan)
    for end in range(window, n + 1):
        piece = slice(end - window, end)
        score[end - 1] = np.arctanh(np.corrcoef(a[piece], b[piece])[0, 1])
    return score


def watch_run(score: NDArray, *confounds: NDArray, window: int = 20) -> ConfoundWatch:
    watch = ConfoundWatch(0.3, window)
    for row in zip(score, *confounds, strict=True):
        watch.update(*map(float, row))
    return watch


def test_correlation_is_with_the_windows_mean_of_the_confound() -> None:
    rng = np.random.default_rng(0)
    score, fd, gs = sliding_z(rng, 150, 20), rng.gamma(2, 0.1, 150), band_limited(rng, 150)
    fd[[30, 60]] = np.nan
    watch = watch_run(score, fd, gs)
    windows = np.lib.stride_tricks.sliding_window_view
    for name, confound in (("fd", fd), ("global_signal", gs)):
        means = np.nanmean(windows(confound, 20), axis=1)
        expected = np.corrcoef(score[19:], means)[0, 1]
        assert watch.correlations[name] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(watch.correlations["respiration"])


def test_effective_samples_against_the_formula() -> None:
    rng = np.random.default_rng(1)
    x, y = band_limited(rng, 400, 0.03), band_limited(rng, 400, 0.03)
    watch = ConfoundWatch(0.3, 6, ("fd",))
    for pair in zip(x, y, strict=True):
        watch.update(*map(float, pair))
    smooth = np.convolve(y, np.ones(6) / 6, "valid")
    # a window half known is enough: the first three are averaged over what is there
    y_mean = np.concatenate([[np.mean(y[: n + 1]) for n in range(2, 5)], smooth])
    u, v = x[2:] - x[2:].mean(), y_mean - y_mean.mean()
    inflation = 1.0
    for lag in range(1, 13):
        rho = [float(s[lag:] @ s[:-lag] / (s @ s)) for s in (u, v)]
        if rho[0] * rho[1] <= 0:
            break
        inflation += 2 * rho[0] * rho[1]
    assert watch.n_effective["fd"] == pytest.approx(len(u) / inflation, rel=1e-9)
    assert watch.n_effective["fd"] < 0.5 * len(u)


def test_overlapping_windows_count_no_more_than_their_number() -> None:
    watch = watch_run(*np.random.default_rng(2).standard_normal((2, 200)), window=20)
    assert watch.n_effective["fd"] <= 1.5 * 200 / 20 + 1.5


def test_false_alarms_are_rare_over_whole_runs() -> None:
    # simulated: 60 runs without any relation, looked at after every fifth volume
    rng = np.random.default_rng(3)
    alarmed, above = 0, 0
    for _ in range(60):
        watch, ever = ConfoundWatch(0.3, 20), False
        score, fd, gs = sliding_z(rng, 300, 20), rng.gamma(2, 0.1, 300), band_limited(rng, 300)
        for n, row in enumerate(zip(score, fd, gs, strict=True)):
            watch.update(*map(float, row))
            ever = ever or (n % 5 == 0 and bool(watch.alarms))
        alarmed += ever
        above += any(abs(r) > 0.3 for r in watch.correlations.values())
    assert above >= 6
    assert alarmed <= 6


def test_score_that_follows_motion_raises_the_alarm() -> None:
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(20):
        fd = rng.gamma(2, 0.1, 400) * np.exp(band_limited(rng, 400, 0.02))
        mean = np.convolve(fd, np.ones(20) / 20)[:400]
        z = sliding_z(rng, 400, 20)
        score = z / np.nanstd(z) + 1.5 * (mean - mean.mean()) / mean.std()
        found += watch_run(score, fd).alarms == ("fd",)
    assert found >= 17


def test_block_scores_count_one_by_one() -> None:
    rng = np.random.default_rng(5)
    watch = ConfoundWatch(0.3, 7, ("fd",))
    for n in range(16 * 14):
        score = float(rng.standard_normal()) if n % 14 == 13 else np.nan
        watch.update(score, float(rng.standard_normal()))
    assert watch.n_effective["fd"] <= 16
    assert watch.n_effective["fd"] > 10


def test_no_alarm_from_few_samples_and_none_from_constants() -> None:
    watch = ConfoundWatch(0.3, 1)
    for value in (1.0, 2.0, 1.5, 3.0, 0.5):
        watch.update(value, value, 5.0)
    assert watch.correlations["fd"] == pytest.approx(1.0)
    assert np.isnan(watch.correlations["global_signal"])
    assert watch.n_effective["global_signal"] == 0.0
    assert watch.alarms == ()
    for value in range(4, 20):
        watch.update(float(value**2 % 11), float(value**2 % 11), 5.0)
    assert watch.alarms == ("fd",)


def test_levels_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    score, gs = rng.standard_normal((2, 300))
    low, high = watch_run(score, gs), watch_run(score, gs + 1e6)
    assert low.correlations["fd"] == pytest.approx(high.correlations["fd"], abs=1e-8)
    assert low.n_effective["fd"] == pytest.approx(high.n_effective["fd"], rel=1e-6)


@pytest.mark.parametrize(
    ("fd_mm", "weight"), [(0.1, 1.0), (0.25, 1.0), (0.3, 0.8), (0.45, 0.2), (0.51, 0.0)]
)
def test_motion_takes_weight_before_it_censors(fd_mm: float, weight: float) -> None:
    rules = QualityConfig(fd_weight_from_mm=0.25)
    quality = VolumeQuality(12, 2.0, rules)
    still = np.zeros(6)
    signals = np.arange(12.0) + 100
    quality.judge(0, still, signals)
    moved = still.copy()
    moved[0] = fd_mm
    assert quality.judge(1, moved, signals).weight == pytest.approx(weight)
