"""A fractional delay per signal, from whichever of the last four samples are there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from numba import njit, types

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["delay"]


@njit(
    types.boolean(
        types.float64[:, ::1],
        types.int64,
        types.float64[:, :, ::1],
        types.boolean[:, ::1],
        types.float64[::1],
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def delay(
    history: NDArray[np.float64],
    newest: int,
    filters: NDArray[np.float64],
    usable: NDArray[np.bool_],
    out: NDArray[np.float64],
) -> bool:
    """Delayed value of each signal; returns whether all could be told.

    Parameters
    ----------
    history : (4, n) float64
        Ring of samples: tap b is row `(newest + b) % 4`. NaN where missing.
    newest : int64
        Row of the current sample.
    filters : (n, 8, 4) float64
        Weights per signal and per set of earlier samples (bit b: tap b + 1 is there).
    usable : (n, 8) bool
        Whether each of them is good enough; the value is undefined where it is not.
    out : (n,) float64
        Written; NaN where undefined.
    """
    whole = True
    for k in range(out.size):
        there = 0
        for tap in range(1, 4):
            if math.isfinite(history[(newest + tap) % 4, k]):
                there |= 1 << (tap - 1)
        current = history[newest, k]
        if not math.isfinite(current) or not usable[k, there]:
            out[k] = math.nan
            whole = False
            continue
        total = filters[k, there, 0] * current
        for tap in range(1, 4):
            if there >> (tap - 1) & 1:
                total += filters[k, there, tap] * history[(newest + tap) % 4, k]
        out[k] = total
    return whole
