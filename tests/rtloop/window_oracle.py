"""The slow, obvious way to window correlations: two passes over the window in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def window_correlation(
    x: Float64,
    weights: Float64,
    edges: NDArray[np.int64],
    regressors: Float64 | None = None,
    betas: Float64 | None = None,
) -> NDArray[np.longdouble]:
    """Pearson r per edge of the residuals in a window; rows of weight 0 may hold anything.

    x (n_volumes, n_rois), weights (n_volumes,), regressors (n_volumes, n_regressors).
    """
    kept = weights > 0
    residual = x[kept].astype(np.longdouble)
    if betas is not None and regressors is not None:
        residual = residual - regressors[kept].astype(np.longdouble) @ betas
    w = weights[kept].astype(np.longdouble)
    centred = residual - (w[:, None] * residual).sum(axis=0) / w.sum()
    covariance = (w[:, None] * centred).T @ centred
    a, b = edges.T
    variance = np.diag(covariance)
    return np.asarray(covariance[a, b] / np.sqrt(variance[a] * variance[b]))
