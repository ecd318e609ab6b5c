"""The participants table: one row a scan, read and checked in one place.

Known columns are in `COLUMNS`, with the names other tables use for them. Every further column of
numbers is a symptom score; further columns of text are left out, and said to be. A mistake is
told with its row, column, what was expected and what was found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from offline.cohort.consent import tier_of
from offline.errors import CohortError

__all__ = [
    "COLUMNS",
    "DIAGNOSIS_JOINT",
    "MISSING",
    "NUMBERS",
    "WITHDRAWN",
    "People",
    "has_diagnosis",
    "plain_id",
    "read_people",
]

COLUMNS: dict[str, tuple[str, ...]] = {
    "participant": ("participant_id", "subject", "subject_id", "id"),
    "session": ("session_id", "time_point", "timepoint", "visit"),
    "site": ("site_id", "center", "centre"),
    "scanner": ("scanner_id", "protocol"),
    "diagnosis": ("diag", "disorder", "dx"),
    "age": ("age_years",),
    "sex": ("gender",),
    "medication": ("medicated",),
    "consent": ("consent_tier",),
    "mean_fd": ("mean_fd_mm", "fd_mean"),
    "minutes": ("minutes_retained",),
    "traveling": ("traveling_subject", "traveller", "traveler"),
    "file": ("path",),
}
"""Column of a cohort's table: other names it may have in a given one (case does not matter)."""

NOT_SCORES = ("n_volumes", "tr", "tr_s", "repetitiontime", "index", "run")
"""Columns of numbers that say something of the scan, not of the person."""

MISSING = frozenset({"", "n/a", "na", "nan", "none", "null", "-", "<na>"})
"""What stands for a missing value, whatever the case."""

DIAGNOSIS_JOINT = ";"
"""Between several diagnoses of one person."""

WITHDRAWN = "withdrawn"
"""In the consent column: the person's data must not be used."""

NUMBERS = {"age": (0.0, 120.0), "mean_fd": (0.0, np.inf), "minutes": (0.0, np.inf)}
"""Columns of numbers and their bounds (years, mm, minutes)."""

SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}
TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class People:
    """A participants table, checked.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a scan. Columns of `COLUMNS`, then the scores. Text columns are str with missing
        values NaN, numbers float64, `traveling` bool; `participant` and `session` have no `sub-`
        and `ses-`.
    scores : tuple of str
        Symptom scores.
    ignored : tuple of str
        Columns that were left out.
    has_consent : bool
        Whether the table says anything about consent.
    """

    table: pd.DataFrame
    scores: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    has_consent: bool = field(default=False)


def read_people(
    source: str | Path | pd.DataFrame, columns: Mapping[str, str] | None = None
) -> People:
    """Read and check a participants table.

    Parameters
    ----------
    source : str, Path or pandas.DataFrame
        `.tsv` or `.csv` with a header, or a table of text.
    columns : mapping of str to str, or None
        For columns named neither as in `COLUMNS` nor by another name there: ours to theirs.

    Returns
    -------
    People
        Checked.

    Raises
    ------
    CohortError
        If the file is no table, a needed column is missing, a value is wrong, one person has two
        sexes, or somebody was scanned at several sites and the table does not say who travels.
    """
    where = "participants" if isinstance(source, pd.DataFrame) else str(source)
    raw = source if isinstance(source, pd.DataFrame) else _read(Path(source))
    raw = raw.rename(columns=_names(raw, columns or {}, where))
    check = _Cells(raw, where)
    table = pd.DataFrame(
        {
            "participant": check.each("participant", plain_id, "a participant's id", needed=True),
            "session": check.each("session", plain_id, "a session's name").fillna("1"),
            "site": check.each("site", str.strip, "a site's name", needed=True),
            "scanner": check.each("scanner", str.strip, "a scanner's name"),
            "diagnosis": check.each("diagnosis", _diagnoses, "one or several names joined by ;"),
            "age": check.numbers("age"),
            "sex": check.each("sex", lambda text: SEXES[text.lower()], "M, F or O"),
            "medication": check.each("medication", str.strip, "text"),
            "consent": check.each("consent", _consent, "a consent tier, or withdrawn"),
            "mean_fd": check.numbers("mean_fd"),
            "minutes": check.numbers("minutes"),
            "traveling": check.truths("traveling"),
            "file": check.each("file", str.strip, "a path"),
        }
    )
    scores, ignored = check.scores(table)
    _require_one_sex(table, where)
    if "traveling" not in raw.columns:
        _require_nobody_elsewhere(table, where)
    return People(table, scores, ignored, "consent" in raw.columns)


def plain_id(text: str) -> str:
    """An id without BIDS's `sub-` or `ses-`.

    Raises
    ------
    ValueError
        If nothing is left, or it could not be part of a file's name.
    """
    tidy = re.sub(r"^(sub|ses)-", "", text.strip())
    if not tidy or re.search(r"[\s/\\]", tidy):
        raise ValueError(text)
    return tidy


def has_diagnosis(people: pd.DataFrame, diagnosis: str) -> np.ndarray:
    """Which rows have a diagnosis among theirs, bool, shape (n_scans,); missing ones do not."""
    told = people["diagnosis"].fillna("").str.split(DIAGNOSIS_JOINT)
    return np.array([diagnosis in names for names in told], bool)


def _read(path: Path) -> pd.DataFrame:
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix.lower())
    if separator is None:
        raise CohortError(f"participants {path}: expected .tsv or .csv; save it as one of them")
    try:
        return pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CohortError(
            f"participants {path}: expected a table with a header, found {reason}; check the file"
        ) from error


