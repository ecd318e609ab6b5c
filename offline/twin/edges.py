"""Connectomes as they are handed in: of this atlas, whole, and in Fisher z.

Nothing in one person's connectome tells weak Fisher z from correlations, so that one person is
never refused for it. A group's scale is judged by its shape, strength set aside: against the
training people's mean m, edges of people lie on

    edge = a + b m + γ (m - tanh m) + what is the person's own

with γ near 0 in Fisher z, however strong or weak the connectomes. Correlations, and Fisher z taken
twice, bend away from it; a group whose γ is certain, and less than half once the bend is undone, is
refused. Where there are no training people yet, all that tells is that nobody passes 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from offline.atlas import Atlas
from offline.errors import AtlasError, ScaleError, TwinError
from offline.twin.basis import Basis

__all__ = ["require_edges", "require_scale"]

LARGEST_Z = 10.0
FEWEST_PEOPLE = 8
"""Whose scale is judged together."""

FEWEST_ROIS = 30
CHANCE = 1e-5
"""That people of the training distribution are as far from γ = 0, by Student's t of the group."""

ALIKE = 0.9
"""Correlation over edges of the group's mean with the training people's."""

Float64 = NDArray[np.float64]


def require_edges(
    fc: ArrayLike, atlas: Atlas, people: Sequence[str], basis: Basis | None = None
) -> Float64:
    """Edges as float64 (n_people, n_edges), checked; whole matrices are taken apart.

    Parameters
    ----------
    fc : array_like, shape (n_people, n_edges) or (n_people, n_rois, n_rois)
        Fisher z. The diagonal of matrices is not looked at.
    atlas : Atlas
    people : sequence of str
        To name who is wrong.
    basis : Basis or None
        Of training people, to judge the scale by.

    Raises
    ------
    AtlasError
        If the size is not that of the atlas, or a matrix is not symmetric.
    ScaleError
        If the values of a group are correlations, Fisher z taken twice, or of no scale known.
    TwinError
        If the number of people is another, or an ROI is NaN.
    """
    z = np.asarray(fc, np.float64)
    if z.ndim == 3 and z.shape[1:] == (atlas.n_rois, atlas.n_rois):
        z = _upper(z, atlas, people)
    if z.ndim != 2 or z.shape[1] != atlas.n_edges:
        raise AtlasError(
            f"expected {atlas.n_edges} edges of the {atlas.n_rois} ROIs of atlas {atlas.name},"
            f" found an array of shape {z.shape}; take connectomes of this atlas"
        )
    if len(z) != len(people):
        raise TwinError(
            f"expected connectomes of {len(people)} people, found {len(z)}; one row a person"
        )
    lost = np.asarray(~np.isfinite(z).all(axis=1))
    if lost.any():
        edge = int(np.flatnonzero(~np.isfinite(z[np.flatnonzero(lost)[0]]))[0])
        a, b = atlas.edges()[edge]
        raise TwinError(
            f"expected finite edges, found NaN in {_first(people, lost)} at"
            f" {atlas.labels[a]}--{atlas.labels[b]}; leave out the ROI, or the person"
        )
    require_scale(z, atlas.n_rois, basis)
    return z


def require_scale(z: Float64, n_rois: int, basis: Basis | None = None) -> None:
    """Refuse a group's edges that are no Fisher z.

    Parameters
    ----------
    z : ndarray of float64, shape (n_people, n_edges)
    n_rois : int
    basis : Basis or None
        Of training people.

    Raises
    ------
    ScaleError
    """
    if np.abs(z).max(initial=0.0) > LARGEST_Z:
        raise ScaleError(
            f"expected Fisher z, found values beyond ±{LARGEST_Z:g}; check what they are"
        )
    if len(z) < FEWEST_PEOPLE or n_rois < FEWEST_ROIS:
        return
    correlations = np.abs(z).max() < 1.0
    if basis is None:
        if correlations:
            raise ScaleError(
                f"expected Fisher z, found no value beyond ±1 in {len(z)} people, as in"
                " correlations; give np.arctanh(r)"
            )
        return
    if np.corrcoef(z.mean(axis=0), basis.mean)[0, 1] < ALIKE:
        return  # other people altogether, whose shape says nothing of their scale
    weights = _bend_weights(basis)
    bend = (z - basis.mean) @ weights
    error = bend.std(ddof=1) * np.sqrt(1.0 / len(z) + 1.0 / basis.n_people)
    if 2.0 * stats.t.sf(abs(bend.mean()) / error, len(z) - 1) > CHANCE:
        return
    if correlations and _nearer(np.arctanh(z), basis, weights, bend):
        raise ScaleError(
            "expected Fisher z as of the training people, found values that bend away from theirs"
            " as correlations do; give np.arctanh(r)"
        )
    if _nearer(np.tanh(z), basis, weights, bend):
        raise ScaleError(
            "expected Fisher z as of the training people, found values that bend away from theirs"
            " as Fisher z of Fisher z do; transform once"
        )


def _bend_weights(basis: Basis) -> Float64:
    """What takes γ from a person's edges less the mean, (n_edges,): generalised least squares.

    Directions in which training people differ weigh less, by the basis's variances and one for
    all directions beside them.
    """
    n_edges, mean = len(basis.mean), basis.mean
    design = np.stack([np.ones(n_edges), mean, mean - np.tanh(mean)], axis=1)
    design /= basis.scale[:, None]
    variance = basis.sd**2 * n_edges
    beside = variance.mean()
    along = basis.components @ design
    weighed = (design - basis.components.T @ along) / beside
    weighed += basis.components.T @ (along / (variance + beside)[:, None])
    solved = np.linalg.lstsq(design.T @ weighed, weighed.T, rcond=None)[0]
    return np.asarray(solved[2] / basis.scale)


def _nearer(z: Float64, basis: Basis, weights: Float64, bend: Float64) -> bool:
    """Whether a group's γ is much nearer to 0 in another scale."""
    return bool(2.0 * abs(np.mean((z - basis.mean) @ weights)) < abs(bend.mean()))


def _upper(matrices: Float64, atlas: Atlas, people: Sequence[str]) -> Float64:
    a, b = atlas.edges().T
    upper, lower = matrices[:, a, b], matrices[:, b, a]
    wrong = ~np.all(np.isclose(upper, lower, atol=1e-6, equal_nan=True), axis=1)
    if wrong.any():
        raise AtlasError(
            f"expected symmetric matrices, found that of {_first(people, wrong)} is not; give"
            " Fisher z of ROI by ROI"
        )
    return upper


def _first(people: Sequence[str], wrong: NDArray[np.bool_]) -> str:
    return f"sub-{people[int(np.flatnonzero(wrong)[0])].removeprefix('sub-')}"
