"""Edited connectomes stay correlation matrices; what may not be edited is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.atlas import Atlas
from offline.errors import TwinError
from offline.twin.edit import PLAUSIBLE_SD, edit_connectomes, nearest_correlation

ATLAS = Atlas("eight", tuple("ABCDEFGH"))


def connectomes(seed: int, n_people: int = 3, n_samples: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((8, 8))
    a, b = ATLAS.edges().T
    rows = [
        np.arctanh(np.corrcoef((rng.standard_normal((n_samples, 8)) @ mixing).T)[a, b])
        for _ in range(n_people)
    ]
    return np.array(rows)


def matrix(z: np.ndarray) -> np.ndarray:
    a, b = ATLAS.edges().T
    out = np.eye(8)
    out[a, b] = out[b, a] = np.tanh(z)
    return out


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    edges=st.lists(st.integers(0, 27), min_size=1, max_size=3, unique=True),
    size=st.floats(-1.0, 1.0),
)
def test_an_edit_is_exact_and_leaves_a_correlation_matrix(seed, edges, size):
    z = connectomes(seed)
    sd = np.full(28, 0.3)
    found = edit_connectomes(z, ATLAS, edges, size * sd[edges], z.mean(axis=0), np.full(28, 0.3))
    kept = np.setdiff1d(np.arange(28), edges)
    for k, why in enumerate(found.refused):
        if why:
            assert np.array_equal(found.after[k], z[k])
            continue
        assert np.allclose(found.after[k, edges] - z[k, edges], size * 0.3, atol=1e-12)
        assert np.linalg.eigvalsh(matrix(found.after[k]))[0] > -1e-9
        moved = np.abs(found.after[k, kept] - z[k, kept]).max()
        assert found.others[k] == pytest.approx(moved, abs=1e-12)


def test_where_nothing_has_to_move_nothing_moves():
    z = connectomes(0, n_samples=200)
    sd = np.ones(28)
    found = edit_connectomes(z, ATLAS, [5], [0.01], z.mean(axis=0), sd)
    changed = found.after != z
    assert changed[:, 5].all()
    assert changed.sum() == 3
    assert not found.others.any()


def test_a_matrix_of_contradicting_edges_becomes_the_nearest_known_one():
    """Higham 2002, the example of section 4: the nearest to a matrix that is none."""
    given_matrix = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    found = nearest_correlation(given_matrix)
    expected = np.array([[1.0, 0.7607, 0.1573], [0.7607, 1.0, 0.7607], [0.1573, 0.7607, 1.0]])
    assert np.allclose(found, expected, atol=2e-4)
    assert np.linalg.eigvalsh(found)[0] >= 0.0


def test_edges_that_no_correlation_matrix_can_have_are_refused():
    fixed = np.array([[0, 1], [1, 2], [0, 2]])
    wrong = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    with pytest.raises(TwinError, match="expected edges that a correlation matrix can have"):
        nearest_correlation(wrong, fixed)


def test_a_mean_that_is_no_correlation_matrix_is_brought_to_one_before_it_is_edited():
    z = connectomes(1, n_people=1)
    z[0, :3] = [1.5, -1.5, 1.5]
    assert np.linalg.eigvalsh(matrix(z[0]))[0] < 0.0
    found = edit_connectomes(z, ATLAS, [10], [0.05], z.mean(axis=0), np.ones(28))
    assert found.refused == ("",)
    assert np.linalg.eigvalsh(matrix(found.before[0]))[0] > 0.0
    assert found.after[0, 10] - found.before[0, 10] == pytest.approx(0.05)


def test_leaving_what_is_plausible_is_refused_and_coming_back_is_not():
    z = np.zeros((2, 28))
    z[:, 4] = [0.25, -0.5]
    mean, sd = np.zeros(28), np.full(28, 0.1)
    found = edit_connectomes(z, ATLAS, [4], [0.1], mean, sd)
    assert found.refused == (f"A--F would leave what is plausible ({PLAUSIBLE_SD:g} SD)", "")


def test_what_is_plausible_is_asked_of_the_connectome_that_is_edited():
    z = connectomes(1, n_people=1)
    z[0, :3] = [1.5, -1.5, 1.5]
    sd = np.ones(28)
    whole = edit_connectomes(z, ATLAS, [0], [0.0], z.mean(axis=0), sd).before[0]
    assert whole[0] < 1.4
    # what was given lies as far beyond the range as what is edited lies within, and the reverse
    for mean, plausible in ((whole[0] + 0.05 - 2.5, True), (whole[0] + 0.05 - 2.6, False)):
        found = edit_connectomes(z, ATLAS, [0], [0.05], np.full(28, mean), sd)
        assert (found.refused == ("",)) == plausible
        if not plausible:
            assert np.array_equal(found.after, found.before)


@pytest.mark.parametrize(
    ("edges", "delta", "message"),
    [
        ([0], [0.31], "a change of at most 1 SD of A--B"),
        ([28], [0.1], "edges 0 to 27 of atlas eight, found 28 to 28"),
        ([1, 1], [0.1, 0.1], "each once"),
        ([], [], "found none"),
        ([1, 2], [0.1, 0.1, 0.1], "one change for each of 2 edges"),
        ([1], [np.nan], "at most 1 SD"),
    ],
)
def test_edits_that_mean_nothing_are_refused(edges, delta, message):
    z = connectomes(2)
    with pytest.raises(TwinError, match=message):
        edit_connectomes(z, ATLAS, edges, delta, z.mean(axis=0), np.full(28, 0.3))
