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
            for order in ("first", "second")
        }
        self.steps = dict.fromkeys(parameters, 0)

    def step(self, parameters: Parameters, gradients: dict[str, Tensor], rate: float) -> None:
        """Move all parameters at once, in place."""
        import torch

        length = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients.values()))
        scale = min(1.0, CLIP / (length + 1e-12))
        with torch.no_grad():
            for name, gradient in gradients.items():
                self.steps[name] += 1
                self._move(name, parameters[name], gradient * scale, rate, None)

    def step_rows(
        self, name: str, table: Tensor, rows: Tensor, gradient: Tensor, rate: float, epoch: int
    ) -> None:
        """Move some rows of a table; each row moves once an epoch, the first being 1."""
        import torch

        self.steps[name] = epoch
        with torch.no_grad():
            self._move(name, table, gradient, rate, rows)

    def _move(
        self, name: str, values: Tensor, gradient: Tensor, rate: float, rows: Tensor | None
    ) -> None:
        first, second = self.moments[f"first.{name}"], self.moments[f"second.{name}"]
        taken = slice(None) if rows is None else rows
        step = self.steps[name]
        first[taken] = BETA_1 * first[taken] + (1.0 - BETA_1) * gradient
        second[taken] = BETA_2 * second[taken] + (1.0 - BETA_2) * gradient**2
        mean = first[taken] / (1.0 - BETA_1**step)
        root = (second[taken] / (1.0 - BETA_2**step)).sqrt() + EPSILON
        values[taken] = values[taken] - rate * mean / root
