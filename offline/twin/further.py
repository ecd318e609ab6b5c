"""Further tables of an evaluation: choices, BOLD, stability, known truth, cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.twin.baselines import GroupMap
from offline.twin.determinism import deterministic
from offline.twin.examples import Examples
from offline.twin.intervals import compare, evaluate, less_means
from offline.twin.intervene import ask
from offline.twin.outcomes import Target, measured_responses, outcomes
from offline.twin.recovery import truth_tables
from offline.twin.runs import Run
from offline.twin.study import Study
from offline.twin.twin import Twin

__all__ = ["further_tables"]

Float64 = NDArray[np.float64]
N_BINS = 5
K_CHOICES = 10
FEWEST_PEOPLE = 10
LEAST_PROBABILITY = 1e-6
N_OUTCOMES = 3
"""Of a trial, in this order: correct, wrong, missed."""

RIVALS = {"gain": "rates of the condition", "gain_own": "own rates, first half"}
"""Of the twin's choices: column of its gain, and over what."""


def further_tables(
    study: Study,
    twin: Twin | None,
    runs: Sequence[Run],
    missing: str,
    n_draws: int,
    seed: int,
    threads: int,
    say: Callable[[str], None],
) -> dict[str, pd.DataFrame]:
    """`choices`, `calibration`, `bold`, `stability`, `edges`, `interventions`, `cost`."""
    choices, bins = [], []
    for run in runs:
        say(f"{run.task} {run.run}: choices and BOLD")
        found, calibrated = _choices(study, twin, run, missing, n_draws, seed, threads)
        choices += found
        bins += calibrated
    return {
        "choices": pd.DataFrame(choices),
        "calibration": pd.DataFrame(bins or [_absent(missing)]),
        "bold": pd.DataFrame(
            [
                row
                for run in runs
                for row in _bold(study, twin, run, missing, n_draws, seed, threads)
            ]
        ),
        "stability": pd.DataFrame(list(_stability(study, twin, runs[0], missing, threads))),
        **truth_tables(study, twin, missing, seed, threads),
        "cost": pd.DataFrame(list(_cost(study, twin, runs[0], missing, threads))),
    }


