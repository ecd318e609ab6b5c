"""Arrays as people keep them: npy, npz, csv, tsv and mat, with the ROI names they carry.

A file that names its columns is believed: its names must be the atlas's, and are brought into its
order. Nothing is ever unpickled.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort.people import MISSING
from offline.errors import AtlasError, CohortError

__all__ = [
    "ABOUT_VARIABLES",
    "ARCHIVES",
    "LABEL_VARIABLES",
    "Array",
    "array_of",
    "labels_of",
    "load_array",
    "matched",
    "variables",
]

ARCHIVES = (".npz", ".mat")
"""Files that hold several arrays by name."""

LABEL_VARIABLES = ("labels", "columns", "rois", "roi_names", "names")
"""Variables of an archive that name the ROIs."""

DIGEST_VARIABLE = "atlas_digest"
"""Variable of an archive that says of which atlas its arrays are, as `Atlas.digest` does."""

ABOUT_VARIABLES = (*LABEL_VARIABLES, DIGEST_VARIABLE)
"""Variables that are about the arrays."""


@dataclass(frozen=True)
class Array:
    """An array, and what its file says of its columns.

    Attributes
    ----------
    values : ndarray
        As it is in the file.
    labels : tuple of str or None
        Names of its columns, where the file has any.
    digest : str or None
        Digest of its atlas, where the file has one.
    """

    values: NDArray[Any]
    labels: tuple[str, ...] | None = None
    digest: str | None = None


def load_array(path: str | Path, variable: str | None = None) -> Array:
    """Read an array of numbers.

    Parameters
    ----------
    path : str or Path
        `.npy`, `.npz`, `.csv`, `.tsv` or `.mat` (up to MATLAB 7.2).
    variable : str or None
        Which array of an archive; None if it has only one that is not a name.

    Returns
    -------
    Array
        Floating point if it came as text.

    Raises
    ------
    CohortError
        If the file or the variable is missing, unreadable, or holds no numbers.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise CohortError(f"array {path}: expected a file, found none; check the path")
    if suffix in ARCHIVES:
        held = variables(path)
        return Array(_numbers(_chosen(held, variable, path), path), *labels_of(held))
    if suffix == ".npy":
        try:
            return Array(_numbers(np.load(path, allow_pickle=False), path))
        except (ValueError, EOFError) as error:
            raise CohortError(f"array {path}: expected numbers, found {error}") from error
    if suffix in (".csv", ".tsv"):
        return _table(path, "\t" if suffix == ".tsv" else ",")
    raise CohortError(
        f"array {path}: expected .npy, .npz, .csv, .tsv or .mat, found {suffix or 'no suffix'};"
        " convert it"
    )


