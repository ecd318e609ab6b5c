"""skglm in an environment of its own, called as a program: an independent solver to agree with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["skglm_solutions"]

FOLDER = Path(__file__).parents[2] / ".cache" / "rivals" / "skglm"
PACKAGES = ("skglm==0.5", "scikit-learn", "numpy", "numba", "scipy")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


def skglm_solutions(
    X: NDArray[np.float64], y: NDArray[np.float64], lambdas: list[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, Any]]:
    """Solve L1 logistic problems with an unpenalised intercept.

    Parameters
    ----------
    X : ndarray of float64, shape (n_scans, n_edges)
        Standardised edges.
    y : ndarray of float64, shape (n_scans,)
        0 or 1.
    lambdas : list of float
        Penalties on the mean loss.

    Returns
    -------
    tuple
        Coefficients (n_lambdas, n_edges), intercepts (n_lambdas,), and what it says of itself:
        `version`, `cpu_s` of each fit.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "problem.npz", X=X, y=y, lambdas=np.array(lambdas))
        script = Path(__file__).with_name("skglm_rival.py")
        subprocess.run(
            [_python(), str(script), name],
            env={**os.environ, **ONE_THREAD},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        with np.load(folder / "solutions.npz") as found:
            return found["coef"], found["intercept"], about


def _python() -> Path:
    """The environment's interpreter; the environment is made when first needed."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / "ready").exists():
        venv.create(FOLDER, with_pip=True, clear=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "-q", *PACKAGES]
        subprocess.run(install, check=True, stdout=sys.stderr)
        (FOLDER / "ready").touch()
    return python
