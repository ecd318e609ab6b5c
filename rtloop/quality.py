"""Which volumes to trust, and whether the score follows something it should not.

`VolumeQuality` judges one volume at a time and says why it is not used. `ConfoundWatch` follows
the correlation of the score with motion, global signal and respiration. Pure and causal: no clock,
no threads, the same input gives the same bits. The host clock's fit is in `rtloop.clock`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from rtloop.config import QualityConfig
from rtloop.kernels.means import pattern_correlation

__all__ = [
    "HEAD_RADIUS_MM",
    "ConfoundWatch",
    "FramewiseDisplacement",
    "Verdict",
    "VolumeQuality",
    "framewise_displacement",
]

HEAD_RADIUS_MM = 50.0
"""Turns a rotation into the way a point on the cortex goes (Power et al. 2012)."""

FAST_SHARE = 0.75
"""A TR below this share of the FD window counts as fast: with the window of 2 s, below 1.5 s."""

MIN_PATTERN = 10
"""Fewer ROIs than this make no pattern to correlate with a template."""

MIN_EFFECTIVE = 6.0
"""No alarm from fewer effective samples."""

ALARM_Z = 2.576
"""An alarm needs the correlation to differ from 0 by so many standard errors (1 %, two-sided):
it is looked at after every volume, and three confounds are watched."""

Float64 = NDArray[np.float64]


def framewise_displacement(parameters: Float64, previous: Float64) -> float:
    """Power's FD between two head positions, mm: sum |Δmm| + 50 mm · sum |Δrad|.

    Power et al. 2012, doi:10.1016/j.neuroimage.2011.10.018.

    Parameters
    ----------
    parameters, previous : ndarray, shape (6,)
        Three translations (mm), three rotations (rad).

    Examples
    --------
    >>> framewise_displacement(np.array([0.1, 0, 0, 0, 0, 0.002]), np.zeros(6))
    0.2
    """
    total = 0.0
    for k in range(6):
        step = abs(float(parameters[k]) - float(previous[k]))
        total += step if k < 3 else HEAD_RADIUS_MM * step
    return total


class FramewiseDisplacement:
    """FD over about two seconds, whatever the TR.

    From 1.5 s up this is Power's FD, to the last volume whose motion is known. Faster series
    resolve breathing, which moves the image without moving the head: there each volume is
    compared with the *median* position of the four seconds before it, whose centre lies two
    seconds back. A difference over two seconds would be worse than none (breathing reverses
    within two seconds and counts double), a mean would carry a spike on; the median halves
    breathing, sees a step or a spike in the volume where it happens, holds a step for two
    seconds (as long as one volume at TR 2 s would) and forgets a spike at once.

    Parameters
    ----------
    tr_s : float
        Repetition time, seconds.
    window_s : float
        How far back positions are compared, seconds.
    """

    def __init__(self, tr_s: float, window_s: float = 2.0) -> None:
        fast = tr_s < FAST_SHARE * window_s
        self.n_back: int = max(1, round(2.0 * window_s / tr_s)) if fast else 1
        """Volumes that a position is compared with."""
        self._past: deque[tuple[int, list[float]]] = deque(maxlen=self.n_back)

    def update(self, index: int, parameters: Float64) -> float:
        """FD of volume `index`, mm; NaN for the first and where parameters are not finite."""
        position = [float(value) for value in parameters]
        if not all(math.isfinite(value) for value in position):
            return math.nan
        recent = [past for at, past in self._past if index - at <= self.n_back]
        if not recent and self._past:
            # after a gap: the last position known, however old
            recent = [self._past[-1][1]]
        self._past.append((index, position))
        if not recent:
            return math.nan
        before = np.array([median(values) for values in zip(*recent, strict=True)])
        return framewise_displacement(parameters, before)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a volume is used, and why not.

    Attributes
    ----------
    weight : float
        1, less where motion makes it doubtful, or 0 if there is a reason against it.
    reasons : tuple of str
        One line each; empty if the volume is used.
    fd_mm : float
        Framewise displacement; NaN where undefined.
    template_correlation : float
        Likeness to the template; NaN where undefined.
    """

    weight: float
    reasons: tuple[str, ...]
    fd_mm: float
    template_correlation: float


