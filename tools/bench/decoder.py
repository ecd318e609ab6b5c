"""The published LASSO recipe at full size: CPU time, certificates, and what it finds.

Simulated people (`decoder_cohort`). The recipe is run whole: 10 folds x 10 draws of 125 + 125
people, 25 λ, 10 inner folds and the data set itself, 27,500 certified solutions. CPU time is
process time over all threads, compilation excluded. Beside it: liblinear (scikit-learn) on a
sample of the same fits, extrapolated; skglm on a sample of problems, solved to 1e-10, for the
difference in objective and coefficients. True edges are known, so what the counts and their
permutation null recover is shown as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from offline.decoder import LassoEnsemble, max_count_null
from offline.decoder.folds import class_draw, deal
from offline.decoder.path import LassoPath, lasso_path
from tools.bench.decoder_cohort import SimulatedPeople, simulate
from tools.bench.decoder_rival import skglm_solutions

__all__ = ["measure", "prove"]

SIZES = {140: 2.0, 379: 10.0}
"""CPU minutes of the whole recipe that are allowed, by number of ROIs."""

CLASS_SIZE = 125
SAMPLED = (2, 8, 14, 20, 24)
"""Points of a path at which rivals solve the same problem."""

GAP_LIMIT = 1e-6
OBJECTIVE_LIMIT = 2e-6
"""Of the relative difference to the independent solver: each may be a gap away from the optimum."""

Float64 = NDArray[np.float64]


def measure(n_rois: int, n_draws: int = 10, n_permutations: int = 0) -> dict[str, Any]:
    """One size: the recipe, its rivals on a sample, and what is recovered.

    Parameters
    ----------
    n_rois : int
    n_draws : int
        Draws in each fold; 10 is the recipe.
    n_permutations : int
        Of the null of one draw a fold; 0 for none.
    """
    people = simulate(n_rois)
    row: dict[str, Any] = {
        "people": f"{len(people.y)} simulated",
        "n_edges": int(people.X.shape[1]),
        **_recipe(people, n_draws),
        **_rivals(people),
    }
    hours = row["liblinear_cpu_s_per_fit"] * row["solutions"] / 3600.0
    row["liblinear_hours_extrapolated"] = hours
    row["times_less_than_liblinear"] = hours * 60.0 / row["cpu_minutes"]
    if n_permutations:
        row["null"] = _null(people, n_permutations)
    return row


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    lasso_path(*_small())  # compiled before anything is timed
    rows = [measure(n, n_permutations=100 if n == min(SIZES) else 0) for n in SIZES]
    reached = {}
    for row, minutes in zip(rows, SIZES.values(), strict=True):
        size = f"{row['n_edges']:,} edges"
        reached[f"{size}: whole recipe in <= {minutes:g} minutes of CPU"] = (
            row["cpu_minutes"] <= minutes
        )
        reached[f"{size}: every duality gap <= {GAP_LIMIT:g} of the objective"] = (
            row["largest_gap"] <= GAP_LIMIT
        )
        reached[f"{size}: objective within {OBJECTIVE_LIMIT:g} of skglm's"] = (
            row["skglm_largest_objective_difference"] <= OBJECTIVE_LIMIT
        )
    return {"simulated": True, "rows": rows}, reached


def _small() -> tuple[NDArray[np.float32], Float64, NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 200), dtype=np.float32)
    return X, (X[:, 0] > 0).astype(np.float64), np.arange(60) % 10


def _recipe(people: SimulatedPeople, n_draws: int) -> dict[str, Any]:
    decoder = LassoEnsemble(n_undersamples=n_draws, class_size=CLASS_SIZE)
    started_s = time.process_time()
    decoder.fit(people.X, people.y, sites=people.sites)
    cpu_s = time.process_time() - started_s
    counts = decoder.selection_counts_
    true = np.zeros(len(counts), bool)
    true[people.true_edges] = True
    most = np.argsort(-counts, kind="stable")[: true.sum()]
    return {
        "classifiers": len(decoder.intercept_),
        "solutions": len(decoder.intercept_) * 25 * 11,
        "cpu_minutes": cpu_s / 60.0,
        "largest_gap": float(decoder.gap_.max()),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "auc_out_of_fold": _auc(decoder.out_of_fold_, people.y),
        "edges_per_classifier": float(np.mean(np.diff(decoder.coef_.indptr))),
        "true_edges": int(true.sum()),
        "true_among_most_chosen": int(true[most].sum()),
        "mean_count_true": float(counts[true].mean()),
        "mean_count_other": float(counts[~true].mean()),
    }


def _rivals(people: SimulatedPeople) -> dict[str, Any]:
    """The same problems, one draw's, by liblinear and skglm."""
    rng = np.random.default_rng(1)
    rows = class_draw(people.y, CLASS_SIZE, rng)
    X, y = people.X[rows], people.y[rows].astype(np.float64)
    path = lasso_path(X, y, deal(rows, people.y[rows], 10, rng))
    exact = X.astype(np.float64)
    standard = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    lambdas = [float(path.lambdas[k]) for k in SAMPLED]
    ours = [_ours(path, k, exact) for k in SAMPLED]
    objectives = [_objective(standard, y, w, lam) for w, lam in zip(ours, lambdas, strict=True)]
    return {
        **_against_skglm(standard, y, lambdas, ours, objectives),
        **_against_liblinear(standard, y, lambdas, objectives),
    }


