"""Real rest of three sites: what harmonization takes out, and what it leaves.

117 people of the RPN data (119 less two whose values are the same under two names), 121 ROIs (one
that is missing in eight people is left out for everyone). ComBat is fitted inside training folds
throughout. Asked before and after: how well a linear classifier tells the site; how often a
person's second half of the series is recognised by the first, among everyone and among people of
the own site; how well sex and age are told within sites. No traveling subjects are at hand, so
what of the sites' differences is the scanners' and what the people's cannot be told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeClassifier

from offline.atlas import Atlas
from offline.cohort import Cohort, Limits, build_cohort, open_source, read_people
from offline.decoder.confounds import predict_site
from offline.decoder.folds import deal
from offline.decoder.judge import LEFT_OUT, WITHIN
from offline.decoder.samples import Samples
from offline.decoder.validate import validate
from offline.errors import CohortError
from offline.harmonize import ComBat
from offline.store import read_block
from rtloop.connectivity import fisher_z

__all__ = ["Rest", "identification", "load", "prove"]

SERIES = "rpn_3site_mist122_timeseries.npz"
SEEDS = range(10)
N_FOLDS = 5
PENALTY_PER_EDGE = 0.05
"""About the variance of an edge's Fisher z: set beforehand, the same everywhere."""

GONE, MOST_LOST, MOST_LOST_IDENTITY = 0.75, 0.05, 0.02

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Rest:
    """The data.

    Attributes
    ----------
    X, first, second : ndarray of float64, shape (n_people, n_edges)
        Fisher z of the whole series, and of its halves.
    people : pandas.DataFrame
    """

    X: Float64
    first: Float64
    second: Float64
    people: pd.DataFrame

    @property
    def sites(self) -> NDArray[Any]:
        return np.asarray(self.people["site"], object)


def load(folder: Path) -> Rest:
    """Build the cohort and split the series of those who are in it.

    Parameters
    ----------
    folder : Path
        With the RPN files.
    """
    atlas = Atlas.load(folder / "rpn_atlas_mist122_relabeled.tsv")
    table = read_people(folder / "rpn_3site_participants.tsv")
    source = open_source(folder / SERIES, "series", atlas, len(table.table), drop=["GlobSig"])
    with tempfile.TemporaryDirectory() as name:
        build_cohort(Path(name) / "cohort", table, source, Limits(missing_rois="drop"))
        cohort = Cohort.open(Path(name) / "cohort")
        people, kept = cohort.people, cohort.atlas
        X = read_block(cohort.z, slice(None)).astype(np.float64)
    columns = 1 + np.array([atlas.labels.index(label) for label in kept.labels])
    pairs = kept.edges()
    halves: list[list[Float64]] = [[], []]
    with np.load(folder / SERIES, allow_pickle=False) as series:
        for person in people["participant"]:
            x = series[person][:, columns].astype(np.float64)
            middle = len(x) // 2
            for half, part in zip(halves, (x[:middle], x[middle:]), strict=True):
                half.append(fisher_z(np.corrcoef(part.T)[pairs[:, 0], pairs[:, 1]]))
    return Rest(X, np.array(halves[0]), np.array(halves[1]), people)


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    data = os.environ.get("FCNEF_DATA")
    if not data:
        raise CohortError("rest: expected FCNEF_DATA to name the folder of data, found none")
    rest = load(Path(data) / "rest")
    figures = {
        "people": rest.people["site"].value_counts().to_dict(),
        "edges": rest.X.shape[1],
        "site told": site_told(rest),
        "site told, ComBat keeping age and sex": site_told(rest, ["age", "sex"]),
        "identification": identification(rest),
        "sex and age": told_within_sites(rest),
        "variance between sites": variance_between_sites(rest),
    }
    told, same = figures["site told"], figures["identification"]
    kept = figures["sex and age"]
    chance = told["chance"]
    gone = (told["before"] - told["after"]) / (told["before"] - chance)
    figures["share of the site's excess over chance that is gone"] = gone
    figures["lost"] = {
        "identification, everyone": same["everyone"]["before"] - same["everyone"]["after"],
        "identification, own site": same["own site"]["before"] - same["own site"]["after"],
        "sex, AUC within sites": kept["sex"]["before"] - kept["sex"]["after"],
        "age, r within sites": kept["age"]["before"] - kept["age"]["after"],
    }
    reached = {
        "the site is told before (balanced accuracy >= .8)": told["before"] >= 0.8,
        f"at least {GONE:.0%} of its excess over chance is gone after": gone >= GONE,
        f"identification loses at most {MOST_LOST_IDENTITY}": max(
            figures["lost"]["identification, everyone"], figures["lost"]["identification, own site"]
        )
        <= MOST_LOST_IDENTITY,
        f"sex, AUC within sites, loses at most {MOST_LOST}": (
            figures["lost"]["sex, AUC within sites"] <= MOST_LOST
        ),
        f"age, r within sites, loses at most {MOST_LOST}": (
            figures["lost"]["age, r within sites"] <= MOST_LOST
        ),
    }
    if kept["age"]["before, low"] <= 0.0:
        figures["note"] = "age is not told before harmonization either: that it loses nothing is no"
        figures["note"] += " evidence that information on age is kept"
    return figures, reached


