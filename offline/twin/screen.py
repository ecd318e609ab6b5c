"""Which edge to edit in a person: own effects of all edges first, exact runs of the surest then.

An edge is judged by t: its own effect on the person's target (`association`) over its standard
error. What is recommended has to (1) be an edit that is allowed, (2) move the target the wanted
way in every member, (3) with an interval that leaves out 0, and (4) have a larger |t| than the
largest of all edges where connectomes say nothing: people's codes are exchanged between training
people, the same way for all members, and everything that t is made of is fitted anew. The slope of
the target by the codes alone is held, and that hardly differs between people. Often no edge does,
and that is a result.

What qualifies is an association, and its size that of the surest of many: edges that vary with one
that acts are as sure as that one. `make proof twin-truth` says how often such an edge acts at all.

`importance` is of the twin's map, whose effects are shrunken: what the twin as a whole has learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.association import Association, Directions
from offline.twin.background import Background, training_codes
from offline.twin.edit import PLAUSIBLE_SD
from offline.twin.effects import NO_INTERVAL, Intervention
from offline.twin.examples import Examples
from offline.twin.intervene import edited_twins
from offline.twin.outcomes import Target
from offline.twin.slopes import code_slopes, edge_slopes
from offline.twin.twin import Twin

__all__ = ["Null", "importance", "permutation_null", "recommend"]

TAIL = 0.025
"""Of the null. Half of the 5 % of people who may have an edge where there is nothing: what chance
did to a study, all its people share, so that their share scatters widely from study to study."""

N_PERMUTATIONS = 99

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Null:
    """How sure edges are, and how sure the surest is where connectomes say nothing.

    Attributes
    ----------
    target : str
    t : ndarray of float64, shape (n_people, n_edges)
        Own effect of each edge on the target over its standard error.
    largest : ndarray of float64, shape (n_permutations, n_people)
        |t| of the surest edge, codes exchanged between training people.
    backgrounds : tuple of Background
        Of the members, for exact runs.
    """

    target: str
    t: Float64
    largest: Float64
    backgrounds: tuple[Background, ...]

    @property
    def bound(self) -> Float64:
        """What an edge's |t| has to exceed, shape (n_people,): with n permutations, the value
        that at most 2.5 % of n + 1 reach."""
        n = len(self.largest)
        k = int(np.floor(TAIL * (n + 1)))
        if k < 1:
            return np.full(self.largest.shape[1], np.inf)
        bound: Float64 = np.sort(self.largest, axis=0)[n - k]
        return bound


def importance(twin: Twin, fc: Float64, task: Examples, target: str = "rt") -> Float64:
    """How much each edge does in this twin, shape (n_edges,): RMS over people of its slope."""
    slope = edge_slopes(twin, fc, task, target, everyone=True)
    return np.asarray(np.sqrt(np.mean(slope**2, axis=0)))


def permutation_null(
    twin: Twin,
    training_fc: Float64,
    training: Examples,
    fc: Float64,
    task: Examples,
    target: str = "rt",
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
    *,
    behaviour: Examples | None = None,
    sites: Sequence[Any] | None = None,
    say: Callable[[str], None] | None = None,
    threads: int = 1,
) -> Null:
    """How sure all edges are, beside the surest with codes exchanged between training people.

    Parameters
    ----------
    twin : Twin
        Low-rank.
    training_fc : ndarray of float64, shape (n_training, n_edges)
        Fisher z of the people the twin was trained with.
    training : Examples
        Of the same people, any order.
    fc : ndarray of float64, shape (n_people, n_edges)
        Of those whom it is for.
    task : Examples
        What they are to do.
    target : str
        A row of an `Intervention`, such as "rt".
    n_permutations : int
        At least 39, or no edge can exceed the null.
    seed : int
    behaviour : Examples or None
        Trials that are known already of those whom it is for.
    sites : sequence or None
        Of the training people: exchanged within them.
    say : callable or None
        Told of progress.
    threads : int
        Of PyTorch.

    Raises
    ------
    TwinError
        If the people are not the training people, or the twin has no codes.
    """
    known = twin.edges_of(training_fc, training.people)
    found = training_codes(twin, known, training, threads=threads)
    z = twin.edges_of(fc, task.people)
    by_who = code_slopes(twin, z, task, target, behaviour, False, threads)
    # members of a fold were trained with the same people
    directions = {
        member.fold: Directions.of(member.basis, known[own])
        for member, (own, _) in zip(twin.members, found, strict=True)
    }
    of_members = [directions[member.fold] for member in twin.members]
    t = _t(by_who, [d.associate(codes) for d, (_, codes) in zip(of_members, found, strict=True)])
    rng = np.random.default_rng((seed, 19))
    groups = np.zeros(len(training.people), np.int64) if sites is None else _numbers(sites)
    largest = np.empty((n_permutations, len(z)))
    for number in range(n_permutations):
        order = _exchanged(groups, rng)
        exchanged = [
            d.associate(codes[_among(order, own)])
            for d, (own, codes) in zip(of_members, found, strict=True)
        ]
        largest[number] = np.abs(_t(by_who, exchanged)).max(axis=1)
        if say is not None:
            say(f"null: permutation {number + 1} of {n_permutations}")
    backgrounds = tuple(
        Background.of(member.basis, known[own], codes)
        for member, (own, codes) in zip(twin.members, found, strict=True)
    )
    return Null(target, t, largest, backgrounds)


def recommend(
    twin: Twin,
    fc: Float64,
    task: Examples,
    null: Null,
    direction: int = -1,
    n_exact: int = 3,
    behaviour: Examples | None = None,
    *,
    size_sd: float = 1.0,
    threads: int = 1,
) -> pd.DataFrame:
    """Surest edges of each person, run exactly, and whether they qualify.

    Parameters
    ----------
    twin : Twin
    fc : ndarray of float64, shape (n_people, n_edges)
        Fisher z.
    task : Examples
        What is to be done; its people are the rows of `fc`.
    null : Null
        Of the same people, task and behaviour.
    direction : {-1, 1}
        Less of the null's target (faster), or more.
    n_exact : int
        Edges of each person that are run exactly.
    behaviour : Examples or None
        Trials of these people that are known already.
    size_sd : float
        Of the edit, in SD of the edge; at most 1.
    threads : int
        Of PyTorch.

    Returns
    -------
    pandas.DataFrame
        One row a person and edge, surest first: `person`, `edge`, `name`, `delta_z`,
        `associated`, `low`, `high` (how much of the target goes with such a change of the edge and
        of all that vary with it, in the surest of many: no forecast of the edit), `agreement`,
        `t`, `bound` (of |t|, by the null), `others`, `qualifies`, `why_not`.
    """
    if direction not in (-1, 1) or not 0.0 < size_sd <= 1.0 or n_exact < 1:
        raise TwinError(
            "expected direction -1 or 1, a size of 0 to 1 SD and one edge or more, found"
            f" {direction}, {size_sd:g} and {n_exact}"
        )
    z = twin.edges_of(fc, task.people)
    if null.t.shape != z.shape:
        raise TwinError(
            f"expected a null of the same {len(z)} people, found one of {len(null.t)}; make it anew"
        )
    mean, sd = twin.edge_spread()
    step = direction * np.sign(null.t) * size_sd * sd
    away = np.abs(z + step - mean)
    leaves = (away > PLAUSIBLE_SD * sd) & (away > np.abs(z - mean))
    order = np.argsort(np.where(leaves, np.inf, -np.abs(null.t)), axis=1, kind="stable")
    asked = [Target.parse(null.target, twin.conditions, twin.regions)]
    rows = []
    for p, name in enumerate(task.people):
        own = np.array([p])
        seen = None if behaviour is None else behaviour.of(own)
        for edge in order[p, :n_exact].tolist():
            delta = [step[p, edge]]
            found = edited_twins(
                twin, z[own], [edge], delta, task.of(own), seen, asked, threads, null.backgrounds
            )
            row = {"person": name, "edge": edge, "name": twin.atlas.edge_names()[edge]}
            rows.append(row | _judged(found, direction, null.t[p, edge], null.bound[p]))
    return pd.DataFrame(rows)


def _judged(found: Intervention, direction: int, t: float, bound: float) -> dict[str, Any]:
    """One edit of one person, and why it does not qualify."""
    why = _why_not(found, direction, abs(t) > bound)
    return {
        "delta_z": found.delta_z[0, 0],
        "associated": found.change[0, 0],
        "low": found.low[0, 0],
        "high": found.high[0, 0],
        "agreement": found.agreement[0, 0],
        "t": t,
        "bound": bound,
        "others": found.others[0],
        "qualifies": not why,
        "why_not": why,
    }


def _why_not(found: Intervention, direction: int, beyond: bool) -> str:
    change, low, high = found.change[0, 0], found.low[0, 0], found.high[0, 0]
    if found.refused[0]:
        return found.refused[0]
    if not np.isfinite(low):
        return NO_INTERVAL
    if direction * change <= 0.0:
        return "moves the target the other way"
    if found.agreement[0, 0] < 1.0:
        return "members disagree on the sign"
    if low <= 0.0 <= high:
        return "the interval covers 0"
    if not beyond:
        return "no larger than the best edge where there is nothing"
    return ""


def _t(by_who: Sequence[Float64], associations: Sequence[Association]) -> Float64:
    """Own effects of all edges over their errors, members taken together as in an interval."""
    shape = len(by_who[0]), len(associations[0].gradient)
    change, variance = np.zeros(shape), np.zeros(shape)
    counts = np.zeros((shape[0], 1))
    for slope, association in zip(by_who, associations, strict=True):
        rows = np.flatnonzero(np.isfinite(slope).all(axis=1))
        own, spread = association.on(slope[rows])
        change[rows] += own
        variance[rows] += spread
        counts[rows] += 1
    # mean change over the root of the mean variance
    t: Float64 = change / np.sqrt(np.maximum(variance, 1e-300) * np.maximum(counts, 1))
    return t


def _among(order: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """An exchange of all people as one of some: whoever would get the codes of somebody who is
    not there gets those that this one would get, and so on. Places among `own`."""
    place = np.full(len(order), -1)
    place[own] = np.arange(len(own))
    got = order[own]
    while (place[got] < 0).any():
        got = np.where(place[got] < 0, order[got], got)
    return np.asarray(place[got])


def _numbers(sites: Sequence[Any]) -> NDArray[np.int64]:
    return np.unique(np.asarray(sites, str), return_inverse=True)[1].astype(np.int64)


def _exchanged(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of people in which everybody stays in their group."""
    order = np.arange(len(groups))
    for name in np.unique(groups):
        places = np.flatnonzero(groups == name)
        order[places] = rng.permutation(places)
    return order
