"""No true effect, prevalence that differs by site: what is reported, and what would have been.

Simulated cohorts (`offline.synthetic.case_control`): six sites with measurement biases, the share
of patients from 15 to 85 %, and no edge that differs between patients and controls. `validate`
must report chance. Beside it stands what is not to be believed, made from the same cohorts: AUCs
pooled over sites, of edges as measured, after ComBat that keeps the label (fitted on everybody),
and after ComBat that does not. A cohort with planted effects shows that something that is there
is reported.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import RidgeClassifier

from offline.decoder import LassoEnsemble
from offline.decoder.judge import LEFT_OUT, POOLED, WITHIN
from offline.decoder.metrics import auc, site_auc
from offline.decoder.outputs import Task, out_of_fold
from offline.decoder.samples import Samples
from offline.decoder.validate import validate
from offline.harmonize import ComBat
from offline.synthetic import SyntheticCohort, case_control

__all__ = ["PREVALENCE", "measure", "prove"]

PREVALENCE = (0.15, 0.3, 0.45, 0.55, 0.7, 0.85)
N_PEOPLE = 200
"""At each site: the standard error of one cohort's AUC is then about .02."""

N_EDGES = 2000
SEEDS = range(12)
LASSO_SEEDS = range(6)
LASSO = LassoEnsemble(n_folds=5, n_undersamples=1, n_lambdas=12, n_inner_folds=5)
LASSO_SIZE: dict[str, int] = {"n_people": 100, "n_edges": 600}
"""Smaller than the recipe and than the other cohorts: judged on the average alone."""

LIMIT = 0.05


def measure(
    seeds: Iterable[int] = SEEDS,
    n_people: int = N_PEOPLE,
    n_edges: int = N_EDGES,
    estimator: Any = None,
    n_effect_edges: int = 0,
    naive: bool = True,
) -> list[dict[str, Any]]:
    """One row a seed: what is reported and what is not to be believed.

    Parameters
    ----------
    seeds : iterable of int
    n_people : int
        At each of six sites.
    n_edges : int
    estimator : estimator or None
        None for a ridge classifier.
    n_effect_edges : int
        Edges in which patients differ by half an SD; 0 for no effect.
    naive : bool
        Whether what is not to be believed is made as well.
    """
    rows = []
    for seed in seeds:
        cohort = case_control(
            [n_people] * len(PREVALENCE),
            PREVALENCE,
            n_edges=n_edges,
            n_effect_edges=n_effect_edges,
            seed=seed,
        )
        model = RidgeClassifier(alpha=n_edges / 10) if estimator is None else estimator
        row = {"seed": seed, **_reported(cohort, model, seed)}
        rows.append(row | _naive(cohort, model, seed) if naive else row)
    return rows


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    groups = {
        "ridge, no effect": measure(),
        "lasso, no effect": measure(LASSO_SEEDS, estimator=LASSO, naive=False, **LASSO_SIZE),
        "ridge, 15 edges with effect": measure(range(3), n_effect_edges=15),
    }
    figures = {name: {"seeds": rows, "mean": _mean(rows)} for name, rows in groups.items()}
    reached = {}
    for name in ("ridge, no effect", "lasso, no effect"):
        rows = pd.DataFrame(groups[name])
        for figure in (WITHIN[True], LEFT_OUT[True]):
            apart = (rows[figure] - 0.5).abs()
            mean = abs(float(rows[figure].mean()) - 0.5)
            reached[f"{name}: {figure} .5 ± .05 on average"] = mean <= LIMIT
            if name.startswith("ridge"):
                reached[f"{name}: {figure} .5 ± .05 at every seed"] = float(apart.max()) <= LIMIT
    covered = pd.DataFrame(groups["ridge, no effect"])["interval covers chance"].mean()
    reached["ridge, no effect: 95 % intervals cover chance in at least 85 %"] = bool(
        covered >= 0.85
    )
    found = _mean(groups["ridge, 15 edges with effect"])[WITHIN[True]]
    reached["an effect that is there is reported (AUC > .6)"] = found > 0.6
    return figures, reached


def _reported(cohort: SyntheticCohort, model: Any, seed: int) -> dict[str, Any]:
    found = validate(
        cohort.X,
        cohort.diagnosis,
        cohort.people,
        model,
        ComBat(),
        n_permutations=0,
        seed=seed,
        target="diagnosis",
        positive="MDD",
    )
    first = found.figures[WITHIN[True]]
    return {
        WITHIN[True]: float(first.value),
        "interval covers chance": bool(first.covers_chance),
        LEFT_OUT[True]: float(found.figures[LEFT_OUT[True]].value),
        "nested ComBat, " + POOLED[True]: found.not_to_believe[POOLED[True]].value,
        "site told before": float(found.site_prediction["balanced"].iloc[0]),
        "site told after": float(found.site_prediction["balanced"].iloc[1]),
        "confounded": bool(found.warnings),
    }


def _naive(cohort: SyntheticCohort, model: Any, seed: int) -> dict[str, float]:
    """Pooled AUCs of harmonizing everybody before the folds, and each one's AUC within sites."""
    sick = cohort.diagnosis == "MDD"
    label = pd.DataFrame({"diagnosis": cohort.diagnosis})
    combat = ComBat()
    kinds = {
        "edges as measured": cohort.X,
        "ComBat keeping the label, on everybody": combat.fit_transform(
            cohort.X, cohort.site, label
        ),
        "ComBat without it, on everybody": combat.fit_transform(cohort.X, cohort.site),
    }
    found = {}
    for name, X in kinds.items():
        outputs = _cross_validated(np.asarray(X), sick, cohort.site, model, seed)
        found[f"{name}: {POOLED[True]}"] = auc(sick, outputs)
        found[f"{name}: {WITHIN[True]}"] = float(site_auc(sick, outputs, cohort.site).value)
    return found


def _cross_validated(
    X: NDArray[Any], sick: NDArray[np.bool_], site: NDArray[Any], model: Any, seed: int
) -> NDArray[np.float64]:
    samples = Samples.of(X, site, None, None, None)
    task = Task(samples, sick.astype(float), True, model, None, "unharmonized", seed)
    return out_of_fold(task)[0]


def _mean(rows: list[dict[str, Any]]) -> dict[str, float]:
    numbers = pd.DataFrame(rows).drop(columns="seed")
    return {str(name): float(value) for name, value in numbers.mean().items()}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--lasso", action="store_true", help="LASSO ensemble instead of ridge")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size: dict[str, Any] = {"estimator": LASSO, **LASSO_SIZE} if options.lasso else {}
    rows = measure(range(options.seeds), **size)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    frame = pd.DataFrame(rows).drop(columns="seed").astype(float)
    table = Table("no true effect (simulated)", "mean", "least", "largest", box=None)
    for name in frame:
        table.add_row(
            name, *(f"{v:.3f}" for v in (frame[name].mean(), frame[name].min(), frame[name].max()))
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
