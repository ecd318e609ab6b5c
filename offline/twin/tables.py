"""What behaviour alone tells of a person's response times: the rows beside which a twin stands.

Seen people: the person's own trials tell the second half of a run. Held-out people: the same
from the first k trials, with everything else learned on others, in folds of people dealt evenly
over sites. Unseen people: from a participants table alone. Nothing here needs a brain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.decoder.folds import deal
from offline.errors import TaskError
from offline.twin.baselines import Demographics, JamesStein, KShot, OwnMean
from offline.twin.behaviour import first_correct, odd_even_reliability, summarise
from offline.twin.cells import MISSING
from offline.twin.intervals import Metric, compare, evaluate
from offline.twin.tasks import MATCHING, STROOP, TaskSpec
from offline.twin.trials import Trials

__all__ = [
    "K",
    "RunData",
    "between_runs",
    "held_out_predictions",
    "held_out_table",
    "read_demographics",
    "run_data",
    "seen_table",
]

K = (2, 5, 10)
N_FOLDS = 10
N_REPEATS = 5
MAX_AGE = 130.0
GAINS: dict[Metric, tuple[str, float]] = {"r": ("r_gain", 1.0), "rmse": ("rmse_gain_ms", 1000.0)}
"""Column of each gain, and what a gain is multiplied with for it."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class RunData:
    """One run of one task as the baselines take it.

    Attributes
    ----------
    people : tuple of str
        Rows of all arrays: everyone with correct trials in both halves.
    rt_s : ndarray of float64, shape (n_people, n_trials)
        Of correct trials, not anticipated; NaN elsewhere.
    conditions : ndarray of str, shape (n_people, n_trials)
    first_s, second_s : ndarray of float64, shape (n_people,)
        Means of the halves.
    early : ndarray of bool, shape (n_trials,)
        Trials of the first half.
    """

    people: tuple[str, ...]
    rt_s: Float64
    conditions: NDArray[Any]
    first_s: Float64
    second_s: Float64
    early: NDArray[np.bool_]

    def seen(self, k: int | None) -> Float64:
        """Only the first k usable trials of the first half, or all of them for None."""
        early = np.where(self.early, self.rt_s, np.nan)
        return early if k is None else first_correct(early, k)


def run_data(trials: Trials, spec: TaskSpec) -> RunData:
    """Arrange the trials of one run of one task."""
    rt_s = np.where(trials.grid("correct") == 1.0, trials.grid("rt_s"), np.nan)
    # names of any length: NumPy's own text would cut them
    cells = trials.grid("condition").astype(object)
    for name, condition in spec.conditions.items():
        cells[cells == name] = condition
    n_trials = rt_s.shape[1]
    early = np.arange(n_trials) <= (n_trials - 1) // 2
    both = np.isfinite(rt_s[:, early]).any(axis=1) & np.isfinite(rt_s[:, ~early]).any(axis=1)
    rt_s, cells = rt_s[both], cells[both]
    people = tuple(np.array(trials.people)[both].tolist())
    first_s = np.nanmean(rt_s[:, early], axis=1)
    second_s = np.nanmean(rt_s[:, ~early], axis=1)
    return RunData(people, rt_s, cells, first_s, second_s, early)


def seen_table(
    trials: Trials,
    tasks: Sequence[TaskSpec] = (MATCHING, STROOP),
    ks: Sequence[int] = (2, 5, 10, 20),
) -> pd.DataFrame:
    """How well a person's own trials tell their second half.

    Parameters
    ----------
    trials : Trials
        Everyone's, or those of usable runs.
    tasks : sequence of TaskSpec
    ks : sequence of int
        Numbers of first correct trials; a person who has fewer enters with those.

    Returns
    -------
    pandas.DataFrame
        One row a run of a task: `task`, `run`, `n`, `own_first_half` (r), `first_k` (r) for each
        k, `odd_even` (reliability of the run's mean), `always_correct` (share of trials answered
        right, which is how often "always right" agrees with the person), `missed`.
    """
    rows = []
    for spec, run, part in _parts(trials, tasks):
        data = run_data(part, spec)
        summary = summarise(part)
        row: dict[str, Any] = {"task": spec.name, "run": run, "n": len(data.people)}
        row["own_first_half"] = _r(data.first_s, data.second_s)
        for k in ks:
            seen = data.seen(k)
            # NaN rows cannot be: everyone has a correct trial in the first half
            row[f"first_{k}"] = _r(np.nanmean(seen, axis=1), data.second_s)
        row["odd_even"] = odd_even_reliability(
            summary["odd_s"].to_numpy(), summary["even_s"].to_numpy()
        )
        row["always_correct"] = float(summary["accuracy"].mean())
        row["missed"] = float(summary["n_missed"].sum() / summary["n_trials"].sum())
        rows.append(row)
    return pd.DataFrame(rows)


