"""ROI signals with a known correlation: a band-limited Gaussian process, stationary in blocks.

Every ROI has its own filtered white noise f_k(t) of unit variance (Butterworth band-pass). Within
volume i the signals are x(t) = L_i f(t) with L_i L_i' = R_i, the population correlation that the
script asks for. Hence corr(x_a(t), x_b(t)) is exactly R_i[a, b] at every instant, and as long as R
stays the same the process is stationary with the filter's autocorrelation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from rtloop.errors import ConfigError

__all__ = ["Edge", "FcScript", "Learner", "RoiSignals", "Scripted"]

STEP_S = 0.1
"""Time step of the process; far below the shortest period of the band."""

WARM_UP_S = 300.0
"""Discarded at the start, so that the filter has forgotten its initial state."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edge:
    """An ROI pair that the script steers; `sign` -1 makes it fall where z rises."""

    a: int
    b: int
    sign: int = 1


class FcScript(Protocol):
    """Fisher z of the steered edges over the run, possibly answering the feedback shown."""

    def z(self, index: int) -> float:
        """Population Fisher z at volume `index`; asked for once, in ascending order."""

    def hear(self, index: int, value: float) -> None:
        """Feedback `value` (0..100) was shown after volume `index` had been acquired."""


@dataclass(slots=True)
class Scripted:
    """A timetable: from each start index on, its z; deaf to feedback.

    Attributes
    ----------
    steps : sequence of (int, float)
        Start index and Fisher z, ascending, the first at 0.
    """

    steps: Sequence[tuple[int, float]] = ((0, 0.3),)

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.steps]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ConfigError(
                f"FC script: expected ascending start indices from 0, found {starts}; correct them"
            )

    def z(self, index: int) -> float:
        return next(z for start, z in reversed(self.steps) if start <= index)

    def hear(self, index: int, value: float) -> None:
        """Nothing: the timetable is fixed."""


@dataclass(slots=True)
class Learner:
    """A participant who explores and keeps what was rewarded (science notes, section 6).

    In each block of `block_volumes` the edge stands at z = start_z + skill + e, with e drawn anew
    (SD `explore_z`). Each feedback moves the skill by gain (reward - usual reward) e / explore_z,
    reward being the value / 100. Feedback that does not follow e teaches nothing.
    """

    start_z: float = 0.2
    gain_z: float = 0.1
    explore_z: float = 0.15
    limit_z: float = 0.9
    block_volumes: int = 20
    seed: int = 0
    skill_z: float = 0.0
    usual_reward: float = 0.5
    exploration_z: float = 0.0
    _random: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng([self.seed, 7])

    def z(self, index: int) -> float:
        if index % self.block_volumes == 0:
            self.exploration_z = self.explore_z * float(self._random.standard_normal())
        raw = self.start_z + self.skill_z + self.exploration_z
        return float(np.clip(raw, -self.limit_z, self.limit_z))

    def hear(self, index: int, value: float) -> None:
        surprise = value / 100 - self.usual_reward
        if self.explore_z > 0:
            self.skill_z += self.gain_z * surprise * self.exploration_z / self.explore_z
        self.usual_reward += 0.2 * surprise


class RoiSignals:
    """The process of all ROIs, made volume by volume and kept.

    Parameters
    ----------
    base : ndarray, shape (n_rois, n_rois)
        Population correlation where the script says nothing.
    edges : sequence of Edge
        Entries of it that follow the script.
    script : FcScript
        Their Fisher z over the run.
    tr_s, band_hz : float, (float, float)
        Repetition time and pass band.
    seed : int
        All randomness.
    """

    def __init__(
        self,
        base: Array,
        edges: Sequence[Edge],
        script: FcScript,
        tr_s: float,
        band_hz: tuple[float, float],
        seed: int,
    ) -> None:
        self.n_rois = len(base)
        self.n_steps = max(1, round(tr_s / STEP_S))
        self.correlations: list[Array] = []
        self.z: list[float] = []
        self._factors: list[Array] = []
        self._base, self._edges, self._script = np.array(base, dtype=np.float64), edges, script
        self._sources: list[Array] = []
        self._random = np.random.default_rng([seed, 1])
        step_s = tr_s / self.n_steps
        self._sos = signal.butter(2, band_hz, btype="bandpass", fs=1 / step_s, output="sos")
        impulse = np.zeros(round(600 / step_s))
        impulse[0] = 1
        self._response = signal.sosfilt(self._sos, impulse)
        self._state = np.zeros((len(self._sos), 2, self.n_rois))
        self._last = self._filtered(round(WARM_UP_S / step_s))[-1:]

    def at(self, index: int, offsets: Array) -> Array:
        """Signals of unit variance within volume `index`.

        Parameters
        ----------
        index : int
            Volume.
        offsets : ndarray, shape (n,)
            Instants within the volume, as shares of the repetition time, 0..1.

        Returns
        -------
        ndarray, shape (n, n_rois)
        """
        while len(self.z) <= index:
            self._next()
        source = self._sources[index]
        place = np.clip(offsets, 0, 1) * self.n_steps
        left = np.minimum(place.astype(np.intp), self.n_steps - 1)
        share = (place - left)[:, None]
        between = source[left] * (1 - share) + source[left + 1] * share
        return np.asarray(between @ self._factors[index].T)

    def hear(self, index: int, value: float) -> None:
        """Tell the script of a feedback; it changes volumes that were not made yet."""
        self._script.hear(index, value)

    def autocorrelation(self, n_lags: int) -> Array:
        """Of the signals at lags 0..n_lags - 1 volumes, from the filter's impulse response."""
        h = self._response
        spectrum = np.fft.rfft(h, 2 * len(h))
        auto = np.fft.irfft(np.abs(spectrum) ** 2)[: len(h)]
        lags = np.arange(n_lags) * self.n_steps
        return np.where(lags < len(h), auto[np.minimum(lags, len(h) - 1)] / auto[0], 0.0)

    def _next(self) -> None:
        """Make one more volume: the script is asked, the sources go on."""
        z = self._script.z(len(self.z))
        unchanged = bool(self.z) and z == self.z[-1]
        correlation = self.correlations[-1] if unchanged else self._correlation(z)
        self._factors.append(self._factors[-1] if unchanged else _factor(correlation, z))
        self.correlations.append(correlation)
        self.z.append(z)
        new = self._filtered(self.n_steps)
        self._sources.append(np.concatenate([self._last, new]))
        self._last = new[-1:]

    def _filtered(self, n_steps: int) -> Array:
        """The next stretch of independent unit-variance sources, shape (n_steps, n_rois)."""
        white = self._random.standard_normal((n_steps, self.n_rois))
        found, self._state = signal.sosfilt(self._sos, white, axis=0, zi=self._state)
        return np.asarray(found / np.sqrt((self._response**2).sum()))

    def _correlation(self, z: float) -> Array:
        matrix = self._base.copy()
        for edge in self._edges:
            matrix[edge.a, edge.b] = matrix[edge.b, edge.a] = np.tanh(edge.sign * z)
        return matrix


def _factor(correlation: Array, z: float) -> Array:
    """Lower triangle L with L L' = correlation."""
    try:
        return np.asarray(np.linalg.cholesky(correlation))
    except np.linalg.LinAlgError as error:
        raise ConfigError(
            f"FC script: expected a positive definite correlation, found none at z = {z:.2f}; "
            "ask for a smaller z or for weaker connections around the steered edges"
        ) from error
