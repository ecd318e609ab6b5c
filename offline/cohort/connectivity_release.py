"""The SRPBS connectivity release: 140 ROIs, 9,730 edges (Tanaka et al. 2021).

One folder an institution, in it `.mat` files of one person a row and `SUBINFO_*.tsv` with the same
rows (doi:10.1038/s41597-021-01004-8). What others' columns and codes mean is in the tables below
and nowhere else.

The release needs an application and was not at hand: this is tested on files of the same layout
with made-up values. Taken from public code that reads the real files: folders and variables;
correlations as the strict lower triangle column by column, which is our order of edges; no ids in
the matrices, but rows in the order of the table beside them; `Diagnosis` of Showa (0 healthy, 2
schizophrenia) and of Hiroshima (codes in the heading); files of 93 and 116 ROIs beside those of
140; one file of text called `.mat`. Not verified: headings and codes of the other institutions'
tables. A heading that is not known leaves its column missing, a code that is not known is kept as
it is, and both are noted.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas, rois_of_edges
from offline.cohort.arrays import variables
from offline.cohort.people import MISSING, People, read_people
from offline.cohort.releases import SEX_CODES, text_table
from offline.cohort.scans import Entry, Scan, scan_of_matrix, stamp_of
from offline.errors import CohortError

__all__ = [
    "BAL_ROIS",
    "CODES_OF",
    "COLUMN_STARTS",
    "FOLDER_DIAGNOSES",
    "ConnectivityRelease",
    "ReleaseSource",
    "read_connectivity",
]

BAL_ROIS = 140
"""BrainVISA Sulci Atlas (137) and three of the cerebellum."""

COLUMN_STARTS: dict[str, tuple[str, ...]] = {
    "participant": ("participant_id", "subject_id", "subjid", "subject", "id"),
    "diagnosis": ("diagnosis", "diag", "condition"),
    "age": ("age",),
    "sex": ("sex", "gender"),
    "site": ("site",),
    "scanner": ("protocol", "scanner"),
}
"""Columns of `SUBINFO_*.tsv`: ours to what their heading may begin with."""

CODES_OF = {"ShowaU": {"0": "HC", "2": "SCZ"}}
"""Codes of an institution's `Diagnosis` where the heading does not say them."""

FOLDER_DIAGNOSES = {
    "HC": "HC",
    "00": "HC",
    "DEP": "MDD",
    "MDD": "MDD",
    "02": "MDD",
    "OCD": "OCD",
    "OCDPATIENTS": "OCD",
    "SSD": "SCZ",
    "SCZ": "SCZ",
    "04": "SCZ",
    "ASD": "ASD",
}
"""The diagnosis of a whole file, by a part of its path; the last such part counts."""

WORDS = {"healthy": "HC", "control": "HC", "depression": "MDD", "schizophrenia": "SCZ"}
"""Words of a heading's codes, such as `Diagnosis(Healthy=1, Depression=2)`."""


@dataclass(frozen=True)
class ReleaseSource:
    """Rows of the connectivity release's matrices.

    An entry's file is `path::variable::row` below the root.

    Attributes
    ----------
    root : Path
        Folder of the institutions.
    atlas : Atlas
        The 140 ROIs.
    """

    root: Path
    atlas: Atlas

    def stamp(self, entry: Entry) -> str:
        return stamp_of(self.root / entry.file.split("::")[0])

    def read(self, entry: Entry) -> Scan:
        name, variable, row = entry.file.split("::")
        values = _matrix(self.root / name, variable)
        return scan_of_matrix(values[int(row)], "r", self.atlas, f"{name}, row {int(row) + 1}")


@dataclass(frozen=True)
class ConnectivityRelease:
    """What is in a copy of the connectivity release.

    Attributes
    ----------
    people : People
        One row for each row of each matrix.
    source : ReleaseSource
        Their edges.
    notes : tuple of str
        Files that were not taken and why; headings and codes that are not known.
    """

    people: People
    source: ReleaseSource
    notes: tuple[str, ...]