def _names(raw: pd.DataFrame, given: Mapping[str, str], where: str) -> dict[str, str]:
    """Their names of our columns, to ours."""
    lower = {str(name).strip().lower(): str(name) for name in raw.columns}
    found: dict[str, str] = {}
    for ours, theirs in given.items():
        if ours not in COLUMNS or theirs not in raw.columns:
            raise CohortError(
                f"{where}: expected OURS=THEIRS with OURS of {', '.join(COLUMNS)} and THEIRS a"
                f" column, found {ours}={theirs}; columns are {', '.join(map(str, raw.columns))}"
            )
        found[theirs] = ours
    for ours, others in COLUMNS.items():
        if ours in given:
            continue
        names = [lower[name] for name in (ours, *others) if name in lower]
        names = [name for name in names if name not in found]
        if names:
            found[names[0]] = ours
    return found


class _Cells:
    """Columns of a table of text, each value checked where it stands."""

    def __init__(self, raw: pd.DataFrame, where: str) -> None:
        self._raw = raw
        self._where = where

    def each(
        self, column: str, read: Callable[[str], str], expected: str, needed: bool = False
    ) -> pd.Series:
        """A column of text; a missing value is NaN."""
        if column not in self._raw.columns:
            if needed:
                others = ", ".join((column, *COLUMNS[column]))
                raise CohortError(
                    f"{self._where}: expected a column {column} (or {others}), found"
                    f" {', '.join(map(str, self._raw.columns)) or 'none'}; add it, or say which"
                    " column it is"
                )
            return pd.Series(np.nan, self._raw.index, "str")
        values: list[str | float] = []
        for place, text in enumerate(self._texts(column)):
            if text is None:
                if needed:
                    self._fail(place, column, expected, "nothing")
                values.append(np.nan)
                continue
            try:
                values.append(read(text))
            except (ValueError, KeyError):
                self._fail(place, column, expected, repr(text))
        return pd.Series(values, self._raw.index, "str")

    def numbers(self, column: str) -> pd.Series:
        """A column of numbers within its bounds, float64."""
        if column not in self._raw.columns:
            return pd.Series(np.nan, self._raw.index, float)
        low, high = NUMBERS.get(column, (-np.inf, np.inf))
        bounds = f"a number of {low:g}..{high:g}" if np.isfinite(low) else "a number"
        values = []
        for place, text in enumerate(self._texts(column)):
            number = np.nan if text is None else _number(text)
            if text is not None and not (np.isfinite(number) and low <= number <= high):
                self._fail(place, column, bounds, repr(text))
            values.append(number)
        return pd.Series(values, self._raw.index, float)

    def truths(self, column: str) -> pd.Series:
        """A column of yes and no; no where it is missing."""
        if column not in self._raw.columns:
            return pd.Series(False, self._raw.index, bool)
        values = []
        for place, text in enumerate(self._texts(column)):
            if text is not None and text.lower() not in TRUTHS:
                self._fail(place, column, "yes or no", repr(text))
            values.append(text is not None and TRUTHS[text.lower()])
        return pd.Series(values, self._raw.index, bool)

    def scores(self, table: pd.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Add further columns of numbers to `table`; names of these, and of those left out.

        A column most of whose values are numbers is meant to be one: a stray word in it is a
        mistake, not a reason to lose the score.
        """
        scores, ignored = [], []
        for column in map(str, self._raw.columns):
            if column in COLUMNS:
                continue
            told = [text for text in self._texts(column) if text is not None]
            numeric = sum(np.isfinite(_number(text)) for text in told)
            if told and 2 * numeric >= len(told) and column.lower() not in NOT_SCORES:
                table[column] = self.numbers(column)
                scores.append(column)
            else:
                ignored.append(column)
        return tuple(scores), tuple(ignored)

    def _texts(self, column: str) -> list[str | None]:
        texts = [str(value).strip() for value in self._raw[column]]
        return [None if text.lower() in MISSING else text for text in texts]

    def _fail(self, place: int, column: str, expected: str, found: str) -> None:
        raise CohortError(
            f"{self._where}: row {place + 2}, column {column}: expected {expected}, found {found};"
            " correct the table"
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _diagnoses(text: str) -> str:
    names = [name.strip() for name in re.split(r"[;+|]", text)]
    if not all(names):
        raise ValueError(text)
    return DIAGNOSIS_JOINT.join(dict.fromkeys(names))


def _consent(text: str) -> str:
    try:
        return WITHDRAWN if text.lower() == WITHDRAWN else tier_of(text)
    except CohortError as error:
        raise ValueError(text) from error


def _require_one_sex(table: pd.DataFrame, where: str) -> None:
    told = table.dropna(subset=["sex"]).groupby("participant")["sex"].nunique()
    if (told > 1).any():
        person = told.index[told > 1][0]
        raise CohortError(
            f"{where}: expected one sex of participant {person}, found several; correct the table"
        )


def _require_nobody_elsewhere(table: pd.DataFrame, where: str) -> None:
    """Refuse to guess who of several sites travels: decoders train on those who do not."""
    scans = table.drop_duplicates(["participant", "session"])  # a row given twice is told later
    n_sites = scans.groupby("participant")["site"].nunique()
    if (n_sites > 1).any():
        person = n_sites.index[n_sites > 1][0]
        raise CohortError(
            f"{where}: expected a column traveling, as participant {person} (and"
            f" {int((n_sites > 1).sum()) - 1} more) was scanned at several sites, found none; add"
            " it: yes for traveling subjects, no for people who moved"
        )
