"""The recurrence of many people at once, each with weights of their own, and its gradient.

    h[t] = tanh(W_p h[t-1] + B_p x[t]),   h[-1] = 0

for person p; a bias is a channel of x that is always 1. Arrays over time are
(step, person, segment, unit). Weights that are an offset of low rank to shared ones are given as
whole matrices too: forming them costs less than two thin products at every step.

The gradient is written by hand. Backpropagation through time needs, of step t, no more than
δ[t] = (∂h[t] + W_p' δ[t+1]) (1 - h[t]²); what the weights get is one batched product over all
steps at the end, instead of one per step. On a processor the steps are compiled (`steps`), on a
GPU they are torch's. Its contract: it equals automatic differentiation of the formula above to
1e-8 in float64, and the same input gives the same bits on one machine.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from offline.twin import steps

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["recur"]


def recur(x: Tensor, input_weights: Tensor, recurrent_weights: Tensor) -> Tensor:
    """States over time of people with weight matrices of their own.

    Parameters
    ----------
    x : Tensor, shape (n_steps, n_people, n_segments, n_channels)
        No gradient is computed for it.
    input_weights : Tensor, shape (n_people, n_units, n_channels)
        B.
    recurrent_weights : Tensor, shape (n_people, n_units, n_units)
        W.

    Returns
    -------
    Tensor, shape (n_steps, n_people, n_segments, n_units)
    """
    h: Tensor = _recurrence().apply(x, input_weights, recurrent_weights)
    return h


# The class is made when first used: importing this module must not import torch.


@cache
def _recurrence() -> Any:
    import torch

    class Recurrence(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, b: Tensor, w: Tensor) -> Tensor:
            h = _states(x, b.contiguous(), w.contiguous())
            ctx.save_for_backward(x, w, h)
            return h

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
            x, w, h = ctx.saved_tensors
            delta = _deltas(grad, h, w.contiguous())
            # one product a person over all steps and segments
            rows, n_segments = _by_person(delta).mT, x.shape[2]
            grad_b = rows @ _by_person(x)
            grad_w = rows[:, :, n_segments:] @ _by_person(h)[:, :-n_segments]
            return None, grad_b, grad_w

    return Recurrence


def _states(x: Tensor, b: Tensor, w: Tensor) -> Tensor:
    import torch

    if _compiled(x):
        # people lie together, so that what follows for each of them needs no copy
        found = steps.forward(x.transpose(0, 1).numpy(), b.numpy(), w.numpy())
        return torch.from_numpy(found).transpose(0, 1)
    h = x.new_empty((*x.shape[:3], w.shape[1]))
    last = None
    for seen, now in zip(x.unbind(), h.unbind(), strict=True):
        torch.bmm(seen, b.mT, out=now)
        if last is not None:
            torch.baddbmm(now, last, w.mT, out=now)
        last = now.tanh_()
    return h


def _deltas(grad: Tensor, h: Tensor, w: Tensor) -> Tensor:
    import torch

    if _compiled(h):
        found = steps.backward(grad.transpose(0, 1).numpy(), h.transpose(0, 1).numpy(), w.numpy())
        return torch.from_numpy(found).transpose(0, 1)
    tanh_backward = torch.ops.aten.tanh_backward.grad_input
    delta, later = torch.empty_like(h), None
    for slope, state, now in zip(*(part.unbind()[::-1] for part in (grad, h, delta)), strict=True):
        if later is not None:
            slope = torch.baddbmm(slope, later, w, out=now)
        later = tanh_backward(slope, state, grad_input=now)
    return delta


def _compiled(values: Tensor) -> bool:
    """Whether the steps are compiled ones: torch's are for memory that is not the processor's."""
    return values.device.type == "cpu"


def _by_person(values: Tensor) -> Tensor:
    """Steps and segments of each person one after another, (person, step x segment, column)."""
    return values.transpose(0, 1).reshape(values.shape[1], -1, values.shape[-1])
