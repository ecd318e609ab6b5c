"""Which regions a task moves in one person: a contrast of two conditions, region by region.

BOLD of a run is regressed on one regressor a condition (its stimuli convolved with the canonical
response, sampled at TR), a constant and slow cosines; the map is the difference of the two betas,
and t is that difference by its standard error, residuals taken as white. High-pass: cosines up to
`1/128` Hz (Friston et al. 2000, doi:10.1006/nimg.2000.0609).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.hrf import LENGTH_S, canonical_hrf
from offline.twin.tasks import Bold, TaskSpec

__all__ = ["contrast_map"]

FINE_S = 0.1
CUTOFF_S = 128.0

Float64 = NDArray[np.float64]


def contrast_map(
    bold: Bold, trials: pd.DataFrame, spec: TaskSpec, more: str, less: str
) -> tuple[Float64, Float64]:
    """Difference between two conditions in every region.

    Parameters
    ----------
    bold : Bold
        Of one run; volumes with a value that is not finite are left out.
    trials : pandas.DataFrame
        The run's rows of a trial table; a condition's trials count whatever was answered.
    spec : TaskSpec
    more, less : str
        Conditions; betas of `more` less betas of `less`.

    Returns
    -------
    difference : ndarray of float64, shape (n_regions,)
        In the unit of the BOLD; NaN for a region that is constant.
    t : ndarray of float64, shape (n_regions,)
        The difference by its standard error; NaN as above.

    Raises
    ------
    TwinError
        If a condition has no trial, or too few volumes are left.
    """
    kinds = spec.condition_of(trials["condition"])
    times_s = bold.start_s + bold.tr_s * np.arange(len(bold.series))
    columns = []
    for name in (more, less):
        onsets_s = trials["onset_s"].to_numpy()[(kinds == name).to_numpy()]
        if not len(onsets_s):
            raise TwinError(
                f"expected trials of the conditions {more} and {less}, found none of {name}; the"
                f" run has {', '.join(sorted(set(kinds)))}"
            )
        columns.append(_regressor(onsets_s, spec.stimulus_s, times_s))
    span_s = bold.tr_s * len(times_s)
    n_slow = int(2.0 * span_s / CUTOFF_S)
    phase = np.pi * (np.arange(len(times_s)) + 0.5) / len(times_s)
    slow = [np.cos(k * phase) for k in range(1, n_slow + 1)]
    design = np.stack([*columns, np.ones(len(times_s)), *slow], axis=1)
    series = np.asarray(bold.series, np.float64)
    kept = np.isfinite(series).all(axis=1)
    free = int(kept.sum()) - design.shape[1]
    if free < 10:
        raise TwinError(
            f"expected at least {design.shape[1] + 10} volumes, found {int(kept.sum())}; leave the"
            " run out"
        )
    design, series = design[kept], series[kept] - series[kept].mean(axis=0)
    inverse = np.linalg.pinv(design.T @ design)
    betas = inverse @ design.T @ series
    variance = np.sum((series - design @ betas) ** 2, axis=0) / free
    weights = np.zeros(design.shape[1])
    weights[:2] = 1.0, -1.0
    difference = weights @ betas
    error = np.sqrt(variance * (weights @ inverse @ weights))
    moving = error > 1e-12 * np.maximum(np.abs(difference), 1e-300)
    t = np.full(len(difference), np.nan)
    t[moving] = difference[moving] / error[moving]
    return np.where(moving, difference, np.nan), t


def _regressor(onsets_s: Float64, duration_s: float, times_s: NDArray[np.floating]) -> Float64:
    """Stimuli of one condition as BOLD would follow them, at the volumes' times."""
    begin_s = min(float(onsets_s.min()), float(times_s[0]))
    n_fine = int(np.ceil((float(times_s[-1]) - begin_s + FINE_S) / FINE_S)) + 1
    on = np.zeros(n_fine)
    for onset_s in onsets_s:
        first = round((onset_s - begin_s) / FINE_S)
        on[first : first + max(1, round(duration_s / FINE_S))] = 1.0
    response = canonical_hrf(np.arange(0.0, LENGTH_S, FINE_S)) * FINE_S
    followed = np.convolve(on, response)[:n_fine]
    sampled: Float64 = np.interp(times_s, begin_s + FINE_S * np.arange(n_fine), followed)
    return sampled
