"""Who is compared with whom: the scans of a cohort that take part, and their target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.cohort import Cohort, has_diagnosis
from offline.decoder.samples import MIN_SCANS
from offline.errors import DecodeError
from offline.store import EdgeStore, read_block

__all__ = ["CONTROLS", "Chosen", "choose"]

CONTROLS = ("control", "controls", "hc", "healthy", "healthy control", "ctl", "td", "none")
"""What people without a diagnosis are called, whatever the case."""

NO_TARGETS = ("participant", "site", "consent", "traveling")


@dataclass(frozen=True)
class Chosen:
    """Scans of a cohort that take part.

    Attributes
    ----------
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
    y : ndarray of object, shape (n_scans,)
        Class names or numbers.
    people : pandas.DataFrame
        Their rows of the participants table.
    positive, negative : str or None
        Names of the classes; None for a continuous target.
    told : tuple of str
        Who was left out, and why.
    """

    X: NDArray[np.float32] | EdgeStore
    y: NDArray[Any]
    people: pd.DataFrame
    positive: str | None
    negative: str | None
    told: tuple[str, ...]


def choose(
    cohort: Cohort, target: str, positive: str | None = None, negative: str | None = None
) -> Chosen:
    """Who is compared with whom; traveling scans stay, for the harmonizer.

    Parameters
    ----------
    cohort : Cohort
    target : str
        Column of the participants table.
    positive, negative : str or None
        Values to be told apart; None where there are two only, or the target is a number. For
        `diagnosis` the negative class are the controls.

    Raises
    ------
    DecodeError
        If there is no such column, it does not vary, or too few scans are left.
    """
    people = cohort.people
    values = _column(people, target)
    travels = people["traveling"].to_numpy(bool)
    numeric = pd.api.types.is_numeric_dtype(values) and positive is None
    if numeric and values[~travels].nunique() > 2:
        y, known = values.to_numpy(object), values.notna().to_numpy(bool)
        positive = negative = None
    else:
        texts = values.map(lambda v: None if pd.isna(v) else _text(v))
        found = sorted(set(texts[~travels].dropna()))
        positive, negative = _pair(target, found, positive, negative)
        y = _classes(people, texts, target, positive, negative)
        known = y != None  # noqa: E711 (element by element)
    take = known | travels
    told = []
    missing = int(np.sum(values.isna().to_numpy(bool) & ~travels))
    if missing:
        told.append(f"{missing} scans without {target} were left out")
    others = int(np.sum(~take)) - missing
    if others:
        told.append(f"{others} scans that are neither {positive} nor {negative} were left out")
    n = int(np.sum(take & ~travels))
    if n < MIN_SCANS:
        raise DecodeError(
            f"cohort {cohort.folder}: expected at least {MIN_SCANS} scans with {target}, found {n}"
            " that do not travel; a decoder of so few means nothing, add people"
        )
    rows = np.flatnonzero(take)
    X = cohort.z if take.all() else read_block(cohort.z, slice(None), rows)
    table = people.iloc[rows].reset_index(drop=True)
    return Chosen(X, y[rows], table, positive, negative, tuple(told))


def _column(people: pd.DataFrame, target: str) -> pd.Series:
    if target == "site":
        raise DecodeError(
            "expected a target other than site: how well the site is told is part of every report"
        )
    usable = [c for c in people if c not in NO_TARGETS and people[c].notna().any()]
    if target not in usable:
        raise DecodeError(
            f"expected a target among {', '.join(usable)}, found {target!r}; name a column of the"
            " participants table that has values"
        )
    own = people.loc[~people["traveling"].to_numpy(bool), target].dropna()
    if own.nunique() < 2:
        found = own.iloc[0] if len(own) else "none"
        raise DecodeError(
            f"expected {target} to vary, found {found} for everyone; there is nothing to tell apart"
        )
    return people[target]


def _pair(
    target: str, found: list[str], positive: str | None, negative: str | None
) -> tuple[str, str]:
    """The two values to be told apart, of those that were found."""
    names = found
    if target == "diagnosis":
        names = sorted({d for text in found for d in text.split(";")})
        negative = negative or _controls(names)
    others = [name for name in names if name != negative]
    if positive is None:
        if len(others) > (1 if negative else 2) or not others:
            raise DecodeError(
                f"expected two values of {target}, found {len(names)} ({', '.join(names[:6])});"
                " choose with --positive and --negative"
            )
        positive = others[-1]
    if negative is None:
        rest = [name for name in names if name != positive]
        if len(rest) != 1:
            raise DecodeError(
                f"expected one other value of {target} than {positive}, found {len(rest)}"
                f" ({', '.join(rest[:6])}); choose with --negative"
            )
        negative = rest[0]
    for name in (positive, negative):
        if name not in names:
            raise DecodeError(
                f"expected values of {target} ({', '.join(names[:6])}), found {name!r}; check the"
                " spelling"
            )
    if positive == negative:
        raise DecodeError(
            f"expected two values of {target}, found {positive!r} twice; choose another"
        )
    return positive, negative


def _controls(diagnoses: list[str]) -> str:
    """What controls are called among some diagnoses."""
    for name in diagnoses:
        if name.lower() in CONTROLS:
            return name
    raise DecodeError(
        f"expected controls among the diagnoses {', '.join(diagnoses)}, found none; say with"
        " --negative what controls are called"
    )


def _classes(
    people: pd.DataFrame, texts: pd.Series, target: str, positive: str, negative: str
) -> NDArray[Any]:
    """Class name of every scan; None: takes no part."""
    if target == "diagnosis":
        # somebody with several diagnoses has each of them; a control has none besides
        has = has_diagnosis(people, positive)
    else:
        has = (texts == positive).to_numpy(bool)
    y = np.full(len(people), None, object)
    y[has] = positive
    y[(texts == negative).to_numpy(bool)] = negative
    return y


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
