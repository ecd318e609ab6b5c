"""What could pass for a target that is told: the site, and who is at which.

`confounding` looks at the table of people alone, before anything is trained, and says in words
what the data cannot answer. `predict_site` asks how well a scan's site can be told from its edges
before and after harmonization: nested, so that a person's own scans have no part in what
harmonizes or classifies them. After harmonization it should be near chance; that it is not, or
far below, is told as it is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier

from offline.decoder.folds import deal
from offline.decoder.infold import fit_harmonizer, harmonize
from offline.decoder.metrics import Figure, association, drawn, person_draws
from offline.decoder.samples import Samples

if TYPE_CHECKING:
    from offline.blocks import Executor

__all__ = ["STRONG", "confounding", "predict_site"]

STRONG = 0.5
"""Cramér's V of target and site from which on they are called confounded."""

NOTABLE = 0.2
"""From which on it is said at all, where the test finds it."""

MOST_EDGES = 20_000
"""Edges the site is told from, drawn evenly: site effects are everywhere."""

N_FOLDS = 5
Float64 = NDArray[np.float64]


def confounding(
    y: Float64, samples: Samples, categorical: bool, name: str, classes: tuple[str, str] | None
) -> tuple[pd.DataFrame, float, tuple[str, ...]]:
    """Target against site: the table, how far one tells the other, and what to be warned of.

    Parameters
    ----------
    y : ndarray of float64, shape (n_scans,)
    samples : Samples
    categorical : bool
    name : str
        What the target is called.
    classes : tuple of str or None
        Names of the negative and the positive class.

    Returns
    -------
    tuple
        People of each class at each site (for a continuous target their number, mean and SD);
        Cramér's V, or for a continuous target the share of its SD that is between sites; warnings.
    """
    assert samples.sites is not None
    # a person counts once for each value: of a trait once, of a state before and after
    own = np.stack([samples.people[samples.rows].astype(float), y[samples.rows]], axis=1)
    once = samples.rows[np.sort(np.unique(own, axis=0, return_index=True)[1])]
    site, value = samples.sites[once].astype(str), y[once]
    if not categorical:
        groups = pd.DataFrame({"site": site, "value": value}).groupby("site")["value"]
        table = groups.agg(people="count", mean="mean", SD="std").reset_index()
        between = groups.transform("mean").to_numpy()
        share = float(between.std() / value.std())
        return table, share, tuple(_of_numbers(table, share, name))
    assert classes is not None
    labels = np.array([classes[int(v)] for v in value], object)
    table = pd.crosstab(pd.Series(site, name="site"), pd.Series(labels, name=None))
    table = table.reindex(columns=list(classes), fill_value=0).reset_index()
    v, _, p = association(labels, site)
    return table, v, tuple(_of_classes(table, v, p, name, classes))


def _of_numbers(table: pd.DataFrame, share: float, name: str) -> list[str]:
    said = []
    if len(table) == 1:
        said.append("One site: nothing can be said of another scanner.")
    if share > STRONG:
        said.append(
            f"{name} differs between sites ({share:.0%} of its SD is between them): what tells the"
            f" site tells {name}. Believe the figures within sites."
        )
    alone = table.loc[table["people"] == 1, "site"].tolist()
    if alone:
        said.append(f"Sites with one person: {', '.join(alone)}. They judge nothing.")
    return said


def _of_classes(
    table: pd.DataFrame, v: float, p: float, name: str, classes: tuple[str, str]
) -> list[str]:
    said = []
    negative, positive = table[classes[0]], table[classes[1]]
    mixed = (negative > 0) & (positive > 0)
    if len(table) == 1:
        said.append("One site: nothing can be said of another scanner.")
    elif not mixed.any():
        said.append(
            f"{name.upper()} IS CONFOUNDED WITH SITE: no site has both {classes[0]} and"
            f" {classes[1]}. Whatever is told apart here may be the scanner; these data cannot"
            " answer the question."
        )
    elif v >= STRONG:
        said.append(
            f"{name.upper()} IS CONFOUNDED WITH SITE (Cramér's V {v:.2f}): whoever knows the site"
            f" knows much of {name}. Pooled figures are not evidence; believe those within sites."
        )
    elif v >= NOTABLE and p < 0.05:
        said.append(
            f"The share of {classes[1]} differs between sites (Cramér's V {v:.2f}): pooled figures"
            " are inflated; believe those within sites."
        )
    n = negative + positive
    kinds = {
        "Sites with one person": n == 1,
        f"Sites without {classes[0]}": (negative == 0) & (n > 1),
        f"Sites without {classes[1]}": (positive == 0) & (n > 1),
    }
    for words, which in kinds.items():
        if which.any() and len(table) > 1:
            named = ", ".join(table.loc[which, "site"])
            said.append(f"{words}: {named}. They have no AUC of their own and judge nothing.")
    return said


