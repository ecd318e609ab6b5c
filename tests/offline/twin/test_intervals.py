"""r and error of predictions made fold by fold, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from offline.twin.intervals import compare, evaluate, less_means

FOLDS = np.arange(60) % 5


def folded(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, and what a model says that knows nothing: the mean of the other folds."""
    y = np.random.default_rng(seed).standard_normal(60)
    means = np.array([y[fold != FOLDS].mean() for fold in range(5)])
    return y, means[FOLDS]


def test_means_of_other_folds_are_no_prediction():
    """Pooled over folds the mean alone has a negative r, which is the folds' doing."""
    y, told = folded(0)
    pooled = evaluate(y, {"mean": told}, 100)["mean"]["r"].value
    assert pooled < -0.1
    assert np.isnan(evaluate(y, {"mean": told}, 100, folds=FOLDS)["mean"]["r"].value)


def test_r_is_of_values_less_their_folds_means_and_the_error_of_values():
    y, base = folded(1)
    told = base + 0.5 * y + np.random.default_rng(2).standard_normal(60)
    found = evaluate(y, {"one": told}, 200, folds=FOLDS)["one"]
    a, b = y.copy(), told.copy()
    for fold in range(5):
        a[fold::5] -= y[fold::5].mean()
        b[fold::5] -= told[fold::5].mean()
    assert np.allclose(less_means(y, FOLDS), a)
    assert found["r"].value == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found["r"].low < found["r"].value < found["r"].high
    assert found["rmse"].value == pytest.approx(np.sqrt(np.mean((y - told) ** 2)))
    both = {"one": told, "other": base}
    gain = compare(y, both, "one", "other", 200, folds=FOLDS)
    assert gain["rmse"].value == pytest.approx(
        np.sqrt(np.mean((y - base) ** 2)) - found["rmse"].value
    )
