"""A person's codes after some trials: zero-shot is the prior, k-shot what k trials make of it.

A connectome gives the prior N(codes of the map, spread); trials move it by Fisher scoring of their
likelihood (response times and choices), a Gauss-Newton step whose derivatives are differences of
the network's readings, `rank` + 1 runs side by side. How far k trials move a person is thus not a
setting: it follows from how well connectomes told the codes of people left out in training, and
from how noisy trials are. Without trials nothing moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offline.twin.examples import Examples
from offline.twin.heads import Readings, read
from offline.twin.model import Parameters, Settings, Shape, states

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["infer_codes", "readings"]

STEP = 0.05
"""Of a code, for the difference that stands for a derivative."""

PEOPLE_AT_ONCE = 24
MOST_SD = 2.0
"""A code moves no farther in one step than this many of its prior SD."""

Float64 = NDArray[np.float64]


def infer_codes(
    parameters: Parameters,
    shape: Shape,
    settings: Settings,
    examples: Examples,
    mean: Float64,
    covariance: Float64,
    n_steps: int = 3,
) -> tuple[Float64, Float64]:
    """Codes that people's trials and their prior make most probable.

    Parameters
    ----------
    parameters : dict of Tensor
        Of the network, low-rank form.
    shape : Shape
    settings : Settings
    examples : Examples
        The trials; those of unknown response say nothing.
    mean : ndarray of float64, shape (n_people, rank)
        Prior.
    covariance : ndarray of float64, shape (rank, rank)
        Prior, everybody's.
    n_steps : int
        Of Fisher scoring.

    Returns
    -------
    tuple of ndarray of float64
        Codes (n_people, rank) and their posterior covariances (n_people, rank, rank).
    """
    codes = mean.copy()
    rank = codes.shape[1]
    spread = np.broadcast_to(covariance, (len(codes), rank, rank)).copy()
    precision = np.linalg.inv(covariance + 1e-9 * np.trace(covariance) / rank * np.eye(rank))
    most = MOST_SD * np.sqrt(np.diag(covariance))
    for begin in range(0, len(codes), PEOPLE_AT_ONCE):
        rows = np.arange(begin, min(begin + PEOPLE_AT_ONCE, len(codes)))
        own = examples.of(rows)
        for _ in range(n_steps):
            gradient, information = _score(parameters, shape, settings, own, codes[rows])
            gradient = gradient - (codes[rows] - mean[rows]) @ precision
            spread[rows] = np.linalg.inv(information + precision)
            step = np.einsum("pij,pj->pi", spread[rows], gradient)
            codes[rows] += np.clip(step, -most, most)
    return codes, spread


def readings(
    parameters: Parameters, shape: Shape, settings: Settings, examples: Examples, who: Float64
) -> tuple[Float64, Float64, Float64]:
    """Mean and SD of log RT and probabilities of the actions of every trial, as arrays.

    Parameters
    ----------
    parameters : dict of Tensor
    shape : Shape
    settings : Settings
    examples : Examples
        Their responses are not looked at.
    who : ndarray of float64, shape (n_people, rank) or (n_people, n_scores)

    Returns
    -------
    tuple of ndarray of float64
        (n_people, n_segments, n_slots) twice, and with actions and a miss at the end.
    """
    import torch

    parts: list[Readings] = []
    with torch.no_grad():
        for begin in range(0, len(who), 4 * PEOPLE_AT_ONCE):
            rows = np.arange(begin, min(begin + 4 * PEOPLE_AT_ONCE, len(who)))
            own = examples.of(rows)
            h, heads = states(parameters, shape, settings, own, _like(who[rows], parameters))
            parts.append(read(h, heads, own))
    mean, sd, probability = (
        torch.cat(list(column)).double().cpu().numpy() for column in zip(*parts, strict=True)
    )
    return mean, np.exp(sd), probability


def _score(
    parameters: Parameters, shape: Shape, settings: Settings, examples: Examples, codes: Float64
) -> tuple[Float64, Float64]:
    """Gradient (n_people, rank) and Fisher information (n_people, rank, rank) of the trials."""
    n_people, rank = codes.shape
    every = np.tile(np.arange(n_people), rank + 1)
    moved = np.tile(codes, (rank + 1, 1))
    for k in range(rank):
        moved[(k + 1) * n_people : (k + 2) * n_people, k] += STEP
    mean, sd, probability = readings(parameters, shape, settings, examples.of(every), moved)
    shape_of = (rank + 1, n_people, -1)
    mean, log_sd = mean.reshape(shape_of), np.log(sd).reshape(shape_of)
    probability = probability.reshape(*shape_of, probability.shape[-1])
    d_mean, d_log_sd, d_probability = (
        (values[1:] - values[:1]) / STEP for values in (mean, log_sd, probability)
    )
    known = np.isfinite(examples.log_rt).reshape(n_people, -1)
    y = np.where(known, examples.log_rt.reshape(n_people, -1), mean[0])
    weight = known / np.exp(2.0 * log_sd[0])
    z2 = (y - mean[0]) ** 2 * weight
    gradient = np.einsum("kpt,pt->pk", d_mean, weight * (y - mean[0]))
    gradient += np.einsum("kpt,pt->pk", d_log_sd, z2 - known)
    information = np.einsum("kpt,pt,lpt->pkl", d_mean, weight, d_mean)
    information += 2.0 * np.einsum("kpt,pt,lpt->pkl", d_log_sd, known.astype(float), d_log_sd)
    choice = examples.choice.reshape(n_people, -1)
    chosen = choice[..., None] == np.arange(probability.shape[-1])
    inverse = (choice >= 0)[..., None] / probability[0]
    gradient += np.einsum("kpta,pta->pk", d_probability, chosen * inverse)
    information += np.einsum("kpta,pta,lpta->pkl", d_probability, inverse, d_probability)
    # a response of unknown choice: any of the possible actions, against all else
    possible = examples.possible().reshape(n_people, -1, examples.n_actions)
    made = possible.any(axis=-1)
    p = np.where(made, np.sum(probability[0][..., :-1] * possible, axis=-1), 0.5)
    d_p = np.sum(d_probability[..., :-1] * possible, axis=-1)
    gradient += np.einsum("kpt,pt->pk", d_p, made / p)
    information += np.einsum("kpt,pt,lpt->pkl", d_p, made / (p * (1.0 - p)), d_p)
    return gradient, information


def _like(who: Float64, parameters: Parameters) -> Tensor:
    import torch

    return torch.as_tensor(who).to(parameters["rt"])
