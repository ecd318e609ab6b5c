"""How well a twin tells what people do, every row beside what has to be beaten.

Outcome of the first table: mean response time of the later half of a run (or of another run). A
person is told by members that were not trained with them; baselines are fitted in the same folds.
What is seen of a person: nothing but the connectome; the first k correct trials; the first half;
another run. Figures of real and of simulated people are never in one evaluation; what the data at
hand do not allow is a row "not measured", with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.baselines import Cpm, Demographics, JamesStein, KernelRidge, KShot, OwnMean
from offline.twin.further import further_tables
from offline.twin.intervals import N_DRAWS, compare, evaluate, less_means
from offline.twin.runs import FEWEST_PEOPLE, Run, runs_of
from offline.twin.study import Study
from offline.twin.twin import Twin

__all__ = ["KS", "NOT_MEASURED", "Evaluation", "evaluate_twin"]

KS = (2, 5, 10, 20)
NOT_MEASURED = "not measured"
NO_FC = "connectomes of these people are not at hand"
NO_TWIN = "no twin given"
NO_SHOT = "a twin of the whole form takes no trials"
N_EXCHANGES = 10
BY_CONNECTOME: dict[str, Callable[[], Any]] = {
    "kernel ridge": KernelRidge,
    "kernel ridge, quadratic": partial(KernelRidge, "quadratic"),
    "CPM": Cpm,
}
"""Baselines that see the connectome alone: of edges, of their products, of summed edges."""

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """Tables by name, and the sentence that comes first.

    Attributes
    ----------
    name : str
    provenance : {"real", "synthetic"}
    tables : dict of str to pandas.DataFrame
        `response_times`, `choices`, `calibration`, `bold`, `matched`, `stability`, `edges`,
        `interventions`, `cost`, `left_out`.
    settings : dict
        Of this evaluation.
    """

    name: str
    provenance: str
    tables: dict[str, pd.DataFrame]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether a twin was."""
        table = self.tables["response_times"]
        return bool(((table["predictor"] == "twin") & table["rmse_ms"].notna()).any())

    @property
    def adds(self) -> tuple[list[str], list[str]]:
        """What is seen of people, where the twin beats every baseline and where it does not.

        It does where its error is smaller than the best baseline's, with a paired interval that
        leaves out 0.
        """
        table = self.tables["response_times"]
        better: list[str] = []
        nothing: list[str] = []
        for (task, run, seen), rows in table.groupby(["task", "run", "seen"], sort=False):
            twin = rows[(rows["predictor"] == "twin") & rows["rmse_ms"].notna()]
            others = rows[rows["rmse_gain_ms"].notna()]
            if not len(twin) or not len(others):
                continue
            best = others.loc[others["rmse_ms"].idxmin()]
            what = f"{task} {run}, {seen}"
            (better if best["rmse_gain_low_ms"] > 0.0 else nothing).append(what)
        return better, nothing


def evaluate_twin(
    study: Study,
    twin: Twin | None = None,
    *,
    ks: Sequence[int] = KS,
    n_draws: int = N_DRAWS,
    seed: int = 0,
    threads: int = 1,
    say: Say | None = None,
) -> Evaluation:
    """Judge a twin on a study; without one, the baselines alone.

    Parameters
    ----------
    study : Study
        Of the twin's training people, of new people, or of both.
    twin : Twin or None
    ks : sequence of int
        Trials seen.
    n_draws : int
        Of the bootstrap over people.
    seed : int
        Of folds where there is no twin, of exchanges and draws.
    threads : int
        Of torch.
    say : callable or None
        Told of progress.

    Raises
    ------
    TwinError
        If the twin is of real people and the study of simulated ones, or the other way round, or
        there is no run with enough people.
    AtlasError, ScaleError
        If the connectomes are not the twin's.
    """
    if seed < 0:
        raise TwinError(f"expected a seed >= 0, found {seed}; give that or more")
    if twin is not None:
        study.require_kind_of(twin)
    say = say or (lambda text: None)
    usable = twin if study.edges is not None else None
    missing = NO_TWIN if twin is None and study.edges is not None else NO_FC
    start_s = time.process_time()
    runs = list(runs_of(study, usable, seed))
    if not runs:
        raise TwinError(
            f"expected a run with at least {FEWEST_PEOPLE} people, found none; add people"
        )
    rows, exchanged = [], []
    for run in runs:
        say(f"{run.task} {run.run}: {len(run.rows)} people, response times")
        for case in _cases(study, usable, run, runs, ks, missing, threads):
            rows += _rows(case, n_draws, seed)
        if usable is not None:
            exchanged.append(_matched(study, usable, run, n_draws, seed, threads))
    tables = {
        "response_times": pd.DataFrame(rows),
        "matched": pd.DataFrame(exchanged or [_absent(missing)]),
        **further_tables(study, usable, runs, missing, n_draws, seed, threads, say),
        "left_out": study.left_out,
    }
    settings = {
        "ks": list(ks), "n_draws": n_draws, "seed": seed, "n_people": len(study.examples.people),
        "n_runs": len(runs), "evaluation_cpu_s": round(time.process_time() - start_s, 1),
    }  # fmt: skip
    return Evaluation(study.name, study.provenance, tables, settings)


