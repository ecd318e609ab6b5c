"""Editing a connectome: a few edges are changed, and the whole stays a correlation matrix.

Edges are changed in Fisher z. The changed correlations are held, and the others move as little as
they must for the matrix to be positive semidefinite: alternating projections with Dykstra's
correction (Higham 2002, doi:10.1093/imanum/22.3.329), the edited entries fixed like the diagonal.
What the others moved is reported. An edit is refused, person by person, where it leaves what is
plausible; nothing is clipped in silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.atlas import Atlas
from offline.errors import TwinError

__all__ = ["PLAUSIBLE_SD", "Edited", "edit_connectomes", "nearest_correlation"]

MAX_SD = 1.0
"""An edit is at most so many SD of the edge between people."""

PLAUSIBLE_SD = 2.576
"""Edited edges stay within so many SD of the training people's mean: 99 % of a normal."""

LEAST_EIGENVALUE = 1e-6
MOST_ITERATIONS = 400

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Edited:
    """Connectomes before and after.

    Attributes
    ----------
    before, after : ndarray of float64, shape (n_people, n_edges)
        Fisher z. `before` is what was given, or, where that was no correlation matrix (a mean of
        runs in z need not be one), the nearest.
    others : ndarray of float64, shape (n_people,)
        Largest change of an edge that was not edited, Fisher z.
    refused : tuple of str
        Why a person's edit is refused; "" where it is not.
    """

    before: Float64
    after: Float64
    others: Float64
    refused: tuple[str, ...]


def edit_connectomes(
    z: Float64, atlas: Atlas, edges: ArrayLike, delta_z: ArrayLike, mean: Float64, sd: Float64
) -> Edited:
    """Change edges of people.

    Parameters
    ----------
    z : ndarray of float64, shape (n_people, n_edges)
        Fisher z.
    atlas : Atlas
    edges : array_like of int, shape (n,)
        Places of the edges, each once.
    delta_z : array_like of float, shape (n,) or (n_people, n)
        To add.
    mean, sd : ndarray of float64, shape (n_edges,)
        Of the edges between training people.

    Raises
    ------
    TwinError
        If an edge is not the atlas's or named twice, or a change is beyond one SD of its edge.
    """
    places, delta = _checked(z, atlas, edges, delta_z, sd)
    before, after = z.copy(), z.copy()
    others, refused = np.zeros(len(z)), [""] * len(z)
    kept = np.ones(atlas.n_edges, bool)
    kept[places] = False
    for k in range(len(z)):
        matrix, before[k] = _whole(z[k], atlas)
        after[k] = before[k]
        wanted = before[k, places] + delta[k]
        away, was = np.abs([wanted - mean[places], before[k, places] - mean[places]])
        beyond = (away > PLAUSIBLE_SD * sd[places]) & (away > was)
        if beyond.any():
            name = atlas.edge_names()[places[np.flatnonzero(beyond)[0]]]
            refused[k] = f"{name} would leave what is plausible ({PLAUSIBLE_SD:g} SD)"
            continue
        try:
            after[k] = _with(matrix, before[k], places, wanted, atlas)
        except TwinError:
            refused[k] = "no correlation matrix has these edges"
            continue
        others[k] = np.abs(after[k] - before[k])[kept].max(initial=0.0)
    return Edited(before, after, others, tuple(refused))


def _whole(z: Float64, atlas: Atlas) -> tuple[Float64, Float64]:
    """The correlation matrix of a person's edges, or the nearest, and its edges in Fisher z."""
    a, b = atlas.edges().T
    matrix = np.eye(atlas.n_rois)
    matrix[a, b] = matrix[b, a] = np.tanh(z)
    if np.linalg.eigvalsh(matrix)[0] >= 0.0:
        return matrix, z
    matrix = nearest_correlation(matrix)
    return matrix, np.arctanh(matrix[a, b])


def _with(matrix: Float64, z: Float64, places: Ints, wanted: Float64, atlas: Atlas) -> Float64:
    """A person's edges with the wanted ones at these places, the others moved as they must."""
    a, b = atlas.edges().T
    fixed = matrix.copy()
    fixed[a[places], b[places]] = fixed[b[places], a[places]] = np.tanh(wanted)
    fixed = nearest_correlation(fixed, np.stack([a[places], b[places]], axis=1))
    moved = np.arctanh(fixed[a, b])
    # what did not move is to have the same bits
    edited: Float64 = np.where(np.abs(moved - z) > 1e-12, moved, z)
    edited[places] = wanted
    return edited


def nearest_correlation(matrix: Float64, fixed: Ints | None = None) -> Float64:
    """The nearest positive definite matrix with ones on its diagonal, in the Frobenius norm.

    Parameters
    ----------
    matrix : ndarray of float64, shape (n, n)
        Symmetric; returned as it is where it is positive semidefinite already.
    fixed : ndarray of int64, shape (n_fixed, 2), or None
        Entries that stay as they are.

    Returns
    -------
    ndarray of float64, shape (n, n)

    Raises
    ------
    TwinError
        If no such matrix was found: the fixed entries contradict each other, or the others.

    Examples
    --------
    >>> found = nearest_correlation(np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1.0]]))
    >>> bool(np.linalg.eigvalsh(found)[0] >= 0.0)
    True
    """
    if np.linalg.eigvalsh(matrix)[0] >= 0.0:
        return matrix
    held = np.eye(len(matrix), dtype=bool)
    if fixed is not None:
        held[fixed[:, 0], fixed[:, 1]] = held[fixed[:, 1], fixed[:, 0]] = True
    given = np.where(np.eye(len(matrix), dtype=bool), 1.0, matrix)
    y, correction = given, np.zeros_like(matrix)
    for _ in range(MOST_ITERATIONS):
        start = y - correction
        values, vectors = np.linalg.eigh(start)
        x = (vectors * np.maximum(values, LEAST_EIGENVALUE)) @ vectors.T
        correction = x - start
        y = np.where(held, given, x)
        # x is positive definite by that much, so y is too once it is as near
        if np.linalg.norm(y - x) < LEAST_EIGENVALUE:
            symmetric: Float64 = (y + y.T) / 2.0
            return symmetric
    raise TwinError(
        "expected edges that a correlation matrix can have, found none near these; edit fewer"
        " edges, or less"
    )


def _checked(
    z: Float64, atlas: Atlas, edges: ArrayLike, delta_z: ArrayLike, sd: Float64
) -> tuple[Ints, Float64]:
    places = np.atleast_1d(np.asarray(edges, np.int64))
    if places.ndim != 1 or not len(places) or len(np.unique(places)) < len(places):
        raise TwinError("expected edges to edit, each once; found none, or one twice")
    if places.min() < 0 or places.max() >= atlas.n_edges:
        raise TwinError(
            f"expected edges 0 to {atlas.n_edges - 1} of atlas {atlas.name}, found"
            f" {places.min()} to {places.max()}; name edges of this atlas"
        )
    given = np.asarray(delta_z, np.float64)
    if given.shape not in ((), (len(places),), (len(z), len(places))):
        raise TwinError(
            f"expected one change for each of {len(places)} edges, or one row a person, found"
            f" shape {given.shape}"
        )
    delta = np.broadcast_to(given, (len(z), len(places)))
    most = MAX_SD * sd[places]
    wrong = ~(np.abs(delta) <= most * (1.0 + 1e-9)).all(axis=0)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise TwinError(
            f"expected a change of at most 1 SD of {atlas.edge_names()[places[at]]}"
            f" (±{most[at]:.3f} in Fisher z), found {np.abs(delta[:, at]).max():.3f}; change less"
        )
    return places, delta