def _ours(path: LassoPath, at: int, X: Float64) -> Float64:
    """Coefficients per SD at one point of the path."""
    w = np.zeros(X.shape[1])
    w[path.edges[at]] = path.coefficients[at] * X[:, path.edges[at]].std(axis=0)
    return w


def _objective(X: Float64, y: Float64, w: Float64, lam: float) -> float:
    """Objective at these coefficients with the best intercept for them."""
    eta = X @ w
    b = 0.0
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-(eta + b)))
        step = np.sum(y - p) / np.sum(p * (1 - p))
        b += float(np.clip(step, -2, 2))
        if abs(step) < 1e-14:
            break
    return float(np.mean(np.logaddexp(0, eta + b) - y * (eta + b)) + lam * np.abs(w).sum())


def _against_skglm(
    X: Float64, y: Float64, lambdas: list[float], ours: list[Float64], objectives: list[float]
) -> dict[str, Any]:
    coef, _, about = skglm_solutions(X, y, lambdas)
    theirs = [_objective(X, y, w, lam) for w, lam in zip(coef, lambdas, strict=True)]
    return {
        "skglm": about["version"],
        "skglm_problems": len(lambdas),
        "skglm_largest_objective_difference": max(
            abs(a - b) / b for a, b in zip(objectives, theirs, strict=True)
        ),
        "skglm_largest_coefficient_difference": max(
            float(np.abs(a - b).max()) for a, b in zip(ours, coef, strict=True)
        ),
        "largest_coefficient": max(float(np.abs(w).max()) for w in ours),
        "skglm_cpu_s_per_fit": float(np.mean(about["cpu_s"])),
    }


def _against_liblinear(
    X: Float64, y: Float64, lambdas: list[float], objectives: list[float]
) -> dict[str, Any]:
    """Default tolerance; its intercept is penalised, so it is scaled up to hardly be."""
    from sklearn.linear_model import LogisticRegression

    cpu_s, excess = [], []
    for lam, best in zip(lambdas, objectives, strict=True):
        model = LogisticRegression(
            l1_ratio=1.0, solver="liblinear", C=1.0 / (len(y) * lam), intercept_scaling=100.0
        )
        started_s = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        cpu_s.append(time.process_time() - started_s)
        excess.append(_objective(X, y, model.coef_[0], lam) / best - 1.0)
    return {
        "liblinear_fits": len(lambdas),
        "liblinear_cpu_s_per_fit": float(np.mean(cpu_s)),
        "liblinear_largest_excess": max(excess),
    }


def _null(people: SimulatedPeople, n_permutations: int) -> dict[str, Any]:
    """Permutation null of ten classifiers (one draw a fold), and what it lets through."""
    decoder = LassoEnsemble(class_size=CLASS_SIZE)
    started_s = time.process_time()
    null = max_count_null(
        decoder,
        people.X,
        people.y,
        sites=people.sites,
        n_permutations=n_permutations,
        n_undersamples=1,
    )
    found = null.significant
    return {
        "permutations": n_permutations,
        "models": null.n_models,
        "threshold": null.threshold,
        "significant": len(found),
        "of_them_true": int(np.isin(found, people.true_edges).sum()),
        "cpu_minutes": (time.process_time() - started_s) / 60.0,
    }


def _auc(output: Float64, y: NDArray[np.int64]) -> float:
    order = np.argsort(np.argsort(output))
    n_up = int(y.sum())
    return float((order[y == 1].sum() - n_up * (n_up - 1) / 2) / (n_up * (len(y) - n_up)))


COLUMNS = {
    "edges": "n_edges",
    "CPU min": "cpu_minutes",
    "largest gap": "largest_gap",
    "skglm: objective": "skglm_largest_objective_difference",
    "coefficients": "skglm_largest_coefficient_difference",
    "liblinear h": "liblinear_hours_extrapolated",
    "excess": "liblinear_largest_excess",
    "AUC": "auc_out_of_fold",
    "true/60": "true_among_most_chosen",
}


def main() -> int:
    """Print the table, or JSON with `--json`; `--quick` runs a tenth of the draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    lasso_path(*_small())
    rows = [measure(n, n_draws=1 if options.quick else 10) for n in SIZES]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table(title="LASSO recipe on 713 simulated people, 125 + 125 a draw, CPU time")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in COLUMNS.values()))
    Console(width=max(Console().width, 120)).print(table)
    return 0


def _cell(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
