"""All tables that a folder of the public release lets one compute, without a twin.

`fcnef twin reproduce` runs it where the data are at hand: behaviour alone, behaviour from
connectivity of people never seen (kernel ridge, CPM, the same on connectivity shuffled between
people), and how much of a person's activation map the others' mean map tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.decoder.folds import deal
from offline.errors import TwinError
from offline.twin.baselines import Cpm, Demographics, GroupMap, KernelRidge
from offline.twin.behaviour import include
from offline.twin.intervals import evaluate
from offline.twin.leftout import broken_off, lines_of_runs, unmatched, why_nobody
from offline.twin.maps import contrast_map
from offline.twin.release import Release
from offline.twin.tables import (
    N_FOLDS,
    held_out_predictions,
    held_out_table,
    run_data,
    seen_table,
)
from offline.twin.tasks import MATCHING, STROOP, TaskSpec
from offline.twin.trials import Trials

__all__ = ["map_table", "reproduce", "unseen_table"]

RUNS: tuple[tuple[TaskSpec, str, str], ...] = (
    (MATCHING, "hammer", "AP"),
    (STROOP, "stroop", "AP"),
    (STROOP, "stroop", "PA"),
)
CONTRASTS = {"matching": ("face", "shape"), "stroop": ("incongruent", "congruent")}

Float64 = NDArray[np.float64]


def reproduce(
    root: str | Path,
    labels: Sequence[str] | None = None,
    n_folds: int = N_FOLDS,
    n_repeats: int = 5,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Compute every table of the release.

    Parameters
    ----------
    root : str or Path
        Folder of OpenNeuro ds005237.
    labels : sequence of str or None
        Names of its regions.
    n_folds, n_repeats : int
        Folds of people, and times they are dealt anew.
    seed : int

    Returns
    -------
    dict of str to pandas.DataFrame
        `left_out` (who has no whole connectome is left out of `unseen` alone, a run without a map
        of `maps` alone), `seen`, `held_out`, `unseen`, `maps`.

    Raises
    ------
    TwinError
        If it is not the release's layout, too few people are left for these folds, or there is
        no such seed or number of repeats.
    """
    if seed < 0 or n_repeats < 1:
        raise TwinError(
            f"expected a seed >= 0 and at least one repeat, found {seed} and {n_repeats}; give such"
        )
    release = Release(root, labels)
    demographics = release.demographics()
    included = include(release.trials(), people=demographics.index)
    connectivity = release.connectivity()
    edges = dict(zip(connectivity.people, connectivity.z, strict=True))
    without = unmatched(included.trials.people, demographics, edges)
    left_out = [broken_off(connectivity.left_out), included.table, without]
    whole = set(included.trials.people) - set(without["participant"])
    if not whole:
        why = why_nobody(pd.concat(left_out, ignore_index=True))
        raise TwinError(f"expected people with usable trials and a connectome, found none: {why}")
    held_out, unseen, maps = [], [], []
    for spec, task, run in RUNS:
        part = included.trials.of(task, run)
        if not len(part):
            continue
        data = run_data(part, spec)
        told = held_out_predictions(
            data, demographics, n_folds=n_folds, n_repeats=n_repeats, seed=seed
        )
        about = {"task": spec.name, "run": run}
        held_out.append(held_out_table(data, told).assign(**about))
        with_fc = [name for name in data.people if name in whole]
        z = np.array([edges[name] for name in with_fc])
        later_s = pd.Series(data.second_s, data.people)[with_fc]
        found = unseen_table(z, later_s, demographics.loc[with_fc], n_repeats, seed, n_folds)
        unseen.append(found.assign(**about))
        mapped, no_map = map_table(release, part, spec, task, run, seed)
        maps.append(mapped.assign(**about))
        left_out.append(no_map)
    return {
        "left_out": pd.concat(left_out, ignore_index=True),
        "seen": seen_table(included.trials),
        "held_out": pd.concat(held_out, ignore_index=True),
        "unseen": pd.concat(unseen, ignore_index=True),
        "maps": pd.concat(maps, ignore_index=True),
    }


