"""What a network's states say: choices, response times, and BOLD of named regions.

- Choices: each action has a rate at every step, σ(weights · h), trained as published (binary
  cross-entropy against 1 at the step of the response). Summed over a trial's window the rates are
  the probability of each action, and what is missing to 1 that of a miss. Of a response whose
  choice the table does not tell, the rates are those of any action that it may have been.
- Response time: 80 ms steps are coarse, so a head of its own reads log RT, mean and log SD, from
  the states `READ_S` after the stimulus.
- BOLD: the activity of each region (weights · h) is put on the run's timeline, convolved with the
  canonical response, and read at the times of the volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.fft import next_fast_len

from offline.twin.examples import Examples
from offline.twin.hrf import LENGTH_S, canonical_hrf

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["READ_S", "Readings", "bold_loss", "choice_loss", "read", "rt_loss"]

READ_S = (0.16, 0.40, 0.64, 0.88)
"""Seconds after the onset at which the RT head looks."""

MIN_PROBABILITY = 1e-4


class Readings(NamedTuple):
    """Of every trial; shapes (n_people, n_segments, n_slots) and one more for probabilities."""

    log_mean: Tensor
    log_sd: Tensor
    probabilities: Tensor
    """(..., n_actions + 1), the last a miss."""


def read(h: Tensor, heads: dict[str, Tensor], examples: Examples) -> Readings:
    """Readings of all trials of all segments; where there is no trial they mean nothing.

    Parameters
    ----------
    h : Tensor, shape (n_steps, n_people, n_segments, n_units)
    heads : dict of Tensor
        `rt` (2, 4 n_units + 1); `choice` (n_actions, n_units + 1), or with people in front.
    examples : Examples
        Of the same people and segments.
    """
    import torch

    log_mean, log_sd = rt_of(h, heads["rt"], examples)
    rates = torch.sigmoid(linear(h, heads["choice"]))
    # a trial's rates are summed from a running sum over steps
    total = torch.cat([torch.zeros_like(rates[:1]), rates.cumsum(dim=0)])
    onset, end = (_long(np.maximum(steps, 0), h) for steps in (examples.onset, examples.end))
    person, segment = _grid(onset)
    summed = total[end, person, segment] - total[onset, person, segment]
    summed = summed.clamp_min(MIN_PROBABILITY)
    missed = (1.0 - summed.sum(-1, keepdim=True)).clamp_min(MIN_PROBABILITY)
    both = torch.cat([summed, missed], dim=-1)
    return Readings(log_mean, log_sd, both / both.sum(-1, keepdim=True))


def rt_of(h: Tensor, weights: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    """Mean and log SD of log RT of every trial, shape (n_people, n_segments, n_slots)."""
    import torch

    onset = _long(np.maximum(examples.onset, 0), h)
    person, segment = _grid(onset)
    after = torch.tensor([round(at / examples.step_s) for at in READ_S], device=h.device)
    step = (onset[..., None] + after).clamp_max(len(h) - 1)
    seen = h[step, person[..., None], segment[..., None]]  # one gradient for all states
    both = seen.flatten(start_dim=3) @ weights[:, :-1].mT + weights[:, -1]
    # bounds no data come near, so that a bad step early in training cannot run away
    return both[..., 0].clamp(-4.0, 4.0), both[..., 1].clamp(-4.0, 1.5)


def rt_loss(log_mean: Tensor, log_sd: Tensor, examples: Examples) -> Tensor:
    """Negative log likelihood of the log RT of each person's correct trials, (n_people,)."""
    import torch

    known = np.isfinite(examples.log_rt)
    y = torch.as_tensor(np.where(known, examples.log_rt, 0.0)).to(log_mean)
    z = (y - log_mean) * torch.exp(-log_sd)
    loss = 0.5 * z**2 + log_sd
    return torch.where(_mask(known, loss), loss, 0.0).sum(dim=(1, 2))


def choice_loss(logits: Tensor, examples: Examples) -> Tensor:
    """Binary cross-entropy of all steps but those of trials of unknown response, (n_people,).

    Where a response was made and its choice is not known, P(any of the possible actions).

    Parameters
    ----------
    logits : Tensor, shape (n_steps, n_people, n_segments, n_actions)
        Of the actions' rates.
    examples : Examples
        Of the same people and segments.
    """
    import torch

    target, counts = _action_steps(examples)
    wanted = torch.as_tensor(target).to(logits)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    loss = loss.sum(dim=-1) * torch.as_tensor(counts).to(loss)
    possible = examples.possible()
    made = possible.any(axis=-1)
    if made.any():
        person, segment, _ = np.nonzero(made)
        at = (examples.response_step[made], person, segment)
        # of no action: what the cross-entropy above has taken there for each of them
        none = torch.nn.functional.softplus(logits[at]) * torch.as_tensor(possible[made]).to(loss)
        none = none.sum(dim=-1)
        index = tuple(torch.as_tensor(part).to(loss.device) for part in at)
        change = -torch.log(-torch.expm1(-none)) - none
        loss = loss.index_put(index, change, accumulate=True)
    return loss.sum(dim=(0, 2))


def bold_loss(activity: Tensor, log_sd: Tensor, examples: Examples) -> Tensor:
    """Negative log likelihood of BOLD, white noise of each region's own SD, (n_people,).

    Parameters
    ----------
    activity : Tensor, shape (n_steps, n_people, n_segments, n_regions)
    log_sd : Tensor, shape (n_regions,)
        Of the noise.
    examples : Examples
        Of the same people and segments.
    """
    import torch

    known = np.isfinite(examples.bold)
    measured = torch.as_tensor(np.where(known, examples.bold, 0.0)).to(activity)
    predicted = bold_of(activity, examples)
    loss = 0.5 * ((measured - predicted) * torch.exp(-log_sd)) ** 2 + log_sd
    return torch.where(_mask(known, loss), loss, 0.0).sum(dim=(1, 2, 3))