def read_connectivity(root: str | Path) -> ConnectivityRelease:
    """Find the 140-ROI matrices of the connectivity release with the people they are of.

    Parameters
    ----------
    root : str or Path
        Folder of the institutions, each with `.mat` files and `SUBINFO_*.tsv`.

    Returns
    -------
    ConnectivityRelease
        Consent is `restricted-fc` for all: what this release was given for.

    Raises
    ------
    CohortError
        If there is no such matrix, or one without a table of as many people.
    """
    root = Path(root)
    rows: list[dict[str, str]] = []
    notes: list[str] = []
    for path, variable, n_scans, n_edges in _matrices(root, notes):
        name = path.relative_to(root).as_posix()
        n_rois = rois_of_edges(n_edges)
        if n_rois != BAL_ROIS:
            told = f"{n_rois} ROIs" if n_rois else f"{n_edges} columns"
            notes.append(f"{name}: {told}, not the {BAL_ROIS} of this release's atlas")
            continue
        table = _table_of(path, root, n_scans)
        rows += _people_of(table, path, root, f"{name}::{variable}", notes)
    if not rows:
        raise CohortError(
            f"release {root}: expected .mat files of {BAL_ROIS * (BAL_ROIS - 1) // 2} edges, found"
            " none; give the folder that holds the institutions' folders"
        )
    frame = pd.DataFrame(rows).fillna("n/a")
    labels = _bal_labels(root)
    if labels is None:
        notes.append("ROITBL_BAL.mat not found: ROIs are called BAL001..BAL140")
    atlas = Atlas("BAL-140", labels or tuple(f"BAL{k:03d}" for k in range(1, BAL_ROIS + 1)))
    people = read_people(frame)
    return ConnectivityRelease(people, ReleaseSource(root, atlas), tuple(dict.fromkeys(notes)))


def _matrices(root: Path, notes: list[str]) -> Iterator[tuple[Path, str, int, int]]:
    """Every matrix of rows of edges below the root: file, variable, shape."""
    for path in sorted(root.rglob("*.mat")):
        if path.name.startswith("ROITBL"):
            continue
        held = {name: value for name, value in _held(path).items() if value.ndim == 2}
        held = {name: value for name, value in held.items() if value.dtype.kind == "f"}
        if not held:
            notes.append(f"{path.relative_to(root).as_posix()}: no matrix of numbers")
            continue
        variable = max(held, key=lambda name: held[name].shape[1])
        yield path, variable, *held[variable].shape


def _held(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a `.mat`; one of the release's is text under that name."""
    with path.open("rb") as file:
        if file.read(6) == b"MATLAB":
            return variables(path)
    try:
        return {"text": np.loadtxt(path, comments="#", ndmin=2)}
    except ValueError:
        return variables(path)


_last: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}
_reading = threading.Lock()


def _matrix(path: Path, variable: str) -> NDArray[Any]:
    """A matrix, kept until another file is asked for: rows are read one after another."""
    key = (str(path), stamp_of(path))
    with _reading:
        if key not in _last:
            _last.clear()
            _last[key] = _held(path)
        return _last[key][variable]


def _table_of(path: Path, root: Path, n_scans: int) -> pd.DataFrame:
    """The SUBINFO table of as many people, in the matrix's folder or one above."""
    folder, found = path.parent, []
    while True:
        tables = [(file, text_table(file)) for file in sorted(folder.glob("SUBINFO*.tsv"))]
        found = [(file, table) for file, table in tables if len(table) == n_scans]
        if found or folder in (root, root.parent):
            break
        folder = folder.parent
    named = [
        pair for pair in found if _shared(pair[0], path) == max(_shared(f, path) for f, _ in found)
    ]
    if len(named) != 1:
        told = ", ".join(file.name for file, _ in named) or "none"
        raise CohortError(
            f"release {path.relative_to(root).as_posix()}: expected one SUBINFO_*.tsv of {n_scans}"
            f" people beside it, found {told}; keep both as released"
        )
    return named[0][1]


