"""The clock's fit on simulated arrivals with known offset, rate, jitter, steps and lateness."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtloop.clock import N_START, ClockFit

UNIX_S = 1_760_000_000.0


def arrivals(n: int, tr_s: float, jitter_s: float = 0.003, seed: int = 0) -> NDArray:
    rng = np.random.default_rng(seed)
    return UNIX_S + 0.35 + np.arange(n) * tr_s + jitter_s * rng.standard_normal(n)


def feed(fit: ClockFit, host_s: NDArray, acquired_s: NDArray | None = None) -> list[str]:
    told = [None] * len(host_s) if acquired_s is None else acquired_s.tolist()
    return [
        reason
        for n, (acquired, host) in enumerate(zip(told, host_s, strict=True))
        for reason in fit.update(n, acquired, float(host))
    ]


def test_steady_clock_is_silent_and_its_line_is_least_squares() -> None:
    host = arrivals(300, 2.0)
    fit = ClockFit(2.0)
    assert feed(fit, host) == []
    t = np.arange(300) * 2.0
    slope, level = np.polyfit(t, host - host[0] - t, 1)
    assert fit.rate - 1 == pytest.approx(slope, abs=1e-12)
    assert fit.tr_error == pytest.approx(slope, abs=1e-12)
    assert fit.n == 300
    # the last residual was taken before its volume entered the fit
    slope, level = np.polyfit(t[:-1], (host - host[0] - t)[:-1], 1)
    expected = (host - host[0] - t)[-1] - level - slope * t[-1]
    assert fit.residual_s == pytest.approx(expected, abs=1e-9)


def test_unknown_before_the_first_fit() -> None:
    fit = ClockFit(1.0)
    assert feed(fit, arrivals(N_START - 1, 1.0)) == []
    assert np.isnan([fit.rate, fit.tr_error, fit.residual_s]).all()


def test_late_volume_is_told_and_kept_out() -> None:
    host = arrivals(100, 2.0)
    host[60] += 0.4
    fit = ClockFit(2.0)
    reasons = feed(fit, host)
    assert len(reasons) == 1
    assert reasons[0].startswith("clock: volume 60 +")
    assert fit.n_off == 1
    assert fit.n == 99
    assert abs(fit.rate - 1) < 5e-5


def test_twenty_milliseconds_is_the_limit() -> None:
    host = arrivals(50, 2.0, jitter_s=0.0)
    host[30] += 0.019
    assert feed(ClockFit(2.0), host) == []
    host[30] += 0.003
    assert len(feed(ClockFit(2.0), host)) == 1


@pytest.mark.parametrize("step_s", [0.5, -0.05, 3600.0])
def test_clock_step_is_found_and_the_fit_goes_on(step_s: float) -> None:
    host = arrivals(200, 2.0)
    host[120:] += step_s
    fit = ClockFit(2.0)
    reasons = feed(fit, host)
    assert fit.step_s == pytest.approx(step_s, abs=0.01)
    assert [reason for reason in reasons if "stepped by" in reason] == [reasons[-1]]
    # the three volumes that revealed it, and none after
    assert fit.n_off == 3
    assert fit.n == 200
    assert abs(fit.rate - 1) < 5e-5


@pytest.mark.parametrize("late", [[0], [3, 5], [0, 1]])
def test_late_first_volumes_do_not_spoil_the_fit(late: list[int]) -> None:
    host = arrivals(60, 1.0)
    host[late] += 0.7
    fit = ClockFit(1.0)
    assert feed(fit, host) == []
    assert fit.n == 60 - len(late)


@pytest.mark.parametrize(
    ("true_tr_s", "stated_tr_s", "wrong"),
    [(2.0, 1.7935, True), (2.004, 2.0, True), (2.0005, 2.0, False), (1.0, 2.0, True)],
)
def test_wrong_tr_is_told_once(true_tr_s: float, stated_tr_s: float, wrong: bool) -> None:
    fit = ClockFit(stated_tr_s)
    reasons = feed(fit, arrivals(150, true_tr_s))
    assert len(reasons) == wrong
    assert fit.tr_error == pytest.approx(true_tr_s / stated_tr_s - 1, abs=1e-5)
    if wrong:
        assert reasons[0].startswith("clock: TR ")


def test_jitter_alone_is_no_wrong_tr() -> None:
    for seed in range(50):
        reasons = feed(ClockFit(0.8), arrivals(60, 0.8, 0.006, seed))
        assert not any("TR" in reason for reason in reasons)


def test_busy_network_is_neither_wrong_tr_nor_step() -> None:
    # 30 ms of jitter: many volumes are off, which is told, and nothing more is concluded
    for seed in range(20):
        fit = ClockFit(1.0)
        reasons = feed(fit, arrivals(300, 1.0, 0.030, seed))
        assert all("off the fitted line" in reason for reason in reasons)
        assert fit.n_off > 100
        assert fit.step_s == 0.0


def test_scanners_own_clock_leads_where_it_is_told() -> None:
    # the scanner paused for .3 s: its own clock shows it, so nothing is wrong with the host
    acquired = 36_000.0 + np.arange(100) * 2.0
    acquired[50:] += 0.3
    host = UNIX_S + acquired + 0.002 * np.random.default_rng(0).standard_normal(100)
    fit = ClockFit(2.0)
    assert not [reason for reason in feed(fit, host, acquired) if "TR" not in reason]
    assert fit.n == 100
    assert fit.n_off == 0


def test_wrong_tr_by_the_scanners_own_clock() -> None:
    acquired = 36_000.0 + np.arange(40) * 2.01
    fit = ClockFit(2.0)
    reasons = feed(fit, UNIX_S + acquired, acquired)
    assert len(reasons) == 1
    assert fit.tr_error == pytest.approx(0.005, abs=1e-9)
    assert fit.rate == pytest.approx(1.0, abs=1e-9)


def test_midnight() -> None:
    acquired = (86_400.0 - 30.0 + np.arange(60) * 2.0) % 86_400.0
    fit = ClockFit(2.0)
    assert feed(fit, arrivals(60, 2.0), acquired) == []
    assert fit.n_off == 0


@pytest.mark.parametrize("kind", ["constant", "whole seconds"])
def test_scanner_clock_that_does_not_advance_evenly_is_not_used(kind: str) -> None:
    acquired = np.full(60, 36_000.0) if kind == "constant" else 36_000.0 + np.arange(60) * 1.5 // 1
    fit = ClockFit(1.5)
    assert feed(fit, arrivals(60, 1.5), acquired) == []
    assert fit.n == 60


def test_missing_volumes_leave_no_trace() -> None:
    host = arrivals(100, 2.0)
    fit = ClockFit(2.0)
    present = [n for n in range(100) if n % 7 and not 40 < n < 60]
    reasons = [reason for n in present for reason in fit.update(n, None, float(host[n]))]
    assert reasons == []
    assert fit.n == len(present)


def test_arrivals_that_leave_the_line_for_good_get_a_new_one() -> None:
    host = arrivals(150, 2.0)
    # the host clock is slewed by 5 %
    host[60:] += 0.1 * np.arange(90)
    fit = ClockFit(2.0)
    reasons = feed(fit, host)
    assert sum("fitted anew" in reason for reason in reasons) == 1
    assert fit.rate == pytest.approx(1.05, abs=1e-3)
    assert abs(fit.residual_s) < 0.02
