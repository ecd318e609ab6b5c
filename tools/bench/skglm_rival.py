"""Runs inside skglm's environment: solves what `decoder_rival` wrote, writes what it found."""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from skglm import SparseLogisticRegression


def main(folder: Path) -> None:
    with np.load(folder / "problem.npz") as problem:
        X, y, lambdas = np.asfortranarray(problem["X"]), problem["y"], problem["lambdas"]
    labels = np.where(y > 0.5, 1, -1)
    coefficients, intercepts, cpu_s = [], [], []
    # the first fit compiles
    SparseLogisticRegression(alpha=float(lambdas[0])).fit(X[:, :50], labels)
    for penalty in lambdas:
        model = SparseLogisticRegression(
            alpha=float(penalty), tol=1e-10, max_iter=200, max_epochs=50_000, fit_intercept=True
        )
        started_s = time.process_time()
        model.fit(X, labels)
        cpu_s.append(time.process_time() - started_s)
        coefficients.append(np.ravel(model.coef_))
        intercepts.append(float(np.ravel(model.intercept_)[0]))
    np.savez(folder / "solutions.npz", coef=np.array(coefficients), intercept=np.array(intercepts))
    about = {"version": version("skglm"), "cpu_s": cpu_s}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
