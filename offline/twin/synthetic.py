"""Simulated people who do a task, and what every one of their edges does to it.

Ten planted edges, five in each of two circuits (the edges between one network and another), act
on a person's mean response time and explain 30 % of its variance between people:

    log mean RT = μ[condition] + σ (√.3 · g[condition] · e + √.7 · u) + interference + noise of RT

with u the rest of the person and e, standardised over the cohort, of one form:

- `linear`: the sum of the planted edges, one sign for each circuit;
- `interaction`: the sum over pairs of an edge of the one circuit times an edge of the other;
  edges alone say little (edges of people are a bit skewed, so that some is left to them);
- `gated`: as linear, but g is 0 except in one condition (faces, incongruent words), and there so
  large that the mean over all trials still has 30 % explained;
- `none`: e is 0, the person all u.

The edges that act are those handed out, with the noise of their scan. Of two regions, BOLD of the
first follows the same e, that of the second ten other edges. Everything was set before any twin
was fitted to it, magnitudes of behaviour from real runs (`synthetic_runs`). What is left out:
dependence between trials (lag-1 correlation .12 in faces, -.06 in Stroop), fatigue, and any
relation of age, sex or site to behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from offline.atlas import Atlas
from offline.twin.synthetic_connectomes import NETWORKS, Connectomes, draw_connectomes
from offline.twin.synthetic_runs import (
    BEHAVIOUR,
    BOLD_PERSON_SD,
    design_of,
    draw_bold,
    draw_trials,
)
from offline.twin.tasks import Bold

__all__ = ["EXPLAINED", "FORMS", "Form", "SyntheticPeople", "people_with_truth"]

Form = Literal["linear", "interaction", "gated", "none"]
FORMS: tuple[Form, ...] = ("linear", "interaction", "gated", "none")

EXPLAINED = 0.3
"""R² of the planted edges, of mean RT and of each region's response."""

N_PLANTED = 10
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


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
    design = design_of(task)
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
    response = np.stack([rt.of(edges), second.of(edges)], axis=1)
    response = np.sqrt(explained) * response
    response += np.sqrt(1.0 - explained) * of_bold.standard_normal(response.shape)
    return SyntheticPeople(
        form=form,
        task=task,
        seed=seed,
        atlas=connectomes.atlas,
        people=people,
        edges=edges,
        trials=draw_trials(names, task, design, log_mean, spread, of_trial),
        bold=draw_bold(names, task, design, response, of_bold),
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
