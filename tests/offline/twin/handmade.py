"""A few people with a few trials, made by hand, and the runs they are of."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from offline.twin.examples import Examples
from offline.twin.runs import Run

__all__ = ["hand_made", "run_of"]

N_SLOTS = 4
SEGMENTS_OF_A_RUN = 2


def hand_made(seed: int, n_people: int = 4, n_runs: int = 1) -> Examples:
    """Trials of two conditions and two actions: right, wrong, missed, some not there."""
    rng = np.random.default_rng(seed)
    n_segments = SEGMENTS_OF_A_RUN * n_runs
    shape = n_people, n_segments, N_SLOTS
    there = rng.random(shape) < 0.9
    there[..., 0] = True
    answer = rng.integers(0, 2, shape)
    choice = np.where(rng.random(shape) < 0.6, answer, rng.integers(0, 3, shape))
    choice[..., 0] = answer[..., 0]
    onset = np.broadcast_to(1 + 4 * np.arange(N_SLOTS), shape)
    trial = np.broadcast_to(np.arange(n_segments * N_SLOTS).reshape(shape[1:]), shape)
    level = rng.uniform(-0.5, 0.0, (n_people, 1, 1))
    log_rt = level + 0.2 * rng.standard_normal(shape)

    def kept(values: np.ndarray, empty: float, where: np.ndarray = there) -> np.ndarray:
        return np.where(where, values, empty)

    return Examples(
        people=tuple(f"P{k}" for k in range(n_people)),
        inputs=np.ones((n_people, n_segments, 4 * N_SLOTS + 2, 1), np.float32),
        start_step=np.zeros(shape[:2], np.int64),
        run=np.broadcast_to(np.arange(n_segments) // SEGMENTS_OF_A_RUN, shape[:2]),
        onset=kept(onset, -1),
        end=kept(onset + 4, -1),
        log_rt=kept(log_rt, np.nan, there & (choice == answer)),
        choice=kept(choice, -1),
        response_step=kept(onset + 2, -1, there & (choice < 2)),
        answer=kept(answer, -1),
        condition=kept(rng.integers(0, 2, shape), -1),
        trial=kept(trial, -1),
        bold=np.zeros((*shape[:2], 0, 1), np.float32),
        bold_s=np.zeros((*shape[:2], 0)),
        channels=("x",),
        conditions=("face", "shape"),
        regions=("amygdala",),
        n_actions=2,
        step_s=0.5,
    )


def run_of(examples: Examples, rows: list[int], folds: list[int], code: int = 0) -> Run:
    """A run of some of the people, its first segment being the first half."""
    own = examples.of(np.array(rows))
    here = (own.run == code)[:, :, None] & (own.onset >= 0)
    early = here & (np.arange(own.n_segments) == SEGMENTS_OF_A_RUN * code)[:, None]
    rt_s = np.exp(np.where(here, own.log_rt, np.nan)).reshape(len(rows), -1)
    return Run(
        "matching", str(code + 1), SimpleNamespace(people=own.people, rt_s=rt_s),
        np.array(rows), np.array(folds), here, early,
    )  # fmt: skip
