"""Probabilities that mean what they say: a map from the ensemble's output, learned out of fold.

The mean probability of L1 classifiers of equal classes is shrunk towards .5 and knows nothing of
the sample's prevalence. `Calibrator` maps it to the frequency seen among people whom the
classifiers had never met; it is never fitted on what it is judged with. Platt's map is
σ(a·logit p + b) with his prior-corrected targets (Platt 1999), a >= 0 so that it cannot turn the
order around; the isotonic one is a non-decreasing step function.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Calibration", "Calibrator", "logit"]

Calibration = Literal["platt", "isotonic"]
Float64 = NDArray[np.float64]

CLIP = 1e-12
NEWTON_STEPS = 50


def logit(p: Float64) -> Float64:
    """ln(p / (1 - p)), finite for 0 and 1."""
    p = np.clip(p, CLIP, 1.0 - CLIP)
    return np.asarray(np.log(p) - np.log1p(-p))


class Calibrator:
    """A non-decreasing map of probabilities.

    Parameters
    ----------
    method : "platt" or "isotonic"
    x, y : ndarray of float64
        Platt: `x` = [a], `y` = [b]. Isotonic: the map's corners, linear in between.
    """

    def __init__(self, method: Calibration, x: Float64, y: Float64) -> None:
        self.method: Calibration = method
        self.x = x
        self.y = y

    @classmethod
    def fit(cls, method: Calibration, output: Float64, label: Float64) -> Calibrator:
        """Learn the map.

        Parameters
        ----------
        method : "platt" or "isotonic"
        output : ndarray of float64, shape (n_scans,)
            Out-of-fold probabilities.
        label : ndarray of float64, shape (n_scans,)
            0 or 1.
        """
        if method == "platt":
            a, b = _platt(logit(output), label)
            return cls(method, np.array([a]), np.array([b]))
        from sklearn.isotonic import IsotonicRegression

        found = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(output, label)
        return cls(method, found.X_thresholds_, found.y_thresholds_)

    def __call__(self, output: Float64) -> Float64:
        """Calibrated probabilities, shape of `output`."""
        if self.method == "platt":
            return np.asarray(expit(self.x[0] * logit(output) + self.y[0]))
        return np.asarray(np.interp(output, self.x, self.y))


def _platt(score: Float64, label: Float64) -> tuple[float, float]:
    n_up = float(label.sum())
    n_down = len(label) - n_up
    target = np.where(label > 0.5, (n_up + 1.0) / (n_up + 2.0), 1.0 / (n_down + 2.0))
    base = float(target.mean())
    b = float(np.log(base / (1.0 - base)))
    if np.ptp(score) < 1e-9:
        return 0.0, b
    # centred and scaled, so that the two unknowns are of one size
    middle, size = float(score.mean()), float(score.std())
    x = np.stack([(score - middle) / size, np.ones(len(score))], axis=1)
    beta = np.array([0.0, b])
    for _ in range(NEWTON_STEPS):
        p = expit(x @ beta)
        slope = x.T @ (target - p)
        step = np.linalg.solve((x * (p * (1.0 - p))[:, None]).T @ x + 1e-12 * np.eye(2), slope)
        beta = beta + np.clip(step, -3.0, 3.0)
        if np.abs(step).max() < 1e-12:
            break
    if beta[0] <= 0.0:
        return 0.0, b
    return float(beta[0] / size), float(beta[1] - beta[0] * middle / size)
