"""Calibration maps outputs to frequencies, keeps their order, and never looks at who is judged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from offline.decoder.calibration import Calibrator, logit


def shrunken(n: int = 40_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs pulled to .5 of people of whom a quarter are patients."""
    rng = np.random.default_rng(seed)
    true = expit(2.0 * rng.standard_normal(n) - 1.5)
    label = (rng.random(n) < true).astype(float)
    return expit(0.3 * logit(true) + 0.4), label


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibrated_outputs_are_frequencies(method: str) -> None:
    output, label = shrunken()
    found = Calibrator.fit(method, output, label)
    new, truth = shrunken(seed=1)
    p = found(new)
    for low in np.arange(0.05, 0.85, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        if inside.sum() > 500:
            assert truth[inside].mean() == pytest.approx(p[inside].mean(), abs=0.04)
    assert np.all(np.diff(found(np.linspace(0, 1, 50))) >= 0)


def test_platt_undoes_a_logistic_map() -> None:
    output, label = shrunken(400_000)
    found = Calibrator.fit("platt", output, label)
    assert found.x[0] == pytest.approx(1 / 0.3, rel=0.05)
    assert found.y[0] == pytest.approx(-0.4 / 0.3, rel=0.1)


def test_platt_never_turns_the_order_and_survives_a_constant() -> None:
    output, label = shrunken(500)
    turned = Calibrator.fit("platt", 1 - output, label)
    np.testing.assert_allclose(turned(output), label.mean(), atol=0.01)
    np.testing.assert_allclose(
        Calibrator.fit("platt", np.full(500, 0.5), label)(output), label.mean(), atol=0.01
    )
    separated = Calibrator.fit("platt", label * 0.8 + 0.1, label)
    assert np.all(np.isfinite(separated(output)))
    assert separated(np.array([0.1]))[0] < 0.05 < 0.95 < separated(np.array([0.9]))[0]
