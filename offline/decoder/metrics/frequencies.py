"""Whether probabilities are frequencies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.decoder.metrics.intervals import wilson

__all__ = ["calibration", "calibration_error"]

Float64 = NDArray[np.float64]


def calibration(y: NDArray[Any], p: Float64, n_bins: int = 10) -> pd.DataFrame:
    """How often scans of a predicted probability are positive, in bins of equally many scans.

    Returns
    -------
    pandas.DataFrame
        One row a bin: `n`, `predicted` (mean probability), `observed`, `low`, `high` (Wilson).
    """
    y = np.asarray(y, bool)
    order = np.argsort(p, kind="stable")
    rows = []
    for part in np.array_split(order, max(1, min(n_bins, len(p) // 10))):
        n, count = len(part), int(y[part].sum())
        rows.append((n, float(p[part].mean()), count / n, *wilson(count, n)))
    return pd.DataFrame(rows, columns=["n", "predicted", "observed", "low", "high"])


def calibration_error(bins: pd.DataFrame) -> float:
    """Expected calibration error: mean distance of observed from predicted, over scans."""
    distance = (bins["observed"] - bins["predicted"]).abs()
    return float((distance * bins["n"]).sum() / bins["n"].sum())
