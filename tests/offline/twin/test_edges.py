"""Connectomes as handed in: valid people are never refused, a group in another scale is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.errors import AtlasError, ScaleError, TwinError
from offline.twin.basis import fit_basis
from offline.twin.edges import require_edges, require_scale
from offline.twin.synthetic_connectomes import draw_connectomes

N_ROIS, N_TRAINING, N_NEW = 60, 100, 100


@cache
def population(seed: int = 0):
    """Training people's basis, the atlas, and other people's edges."""
    drawn = draw_connectomes(N_TRAINING + N_NEW, np.random.default_rng(seed), N_ROIS)
    z = drawn.scan(np.random.default_rng(seed + 1000))
    return fit_basis(z[:N_TRAINING]), drawn.atlas, z[N_TRAINING:]


groups = st.sets(st.integers(0, N_NEW - 1), min_size=1).map(sorted)


@settings(max_examples=60, deadline=None)
@given(who=groups, strength=st.floats(0.2, 1.5), seed=st.integers(0, 1))
def test_people_of_any_strength_alone_or_together_are_taken(who, strength, seed):
    basis, atlas, z = population(seed)
    given_z = strength * z[who]
    names = [f"p{k}" for k in who]
    assert np.array_equal(require_edges(given_z, atlas, names, basis), given_z)


@settings(max_examples=25, deadline=None)
@given(person=st.integers(0, N_NEW - 1), wrong=st.sampled_from([np.tanh, lambda z: 0.3 * z]))
def test_one_person_is_never_refused_for_being_weak(person, wrong):
    basis, _, z = population()
    require_scale(wrong(z[[person]]), N_ROIS, basis)


@settings(max_examples=20, deadline=None)
@given(left_out=st.sets(st.integers(0, N_NEW - 1), max_size=20), seed=st.integers(0, 1))
def test_a_group_of_correlations_and_of_fisher_z_taken_twice_is_refused(left_out, seed):
    basis, _, z = population(seed)
    kept = np.setdiff1d(np.arange(N_NEW), list(left_out))
    with pytest.raises(ScaleError, match="as correlations do; give"):
        require_scale(np.tanh(z[kept]), N_ROIS, basis)
    again = np.arctanh(np.clip(z[kept], -0.999, 0.999))
    with pytest.raises(ScaleError, match="Fisher z of Fisher z do; transform once"):
        require_scale(again, N_ROIS, basis)


def test_people_altogether_unlike_are_not_judged_by_their_scale():
    """Another population, whose mean has nothing to do with that of training."""
    basis, _, _ = population(0)
    _, _, other = population(3)
    require_scale(other, N_ROIS, basis)
    require_scale(np.tanh(other), N_ROIS, basis)


def test_without_training_people_a_group_of_whom_nobody_passes_one_is_refused():
    _, _, z = population()
    require_scale(z, N_ROIS)
    with pytest.raises(ScaleError, match="no value beyond ±1 in 100 people"):
        require_scale(np.tanh(z), N_ROIS)
    require_scale(np.tanh(z[:3]), N_ROIS)
    with pytest.raises(ScaleError, match="beyond ±10"):
        require_scale(100.0 * z[:1], N_ROIS)


def test_matrices_are_taken_apart_and_what_is_no_connectome_is_refused():
    basis, atlas, z = population()
    z, names = z[:3], ["sub-a", "b", "c"]
    a, b = atlas.edges().T
    matrices = np.ones((3, N_ROIS, N_ROIS))
    matrices[:, a, b] = matrices[:, b, a] = z
    assert np.array_equal(require_edges(matrices, atlas, names, basis), z)
    skewed, lost = matrices.copy(), z.copy()
    skewed[1, 2, 3] += 0.1
    lost[2, 0] = np.nan
    for wrong, error, message in (
        (z[:, :-1], AtlasError, "expected 1770 edges of the 60 ROIs"),
        (skewed, AtlasError, "symmetric matrices, found that of sub-b"),
        (lost, TwinError, "NaN in sub-c at Vis_1--Vis_2"),
        (z[:2], TwinError, "connectomes of 3 people, found 2"),
    ):
        with pytest.raises(error, match=message):
            require_edges(wrong, atlas, names, basis)


def test_an_edge_that_is_the_same_in_everybody_says_nothing_of_anybody():
    """Up to rounding: its SD is no unit for how far anybody is."""
    _, _, z = population()
    z = z.copy()
    z[:, 3] = 0.3
    z[:50, 3] += 5e-17
    basis = fit_basis(z)
    assert np.isinf(basis.scale[3])
    moved = z.copy()
    moved[:, 3] += 0.5
    assert np.array_equal(basis.scores(moved), basis.scores(z))
    assert not basis.outside(moved)[~basis.outside(z)].any()
