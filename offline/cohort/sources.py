"""Where the arrays of a cohort come from: files, archives, one table for all.

A source knows its atlas and gives one scan at a time, so that any worker can read any of them. It
travels to workers as paths and settings. What is wrong with one scan is told in the scan, and
excludes it; what is wrong with the whole statement (atlas, kind) is an error.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort.arrays import (
    ABOUT_VARIABLES,
    ARCHIVES,
    Array,
    array_of,
    labels_of,
    load_array,
    matched,
    variables,
)
from offline.cohort.matrices import Kind, edges_of_matrix
from offline.errors import CohortError, ScaleError
from offline.fc import fc_edges

__all__ = [
    "ArraySource",
    "Censoring",
    "Entry",
    "Scan",
    "Source",
    "TableSource",
    "open_source",
    "scan_of_series",
    "stamp_of",
]

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
    """

    tr_s: float | None = None
    fd_limit_mm: float | None = None
    misaligned: Literal["exclude", "keep"] = "exclude"

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


@dataclass(frozen=True)
class ArraySource:
    """One array a scan: a file in a folder, or a variable in an archive.

    Attributes
    ----------
    path : Path
        Folder of files, or an `.npz` or `.mat` archive.
    atlas : Atlas
        The ROIs.
    kind : {"series", "r", "z"}
        What the arrays are; series are (n_volumes, n_rois).
    pattern : str
        File below the folder, or variable of the archive, with `{participant}` and `{session}`.
        A row of the table that names a file goes before it.
    fd_pattern : str
        The same for framewise displacement, mm; "" for none.
    drop : tuple of str
        Named columns that are no ROIs.
    censoring : Censoring
        For series.
    """

    path: Path
    atlas: Atlas
    kind: Kind
    pattern: str = "{participant}"
    fd_pattern: str = ""
    drop: tuple[str, ...] = ()
    censoring: Censoring = Censoring()

    def stamp(self, entry: Entry) -> str:
        return stamp_of(self.path if self._archive else self._file(entry, self.pattern))

    def read(self, entry: Entry) -> Scan:
        try:
            array = self._array(entry, self.pattern)
            fd = self._array(entry, self.fd_pattern).values if self.fd_pattern else None
        except CohortError as error:
            return Scan(None, fault=str(error))
        where = f"{self.path.name}, participant {entry.participant}"
        values, note = matched_edges(array, self.atlas, self.kind, self.drop, where)
        if self.kind == "series":
            return scan_of_series(values, fd, self.atlas, self.censoring, note)
        return scan_of_matrix(values, self.kind, self.atlas, where, note)

    @property
    def _archive(self) -> bool:
        return self.path.suffix.lower() in ARCHIVES

    def _file(self, entry: Entry, pattern: str) -> Path:
        if entry.file and pattern == self.pattern:
            return self.path / entry.file
        return self.path / _filled(pattern, entry)

    def _array(self, entry: Entry, pattern: str) -> Array:
        if not self._archive:
            return load_array(self._file(entry, pattern))
        name = entry.file if entry.file and pattern == self.pattern else _filled(pattern, entry)
        names = (name, f"sub-{name}", *ABOUT_VARIABLES)
        held = variables(self.path, names)
        for candidate in names[:2]:
            if candidate in held:
                return array_of(held, candidate, self.path)
        raise CohortError(f"no variable {name} in {self.path.name}")


@dataclass(frozen=True)
class TableSource:
    """One array for all: its first axis are the rows of the participants table.

    Attributes
    ----------
    path : Path
        File of an array (n_scans, n_edges) or (n_scans, n_rois, n_rois).
    atlas : Atlas
        The ROIs.
    kind : {"r", "z"}
        What the numbers are.
    n_scans : int
        Rows of the participants table, which the array must have.
    variable : str or None
        Which array of an archive.
    """

    path: Path
    atlas: Atlas
    kind: Kind
    n_scans: int
    variable: str | None = None

    def stamp(self, entry: Entry) -> str:
        return stamp_of(self.path)

    def read(self, entry: Entry) -> Scan:
        values, n_rows = _row(self.path, self.variable, entry.row)
        if n_rows != self.n_scans:
            raise CohortError(
                f"{self.path}: expected one row for each of {self.n_scans} scans of the table,"
                f" found {n_rows}; give both in one order"
            )
        where = f"{self.path.name}, row {entry.row + 1}"
        return scan_of_matrix(values, self.kind, self.atlas, where)


