"""Networks of a mean connectome made of cliques: the finest that are few enough, or ten."""

from __future__ import annotations

import numpy as np
import pytest

from offline.errors import TwinError
from offline.twin.networks import N_MOST, blocks_of, networks_of
from rtloop.connectivity import edge_pairs


def cliques(sizes: list[int], of_pair: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Edges 1 within a clique, `of_pair` between its two of a pair, else below 0; and cliques."""
    clique = np.repeat(np.arange(len(sizes)), sizes)
    a, b = clique[edge_pairs(len(clique))].T
    return np.where(a == b, 1.0, np.where(a // 2 == b // 2, of_pair, -0.5)), clique


def test_networks_are_numbered_from_the_largest_down():
    mean, clique = cliques([3, 5, 4])
    assert np.array_equal(networks_of(mean), np.array([2, 0, 1])[clique])


def test_what_is_left_after_the_largest_is_one_network():
    """Thirteen cliques without an edge between them: no resolution makes them fewer."""
    sizes = [5] * (N_MOST - 1) + [4, 3, 3, 2]
    mean, clique = cliques(sizes)
    assert np.array_equal(networks_of(mean), np.minimum(clique, N_MOST - 1))


@pytest.mark.parametrize(
    ("n_pairs", "of_pair", "in_pairs"),
    [
        (6, 0.085, True),  # apart at 1.3 alone: twelve are too many
        (6, 0.074, True),  # apart at 1.15 too
        (4, 0.135, False),  # eight are not, though pairs would be told at 1.15
    ],
)
def test_a_coarser_resolution_is_taken_only_where_networks_are_too_many(n_pairs, of_pair, in_pairs):
    mean, clique = cliques([4] * (2 * n_pairs), of_pair)
    expected = clique // 2 if in_pairs else clique
    assert np.array_equal(networks_of(mean), expected)


def test_blocks_are_pairs_of_networks_without_a_gap():
    networks = np.array([0, 2, 1, 0])
    names = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 2): 3}
    expected = [names[tuple(sorted(networks[pair]))] for pair in edge_pairs(4)]
    assert blocks_of(networks).tolist() == expected


def test_edges_of_no_number_of_rois_are_refused():
    with pytest.raises(TwinError, match="found 11 edges"):
        networks_of(np.zeros(11))
