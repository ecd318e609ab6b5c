"""Atlas identity: which ROIs an array has, in which order.

An array without the names of its columns is a table of numbers. Every array of the offline side
goes with an `Atlas`; two arrays are put together only if their atlases have the same labels in
the same order, which the digest says in one comparison. An atlas's own name is for people and
takes no part in it: the same labels in the same order are the same atlas.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.errors import AtlasError

__all__ = ["EDGE_JOINT", "LABEL_COLUMNS", "Atlas", "numbered", "rois_of_edges"]

EDGE_JOINT = "--"
"""Between the two ROIs of an edge's name."""

LABEL_COLUMNS = ("name", "label", "labels", "roi", "region")
"""Columns of an atlas table that may hold the labels, the first one found is taken."""


@dataclass(frozen=True)
class Atlas:
    """ROIs in the order of the columns of every array they belong to.

    Attributes
    ----------
    name : str
        For people: which parcellation this is.
    labels : tuple of str
        ROI labels in order; each once, none empty.

    Raises
    ------
    AtlasError
        If there are fewer than two labels, or one is empty or repeated.

    Examples
    --------
    >>> Atlas("three", ("A", "B", "C")).edge_names()
    ('A--B', 'A--C', 'B--C')
    """

    name: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if len(self.labels) < 2:
            raise AtlasError(
                f"atlas {self.name}: expected at least two ROI labels, found"
                f" {len(self.labels)}; give one label a column of the arrays"
            )
        seen: set[str] = set()
        for place, label in enumerate(self.labels):
            if not isinstance(label, str) or not label.strip():
                raise AtlasError(
                    f"atlas {self.name}: expected a name for ROI {place}, found {label!r};"
                    " name every ROI"
                )
            if label in seen:
                raise AtlasError(
                    f"atlas {self.name}: expected every label once, found {label!r} again at ROI"
                    f" {place}; give it another name"
                )
            seen.add(label)

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return len(self.labels)

    @property
    def n_edges(self) -> int:
        """Number of ROI pairs."""
        return self.n_rois * (self.n_rois - 1) // 2

    @property
    def digest(self) -> str:
        """SHA-256 of the labels in their order; the atlas's name takes no part in it."""
        text = json.dumps(list(self.labels), ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def edges(self) -> NDArray[np.int64]:
        """ROI pairs of all edges, shape (n_edges, 2): upper triangle, row-major, k=1."""
        # here, since it brings the loop's compiler, 150 MB that most users of an atlas never need
        from rtloop.connectivity import edge_pairs

        return edge_pairs(self.n_rois)

    def edge_names(self) -> tuple[str, ...]:
        """Names of all edges, `A--B`, in the order of `edges`."""
        return tuple(f"{self.labels[a]}{EDGE_JOINT}{self.labels[b]}" for a, b in self.edges())

    def edge_places(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Places of edges named `A--B`, in either order of their ROIs.

        Raises
        ------
        AtlasError
            If there is no such edge.
        """
        own = self.edge_names()
        known = {name: place for place, name in enumerate(own)}
        places = []
        for name in names:
            turned = EDGE_JOINT.join(reversed(name.split(EDGE_JOINT)))
            place = known.get(name, known.get(turned))
            if place is None:
                raise AtlasError(
                    f"expected an edge of atlas {self.name} such as {own[0]}, found {name!r}"
                )
            places.append(place)
        return np.array(places, np.int64)

    def require_same(self, other: Atlas) -> None:
        """Refuse an atlas with other ROIs or another order.

        Raises
        ------
        AtlasError
            Naming the counts, the first ROI that differs, or that only the order does.
        """
        if self.labels == other.labels:
            return
        if self.n_rois != other.n_rois:
            raise AtlasError(
                f"expected the {self.n_rois} ROIs of atlas {self.name}, found the {other.n_rois}"
                f" of {other.name}; take arrays of one atlas"
            )
        place = next(
            k for k, (a, b) in enumerate(zip(self.labels, other.labels, strict=True)) if a != b
        )
        order = set(self.labels) == set(other.labels)
        raise AtlasError(
            f"expected ROI {place} of atlas {self.name} to be {self.labels[place]!r}, found"
            f" {other.labels[place]!r} in {other.name}"
            + (" (the same ROIs in another order)" if order else "")
            + "; take arrays of one atlas in one order"
        )

    def order_of(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Columns to take from an array with `labels` so that they are in this atlas's order.

        Parameters
        ----------
        labels : sequence of str
            Labels of the array's columns, in any order.

        Returns
        -------
        ndarray of int64, shape (n_rois,)
            `array[:, order]` has this atlas's order.

        Raises
        ------
        AtlasError
            If the labels are not a permutation of this atlas's.
        """
        places = {label: place for place, label in enumerate(labels)}
        missing = [label for label in self.labels if label not in places]
        extra = [label for label in labels if label not in set(self.labels)]
        if missing or extra or len(places) != len(labels):
            told = [
                f"without {_some(missing)}" if missing else "",
                f"with {_some(extra)}" if extra else "",
                "" if len(places) == len(labels) else "with repeated names",
            ]
            raise AtlasError(
                f"expected columns for the {self.n_rois} ROIs of atlas {self.name}, found"
                f" {len(labels)} {' and '.join(filter(None, told))}; name them as the atlas does"
            )
        return np.array([places[label] for label in self.labels], np.int64)

    def without(self, labels: Iterable[str]) -> Atlas:
        """The atlas without these ROIs; its name says how many are left out."""
        out = set(labels)
        unknown = out - set(self.labels)
        if unknown:
            raise AtlasError(
                f"expected ROIs of atlas {self.name}, found {_some(sorted(unknown))}; check names"
            )
        kept = tuple(label for label in self.labels if label not in out)
        return self if not out else Atlas(f"{self.name} without {len(out)}", kept)

    def as_json(self) -> dict[str, Any]:
        """What files keep of an atlas: name, labels and, to be checked, the digest."""
        return {"name": self.name, "labels": list(self.labels), "digest": self.digest}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Atlas:
        """The atlas `as_json` wrote.

        Raises
        ------
        AtlasError
            If the digest is not that of the labels: the file was changed.
        """
        atlas = cls(str(entries["name"]), tuple(entries["labels"]))
        if entries.get("digest", atlas.digest) != atlas.digest:
            raise AtlasError(
                f"atlas {atlas.name}: expected labels of digest {entries['digest'][:12]}, found"
                f" {atlas.digest[:12]}; the file was changed, write it anew"
            )
        return atlas

    @classmethod
    def load(cls, path: str | Path, name: str | None = None) -> Atlas:
        """Read labels from a table, a list or JSON.

        Parameters
        ----------
        path : str or Path
            `.tsv` or `.csv`: one ROI a row, in the order of the arrays' columns, labels in the
            first column found of `LABEL_COLUMNS`; names that repeat are numbered `.1`, `.2`.
            `.json`: as written by `as_json`. Anything else: one label a line.
        name : str or None
            The atlas's name; None for the file's.

        Raises
        ------
        AtlasError
            If the file cannot be read or has no labels.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise AtlasError(
                f"atlas {path}: expected a readable table of labels, found {_reason(error)};"
                " check the path"
            ) from error
        if path.suffix == ".json":
            try:
                return cls.from_json(json.loads(text))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise AtlasError(
                    f"atlas {path}: expected JSON with a name and labels, found {error}; write it"
                    " as Atlas.as_json does"
                ) from error
        name = name or path.name.partition(".")[0]
        if path.suffix in (".tsv", ".csv"):
            return cls(name, numbered(_column(text, path)))
        return cls(name, numbered([line.strip() for line in text.splitlines() if line.strip()]))


def numbered(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels with repeated ones numbered `.1`, `.2` from their second time on.

    Examples
    --------
    >>> numbered(["A", "B", "A"])
    ('A', 'B', 'A.1')
    """
    taken = set(labels)
    seen: set[str] = set()
    unique = []
    for label in labels:
        name, times = label, 0
        while name in seen or (times and name in taken):
            times += 1
            name = f"{label}.{times}"
        seen.add(name)
        unique.append(name)
    return tuple(unique)


def rois_of_edges(n_edges: int) -> int | None:
    """ROIs that have this many pairs; None if no number of ROIs does.

    Examples
    --------
    >>> rois_of_edges(9730), rois_of_edges(9731)
    (140, None)
    """
    n_rois = int((1 + (1 + 8 * n_edges) ** 0.5) / 2 + 0.5)
    return n_rois if n_rois * (n_rois - 1) // 2 == n_edges else None


def _column(text: str, path: Path) -> list[str]:
    rows = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ",")
    columns = rows.fieldnames or []
    named = next((column for column in LABEL_COLUMNS if column in columns), None)
    if named is None:
        raise AtlasError(
            f"atlas {path}: expected a column {' or '.join(LABEL_COLUMNS)}, found"
            f" {', '.join(columns) or 'none'}; name the column of labels so"
        )
    return [(row[named] or "").strip() for row in rows]


def _some(labels: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(repr(label) for label in labels[:most])
    return shown if len(labels) <= most else f"{shown} and {len(labels) - most} more"


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "no UTF-8 text"
