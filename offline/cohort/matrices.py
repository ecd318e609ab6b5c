"""Connectivity matrices as others computed them, told to be r or z, and tested for it.

Which of the two a matrix holds is stated by its user, and the statement is tested. Correlations of
signals form a matrix without negative eigenvalues; Fisher z of strong correlations does not, and
neither does tanh of what was r already. On the 119 people of a public three-site rest data set with
122 ROIs the smallest eigenvalue was above -.006 for r written with three decimals and -.06 with
two, and below -.19 for z taken as r. Where correlations are weak or ROIs are few, r and z are alike
in this too, and the statement is all there is.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import AtlasError, ScaleError
from rtloop.connectivity import edge_pairs, fisher_z

__all__ = ["EIGENVALUE", "KINDS", "Kind", "edges_of_matrix"]

Kind = Literal["series", "r", "z"]
"""ROI signals over time, Pearson correlations, Fisher z."""

KINDS: tuple[Kind, ...] = get_args(Kind)

EIGENVALUE = -0.1
"""Smallest eigenvalue of what is still taken for correlations, rounded or pairwise ones too."""

ASYMMETRY = 1e-5
"""Largest difference between the two halves of a matrix, as a file's rounding makes it."""

UNIT = 1e-6

Float64 = NDArray[np.float64]


def edges_of_matrix(values: NDArray[Any], kind: Kind, atlas: Atlas, where: str) -> Float64:
    """Fisher z of the edges of a connectivity matrix, or of a vector of its edges.

    Parameters
    ----------
    values : ndarray, shape (n_rois, n_rois) or (n_edges,)
        Symmetric; a vector has the order of `atlas.edges()`. NaN where an ROI is missing.
    kind : {"r", "z"}
        What the numbers are.
    atlas : Atlas
        Of these ROIs.
    where : str
        The matrix's file, for messages.

    Returns
    -------
    ndarray of float64, shape (n_edges,)
        NaN where the matrix has it.

    Raises
    ------
    AtlasError
        If the shape is not the atlas's.
    ScaleError
        If the matrix is not symmetric, or is not what `kind` says.
    """
    values = np.asarray(values, np.float64)
    diagonal = None
    if values.shape == (atlas.n_rois, atlas.n_rois):
        diagonal = np.diag(values)
        _require_symmetric(values, atlas, where)
        a, b = edge_pairs(atlas.n_rois).T
        edges: Float64 = values[a, b]
    elif values.shape == (atlas.n_edges,):
        edges = values.copy()
    else:
        raise AtlasError(
            f"{where}: expected a matrix {atlas.n_rois} x {atlas.n_rois} or {atlas.n_edges} edges"
            f" of atlas {atlas.name}, found shape {values.shape}; take arrays of one atlas"
        )
    if kind == "r":
        _require_r(edges, atlas, where)
        return np.asarray(fisher_z(edges))
    _require_z(edges, diagonal, atlas, where)
    return edges


def _require_symmetric(values: Float64, atlas: Atlas, where: str) -> None:
    with np.errstate(invalid="ignore"):
        difference = np.abs(values - values.T)
    one_sided = np.isnan(values) != np.isnan(values.T)
    worst = np.where(one_sided, np.inf, np.nan_to_num(difference, nan=0.0, posinf=0.0))
    a, b = np.unravel_index(int(worst.argmax()), worst.shape)
    if worst[a, b] > ASYMMETRY:
        raise ScaleError(
            f"{where}: expected a symmetric matrix, found {values[a, b]:.4g} and {values[b, a]:.4g}"
            f" between ROIs {atlas.labels[a]} and {atlas.labels[b]}; give both halves"
        )


def _require_r(edges: Float64, atlas: Atlas, where: str) -> None:
    with np.errstate(invalid="ignore"):
        beyond = np.flatnonzero(np.abs(edges) >= 1.0)
    if len(beyond):
        a, b = atlas.edges()[beyond[0]]
        raise ScaleError(
            f"{where}: expected |r| < 1, found {edges[beyond[0]]:.4g} between ROIs"
            f" {atlas.labels[a]} and {atlas.labels[b]} ({len(beyond)} such edges); if it is Fisher"
            " z, state kind z"
        )
    if not _could_be_r(edges, atlas.n_rois):
        raise ScaleError(
            f"{where}: expected correlations, found values that no signals have together (an"
            f" eigenvalue below {EIGENVALUE:g}); if it is Fisher z already, state kind z"
        )


def _require_z(edges: Float64, diagonal: Float64 | None, atlas: Atlas, where: str) -> None:
    if np.isinf(edges).any():
        a, b = atlas.edges()[np.flatnonzero(np.isinf(edges))[0]]
        raise ScaleError(
            f"{where}: expected finite z, found infinity between ROIs {atlas.labels[a]} and"
            f" {atlas.labels[b]} (|r| = 1); they have one signal, leave one out"
        )
    below_one = bool((np.abs(edges[~np.isnan(edges)]) < 1.0).all())
    unit = diagonal is not None and bool((np.abs(diagonal - 1.0) < UNIT).all())
    as_r = below_one and _could_be_r(edges, atlas.n_rois)
    if unit and below_one:
        raise ScaleError(
            f"{where}: expected Fisher z, found |values| < 1 and a diagonal of 1, which"
            " correlations have; state kind r"
        )
    if _could_be_r(np.tanh(edges), atlas.n_rois):
        return
    if as_r:
        raise ScaleError(
            f"{where}: expected Fisher z, found values that are correlations themselves and no"
            " Fisher z of any; state kind r"
        )
    if _could_be_r(np.tanh(np.tanh(edges)), atlas.n_rois):
        raise ScaleError(
            f"{where}: expected Fisher z, found values that are Fisher z taken twice; take it once"
        )
    raise ScaleError(
        f"{where}: expected Fisher z, found values that are that of no signals' correlations (an"
        f" eigenvalue below {EIGENVALUE:g}); check what the file holds"
    )


def _could_be_r(edges: Float64, n_rois: int) -> bool:
    """Whether the matrix has no eigenvalue below `EIGENVALUE`, missing ROIs left out."""
    matrix = np.zeros((n_rois, n_rois))
    a, b = edge_pairs(n_rois).T
    matrix[a, b] = edges
    matrix += matrix.T
    np.fill_diagonal(matrix, 1.0 - EIGENVALUE)
    missing = np.isnan(matrix)
    kept = missing.sum(axis=0) < n_rois - 1
    matrix, missing = matrix[np.ix_(kept, kept)], missing[np.ix_(kept, kept)]
    if missing.any():
        return True  # scattered holes say nothing about eigenvalues
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True