class VolumeQuality:
    """Judge volumes by motion, likeness to a template, and what is missing in them.

    A volume gets weight 0 if its motion estimate failed, its FD or its likeness to the template
    is beyond the limit, an ROI was lost, or a signal is not finite.

    Parameters
    ----------
    n_rois : int
        ROIs whose means are given.
    tr_s : float
        Repetition time, seconds.
    rules : QualityConfig
        Limits; of these `fd_threshold_mm`, `fd_window_s` and `template_correlation_min`.
    template : ndarray, shape (n_rois,), optional
        ROI means of the reference image. None takes those of the first volume found good.
    """

    def __init__(
        self,
        n_rois: int,
        tr_s: float,
        rules: QualityConfig | None = None,
        template: Float64 | None = None,
    ) -> None:
        self._rules = rules or QualityConfig()
        self._displacement = FramewiseDisplacement(tr_s, self._rules.fd_window_s)
        self._has_pattern = n_rois >= MIN_PATTERN
        self._template = None if template is None else template.astype(np.float32)

    def judge(
        self,
        index: int,
        parameters: Float64,
        signals: Float64,
        tissue: Float64 | None = None,
        failure: str = "",
        template_correlation: float | None = None,
    ) -> Verdict:
        """Judge one volume. Call once per volume that came, in the order of `index`.

        Parameters
        ----------
        index : int
            Scanner's volume index.
        parameters : ndarray, shape (6,), float64
            Motion (mm, rad); NaN where the estimate failed.
        signals : ndarray, shape (n_rois,), float64
            ROI means; NaN for a lost ROI.
        tissue : ndarray, shape (n_tissues,), float64, optional
            Tissue signals that enter the regression.
        failure : str
            Why the motion estimate is not to be trusted; empty if it is.
        template_correlation : float, optional
            Likeness computed elsewhere, such as that of all labelled voxels
            (`rtloop.kernels.means.pattern_correlation`). None: of the ROI means, where there are
            at least `MIN_PATTERN` of them.
        """
        rules, reasons = self._rules, []
        # a position that is not to be trusted must not be what the next ones are compared with
        position = np.full(6, math.nan) if failure else parameters
        fd_mm = self._displacement.update(index, position)
        if failure or not np.isfinite(parameters).all():
            reasons.append(f"motion estimate failed: {failure or 'not finite'}")
        if fd_mm > rules.fd_threshold_mm:
            reasons.append(f"motion: FD {fd_mm:.2f} mm above {rules.fd_threshold_mm:g} mm")
        if n_lost := int(np.count_nonzero(~np.isfinite(signals))):
            reasons.append(f"ROI lost: {n_lost} of {len(signals)} have no mean")
        if tissue is not None and not np.isfinite(tissue).all():
            reasons.append("tissue signal not finite")
        r = self._likeness(signals) if template_correlation is None else template_correlation
        if r < rules.template_correlation_min:
            reasons.append(
                f"unlike the template: r {r:.2f} below {rules.template_correlation_min:g}"
            )
        if self._template is None and not reasons:
            self._template = signals.astype(np.float32)
        weight = 0.0 if reasons else self._motion_weight(fd_mm)
        return Verdict(weight, tuple(reasons), fd_mm, r)

    def _motion_weight(self, fd_mm: float) -> float:
        """1 below `fd_weight_from_mm`, falling in a line to 0 at the threshold."""
        start_mm, end_mm = self._rules.fd_weight_from_mm, self._rules.fd_threshold_mm
        if start_mm is None or not fd_mm > start_mm or end_mm <= start_mm:
            return 1.0
        return max(0.0, (end_mm - fd_mm) / (end_mm - start_mm))

    def _likeness(self, signals: Float64) -> float:
        if self._template is None or not self._has_pattern:
            return math.nan
        return float(pattern_correlation(signals.astype(np.float32), self._template))


