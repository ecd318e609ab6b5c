"""Host clock against scanner time: offset, rate, late arrivals, clock steps, wrong TR.

The host's time of each volume is fitted, during the run, to the scanner's; what the fit would not
have expected is told. Late arrivals and steps do not enter the fit, or the volumes after them
would be judged by them. Neither clock is read here.
"""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from statistics import median

__all__ = ["ClockFit"]

RESIDUAL_LIMIT_S = 0.020
TR_ERROR_LIMIT = 1e-3

SURE, N_SURE = 4.0, 20
"""Standard errors by which a TR must exceed the limit, and volumes for that; it is looked at after
every volume."""

N_START = 8
"""Volumes of the first fit; nothing is judged before."""

N_STEP = 3
"""So many outliers in a row that agree with each other are a step of the clock."""

N_LOST = 16
"""So many outliers in a row that do not agree: the fit is made anew from them."""

FAR = 6.0
"""An outlier is off by more than this many times the usual (mean absolute) residual, and by more
than `RESIDUAL_LIMIT_S`: where files come over a busy network, much is late and little is wrong."""

NOISE_SHARE = 0.05
"""Share of the newest residual in the usual one, a running mean."""

LEAST_USUAL_S = 1e-3
DAY_S = 86400.0

Point = tuple[float, float]


