"""Whom a study cannot use beside those whose trials are not usable, and what to say if all are.

Lines are those of `behaviour.Inclusion.table`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["broken_off", "lines_of_runs", "unmatched", "why_nobody"]

NOT_LISTED, NO_CONNECTOME, NO_SIGNAL = (
    "not among the participants", "no connectome", "an ROI without signal",
)  # fmt: skip
BROKEN_OFF = "rest broken off"
ADVICE = {
    NOT_LISTED: "make the names of the trials and of the participants agree",
    NO_CONNECTOME: "add scans, or make the names of the trials and of the scans agree",
    NO_SIGNAL: "check the scans",
    BROKEN_OFF: "check the scans",
}

COLUMNS = ["participant", "task", "run", "left_out", "reason", "found"]

Float64 = NDArray[np.float64]


def broken_off(rest: pd.DataFrame) -> pd.DataFrame:
    """Runs at rest that were too short, of `release.Connectivity.left_out`.

    Its lines of people are not among them: a person is told once, by what is lacking.
    """
    runs = rest[rest["run"] != "n/a"]
    return lines_of_runs(
        (participant, "rest", run, BROKEN_OFF, found)
        for participant, run, found in runs[["participant", "run", "reason"]].itertuples(
            index=False
        )
    )


def lines_of_runs(runs: Iterable[tuple[str, str, str, str, str]]) -> pd.DataFrame:
    """Lines of runs left out, from participant, task, run, reason and what was found."""
    columns = ["participant", "task", "run", "reason", "found"]
    return pd.DataFrame(list(runs), columns=columns).assign(left_out="run")[COLUMNS]


def unmatched(
    names: Iterable[str], people: pd.DataFrame, edges: Mapping[str, Float64] | None
) -> pd.DataFrame:
    """Those of `names` who are not in the table of people, or have no whole connectome.

    Parameters
    ----------
    names : iterable of str
        People with usable trials.
    people : pandas.DataFrame
        Indexed by participant.
    edges : mapping of str to ndarray of float64, shape (n_edges,), or None
        None where connectomes are not needed.
    """
    lines = []
    for name in names:
        if name not in people.index:
            lines.append((name, "n/a", "n/a", "person", NOT_LISTED, "trials alone"))
        elif edges is not None and name not in edges:
            lines.append((name, "n/a", "n/a", "person", NO_CONNECTOME, "no scan"))
        elif edges is not None and not np.isfinite(edges[name]).all():
            n = int(np.sum(~np.isfinite(edges[name])))
            lines.append((name, "n/a", "n/a", "person", NO_SIGNAL, f"{n} edges not defined"))
    return pd.DataFrame(lines, columns=COLUMNS)


def why_nobody(left_out: pd.DataFrame) -> str:
    """The commonest reason among people who have trials, with an example and what to do."""
    # these two follow from other lines, or are of people whom the trials do not name
    other = left_out["reason"].isin(["no usable run", "no behaviour"])
    told = left_out[(left_out["left_out"] != "trials") & ~other]
    people = told.drop_duplicates(["participant", "reason"])
    # of reasons alike in number the first: scans come before the people who lack them
    counts = people.groupby("reason", sort=False).size()
    reason = str(counts.idxmax())
    row = people[people["reason"] == reason].iloc[0]
    place = "" if row["task"] == "n/a" else f", task {row['task']}, run {row['run']}"
    advice = ADVICE.get(reason, "check the trials")
    return (
        f"{reason} ({counts[reason]} of {people['participant'].nunique()} people, such as"
        f" sub-{row['participant']}{place}: {row['found']}); {advice}"
    )
