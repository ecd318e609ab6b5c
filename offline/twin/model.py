"""The network that does the task: one for all people, made each person's own by a few codes.

Two forms. In `low_rank` a person has `rank` codes c, and

    W_p = W + left diag(c) right',   B_p = B + in_left diag(c) in_right'

so that people differ in a few directions that all people teach; heads are everybody's. In `whole`,
the published form (Takahashi et al. 2026, BME Frontiers 7:0231), a multilayer perceptron gives
every person all weights: scores -> hidden -> hidden -> B, W and heads; log RT has its own head.
Parameters are a plain dict of tensors, the functions here are of them alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from offline.errors import TwinError
from offline.twin.examples import Examples
from offline.twin.heads import READ_S, bold_loss, choice_loss, linear, rt_loss, rt_of
from offline.twin.recurrent import recur

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Parameters",
    "Settings",
    "Shape",
    "gradients",
    "initial",
    "losses",
    "network",
    "states",
]

PART_BYTES = 14 * 2**20
"""Below the size from which allocators give memory back to the system after every use."""


Parameters = dict[str, "Tensor"]


@dataclass(frozen=True)
class Settings:
    """How a twin is made and trained.

    Attributes
    ----------
    units : int
        Of the recurrent network.
    form : {"low_rank", "whole"}
    rank : int
        Codes of a person; `low_rank` only.
    hidden : int
        Units of each hidden layer; `whole` only.
    epochs : int
        At most.
    segments : int or None
        Segments of each person drawn anew for every epoch; None for all. With BOLD, all are used.
    batch : int
        People in one step of descent.
    rate : float
        Of Adam, at the start; it falls to a tenth along half a cosine.
    validation : float
        Share of training people kept for early stopping.
    check_every : int
        Epochs between two looks at them.
    patience : int
        Looks without improvement after which training stops.
    folds, seeds : int
        The ensemble has a member for each of both.
    seed : int
        Of folds and of everything drawn.
    """

    units: int = 32
    form: Literal["low_rank", "whole"] = "low_rank"
    rank: int = 6
    hidden: int = 200
    epochs: int = 60
    segments: int | None = 6
    batch: int = 46
    rate: float = 0.01
    validation: float = 0.2
    check_every: int = 5
    patience: int = 4
    folds: int = 5
    seeds: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.form not in ("low_rank", "whole"):
            raise TwinError(f"expected form low_rank or whole, found {self.form!r}")
        least = {"units": 1, "rank": 1, "hidden": 1, "epochs": 1, "batch": 1, "check_every": 1}
        least |= {"patience": 1, "folds": 2, "seeds": 1, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise TwinError(
                    f"expected {name} >= {bound}, found {getattr(self, name)}; give that or more"
                )
        if not 0.0 < self.validation < 1.0 or not 0.0 < self.rate < 1.0:
            raise TwinError(
                "expected validation and rate between 0 and 1, found"
                f" {self.validation:g} and {self.rate:g}"
            )


@dataclass(frozen=True)
class Shape:
    """What a network takes and gives."""

    channels: int
    actions: int
    regions: int
    scores: int

    @classmethod
    def of(cls, examples: Examples, n_scores: int) -> Shape:
        """Of these examples; the bias is counted as a channel."""
        return cls(examples.inputs.shape[-1], examples.n_actions, len(examples.regions), n_scores)


def initial(
    shape: Shape, settings: Settings, examples: Examples, rng: np.random.Generator
) -> Parameters:
    """Parameters to start from: random, but the RT and choice heads at the people's means.

    Parameters
    ----------
    shape : Shape
    settings : Settings
    examples : Examples
        Of the training people.
    rng : numpy.random.Generator
    """
    import torch

    n = settings.units

    def draw(*size: int, scale: float) -> Tensor:
        return torch.from_numpy((scale * rng.standard_normal(size)).astype(np.float32))

    parameters = {
        "rt": draw(2, len(READ_S) * n + 1, scale=0.1 / math.sqrt(n)),
        "recurrent": draw(n, n, scale=0.9 / math.sqrt(n)),
        "input": draw(n, shape.channels, scale=0.7),
        "choice": draw(shape.actions, n + 1, scale=0.1 / math.sqrt(n)),
    }
    log_rt = examples.log_rt[np.isfinite(examples.log_rt)]
    parameters["rt"][:, -1] = torch.tensor([log_rt.mean(), math.log(log_rt.std())])
    n_steps = examples.n_steps * np.sum(examples.run >= 0) * shape.actions
    rate = max(np.sum(examples.response_step >= 0), 1) / n_steps  # type: ignore[operator]  # a sum of all is a number
    parameters["choice"][:, -1] = math.log(rate / (1.0 - rate))
    if shape.regions:
        parameters["bold"] = draw(shape.regions, n + 1, scale=0.1 / math.sqrt(n))
        sd = np.nanstd(examples.bold, axis=(0, 1, 2)).astype(np.float32)
        parameters["bold_noise"] = torch.log(torch.from_numpy(np.maximum(sd, 1e-3)))
    if settings.form == "low_rank":
        rank = settings.rank
        parameters |= {
            "left": draw(n, rank, scale=0.5 / math.sqrt(n)),
            "right": draw(n, rank, scale=0.5 / math.sqrt(n)),
            "in_left": draw(n, rank, scale=0.3),
            "in_right": draw(shape.channels, rank, scale=0.3),
        }
        return parameters
    # published form: what would be shared is where the last layer starts
    shared = [parameters.pop(name) for name in ("input", "recurrent", "choice")]
    if shape.regions:
        shared.append(parameters.pop("bold"))
    start = torch.cat([part.reshape(-1) for part in shared])
    hidden = settings.hidden
    parameters |= {
        "first": draw(hidden, shape.scores + 1, scale=1.0 / math.sqrt(shape.scores)),
        "second": draw(hidden, hidden + 1, scale=1.0 / math.sqrt(hidden)),
        "last": draw(len(start), hidden, scale=0.02 / math.sqrt(hidden)),
        "last_bias": start,
    }
    return parameters


def network(
    parameters: Parameters, shape: Shape, settings: Settings, who: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Input weights, recurrent weights and heads of people.

    Parameters
    ----------
    parameters : dict of Tensor
    shape : Shape
    settings : Settings
    who : Tensor, shape (n_people, rank) or (n_people, n_scores)
        Codes in the low-rank form, standardised scores in the whole one.

    Returns
    -------
    tuple
        (n_people, n_units, n_channels), (n_people, n_units, n_units), heads by name.
    """
    import torch

    heads = {name: parameters[name] for name in ("rt", "choice", "bold", "bold_noise")
             if name in parameters}  # fmt: skip
    if settings.form == "low_rank":
        code = who[:, None]
        recurrent = parameters["recurrent"] + (parameters["left"] * code) @ parameters["right"].mT
        offset = (parameters["in_left"] * code) @ parameters["in_right"].mT
        return parameters["input"] + offset, recurrent, heads  # type: ignore[return-value]  # names are str
    hidden = torch.relu(who @ parameters["first"][:, :-1].mT + parameters["first"][:, -1])
    hidden = torch.relu(hidden @ parameters["second"][:, :-1].mT + parameters["second"][:, -1])
    every = torch.addmm(parameters["last_bias"], hidden, parameters["last"].mT)
    n, people = settings.units, len(who)
    outputs = [(n, shape.channels), (n, n), (shape.actions, n + 1)]
    if shape.regions:
        outputs.append((shape.regions, n + 1))
    parts = every.split([rows * columns for rows, columns in outputs], dim=1)
    own = [
        part.reshape(people, rows, columns)
        for part, (rows, columns) in zip(parts, outputs, strict=True)
    ]
    heads["choice"] = own[2]
    if shape.regions:
        heads["bold"] = own[3]
    return own[0], own[1], heads  # type: ignore[return-value]  # names are str


