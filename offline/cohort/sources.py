"""Where the arrays of a cohort come from: files, archives, one table for all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from offline.cohort.matrices import Kind
from offline.cohort.scans import (
    Censoring,
    Entry,
    Scan,
    Source,
    scan_of_matrix,
    scan_of_series,
    stamp_of,
)
from offline.errors import CohortError

__all__ = ["ArraySource", "TableSource", "open_source"]


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
    censoring: Censoring = field(default_factory=Censoring)

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
