"""What harmonizers are given, checked in one place, and gone through block by block.

Edges come as an array or as an `EdgeStore`, either of them (n_scans, n_edges); labels of sites,
subjects and diagnoses as anything with one entry a scan. Nothing here is arithmetic. A value
that is not finite is refused with its place: a harmonizer has no NaN to give back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.errors import AtlasError, HarmonizeError, UnseenSiteError
from offline.store import EdgeStore, edge_blocks, read_block

__all__ = [
    "Edges",
    "SiteRows",
    "as_edges",
    "atlas_entry",
    "inner_blocks",
    "labels_or_none",
    "named",
    "outer_blocks",
    "prepare_output",
    "refuse_missing",
    "require_atlas",
    "require_known",
    "site_labels",
]

INNER_VALUES = 1 << 19
"""Values of one inner block: 4 MB of float64, which stay in the cache between passes."""

Edges = NDArray[Any] | EdgeStore
Float64 = NDArray[np.float64]
Labels = NDArray[np.object_]


@dataclass(frozen=True)
class SiteRows:
    """Scans in the order of their sites.

    Attributes
    ----------
    names : tuple of str
        Sites, sorted.
    order : ndarray of int64, shape (n_scans,)
        Rows of X, one site after the other.
    slices : tuple of slice
        Each site's places in `order`.
    """

    names: tuple[str, ...]
    order: NDArray[np.int64]
    slices: tuple[slice, ...]

    @classmethod
    def of(cls, labels: Labels) -> SiteRows:
        """Group the rows that have the same label."""
        names, codes = np.unique(labels.astype(str), return_inverse=True)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
        slices = tuple(slice(int(a), int(b)) for a, b in pairwise(bounds))
        return cls(tuple(str(name) for name in names), order, slices)

    @property
    def counts(self) -> Float64:
        """Scans of each site, shape (n_sites,)."""
        return np.array([part.stop - part.start for part in self.slices], np.float64)

    def take(self, view: NDArray[Any]) -> Float64:
        """A copy of some edges of all scans in site order, float64."""
        if view.dtype == np.float64:
            return np.take(view, self.order, axis=0)
        # gather first: float32 is half of what has to be moved
        return np.take(view, self.order, axis=0).astype(np.float64)


def as_edges(X: Any) -> Edges:
    """`X` as a two-dimensional array of floats, or the store it is."""
    if isinstance(X, EdgeStore):
        return X
    array = np.asarray(X)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
        raise HarmonizeError(
            "expected edges of shape (n_scans, n_edges), real numbers, found shape"
            f" {array.shape} of {array.dtype}; give one row a scan, one column an edge"
        )
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def site_labels(sites: Any, n_scans: int) -> Labels:
    """Sites as strings, shape (n_scans,); none may be missing."""
    labels = labels_or_none(sites, n_scans, "sites")
    unknown = np.flatnonzero(labels == None)  # noqa: E711 (element by element)
    if len(unknown):
        raise HarmonizeError(
            f"expected the site of every scan, found none for {len(unknown)} (first: scan"
            f" {unknown[0]}); fill the column in or leave these scans out"
        )
    return labels


def labels_or_none(values: Any, n_scans: int, name: str) -> Labels:
    """Labels as strings; None, NaN, NA and empty ones become None."""
    array = np.asarray(values, dtype=object)
    if array.shape != (n_scans,):
        raise HarmonizeError(
            f"expected {name} of shape ({n_scans},), found {array.shape}; give one entry a scan"
        )
    out = np.empty(n_scans, object)
    out[:] = [None if _missing(value) else str(value) for value in array]
    return out


def _missing(value: Any) -> bool:
    # NaN and NaT differ from themselves; pandas.NA refuses to be a truth value
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return True


def named(labels: Sequence[str], most: int = 5) -> str:
    """A few names for a message, and how many more there are."""
    shown = ", ".join(labels[:most])
    return shown if len(labels) <= most else f"{shown} and {len(labels) - most} more"


def require_known(labels: Labels, known: Sequence[str], advice: str) -> NDArray[np.int64]:
    """Place of every scan's site among the known ones, or `UnseenSiteError`."""
    place = {name: k for k, name in enumerate(known)}
    unseen = sorted({label for label in labels if label not in place})
    if unseen:
        raise UnseenSiteError(
            f"expected sites that the model was fitted with ({named(known)}), found"
            f" {named(unseen)}; {advice}"
        )
    return np.array([place[label] for label in labels], np.int64)


def atlas_entry(X: Edges) -> dict[str, Any]:
    """What a model keeps of the atlas: name and digest where the edges know it."""
    atlas = X.atlas if isinstance(X, EdgeStore) else None
    return {
        "name": None if atlas is None else atlas.name,
        "digest": None if atlas is None else atlas.digest,
        "n_edges": int(X.shape[1]),
    }


def require_atlas(entry: dict[str, Any], X: Edges) -> None:
    """Refuse edges of another number, or of an atlas known to be another."""
    if X.shape[1] != entry["n_edges"]:
        raise AtlasError(
            f"expected the {entry['n_edges']} edges the model was fitted with, found"
            f" {X.shape[1]}; take the same atlas"
        )
    found: Atlas | None = X.atlas if isinstance(X, EdgeStore) else None
    if found is not None and entry["digest"] not in (None, found.digest):
        raise AtlasError(
            f"expected atlas {entry['name']} ({entry['digest'][:12]}) the model was fitted with,"
            f" found {found.name} ({found.digest[:12]}); take the same ROIs in the same order"
        )


def outer_blocks(X: Edges) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Edges as they are read: their slice and the values, a scan's side by side.

    Of an array in C order a view.
    """
    for edges in edge_blocks(X):
        block = read_block(X, edges)
        adjacent = block.strides[1] == block.itemsize
        yield edges, block if adjacent else np.ascontiguousarray(block)


def inner_blocks(view: NDArray[Any]) -> list[slice]:
    """Slices of a block's columns that are worked on at once."""
    return edge_blocks(view, max(32, INNER_VALUES // max(1, len(view))))


def prepare_output(out: Any, X: Edges) -> Edges:
    """Where harmonized edges go: `out` if it fits, else a new array of float64."""
    if out is None:
        return np.empty(X.shape, np.float64)
    if tuple(out.shape) != tuple(X.shape):
        raise HarmonizeError(f"expected out of shape {tuple(X.shape)}, found {tuple(out.shape)}")
    if isinstance(out, EdgeStore):
        if isinstance(X, EdgeStore):
            X.atlas.require_same(out.atlas)
        return out
    if not isinstance(out, np.ndarray) or out.dtype not in (np.float32, np.float64):
        raise HarmonizeError("expected out to be a float array or an EdgeStore, found neither")
    return out


def refuse_missing(X: Edges, edges: slice) -> NoReturn:
    """Say where the values are that are not finite. Called once some were noticed."""
    scan, edge = np.nonzero(~np.isfinite(read_block(X, edges)))
    if not len(scan):
        raise HarmonizeError(
            f"expected Fisher z, found values whose squares overflow in edges {edges.start} to"
            f" {edges.stop - 1}; check the unit"
        )
    raise HarmonizeError(
        f"expected finite values, found {len(scan)} that are not among edges {edges.start} to"
        f" {edges.stop - 1} (first: scan {scan[0]}, edge {edges.start + edge[0]});"
        " leave these edges or scans out"
    )
