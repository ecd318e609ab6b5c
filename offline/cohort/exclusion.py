"""Who is left out of a cohort, and why: one rule after another, one table for all.

People who withdrew, or whose consent does not cover the request, are left out before anything of
theirs is read. What else is asked of a scan is known once it was read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort.consent import Tier, Tombstones, covers
from offline.cohort.people import WITHDRAWN, People
from offline.errors import CohortError

__all__ = [
    "Limits",
    "MissingRois",
    "Reasons",
    "before_reading",
    "by_reason",
    "kept_rois",
    "once_read",
]

MissingRois = Literal["exclude", "drop", "keep"]
"""What becomes of ROIs that some people lack: these people are left out; these ROIs are left out
for everyone; or the edges stay NaN, explicitly."""

NUMBER = re.compile(r"\d+(?:\.\d+)?")
SAME_VALUES = "same values as "

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """What is asked of a scan.

    Attributes
    ----------
    tier : str or None
        The release the cohort is for; needed if the participants table speaks of consent.
    max_mean_fd_mm : float or None
        Largest mean framewise displacement; a scan without one is left out then. None: no limit.
    min_minutes : float or None
        Least minutes left after censoring; a scan without is left out then. None: no limit.
    missing_rois : {"exclude", "drop", "keep"}
        See `MissingRois`.
    max_missing_share : float
        With "drop" and "keep": share of missing ROIs above which the scan itself is left out.

    Raises
    ------
    CohortError
        If a limit is one that no scan, or every scan, is within.
    """

    tier: Tier | None = None
    max_mean_fd_mm: float | None = None
    min_minutes: float | None = None
    missing_rois: MissingRois = "exclude"
    max_missing_share: float = 0.1

    def __post_init__(self) -> None:
        fd, minutes, share = self.max_mean_fd_mm, self.min_minutes, self.max_missing_share
        if fd is not None and not 0.0 < fd < math.inf:
            raise CohortError(
                f"expected a limit of mean framewise displacement above 0 mm, found {fd:g} mm;"
                " leave it out for none"
            )
        if minutes is not None and not 0.0 < minutes < math.inf:
            raise CohortError(
                f"expected more than 0 minutes as the least, found {minutes:g}; leave it out for"
                " no limit"
            )
        if not 0.0 <= share <= 1.0:
            raise CohortError(
                f"expected a share of missing ROIs of 0 to 1, found {share:g}; give 0.1 for 10 %"
            )

    def words(self) -> list[str]:
        """The rules in words, those that were not applied too."""
        missing = {
            "exclude": "people with a missing ROI were left out",
            "drop": "ROIs missing in anyone were left out for everyone",
            "keep": "edges of missing ROIs are NaN",
        }[self.missing_rois]
        share = f" (people without more than {self.max_missing_share:.0%} of ROIs were left out)"
        fd, minutes = self.max_mean_fd_mm, self.min_minutes
        return [
            "consent: not in the table" if self.tier is None else f"consent: {self.tier}",
            "mean FD: no limit" if fd is None else f"mean FD: at most {fd:g} mm",
            "minutes: no limit" if minutes is None else f"minutes: at least {minutes:g}",
            f"missing ROIs: {missing}" + ("" if self.missing_rois == "exclude" else share),
        ]


class Reasons:
    """Why each scan of the table is left out: none, one or several reasons a row."""

    def __init__(self, n_scans: int) -> None:
        self._reasons: list[list[str]] = [[] for _ in range(n_scans)]

    def add(self, row: int, reason: str) -> None:
        """Another reason for a row."""
        if reason not in self._reasons[row]:
            self._reasons[row].append(reason)

    @property
    def kept(self) -> Mask:
        """Rows without a reason."""
        return np.array([not reasons for reasons in self._reasons], bool)

    def table(self, people: pd.DataFrame, stones: Tombstones) -> pd.DataFrame:
        """Participant, session and reasons of everyone left out; withdrawn people by their hash."""
        rows = []
        for row, reasons in enumerate(self._reasons):
            if not reasons:
                continue
            person = str(people["participant"].iloc[row])
            withdrawn = WITHDRAWN in reasons
            rows.append(
                {
                    "participant": stones.mark(person)[:16] if withdrawn else person,
                    "session": str(people["session"].iloc[row]),
                    "reason": WITHDRAWN if withdrawn else "; ".join(reasons),
                }
            )
        return pd.DataFrame(rows, columns=["participant", "session", "reason"], dtype="str")


def before_reading(people: People, limits: Limits, stones: Tombstones) -> Reasons:
    """Reasons that the table alone gives: withdrawn, consent, the same scan twice.

    Raises
    ------
    CohortError
        If the table speaks of consent and no tier is requested, or the other way round.
    """
    table = people.table
    if people.has_consent and limits.tier is None:
        raise CohortError(
            "expected the release the cohort is for, as the table has a column of consent; state"
            " the tier"
        )
    if limits.tier is not None and not people.has_consent:
        raise CohortError(
            f"expected a column consent for the tier {limits.tier}, found none in the table; add"
            " it, or request no tier"
        )
    reasons = Reasons(len(table))
    consent = table["consent"].fillna("")
    seen: dict[tuple[str, str], int] = {}
    for row, (person, session) in enumerate(
        zip(table["participant"], table["session"], strict=True)
    ):
        told = consent.iloc[row]
        if told == WITHDRAWN or stones.has(person):
            reasons.add(row, WITHDRAWN)
        elif limits.tier is not None and not covers(told, limits.tier):
            reasons.add(row, f"consent {told or 'not stated'} does not cover {limits.tier}")
        if (person, session) in seen:
            reasons.add(row, f"participant and session are those of row {seen[person, session]}")
        else:
            seen[person, session] = row + 2
    return reasons


def once_read(
    reasons: Reasons,
    table: pd.DataFrame,
    faults: Sequence[str],
    missing: Mask,
    holes: NDArray[np.int64],
    contents: Sequence[str],
    limits: Limits,
    stones: Tombstones,
) -> None:
    """Add the reasons that the arrays give.

    Parameters
    ----------
    reasons : Reasons
        Added to; rows that have one already were not read.
    table : pandas.DataFrame
        With `mean_fd` and `minutes` as they are now known.
    faults : sequence of str
        Why a scan could not be used; "" if it could.
    missing : ndarray of bool, shape (n_scans, n_rois)
        ROIs without any edge.
    holes : ndarray of int, shape (n_scans,)
        Edges that are not finite although both their ROIs are there.
    contents : sequence of str
        Digest of each scan's values; "" if it was not read.
    limits : Limits
        What is asked.
    stones : Tombstones
        Values that were withdrawn.
    """
    for row in np.flatnonzero(reasons.kept):
        if faults[row]:
            reasons.add(row, faults[row])
            continue
        _judge(reasons, row, table, missing[row], int(holes[row]), limits)
        if stones.has(contents[row]):
            reasons.add(row, WITHDRAWN)
    _same_values(reasons, table, contents)


def by_reason(excluded: pd.DataFrame) -> list[tuple[str, int]]:
    """How many scans were left out for what, most first; numbers that differ as a range.

    Parameters
    ----------
    excluded : pandas.DataFrame
        As of `Reasons.table`.

    Examples
    --------
    >>> by_reason(pd.DataFrame({"reason": ["mean FD 0.7 mm, limit 0.5 mm",
    ...                                    "mean FD 0.9 mm, limit 0.5 mm", "withdrawn"]}))
    [('mean FD 0.7–0.9 mm, limit 0.5 mm', 2), ('withdrawn', 1)]
    """
    alike: dict[str, list[str]] = {}
    for reason in excluded["reason"].astype(str):
        if reason.startswith(SAME_VALUES):  # whose they are is in the table
            reason = f"{SAME_VALUES}another scan"
        alike.setdefault(NUMBER.sub("{}", reason), []).append(reason)
    told = [(_ranges(pattern, reasons), len(reasons)) for pattern, reasons in alike.items()]
    return sorted(told, key=lambda line: -line[1])


def _ranges(pattern: str, reasons: Sequence[str]) -> str:
    """The reasons of one pattern as one, each number as what it is or between what it lies."""
    places = zip(*(NUMBER.findall(reason) for reason in reasons), strict=True)
    ends = ((min(place, key=float), max(place, key=float)) for place in places)
    shown = (low if low == high else f"{low}–{high}" for low, high in ends)
    return "".join(
        part + following
        for part, following in zip_longest(pattern.split("{}"), shown, fillvalue="")
    )


def kept_rois(missing: Mask, atlas: Atlas, limits: Limits) -> Mask:
    """ROIs of the cohort, bool, shape (n_rois,), given the missing ones of the people kept."""
    if limits.missing_rois != "drop" or not missing.any():
        return np.ones(atlas.n_rois, bool)
    kept: Mask = ~np.any(missing, axis=0)
    if kept.sum() < 2:
        raise CohortError(
            f"expected ROIs that everyone has, found {int(kept.sum())} of {atlas.n_rois}; leave"
            " the people out who lack many"
        )
    return kept


def _judge(
    reasons: Reasons, row: int, table: pd.DataFrame, missing: Mask, holes: int, limits: Limits
) -> None:
    fd, minutes = float(table["mean_fd"].iloc[row]), float(table["minutes"].iloc[row])
    if limits.max_mean_fd_mm is not None and not fd <= limits.max_mean_fd_mm:
        told = "not known" if np.isnan(fd) else f"{fd:.3g} mm"
        reasons.add(row, f"mean FD {told}, limit {limits.max_mean_fd_mm:g} mm")
    if limits.min_minutes is not None and not minutes >= limits.min_minutes:
        told = "not known" if np.isnan(minutes) else f"{minutes:.1f}"
        reasons.add(row, f"minutes {told}, at least {limits.min_minutes:g}")
    n_missing = int(missing.sum())
    if limits.missing_rois == "exclude" and n_missing:
        reasons.add(row, f"{n_missing} missing ROI" + ("s" if n_missing > 1 else ""))
    elif n_missing > limits.max_missing_share * len(missing):
        reasons.add(
            row, f"{n_missing} missing ROIs, limit {limits.max_missing_share:.0%} of {len(missing)}"
        )
    if holes:
        reasons.add(row, f"{holes} edges are not finite though their ROIs are there")


def _same_values(reasons: Reasons, table: pd.DataFrame, contents: Sequence[str]) -> None:
    """The same values again: one of a person's is kept; none if it is not known whose they are."""
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(reasons.kept):
        groups.setdefault(contents[row], []).append(int(row))
    for rows in groups.values():
        people = {table["participant"].iloc[row] for row in rows}
        for row in rows[1:] if len(people) == 1 else rows if len(rows) > 1 else []:
            others = sorted(
                f"{table['participant'].iloc[k]}/{table['session'].iloc[k]}"
                for k in rows
                if k != row
            )
            reasons.add(row, f"{SAME_VALUES}{', '.join(others)}")