@dataclass(frozen=True)
class Case:
    """What is seen of people, and what predictors make of it.

    `truth` and `told` are in s; `absent` gives the reason why a predictor was not measured;
    `apart` says why others are not compared with the twin, "" where they are.
    """

    about: dict[str, Any]
    truth: Float64
    told: dict[str, Float64]
    folds: Ints
    absent: dict[str, str]
    apart: str


def _cases(
    study: Study,
    twin: Twin | None,
    run: Run,
    runs: Sequence[Run],
    ks: Sequence[int],
    missing: str,
    threads: int,
) -> Iterator[Case]:
    """The connectome alone; the first trials; the first half; another run."""
    apart = ""
    if run.all_new and twin is not None:
        apart = f"learned from people of this source; the twin from {len(twin.people)} others"

    def case(seen: str, told: dict[str, Float64], absent: dict[str, str]) -> Case:
        about = {"task": run.task, "run": run.run, "seen": seen}
        return Case(about, run.data.second_s, told, run.folds, absent, apart)

    no_twin = {} if twin is not None else {"twin": missing}
    unseen = _by_others(study, run)
    no_fc = {} if study.edges is not None else dict.fromkeys(BY_CONNECTOME, missing)
    if twin is not None:
        unseen["twin"] = _told(study, twin, run, None, threads)
    yield case("connectome only", unseen, no_twin | no_fc)
    sizes: list[int | None] = [*ks, None]
    learns = twin is not None and twin.settings.form == "low_rank"
    no_shot = no_twin if twin is None or learns else {"twin": NO_SHOT}
    own = study.examples.of(run.rows)
    for size, told in zip(sizes, _by_own(study, run, sizes), strict=True):
        if twin is not None and learns:
            keep = run.early if size is None else own.until(size, run.early)
            told["twin"] = _told(study, twin, run, keep, threads)
        yield case("first half" if size is None else f"first {size} trials", told, no_shot)
    other = next((r for r in runs if r.task == run.task and r.run != run.run), None)
    if other is not None:
        yield _other_run(study, twin if learns else None, run, other, no_shot, apart, threads)


def _by_others(study: Study, run: Run) -> dict[str, Float64]:
    """Baselines that see no trial of a person."""
    later, n = run.data.second_s, len(run.rows)
    table = study.people.iloc[run.rows]
    columns = demographics_of(table)
    z = None if study.edges is None else study.edges[run.rows]
    told = {"group mean": np.zeros(n)}
    told |= {"demographics": np.zeros(n)} if columns else {}
    told |= {name: np.zeros(n) for name in BY_CONNECTOME if z is not None}
    for train, test in run.held_out():
        told["group mean"][test] = later[train].mean()
        if columns:
            about = Demographics(columns).fit(table.iloc[train], later[train])
            told["demographics"][test] = about.predict(table.iloc[test])
        if z is not None:
            for name, make in BY_CONNECTOME.items():
                told[name][test] = make().fit(z[train], later[train]).predict(z[test])
    return told


def _by_own(study: Study, run: Run, sizes: Sequence[int | None]) -> list[dict[str, Float64]]:
    """Baselines that see the first trials of a person, by how many; None for the first half."""
    data, n = run.data, len(run.rows)
    table = study.people.iloc[run.rows]
    columns = demographics_of(table)
    by_size: list[dict[str, Float64]] = [
        {name: np.zeros(n) for name in ("own mean", "James–Stein", "k-shot estimator")}
        for _ in sizes
    ]
    for train, test in run.held_out():
        later, rt = data.second_s[train], data.rt_s[train]
        known = np.zeros((n, 0))
        if columns:
            known = Demographics(columns).fit(table.iloc[train], later).standardised(table)
        own, plain = OwnMean().fit(rt, later), JamesStein().fit(rt, later)
        several = KShot().fit(rt, later, data.conditions[train], known[train])
        for size, told in zip(sizes, by_size, strict=True):
            seen = data.seen(size)[test]
            told["own mean"][test] = own.predict(seen)
            told["James–Stein"][test] = plain.predict(seen)
            told["k-shot estimator"][test] = several.predict(
                seen, data.conditions[test], known[test]
            )
    return by_size


def demographics_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Columns of a participants table that are known of people."""
    return tuple(name for name in ("age", "sex", "site", "group") if name in table)


def _told(study: Study, twin: Twin, run: Run, seen: Bools | None, threads: int) -> Float64:
    """The twin's mean RT of the later half, some trials seen or none."""
    own = study.examples.of(run.rows)
    behaviour = None if seen is None else own.known(seen)
    z = study.connectomes[run.rows]
    return twin.simulate(z, own.shown(run.late), behaviour, threads=threads).rt_s


