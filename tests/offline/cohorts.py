"""Small cohorts with made-up values, for tests of what is done with cohorts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas

__all__ = ["ATLAS", "people_table", "series", "write_series"]

ATLAS = Atlas("eight", tuple(f"R{k}" for k in range(8)))


def series(seed: int, n_volumes: int = 60, n_rois: int = 8) -> NDArray[np.float64]:
    """Correlated signals at BOLD magnitude."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((n_rois, n_rois)) + 0.5
    return np.asarray(10_000.0 + 50.0 * rng.standard_normal((n_volumes, n_rois)) @ mixing)


def people_table(n: int = 10, **columns: list[Any]) -> pd.DataFrame:
    """Participants p00.. of two sites, as text."""
    table = pd.DataFrame(
        {
            "participant": [f"p{k:02d}" for k in range(n)],
            "site": [("A", "B")[k % 2] for k in range(n)],
            "age": [str(20 + k) for k in range(n)],
        }
    )
    return table.assign(**{name: [str(v) for v in values] for name, values in columns.items()})


def write_series(folder: Path, n: int = 10, **changed: NDArray[Any]) -> Path:
    """One npy of series for each participant; some replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        name = f"p{k:02d}"
        np.save(folder / f"{name}.npy", changed.get(name, series(k)))
    return folder
