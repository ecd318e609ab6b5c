"""Simulated people who do a task, and what every one of their edges does to it.

Ten planted edges, five in each of two circuits (the edges between one network and another), act
on a person's mean response time and explain 30 % of its variance between people:

    log mean RT = μ[condition] + σ (√.3 · g[condition] · e + √.7 · u) + interference + noise of RT

with u the rest of the person and e, standardised over the cohort, of one form:

- `linear`: the sum of the planted edges, one sign for each circuit;
- `interaction`: the sum over pairs of an edge of the one circuit times an edge of the other; no
  edge alone says anything;
- `gated`: as linear, but g is 0 except in one condition (faces, incongruent words), and there so
  large that the mean over all trials still has 30 % explained;
- `none`: e is 0, the person all u.

The edges that act are those handed out, with the noise of their scan. Of two regions, BOLD of the
first follows the same e, that of the second ten other edges. Everything was set before any twin
was fitted to it, magnitudes of behaviour from 640 real runs (OpenNeuro ds005237, CC0; runs of
more than 60 % correct; the numbers in this file were computed from its trials). What is left out:
dependence between trials (lag-1 correlation .12 in faces, -.06 in Stroop), fatigue, and any
relation of age, sex or site to behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from offline.atlas import Atlas
from offline.twin.connectomes import NETWORKS, Connectomes, draw_connectomes
from offline.twin.hrf import canonical_hrf
from offline.twin.tasks import Bold

__all__ = ["FORMS", "REGIONS", "TASKS", "Behaviour", "SyntheticPeople", "people_with_truth"]

Form = Literal["linear", "interaction", "gated", "none"]
FORMS: tuple[Form, ...] = ("linear", "interaction", "gated", "none")
TASKS = ("matching", "stroop")
REGIONS = ("dACC", "amygdala_R")

EXPLAINED = 0.3
"""R² of the planted edges, of mean RT and of each region's response."""

N_PLANTED = 10
TR_S = 0.8
BOLD_MEAN, BOLD_PERSON_SD = 0.5, 0.3
"""Response to the main condition, % signal change: mean and SD over people."""

BOLD_NOISE_SD, BOLD_NOISE_AR = 2.5, 0.4
"""Of a region's signal, %; gives a single run's response a reliability near .4."""

OTHER_CONDITION = 0.5
"""BOLD response to the other condition, of that to the main one."""

STROOP_ORDER = (
    "c3 c1 i6 c2 i4 c1 i3 c1 c2 i5 c3 c3 c1 c2 i1 c2 c3 c2 i2 c3 c1 c1 i3 c3 i4 c2 c3 c1 i1 c2 c2 c1"
    " i4 c2 i5 c3 i2 c3 c3 c2 i6 c1 c1 c2 c1 c3 i4 c3 i6 c3 c2 c2 i5 c1 i3 i2 c2 c3 i5 c3 c2 i1 c3"
    " c3 c1 c2 c1 i2 c2 i3 c2 i1 c1 c1 i6 c3 c1 c1"
)
STROOP_STEPS = "smlllssllsmslsssmmllmmllslssllslmllsslslsslslmlsmsssmmlmsssmlmllmmmmmmmlmmmmm"
STROOP_STEP_S = {"s": 2.25, "m": 4.5, "l": 8.25}
COLOURS = ("red", "green", "blue")
INCONGRUENT = ("green red", "blue red", "red green", "blue green", "red blue", "green blue")
"""Word and ink of inc1 to inc6."""

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


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


