"""Simulated runs of two tasks: trials in the published orders, and BOLD of two regions.

Magnitudes of behaviour are those of 634 real runs (OpenNeuro ds005237, CC0; all runs with more
than 60 % correct trials; computed from the correct trials of at least .15 s). There / here, of
faces: mean RT .835 / .835 s, SD over people .143 / .13-.14, trial SD .203 / .203 with .045 / .042
over people, faces slower by .102 / .105 s with SD .077 / .074.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.twin.hrf import LENGTH_S, canonical_hrf
from offline.twin.tasks import Bold

__all__ = ["BEHAVIOUR", "REGIONS", "Behaviour", "design_of", "draw_bold", "draw_trials"]

REGIONS = ("dACC", "amygdala_R")
TR_S = 0.8
BOLD_MEAN, BOLD_PERSON_SD = 0.5, 0.3
"""Response to the main condition, % signal change: mean and SD over people."""

BOLD_NOISE_SD, BOLD_NOISE_AR = 2.5, 0.4
"""Of a region's signal, %; gives a single run's response a reliability near .4."""

OTHER_CONDITION = 0.5
"""BOLD response to the other condition, of that to the main one."""

STROOP_ORDER = (
    "c3 c1 i6 c2 i4 c1 i3 c1 c2 i5 c3 c3 c1 c2 i1 c2 c3 c2 i2 c3 c1 c1 i3 c3 i4 c2 c3 c1 i1 c2 c2"
    " c1 i4 c2 i5 c3 i2 c3 c3 c2 i6 c1 c1 c2 c1 c3 i4 c3 i6 c3 c2 c2 i5 c1 i3 i2 c2 c3 i5 c3 c2 i1"
    " c3 c3 c1 c2 c1 i2 c2 i3 c2 i1 c1 c1 i6 c3 c1 c1"
)
STROOP_STEPS = "smlllssllsmslsssmmllmmllslssllslmllsslslsslslmlsmsssmmlmsssmlmllmmmmmmmlmmmmm"
STROOP_STEP_S = {"s": 2.25, "m": 4.5, "l": 8.25}
COLOURS = ("red", "green", "blue")
INCONGRUENT = ("green red", "blue red", "red green", "blue green", "red blue", "green blue")
"""Word and ink of inc1 to inc6."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Behaviour:
    """How people do one task, as computed from the real runs of it.

    `log_mean` is of the mean RT in seconds of the two conditions, `person_sd` of the log of
    people's mean RT, `interference_sd` of the difference of the log means of the two conditions,
    each without the sampling error of its trials. SD over trials: log SD = spread[0] + spread[1]
    log mean RT, `spread_sd` around it. `skew` is of RT within people, which sets the exponential
    part of the ex-Gaussian. Misses and errors are beta-binomial (mean, a + b).
    """

    conditions: tuple[str, str]
    log_mean: tuple[float, float]
    person_sd: float
    interference_sd: float
    spread: tuple[float, float]
    spread_sd: float
    skew: float
    missed: tuple[float, float]
    wrong: tuple[float, float]
    wrong_odds: float
    """Errors in the second condition against the first."""
    slower_wrong: float
    """Mean RT of errors against that of correct answers."""
    window_s: float


BEHAVIOUR: Mapping[str, Behaviour] = {
    "matching": Behaviour(
        ("shape", "face"), (-0.256, -0.134), 0.169, 0.076, (-1.41, 1.07), 0.11, 1.35,
        (0.018, 9.9), (0.028, 56.7), 0.65, 1.11, 1.95,
    ),
    "stroop": Behaviour(
        ("congruent", "incongruent"), (-0.245, -0.040), 0.183, 0.079, (-1.24, 1.54), 0.17, 1.25,
        (0.018, 9.9), (0.038, 21.3), 3.0, 1.10, 2.25,
    ),
}  # fmt: skip


def design_of(task: str) -> pd.DataFrame:
    """Trials of the task in the published order: when, what, and the right answer."""
    if task == "matching":
        block, place = np.divmod(np.arange(108), 6)
        condition = np.where(block % 2 == 0, "shape", "face")
        # sides are not published: drawn once, half and half in every block
        rng = np.random.default_rng(108)
        sides = [rng.permutation(["left"] * 3 + ["right"] * 3) for _ in range(18)]
        return pd.DataFrame(
            {
                "onset_s": 11.08 + 21.0 * block + 3.01 * place,
                "condition": condition,
                "trial_type": condition,
                "answer": np.concatenate(sides),
            }
        )
    steps = [STROOP_STEP_S[step] for step in STROOP_STEPS]
    order = STROOP_ORDER.split()
    kind = ["congruent" if name[0] == "c" else "incongruent" for name in order]
    number = [int(name[1]) - 1 for name in order]
    shown = [
        2 * (COLOURS[k],) if name[0] == "c" else tuple(INCONGRUENT[k].split())
        for name, k in zip(order, number, strict=True)
    ]
    return pd.DataFrame(
        {
            "onset_s": 2.0 + np.cumsum([0.0, *steps]),
            "condition": kind,
            "trial_type": [f"{what[:3]}{k + 1}" for what, k in zip(kind, number, strict=True)],
            "stimulus_text": [word for word, _ in shown],
            "stimulus_color": [ink for _, ink in shown],
            "answer": [ink for _, ink in shown],
        }
    )


