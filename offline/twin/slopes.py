"""Slopes of a target: by what a person's network takes, and through the map by every edge.

The slope by every edge is the network's slope by its codes, one run back through the network,
times the slope of the codes by the edges, which is in the map.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from offline.twin.determinism import deterministic
from offline.twin.examples import Examples
from offline.twin.members import Member
from offline.twin.outcomes import Target, slopes, with_volumes
from offline.twin.twin import Twin

__all__ = ["code_slopes", "edge_slopes"]

Float64 = NDArray[np.float64]


def edge_slopes(
    twin: Twin,
    fc: Float64,
    task: Examples,
    target: str = "rt",
    behaviour: Examples | None = None,
    *,
    everyone: bool = False,
    threads: int = 1,
) -> Float64:
    """Slopes of a target by every edge, as the twin's map has them: shrunken, as its effects are.

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

    Returns
    -------
    ndarray of float64, shape (n_people, n_edges)
        Change of the target per SD of the edge, mean over members that may tell the person.
    """
    z = twin.edges_of(fc, task.people)
    by_who = code_slopes(twin, z, task, target, behaviour, everyone, threads)
    _, sd = twin.edge_spread()
    total, counts = np.zeros(z.shape), np.zeros((len(z), 1))
    for member, slope in zip(twin.members, by_who, strict=True):
        rows = np.flatnonzero(np.isfinite(slope).all(axis=1))
        total[rows] += _by_edges(member, z[rows], slope[rows]) * sd
        counts[rows] += 1
    mean: Float64 = total / np.maximum(counts, 1)
    return mean


def code_slopes(
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


def _by_edges(member: Member, z: Float64, slope: Float64) -> Float64:
    """Slopes by edges, Fisher z, (n_people, n_edges), of slopes by what the network takes."""
    basis = member.basis
    by_edges = np.empty_like(z)
    if member.map is None:
        by_edges[:] = slope / basis.sd[0] @ basis.components
    else:
        by_scores = member.map.slopes(basis.block_scores(z), slope)
        for block, own in enumerate(basis.edges_of_blocks()):
            by_edges[:, own] = by_scores[:, block] @ basis.components[:, own]
    scaled: Float64 = by_edges / basis.scale / np.sqrt(len(basis.mean))
    return scaled
