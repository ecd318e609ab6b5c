"""The recurrence of many people at once, each with weights of their own, and its gradient.

    h[t] = tanh(W_p h[t-1] + B_p x[t]),   h[-1] = 0

for person p; a bias is a channel of x that is always 1. Arrays over time are
(step, person, segment, unit), so that a step is one batched product of matrices that lie together.
Weights that are an offset of low rank to shared ones are given as whole matrices too: forming
them costs less than two thin products at every step (at 32 and 128 units; at 400 it is even).

The gradient is written by hand. Backpropagation through time needs, of step t, no more than
δ[t] = (∂h[t] + W_p' δ[t+1]) (1 - h[t]²); what the weights get is one batched product over all
steps at the end, instead of one per step. Its contract: it equals automatic differentiation of
the formula above to 1e-8 in float64, and the same input gives the same bits on one machine at
one number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

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

    tanh_backward = torch.ops.aten.tanh_backward.grad_input

    class Recurrence(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, b: Tensor, w: Tensor) -> Tensor:
            b_columns, w_columns = b.mT.contiguous(), w.mT.contiguous()
            h = x.new_empty((*x.shape[:3], w.shape[1]))
            for t in range(len(x)):
                torch.bmm(x[t], b_columns, out=h[t])
                if t:
                    torch.baddbmm(h[t], h[t - 1], w_columns, out=h[t])
                h[t].tanh_()
            ctx.save_for_backward(x, w, h)
            return h

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
            x, w, h = ctx.saved_tensors
            delta = torch.empty_like(h)
            tanh_backward(grad[-1], h[-1], grad_input=delta[-1])
            for t in range(len(h) - 2, -1, -1):
                torch.baddbmm(grad[t], delta[t + 1], w, out=delta[t])
                tanh_backward(delta[t], h[t], grad_input=delta[t])
            return None, _products(delta, x), _products(delta[1:], h[:-1])

    return Recurrence


def _products(delta: Tensor, before: Tensor) -> Tensor:
    """Σ over steps and segments of δ before', (person, unit, column): one batched product."""
    n_people = delta.shape[1]
    rows = delta.transpose(0, 1).reshape(n_people, -1, delta.shape[-1])
    columns = before.transpose(0, 1).reshape(n_people, -1, before.shape[-1])
    return rows.mT @ columns
