"""Simulated people for the decoders' tests: edges, groups and sites with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["People", "people"]


@dataclass(frozen=True)
class People:
    """Simulated scans; `true` are the edges in which patients differ."""

    X: NDArray[np.float64]
    y: NDArray[np.str_]
    sites: NDArray[np.str_]
    covariates: pd.DataFrame
    true: NDArray[np.int64]

    @property
    def known(self) -> dict[str, Any]:
        return {"sites": self.sites}


def people(
    n: int = 120, n_edges: int = 60, n_true: int = 5, effect: float = 1.2, seed: int = 0
) -> People:
    """Half patients, three sites with an offset each, the first `n_true` edges differ."""
    rng = np.random.default_rng(seed)
    y = np.array(["control", "patient"])[np.arange(n) % 2]
    site = rng.integers(0, 3, n)
    X = 0.3 + 0.2 * rng.standard_normal((n, n_edges))
    X += 0.1 * rng.standard_normal((3, n_edges))[site]
    X[y == "patient", :n_true] += 0.2 * effect
    covariates = pd.DataFrame({"age": rng.uniform(20, 60, n), "sex": rng.choice(["F", "M"], n)})
    return People(X, y, np.array(["A", "B", "C"])[site], covariates, np.arange(n_true))