def predict_site(
    samples: Samples, harmonizer: Any, seed: int, executor: Executor | None = None
) -> pd.DataFrame:
    """How well a site is told from the edges, before and after harmonization.

    A linear classifier (ridge on ±1, classes weighted equally) in folds of people that are even
    over sites. Before: edges as measured. After: the harmonizer is fitted on the training folds
    alone and applied to both sides; it knows a scan's site, as it does wherever it is applied.

    Parameters
    ----------
    samples : Samples
    harmonizer : estimator or None
        Unfitted; None: before only.
    seed : int
        Of the folds.
    executor : Executor or None
        Runs the folds; None runs them here.

    Returns
    -------
    pandas.DataFrame
        Rows `before` and `after`; `accuracy` with `low`, `high` (people drawn anew) and `chance`
        (the largest site's share), `balanced`, `balanced_low`, `balanced_high` and
        `balanced_chance` (mean over sites of the share recognised, and 1 / sites); `n_sites`. No
        rows where fewer than two sites have two people.
    """
    assert samples.sites is not None
    rows, people = samples.rows, samples.people[samples.rows]
    site = samples.sites[rows].astype(str)
    first = np.unique(people, return_index=True)[1]
    names, counts = np.unique(site[first], return_counts=True)
    kept = names[counts >= 2]
    if len(kept) < 2:
        return pd.DataFrame()
    use = np.isin(site, kept)
    rows, people, site = rows[use], people[use], site[use]
    n_folds = int(min(N_FOLDS, counts[counts >= 2].min()))
    labels = np.unique(site, return_inverse=True)[1]
    folds = deal(people, labels, n_folds, np.random.default_rng(seed))
    part = _some_edges(samples)
    draws = person_draws(people, site, labels, seed)
    table = []
    for when, using in (("before", None), ("after", harmonizer)):
        if when == "after" and harmonizer is None:
            break
        work = partial(_site_fold, part, using, rows, site, folds)
        numbers = list(range(n_folds))
        found = (
            executor.map(work, numbers, label=f"site, {when}") if executor else map(work, numbers)
        )
        said = np.empty(len(rows), object)
        for fold, names_said in zip(numbers, found, strict=True):
            said[folds == fold] = names_said
        table.append({"when": when, **_recognised(said == site, site, draws)})
    return pd.DataFrame(table)


def _some_edges(samples: Samples) -> Samples:
    """The samples with at most `MOST_EDGES` edges, in memory."""
    step = max(1, -(-samples.X.shape[1] // MOST_EDGES))
    if step == 1 and isinstance(samples.X, np.ndarray):
        return samples
    from offline.store import edge_blocks, read_block

    offset, parts = 0, []
    for edges in edge_blocks(samples.X):
        parts.append(read_block(samples.X, edges)[:, offset::step])
        offset = (offset - (edges.stop - edges.start)) % step
    X = np.concatenate(parts, axis=1)
    return Samples(
        X,
        samples.rows,
        samples.travelers,
        samples.people,
        samples.names,
        samples.sites,
        samples.covariates,
    )


def _site_fold(
    samples: Samples,
    harmonizer: Any,
    rows: NDArray[np.int64],
    site: NDArray[Any],
    folds: NDArray[np.int64],
    fold: int,
) -> NDArray[Any]:
    """Sites said of one fold's scans."""
    inside, outside = rows[folds != fold], rows[folds == fold]
    X, held_out = samples.read(inside), samples.read(outside)
    if harmonizer is not None:
        assert samples.sites is not None
        fitted = fit_harmonizer(harmonizer, samples, inside, X)
        X = harmonize(fitted, X, samples.sites[inside], samples.covariates_of(inside))
        held_out = harmonize(
            fitted, held_out, samples.sites[outside], samples.covariates_of(outside)
        )
    mean = X.mean(axis=0)
    # the penalty in units of the edges' variance, so that it means the same for any atlas
    alpha = float(X.var(axis=0).sum())
    model = RidgeClassifier(alpha=alpha, class_weight="balanced", fit_intercept=True)
    model.fit(X - mean, site[folds != fold])
    return np.asarray(model.predict(held_out - mean))


def _recognised(
    right: NDArray[np.bool_], site: NDArray[Any], draws: NDArray[np.float32]
) -> dict[str, float]:
    names, counts = np.unique(site, return_counts=True)
    correct = right.astype(np.float32)
    overall = Figure(float(right.mean()), *drawn((draws @ correct) / draws.sum(axis=1)))
    by_site = np.zeros(len(draws))
    value = 0.0
    for name in names:
        at = site == name
        value += float(right[at].mean()) / len(names)
        by_site += (draws[:, at] @ correct[at]) / draws[:, at].sum(axis=1) / len(names)
    low, high = drawn(by_site)
    return {
        "accuracy": overall.value,
        "low": overall.low,
        "high": overall.high,
        "chance": float(counts.max() / counts.sum()),
        "balanced": value,
        "balanced_low": low,
        "balanced_high": high,
        "balanced_chance": 1.0 / len(names),
        "n_sites": len(names),
    }
