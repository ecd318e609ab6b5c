"""Adam on a dict of tensors, and on rows of a table, with a state that files can hold.

Kingma & Ba 2015 (arXiv:1412.6980). Gradients longer than `CLIP` are shortened. Everything an
optimiser knows is in `moments` and `step`, so that training resumed from a file goes on with the
same bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from offline.twin.model import Parameters

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Adam", "falling_rate"]

BETA_1, BETA_2, EPSILON = 0.9, 0.99, 1e-8
"""0.99 and not 0.999: a few hundred steps are all there are."""

CLIP = 1.0
ORDERS = ("first", "second")
BLOCK = 2**17
"""Numbers: half a megabyte of each of the four arrays."""


def falling_rate(rate: float, epoch: int, epochs: int) -> float:
    """From `rate` at epoch 0 to a tenth of it at the last, along half a cosine."""
    place = epoch / max(epochs - 1, 1)
    return rate * (0.55 + 0.45 * math.cos(math.pi * place))


class Adam:
    """Moments of parameters and of a table of codes, one row a person.

    Attributes
    ----------
    moments : dict of Tensor
        `first.NAME` and `second.NAME` of each parameter.
    steps : dict of int
        How often each was moved.
    """

    def __init__(self, parameters: Parameters) -> None:
        import torch

        self.moments = {
            f"{order}.{name}": torch.zeros_like(values)
            for name, values in parameters.items()
            for order in ORDERS
        }
        self.steps = dict.fromkeys(parameters, 0)

    def step(self, parameters: Parameters, gradients: dict[str, Tensor], rate: float) -> None:
        """Move all parameters at once, in place."""
        import torch

        lengths = [torch.linalg.vector_norm(gradient).double() for gradient in gradients.values()]
        length = float(torch.stack(lengths).norm())
        scale = min(1.0, CLIP / (length + 1e-12))
        with torch.no_grad():
            for name, gradient in gradients.items():
                self.steps[name] += 1
                self._move(name, parameters[name], gradient, scale, rate)

    def step_rows(
        self, name: str, table: Tensor, rows: Tensor, gradient: Tensor, rate: float, epoch: int
    ) -> None:
        """Move some rows of a table; each row moves once an epoch, the first being 1."""
        import torch

        self.steps[name] = epoch
        parts = {f"{order}.{name}": self.moments[f"{order}.{name}"] for order in ORDERS}
        own = {key: values[rows] for key, values in parts.items()}
        moved = table[rows]
        with torch.no_grad():
            _move(moved, gradient, *own.values(), 1.0, rate, epoch)  # type: ignore[arg-type, call-arg]  # two, as ORDERS are
            for key, values in parts.items():
                values[rows] = own[key]
            table[rows] = moved

    def _move(self, name: str, values: Tensor, gradient: Tensor, scale: float, rate: float) -> None:
        first, second = (self.moments[f"{order}.{name}"] for order in ORDERS)
        parts = (values, gradient.contiguous(), first, second)
        # a block at a time, so that all passes over it find it in the cache
        blocks = zip(*(part.view(-1).split(BLOCK) for part in parts), strict=True)
        for block in blocks:
            _move(*block, scale, rate, self.steps[name])  # type: ignore[call-arg]  # four, as parts are


def _move(
    values: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    scale: float,
    rate: float,
    step: int,
) -> None:
    """One step of Adam, in place, along `scale` times the gradient."""
    first.mul_(BETA_1).add_(gradient, alpha=(1.0 - BETA_1) * scale)
    second.mul_(BETA_2).addcmul_(gradient, gradient, value=(1.0 - BETA_2) * scale**2)
    root = (second / (1.0 - BETA_2**step)).sqrt_().add_(EPSILON)
    values.addcdiv_(first, root, value=-rate / (1.0 - BETA_1**step))
