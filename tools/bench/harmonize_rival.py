"""ComBat programs, each run in a process of its own: `python harmonize_rival.py JOB`.

A job is a folder with `job.json`; results are written into it. Published packages run in their
own environment, fcnef in this one, on problems made from a seed by NumPy alone, with the same
clock and the same look at memory.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CASES = [
    {"parametric": p, "empirical_bayes": eb, "mean_only": mean, "reference": ref, "kept": kept}
    for p, eb in ((True, True), (False, True), (True, False))
    for mean in (False, True)
    for ref in (False, True)
    for kept in (False, True)
]
"""Every option with every other: 24 combinations."""

REFERENCE = "site03"
Problem = tuple[np.ndarray, np.ndarray, pd.DataFrame]


def problem(n_scans: int, n_edges: int, n_sites: int, dtype: str = "float64") -> Problem:
    """Simulated Fisher z, sites and covariates (age in half years, which float32 holds exactly)."""
    rng = np.random.default_rng(1)
    place = rng.permutation(np.arange(n_scans) % n_sites)
    sites = np.array([f"site{k:02d}" for k in place], object)
    people = pd.DataFrame(
        {"age": 20.0 + rng.integers(0, 90, n_scans) / 2, "sex": rng.integers(0, 2, n_scans)}
    )
    people["sex"] = np.where(people["sex"] == 1, "M", "F")
    location = 0.05 * rng.standard_normal((n_sites, n_edges))
    scale = 0.15 * np.exp(0.1 * rng.standard_normal((n_sites, n_edges)))
    slope = 0.002 * rng.standard_normal(n_edges)
    X = np.empty((n_scans, n_edges), dtype)
    for row, site, age in zip(X, place, people["age"], strict=True):
        row[:] = 0.3 + location[site] + slope * age + scale[site] * rng.standard_normal(n_edges)
    return X, sites, people


def peak_gb() -> float:
    """Largest resident memory of this process since `reset_peak`, 1e9 bytes."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e9


def reset_peak() -> None:
    """Forget the peak so far: what is in memory now, the input, still counts.

    What making the input left behind goes back to the system first.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _neurocombat(X: np.ndarray, sites: np.ndarray, people: Any, case: dict[str, Any]) -> np.ndarray:
    """neuroCombat wants edges by scans."""
    if not hasattr(np, "int"):
        setattr(np, "int", int)  # noqa: B010 (its reference option uses the removed alias)
    from neuroCombat import neuroCombat

    table = pd.DataFrame({"site": sites})
    kept = case["kept"]
    if kept:
        table = table.assign(age=people["age"].to_numpy(), sex=people["sex"].to_numpy())
    found = neuroCombat(
        X,
        table,
        "site",
        categorical_cols=["sex"] if kept else None,
        continuous_cols=["age"] if kept else None,
        eb=case["empirical_bayes"],
        parametric=case["parametric"],
        mean_only=case["mean_only"],
        ref_batch=REFERENCE if case["reference"] else None,
    )
    adjusted: np.ndarray = found["data"]
    return adjusted


def _numeric(sites: np.ndarray, people: Any, kept: bool) -> pd.DataFrame:
    table = pd.DataFrame({"SITE": sites})
    if kept:
        sex = (people["sex"] == "M").astype(float).to_numpy()
        table = table.assign(age=people["age"].to_numpy(), sex=sex)
    return table


def _neuroharmonize(X: np.ndarray, sites: np.ndarray, people: Any, case: dict[str, Any]) -> Any:
    from neuroHarmonize import harmonizationApply, harmonizationLearn

    table = _numeric(sites, people, case["kept"])
    train = slice(0, case.get("train", len(X)))
    reference = REFERENCE if case["reference"] else None
    model, adjusted = harmonizationLearn(
        X[train], table[train], eb=case["empirical_bayes"], ref_batch=reference
    )
    if "train" not in case:
        return adjusted
    rest = slice(case["train"], None)
    return harmonizationApply(X[rest], table[rest].reset_index(drop=True), model)


def _combatlearn(X: np.ndarray, sites: np.ndarray, people: Any, case: dict[str, Any]) -> Any:
    from combatlearn import ComBat

    if "edge" in case:
        X = X[:, [case["edge"]]]
    index = pd.RangeIndex(len(X))
    kept = case["kept"]
    model = ComBat(
        eps=case.get("eps", 1e-8),
        batch=pd.Series(sites, index=index),
        discrete_covariates=people[["sex"]] if kept else None,
        continuous_covariates=people[["age"]] if kept else None,
        method="fortin",
        parametric=case["parametric"],
        mean_only=case["mean_only"],
        reference_batch=REFERENCE if case["reference"] else None,
    )
    frame = pd.DataFrame(X)
    return model.fit(frame).transform(frame).to_numpy()


def _fcnef(X: np.ndarray, sites: np.ndarray, people: Any, case: dict[str, Any]) -> Any:
    from offline.harmonize import ComBat

    model = ComBat(
        case["parametric"],
        case["empirical_bayes"],
        case["mean_only"],
        REFERENCE if case["reference"] else None,
    )
    kept = people[["age", "sex"]] if case["kept"] else None
    model.fit(X, sites, kept)
    return model.transform(X, sites, kept, out=X if case.get("in_place") else None)


PACKAGES = {
    "fcnef": _fcnef,
    "neuroCombat": _neurocombat,
    "neuroHarmonize": _neuroharmonize,
    "combatlearn": _combatlearn,
}


def _run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    X, sites, people = problem(*job["problem"])
    call = PACKAGES[job["package"]]
    if job["package"] == "neuroCombat":
        # in the order it wants, before its clock and its memory are looked at
        X = np.ascontiguousarray(X.T)
    # imports are paid on a small problem, on every side
    small, small_sites, small_people = problem(40, 6, 4)
    first = {name: value for name, value in job["cases"][0].items() if name != "train"}
    call(small.T if job["package"] == "neuroCombat" else small, small_sites, small_people, first)
    times, system = [], []
    reset_peak()
    for k, case in enumerate(job["cases"]):
        start = os.times()
        adjusted = call(X.copy() if len(job["cases"]) > 1 else X, sites, people, case)
        end = os.times()
        system.append(end.system - start.system)
        times.append(end.user - start.user + system[-1])
        if job.get("keep"):
            wide = adjusted.T if job["package"] == "neuroCombat" else adjusted
            np.save(folder / f"{k}.npy", np.asarray(wide, np.float64))
    return {"cpu_s": times, "system_s": system, "peak_gb": peak_gb()}


def main(name: str) -> None:
    folder = Path(name)
    job = json.loads((folder / "job.json").read_text())
    (folder / "done.json").write_text(json.dumps(_run(job, folder)))


if __name__ == "__main__":
    main(sys.argv[1])
