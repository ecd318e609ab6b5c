"""The loop's causal recipe in plain NumPy, computed after the run: what its scores have to equal.

After every volume: least squares of the ROI signals on drift and motion over all good volumes so
far, those betas' residuals in the window that ends there, Pearson r, Fisher z. Nothing of rtloop's
arithmetic is used.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from rtloop.config import EngineConfig
from rtloop.events import Step
from rtloop.plan import Plan

__all__ = ["Course", "course_of", "scores_of"]


class Course:
    """What a record holds of each volume index: nan and weight 0 where nothing was observed."""

    def __init__(self, n_volumes: int, n_rois: int) -> None:
        self.weights = np.zeros(n_volumes)
        self.signals = np.full((n_volumes, n_rois), np.nan)
        self.motion = np.zeros((n_volumes, 6))


def course_of(steps: list[Step], n_volumes: int, n_rois: int = 2) -> Course:
    """Observations of an attempt, placed by the scanner's volume index."""
    course = Course(n_volumes, n_rois)
    for step in steps:
        if step.observation is not None:
            course.weights[step.index] = step.weight
            course.signals[step.index] = step.observation.signals
            course.motion[step.index] = step.observation.parameters
    return course


def scores_of(course: Course, plan: Plan, config: EngineConfig) -> NDArray[np.float64]:
    """Fisher z of the first edge after each volume index, nan where there is to be no score."""
    n, good = len(course.weights), course.weights > 0
    design = _design(course, config)
    fewest = config.denoise.volumes_per_regressor * design.shape[1]
    share = config.quality.effective_share_min
    indices, scores = np.arange(n), np.full(n, np.nan)
    for last in range(n):
        so_far = good & (indices <= last)
        window = so_far & (indices > last - plan.window)
        if so_far.sum() < fewest or window.sum() < share * plan.window:
            continue
        level = course.signals[so_far].mean(axis=0)
        betas = np.linalg.lstsq(design[so_far], course.signals[so_far] - level, rcond=None)[0]
        residuals = course.signals[window] - level - design[window] @ betas
        scores[last] = np.arctanh(np.corrcoef(residuals.T)[0, 1])
    return scores


def _design(course: Course, config: EngineConfig) -> NDArray[np.float64]:
    """Legendre drift over the planned run, and the six motion parameters."""
    n = len(course.weights)
    time = 2 * np.arange(n) / (n - 1) - 1
    drift = np.asarray(legendre.legvander(time, config.denoise.drift_order), np.float64)
    return np.concatenate([drift, course.motion], axis=1) if config.denoise.motion else drift
