"""Simulated people for the decoder's benchmark: FC of simulated ROI series, known true edges.

Simulated: 713 people, 149 of them patients, at four sites, as many as in the study whose recipe
is run. A person's ROI series mix a dozen networks in a way that is partly everyone's and partly
their own; FC is their correlation over 240 volumes, so edges that share an ROI or a network are
correlated as real ones are. Patients then differ in chosen edges by a known number of SD.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SimulatedPeople", "simulate"]

N_CONTROLS, N_PATIENTS = 564, 149
SITES = (0.4, 0.3, 0.2, 0.1)
"""Share of people at each site, the same for both groups."""

N_NETWORKS = 12
N_VOLUMES = 240
SITE_SD = 0.04
"""Of a site's additive bias of an edge, Fisher z."""


@dataclass(frozen=True)
class SimulatedPeople:
    """Edges (n_people, n_edges) in Fisher z, group (1 patient), site, and the edges that differ."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    sites: NDArray[np.str_]
    true_edges: NDArray[np.int64]


def simulate(
    n_rois: int, n_true: int = 60, effect_sd: float = 0.3, seed: int = 0
) -> SimulatedPeople:
    """Draw people.

    Parameters
    ----------
    n_rois : int
    n_true : int
        Edges in which patients differ.
    effect_sd : float
        By how many SD, with random signs.
    seed : int
    """
    rng = np.random.default_rng(seed)
    n_people = N_CONTROLS + N_PATIENTS
    upper = np.triu_indices(n_rois, 1)
    # of mean above 0: most correlations at rest are positive
    common = (0.5 + rng.standard_normal((N_NETWORKS, n_rois))).astype(np.float32)
    X = np.empty((n_people, len(upper[0])), np.float32)
    for person in range(n_people):
        own = rng.standard_normal(common.shape, dtype=np.float32)
        courses = rng.standard_normal((N_VOLUMES, N_NETWORKS), dtype=np.float32)
        series = courses @ (common + 0.5 * own) / np.float32(np.sqrt(N_NETWORKS))
        series += 1.2 * rng.standard_normal(series.shape, dtype=np.float32)
        X[person] = np.arctanh(np.corrcoef(series.T, dtype=np.float32)[upper])
    y = np.zeros(n_people, np.int64)
    y[rng.choice(n_people, N_PATIENTS, replace=False)] = 1
    site = rng.choice(len(SITES), n_people, p=SITES)
    X += (SITE_SD * rng.standard_normal((len(SITES), X.shape[1])))[site].astype(np.float32)
    true_edges = np.sort(rng.choice(X.shape[1], n_true, replace=False))
    shift = effect_sd * X[:, true_edges].std(axis=0) * rng.choice([-1.0, 1.0], n_true)
    X[np.ix_(y == 1, true_edges)] += shift.astype(np.float32)
    return SimulatedPeople(X, y, np.array([f"site{k}" for k in site]), true_edges)
