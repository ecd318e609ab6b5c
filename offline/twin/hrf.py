"""The haemodynamic response that turns neural activity in steps of a task into BOLD at TR.

Canonical double gamma (Friston et al. 1998, doi:10.1006/nimg.1997.0306, as SPM has it): a peak at
about 5 s, an undershoot of a sixth of its area around 15 s, 32 s long.
"""

from __future__ import annotations

from math import gamma

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LENGTH_S", "canonical_hrf"]

LENGTH_S = 32.0
PEAK_SHAPE, UNDERSHOOT_SHAPE, UNDERSHOOT_SHARE = 6.0, 16.0, 1.0 / 6.0
"""Shapes of two gamma densities of 1 s scale, and the area of the second against the first."""


def canonical_hrf(times_s: ArrayLike) -> NDArray[np.float64]:
    """Response to an impulse at time 0, scaled so that a constant input gives itself.

    Parameters
    ----------
    times_s : array_like of float
        Seconds after the impulse; 0 before it and from `LENGTH_S` on.

    Returns
    -------
    ndarray of float64, same shape
        Per second: its integral over time is 1.

    Examples
    --------
    >>> round(float(canonical_hrf([5.0])[0]), 3)
    0.21
    """
    t = np.asarray(times_s, np.float64)
    inside = np.clip(t, 0.0, None)
    response = _density(inside, PEAK_SHAPE)
    response -= UNDERSHOOT_SHARE * _density(inside, UNDERSHOOT_SHAPE)
    response[(t < 0.0) | (t >= LENGTH_S)] = 0.0
    return response / (1.0 - UNDERSHOOT_SHARE)


def _density(t: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    density: NDArray[np.float64] = t ** (shape - 1.0) * np.exp(-t) / gamma(shape)
    return density