def states(
    parameters: Parameters, shape: Shape, settings: Settings, examples: Examples, who: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """States over time, (n_steps, n_people, n_segments, n_units), and the people's heads."""
    b, w, heads = network(parameters, shape, settings, who)
    return recur(_inputs(examples, who), b, w), heads


def losses(
    parameters: Parameters, shape: Shape, settings: Settings, examples: Examples, who: Tensor
) -> dict[str, Tensor]:
    """Negative log likelihood of what each person did: `rt`, `choice`, `bold`, each (n_people,)."""
    h, heads = states(parameters, shape, settings, examples, who)
    return _losses(h, heads, examples)


def gradients(
    parameters: Parameters,
    shape: Shape,
    settings: Settings,
    examples: Examples,
    who: Tensor,
    scale: Tensor,
) -> tuple[float, dict[str, Tensor]]:
    """The people's scaled loss, and its gradient by every parameter and by `who`.

    A few people at a time go through the network and back, so that memory is theirs alone and is
    used again by the next ones; what makes their weights is gone through once, at the end.

    Parameters
    ----------
    parameters : dict of Tensor
    shape : Shape
    settings : Settings
    examples : Examples
    who : Tensor
        As of `network`.
    scale : Tensor, shape (n_people,)
        What each person's loss is multiplied with.

    Returns
    -------
    tuple
        The sum over people, and gradients by name; `who` is that of the argument.
    """
    import torch

    leaves = {name: values.detach().requires_grad_() for name, values in parameters.items()}
    leaves["who"] = who.detach().requires_grad_()
    b, w, heads = network(leaves, shape, settings, leaves["who"])
    made = {"b": b, "w": w, **heads}
    # what is shared by all has no dimension of people
    own = {name for name, values in made.items() if values.dim() == 3}
    slopes = {name: torch.zeros_like(values) for name, values in made.items()}

    def of_part(rows: slice) -> tuple[float, tuple[Tensor, ...]]:
        part = {
            name: (values.detach()[rows] if name in own else values.detach()).requires_grad_()
            for name, values in made.items()
        }
        some = examples.of(np.arange(len(who))[rows])
        h = recur(_inputs(some, who), part["b"], part["w"])
        loss = sum((each * scale[rows]).sum() for each in _losses(h, part, some).values())
        return float(loss.detach()), torch.autograd.grad(loss, list(part.values()))  # type: ignore[arg-type, union-attr]  # there is a loss, so the sum is no 0

    total = 0.0
    parts = _parts(who, examples, settings.units)
    # summed in the order of people, whoever is ready first
    for rows, (loss, found) in zip(parts, _side_by_side(of_part, parts), strict=True):
        total += loss
        for name, slope in zip(made, found, strict=True):
            slopes[name][rows if name in own else slice(None)] += slope
    wanted = torch.autograd.grad(list(made.values()), list(leaves.values()), list(slopes.values()))
    return total, dict(zip(leaves, wanted, strict=True))


def _losses(h: Tensor, heads: dict[str, Tensor], examples: Examples) -> dict[str, Tensor]:
    import torch

    parts = {"rt": rt_loss(*rt_of(h, heads["rt"], examples), examples)}
    if "bold" not in heads:
        return {**parts, "choice": choice_loss(linear(h, heads["choice"]), examples)}
    n = examples.n_actions
    outputs = linear(h, torch.cat([heads["choice"], heads["bold"]], dim=-2))
    return {
        **parts,
        "choice": choice_loss(outputs[..., :n], examples),
        "bold": bold_loss(outputs[..., n:], heads["bold_noise"], examples),
    }


def _parts(who: Tensor, examples: Examples, units: int) -> list[slice]:
    """Who goes through the network together: states of `PART_BYTES` on a CPU."""
    n_people = len(who)
    if who.is_cuda:
        return [slice(0, n_people)]
    own = examples.n_steps * examples.n_segments * units * who.element_size()
    n = max(2, PART_BYTES // own)
    return [slice(begin, min(begin + n, n_people)) for begin in range(0, n_people, n)]


def _side_by_side(call: Callable[[slice], Any], parts: list[slice]) -> Iterator[Any]:
    """Results for all parts in order, as many at a time as torch has threads.

    Each is computed by one thread from beginning to end: threads that share one small product
    wait for each other at every step, and on a busy machine that wait is most of the time.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1 or len(parts) == 1:
        yield from map(call, parts)
        return
    torch.set_num_threads(1)
    try:
        # the number of threads is each thread's own
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(call, parts)
    finally:
        torch.set_num_threads(threads)


def _inputs(examples: Examples, like: Tensor) -> Tensor:
    """Inputs as the recurrence takes them, (step, person, segment, channel), people together."""
    import torch

    inputs = np.ascontiguousarray(examples.inputs.swapaxes(1, 2))
    return torch.from_numpy(inputs).to(like).transpose(0, 1)
