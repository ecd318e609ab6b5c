"""Cells of a table of trials as text under our names of columns, and what is refused of them.

A mistake is told with the row as an editor counts it, the file's own name of the column, what was
expected and what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from offline.errors import TaskError

__all__ = ["COLUMNS", "MISSING", "Cells", "read_table"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "participant": ("participant_id", "subject"),
    "task": (),
    "run": (),
    "order": ("trial_index",),
    "onset_s": ("onset",),
    "duration_s": ("duration",),
    "condition": ("trial_type",),
    "response_s": ("response_time_s", "response_time"),
    "correct": ("accuracy_binarized", "accuracy"),
}
"""Column of a trial table: the names it may have in a file, the first one found is taken."""

NEEDED = ("participant", "task", "onset_s", "condition", "response_s", "correct")
MISSING = ("n/a", "N/A", "NaN", "nan", "")


@dataclass(frozen=True)
class Cells:
    """Text of a file under our names of columns, NaN where missing; `theirs` are the file's."""

    text: pd.DataFrame
    theirs: Mapping[str, str]
    where: str

    @classmethod
    def of(
        cls,
        raw: pd.DataFrame,
        columns: Mapping[str, str],
        where: str,
        given: Mapping[str, str] | None = None,
    ) -> Cells:
        """Find the known columns; `given` are those that the file's name tells."""
        given = given or {}
        theirs = _known_columns(raw, columns, where, given)
        # a column that only has a name of ours, while another is meant, is not ours
        strange = [name for name in COLUMNS if name in raw and theirs.get(name) != name]
        named = raw.drop(columns=strange).rename(columns={b: a for a, b in theirs.items()})
        named = named.assign(**given)
        text = named.astype(str).map(str.strip, na_action="ignore")
        text["participant"] = text["participant"].str.removeprefix("sub-")
        if text.empty:
            raise TaskError(f"{where}: expected trials, found a header alone; leave the table out")
        return cls(text.mask(text.isin(MISSING)), theirs, where)

    def numbers(self, column: str) -> pd.Series:
        """One column as float64, NaN where missing."""
        values = pd.to_numeric(self.text[column], errors="coerce").astype(float)
        there = self.text[column].notna()
        self.refuse(there & ~np.isfinite(values), column, "a number or n/a")
        return values

    def refuse(self, wrong: pd.Series, column: str, expected: str) -> None:
        """Name the first row that is wrong, if one is."""
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            cell = self.text[column].iloc[at]
            raise TaskError(
                f"{self.where}: row {at + 2}, column {self.theirs.get(column, column)}: expected"
                f" {expected}, found {'n/a' if pd.isna(cell) else repr(cell)}; correct the table"
            )


def read_table(path: Path) -> pd.DataFrame:
    """Every cell as text."""
    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise TaskError(
            f"{path}: expected a table of trials with a header, found {reason}; check the file"
        ) from error


def _known_columns(
    raw: pd.DataFrame, columns: Mapping[str, str], where: str, given: Iterable[str]
) -> dict[str, str]:
    """The file's name of each known column that it has."""
    theirs = {}
    for ours, others in COLUMNS.items():
        names = (columns[ours],) if ours in columns else (ours, *others)
        found = next((name for name in names if name in raw.columns), None)
        if found is not None:
            theirs[ours] = found
        elif ours in NEEDED and ours not in given:
            raise TaskError(
                f"{where}: expected a column {' or '.join(names)}, found"
                f" {', '.join(map(str, raw.columns)) or 'none'}; add it, or say which it is"
            )
    return theirs