def bold_of(activity: Tensor, examples: Examples) -> Tensor:
    """BOLD at the times of the volumes, (n_people, n_segments, n_volumes, n_regions).

    Parameters
    ----------
    activity : Tensor, shape (n_steps, n_people, n_segments, n_regions)
        Of all segments of a run: a response lasts longer than a segment.
    examples : Examples
        Of the same people and segments.
    """
    import torch

    step_s, n_steps = examples.step_s, len(activity)
    activity = activity.permute(1, 2, 0, 3)  # (person, segment, step, region)
    n_people, _, _, n_regions = activity.shape
    begin, length = _timeline(examples)
    at = begin[:, :, None] + np.arange(n_steps)
    # where a segment's end overlaps the next one's beginning, the next one counts
    following = np.concatenate([begin[:, 1:], np.full((n_people, 1), length)], axis=1)
    counts = (examples.run >= 0)[:, :, None] & (at < following[:, :, None]) & (at < length)
    person = np.broadcast_to(np.arange(n_people)[:, None, None], at.shape)
    line = activity.new_zeros(n_people, length, n_regions)
    index = (torch.as_tensor(person[counts]), torch.as_tensor(at[counts]))
    index = tuple(part.to(activity.device) for part in index)  # type: ignore[assignment]  # two, as before
    line = line.index_put(index, activity[torch.as_tensor(counts).to(activity.device)])
    kernel = canonical_hrf(np.arange(0.0, LENGTH_S, step_s)) * step_s
    # room for the response to the last step, so that nothing wraps around
    n = next_fast_len(length + len(kernel), real=True)
    taps = torch.fft.rfft(torch.as_tensor(kernel).to(activity), n=n)
    response = torch.fft.irfft(torch.fft.rfft(line, n=n, dim=1) * taps[:, None], n=n, dim=1)
    volume = np.round(np.nan_to_num(examples.bold_s) / step_s).astype(np.int64)
    volume = np.clip(begin[:, :, None] + volume, 0, length - 1)
    rows = torch.arange(n_people, device=activity.device)[:, None, None]
    read: Tensor = response[rows, _long(volume, activity)]
    return read


def linear(h: Tensor, weights: Tensor) -> Tensor:
    """Outputs over time of weights (n_outputs, n_units + 1), or of such of each person."""
    import torch

    # one product of all steps, or one a person, where the states lie: broadcasting would make many
    n_steps, n_people, n_segments, n_units = h.shape
    rows = h.transpose(0, 1).reshape(n_people, -1, n_units)
    if weights.dim() == 2:
        out = torch.addmm(weights[:, -1], rows.reshape(-1, n_units), weights[:, :-1].mT)
    else:
        out = torch.baddbmm(weights[:, None, :, -1], rows, weights[:, :, :-1].mT)
    return out.view(n_people, n_steps, n_segments, -1).transpose(0, 1)


def _action_steps(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Targets (step, person, segment, action), and which steps count (step, person, segment)."""
    n_people, n_segments, n_steps, _ = examples.inputs.shape
    target = np.zeros((n_steps, n_people, n_segments, examples.n_actions), np.float32)
    person, segment, slot = np.nonzero((examples.response_step >= 0) & (examples.choice >= 0))
    step = examples.response_step[person, segment, slot]
    target[step, person, segment, examples.choice[person, segment, slot]] = 1.0
    counts = np.ones((n_steps, n_people, n_segments), np.float32)
    counts[:, examples.run < 0] = 0.0
    unknown = (examples.onset >= 0) & (examples.choice < 0) & (examples.response_step < 0)
    for person, segment, slot in zip(*np.nonzero(unknown), strict=True):
        window = slice(examples.onset[person, segment, slot], examples.end[person, segment, slot])
        counts[window, person, segment] = 0.0
    return target, counts


def _timeline(examples: Examples) -> tuple[np.ndarray, int]:
    """First step of each segment on a line of all of a person's runs, a gap between them."""
    gap = int(np.ceil(LENGTH_S / examples.step_s))
    begin = np.zeros(examples.run.shape, np.int64)
    offset = np.zeros(len(begin), np.int64)
    for k in range(begin.shape[1]):  # type: ignore[misc]  # it has the two dimensions of `run`
        if k:
            new = examples.run[:, k] != examples.run[:, k - 1]
            last = begin[:, k - 1] + examples.n_steps + gap
            offset = np.where(new, last - examples.start_step[:, k], offset)
        else:
            offset = -examples.start_step[:, 0]
        padded = examples.run[:, k] < 0
        begin[:, k] = np.where(padded, begin[:, k - 1], examples.start_step[:, k] + offset)
    return begin, int(begin.max()) + examples.n_steps


def _grid(onset: Tensor) -> tuple[Tensor, Tensor]:
    """Person and segment of every slot, to be broadcast against (person, segment, slot)."""
    import torch

    n_people, n_segments, _ = onset.shape
    person = torch.arange(n_people, device=onset.device)[:, None, None]
    return person, torch.arange(n_segments, device=onset.device)[None, :, None]


def _long(values: np.ndarray, like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(values).to(like.device)


def _mask(known: np.ndarray, like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(known).to(like.device)
