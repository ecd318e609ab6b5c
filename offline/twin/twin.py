"""A twin: an ensemble of networks that do a task as this person's connectome would have it.

`Twin.fit` trains one member for every fold of people and every seed. `Twin.simulate` runs a task
with a person's connectome: all members for somebody new; of somebody in the training data only
those members that were trained without them, so that what is said of anyone is never fitted to
them. With trials of the person (k-shot) every member's codes move as far as these tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.atlas import Atlas
from offline.errors import TwinError
from offline.twin.determinism import deterministic
from offline.twin.edges import require_edges
from offline.twin.examples import Examples
from offline.twin.members import Member
from offline.twin.model import Settings
from offline.twin.shot import infer_codes, readings
from offline.twin.train import Watch, deal_people, fit_members

if TYPE_CHECKING:
    from offline.twin.background import Background
    from offline.twin.effects import Intervention

__all__ = ["Simulation", "Twin", "digest_of_name"]

Provenance = Literal["real", "synthetic"]
Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Simulation:
    """What members of an ensemble say that people do.

    Attributes
    ----------
    people : tuple of str
    mean_rt_s : ndarray of float64, shape (n_members, n_people)
        Over all trials; NaN where a member was trained with the person.
    condition_rt_s : ndarray of float64, shape (n_members, n_people, n_conditions)
        NaN also where a task has no trial of a condition.
    probabilities : ndarray of float64, shape (n_people, n_segments, n_slots, n_actions + 1)
        Of each action and, last, of a miss, in the mean over members; NaN where no trial.
    conditions : tuple of str
    """

    people: tuple[str, ...]
    mean_rt_s: Float64
    condition_rt_s: Float64
    probabilities: Float64
    conditions: tuple[str, ...]

    @property
    def rt_s(self) -> Float64:
        """Mean RT of each person in the mean over members, shape (n_people,)."""
        return np.asarray(np.nanmean(self.mean_rt_s, axis=0))


@dataclass(frozen=True)
class Twin:
    """A fitted ensemble.

    Attributes
    ----------
    atlas : Atlas
        Of the edges.
    provenance : {"real", "synthetic"}
        What it was trained on.
    settings : Settings
    members : tuple of Member
    people : tuple of str
        Digests of the training people's names.
    folds : ndarray of int64, shape (n_people,)
    channels, conditions, regions : tuple of str
        Of the tasks it was trained on.
    """

    atlas: Atlas
    provenance: Provenance
    settings: Settings
    members: tuple[Member, ...]
    people: tuple[str, ...]
    folds: Ints
    channels: tuple[str, ...]
    conditions: tuple[str, ...]
    regions: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        edges: ArrayLike,
        examples: Examples,
        atlas: Atlas,
        provenance: Provenance,
        settings: Settings | None = None,
        *,
        sites: Sequence[Any] | None = None,
        device: str = "cpu",
        threads: int = 1,
        checkpoint: str | Path | None = None,
        watch: Watch | None = None,
    ) -> Twin:
        """Train an ensemble.

        Parameters
        ----------
        edges : array_like, shape (n_people, n_edges)
            Fisher z, rows as `examples.people`.
        examples : Examples
        atlas : Atlas
        provenance : {"real", "synthetic"}
        settings : Settings or None
            None for the defaults.
        sites : sequence or None
        device : str
        threads : int
        checkpoint : path or None
        watch : callable or None
            These as of `train.fit_members`.

        Raises
        ------
        AtlasError, ScaleError
            If the edges are not those of the atlas, or no Fisher z.
        TwinError
            If somebody is there twice, the people cannot be dealt to folds, or there is no such
            device.
        """
        if provenance not in ("real", "synthetic"):
            raise TwinError(f"expected provenance real or synthetic, found {provenance!r}")
        _require_device(device)
        settings = settings or Settings()
        z = require_edges(edges, atlas, examples.people)
        names = [digest_of_name(name) for name in examples.people]
        if len(set(names)) < len(names):
            twice = next(name for name in examples.people if examples.people.count(name) > 1)
            raise TwinError(f"expected everybody once, found {twice} twice: one person, one fold")
        folds = deal_people(sites, len(z), settings.folds, settings.seed)
        members = fit_members(
            z, examples, folds, settings, sites=sites, device=device, threads=threads,
            checkpoint=checkpoint, watch=watch,
        )  # fmt: skip
        return cls(
            atlas, provenance, settings, tuple(members), tuple(names), folds,
            examples.channels, examples.conditions, examples.regions,
        )  # fmt: skip

    def simulate(
        self,
        fc: ArrayLike,
        task: Examples,
        behaviour: Examples | None = None,
        *,
        threads: int = 1,
    ) -> Simulation:
        """Let people do a task.

        Parameters
        ----------
        fc : array_like, shape (n_people, n_edges)
            Fisher z, rows as `task.people`.
        task : Examples
            What they see; their responses, if any, are not looked at.
        behaviour : Examples or None
            Trials already done by the same people, which move their codes (k-shot).
        threads : int
            Of torch.

        Raises
        ------
        AtlasError, ScaleError
            If the edges are not those of the atlas, or no Fisher z.
        TwinError
            If the task has other channels, or behaviour is asked for in the whole form.
        """
        z = self.edges_of(fc, task.people)
        self.require_task(task)
        if behaviour is not None and behaviour.people != task.people:
            raise TwinError("expected behaviour of the people of the task, found others")
        present = task.onset >= 0
        rt_s = np.full((len(self.members), len(z)), np.nan)
        by_condition = np.full((*rt_s.shape, len(self.conditions)), np.nan)
        probability = np.zeros((*task.onset.shape, task.n_actions + 1))
        counts = np.zeros(len(z))
        with deterministic(threads):
            for k, member in enumerate(self.members):
                rows = np.flatnonzero(self.may_tell(member, task.people))
                if not len(rows):
                    continue
                own = task.of(rows)
                who = self.who(member, z[rows], behaviour.of(rows) if behaviour else None)
                mean, sd, p = readings(member.parameters, member.shape, member.settings, own, who)
                trial_s = np.exp(mean + 0.5 * sd**2)  # the mean of a log-normal
                rt_s[k, rows] = _mean_over(trial_s, present[rows])
                for place in range(len(self.conditions)):
                    by_condition[k, rows, place] = _mean_over(
                        trial_s, present[rows] & (own.condition == place)
                    )
                probability[rows] += p
                counts[rows] += 1
        with np.errstate(invalid="ignore"):
            probability /= counts[:, None, None, None]
        probability[~present] = np.nan
        return Simulation(task.people, rt_s, by_condition, probability, self.conditions)

    def intervene(
        self,
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
            With an interval for each person.

        Raises
        ------
        AtlasError, ScaleError, TwinError
            As of `simulate`, and if an edit is too large or names no edge.
        """
        from offline.twin.intervene import intervene

        return intervene(
            self, fc, edges, delta_z, task, behaviour, targets=targets, backgrounds=backgrounds,
            threads=threads,
        )  # fmt: skip

    def who(self, member: Member, edges: Float64, behaviour: Examples | None) -> Float64:
        """What a member's network takes of people: of their edges, and of trials where given."""
        who = member.who(edges)
        if behaviour is None:
            return who
        if member.map is None:
            raise TwinError(
                "expected a twin of the low-rank form for k-shot, found the whole form; leave"
                " behaviour out, or fit a low-rank twin"
            )
        codes, _ = infer_codes(
            member.parameters, member.shape, member.settings, behaviour, who, member.map.spread
        )
        return codes

    def folds_of(self, people: Iterable[str]) -> Ints:
        """Fold in which each was left out, shape (n_people,); -1 for people it does not know."""
        fold_of = dict(zip(self.people, self.folds.tolist(), strict=True))
        return np.array([fold_of.get(digest_of_name(name), -1) for name in people], np.int64)

    def may_tell(self, member: Member, people: Iterable[str]) -> NDArray[np.bool_]:
        """Whom a member was not trained with, shape (n_people,)."""
        folds = self.folds_of(people)
        return np.asarray((folds == member.fold) | (folds < 0))

    def edge_spread(self) -> tuple[Float64, Float64]:
        """Mean and SD of every edge between training people, each (n_edges,): mean over members."""
        bases = list({id(member.basis): member.basis for member in self.members}.values())
        mean = np.mean([basis.mean for basis in bases], axis=0)
        sd = np.mean([basis.scale for basis in bases], axis=0)
        return mean, np.where(np.isfinite(sd), sd, 0.0)

    def outside(self, fc: ArrayLike, people: Sequence[str]) -> NDArray[np.bool_]:
        """Whose connectome is outside the training distribution of most members that may tell."""
        z = self.edges_of(fc, people)
        votes = np.zeros(len(z))
        counts = np.zeros(len(z))
        seen: dict[int, NDArray[np.bool_]] = {}
        for member in self.members:
            if member.fold not in seen:
                seen[member.fold] = member.basis.outside(z)
            tells = self.may_tell(member, people)
            votes += tells & seen[member.fold]
            counts += tells
        return np.asarray(votes > 0.5 * counts)

    def edges_of(self, fc: ArrayLike, people: Sequence[str]) -> Float64:
        """People's connectomes as float64 (n_people, n_edges), checked.

        Raises
        ------
        AtlasError, ScaleError, TwinError
            As of `edges.require_edges`, the scale judged by the training people.
        """
        return require_edges(fc, self.atlas, people, self.members[0].basis)

    def require_task(self, task: Examples) -> None:
        """Refuse a task that is not encoded as the training data.

        Raises
        ------
        TwinError
        """
        for name in ("channels", "conditions"):
            expected, found = getattr(self, name), getattr(task, name)
            if expected != found:
                raise TwinError(
                    f"expected a task with the {name} {', '.join(expected)}, found"
                    f" {', '.join(found)}; encode it as the twin's training data"
                )


def digest_of_name(name: str) -> str:
    """What files keep of a person's name; `sub-` in front is not part of it."""
    import hashlib

    return hashlib.sha256(name.removeprefix("sub-").encode()).hexdigest()[:16]


def _require_device(device: str) -> None:
    import torch

    if device.split(":")[0] not in ("cpu", "cuda"):
        raise TwinError(f"expected a device cpu or cuda, found {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise TwinError(
            f"expected a GPU that PyTorch can use for device {device}, found none; install PyTorch"
            " with CUDA, or use cpu"
        )


def _mean_over(values: Float64, keep: NDArray[np.bool_]) -> Float64:
    """Mean of each person's values that are kept, NaN where none is; (n_people,)."""
    counts = keep.sum(axis=(1, 2))
    total = np.where(keep, values, 0.0).sum(axis=(1, 2))
    return np.asarray(np.where(counts > 0, total / np.maximum(counts, 1), np.nan))