def between_runs(trials: Trials, spec: TaskSpec = STROOP) -> dict[str, float]:
    """How alike two runs of a task are: mean response time and interference.

    Returns
    -------
    dict of str to float
        `n`, `mean_r`, `interference_r` (mean of the second condition less that of the first,
        by name), `interference_odd_even` (its reliability within a run, mean over runs).
    """
    means, costs, halves = {}, {}, []
    for _, run, part in _parts(trials, (spec,)):
        table = part.table.assign(
            rt=part.table["rt_s"].where(part.table["correct"]),
            kind=spec.condition_of(part.table["condition"]),
        )
        means[run] = table.groupby("participant")["rt"].mean()
        costs[run] = _cost(table)
        odd = _cost(table[table["trial"] % 2 == 0])
        even = _cost(table[table["trial"] % 2 == 1]).reindex(odd.index)
        halves.append(odd_even_reliability(odd.to_numpy(), even.to_numpy()))
    if len(means) != 2:
        raise TaskError(f"expected two runs of {spec.name}, found {len(means)}; name two")
    mean = pd.concat(means, axis=1).dropna().to_numpy()
    cost = pd.concat(costs, axis=1).dropna().to_numpy()
    return {
        "n": float(len(mean)),
        "mean_r": _r(mean[:, 0], mean[:, 1]),
        "interference_r": _r(cost[:, 0], cost[:, 1]),
        "interference_odd_even": float(np.mean(halves)),
    }


def held_out_predictions(
    data: RunData,
    demographics: pd.DataFrame,
    ks: Sequence[int | None] = K,
    n_folds: int = N_FOLDS,
    n_repeats: int = N_REPEATS,
    seed: int = 0,
) -> dict[str, Float64]:
    """Second-half means of people from models that never saw them.

    Parameters
    ----------
    data : RunData
    demographics : pandas.DataFrame
        Indexed by participant; columns `age`, `sex`, `site`, `group`.
    ks : sequence of int or None
        Trials seen of a person that is predicted; None for the whole first half.
    n_folds, n_repeats, seed : int
        People are dealt anew in every repeat; a person's predictions are averaged over repeats.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_people,)
        Seconds. `demographics`, and for every k `own k=…`, `james_stein k=…`, `k_shot k=…`.
    """
    people = demographics.loc[list(data.people)]
    sites = pd.factorize(people["site"])[0].astype(np.int64)
    n = len(data.people)
    out: dict[str, Float64] = {"demographics": np.zeros(n)}
    for repeat in range(n_repeats):
        rng = np.random.default_rng([seed, repeat])
        fold = deal(np.arange(n), np.zeros(n, np.int64), n_folds, rng, sites)
        for number in range(n_folds):
            train, test = fold != number, fold == number
            told = _fold(data, people, train, test, ks)
            for name, values in told.items():
                out.setdefault(name, np.zeros(n))[test] += values / n_repeats
    return out


def held_out_table(
    data: RunData,
    predictions: Mapping[str, Float64],
    ks: Sequence[int | None] = K,
    n_draws: int = 2000,
) -> pd.DataFrame:
    """Figures of held-out predictions, and k-shot against James–Stein on the same people.

    Returns
    -------
    pandas.DataFrame
        One row a predictor: `predictor`, `r`, `r_low`, `r_high`, `rmse_ms`, and for the k-shot
        rows `r_gain`, `rmse_gain_ms` against James–Stein with `_low` and `_high`.
    """
    figures = evaluate(data.second_s, predictions, n_draws)
    rows = {}
    for name, row in figures.items():
        r, rmse = row["r"], row["rmse"]
        rows[name] = {
            "predictor": name,
            "r": r.value,
            "r_low": r.low,
            "r_high": r.high,
            "rmse_ms": 1000.0 * rmse.value,
        }
    for k in ks:
        ours, theirs = f"k_shot k={_k(k)}", f"james_stein k={_k(k)}"
        gains = compare(data.second_s, predictions, ours, theirs, n_draws)
        for metric, (column, unit) in GAINS.items():
            gain = gains[metric]
            rows[ours][column] = unit * gain.value
            rows[ours][f"{column}_low"] = unit * gain.low
            rows[ours][f"{column}_high"] = unit * gain.high
    return pd.DataFrame(list(rows.values()))