def _other_run(
    study: Study,
    twin: Twin | None,
    run: Run,
    other: Run,
    absent: dict[str, str],
    apart: str,
    threads: int,
) -> Case:
    """Mean RT of this run, all of the other one being seen."""
    both = np.flatnonzero(np.isin(run.rows, other.rows))
    place = {row: k for k, row in enumerate(other.rows.tolist())}
    at = np.array([place[row] for row in run.rows[both].tolist()], np.int64)
    y = np.nanmean(run.data.rt_s[both], axis=1)
    x = np.nanmean(other.data.rt_s[at], axis=1)
    line, folds = np.zeros(len(y)), run.folds[both]
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        slope, intercept = np.polyfit(x[train], y[train], 1)
        line[test] = intercept + slope * x[test]
    told = {"own mean": x, "own mean, fitted line": line}
    if twin is not None:
        rows = run.rows[both]
        own = study.examples.of(rows)
        behaviour, task = own.known(other.here[at]), own.shown(run.here[both])
        z = study.connectomes[rows]
        told["twin"] = twin.simulate(z, task, behaviour, threads=threads).rt_s
    about = {"task": run.task, "run": run.run, "seen": f"run {other.run}"}
    return Case(about, y, told, folds, absent, apart)


def _rows(case: Case, n_draws: int, seed: int) -> list[dict[str, Any]]:
    """One row a predictor; the twin first."""
    truth, told = case.truth, case.told
    asked = n_draws, seed, case.folds
    figures = evaluate(truth, told, *asked)
    about = {**case.about, "n": len(truth)}
    rows = []
    for name in sorted(told, key=lambda name: name != "twin"):
        r, rmse = figures[name]["r"], figures[name]["rmse"]
        row = {
            **about, "predictor": name, "r": r.value, "r_low": r.low, "r_high": r.high,
            "rmse_ms": 1e3 * rmse.value, "rmse_low_ms": 1e3 * rmse.low,
            "rmse_high_ms": 1e3 * rmse.high, "note": "" if name == "twin" else case.apart,
        }  # fmt: skip
        if "twin" in told and name != "twin" and not case.apart:
            gain = compare(truth, told, "twin", name, *asked)
            row |= {
                "r_gain": gain["r"].value,
                "r_gain_low": gain["r"].low,
                "r_gain_high": gain["r"].high,
                "rmse_gain_ms": 1e3 * gain["rmse"].value,
                "rmse_gain_low_ms": 1e3 * gain["rmse"].low,
                "rmse_gain_high_ms": 1e3 * gain["rmse"].high,
            }
        rows.append({**EMPTY, **row})
    return rows + [
        {**EMPTY, **about, "predictor": name, **_absent(why)} for name, why in case.absent.items()
    ]


EMPTY: dict[str, Any] = {
    **dict.fromkeys(("task", "run", "seen", "n", "predictor")),
    **dict.fromkeys(("r", "r_low", "r_high", "rmse_ms", "rmse_low_ms", "rmse_high_ms"), np.nan),
    **dict.fromkeys(("r_gain", "r_gain_low", "r_gain_high"), np.nan),
    **dict.fromkeys(("rmse_gain_ms", "rmse_gain_low_ms", "rmse_gain_high_ms"), np.nan),
    "note": "",
}


def _matched(
    study: Study, twin: Twin, run: Run, n_draws: int, seed: int, threads: int
) -> dict[str, Any]:
    """r with people's own connectomes less r with those of others of their fold."""
    z, truth = study.connectomes[run.rows], less_means(run.data.second_s, run.folds)
    task = study.examples.of(run.rows).shown(run.late)

    def told(edges: Float64) -> Float64:
        return less_means(twin.simulate(edges, task, threads=threads).rt_s, run.folds)

    own = told(z)
    rng = np.random.default_rng((seed, 5))
    others = []
    for _ in range(N_EXCHANGES):
        order = np.arange(len(z))
        for _, test in run.held_out():
            turned = rng.permutation(test)
            order[turned] = np.roll(turned, 1)
        others.append(told(z[order]))
    draws = rng.integers(0, len(z), (n_draws, len(z)))
    gaps = _r(truth[draws], own[draws])
    gaps = gaps - np.mean([_r(truth[draws], other[draws]) for other in others], axis=0)
    low, high = np.percentile(gaps, [2.5, 97.5])
    shuffled = float(np.mean([_r(truth, other) for other in others]))
    matched = float(_r(truth, own))
    return {
        "task": run.task, "run": run.run, "n": len(z), "r_matched": matched,
        "r_exchanged": shuffled, "gap": matched - shuffled, "gap_low": float(low),
        "gap_high": float(high), "note": "",
    }  # fmt: skip


def _absent(reason: str) -> dict[str, Any]:
    return {"note": f"{NOT_MEASURED}: {reason}"}


def _r(a: Float64, b: Float64) -> Float64:
    """r over the last axis; 0 where one says the same of everybody."""
    a, b = (values - values.mean(axis=-1, keepdims=True) for values in (a, b))
    both = np.sqrt(np.sum(a * a, axis=-1) * np.sum(b * b, axis=-1))
    product = np.sum(a * b, axis=-1)
    return np.asarray(np.where(both > 1e-15, product / np.maximum(both, 1e-15), 0.0))
