"""Simulated resting connectomes whose edges vary together as those of real people do.

Each person has a factor model of ROI signals, x = Λ_p s + .75 e with 16 latent signals s: one
global, one of each network, and eight across them. Λ_p is the group's, plus 30 ways in which
people differ (their SD falls as k^-.4), plus what is this person's own, plus the scanner's; the
global loading differs most. The edges are Fisher z of the correlations of 240 independent
samples drawn from it, so every matrix is a correlation matrix and noise is that of a real scan.

The magnitudes were set against real rest (111 people of three scanners, 122 ROIs, 10 minutes;
Spisak et al. 2020, doi:10.1038/s41467-019-13785-z) and against nothing else. Found there /
generated here (111 people, 100 samples): edge SD .22 / .22; share of variance between people in
the first 1, 2, 3, 5, 10, 20 components, each person's mean edge removed: .08 .14 .19 .25 .37 .52 /
.08 .14 .19 .26 .40 .56. 240 samples stand for 26 minutes, as in the data behind the published
twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.atlas import Atlas
from rtloop.connectivity import edge_pairs, fisher_z

__all__ = ["NETWORKS", "Connectomes", "draw_connectomes"]

NETWORKS = {
    "Vis": 17,
    "SomMot": 14,
    "DorsAttn": 15,
    "SalVentAttn": 12,
    "Limbic": 5,
    "Cont": 13,
    "Default": 24,
}
"""ROIs of each network among 100 (Schaefer et al. 2018, doi:10.1093/cercor/bhx179)."""

N_SAMPLES = 240
N_ACROSS = 8
N_FACTORS = 30
FACTOR_SD, FACTOR_DECAY = 0.10, 0.4
NETWORK_SHARE = 0.7
"""Of the variance of a factor's loadings: common to all ROIs of a network."""

OWN_SD, SITE_SD = 0.09, 0.03
GLOBAL, GLOBAL_SD, GLOBAL_PERSON_SD = 0.65, 0.10, 0.28
"""Mean loading on the global signal, its SD over ROIs, and over people."""

WITHIN, WITHIN_SD, ACROSS_SD, UNIQUE_SD = 0.45, 0.12, 0.25, 0.75

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Connectomes:
    """People's loadings, from which scans are drawn.

    Attributes
    ----------
    atlas : Atlas
    network : ndarray of int64, shape (n_rois,)
        Place of each ROI's network in `NETWORKS`.
    loadings : ndarray of float64, shape (n_people, n_rois, n_latent)
    site : ndarray of int64, shape (n_people,)
    """

    atlas: Atlas
    network: NDArray[np.int64]
    loadings: Float64
    site: NDArray[np.int64]

    def scan(self, rng: np.random.Generator, n_samples: int = N_SAMPLES) -> Float64:
        """One scan of everybody: edges, Fisher z, shape (n_people, n_edges)."""
        n_people, n_rois, n_latent = self.loadings.shape
        a, b = edge_pairs(n_rois).T
        edges = np.empty((n_people, len(a)))
        for person in range(n_people):
            signals = rng.standard_normal((n_samples, n_latent)) @ self.loadings[person].T
            signals += UNIQUE_SD * rng.standard_normal((n_samples, n_rois))
            edges[person] = fisher_z(np.corrcoef(signals.T)[a, b])
        return edges


def draw_connectomes(
    n_people: int, rng: np.random.Generator, n_rois: int = 100, n_sites: int = 2
) -> Connectomes:
    """Draw a population's connectomes and people from it.

    Parameters
    ----------
    n_people : int
    rng : numpy.random.Generator
    n_rois : int
        Dealt to networks in the proportions of `NETWORKS`; at least 14.
    n_sites : int
        People are dealt to sites at random.
    """
    network = _networks(n_rois)
    n_latent = 1 + len(NETWORKS) + N_ACROSS
    group = ACROSS_SD * rng.standard_normal((n_rois, n_latent))
    group[:, 0] = GLOBAL + GLOBAL_SD * rng.standard_normal(n_rois)
    group[np.arange(n_rois), 1 + network] += WITHIN + WITHIN_SD * rng.standard_normal(n_rois)
    of_network = rng.standard_normal((N_FACTORS, len(NETWORKS), n_latent))[:, network]
    of_roi = rng.standard_normal((N_FACTORS, n_rois, n_latent))
    factors = np.sqrt(NETWORK_SHARE) * of_network + np.sqrt(1.0 - NETWORK_SHARE) * of_roi
    sd = FACTOR_SD * np.arange(1, N_FACTORS + 1) ** -FACTOR_DECAY
    loadings = group + np.tensordot(sd * rng.standard_normal((n_people, N_FACTORS)), factors, 1)
    loadings += OWN_SD * rng.standard_normal(loadings.shape)
    loadings[:, :, 0] *= 1.0 + GLOBAL_PERSON_SD / GLOBAL * rng.standard_normal((n_people, 1))
    of_site = SITE_SD * rng.standard_normal((n_sites, n_rois, n_latent))
    site = rng.integers(0, n_sites, n_people)
    names = list(NETWORKS)
    labels = [f"{names[k]}_{np.sum(network[:i] == k) + 1}" for i, k in enumerate(network)]
    return Connectomes(
        Atlas(f"synthetic {n_rois}", tuple(labels)),
        network,
        loadings + (of_site - of_site.mean(axis=0))[site],
        site,
    )


def _networks(n_rois: int) -> NDArray[np.int64]:
    """Network of each ROI, in order; every network has its share, rounded."""
    ends = np.round(np.cumsum(list(NETWORKS.values())) * n_rois / sum(NETWORKS.values()))
    network: NDArray[np.int64] = np.searchsorted(ends, np.arange(n_rois), side="right")
    if n_rois < 2 * len(NETWORKS):
        raise ValueError(f"expected at least {2 * len(NETWORKS)} ROIs, found {n_rois}")
    return network
