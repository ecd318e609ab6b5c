"""ROI time series to edges: Fisher z of Pearson correlations, for many people.

Signals are centred and scaled in float64, relative to their first volume, so that a baseline of
10,000 with fluctuations of 50 loses nothing; only then are they rounded to float32, in which the
products of all ROI pairs are one call of the BLAS. Weights are those of the online side: 0 for a
censored volume, whose values are not looked at. z is NaN where r is undefined, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.errors import CohortError
from rtloop.connectivity import kish_samples

__all__ = ["MIN_VOLUMES", "ONE", "fc_block", "fc_edges"]

MIN_VOLUMES = 20
"""Effective volumes below which edges are refused: the standard error of z is then above .24
even without autocorrelation."""

ONE = 1.0 - 2.0**-20
"""|r| from which two signals are the same one, as far as float32 can tell."""

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def fc_edges(
    series: ArrayLike,
    weights: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    min_volumes: float = MIN_VOLUMES,
) -> Float32:
    """Fisher z of all ROI pairs of one scan.

    Parameters
    ----------
    series : array_like of float, shape (n_volumes, n_rois)
        ROI signals, any unit.
    weights : array_like of float, shape (n_volumes,), or None
        >= 0; 0 for a censored volume, whose signals may be anything. None for 1.
    labels : sequence of str, length n_rois, or None
        Names of the ROIs, for messages.
    min_volumes : float
        Least effective volumes, Kish's (Σw)² / Σw².

    Returns
    -------
    ndarray of float32, shape (n_edges,)
        In the order of `rtloop.connectivity.edge_pairs`. NaN for edges of an ROI that is
        constant, or not finite in a volume of weight > 0.

    Raises
    ------
    CohortError
        If a shape is wrong, a weight negative, there are too few volumes, or two ROIs have the
        same signal up to scale (|r| >= 1: Fisher z is infinite).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = fc_edges(10_000.0 + 50.0 * rng.standard_normal((200, 3)))
    >>> z.shape, bool(np.all(np.abs(z) < 0.3))
    ((3,), True)
    """
    return np.asarray(fc_block([series], [weights], labels, min_volumes)[0])


def fc_block(
    series: Sequence[ArrayLike],
    weights: Sequence[ArrayLike | None] | None = None,
    labels: Sequence[str] | None = None,
    min_volumes: float = MIN_VOLUMES,
) -> Float32:
    """Fisher z of all ROI pairs of several scans of one atlas.

    Parameters
    ----------
    series : sequence of array_like, each of shape (n_volumes, n_rois)
        Scans may differ in length.
    weights : sequence of array_like or None
        As those of `fc_edges`, one a scan.
    labels : sequence of str, length n_rois, or None
        Names of the ROIs, for messages.
    min_volumes : float
        Least effective volumes of each scan.

    Returns
    -------
    ndarray of float32, shape (n_scans, n_edges)
        As those of `fc_edges`.

    Raises
    ------
    CohortError
        As `fc_edges`.
    """
    if not len(series):
        raise CohortError("expected at least one scan, found none; give their series")
    if weights is not None and len(weights) != len(series):
        raise CohortError(f"expected weights for {len(series)} scans, found {len(weights)}")
    n_rois = np.shape(series[0])[-1]
    places = _upper(n_rois)
    products = np.empty((n_rois, n_rois), np.float32)
    z = np.empty((len(series), len(places)), np.float32)
    for k, signals in enumerate(series):
        scaled, undefined = _standardized(
            signals, None if weights is None else weights[k], n_rois, min_volumes
        )
        np.matmul(scaled.T, scaled, out=products)
        if undefined.any():
            products[undefined] = np.nan
            products[:, undefined] = np.nan
        np.take(products.reshape(-1), places, out=z[k])
        _refuse_one(z[k], labels, n_rois)
    return np.arctanh(z, out=z)


def _standardized(
    series: ArrayLike, weights: ArrayLike | None, n_rois: int, min_volumes: float
) -> tuple[Float32, NDArray[np.bool_]]:
    """Signals whose products are correlations, (n_used_volumes, n_rois); ROIs without any."""
    signals = np.asarray(series)
    if signals.ndim != 2 or signals.shape[1] != n_rois or n_rois < 2:
        raise CohortError(
            f"expected series of shape (n_volumes, {max(n_rois, 2)}), found {signals.shape};"
            " give one row a volume, one column an ROI of one atlas"
        )
    each = _weights(weights, len(signals))
    effective = float(len(signals)) if each is None else kish_samples(each)
    if effective < min_volumes * (1.0 - 1e-12):
        raise CohortError(
            f"expected at least {min_volumes:g} effective volumes, found {effective:.1f};"
            " leave the scan out"
        )
    if each is not None:
        signals, each = signals[each > 0.0], each[each > 0.0]
    # the first volume as anchor: sums have the size of fluctuations, and constants become 0
    with np.errstate(invalid="ignore", over="ignore"):
        work = np.subtract(signals, signals[0], dtype=np.float64)
        if each is None:
            work -= work.mean(axis=0)
        else:
            work -= each @ work / each.sum()
            work *= np.sqrt(each)[:, None]
        squares = np.einsum("tr,tr->r", work, work)
    undefined = ~np.isfinite(squares) | (squares == 0.0)
    scale = np.zeros(n_rois)
    np.divide(1.0, np.sqrt(squares), out=scale, where=~undefined)
    if undefined.any():
        work[:, undefined] = 0.0
    return np.multiply(work, scale).astype(np.float32), undefined


def _weights(weights: ArrayLike | None, n_volumes: int) -> Float64 | None:
    if weights is None:
        return None
    each = np.asarray(weights, np.float64)
    if each.shape != (n_volumes,):
        raise CohortError(
            f"expected one weight for each of {n_volumes} volumes, found shape {each.shape};"
            " give 0 for censored ones"
        )
    if not (np.isfinite(each).all() and (each >= 0.0).all()):
        raise CohortError("expected weights >= 0, found one negative or not finite; give 0 or more")
    return each


def _refuse_one(r: Float32, labels: Sequence[str] | None, n_rois: int) -> None:
    """Refuse |r| >= 1: a signal was given twice."""
    with np.errstate(invalid="ignore"):
        same = np.flatnonzero(np.abs(r) >= ONE)
    if len(same):
        a, b = np.unravel_index(_upper(n_rois)[same[0]], (n_rois, n_rois))
        named = (labels[a], labels[b]) if labels is not None else (int(a), int(b))
        raise CohortError(
            f"expected |r| < 1, found {r[same[0]]:.7f} between ROIs {named[0]} and {named[1]};"
            " they have one signal, leave one out"
        )


_places: dict[int, NDArray[np.int64]] = {}


def _upper(n_rois: int) -> NDArray[np.int64]:
    """Places of the edges in a flat (n_rois, n_rois) matrix, in the order of `edge_pairs`."""
    if n_rois not in _places:
        a, b = np.triu_indices(n_rois, k=1)
        _places[n_rois] = a * n_rois + b
    return _places[n_rois]