def _choices(
    study: Study, twin: Twin | None, run: Run, missing: str, n_draws: int, seed: int, threads: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Log loss of correct, wrong and missed in the later half, a trial; and its calibration."""
    own = study.examples.of(run.rows)
    what = _what_happened(own)
    late = run.late & (what >= 0)
    about = {"task": run.task, "run": run.run, "n": len(run.rows)}
    told = {
        "rates of the condition": _rates_of_others(own, run, what),
        "own rates, first half": _own_rates(own, run, what),
    }
    unknown: list[dict[str, Any]] = []
    if not (own.answer[late] >= 0).all():
        why = "the right answers are not in the table"
    elif twin is None:
        why = missing
    else:
        why = ""
        task = own.shown(late)
        z = study.connectomes[run.rows]
        shots = [K_CHOICES] if twin.settings.form == "low_rank" else []
        for k in (None, *shots):
            name = "twin, connectome only" if k is None else f"twin, first {k}"
            seen = None if k is None else own.known(own.until(k, run.early))
            p = twin.simulate(z, task, seen, threads=threads).probabilities
            told[name] = _spread(_by_outcome(p, task), own, late)
    if why:
        unknown = [{**about, "predictor": "twin", "note": f"not measured: {why}"}]
    rng = np.random.default_rng((seed, 7))
    draws = rng.integers(0, len(run.rows), (n_draws, len(run.rows)))
    losses = {name: _loss(p, what, late) for name, p in told.items()}
    rows, bins = [], []
    for name, loss in losses.items():
        low, high = np.percentile(loss[draws].mean(axis=1), [2.5, 97.5])
        row = {
            **about, "predictor": name, "log_loss": loss.mean(), "low": low, "high": high,
            "error_calibration": _calibration_error(told[name], what, late), "note": "",
        }  # fmt: skip
        if name.startswith("twin"):
            for column, rival in RIVALS.items():
                gain = losses[rival] - loss
                ends = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
                row |= {column: gain.mean(), f"{column}_low": ends[0], f"{column}_high": ends[1]}
            bins += _bins(told[name], what, late, {**about, "predictor": name})
        rows.append(row)
    return rows + unknown, bins


def _what_happened(examples: Examples) -> NDArray[np.int64]:
    """Outcome of every trial, -1 where there is none, or a press too soon to be an answer."""
    what = np.where(np.isfinite(examples.log_rt), 0, 1)
    what = np.where(examples.choice == examples.n_actions, 2, what)
    known = (what != 1) | (examples.choice >= 0) | (examples.response_step >= 0)
    return np.where((examples.onset >= 0) & known, what, -1)


def _by_outcome(p: Float64, task: Examples) -> Float64:
    """Probabilities of outcomes from those of the actions."""
    answer = np.maximum(task.answer, 0)[..., None]
    right = np.take_along_axis(p, answer, axis=-1)[..., 0]
    missed = p[..., -1]
    return np.stack([right, np.maximum(1.0 - right - missed, 0.0), missed], axis=-1)


def _spread(p: Float64, own: Examples, late: NDArray[np.bool_]) -> Float64:
    """Back from the segments that were run to all of them."""
    out = np.full((*own.onset.shape, N_OUTCOMES), np.nan)
    out[:, np.flatnonzero(late.any(axis=(0, 2)))] = p
    return out


def _rates_of_others(own: Examples, run: Run, what: NDArray[np.int64]) -> Float64:
    """Of each condition, in the later halves of the people of other folds."""
    out = np.full((*what.shape, N_OUTCOMES), np.nan)
    for train, test in run.held_out():
        for place in range(len(own.conditions)):
            kind = own.condition == place
            seen = what[train][(kind & run.late)[train]]
            seen = seen[seen >= 0]
            if not len(seen):
                continue
            rates = (np.bincount(seen, minlength=N_OUTCOMES) + 0.5) / (len(seen) + 1.5)
            block = out[test]
            block[(kind & run.late)[test]] = rates
            out[test] = block
    return out


def _own_rates(own: Examples, run: Run, what: NDArray[np.int64]) -> Float64:
    """The person's first half, worth as much as it is beside the others' rates (20 trials)."""
    prior = _rates_of_others(own, run, what)
    counts = np.stack(
        [(run.early & (what == k)).sum(axis=(1, 2)) for k in range(N_OUTCOMES)], axis=1
    )
    both = 20.0 * prior + counts[:, None, None, :]
    return np.asarray(both / both.sum(axis=-1, keepdims=True))


def _loss(p: Float64, what: NDArray[np.int64], late: NDArray[np.bool_]) -> Float64:
    """Mean log loss of each person's trials, (n_people,)."""
    chosen = np.take_along_axis(p, np.maximum(what, 0)[..., None], axis=-1)[..., 0]
    loss = np.where(late, -np.log(np.maximum(np.nan_to_num(chosen), LEAST_PROBABILITY)), 0.0)
    return np.asarray(loss.sum(axis=(1, 2)) / np.maximum(late.sum(axis=(1, 2)), 1))


def _calibration_error(p: Float64, what: NDArray[np.int64], late: NDArray[np.bool_]) -> float:
    """Mean gap between told and found share of trials not correct, over bins of trials."""
    bins = _bins(p, what, late, {})
    n = sum(row["trials"] for row in bins)
    return float(sum(row["trials"] * abs(row["told"] - row["found"]) for row in bins) / n)


def _bins(
    p: Float64, what: NDArray[np.int64], late: NDArray[np.bool_], about: dict[str, Any]
) -> list[dict[str, Any]]:
    told, found = 1.0 - p[..., 0][late], what[late] != 0
    order = np.argsort(told, kind="stable")
    return [
        {**about, "trials": len(part), "told": told[part].mean(), "found": found[part].mean()}
        for part in np.array_split(order, N_BINS)
    ]


def _bold(
    study: Study, twin: Twin | None, run: Run, missing: str, n_draws: int, seed: int, threads: int
) -> Iterator[dict[str, Any]]:
    """Each region's response of each person, told from the connectome, and by the group's map."""
    about = {"task": run.task, "run": run.run}
    own = study.examples.of(run.rows)
    if twin is None or not twin.regions or not own.regions:
        why = missing if twin is None else "no BOLD of these people, or none in the twin"
        yield {**about, "note": f"not measured: {why}"}
        return
    own = own.shown(run.here)
    z = study.connectomes[run.rows]
    kinds = sorted({own.conditions[c] for c in np.unique(own.condition) if c >= 0})
    names: list[str | None] = [None, *kinds]
    for condition in names:
        measured = measured_responses(own, condition)
        targets = [str(Target("response", region, condition)) for region in twin.regions]
        told = np.nanmean(ask(twin, z, own, targets, threads=threads), axis=1)
        for place, region in enumerate(twin.regions):
            if region not in own.regions:
                yield {**about, "region": region, "note": "not measured: no BOLD of it here"}
                continue
            y = measured[:, own.regions.index(region)]
            there = np.isfinite(y)
            if there.sum() < FEWEST_PEOPLE:
                yield {**about, "region": region, "note": "not measured: too few people"}
                continue
            group = np.full(len(y), np.nan)
            for train, test in run.held_out():
                group[test] = GroupMap().fit(y[train][:, None]).map_[0]
            both = {"twin": told[place][there], "group map": group[there]}
            asked = n_draws, seed, run.folds[there]
            figures = evaluate(y[there], both, *asked)
            gain = compare(y[there], both, "twin", "group map", *asked)["rmse"]
            yield {
                **about, "region": region, "condition": condition or "all trials",
                "n": int(there.sum()), "r": figures["twin"]["r"].value,
                "r_low": figures["twin"]["r"].low, "r_high": figures["twin"]["r"].high,
                "rmse": figures["twin"]["rmse"].value,
                "rmse_group": figures["group map"]["rmse"].value, "gain": gain.value,
                "gain_low": gain.low, "gain_high": gain.high, "note": "",
            }  # fmt: skip


def _stability(
    study: Study, twin: Twin | None, run: Run, missing: str, threads: int
) -> Iterator[dict[str, Any]]:
    """How alike mean RT is that different seeds, folds and scans say.

    Seeds and folds are asked of people who are new to all members, if there are enough; of others,
    most members were trained with them, and agree on what they have learned by heart.
    """
    if twin is None or study.edges is None:
        yield {"over": "seeds, folds, rest runs", "note": f"not measured: {missing}"}
        return
    new = twin.folds_of(run.data.people) < 0
    who = "new" if new.sum() >= FEWEST_PEOPLE else "trained with"
    asked = np.flatnonzero(new) if who == "new" else np.arange(len(run.rows))
    z = study.connectomes[run.rows]
    task = study.examples.of(run.rows).shown(run.here)
    with deterministic(threads):
        told = np.array(
            [outcomes(m, task.of(asked), m.who(z[asked]), [Target("rt")])[0] for m in twin.members]
        )
    pairs = list(combinations(range(len(twin.members)), 2))
    for over, same in (("seeds", "fold"), ("folds", "seed")):
        kept = [
            (a, b)
            for a, b in pairs
            if getattr(twin.members[a], same) == getattr(twin.members[b], same)
        ]
        if kept:
            r = [float(np.corrcoef(told[a], told[b])[0, 1]) for a, b in kept]
            row = {"over": over, "people": who, "pairs": len(r)}
            yield {**row, "r": np.mean(r), "r_least": min(r), "note": ""}
        else:
            yield {"over": over, "note": f"not measured: the twin has one of the {over}"}
    if study.again is None:
        yield {"over": "rest runs", "note": "not measured: one scan of each person"}
        return
    first, second = (
        less_means(twin.simulate(edges, task, threads=threads).rt_s, run.folds)
        for edges in (z, study.again[run.rows])
    )
    between = float(np.corrcoef(first, second)[0, 1])
    rest = {"over": "rest runs", "people": "left out", "pairs": 1}
    yield {**rest, "r": between, "r_least": between, "note": ""}


def _cost(
    study: Study, twin: Twin | None, run: Run, missing: str, threads: int
) -> Iterator[dict[str, Any]]:
    """Members, their epochs and size, and the CPU time of using them."""
    if twin is None or study.edges is None:
        yield {"what": "twin", "note": f"not measured: {missing}"}
        return
    epochs = [len(member.curve) for member in twin.members]
    yield {"what": "members", "value": float(len(twin.members)), "unit": "", "note": ""}
    yield {"what": "epochs of a member, mean", "value": float(np.mean(epochs)), "unit": ""}
    n = sum(values.numel() for values in twin.members[0].parameters.values())
    yield {"what": "parameters of the network", "value": float(n), "unit": ""}
    own = study.examples.of(run.rows)
    z, task = study.connectomes[run.rows], own.shown(run.here)
    shots = [K_CHOICES] if twin.settings.form == "low_rank" else []
    for k in (None, *shots):
        name = "connectome only" if k is None else f"first {k} trials"
        seen = None if k is None else own.known(own.until(k, run.early))
        start_s = time.process_time()
        twin.simulate(z, task, seen, threads=threads)
        cost_ms = 1e3 * (time.process_time() - start_s) / len(run.rows)
        yield {"what": f"a person's run, {name}", "value": cost_ms, "unit": "ms CPU", "note": ""}


def _absent(reason: str) -> dict[str, Any]:
    return {"note": f"not measured: {reason}"}
