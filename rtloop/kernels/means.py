"""Means of scattered voxels, and how alike two spatial patterns are.

An ROI that loses a few voxels (the head moved, they left the field of view) must not change its
level: voxels differ in brightness by far more than by BOLD, so the mean of those that are left
would jump. Lost voxels are therefore taken to sit where the baseline image has them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from numba import njit, types

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["pattern_correlation", "roi_means"]

_VALUES = types.Array(types.float32, 1, "C", readonly=True)
_INDICES = types.Array(types.int64, 1, "C", readonly=True)
_OUT = types.Array(types.float64, 1, "C")


@njit(
    types.void(_VALUES, _INDICES, _INDICES, _VALUES, types.float64, _OUT, _OUT),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def roi_means(
    values: NDArray[np.float32],
    starts: NDArray[np.int64],
    members: NDArray[np.int64],
    baseline: NDArray[np.float32],
    minimum_coverage: float,
    out: NDArray[np.float64],
    coverage: NDArray[np.float64],
) -> None:
    """Mean of each ROI's finite voxels, and the share of voxels that were finite.

    Parameters
    ----------
    values : (n_voxels,) float32
        Voxel values; not finite where there is none.
    starts : (n_rois + 1,) int64
        ROI k owns `members[starts[k]:starts[k + 1]]`.
    members : (n_members,) int64
        Positions in `values`, grouped by ROI.
    baseline : (n_voxels,) float32, or (0,)
        What a lost voxel is taken to be; empty for the plain mean of what is left.
    minimum_coverage : float64
        An ROI with a smaller share of finite voxels is lost: its mean is NaN.
    out, coverage : (n_rois,) float64
        Written.
    """
    for k in range(out.size):
        first, last = starts[k], starts[k + 1]
        total = 0.0
        n_finite = 0
        for i in range(first, last):
            value = values[members[i]]
            if math.isfinite(value):
                total += value
                n_finite += 1
        coverage[k] = n_finite / (last - first)
        if n_finite == 0 or coverage[k] < minimum_coverage:
            out[k] = math.nan
        elif n_finite == last - first or baseline.size == 0:
            out[k] = total / n_finite
        else:
            # mean baseline of the whole ROI + mean change of the voxels that are left
            level = 0.0
            change = 0.0
            for i in range(first, last):
                level += baseline[members[i]]
                value = values[members[i]]
                if math.isfinite(value):
                    change += types.float64(value) - baseline[members[i]]
            out[k] = level / (last - first) + change / n_finite


@njit(
    types.float64(_VALUES, _VALUES),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def pattern_correlation(values: NDArray[np.float32], template: NDArray[np.float32]) -> float:
    """Pearson r of two patterns over the positions where both are finite.

    Parameters
    ----------
    values, template : (n,) float32

    Returns
    -------
    float64
        NaN with fewer than three such positions or where one pattern is flat there.
    """
    n = 0
    mean_a = 0.0
    mean_b = 0.0
    for i in range(values.size):
        if math.isfinite(values[i]) and math.isfinite(template[i]):
            n += 1
            mean_a += values[i]
            mean_b += template[i]
    if n < 3:
        return math.nan
    mean_a /= n
    mean_b /= n
    # second pass: brain images have means far above their spread
    s_aa = 0.0
    s_bb = 0.0
    s_ab = 0.0
    for i in range(values.size):
        if math.isfinite(values[i]) and math.isfinite(template[i]):
            a = values[i] - mean_a
            b = template[i] - mean_b
            s_aa += a * a
            s_bb += b * b
            s_ab += a * b
    if s_aa <= 0.0 or s_bb <= 0.0:
        return math.nan
    return s_ab / math.sqrt(s_aa * s_bb)
