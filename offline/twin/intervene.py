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
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.errors import TwinError
from offline.twin.background import Background
from offline.twin.determinism import deterministic
from offline.twin.edit import Edited, edit_connectomes
from offline.twin.effects import Intervention, jackknife, mean_of_known, normal_interval
from offline.twin.examples import Examples
from offline.twin.outcomes import Target, outcomes, slopes, targets_of, with_volumes
from offline.twin.twin import Twin

__all__ = ["ask", "edited_twins", "intervene"]

Float64 = NDArray[np.float64]


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
    """What `Twin.intervene` does, and documents."""
    z = twin.edges_of(fc, task.people)
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
    edited = edit_connectomes(z, twin.atlas, edges, delta_z, *twin.edge_spread())
    far = twin.outside(edited.before, task.people) | twin.outside(edited.after, task.people)
    refused = tuple(
        why or ("outside the people it was trained with" if out else "")
        for why, out in zip(edited.refused, far.tolist(), strict=True)
    )
    before, after, variance = _before_and_after(
        twin, edited, task, behaviour, asked, threads, backgrounds
    )
    changes = after - before
    changes[:, :, np.array([bool(why) for why in refused])] = np.nan
    if backgrounds is None:
        folds = np.array([member.fold for member in twin.members])
        change, low, high = jackknife(changes, folds)
    else:
        change, low, high = normal_interval(changes, variance)
    with np.errstate(invalid="ignore"):
        same = np.sum(np.sign(changes) == np.sign(change)[:, None], axis=1)
        agreement = same / np.sum(np.isfinite(changes), axis=1)
    places = np.atleast_1d(np.asarray(edges, np.int64))
    return Intervention(
        task.people, places,
        np.broadcast_to(np.asarray(delta_z, np.float64), (len(z), len(places))).copy(),
        tuple(str(target) for target in asked), mean_of_known(before), changes, change, low, high,
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
    z = twin.edges_of(fc, task.people)
    asked = _targets(twin, targets)
    as_they_are = Edited(z, z, np.zeros(len(z)), ("",) * len(z))
    before, _, _ = _before_and_after(twin, as_they_are, task, behaviour, asked, threads, None)
    return before


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
    twin.require_task(task)
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


def _targets(twin: Twin, names: Sequence[str] | None) -> tuple[Target, ...]:
    if names is None:
        return targets_of(twin.conditions, twin.regions)
    return tuple(Target.parse(name, twin.conditions, twin.regions) for name in names)