class ConfoundWatch:
    """Running correlation of the score with what should not drive it.

    A score speaks of a window, so each confound is averaged over the same window. Neighbouring
    windows overlap and slow signals repeat themselves: the alarm counts effective samples
    (Bartlett 1935; Pyper & Peterman 1998, doi:10.1139/f98-104),
    `n / (1 + 2 Σ ρ_score(k) ρ_confound(k))`, estimated from the run so far up to two windows'
    lags, and never more than 1.5 per window of scanner time, which is what two series smoothed by
    the same window have at best. The cost per volume does not grow with the run.

    Parameters
    ----------
    limit : float
        Alarm above this |r|, if |r| is also `ALARM_Z` standard errors from 0.
    window : int
        Length of the score's window, volumes.
    names : tuple of str
        Confounds, in the order of their values.
    """

    def __init__(
        self,
        limit: float = 0.3,
        window: int = 1,
        names: tuple[str, ...] = ("fd", "global_signal", "respiration"),
    ) -> None:
        self.limit = limit
        self.names = names
        self._window = window
        self._recent = np.full((window, len(names)), math.nan)
        self._n_updates = 0
        self._pairs = [_Pair(2 * window) for _ in names]

    def update(self, score: float, *confounds: float) -> None:
        """Take one index of scanner time. Call for missing volumes too, with NaN.

        Parameters
        ----------
        score : float
            Score of the window that ends here; NaN where there is none.
        *confounds : float
            This volume's values in the order of `names`; those left out, or NaN, are unknown.
        """
        row = self._recent[self._n_updates % self._window]
        row[:] = math.nan
        row[: len(confounds)] = confounds
        self._n_updates += 1
        if not math.isfinite(score):
            return
        for k, pair in enumerate(self._pairs):
            known = [value for value in self._recent[:, k].tolist() if math.isfinite(value)]
            if 2 * len(known) >= self._window:
                pair.add(score, math.fsum(known) / len(known), self._n_updates)

    @property
    def correlations(self) -> dict[str, float]:
        """Pearson r of the score with each confound; NaN where undefined."""
        return {name: pair.r for name, pair in zip(self.names, self._pairs, strict=True)}

    @property
    def n_effective(self) -> dict[str, float]:
        """Effective samples behind each correlation."""
        return {
            name: pair.n_effective(self._window)
            for name, pair in zip(self.names, self._pairs, strict=True)
        }

    @property
    def alarms(self) -> tuple[str, ...]:
        """Confounds that the score follows."""
        counts = self.n_effective
        return tuple(
            name for name, r in self.correlations.items() if self._alarming(r, counts[name])
        )

    def _alarming(self, r: float, n_effective: float) -> bool:
        if not (abs(r) > self.limit and n_effective >= MIN_EFFECTIVE):
            return False
        # atanh(1) is infinite: such a score is the confound
        return abs(r) >= 1.0 or math.atanh(abs(r)) * math.sqrt(n_effective - 3.0) > ALARM_Z


class _Pair:
    """Correlation of two series, and their autocorrelations, sample by sample."""

    def __init__(self, max_lag: int) -> None:
        self._n = 0
        self._anchor = np.zeros(2)
        self._sum = np.zeros(2)
        self._square = np.zeros(2)
        self._cross = 0.0
        # per lag k: Σ x(t) x(t-k), Σ x(t), Σ x(t-k) over the t where both are there
        self._products, self._leading, self._trailing = np.zeros((3, max_lag, 2))
        self._past = np.zeros((max_lag, 2))
        self._first_at = 0
        self._last_at = 0

    def add(self, score: float, confound: float, at: int) -> None:
        both = np.array([score, confound])
        if self._n == 0:
            self._anchor, self._first_at = both, at
        self._last_at = at
        x = both - self._anchor
        there = min(self._n, len(self._past))
        self._products[:there] += x * self._past[:there]
        self._leading[:there] += x
        self._trailing[:there] += self._past[:there]
        self._past[1:] = self._past[:-1]
        self._past[:1] = x
        self._sum += x
        self._square += x * x
        self._cross += float(x[0] * x[1])
        self._n += 1

    @property
    def r(self) -> float:
        if self._n < 3:
            return math.nan
        variance = self._square - self._sum**2 / self._n
        if not (variance > 1e-12 * self._square).all():
            return math.nan
        covariance = self._cross - float(self._sum[0] * self._sum[1]) / self._n
        r = covariance / math.sqrt(float(variance[0] * variance[1]))
        return max(-1.0, min(1.0, r))

    def n_effective(self, window: int) -> float:
        if math.isnan(self.r):
            return 0.0
        mean = self._sum / self._n
        variance = self._square - self._sum * mean
        there = min(self._n, len(self._past))
        n_pairs = self._n - np.arange(1, there + 1)[:, None]
        lagged = self._products - mean * (self._leading + self._trailing)
        rho = (lagged[:there] + n_pairs * mean**2) / variance
        inflation = 1.0
        for product in (rho[:, 0] * rho[:, 1]).tolist():
            if product <= 0.0:
                # beyond the first lag without likeness the estimates are noise
                break
            inflation += 2.0 * product
        windows = (self._last_at - self._first_at + window) / window
        return min(self._n / inflation, float(self._n), 1.5 * windows)
