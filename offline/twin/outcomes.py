"""What a twin is asked: response times, and responses of named regions, as one number a person.

    rt                             mean RT over the task's trials, s
    rt:matching face               over those of one condition
    response:amygdala_R            response of a region to all trials, in the unit of its BOLD
    response:amygdala_R:matching face

A response is the beta of predicted BOLD on the windows of the trials convolved as the twin's own
activity is, so that it means for a twin what it means for a scan. Each is a differentiable
function of what a person's network takes of them, hence slopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from offline.errors import TwinError
from offline.twin.examples import Examples
from offline.twin.heads import bold_of, linear, rt_of
from offline.twin.members import Member
from offline.twin.model import states

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Target",
    "measured_responses",
    "outcomes",
    "predicted_bold",
    "slopes",
    "targets_of",
    "with_volumes",
]

PEOPLE_AT_ONCE = 48
TR_S = 0.8
"""Of a task for which no BOLD was measured."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """One number a person."""

    kind: Literal["rt", "response"]
    region: str | None = None
    condition: str | None = None

    @classmethod
    def parse(cls, text: str, conditions: Sequence[str], regions: Sequence[str]) -> Target:
        """Read a target as this module's first lines write it.

        Raises
        ------
        TwinError
            If it is none, or names a condition or region that the twin does not have.
        """
        kind, *names = text.split(":")
        region = names.pop(0) if kind == "response" and names else None
        condition = names.pop(0) if names else None
        if kind not in ("rt", "response") or names or (kind == "response") != (region is not None):
            raise TwinError(
                f"expected a target rt, rt:CONDITION, response:REGION or"
                f" response:REGION:CONDITION, found {text!r}"
            )
        if region is not None and region not in regions:
            raise TwinError(
                f"expected a region of the twin ({', '.join(regions) or 'it has none'}), found"
                f" {region!r}; fit a twin to BOLD of this region"
            )
        if condition is not None and condition not in conditions:
            raise TwinError(
                f"expected a condition of the twin ({', '.join(conditions)}), found {condition!r}"
            )
        return cls("rt" if kind == "rt" else "response", region, condition)

    def __str__(self) -> str:
        return ":".join(part for part in (self.kind, self.region, self.condition) if part)


def targets_of(conditions: Sequence[str], regions: Sequence[str]) -> tuple[Target, ...]:
    """Everything that can be asked: RT and each region, over all trials and each condition."""
    places: list[str | None] = [None, *conditions] if len(conditions) > 1 else [None]
    rt = [Target("rt", None, condition) for condition in places]
    return (*rt, *(Target("response", name, c) for name in regions for c in places))


def outcomes(member: Member, task: Examples, who: Float64, targets: Sequence[Target]) -> Float64:
    """Each target of each person, shape (n_targets, n_people).

    Parameters
    ----------
    member : Member
    task : Examples
        What the people see, conditions as of the twin; no response is looked at.
    who : ndarray of float64, shape (n_people, rank) or (n_people, n_scores)
        What the member's network takes of people.
    targets : sequence of Target
    """
    import torch

    found = np.empty((len(targets), len(who)))
    with torch.no_grad():
        for rows in _parts(len(who)):
            own = task.of(rows)
            values = _values(member, own, _like(who[rows], member), targets)
            found[:, rows] = torch.stack(values).double().cpu().numpy()
    return found


def slopes(member: Member, task: Examples, who: Float64, target: Target) -> Float64:
    """Derivatives of a target by what the network takes of people, shape as `who`."""
    import torch

    found = np.empty_like(who)
    for rows in _parts(len(who)):
        own = task.of(rows)
        leaf = _like(who[rows], member).requires_grad_()
        (value,) = _values(member, own, leaf, [target])
        (slope,) = torch.autograd.grad(value.sum(), [leaf])
        found[rows] = slope.double().cpu().numpy()
    return found


def measured_responses(examples: Examples, condition: str | None = None) -> Float64:
    """The same betas of BOLD that was measured, (n_people, n_regions); NaN where there is none.

    Parameters
    ----------
    examples : Examples
    condition : str or None
        None for all trials.
    """
    import torch

    known = np.isfinite(examples.bold).all(axis=-1)
    there = replace(examples, bold_s=np.where(known, examples.bold_s, np.nan))
    bold = torch.from_numpy(np.where(known[..., None], examples.bold, 0.0)).double()  # type: ignore[index]  # of one axis of four: an array
    found = _betas(bold, there, condition).numpy()
    return np.where(known.any(axis=(1, 2))[:, None], found, np.nan)  # type: ignore[arg-type, index]  # as above


def predicted_bold(member: Member, task: Examples, who: Float64) -> Float64:
    """BOLD at the times of the volumes, (n_people, n_segments, n_volumes, n_regions)."""
    import torch

    parts = []
    with torch.no_grad():
        for rows in _parts(len(who)):
            own = task.of(rows)
            h, heads = states(
                member.parameters, member.shape, member.settings, own, _like(who[rows], member)
            )
            parts.append(bold_of(linear(h, heads["bold"]), own).double().cpu().numpy())
    return np.concatenate(parts)


def with_volumes(task: Examples, tr_s: float = TR_S) -> Examples:
    """The task with times of volumes, where it has none: BOLD that nobody measured."""
    if task.bold_s.shape[2]:
        return task
    n_volumes = int(np.floor((task.n_steps - 1) * task.step_s / tr_s)) + 1
    times = np.where((task.run >= 0)[..., None], np.arange(n_volumes) * tr_s, np.nan)
    return replace(task, bold_s=times)


def _values(member: Member, task: Examples, who: Tensor, targets: Sequence[Target]) -> list[Tensor]:
    import torch

    h, heads = states(member.parameters, member.shape, member.settings, task, who)
    log_mean, log_sd = rt_of(h, heads["rt"], task)
    rt_s = torch.exp(log_mean + 0.5 * torch.exp(log_sd) ** 2)  # the mean of a log-normal
    regions = [t for t in targets if t.kind == "response"]
    betas: dict[str | None, Tensor] = {}
    if regions:
        task = with_volumes(task)
        bold = bold_of(linear(h, heads["bold"]), task)
        for condition in {t.condition for t in regions}:
            betas[condition] = _betas(bold, task, condition)
    out = []
    for target in targets:
        if target.kind == "rt":
            kept = torch.as_tensor(_trials(task, target.condition)).to(h.device)
            total = torch.where(kept, rt_s, 0.0).sum(dim=(1, 2))
            out.append(total / kept.sum(dim=(1, 2)))
        else:
            place = task.regions.index(str(target.region))
            out.append(betas[target.condition][:, place])
    return out


def _trials(task: Examples, condition: str | None) -> NDArray[np.bool_]:
    present = task.onset >= 0
    if condition is None:
        return present
    of_condition: NDArray[np.bool_] = task.condition == task.conditions.index(condition)
    return present & of_condition


def _betas(bold: Tensor, task: Examples, condition: str | None) -> Tensor:
    """Of each region on trials of a condition, the other trials beside them; (person, region)."""
    import torch

    kinds = [_trials(task, condition)]
    if condition is not None:
        kinds.append(_trials(task, None) & ~kinds[0])
    on = np.zeros((task.n_steps, *task.run.shape, len(kinds)), np.float32)
    for place, kept in enumerate(kinds):
        for person, segment, slot in zip(*np.nonzero(kept), strict=True):
            window = slice(task.onset[person, segment, slot], task.end[person, segment, slot])
            on[window, person, segment, place] = 1.0
    regressors = bold_of(torch.as_tensor(on).to(bold), task)
    there = torch.as_tensor(np.isfinite(task.bold_s) & (task.run >= 0)[..., None]).to(bold)
    columns = torch.cat([regressors, torch.ones_like(regressors[..., :1])], dim=-1)
    columns = (columns * there[..., None]).flatten(1, 2)
    series = (bold * there[..., None]).flatten(1, 2)
    gram = columns.mT @ columns
    # a condition that a run does not have has no beta, but must not stop the others
    gram = gram + 1e-6 * torch.eye(gram.shape[-1]).to(gram)
    betas: Tensor = torch.linalg.solve(gram, columns.mT @ series)
    return betas[:, 0]


def _parts(n_people: int) -> list[NDArray[np.int64]]:
    return np.array_split(np.arange(n_people), max(1, -(-n_people // PEOPLE_AT_ONCE)))


def _like(who: Float64, member: Member) -> Tensor:
    import torch

    return torch.as_tensor(who).to(member.parameters["rt"])
