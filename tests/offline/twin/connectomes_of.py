"""Small connectomes whose edges go together, and their basis."""

from __future__ import annotations

import numpy as np

from offline.twin.basis import Basis, fit_basis

__all__ = ["drawn"]


def drawn(
    seed: int, n_people: int = 40, n_edges: int = 300
) -> tuple[np.random.Generator, np.ndarray, Basis]:
    """Edges of twelve factors and as much of their own; the generator goes on from there."""
    rng = np.random.default_rng(seed)
    edges = rng.standard_normal((n_people, 12)) @ rng.standard_normal((12, n_edges))
    edges += rng.standard_normal((n_people, n_edges))
    return rng, edges, fit_basis(edges)