def variables(path: str | Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of an archive by name.

    Parameters
    ----------
    path : str or Path
        `.npz` or `.mat`.
    names : sequence of str or None
        Those wanted, where they are there; None for all.

    Raises
    ------
    CohortError
        If the file cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() == ".mat":
        return _mat(path, names)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return {name: held[name] for name in held.files if names is None or name in names}
    except Exception as error:
        raise CohortError(
            f"array {path}: expected an npz of arrays, found {_line(error)}; write it anew"
        ) from error


def matched(
    array: Array, atlas: Atlas, drop: Sequence[str], where: str, matrix: bool = False
) -> tuple[NDArray[Any], str]:
    """The array with the atlas's columns in the atlas's order, and what was done for that.

    Parameters
    ----------
    array : Array
        ROIs in its last axis.
    atlas : Atlas
        Which ROIs are meant.
    drop : sequence of str
        Named columns that are no ROIs, such as a global signal.
    where : str
        The array's file, for messages.
    matrix : bool
        Whether the ROIs are in the last two axes.

    Raises
    ------
    AtlasError
        If the names, the digest or the number of columns are another atlas's.
    """
    if array.digest is not None and array.digest != atlas.digest:
        raise AtlasError(
            f"{where}: expected arrays of atlas {atlas.name} ({atlas.digest[:12]}), found those of"
            f" {array.digest[:12]}; take arrays of one atlas"
        )
    values, labels, told = array.values, array.labels, ""
    if labels is not None:
        if len(labels) != values.shape[-1]:
            raise AtlasError(
                f"{where}: expected a name for each of {values.shape[-1]} columns, found"
                f" {len(labels)}; correct the names"
            )
        kept = [k for k, label in enumerate(labels) if label not in drop]
        try:
            order = np.array(kept)[atlas.order_of([labels[k] for k in kept])]
        except AtlasError as error:
            raise AtlasError(f"{where}: {error}") from error
        if order.tolist() != list(range(len(labels))):
            values = values[..., order, :][..., order] if matrix else values[..., order]
        if order.tolist() != kept:
            told = "columns brought into the atlas's order by their names"
    if values.shape[-1] != atlas.n_rois:
        raise AtlasError(
            f"{where}: expected {atlas.n_rois} columns of atlas {atlas.name}, found"
            f" {values.shape[-1]}; name the columns, or give the atlas they are of"
        )
    return values, told


def array_of(held: Mapping[str, NDArray[Any]], name: str, path: Path) -> Array:
    """One array of an archive with what the archive says of its columns."""
    return Array(_numbers(held[name], path), *labels_of(held))


def labels_of(held: Mapping[str, NDArray[Any]]) -> tuple[tuple[str, ...] | None, str | None]:
    """Column names, and the digest of an atlas, that an archive holds beside its arrays."""
    labels = next((_strings(held[name]) for name in LABEL_VARIABLES if name in held), None)
    digest = _strings(held[DIGEST_VARIABLE]) if DIGEST_VARIABLE in held else None
    return labels or None, digest[0] if digest else None


def _mat(path: Path, names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    import scipy.io

    try:
        held = scipy.io.loadmat(path, variable_names=names, squeeze_me=False)
    except NotImplementedError as error:
        raise CohortError(
            f"array {path}: expected a MATLAB file up to version 7.2, found 7.3; save it in MATLAB"
            " with save(..., '-v7')"
        ) from error
    except Exception as error:
        raise CohortError(
            f"array {path}: expected a MATLAB file, found {_line(error)}; save it anew"
        ) from error
    return {name: value for name, value in held.items() if not name.startswith("__")}


def _chosen(held: dict[str, NDArray[Any]], variable: str | None, path: Path) -> NDArray[Any]:
    if variable is not None:
        if variable not in held:
            raise CohortError(
                f"array {path}: expected a variable {variable}, found {_names(held)}; check its"
                " name"
            )
        return held[variable]
    arrays = {
        name: value
        for name, value in held.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim >= 2
    }
    if len(arrays) != 1:
        raise CohortError(
            f"array {path}: expected one array of numbers, found {_names(arrays)}; say which"
            " variable it is"
        )
    return next(iter(arrays.values()))


def _strings(value: NDArray[Any]) -> tuple[str, ...]:
    """Text of an array of strings, or of a MATLAB cell array of strings."""
    flat = np.asarray(value).reshape(-1)
    cells = [cell.flat[0] if isinstance(cell, np.ndarray) and cell.size else cell for cell in flat]
    return tuple(str(cell).strip() for cell in cells)


def _numbers(values: Any, path: Path) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise CohortError(
            f"array {path}: expected real numbers, found {array.dtype}; save it as numbers"
        )
    return array


def _table(path: Path, separator: str) -> Array:
    """Text with or without a header, and with or without row names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file, delimiter=separator), [])
        named = any(_is_text(cell) for cell in first)
        frame = pd.read_csv(
            path,
            sep=separator,
            header=0 if named else None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError) as error:
        raise CohortError(f"array {path}: expected a table, found {_line(error)}") from error
    labels = tuple(cell.strip() for cell in first) if named else None
    if labels and len(frame) and _is_text(str(frame.iloc[0, 0])):
        rows = tuple(frame.iloc[:, 0].str.strip())
        frame, labels = frame.iloc[:, 1:], labels[1:]
        if len(rows) == len(labels) and rows != labels:
            raise AtlasError(
                f"array {path}: expected rows named like its columns, found {rows[0]!r} first"
                f" beside {labels[0]!r}; order both alike"
            )
    values = np.empty(frame.shape)
    for column in range(frame.shape[1]):
        for row, text in enumerate(frame.iloc[:, column]):
            values[row, column] = _cell(text, path, row + 1 + named, column)
    return Array(values, labels)


def _cell(text: str, path: Path, row: int, column: int) -> float:
    if text.strip().lower() in MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise CohortError(
            f"array {path}: row {row}, column {column + 1}: expected a number, found {text!r};"
            " correct it"
        ) from None


def _is_text(cell: str) -> bool:
    if cell.strip().lower() in MISSING - {""}:
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _names(held: dict[str, Any]) -> str:
    names = list(held)
    shown = ", ".join(names[:5]) or "none"
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
