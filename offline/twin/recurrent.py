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

CACHE_BYTES = 768 * 1024
MIN_TOGETHER = 2
"""People, however large their weights: fewer make the products too small."""


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
            for people in _parts(h):
                b_part, w_part = b_columns[people], w_columns[people]
                # all steps are taken apart at once: an index costs as much as a small product
                last = None
                for seen, now in zip(x[:, people].unbind(), h[:, people].unbind(), strict=True):
                    torch.bmm(seen, b_part, out=now)
                    if last is not None:
                        torch.baddbmm(now, last, w_part, out=now)
                    last = now.tanh_()
            ctx.save_for_backward(x, w, h)
            return h

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
            x, w, h = ctx.saved_tensors
            grad_b = x.new_empty((*w.shape[:2], x.shape[-1]))
            grad_w = torch.empty_like(w)
            for people in _parts(h):
                h_part, w_part = h[:, people], w[people]
                delta = torch.empty_like(h_part)
                steps = [part.unbind()[::-1] for part in (grad[:, people], h_part, delta)]
                later = None
                for slope, state, now in zip(*steps, strict=True):
                    if later is None:
                        tanh_backward(slope, state, grad_input=now)
                    else:
                        torch.baddbmm(slope, later, w_part, out=now)
                        tanh_backward(now, state, grad_input=now)
                    later = now
                # one product a person over all steps and segments
                rows, n_segments = _by_person(delta).mT, x.shape[2]
                grad_b[people] = rows @ _by_person(x[:, people])
                before = _by_person(h_part)[:, :-n_segments]
                grad_w[people] = rows[:, :, n_segments:] @ before
            return None, grad_b, grad_w

    return Recurrence


def _parts(h: Tensor) -> list[slice]:
    """People who go through all steps together.

    What a step touches, their weights and two states, is to stay in the processor's cache from
    one step to the next; a GPU takes everybody at once.
    """
    _, n_people, n_segments, n_units = h.shape
    if h.is_cuda:
        return [slice(0, n_people)]
    own = (n_units * n_units + 3 * n_segments * n_units) * h.element_size()
    n = max(MIN_TOGETHER, CACHE_BYTES // own)
    return [slice(begin, min(begin + n, n_people)) for begin in range(0, n_people, n)]


def _by_person(values: Tensor) -> Tensor:
    """Steps and segments of each person one after another, (person, step x segment, column)."""
    return values.transpose(0, 1).reshape(values.shape[1], -1, values.shape[-1])
