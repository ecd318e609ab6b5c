"""Fit a twin: folds of people times seeds, each a network trained without the people left out.

For each member, in its fold alone: a basis of the training people's connectomes; codes of every
training person and the shared network by descent on the likelihood of their trials; the map from
connectomes to codes. Some of the training people are kept from descent: how well the map, fitted
to the others' codes, foretells *their* trials decides when to stop. Then codes of all training
people are inferred with the network at rest, and the map is fitted to all of them. In the whole
form there are no codes, and the perceptron is descended to with the rest.

What is drawn in an epoch depends on seeds and the number of the epoch alone, and everything else
that training knows is in the checkpoint, so that a fit that was killed goes on with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offline.decoder.folds import deal
from offline.errors import TwinError
from offline.twin.basis import Basis, fit_basis
from offline.twin.descent import Adam, falling_rate
from offline.twin.determinism import deterministic
from offline.twin.examples import Examples
from offline.twin.hyper import fit_code_map
from offline.twin.members import Member
from offline.twin.model import Parameters, Settings, Shape, gradients, initial, losses
from offline.twin.shot import infer_codes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Watch", "deal_people", "fit_member", "fit_members"]

CODE_RATE = 5.0
"""Of codes, against the rate of the network: each moves once an epoch only."""

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Watch = Callable[[int, int, dict[str, float]], None]
"""Called with fold, seed and the newest line of the learning curve after every epoch."""


def deal_people(sites: Sequence[Any] | None, n_people: int, n_folds: int, seed: int) -> Ints:
    """Fold of each person, shape (n_people,), with people of every site dealt evenly."""
    if n_people < 2 * n_folds:
        raise TwinError(
            f"expected at least two people a fold, found {n_people} for {n_folds} folds; use fewer"
        )
    numbers = None
    if sites is not None:
        numbers = np.unique(np.asarray(sites, str), return_inverse=True)[1].astype(np.int64)
    people = np.arange(n_people)
    rng = np.random.default_rng((seed, 77))
    return deal(people, np.zeros(n_people, np.int64), n_folds, rng, numbers)


def fit_members(
    edges: Float64,
    examples: Examples,
    folds: Ints,
    settings: Settings,
    *,
    sites: Sequence[Any] | None = None,
    device: str = "cpu",
    threads: int = 1,
    checkpoint: str | Path | None = None,
    watch: Watch | None = None,
) -> list[Member]:
    """Train the whole ensemble.

    Parameters
    ----------
    edges : ndarray of float64, shape (n_people, n_edges)
        Fisher z, rows as `examples.people`.
    examples : Examples
    folds : ndarray of int64, shape (n_people,)
        Of `deal_people`.
    settings : Settings
    sites : sequence or None
        For people kept for early stopping, who are dealt evenly over sites too.
    device : str
        `cpu`, or `cuda`.
    threads : int
        Of torch.
    checkpoint : path or None
        Folder in which to keep what is done after every look, and to go on from.
    watch : callable or None
        Told of every epoch.

    Returns
    -------
    list of Member
        Folds within seeds.

    Raises
    ------
    TwinError
        If people and edges do not fit each other, or a checkpoint is of other work.
    """
    if len(edges) != len(examples.people):
        raise TwinError(
            f"expected one row of edges for each of {len(examples.people)} people, found"
            f" {len(edges)}; take the same people in the same order"
        )
    bases: dict[int, Basis] = {}
    members = []
    with deterministic(threads):
        for seed in range(settings.seeds):
            for fold in np.unique(folds).tolist():
                if fold not in bases:
                    bases[fold] = fit_basis(edges[folds != fold])
                members.append(
                    fit_member(
                        edges, examples, folds, settings, fold, seed, bases[fold],
                        sites=sites, device=device, checkpoint=checkpoint, watch=watch,
                    )
                )  # fmt: skip
    return members


def fit_member(
    edges: Float64,
    examples: Examples,
    folds: Ints,
    settings: Settings,
    fold: int,
    seed: int,
    basis: Basis,
    *,
    sites: Sequence[Any] | None = None,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    watch: Watch | None = None,
) -> Member:
    """Train one network on the people outside `fold`; parameters as of `fit_members`."""
    from offline.twin.resume import Resume

    training = np.flatnonzero(folds != fold)
    rng = np.random.default_rng((settings.seed, fold, seed, 0))
    kept = _validation(training, sites, settings, rng)
    inner, held = training[~kept], training[kept]
    run = _Run.begin(edges, examples, inner, held, settings, rng, device)
    resume = Resume.open(checkpoint, fold, seed, (edges, folds, settings, examples))
    if resume is not None:
        resume.restore(run)
    while not run.over:
        line = run.epoch_of((settings.seed, fold, seed, 1 + run.epoch))
        if run.epoch % settings.check_every == 0 or run.epoch == settings.epochs:
            run.look(line)
        run.curve.append(line)
        if resume is not None and "validation" in line:
            resume.keep(run)
        if watch is not None:
            watch(fold, seed, line)
    parameters = run.best
    code_map = None
    if settings.form == "low_rank":
        own = examples.of(training)
        # everybody's codes anew, from one prior: those of descent lag behind the network
        flat = np.zeros((len(training), settings.rank))
        codes, _ = infer_codes(
            parameters, run.shape, settings, own, flat, np.eye(settings.rank), n_steps=4
        )
        code_map = fit_code_map(basis.block_scores(edges[training]), codes)
    return Member(
        fold, seed, run.shape, settings, basis if code_map is not None else run.basis, code_map,
        {name: values.cpu() for name, values in parameters.items()}, tuple(run.curve),
    )  # fmt: skip


@dataclass
class _Run:
    """One network in training: all that changes, and what it is trained on."""

    settings: Settings
    shape: Shape
    basis: Basis
    inner: Examples
    held: Examples
    inner_scores: Float64
    held_scores: Float64
    parameters: Parameters
    codes: Tensor
    adam: Adam
    best: Parameters
    epoch: int = 0
    best_loss: float = np.inf
    since_best: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        edges: Float64,
        examples: Examples,
        inner: Ints,
        held: Ints,
        settings: Settings,
        rng: np.random.Generator,
        device: str,
    ) -> _Run:
        import torch

        own = examples.of(inner)
        basis = fit_basis(edges[inner])
        shape = Shape.of(examples, len(basis.sd))
        parameters = {
            name: values.to(device) for name, values in initial(shape, settings, own, rng).items()
        }
        scores = basis.scores(edges[inner])
        if settings.form == "low_rank":
            codes = torch.from_numpy(_first_codes(own, settings.rank, rng)).to(device)
        else:
            codes = torch.from_numpy(basis.perceptron_input(scores).astype(np.float32)).to(device)
        return cls(
            settings, shape, basis, own, examples.of(held), scores, basis.scores(edges[held]),
            parameters, codes, Adam({**parameters, "codes": codes}), dict(parameters),
        )  # fmt: skip

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or nothing got better for so long."""
        return self.epoch >= self.settings.epochs or self.since_best >= self.settings.patience

    def epoch_of(self, seed: tuple[int, ...]) -> dict[str, float]:
        """One pass over the people; what is drawn follows from the seed alone."""
        import torch

        settings, rng = self.settings, np.random.default_rng(seed)
        order = rng.permutation(len(self.codes))
        rate = falling_rate(settings.rate, self.epoch, settings.epochs)
        self.epoch += 1
        total = 0.0
        for begin in range(0, len(order), settings.batch):
            rows = order[begin : begin + settings.batch]
            batch, scale = self._drawn(rows, rng)
            taken = torch.from_numpy(rows).to(self.codes.device)
            who = self.codes[taken]
            n_trials = float(np.sum(self.inner.onset[rows] >= 0))
            loss, found = gradients(
                self.parameters, self.shape, settings, batch, who, scale / n_trials
            )
            slope = found.pop("who")
            if settings.form == "low_rank":
                loss += 0.5 * float((who**2).sum()) / n_trials
                slope = slope + who / n_trials
                self.adam.step_rows("codes", self.codes, taken, slope, CODE_RATE * rate, self.epoch)
            self.adam.step(self.parameters, found, rate)
            total += loss * len(rows) / len(order)
        return {"epoch": float(self.epoch), "training": total}

    def look(self, line: dict[str, float]) -> None:
        """How likely the kept people's trials are under what their connectomes say."""
        import torch

        if self.settings.form == "low_rank":
            codes = self.codes.double().cpu().numpy()
            # of all edges as one block: whether networks act by blocks is asked at the end
            found = fit_code_map(self.inner_scores[:, None], codes)
            told = found.codes(self.held_scores[:, None])
        else:
            told = self.basis.perceptron_input(self.held_scores)
        total = 0.0
        with torch.no_grad():
            for begin in range(0, len(told), self.settings.batch):
                rows = np.arange(begin, min(begin + self.settings.batch, len(told)))
                who = torch.from_numpy(told[rows].astype(np.float32)).to(self.codes.device)
                own = self.held.of(rows)
                parts = losses(self.parameters, self.shape, self.settings, own, who)
                total += sum(float(part.sum()) for part in parts.values())
        line["validation"] = total / float(np.sum(self.held.onset >= 0))
        if line["validation"] < self.best_loss:
            self.best_loss, self.since_best = line["validation"], 0
            self.best = {name: values.clone() for name, values in self.parameters.items()}
        else:
            self.since_best += 1

    def _drawn(self, rows: Ints, rng: np.random.Generator) -> tuple[Examples, Tensor]:
        """Some segments of some people, and by how much each person's loss is to be scaled."""
        import torch

        own = self.inner.of(rows)
        n = self.settings.segments
        counts = np.sum(own.run >= 0, axis=1)
        if n is None or n >= own.n_segments or self.shape.regions:
            return own, torch.ones(len(rows), device=self.codes.device)
        # padded segments come last: a draw without replacement among a person's own
        chosen = np.stack([rng.choice(k, n, replace=k < n) for k in counts])
        scale = torch.from_numpy((counts / n).astype(np.float32)).to(self.codes.device)
        return own.parts(np.sort(chosen, axis=1)), scale