def _shared(a: Path, b: Path) -> int:
    """Parts of two file names that are the same."""
    parts = [set(re.split(r"[_\-.]", path.stem.lower())) for path in (a, b)]
    return len(parts[0] & parts[1])


def _people_of(
    table: pd.DataFrame, path: Path, root: Path, file: str, notes: list[str]
) -> list[dict[str, str]]:
    """Rows of our table for the rows of one matrix."""
    institution = path.relative_to(root).parts[0] if path.parent != root else root.name
    columns = {ours: _heading(table, theirs) for ours, theirs in COLUMN_STARTS.items()}
    unknown = [ours for ours, theirs in columns.items() if theirs is None and ours != "scanner"]
    if unknown:
        notes.append(f"{file.split('::')[0]}: no column known for {', '.join(unknown)}")
    diagnose = _diagnoses(columns["diagnosis"], institution, path.relative_to(root), notes)
    rows = []
    for k in range(len(table)):
        cells = {
            ours: str(table[theirs].iloc[k]) if theirs is not None else "n/a"
            for ours, theirs in columns.items()
        }
        own = cells["participant"]
        who = re.sub(r"[\s/\\]+", "-", f"{k + 1:04d}" if own.lower() in MISSING else own)
        site = cells["site"]
        rows.append(
            {
                **cells,
                "participant": f"{institution}-{who.removeprefix('sub-')}",
                "site": institution if site.lower() in MISSING else f"{institution}-{site}",
                "diagnosis": diagnose(cells["diagnosis"]),
                "sex": SEX_CODES.get(cells["sex"], cells["sex"]),
                "consent": "restricted-fc",
                "file": f"{file}::{k}",
            }
        )
    return rows


def _heading(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    for name in names:
        for column in table.columns:
            if re.match(rf"{name}(\W|_|$)", str(column).strip().lower()):
                return str(column)
    return None


def _diagnoses(
    heading: str | None, institution: str, path: Path, notes: list[str]
) -> Callable[[str], str]:
    """What turns an institution's code into a diagnosis."""
    parts = re.split(r"[/_\-.]", path.as_posix().upper())
    parts = [re.sub(r"^\d+(?=[A-Z])", "", part) for part in parts]
    told = [FOLDER_DIAGNOSES[part] for part in parts if part in FOLDER_DIAGNOSES]
    of_file = told[-1] if told else None
    codes: dict[str, str] = dict(re.findall(r"([A-Za-z]+)\s*=\s*(\d+)", heading or ""))
    said = {code: WORDS.get(word.lower(), word) for word, code in codes.items()}
    known = said or CODES_OF.get(institution, {})

    def diagnose(code: str) -> str:
        if code in known:
            return known[code]
        if of_file is not None and (heading is None or code.isdigit() or code.lower() in MISSING):
            return of_file
        if code.isdigit():
            notes.append(f"{path.as_posix()}: diagnosis {code} is not known, kept as it is")
        return code

    return diagnose


def _bal_labels(root: Path) -> tuple[str, ...] | None:
    """Names of the 140 ROIs from the release's own table of ROIs."""
    for path in sorted(root.rglob("ROITBL_BAL.mat")):
        held = variables(path, ["ROI"])
        if "ROI" in held and held["ROI"].dtype.names and "name" in held["ROI"].dtype.names:
            names = list(_texts(held["ROI"]["name"]))
            if len(names) == BAL_ROIS:
                return tuple(names)
    return None


def _texts(value: Any) -> Iterator[str]:
    """All strings of nested MATLAB cells, in order."""
    if isinstance(value, np.ndarray):
        for cell in value.reshape(-1):
            yield from _texts(cell)
    else:
        yield str(value).strip()