def open_source(
    path: str | Path,
    kind: Kind,
    atlas: Atlas | None,
    n_scans: int,
    *,
    pattern: str | None = None,
    fd_pattern: str = "",
    variable: str | None = None,
    drop: Sequence[str] = (),
    censoring: Censoring | None = None,
) -> Source:
    """The source a path stands for: a folder, an archive, or one table for all.

    Parameters
    ----------
    path : str or Path
        A folder, or an archive without `variable`: one array a scan. A file of one array, or an
        archive with `variable`: its rows are the scans.
    kind : {"series", "r", "z"}
        What the arrays are.
    atlas : Atlas or None
        The ROIs; None takes the names an archive holds in `columns` or `labels`.
    n_scans : int
        Rows of the participants table.
    pattern : str or None
        As that of `ArraySource`; None is `{participant}` for an archive and `{participant}.npy`
        for a folder.
    fd_pattern : str
        As that of `ArraySource`.
    variable : str or None
        Array of an archive that holds all scans.
    drop : sequence of str
        Named columns that are no ROIs.
    censoring : Censoring or None
        For series; None censors nothing and knows no repetition time.

    Raises
    ------
    CohortError
        If there is nothing at `path`, no atlas, or series were said to be in one table.
    """
    path = Path(path)
    if not path.exists():
        raise CohortError(f"arrays {path}: expected a file or folder, found none; check the path")
    atlas = atlas or _own_atlas(path, tuple(drop))
    archive = path.suffix.lower() in ARCHIVES and variable is None
    if path.is_dir() or archive:
        usual = "{participant}" if archive else "{participant}.npy"
        return ArraySource(
            path,
            atlas,
            kind,
            pattern or usual,
            fd_pattern,
            tuple(drop),
            censoring or Censoring(),
        )
    if kind == "series":
        raise CohortError(
            f"arrays {path}: expected series in a folder or archive, one array a scan, found one"
            " file; state kind r or z if it holds connectivity"
        )
    return TableSource(path, atlas, kind, n_scans, variable)


def matched_edges(
    array: Array, atlas: Atlas, kind: Kind, drop: Sequence[str], where: str
) -> tuple[NDArray[Any], str]:
    """Values in the atlas's order; a vector of edges has none of its own to compare."""
    if kind != "series" and array.values.reshape(-1).shape == (atlas.n_edges,):
        return array.values.reshape(-1), ""
    return matched(array, atlas, drop, where, matrix=kind != "series")


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


_tables: dict[tuple[str, str | None, str], NDArray[Any]] = {}
_reading = threading.Lock()


def _row(path: Path, variable: str | None, row: int) -> tuple[NDArray[Any], int]:
    """One row of a table, and how many there are; `.npy` is not read whole for it."""
    if path.suffix.lower() == ".npy":
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CohortError(f"array {path}: expected numbers, found {error}") from error
        return np.array(mapped[row]) if row < len(mapped) else np.zeros(0), len(mapped)
    key = (str(path), variable, stamp_of(path))
    with _reading:
        if key not in _tables:
            _tables.clear()  # one at a time: they are large
            _tables[key] = load_array(path, variable).values
        table = _tables[key]
    return table[row] if row < len(table) else np.zeros(0), len(table)


def _filled(pattern: str, entry: Entry) -> str:
    try:
        return pattern.format(participant=entry.participant, session=entry.session)
    except (KeyError, IndexError, ValueError) as error:
        raise CohortError(
            f"expected a pattern with {{participant}} and {{session}}, found {pattern!r}; correct"
            " it"
        ) from error


def _aligned(fd: NDArray[Any], n_volumes: int) -> NDArray[Any] | None:
    """Displacement of each volume; that of the first is 0 where only differences are given."""
    if len(fd) == n_volumes:
        return np.where(np.arange(n_volumes) == 0, np.nan_to_num(fd), fd)
    if len(fd) == n_volumes - 1:
        return np.concatenate(([0.0], fd))
    return None


def _own_atlas(path: Path, drop: tuple[str, ...]) -> Atlas:
    """Atlas of the names an archive or a table holds."""
    held = variables(path, ABOUT_VARIABLES) if path.suffix.lower() in ARCHIVES else {}
    labels = labels_of(held)[0]
    if labels is None:
        raise CohortError(
            f"arrays {path}: expected an atlas, found no names of ROIs in it; give the atlas's"
            " table"
        )
    return Atlas(path.stem, tuple(label for label in labels if label not in drop))