def _validation(
    training: Ints, sites: Sequence[Any] | None, settings: Settings, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Who of the training people is kept for early stopping, shape (n_training,)."""
    n_parts = max(2, round(1.0 / settings.validation))
    own = None if sites is None else [sites[k] for k in training]
    parts = deal_people(own, len(training), n_parts, int(rng.integers(2**31)))
    kept: NDArray[np.bool_] = parts == 0
    return kept


def _first_codes(examples: Examples, rank: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Codes to start from: main components of what people did, and small noise in the others."""
    n_people = len(examples.people)
    columns = []
    for condition in range(len(examples.conditions)):
        own = np.where(examples.condition == condition, examples.log_rt, np.nan)
        own = own.reshape(n_people, -1)
        counts = np.isfinite(own).sum(axis=1)
        total = np.nansum(own, axis=1)
        # three trials at the people's mean: someone without trials of a condition is average
        mean = total.sum() / max(counts.sum(), 1)
        columns.append((total + 3.0 * mean) / (counts + 3.0))
    log_rt = examples.log_rt.reshape(n_people, -1)
    columns.append(np.log(np.nanstd(log_rt, axis=1) + 0.05))
    missed = np.sum(examples.choice == examples.n_actions, axis=(1, 2))
    columns.append(np.sqrt(missed + 0.5))
    table = np.stack(columns, axis=1)
    sd = table.std(axis=0)
    table = (table - table.mean(axis=0))[:, sd > 1e-9] / sd[sd > 1e-9]
    codes = 0.1 * rng.standard_normal((n_people, rank))
    left, values, right = np.linalg.svd(table, full_matrices=False)
    n = min(rank, int(np.sum(values > 1e-6 * values[0])))
    # the sign of a component is the library's whim: its largest entry is positive
    flip = np.sign(right[np.arange(n), np.abs(right[:n]).argmax(axis=1)])
    codes[:, :n] = left[:, :n] * flip * np.sqrt(n_people)
    return codes.astype(np.float32)