@dataclass(frozen=True)
class SyntheticPeople:
    """People, what they did, and why.

    Attributes
    ----------
    form, task : str
    seed : int
    atlas : Atlas
    people : pandas.DataFrame
        `participant`, `site`, `age`, `sex`; one row a person.
    edges : ndarray of float64, shape (n_people, n_edges)
        Fisher z.
    trials : pandas.DataFrame
        One row a trial, columns and text as in public tables, for `trials.read_trials`.
    bold : dict
        By (participant, task, run): two regions, % signal change.
    planted, bold_planted : ndarray of int64, shape (n_planted,)
        Edges that act on RT and the first region, and on the second; 0 planted if `none`.
    circuit, bold_circuit : ndarray of int64, shape (n_planted,)
        0 or 1.
    """

    form: Form
    task: str
    seed: int
    atlas: Atlas
    people: pd.DataFrame
    edges: Float64
    trials: pd.DataFrame
    bold: dict[tuple[str, str, str], Bold]
    planted: Ints
    circuit: Ints
    bold_planted: Ints
    bold_circuit: Ints
    _connectomes: Connectomes
    _rt: _Effect
    _second: _Effect
    _rest: Float64
    _gain: Float64
    _share: Float64

    def mean_rt_s(self, edges: ArrayLike | None = None) -> Float64:
        """Expected mean RT of each person over the trials of the task, shape (n_people,).

        Parameters
        ----------
        edges : array_like, shape (n_people, n_edges), or None
            Everybody's edges; None for their own.
        """
        z = self.edges if edges is None else np.asarray(edges, np.float64)
        rt: Float64 = np.exp(self._rest + self._rt.of(z)[:, None] * self._gain) @ self._share
        return rt

    def delta_rt_s(self, edges: ArrayLike, delta_z: ArrayLike) -> Float64:
        """True change of everybody's mean RT when edges are changed and nothing else.

        Parameters
        ----------
        edges : array_like of int, shape (n,)
            Places of the edges.
        delta_z : array_like of float, shape (n,) or (n_people, n)
            Fisher z to add.
        """
        changed = self.edges.copy()
        changed[:, np.asarray(edges)] += np.asarray(delta_z, np.float64)
        return self.mean_rt_s(changed) - self.mean_rt_s()

    def delta_response(self, edges: ArrayLike, delta_z: ArrayLike) -> Float64:
        """True change of the regions' responses, % signal change, shape (n_people, 2)."""
        changed = self.edges.copy()
        changed[:, np.asarray(edges)] += np.asarray(delta_z, np.float64)
        change = [e.of(changed) - e.of(self.edges) for e in (self._rt, self._second)]
        scaled: Float64 = BOLD_PERSON_SD * np.sqrt(EXPLAINED) * np.stack(change, axis=1)
        return scaled

    def rescan(self, seed: int) -> Float64:
        """Edges of another scan of the same people, shape (n_people, n_edges)."""
        return self._connectomes.scan(np.random.default_rng((self.seed, seed, 1)))


@dataclass(frozen=True)
class _Effect:
    """e of a person's edges, standardised over the cohort."""

    form: Form
    planted: Ints
    sign: Float64
    centre: Float64
    scale: Float64
    mean: float = 0.0
    sd: float = 1.0

    def of(self, edges: Float64) -> Float64:
        if not len(self.planted):
            return np.zeros(len(edges))
        z = (edges[:, self.planted] - self.centre) / self.scale
        if self.form == "interaction":
            half = len(self.planted) // 2
            raw = np.sum(z[:, :half] * z[:, half:], axis=1)
        else:
            raw = z @ self.sign
        effect: Float64 = (raw - self.mean) / self.sd
        return effect