def draw_trials(
    names: list[str],
    task: str,
    design: pd.DataFrame,
    log_mean: Float64,
    spread: Float64,
    rng: np.random.Generator,
) -> pd.DataFrame:
    known = BEHAVIOUR[task]
    n_people, n_trials = len(names), len(design)
    second = (design["condition"] == known.conditions[1]).to_numpy().astype(int)
    mean_s = np.exp(log_mean)[:, second]
    log_sd = known.spread[0] + known.spread[1] * log_mean + known.spread_sd * spread[:, None]
    # an ex-Gaussian's skewness is 2 (τ / sd)³
    tail = (known.skew / 2.0) ** (1.0 / 3.0)
    noise = np.sqrt(1.0 - tail**2) * rng.standard_normal((n_people, n_trials))
    noise += tail * (rng.exponential(1.0, (n_people, n_trials)) - 1.0)
    rt_s = np.maximum(mean_s + np.exp(log_sd)[:, second] * noise, 0.2)
    odds = np.array([1.0, known.wrong_odds])
    odds /= odds[second].mean()
    p_wrong = np.clip(_rates(known.wrong, n_people, rng)[:, None] * odds[second], 0.0, 0.5)
    wrong = rng.random((n_people, n_trials)) < p_wrong
    rt_s = np.where(wrong, known.slower_wrong * rt_s, rt_s)
    p_missed = _rates(known.missed, n_people, rng)[:, None]
    missed = (rng.random((n_people, n_trials)) < p_missed) | (rt_s > known.window_s)
    answer = np.tile(design["answer"].to_numpy(), (n_people, 1))
    choices = sorted(set(design["answer"]))
    places = np.searchsorted(choices, answer.astype(str))
    other = (places + rng.integers(1, len(choices), places.shape)) % len(choices)
    response = np.where(wrong, np.asarray(choices)[other], answer)
    table = pd.concat([design.drop(columns="condition")] * n_people, ignore_index=True)
    text = np.where(missed, "n/a", np.round(rt_s, 6).astype(str))
    return table.assign(
        participant_id=np.repeat(names, n_trials),
        task=task,
        run="1",
        trial_index=np.tile(np.arange(n_trials), n_people),
        duration_s=known.window_s,
        response_time_s=text.ravel(),
        correct=(~wrong & ~missed).ravel().astype(int),
        response=np.where(missed, "n/a", response).ravel(),
    ).astype(str)


def _rates(mean_and_size: tuple[float, float], n: int, rng: np.random.Generator) -> Float64:
    mean, size = mean_and_size
    return rng.beta(mean * size, (1.0 - mean) * size, n)


def draw_bold(
    names: list[str],
    task: str,
    design: pd.DataFrame,
    response: Float64,
    rng: np.random.Generator,
) -> dict[tuple[str, str, str], Bold]:
    """BOLD of two regions: responses to all trials, their size the person's, and AR(1) noise."""
    size = BOLD_MEAN + BOLD_PERSON_SD * response
    regressor = _regressor(task, design)
    noise = rng.standard_normal((len(names), len(regressor) + 20, len(REGIONS)))
    for k in range(1, noise.shape[1]):
        noise[:, k] = BOLD_NOISE_AR * noise[:, k - 1] + np.sqrt(1 - BOLD_NOISE_AR**2) * noise[:, k]
    series = regressor[:, None] * size[:, None, :] + BOLD_NOISE_SD * noise[:, 20:]
    return {
        (name, task, "1"): Bold(series[k].astype(np.float32), TR_S) for k, name in enumerate(names)
    }


def _regressor(task: str, design: pd.DataFrame, step_s: float = 0.1) -> Float64:
    """Response to the whole run if that to the main condition is 1, shape (n_volumes,)."""
    known = BEHAVIOUR[task]
    onset_s = design["onset_s"].to_numpy()
    n_volumes = int(np.ceil((onset_s[-1] + 12.0) / TR_S))
    activity = np.zeros(round(n_volumes * TR_S / step_s))
    main = (design["condition"] == known.conditions[1]).to_numpy()
    for at_s, is_main in zip(onset_s, main, strict=True):
        begin, end = round(at_s / step_s), round((at_s + known.window_s) / step_s)
        activity[begin:end] = 1.0 if is_main else OTHER_CONDITION
    response = np.convolve(activity, canonical_hrf(np.arange(0.0, LENGTH_S, step_s)) * step_s)
    every = round(TR_S / step_s)
    sampled: Float64 = response[: len(activity) : every]  # type: ignore[assignment]  # convolve keeps float64
    return sampled