class ClockFit:
    """Line through host times over scanner times, at a cost that does not grow with the run.

    Scanner time is the scanner's own clock where the first `N_START` volumes tell it and it
    advances evenly (some vendors repeat or round it), else `index · TR`.

    Parameters
    ----------
    tr_s : float
        Repetition time as the scanner states it, seconds.

    Attributes
    ----------
    residual_s : float
        Last volume's host time less the expected one, seconds; NaN before the first fit.
    n_off : int
        Volumes off by more than `RESIDUAL_LIMIT_S` since the first fit.
    step_s : float
        Sum of all clock steps found, seconds.
    """

    def __init__(self, tr_s: float) -> None:
        self._tr_s = tr_s
        self.residual_s = math.nan
        self.n_off = 0
        self.step_s = 0.0
        self._start: list[tuple[int, float | None, float]] = []
        self._origin: tuple[int, float, float] = (0, 0.0, 0.0)
        self._last_acquired_s = 0.0
        self._scanner: _Line | None = None
        self._host: _Line | None = None
        self._outliers: list[Point] = []
        self._usual_s = 0.0
        self._tr_told = False

    @property
    def rate(self) -> float:
        """Host seconds per scanner second; NaN before the first fit."""
        return 1.0 + self._host.slope if self._host else math.nan

    @property
    def tr_error(self) -> float:
        """(true TR - stated TR) / stated TR, by the scanner's clock or else the host's."""
        line = self._scanner or self._host
        return line.slope if line else math.nan

    @property
    def n(self) -> int:
        """Volumes in the fit."""
        return self._host.n if self._host else 0

    def update(self, index: int, acquired_s: float | None, host_s: float) -> tuple[str, ...]:
        """Take one volume's times; returns what is wrong with them, one line each.

        Parameters
        ----------
        index : int
            Scanner's volume index.
        acquired_s : float or None
            Scanner clock at the start of the acquisition, seconds since its midnight, if told.
        host_s : float
            Host clock when the volume was there, Unix seconds.
        """
        if acquired_s is not None:
            # past midnight the scanner's clock starts again
            while acquired_s < self._last_acquired_s - DAY_S / 2:
                acquired_s += DAY_S
            self._last_acquired_s = acquired_s
        if self._host is None:
            self._start.append((index, acquired_s, host_s))
            return self._begin() if len(self._start) == N_START else ()
        if self._scanner is not None:
            if acquired_s is None:
                return ()
            self._scanner.include(self._scheduled_s(index), self._lag_s(index, acquired_s))
        point = self._point(index, acquired_s, host_s)
        self.residual_s = self._host.residual(*point)
        reasons = self._place(point, abs(self.residual_s))
        if abs(self.residual_s) > RESIDUAL_LIMIT_S:
            self.n_off += 1
            off = f"clock: volume {index} {1e3 * self.residual_s:+.0f} ms off the fitted line"
            reasons = (off, *reasons)
        return (*reasons, *self._check_tr())

    def _place(self, point: Point, off_s: float) -> tuple[str, ...]:
        """Put a point into the fit or among the outliers; returns what that reveals."""
        assert self._host is not None
        far = off_s > max(RESIDUAL_LIMIT_S, FAR * self._usual_s)
        self._usual_s += NOISE_SHARE * (min(off_s, FAR * self._usual_s) - self._usual_s)
        if far:
            self._outliers.append(point)
            return self._settle()
        self._host.include(*point)
        self._outliers.clear()
        return ()

    def _begin(self) -> tuple[str, ...]:
        """First fit, from the volumes so far; robust against a few that came late."""
        index, acquired_s, host_s = self._start[0]
        self._origin = (index, acquired_s or 0.0, host_s)
        told = [(i, acquired) for i, acquired, _ in self._start if acquired is not None]
        if len(told) == len(self._start):
            lags = [(self._scheduled_s(i), self._lag_s(i, acquired)) for i, acquired in told]
            line = _Line(lags)
            even = all(abs(line.residual(*lag)) <= RESIDUAL_LIMIT_S for lag in lags)
            if even and all(b[1] > a[1] for a, b in pairwise(told)):
                self._scanner = line
        points = [self._point(*start) for start in self._start]
        self._host = _Line(points)
        off_s = sorted(abs(self._host.residual(*point)) for point in points)
        # the upper quartile: two late ones of the first eight do no harm
        self._usual_s = max(off_s[N_START * 3 // 4 - 1], LEAST_USUAL_S)
        return self._check_tr()

    def _settle(self) -> tuple[str, ...]:
        """Outliers that agree with each other are a step; too many that do not, a new line."""
        assert self._host is not None
        off = [self._host.residual(t, y) for t, y in self._outliers[-N_STEP:]]
        if len(off) == N_STEP and max(off) - min(off) <= RESIDUAL_LIMIT_S:
            step_s = median(off)
            for t, y in self._outliers[-N_STEP:]:
                self._host.include(t, y - step_s)
            self.step_s += step_s
            self._outliers.clear()
            return (f"clock: host clock stepped by {step_s:+.3f} s against the scanner",)
        if len(self._outliers) == N_LOST:
            self._host = _Line(self._outliers)
            self._outliers = []
            return ("clock: arrivals do not follow the fitted line; fitted anew",)
        return ()

    def _check_tr(self) -> tuple[str, ...]:
        line = self._scanner or self._host
        assert line is not None
        if (
            self._tr_told
            or line.n < N_SURE
            or abs(line.slope) - SURE * line.slope_error <= TR_ERROR_LIMIT
        ):
            return ()
        self._tr_told = True
        true_s = self._tr_s * (1.0 + line.slope)
        return (f"clock: TR {true_s:.4f} s by the clock, {self._tr_s:g} s by the header",)

    def _scheduled_s(self, index: int) -> float:
        """Scanner time by index and TR, seconds since the first volume."""
        return (index - self._origin[0]) * self._tr_s

    def _lag_s(self, index: int, acquired_s: float) -> float:
        """Scanner's clock less its schedule, seconds."""
        return acquired_s - self._origin[1] - self._scheduled_s(index)

    def _point(self, index: int, acquired_s: float | None, host_s: float) -> Point:
        """Scanner time, and host time less scanner time, known steps taken out."""
        t = self._scheduled_s(index)
        if self._scanner is not None and acquired_s is not None:
            t += self._lag_s(index, acquired_s)
        return t, host_s - self._origin[2] - t - self.step_s


class _Line:
    """Least-squares line, point by point, around a robust one through the first points.

    The robust one (Theil-Sen: median of the slopes of all pairs) decides which of the first
    points enter; the least-squares sums are those of Welford.
    """

    def __init__(self, points: list[Point]) -> None:
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] != a[0]]
        # Points of one time have no slope: a clock that stands still, or one volume many times.
        self._slope = median(slopes) if slopes else 0.0
        self._level = median(y - self._slope * t for t, y in points)
        self.n = 0
        self._mean_t = self._mean_d = 0.0
        self._s_tt = self._s_td = self._s_dd = 0.0
        usual = median(abs(self._from_robust(t, y)) for t, y in points)
        for t, y in points:
            if abs(self._from_robust(t, y)) <= max(RESIDUAL_LIMIT_S, FAR * usual):
                self.include(t, y)

    @property
    def slope(self) -> float:
        return self._slope + self._trend

    @property
    def slope_error(self) -> float:
        """Standard error of the slope; infinite with fewer than three points."""
        if self.n < 3 or self._s_tt <= 0.0:
            return math.inf
        left = max(self._s_dd - self._trend * self._s_td, 0.0)
        return math.sqrt(left / (self.n - 2) / self._s_tt)

    def residual(self, t: float, y: float) -> float:
        """Distance of a point from the line."""
        return self._from_robust(t, y) - self._mean_d - self._trend * (t - self._mean_t)

    def include(self, t: float, y: float) -> None:
        d = self._from_robust(t, y)
        self.n += 1
        step_t, step_d = t - self._mean_t, d - self._mean_d
        self._mean_t += step_t / self.n
        self._mean_d += step_d / self.n
        self._s_tt += step_t * (t - self._mean_t)
        self._s_td += step_t * (d - self._mean_d)
        self._s_dd += step_d * (d - self._mean_d)

    @property
    def _trend(self) -> float:
        """What least squares adds to the robust slope."""
        return self._s_td / self._s_tt if self.n >= 3 and self._s_tt > 0.0 else 0.0

    def _from_robust(self, t: float, y: float) -> float:
        return y - self._level - self._slope * t
