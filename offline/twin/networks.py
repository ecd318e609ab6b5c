"""Networks of an atlas: communities of the training people's mean connectome.

What connectomes do, they do by networks: edges between the same two networks go together. Which
ROIs these are is asked of the training people, so that any atlas will do: communities of greatest
modularity of the mean connectome, weights below 0 taken as 0 (Blondel et al. 2008,
doi:10.1088/1742-5468/2008/10/P10008). A resolution of 1.3 gives eight networks in resting people
(MIST-122, 111 people of three sites) and those drawn in simulated ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.atlas import rois_of_edges
from offline.errors import TwinError
from rtloop.connectivity import edge_pairs

__all__ = ["blocks_of", "networks_of"]

RESOLUTIONS = (1.3, 1.15, 1.0)
"""Finest first; a coarser one only where there would be too many networks."""

N_MOST = 10
"""Networks; what is left then is one. Pairs of blocks, all of which a map looks at, grow with the
fourth power."""

Float64 = NDArray[np.float64]
Ints = NDArray[np.int64]


def networks_of(mean: Float64) -> Ints:
    """Network of each ROI, from the largest down, shape (n_rois,).

    Parameters
    ----------
    mean : ndarray of float64, shape (n_edges,)
        Mean over people, Fisher z.

    Raises
    ------
    TwinError
        If no number of ROIs has so many edges.
    """
    import networkx  # type: ignore[import-untyped]

    n_rois = rois_of_edges(len(mean))
    if n_rois is None:
        raise TwinError(f"expected the edges of whole connectomes, found {len(mean)} edges")
    weights = np.zeros((n_rois, n_rois))
    weights[tuple(edge_pairs(n_rois).T)] = np.maximum(mean, 0.0)
    graph = networkx.from_numpy_array(weights + weights.T)
    for resolution in RESOLUTIONS:
        found = networkx.community.louvain_communities(graph, resolution=resolution, seed=0)
        if len(found) <= N_MOST:
            break
    networks = np.empty(n_rois, np.int64)
    for place, rois in enumerate(sorted(found, key=lambda rois: (-len(rois), min(rois)))):
        networks[list(rois)] = min(place, N_MOST - 1)
    return networks


def blocks_of(networks: Ints) -> Ints:
    """Block of each edge, shape (n_edges,): edges of the same two networks, or of one, numbered
    from 0 without a gap."""
    ends = np.sort(networks[edge_pairs(len(networks))], axis=1)
    pairs = ends[:, 0] * (networks.max() + 1) + ends[:, 1]
    return np.asarray(np.unique(pairs, return_inverse=True)[1], np.int64)
