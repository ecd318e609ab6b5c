"""What would change if a person's connection changed: the edited connectome does the task again.

An edit goes to every member of the ensemble that was not trained with the person; where trials of
the person are known, what they say beyond the connectome stays as it is. Two sizes of its effect:

- With the training people's data (`backgrounds`): the edit's own effect, a fixed effect before the
  background of all edges (`background`). 90 % interval: its standard error.
- Without: what the twin's map says, which is shrunken, often many times too small, because the map
  spreads effects over all edges that vary together. The interval is from the folds, members being
  the replicates of a delete-a-group jackknife,

      var = (K - 1)² / K · variance of the K folds' means,   t with K - 1 degrees of freedom

  (Kott 2001, J Official Statistics 17:521). It says how much the *shrunken* effect would change
  with other people, and nothing of the shrinkage.

Everything here is a prediction of a model. That an edit does to a person what it does to their
twin has no evidence but known truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from offline.errors import TwinError
from offline.twin.background import Background
from offline.twin.edit import Edited, edit_connectomes
from offline.twin.examples import Examples
from offline.twin.files import require_real
from offline.twin.outcomes import Target, outcomes, slopes, targets_of, with_volumes
from offline.twin.train import deterministic
from offline.twin.twin import Twin, require_edges

if TYPE_CHECKING:
    from rtloop.plan import PlanEdge

__all__ = [
    "LEVEL",
    "Intervention",
    "ask",
    "edge_places",
    "edited_twins",
    "group_view",
    "intervene",
    "jackknife",
    "plan_edges",
    "spread_of_edges",
]

LEVEL = 0.90
FEWEST_FOLDS = 3

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Intervention:
    """What an edit does to people's twins.

    Attributes
    ----------
    people : tuple of str
    edges : ndarray of int64, shape (n,)
    delta_z : ndarray of float64, shape (n_people, n)
        As asked for.
    targets : tuple of str
        Rows: RT and responses, over all trials and each condition.
    before : ndarray of float64, shape (n_targets, n_people)
        Mean over members; RT in s, responses in the unit of BOLD.
    members : ndarray of float64, shape (n_targets, n_members, n_people)
        Change; NaN where a member was trained with the person, or the edit is refused.
    change, low, high : ndarray of float64, shape (n_targets, n_people)
        Mean over members, and 90 % interval; without backgrounds none with fewer than three folds
        to tell.
    agreement : ndarray of float64, shape (n_targets, n_people)
        Share of members with the sign of the change.
    others : ndarray of float64, shape (n_people,)
        Largest change of an edge not edited, Fisher z: the price of a valid matrix.
    refused : tuple of str
        Why a person has no prediction; "" where they have.
    """

    people: tuple[str, ...]
    edges: Ints
    delta_z: Float64
    targets: tuple[str, ...]
    before: Float64
    members: Float64
    change: Float64
    low: Float64
    high: Float64
    agreement: Float64
    others: Float64
    refused: tuple[str, ...]

    def row(self, target: str) -> int:
        """Place of a target.

        Raises
        ------
        TwinError
            If it is not among `targets`.
        """
        if target not in self.targets:
            raise TwinError(
                f"expected one of the targets {', '.join(self.targets)}, found {target!r}"
            )
        return self.targets.index(target)

    def table(self) -> pd.DataFrame:
        """One row a person and target: `person`, `target`, `before`, `change`, `low`, `high`,
        `agreement`, `others`, `refused`."""
        rows = []
        for k, name in enumerate(self.targets):
            for p, person in enumerate(self.people):
                rows.append(
                    {
                        "person": person,
                        "target": name,
                        "before": self.before[k, p],
                        "change": self.change[k, p],
                        "low": self.low[k, p],
                        "high": self.high[k, p],
                        "agreement": self.agreement[k, p],
                        "others": self.others[p],
                        "refused": self.refused[p],
                    }
                )
        return pd.DataFrame(rows)


def intervene(
    twin: Twin,
    fc: ArrayLike,
    edges: ArrayLike,
    delta_z: ArrayLike,
    task: Examples,
    behaviour: Examples | None = None,
    *,
    targets: Sequence[str] | None = None,
    backgrounds: Sequence[Background] | None = None,
    threads: int = 1,
) -> Intervention:
    """Edit edges of people's connectomes and let their twins do the task again.

    Parameters
    ----------
    twin : Twin
    fc : array_like, shape (n_people, n_edges)
        Fisher z, rows as `task.people`.
    edges : array_like of int, shape (n,)
        Places of the edges in the atlas.
    delta_z : array_like of float, shape (n,) or (n_people, n)
        Fisher z to add; at most one SD of the edge between training people.
    task : Examples
        What they see.
    behaviour : Examples or None
        Trials already done by the same people.
    targets : sequence of str or None
        As `outcomes.Target.parse` reads them; None for all.
    backgrounds : sequence of Background or None
        Of `background.backgrounds_of`, for effects in their own size; None: shrunken ones.
    threads : int
        Of torch.

    Returns
    -------
    Intervention

    Raises
    ------
    AtlasError, ScaleError, TwinError
        As of `Twin.simulate`, and if an edit is too large or names no edge.
    """
    z = require_edges(fc, twin.atlas, task.people)
    asked = _targets(twin, targets)
    return edited_twins(twin, z, edges, delta_z, task, behaviour, asked, threads, backgrounds)


def edited_twins(
    twin: Twin,
    z: Float64,
    edges: ArrayLike,
    delta_z: ArrayLike,
    task: Examples,
    behaviour: Examples | None,
    asked: Sequence[Target],
    threads: int,
    backgrounds: Sequence[Background] | None = None,
) -> Intervention:
    """`intervene` for edges that were checked already, (n_people, n_edges)."""
    mean, sd = spread_of_edges(twin)
    edited = edit_connectomes(z, twin.atlas, edges, delta_z, mean, sd)
    outside = _outside(twin, edited, task.people)
    refused = tuple(
        why or ("outside the people it was trained with" if far else "")
        for why, far in zip(edited.refused, outside.tolist(), strict=True)
    )
    before, after, variance = _before_and_after(
        twin, edited, task, behaviour, asked, threads, backgrounds
    )
    changes = after - before
    changes[:, :, np.array([bool(why) for why in refused])] = np.nan
    folds = np.array([member.fold for member in twin.members])
    if backgrounds is None:
        change, low, high = jackknife(changes, folds)
    else:
        # members share most people: their errors are nearly one error, which averaging does not
        # lessen, and by which they differ is part of it
        change = _mean(changes)
        reach = stats.norm.ppf(0.5 + LEVEL / 2.0) * np.sqrt(_mean(variance))
        low, high = change - reach, change + reach
    with np.errstate(invalid="ignore"):
        same = np.sum(np.sign(changes) == np.sign(change)[:, None], axis=1)
        agreement = same / np.sum(np.isfinite(changes), axis=1)
    places = np.atleast_1d(np.asarray(edges, np.int64))
    return Intervention(
        task.people, places,
        np.broadcast_to(np.asarray(delta_z, np.float64), (len(z), len(places))).copy(),
        tuple(str(target) for target in asked), _mean(before), changes, change, low, high,
        agreement, edited.others, refused,
    )  # fmt: skip


def ask(
    twin: Twin,
    fc: Float64,
    task: Examples,
    targets: Sequence[str] | None = None,
    behaviour: Examples | None = None,
    *,
    threads: int = 1,
) -> Float64:
    """Targets of people as they are, shape (n_targets, n_members, n_people).

    NaN where a member was trained with the person. Parameters as of `intervene`.
    """
    z = require_edges(fc, twin.atlas, task.people)
    asked = _targets(twin, targets)
    as_they_are = Edited(z, z, np.zeros(len(z)), ("",) * len(z))
    before, _, _ = _before_and_after(twin, as_they_are, task, behaviour, asked, threads, None)
    return before


def jackknife(members: Float64, folds: Ints) -> tuple[Float64, Float64, Float64]:
    """Mean over members and its 90 % interval, by folds.

    Parameters
    ----------
    members : ndarray of float64, shape (..., n_members, n_people)
        NaN where a member does not tell.
    folds : ndarray of int64, shape (n_members,)
        The fold each member left out.

    Returns
    -------
    tuple of ndarray of float64, each (..., n_people)
        Mean, low, high; the last two NaN where fewer than three folds tell.
    """
    names = np.unique(folds)
    means = np.stack([_mean(members[..., folds == fold, :], axis=-2) for fold in names], axis=-2)
    n = np.isfinite(means).sum(axis=-2)
    value = _mean(means, axis=-2)
    squares = np.nansum((means - value[..., None, :]) ** 2, axis=-2)
    enough = n >= FEWEST_FOLDS
    free = np.maximum(n - 1, 1)
    error = np.sqrt(free / np.maximum(n, 1) * squares)
    reach = stats.t.ppf(0.5 + LEVEL / 2.0, free) * error
    low, high = value - reach, value + reach
    return value, np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def group_view(found: Intervention, target: str, direction: int) -> pd.DataFrame:
    """Who is predicted to respond to an edit.

    Parameters
    ----------
    found : Intervention
    target : str
    direction : {-1, 1}
        What is wanted: less of the target, or more.

    Returns
    -------
    pandas.DataFrame
        One row a person, the strongest predicted response first: `person`, `before`, `after`,
        `change`, `low`, `high`, `responds` (all members agree, and the interval is on the wanted
        side of 0), `why_not`.
    """
    k = found.row(target)
    table = found.table()
    table = table[table["target"] == target].reset_index(drop=True)
    nearer = np.where(direction > 0, found.low[k], -found.high[k])
    with np.errstate(invalid="ignore"):
        responds = (nearer > 0.0) & (found.agreement[k] == 1.0)
        wrong = direction * found.change[k] <= 0.0
    unknown = ~np.isfinite(found.low[k])
    why = np.select(
        [np.array([bool(w) for w in found.refused]), unknown, wrong, ~responds],
        [np.array(found.refused, object), NO_INTERVAL, "predicted the other way", "may be chance"],
        "",
    )
    out = table[["person", "before", "change", "low", "high"]].assign(
        after=table["before"] + table["change"], responds=responds, why_not=why
    )
    order = np.argsort(-direction * out["change"].to_numpy(), kind="stable")  # NaN come last
    columns = ["person", "before", "after", "change", "low", "high", "responds", "why_not"]
    return out.iloc[order][columns].reset_index(drop=True)


NO_INTERVAL = "no interval: fewer than three folds were trained without the person"


def plan_edges(twin: Twin, found: Intervention, person: str, target: str) -> tuple[PlanEdge, ...]:
    """Edges of an intervention as a plan takes them, for a person who is predicted to respond.

    Parameters
    ----------
    twin : Twin
        Of real people.
    found : Intervention
        Of this twin.
    person : str
    target : str

    Raises
    ------
    TwinError
        If the twin is of synthetic people, or the person is refused, has no interval, or one that
        covers 0, or members disagree.
    """
    from rtloop.plan import PlanEdge

    require_real(twin, "a plan")
    if person not in found.people:
        raise TwinError(f"expected a person of the intervention, found {person!r}")
    p, k = found.people.index(person), found.row(target)
    reasons = [found.refused[p]] if found.refused[p] else []
    if not reasons and not np.isfinite(found.low[k, p]):
        reasons.append(NO_INTERVAL)
    if not reasons and found.low[k, p] <= 0.0 <= found.high[k, p]:
        reasons.append(
            f"{LEVEL:.0%} interval {found.low[k, p]:+.3g} to {found.high[k, p]:+.3g} covers 0"
        )
    if not reasons and found.agreement[k, p] < 1.0:
        reasons.append(f"only {found.agreement[k, p]:.0%} of members agree on the sign")
    if reasons:
        raise TwinError(
            f"expected a predicted response of sub-{person} to plan for, found: {reasons[0]}"
        )
    labels, pairs = twin.atlas.labels, twin.atlas.edges()
    largest = np.abs(found.delta_z[p]).max()
    return tuple(
        PlanEdge(
            a=labels[pairs[edge, 0]],
            b=labels[pairs[edge, 1]],
            weight=float(abs(delta) / largest),
            direction=1 if delta > 0 else -1,
        )
        for edge, delta in zip(found.edges, found.delta_z[p], strict=True)
        if delta != 0.0
    )


def edge_places(twin: Twin, names: Sequence[str]) -> Ints:
    """Places of edges named `A--B`, in either order of their ROIs.

    Raises
    ------
    TwinError
        If the twin's atlas has no such edge.
    """
    known = {name: k for k, name in enumerate(twin.atlas.edge_names())}
    out = []
    for name in names:
        turned = "--".join(reversed(name.split("--")))
        place = known.get(name, known.get(turned))
        if place is None:
            raise TwinError(
                f"expected an edge of atlas {twin.atlas.name} such as"
                f" {twin.atlas.edge_names()[0]}, found {name!r}"
            )
        out.append(place)
    return np.array(out, np.int64)


def spread_of_edges(twin: Twin) -> tuple[Float64, Float64]:
    """Mean and SD of every edge between training people, each (n_edges,): means over members."""
    bases = list({id(member.basis): member.basis for member in twin.members}.values())
    mean = np.mean([basis.mean for basis in bases], axis=0)
    return mean, np.mean([basis.scale for basis in bases], axis=0)


def _before_and_after(
    twin: Twin,
    edited: Edited,
    task: Examples,
    behaviour: Examples | None,
    targets: Sequence[Target],
    threads: int,
    backgrounds: Sequence[Background] | None,
) -> tuple[Float64, Float64, Float64]:
    """Targets before, after, and the change's variance; each (n_targets, n_members, n_people)."""
    if behaviour is not None and behaviour.people != task.people:
        raise TwinError("expected behaviour of the people of the task, found others")
    if task.channels != twin.channels or task.conditions != twin.conditions:
        raise TwinError(
            f"expected a task with the channels {', '.join(twin.channels)} and the conditions"
            f" {', '.join(twin.conditions)}, found others; encode it as the training data"
        )
    task = replace(with_volumes(task), regions=twin.regions)
    before = np.full((len(targets), len(twin.members), len(task.people)), np.nan)
    after, variance = before.copy(), before.copy()
    with deterministic(threads):
        for m, member in enumerate(twin.members):
            rows = np.flatnonzero(twin.may_tell(member, task.people))
            if not len(rows):
                continue
            own = task.of(rows)
            known = behaviour.of(rows) if behaviour is not None else None
            who = twin.who(member, edited.before[rows], known)
            before[:, m, rows] = outcomes(member, own, who, targets)
            if edited.after is edited.before:
                after[:, m, rows] = before[:, m, rows]
                continue
            # what trials say beyond the connectome is the person's, and stays
            if backgrounds is None:
                moved = member.who(edited.after[rows]) - member.who(edited.before[rows])
            else:
                moved, spread = backgrounds[m].effect(edited.before[rows], edited.after[rows])
                for t, target in enumerate(targets):
                    slope = slopes(member, own, who, target)
                    variance[t, m, rows] = np.einsum("pi,pij,pj->p", slope, spread, slope)
            after[:, m, rows] = outcomes(member, own, who + moved, targets)
    return before, after, variance


def _outside(twin: Twin, edited: Edited, people: Sequence[str]) -> NDArray[np.bool_]:
    """Whose connectome, before or after, is outside for most members that may tell.

    `Twin.outside` for edges that were checked together: one person's alone may be all below 1.
    """
    votes, counts = np.zeros(len(people)), np.zeros(len(people))
    seen: dict[int, NDArray[np.bool_]] = {}
    for member in twin.members:
        if id(member.basis) not in seen:
            after = member.basis.outside(edited.after)
            seen[id(member.basis)] = member.basis.outside(edited.before) | after
        tells = twin.may_tell(member, people)
        votes += tells & seen[id(member.basis)]
        counts += tells
    return np.asarray(votes > 0.5 * counts)


def _targets(twin: Twin, names: Sequence[str] | None) -> tuple[Target, ...]:
    if names is None:
        return targets_of(twin.conditions, twin.regions)
    return tuple(Target.parse(name, twin.conditions, twin.regions) for name in names)


def _mean(values: Float64, axis: int = 1) -> Float64:
    """Mean of what is there, NaN where nothing is."""
    n = np.isfinite(values).sum(axis=axis)
    return np.where(n > 0, np.nansum(values, axis=axis) / np.maximum(n, 1), np.nan)
