"""One scan of a cohort: its edges, its length and motion, and what is wrong with it.

A source (`offline.cohort.sources` and its siblings) gives one scan at a time, so that any worker
can read any of them. It travels to workers as paths and settings. What is wrong with one scan is
told in the scan, and excludes it; what is wrong with the whole statement (atlas, kind) is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort.matrices import Kind, edges_of_matrix
from offline.errors import CohortError, ScaleError
from offline.fc import fc_edges

__all__ = [
    "Censoring",
    "Entry",
    "Scan",
    "Source",
    "scan_of_matrix",
    "scan_of_series",
    "stamp_of",
]

MAX_TR_S = 20.0
"""Longer ones are milliseconds."""

Float32 = NDArray[np.float32]


class Entry(NamedTuple):
    """One row of the participants table, as a source is asked for it."""

    participant: str
    session: str
    file: str
    row: int
    stamp: str = ""


@dataclass(frozen=True)
class Scan:
    """One scan's edges and what is known of its length and motion.

    Attributes
    ----------
    z : ndarray of float32, shape (n_edges,), or None
        Fisher z; NaN at missing ROIs. None if there is a fault.
    n_volumes, n_used : int
        Volumes in all, and those not censored; 0 for a matrix.
    mean_fd : float
        Mean framewise displacement, mm; NaN if not known here.
    minutes : float
        Of the volumes used; NaN if not known here.
    fault : str
        Why the scan cannot be used; "" if it can.
    note : str
        What was done to it that a reader should know; "" for nothing.
    """

    z: Float32 | None
    n_volumes: int = 0
    n_used: int = 0
    mean_fd: float = float("nan")
    minutes: float = float("nan")
    fault: str = ""
    note: str = ""


class Source(Protocol):
    """What a cohort is built from."""

    @property
    def atlas(self) -> Atlas:
        """The ROIs of every array."""

    def stamp(self, entry: Entry) -> str:
        """Changes when the entry's file does."""

    def read(self, entry: Entry) -> Scan:
        """One scan; errors that are not of this scan alone are raised."""


@dataclass(frozen=True)
class Censoring:
    """Which volumes of a series count, and how long they are.

    Attributes
    ----------
    tr_s : float or None
        Repetition time, s; None if not known (minutes are then not known either).
    fd_limit_mm : float or None
        Volumes of a larger framewise displacement are censored; None censors none.
    misaligned : {"exclude", "keep"}
        What becomes of a scan whose displacements do not line up with its volumes, so that it
        cannot be censored: excluded, or kept as it is, with a note.

    Raises
    ------
    CohortError
        If a number is none that a scan can have.
    """

    tr_s: float | None = None
    fd_limit_mm: float | None = None
    misaligned: Literal["exclude", "keep"] = "exclude"

    def __post_init__(self) -> None:
        if self.tr_s is not None and not 0.0 < self.tr_s <= MAX_TR_S:
            raise CohortError(
                f"expected a repetition time above 0 and up to {MAX_TR_S:g} s, found"
                f" {self.tr_s:g} s; give seconds"
            )
        if self.fd_limit_mm is not None and not 0.0 < self.fd_limit_mm < np.inf:
            raise CohortError(
                "expected a limit of framewise displacement above 0 mm, found"
                f" {self.fd_limit_mm:g} mm; leave it out for none"
            )

    def weights(
        self, n_volumes: int, fd: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64] | None, str]:
        """Weights of the volumes, or None for all; and a note or, if it starts with !, a fault."""
        if self.fd_limit_mm is None:
            return None, ""
        aligned = None if fd is None else _aligned(fd, n_volumes)
        if aligned is None:
            found = "no displacements" if fd is None else f"{len(fd)} displacements"
            told = f"{found} for {n_volumes} volumes, cannot be censored"
            return None, told if self.misaligned == "keep" else f"!{told}"
        with np.errstate(invalid="ignore"):
            return (aligned <= self.fd_limit_mm).astype(np.float64), ""


def scan_of_series(
    series: NDArray[Any],
    fd: NDArray[Any] | None,
    atlas: Atlas,
    censoring: Censoring,
    note: str = "",
) -> Scan:
    """Edges of ROI signals (n_volumes, n_rois) without the volumes that are censored."""
    fd = None if fd is None else np.asarray(fd, np.float64).reshape(-1)
    mean_fd = float(np.nanmean(fd)) if fd is not None and np.isfinite(fd).any() else float("nan")
    weights, told = censoring.weights(len(series), fd)
    n_used = len(series) if weights is None else int(np.count_nonzero(weights))
    minutes = n_used * censoring.tr_s / 60.0 if censoring.tr_s else float("nan")
    about = (len(series), n_used, mean_fd, minutes)
    if told.startswith("!"):
        return Scan(None, *about, fault=told[1:])
    try:
        z = fc_edges(series, weights, atlas.labels)
    except CohortError as error:
        return Scan(None, *about, fault=str(error))
    return Scan(z, *about, note="; ".join(filter(None, (note, told))))


def scan_of_matrix(
    values: NDArray[Any], kind: Kind, atlas: Atlas, where: str, note: str = ""
) -> Scan:
    """Edges of a connectivity matrix or of a vector of edges."""
    if kind == "series":
        raise ScaleError(f"{where}: expected kind r or z for a matrix, found series; state which")
    z = edges_of_matrix(values, kind, atlas, where).astype(np.float32)
    if kind == "z" and bool((np.abs(z[np.isfinite(z)]) < 1.0).all()):
        note = "; ".join(filter(None, (note, "all |z| < 1: taken for z as stated, could be r")))
    return Scan(z, note=note)


def stamp_of(path: Path) -> str:
    """Size and time of a file; "" if there is none."""
    try:
        about = path.stat()
    except OSError:
        return ""
    return f"{about.st_size}-{about.st_mtime_ns}"


def _aligned(fd: NDArray[Any], n_volumes: int) -> NDArray[Any] | None:
    """Displacement of each volume; that of the first is 0 where only differences are given."""
    if len(fd) == n_volumes:
        return np.where(np.arange(n_volumes) == 0, np.nan_to_num(fd), fd)
    if len(fd) == n_volumes - 1:
        return np.concatenate(([0.0], fd))
    return None
