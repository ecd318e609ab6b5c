"""Parity: the loop's scores against the same causal recipe in plain NumPy, computed afterwards."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import legendre

from rtloop.config import EngineConfig
from rtloop.events import Step
from rtloop.plan import Plan
from tests.rtloop.simulated import series, small_config, small_engine, small_plan


def offline(steps: list[Step], plan: Plan, config: EngineConfig) -> np.ndarray:
    """Raw score after each volume: least squares on all volumes so far, residuals, Pearson r."""
    n = plan.n_volumes
    weight = np.zeros(n)
    signals = np.full((n, 2), np.nan)
    motion = np.zeros((n, 6))
    for step in steps:
        if step.observation is not None:
            weight[step.index] = step.weight
            signals[step.index] = step.observation.signals
            motion[step.index] = step.observation.parameters
    time = 2 * np.arange(n) / (n - 1) - 1
    order = config.denoise.drift_order
    columns = [legendre.legvander(time, order)]
    if config.denoise.motion:
        columns.append(motion)
    design = np.concatenate(columns, axis=1)
    scores = np.full(n, np.nan)
    for i in range(n):
        so_far = (np.arange(n) <= i) & (weight > 0)
        window = so_far & (np.arange(n) > i - plan.window)
        if so_far.sum() < config.denoise.volumes_per_regressor * design.shape[1]:
            continue
        if window.sum() < config.quality.effective_share_min * plan.window:
            continue
        level = signals[so_far].mean(axis=0)
        betas = np.linalg.lstsq(design[so_far], signals[so_far] - level, rcond=None)[0]
        residuals = signals[window] - level - design[window] @ betas
        scores[i] = np.arctanh(np.corrcoef(residuals.T)[0, 1])
    return scores


@pytest.mark.parametrize("gone", [(), (25,), (25, 26, 40)])
def test_the_loop_equals_the_recipe(gone: tuple[int, ...]) -> None:
    plan, config = small_plan(), small_config()
    engine = small_engine(plan, config)
    steps = [engine.step(volume) for volume in series(60) if volume.index not in gone]
    expected = offline(steps, plan, config)
    for step in steps:
        online = step.scores[0].value
        assert math.isnan(online) == math.isnan(expected[step.index])
        if math.isfinite(online):
            assert online == pytest.approx(expected[step.index], abs=1e-9)
    assert np.isfinite(expected).sum() > 40
