"""Which edge to edit in a person: slopes of all edges first, exact runs of the best ones then.

The slope of a target by every edge is the network's slope by its codes times the slope of the
codes by the edges; the first is one run back through the network, the second is in the map. What
is recommended has to (1) be an edit that is allowed, (2) move the target the wanted way in every
member, (3) with an interval that leaves out 0, and (4) move it by more than the best edge of
twins to whom connectomes say nothing: people's codes are exchanged between training people, the
same way for all members, their maps are fitted anew, and the largest slope of any edge is kept.
Often no edge does, and that is a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.background import training_codes
from offline.twin.edit import PLAUSIBLE_SD
from offline.twin.examples import Examples
from offline.twin.hyper import CodeMap, fit_code_map
from offline.twin.intervene import Intervention, edited_twins, spread_of_edges
from offline.twin.members import Member
from offline.twin.outcomes import Target, slopes, with_volumes
from offline.twin.train import deterministic
from offline.twin.twin import Twin, require_edges

__all__ = ["Null", "Screening", "importance", "permutation_null", "recommend", "screen"]

TAIL = 0.05

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Screening:
    """Slopes of a target by every edge.

    Attributes
    ----------
    slope : ndarray of float64, shape (n_people, n_edges)
        Change of the target per SD of the edge, mean over members that may tell the person.
    agreement : ndarray of float64, shape (n_people, n_edges)
        Share of these members with its sign.
    """

    slope: Float64
    agreement: Float64


@dataclass(frozen=True)
class Null:
    """Largest slopes where connectomes say nothing.

    Attributes
    ----------
    largest : ndarray of float64, shape (n_permutations, n_people)
        Of any edge, absolute, per SD.
    """

    largest: Float64

    @property
    def bound(self) -> Float64:
        """What an edge has to exceed, shape (n_people,): with n permutations, the value that at
        most 5 % of n + 1 reach."""
        n = len(self.largest)
        k = int(np.floor(TAIL * (n + 1)))
        if k < 1:
            return np.full(self.largest.shape[1], np.inf)
        return np.sort(self.largest, axis=0)[n - k]


def screen(
    twin: Twin,
    fc: Float64,
    task: Examples,
    target: str = "rt",
    behaviour: Examples | None = None,
    *,
    everyone: bool = False,
    threads: int = 1,
) -> Screening:
    """Slopes of a target by every edge of people.

    Parameters
    ----------
    twin : Twin
    fc : ndarray of float64, shape (n_people, n_edges)
        Fisher z.
    task : Examples
        What is to be done; its people are the rows of `fc`.
    target : str
        A row of an `Intervention`, such as "rt".
    behaviour : Examples or None
        Trials of these people that are known already.
    everyone : bool
        Ask all members, also about people they were trained with: for what the twin as a whole
        has learned, never for what is said of a person.
    threads : int
        Of PyTorch.
    """
    z = require_edges(fc, twin.atlas, task.people)
    codes = _slopes_by_who(twin, z, task, target, behaviour, everyone, threads)
    return _screening(twin, z, codes, [member.map for member in twin.members])


def importance(twin: Twin, fc: Float64, task: Examples, target: str = "rt") -> Float64:
    """How much each edge does in this twin, shape (n_edges,): RMS over people of its slope."""
    found = screen(twin, fc, task, target, everyone=True)
    return np.asarray(np.sqrt(np.mean(found.slope**2, axis=0)))


def permutation_null(
    twin: Twin,
    training_fc: Float64,
    training: Examples,
    fc: Float64,
    task: Examples,
    target: str = "rt",
    n_permutations: int = 19,
    seed: int = 0,
    *,
    sites: Sequence[Any] | None = None,
    say: Callable[[str], None] | None = None,
    threads: int = 1,
) -> Null:
    """Largest slopes of twins whose codes were exchanged between training people.

    Parameters
    ----------
    twin : Twin
        Low-rank.
    training_fc : ndarray of float64, shape (n_training, n_edges)
    training : Examples
        Of the training people, any order.
    fc : ndarray of float64, shape (n_people, n_edges)
    task : Examples
    target : str
        Whom it is for.
    n_permutations : int
        At least 19, or no edge can exceed the null.
    seed : int
    sites : sequence or None
        Of the training people: exchanged within them.
    say : callable or None
        Told of progress.

    Raises
    ------
    TwinError
        If the people are not the training people, or the twin has no codes.
    """
    found = training_codes(twin, training, threads=threads)
    z = require_edges(fc, twin.atlas, task.people)
    by_who = _slopes_by_who(twin, z, task, target, None, False, threads)
    scores = [
        m.basis.scores(training_fc[own]) for m, (own, _) in zip(twin.members, found, strict=True)
    ]
    rng = np.random.default_rng((seed, 19))
    groups = np.zeros(len(training.people), np.int64) if sites is None else _numbers(sites)
    largest = []
    for number in range(n_permutations):
        order = _exchanged(groups, rng)
        maps: list[CodeMap | None] = []
        for x, (own, codes) in zip(scores, found, strict=True):
            maps.append(fit_code_map(x, codes[_among(order, own)]))
        largest.append(np.abs(_screening(twin, z, by_who, maps).slope).max(axis=1))
        if say is not None:
            say(f"null: permutation {number + 1} of {n_permutations}")
    return Null(np.array(largest).reshape(n_permutations, len(z)))


def recommend(
    twin: Twin,
    fc: Float64,
    task: Examples,
    null: Null,
    target: str = "rt",
    direction: int = -1,
    n_exact: int = 3,
    behaviour: Examples | None = None,
    *,
    size_sd: float = 1.0,
    threads: int = 1,
) -> pd.DataFrame:
    """Best edges of each person, run exactly, and whether they qualify.

    Parameters
    ----------
    twin : Twin
    fc : ndarray of float64, shape (n_people, n_edges)
        Fisher z.
    task : Examples
        What is to be done; its people are the rows of `fc`.
    null : Null
        Of the same people and target.
    target : str
        A row of an `Intervention`, such as "rt".
    direction : {-1, 1}
        Less of the target (faster), or more.
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
        One row a person and edge, best first: `person`, `edge`, `name`, `delta_z`, `change`,
        `low`, `high`, `agreement`, `bound` (of the null, times the size), `others`, `among_edges`
        (share of all edges with a smaller slope), `qualifies`, `why_not`.
    """
    if direction not in (-1, 1) or not 0.0 < size_sd <= 1.0 or n_exact < 1:
        raise TwinError(
            "expected direction -1 or 1, a size of 0 to 1 SD and one edge or more, found"
            f" {direction}, {size_sd:g} and {n_exact}"
        )
    z = require_edges(fc, twin.atlas, task.people)
    found = screen(twin, z, task, target, behaviour, threads=threads)
    mean, sd = spread_of_edges(twin)
    step = direction * np.sign(found.slope) * size_sd * sd
    after, wide = z + step, PLAUSIBLE_SD * sd
    leaves = (np.abs(after - mean) > wide) & (np.abs(after - mean) > np.abs(z - mean))
    merit = np.where(leaves | (found.agreement < 1.0), -np.inf, np.abs(found.slope))
    order = np.argsort(-merit, axis=1, kind="stable")[:, :n_exact]
    rows = [
        row
        for p in range(len(z))
        for row in _exact(
            twin, z, task, null, target, direction, behaviour, threads, p,
            [(int(e), float(step[p, e])) for e in order[p]], found.slope[p], size_sd,
        )
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _exact(
    twin: Twin,
    z: Float64,
    task: Examples,
    null: Null,
    target: str,
    direction: int,
    behaviour: Examples | None,
    threads: int,
    person: int,
    edits: list[tuple[int, float]],
    slope: Float64,
    size_sd: float,
) -> list[dict[str, Any]]:
    """Exact runs of one person's edits."""
    own = np.array([person])
    known = behaviour.of(own) if behaviour is not None else None
    asked = Target.parse(target, twin.conditions, twin.regions)
    rows = []
    for edge, delta in edits:
        result = edited_twins(twin, z[own], [edge], [delta], task.of(own), known, [asked], threads)
        bound = size_sd * null.bound[person]
        why = _why_not(result, direction, bound)
        rows.append(
            {
                "person": task.people[person],
                "edge": edge,
                "name": twin.atlas.edge_names()[edge],
                "delta_z": delta,
                "change": result.change[0, 0],
                "low": result.low[0, 0],
                "high": result.high[0, 0],
                "agreement": result.agreement[0, 0],
                "bound": bound,
                "others": result.others[0],
                "among_edges": float(np.mean(np.abs(slope) < abs(slope[edge]))),
                "qualifies": not why,
                "why_not": why,
            }
        )
    return rows


