"""Behaviour alone, on real trials: what a twin has to beat, for people seen and not seen.

Data: every Stroop and faces/shapes trial of OpenNeuro ds005237 (CC0), in `behaviour/` of the
folder that `FCNEF_DATA` names. Rows that need connectivity of these people are not measured: it
is not part of those data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from offline.errors import TaskError
from offline.twin.behaviour import include
from offline.twin.tables import (
    K,
    between_runs,
    held_out_predictions,
    held_out_table,
    read_demographics,
    run_data,
    seen_table,
)
from offline.twin.tasks import MATCHING, STROOP
from offline.twin.trials import Trials, read_trials

__all__ = ["measure", "prove"]

PUBLISHED = {"matching": 0.90, "stroop": 0.88}
"""Own first half to second half, about."""

TOLERANCE = 0.03
TIE = 0.01
"""Share of James–Stein's error within which two predictors are told as equal."""

RUNS = (("matching", "hammer", "AP"), ("stroop", "stroop", "AP"), ("stroop", "stroop", "PA"))
SPECS = {"matching": MATCHING, "stroop": STROOP}


def measure(n_repeats: int = 5) -> dict[str, Any]:
    """All tables, as lists of rows."""
    folder = _folder()
    trials = read_trials(folder / "tcp_trials.tsv.gz")
    demographics = read_demographics(folder / "tcp_participants.tsv")
    included = include(trials, people=demographics.index)
    reasons = included.table[included.table["left_out"] != "trials"]
    counts = reasons.groupby(["left_out", "reason"]).size()
    held_out = [
        row for names in RUNS for row in _held_out(included.trials, demographics, names, n_repeats)
    ]
    return {
        "n_trials": len(trials),
        "n_people": len(trials.people),
        "left_out": {f"{kind}: {why}": int(n) for (kind, why), n in counts.items()},
        "everyone": _rows(seen_table(trials)),
        "usable": _rows(seen_table(included.trials)),
        "stroop_runs": between_runs(included.trials),
        "held_out": held_out,
    }


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    figures = measure()
    reached = {}
    for group in ("everyone", "usable"):
        for row in figures[group]:
            # of two Stroop runs the first is the published one: the second is practised
            if (row["task"], row["run"]) in {("matching", "AP"), ("stroop", "AP")}:
                aim = PUBLISHED[row["task"]]
                claim = f"{row['task']}, {group}: own first half -> second half r about {aim:.2f}"
                reached[claim] = abs(row["own_first_half"] - aim) <= TOLERANCE
    gains = pd.DataFrame([row for row in figures["held_out"] if "rmse_gain_ms" in row])
    for k in K:
        rows = gains[gains["predictor"] == f"k_shot k={k}"]
        better = (rows[["r_gain", "rmse_gain_ms"]].mean() > 0.0).all()
        tied = rows["rmse_gain_ms"] >= -TIE * (rows["rmse_ms"] + rows["rmse_gain_ms"])
        reached[f"k = {k}: better than James–Stein in r and error, mean of runs"] = bool(better)
        reached[f"k = {k}: in every run its error is at most {TIE:.0%} above"] = bool(tied.all())
    return figures, reached


def main() -> None:
    """Print the tables."""
    figures, console = measure(), Console()
    for name in ("everyone", "usable", "held_out"):
        frame = pd.DataFrame(figures[name])
        table = Table(*map(str, frame.columns), title=name)
        for row in frame.itertuples(index=False):
            table.add_row(*(_cell(value) for value in row))
        console.print(table)
    console.print(figures["left_out"], figures["stroop_runs"])


def _held_out(
    trials: Trials, demographics: pd.DataFrame, names: tuple[str, str, str], n_repeats: int
) -> list[dict[str, Any]]:
    label, task, run = names
    data = run_data(trials.of(task, run), SPECS[label])
    ks = (*K, 20, None)
    told = held_out_predictions(data, demographics, ks, n_repeats=n_repeats)
    return [
        {"task": label, "run": run, "n": len(data.people), **row}
        for row in _rows(held_out_table(data, told, ks))
    ]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows without what is missing, numbers as Python's."""
    return [
        {name: _plain(value) for name, value in row.items() if not pd.isna(value)}
        for row in table.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.3f}"
    return str(value)


def _folder() -> Path:
    given = os.environ.get("FCNEF_DATA")
    if not given or not (Path(given) / "behaviour").is_dir():
        raise TaskError(
            f"expected real trials in FCNEF_DATA, found {given or 'nothing'}; set it to the data's"
            " folder"
        )
    return Path(given) / "behaviour"


if __name__ == "__main__":
    main()