def unseen_table(
    z: Float64,
    later_s: pd.Series,
    demographics: pd.DataFrame,
    n_repeats: int = 5,
    seed: int = 0,
    n_folds: int = N_FOLDS,
) -> pd.DataFrame:
    """How well connectivity tells the response time of people never seen.

    Parameters
    ----------
    z : ndarray of float64, shape (n_people, n_edges)
        Fisher z, finite.
    later_s : pandas.Series, length n_people
        The outcome, s, indexed by participant.
    demographics : pandas.DataFrame
        Of the same people; `site` makes folds even.

    Returns
    -------
    pandas.DataFrame
        One row a predictor, `n`, `r` and `rmse_ms` with intervals: demographics, kernel ridge,
        CPM, and both of connectivity shuffled between people within their sites.
    """
    y = later_s.to_numpy()
    sites = pd.factorize(demographics["site"])[0].astype(np.int64)
    shuffled = z[_within(sites, np.random.default_rng([seed, 1]))]
    sources: dict[str, tuple[Any, Any]] = {
        "demographics": (Demographics, demographics),
        "kernel ridge": (KernelRidge, z),
        "CPM": (Cpm, z),
        "kernel ridge, shuffled": (KernelRidge, shuffled),
        "CPM, shuffled": (Cpm, shuffled),
    }
    told = {name: np.zeros(len(y)) for name in sources}
    for repeat in range(n_repeats):
        rng = np.random.default_rng([seed, repeat])
        fold = deal(np.arange(len(y)), np.zeros(len(y), np.int64), n_folds, rng, sites)
        for number in range(n_folds):
            train, test = fold != number, fold == number
            for name, (model, X) in sources.items():
                told[name][test] += model().fit(X[train], y[train]).predict(X[test]) / n_repeats
    rows = []
    for name, figures in evaluate(y, told).items():
        r, rmse = figures["r"], figures["rmse"]
        rows.append(
            {
                "predictor": name,
                "n": len(y),
                "r": r.value,
                "r_low": r.low,
                "r_high": r.high,
                "rmse_ms": 1000.0 * rmse.value,
                "rmse_low_ms": 1000.0 * rmse.low,
                "rmse_high_ms": 1000.0 * rmse.high,
            }
        )
    return pd.DataFrame(rows)


def map_table(
    release: Release, trials: Trials, spec: TaskSpec, task: str, run: str, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How much of a person's map of a task the mean map of others tells.

    Returns
    -------
    table : pandas.DataFrame
        One row: `contrast`, `n`, `group_map_r` (median over people of the correlation over
        regions between their map of t and the mean map of the other folds), its quartiles.
    left_out : pandas.DataFrame
        Runs that give no map.
    """
    bold = release.bold(release.atlas().labels, trials.people, [(task, run)])
    more, less = CONTRASTS[spec.name]
    maps, left = [], []
    for participant, rows in trials.table.groupby("participant", sort=False):
        found = bold.get((str(participant), task, run))
        if found is None:
            left.append((participant, task, run, "no BOLD", "no file"))
            continue
        try:
            maps.append(contrast_map(found, rows, spec, more, less)[1])
        except TwinError as error:
            left.append((participant, task, run, "no map", str(error)))
    values = np.array(maps)
    fold = np.random.default_rng([seed, 2]).permutation(len(values)) % N_FOLDS
    r = []
    # one person alone is told by nobody
    for number in np.unique(fold) if len(values) > 1 else ():
        told = GroupMap().fit(values[fold != number]).map_
        for own in values[fold == number]:
            both = np.isfinite(own) & np.isfinite(told)
            r.append(float(np.corrcoef(own[both], told[both])[0, 1]))
    low, middle, high = np.percentile(r, [25, 50, 75]) if r else (np.nan,) * 3
    row = {"contrast": f"{more} > {less}", "n": len(r), "group_map_r": middle}
    table = pd.DataFrame([{**row, "quartile_low": low, "quartile_high": high}])
    return table, lines_of_runs(left)


def _within(sites: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Everyone's place taken by another of the same site."""
    out = np.arange(len(sites))
    for site in np.unique(sites):
        members = np.flatnonzero(sites == site)
        order = rng.permutation(members)
        # a turn of a random order leaves no one in their own place
        out[order] = np.roll(order, 1)
    return out