def _why_not(found: Intervention, direction: int, bound: float) -> str:
    change, low, high = found.change[0, 0], found.low[0, 0], found.high[0, 0]
    if found.refused[0]:
        return found.refused[0]
    if not np.isfinite(low):
        return "no interval: fewer than three folds were trained without the person"
    if direction * change <= 0.0:
        return "moves the target the other way"
    if found.agreement[0, 0] < 1.0:
        return "members disagree on the sign"
    if low <= 0.0 <= high:
        return "the interval covers 0"
    if abs(change) <= bound:
        return "no larger than the best edge where there is nothing"
    return ""


def _slopes_by_who(
    twin: Twin,
    z: Float64,
    task: Examples,
    target: str,
    behaviour: Examples | None,
    everyone: bool,
    threads: int,
) -> list[Float64]:
    """Of each member: derivatives by what its network takes, NaN for people it may not tell."""
    wanted = Target.parse(target, twin.conditions, twin.regions)
    task = replace(with_volumes(task), regions=twin.regions)
    out = []
    with deterministic(threads):
        for member in twin.members:
            tells = np.ones(len(z), bool) if everyone else twin.may_tell(member, task.people)
            rows = np.flatnonzero(tells)
            known = behaviour.of(rows) if behaviour is not None else None
            who = twin.who(member, z[rows], known) if len(rows) else member.who(z[rows])
            found = np.full((len(z), who.shape[1]), np.nan)
            if len(rows):
                found[rows] = slopes(member, task.of(rows), who, wanted)
            out.append(found)
    return out