def site_told(rest: Rest, covariates: list[str] | None = None) -> dict[str, float]:
    """Balanced accuracy of telling the site before and after, mean over deals of the folds."""
    X, people = rest.X, rest.people
    if covariates:
        known = people[covariates].notna().all(axis=1).to_numpy(bool)
        X, people = X[known], people[known]
    samples = Samples.of(
        X,
        people["site"].to_numpy(object),
        people["participant"].to_numpy(object),
        people[covariates] if covariates else None,
        None,
    )
    tables = [predict_site(samples, ComBat(), seed) for seed in SEEDS]
    before, after = (
        np.array([table.loc[k, "balanced"] for table in tables], np.float64) for k in (0, 1)
    )
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "after, least": float(after.min()),
        "after, largest": float(after.max()),
        "after, low": float(np.mean([table.loc[1, "balanced_low"] for table in tables])),
        "after, high": float(np.mean([table.loc[1, "balanced_high"] for table in tables])),
        "chance": 1.0 / len(set(rest.sites.tolist())),
        "accuracy before": float(np.mean([table.loc[0, "accuracy"] for table in tables])),
        "accuracy after": float(np.mean([table.loc[1, "accuracy"] for table in tables])),
        "largest site": float(tables[0].loc[0, "chance"]),
    }


def identification(rest: Rest) -> dict[str, dict[str, float]]:
    """Share of people whose second half correlates most with their own first half.

    Nested: people are dealt to folds; ComBat is fitted on the first halves of the other folds and
    applied to both halves of the fold's people, among whom everyone is looked for. Both ways
    round, mean over deals.
    """
    names = np.unique(rest.sites.astype(str), return_inverse=True)[1]
    numbers = np.arange(len(names))
    found: dict[str, dict[str, list[float]]] = {
        gallery: {"before": [], "after": []} for gallery in ("everyone", "own site")
    }
    sizes: dict[str, list[float]] = {gallery: [] for gallery in found}
    for seed in SEEDS:
        folds = deal(numbers, names, N_FOLDS, np.random.default_rng(seed))
        for fold in range(N_FOLDS):
            inside, outside = folds != fold, np.flatnonzero(folds == fold)
            model = ComBat().fit(rest.first[inside], rest.sites[inside])
            halves = [rest.first[outside], rest.second[outside]]
            own = [np.asarray(model.transform(half, rest.sites[outside])) for half in halves]
            for when, (a, b) in (("before", halves), ("after", own)):
                r = np.corrcoef(a, b)[: len(outside), len(outside) :]
                same = names[outside][:, None] == names[outside][None, :]
                for gallery, allowed in (("everyone", np.ones_like(same)), ("own site", same)):
                    masked = np.where(allowed, r, -2.0)
                    for at in (masked.argmax(axis=0), masked.argmax(axis=1)):
                        found[gallery][when] += (at == np.arange(len(outside))).tolist()
                    if when == "before":
                        sizes[gallery].append(float(allowed.sum() / len(outside)))
    return {
        gallery: {
            **{when: float(np.mean(values)) for when, values in kinds.items()},
            "people looked among": float(np.mean(sizes[gallery])),
        }
        for gallery, kinds in found.items()
    }


def told_within_sites(rest: Rest) -> dict[str, dict[str, float]]:
    """AUC of sex and r of age within sites and at sites left out, mean over deals of the folds."""
    penalty = PENALTY_PER_EDGE * rest.X.shape[1]
    kinds = {"sex": RidgeClassifier(alpha=penalty), "age": Ridge(alpha=penalty)}
    table: dict[str, dict[str, float]] = {}
    for target, model in kinds.items():
        known = rest.people[target].notna().to_numpy(bool)
        people = rest.people[known].reset_index(drop=True)
        y = people[target].to_numpy(object)
        table[target] = {"people": int(known.sum())}
        for when, harmonizer in (("before", None), ("after", ComBat())):
            runs = [
                validate(rest.X[known], y, people, model, harmonizer, None, 0, seed, target=target)
                for seed in SEEDS
            ]
            kind = runs[0].classes is not None
            firsts = [run.figures[WITHIN[kind]] for run in runs]
            table[target] |= {
                when: float(np.mean([f.value for f in firsts])),
                f"{when}, low": float(np.mean([f.low for f in firsts])),
                f"{when}, high": float(np.mean([f.high for f in firsts])),
                f"{when}, sites left out": runs[0].figures[LEFT_OUT[kind]].value,
            }
    return table


def variance_between_sites(rest: Rest) -> dict[str, float]:
    """Share of the edges' variance that lies between sites; after: ComBat fitted on everyone."""
    after = np.asarray(ComBat().fit(rest.X, rest.sites).transform(rest.X, rest.sites))
    return {when: _between(X, rest.sites) for when, X in (("before", rest.X), ("after", after))}


def _between(X: Float64, sites: NDArray[Any]) -> float:
    means = np.empty_like(X)
    for site in set(sites.tolist()):
        means[sites == site] = X[sites == site].mean(axis=0)
    return float(means.var(axis=0).sum() / X.var(axis=0).sum())


def main() -> int:
    """Print the figures."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    print(json.dumps(prove()[0], indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