def people_with_truth(
    form: Form,
    *,
    seed: int,
    n_people: int = 228,
    n_rois: int = 100,
    task: Literal["matching", "stroop"] = "matching",
) -> SyntheticPeople:
    """Draw people, their connectomes and one run of a task.

    Parameters
    ----------
    form : {"linear", "interaction", "gated", "none"}
        What the planted edges do.
    seed : int
        The same seed gives the same people; connectomes and noise do not depend on the form.
    n_people, n_rois : int
        As in the data behind the published twin, but 100 ROIs.
    task : {"matching", "stroop"}
        108 trials in blocks of six, or 78, in the published orders.

    Returns
    -------
    SyntheticPeople
    """
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
    of_brain, of_circuit, of_person, of_trial, of_bold = streams
    connectomes = draw_connectomes(n_people, of_brain, n_rois)
    edges = connectomes.scan(of_brain)
    planted, circuit, other, other_circuit = _circuits(connectomes, of_circuit)
    sign = of_circuit.choice([-1.0, 1.0], 4)
    if form == "none":
        planted = circuit = other = other_circuit = np.zeros(0, np.int64)
    rt = _effect(form, planted, sign[circuit], edges)
    second = _effect("linear", other, sign[2 + other_circuit], edges)
    design = _design(task)
    known = BEHAVIOUR[task]
    second_condition = design["condition"].to_numpy() == known.conditions[1]
    share = np.array([np.mean(~second_condition), np.mean(second_condition)])
    explained = EXPLAINED if form != "none" else 0.0
    gate = np.array([0.0, 1.0 / share[1]]) if form == "gated" else np.ones(2)
    u, difference, spread = of_person.standard_normal((3, n_people))
    # codes of mean 0 over trials: interference leaves a person's mean alone
    code = np.array([-share[1], share[0]])
    rest = np.asarray(known.log_mean) + known.person_sd * np.sqrt(1.0 - explained) * u[:, None]
    rest = rest + known.interference_sd * difference[:, None] * code
    gain = known.person_sd * np.sqrt(explained) * gate
    log_mean = rest + rt.of(edges)[:, None] * gain
    names = [f"P{k:04d}" for k in range(n_people)]
    people = pd.DataFrame(
        {
            "participant": names,
            "site": [f"S{k + 1}" for k in connectomes.site],
            "age": np.round(of_person.uniform(18.0, 68.0, n_people), 1),
            "sex": of_person.choice(["F", "M"], n_people),
        }
    )
    effects = np.stack([rt.of(edges), second.of(edges)], axis=1)
    return SyntheticPeople(
        form=form,
        task=task,
        seed=seed,
        atlas=connectomes.atlas,
        people=people,
        edges=edges,
        trials=_trials(names, task, design, log_mean, spread, of_trial),
        bold=_bold(names, task, design, effects, explained, of_bold),
        planted=planted,
        circuit=circuit,
        bold_planted=other,
        bold_circuit=other_circuit,
        _connectomes=connectomes,
        _rt=rt,
        _second=second,
        _rest=rest,
        _gain=gain,
        _share=share,
    )


def _circuits(connectomes: Connectomes, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, Ints]:
    """Four circuits of five edges, each between two different networks, no pair twice."""
    size = N_PLANTED // 2
    ends = np.sort(connectomes.network[connectomes.atlas.edges()], axis=1)
    between = [
        np.flatnonzero(np.all(ends == pair, axis=1))
        for pair in combinations(range(len(NETWORKS)), 2)
    ]
    large = [edges for edges in between if len(edges) >= size]
    places = rng.choice(len(large), 4, replace=False)
    chosen = [rng.choice(large[place], size, replace=False) for place in places]
    circuit = np.repeat([0, 1], size)
    return np.concatenate(chosen[:2]), circuit, np.concatenate(chosen[2:]), circuit


def _effect(form: Form, planted: Ints, sign: Float64, edges: Float64) -> _Effect:
    own = edges[:, planted]
    raw = _Effect(form, planted, sign, own.mean(axis=0), own.std(axis=0))
    if not len(planted):
        return raw
    drawn = raw.of(edges)
    return _Effect(
        form, planted, sign, raw.centre, raw.scale, float(drawn.mean()), float(drawn.std())
    )


def _design(task: str) -> pd.DataFrame:
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


def _trials(
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


def _bold(
    names: list[str],
    task: str,
    design: pd.DataFrame,
    effects: Float64,
    explained: float,
    rng: np.random.Generator,
) -> dict[tuple[str, str, str], Bold]:
    """BOLD of two regions: responses to all trials, their size the person's, and AR(1) noise."""
    rest = rng.standard_normal(effects.shape)
    size = BOLD_MEAN + BOLD_PERSON_SD * (
        np.sqrt(explained) * effects + np.sqrt(1.0 - explained) * rest
    )
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
    response = np.convolve(activity, canonical_hrf(np.arange(0.0, 32.0, step_s)) * step_s)
    every = round(TR_S / step_s)
    sampled: Float64 = response[: len(activity) : every]
    return sampled