def _screening(
    twin: Twin, z: Float64, by_who: list[Float64], maps: list[CodeMap | None]
) -> Screening:
    _, sd = spread_of_edges(twin)
    total = np.zeros(z.shape)
    positive, counts = np.zeros(z.shape), np.zeros((len(z), 1))
    for member, slope, code_map in zip(twin.members, by_who, maps, strict=True):
        rows = np.flatnonzero(np.isfinite(slope).all(axis=1))
        if not len(rows):
            continue
        own = _by_edges(member, code_map, z[rows], slope[rows]) * sd
        total[rows] += own
        positive[rows] += own > 0.0
        counts[rows] += 1
    n = np.maximum(counts, 1)
    return Screening(total / n, np.where(total > 0.0, positive, n - positive) / n)


def _by_edges(member: Member, code_map: CodeMap | None, z: Float64, slope: Float64) -> Float64:
    """Slopes by edges, Fisher z, (n_people, n_edges), of slopes by what the network takes."""
    basis = member.basis
    if code_map is None:
        by_scores = slope / basis.sd[0]
    else:
        by_scores = np.einsum("pk,pki->pi", slope, code_map.slopes(basis.scores(z)), optimize=True)
    return by_scores @ basis.components / basis.scale / np.sqrt(len(basis.mean))


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