def read_demographics(path: str | Path) -> pd.DataFrame:
    """Read age, sex, site and group of a BIDS participants table, indexed by participant.

    Raises
    ------
    TaskError
        If the table cannot be read, lacks a column, names nobody or a person twice, or an age is
        no number of years; n/a is one that is not known.
    """
    try:
        raw = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise TaskError(f"{path}: expected a participants table, found {error}") from error
    raw.columns = [str(name).lower() for name in raw.columns]
    missing = {"participant_id", "age", "sex", "site", "group"} - set(raw.columns)
    if missing:
        raise TaskError(
            f"{path}: expected the columns participant_id, age, sex, site, group, found no"
            f" {', '.join(sorted(missing))}; add them"
        )
    if raw.columns.duplicated().any():
        again = raw.columns[raw.columns.duplicated()][0]
        raise TaskError(f"{path}: expected every column once, found {again} again; leave one out")
    names = raw["participant_id"].str.strip().str.removeprefix("sub-")
    if names.empty or names.isin(MISSING).any():
        found = "nobody" if names.empty else f"none in row {int(names.isin(MISSING).argmax()) + 2}"
        raise TaskError(f"{path}: expected a participant in every row, found {found}; add it")
    table = raw[["age", "sex", "site", "group"]].set_axis(names, axis=0)
    if table.index.duplicated().any():
        again = table.index[table.index.duplicated()][0]
        raise TaskError(f"{path}: expected everyone once, found participant {again} again")
    return table.assign(age=_years(table["age"], path))


def _years(ages: pd.Series, path: str | Path) -> pd.Series:
    """Ages as numbers, NaN for n/a."""
    years = pd.to_numeric(ages, errors="coerce").astype(float)
    wrong = ~years.between(0.0, MAX_AGE) & ~ages.str.strip().isin(MISSING)
    if wrong.any():
        raise TaskError(
            f"{path}: participant {ages.index[wrong][0]}: expected an age in years, from 0 to"
            f" {MAX_AGE:g}, or n/a, found {ages[wrong].iloc[0]!r}; correct the table"
        )
    return years


def _fold(
    data: RunData,
    people: pd.DataFrame,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    ks: Sequence[int | None],
) -> dict[str, Float64]:
    later = data.second_s[train]
    table = Demographics().fit(people[train], later)
    known = table.standardised(people)
    own = OwnMean().fit(data.rt_s[train], later)
    plain = JamesStein().fit(data.rt_s[train], later)
    ours = KShot().fit(data.rt_s[train], later, data.conditions[train], known[train])
    told = {"demographics": table.predict(people[test])}
    for k in ks:
        seen = data.seen(k)[test]
        told[f"own k={_k(k)}"] = own.predict(seen)
        told[f"james_stein k={_k(k)}"] = plain.predict(seen)
        predicted = ours.predict(seen, data.conditions[test], known[test])
        told[f"k_shot k={_k(k)}"] = cast("Float64", predicted)
    return told


def _parts(trials: Trials, tasks: Sequence[TaskSpec]) -> list[tuple[TaskSpec, str, Trials]]:
    """Every run of every task, in order."""
    pairs = trials.table[["task", "run"]].drop_duplicates().itertuples(index=False)
    out = []
    for task, run in sorted(pairs):
        spec = next((spec for spec in tasks if spec.names(task)), None)
        if spec is not None:
            out.append((spec, str(run), trials.of(task, run)))
    return out


def _cost(table: pd.DataFrame) -> pd.Series:
    """Mean of the second condition less that of the first, of each person."""
    means = table.groupby(["participant", "kind"])["rt"].mean().unstack()
    return means.iloc[:, 1] - means.iloc[:, 0]


def _r(a: Float64, b: Float64) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _k(k: int | None) -> str:
    return "half" if k is None else str(k)
