"""Which edge to edit: own effects of all, exchanged codes as their null, and who has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (fcnef[offline])")

from offline.errors import TwinError  # noqa: E402
from offline.twin.association import Directions  # noqa: E402
from offline.twin.background import Background  # noqa: E402
from offline.twin.basis import fit_basis  # noqa: E402
from offline.twin.kernels import ALL, Kernels, Spectrum, fit  # noqa: E402
from offline.twin.outcomes import Target, slopes  # noqa: E402
from offline.twin.screen import (  # noqa: E402
    Null,
    _among,
    _exchanged,
    importance,
    permutation_null,
    recommend,
)
from tests.offline.twin.connectomes_of import drawn  # noqa: E402

COHORT = {"n_people": 75}
N_TRAINED = 60


@pytest.fixture(scope="module")
def null(twin, training, new):
    people, examples = training
    own = examples.of(np.arange(60))
    return permutation_null(twin, people.edges[:60], own, *new, n_permutations=39)


def test_of_one_code_an_edge_has_the_effect_of_its_edit(monkeypatch):
    """One SD of an edge, as an edit before a background of first degree alone."""
    monkeypatch.setattr("offline.twin.mixtures.DEGREES", (0.0,))
    rng, edges, basis = drawn(0)
    codes = rng.standard_normal((40, 1)) + edges[:, [7]]
    change, variance = Directions.of(basis, edges).associate(codes).on(np.array([[2.0]]))
    single = Background.of(basis, edges, codes)
    for edge in (7, 9, 200):
        after = edges[:1].copy()
        after[:, edge] += basis.scale[edge]
        effect, covariance = single.effect(edges[:1], after)
        assert change[0, edge] == pytest.approx(2.0 * effect[0, 0], rel=1e-6)
        assert variance[0, edge] == pytest.approx(4.0 * covariance[0, 0, 0], rel=1e-6)


def test_an_effect_is_generalised_least_squares_along_what_connectomes_do():
    """Against the covariance of all codes written out as one matrix."""
    rng, edges, basis = drawn(1)
    codes = rng.standard_normal((40, 3)) + edges[:, [7, 7, 9]]
    slope = np.array([0.5, -1.0, 2.0])
    change, variance = Directions.of(basis, edges).associate(codes).on(slope[None])
    unit = codes.std(axis=0)
    y = (codes - codes.mean(axis=0)) / unit
    kernel, _ = Kernels.of(basis, edges).of_term((ALL,))
    found = fit(Spectrum.of(kernel), y)
    covariance = np.kron(kernel, found.told) + np.kron(np.eye(40), found.untold)
    direction = found.told @ (slope * unit)
    z = (edges[:, 9] - basis.mean[9]) / basis.scale[9]
    design = np.kron(z, direction)
    information = design @ np.linalg.solve(covariance, design)
    size = (slope * unit) @ direction
    expected = size * (design @ np.linalg.solve(covariance, y.ravel())) / information
    assert change[0, 9] == pytest.approx(expected, rel=1e-6)
    assert variance[0, 9] == pytest.approx(size**2 / information, rel=1e-6)


def test_an_edge_that_is_the_same_in_everybody_has_no_effect():
    rng, edges, _ = drawn(1)
    edges[:, 3] = 0.25
    basis = fit_basis(edges)
    change, variance = (
        Directions.of(basis, edges).associate(rng.standard_normal((40, 2))).on(np.ones((1, 2)))
    )
    assert change[0, 3] == 0.0
    assert np.isfinite(change).all()
    assert (variance > 0.0).all()


def test_the_null_is_of_the_very_statistic(twin, training, new, monkeypatch):
    """Everybody keeping their own codes, the largest is that of the edges themselves."""
    people, examples = training
    monkeypatch.setattr("offline.twin.screen._exchanged", lambda groups, rng: np.arange(60))
    own = examples.of(np.arange(60))
    found = permutation_null(twin, people.edges[:60], own, *new, n_permutations=1)
    assert np.array_equal(found.largest[0], np.abs(found.t).max(axis=1))


def test_codes_are_exchanged_within_sites_where_these_are_given(twin, training, new, monkeypatch):
    people, examples = training
    sites = people.people["site"].to_numpy()[:60]
    orders = []

    def recorded(groups, rng):
        orders.append(_exchanged(groups, rng))
        return orders[-1]

    monkeypatch.setattr("offline.twin.screen._exchanged", recorded)
    asked = twin, people.edges[:60], examples.of(np.arange(60)), *new
    permutation_null(*asked, n_permutations=2, sites=sites)
    permutation_null(*asked, n_permutations=1)
    for order in orders:
        assert sorted(order) == list(range(60))
        assert np.mean(order == np.arange(60)) < 0.5
    within = [np.array_equal(sites[order], sites) for order in orders]
    assert within == [True, True, False]


def test_an_exchange_of_all_is_one_of_some():
    order = np.array([2, 0, 4, 1, 3])
    assert np.array_equal(_among(order, np.arange(5)), order)
    # 1 is not there: who would get theirs gets what 1 gets
    assert np.array_equal(_among(order, np.array([0, 2, 3, 4])), [1, 3, 0, 2])


def test_the_null_is_of_its_training_people_and_keeps_who_they_are(twin, training, new, null):
    people, examples = training
    own = examples.of(np.arange(60))
    assert null.largest.shape == (39, 15)
    assert (null.largest > 0.0).all()
    assert null.t.shape == new[0].shape
    with pytest.raises(TwinError, match="the 60 people the twin was trained with"):
        permutation_null(twin, people.edges[:59], own.of(np.arange(59)), *new)
    with pytest.raises(TwinError, match="expected connectomes of 60 people"):
        permutation_null(twin, people.edges[:59], own, *new)


def test_the_bound_is_what_one_in_forty_reaches():
    t = np.zeros((1, 3))
    assert np.isinf(Null("rt", t, np.ones((19, 1)), ()).bound)  # nineteen cannot say 2.5 %
    assert Null("rt", t, np.arange(39.0)[:, None], ()).bound == 38.0
    assert Null("rt", t, np.arange(99.0)[:, None], ()).bound == 97.0
    assert Null("rt", t, np.arange(199.0)[:, None], ()).bound == 194.0


def test_recommendation_says_why_not(twin, new, null):
    z, task = new
    wide = replace(null, largest=np.full((39, 15), 100.0))
    found = recommend(twin, z, task, wide, n_exact=1)
    assert len(found) == 15
    assert not found["qualifies"].any()
    assert found["why_not"].str.len().min() > 0
    with pytest.raises(TwinError, match="direction -1 or 1"):
        recommend(twin, z, task, wide, direction=0)


@pytest.fixture(scope="module")
def planted(twin, training, new):
    """A twin of whose training people one edge makes up the mean RT."""
    people, examples = training
    edge, own = 11, examples.of(np.arange(60))
    z = (people.edges[:60, edge] - people.edges[:60, edge].mean()) / people.edges[:60, edge].std()
    slower = np.where(np.isfinite(own.log_rt), -0.25 + 0.15 * z[:, None, None], np.nan)
    slower += 0.01 * np.random.default_rng(0).standard_normal(slower.shape)
    own = replace(own, log_rt=slower)
    found = permutation_null(twin, people.edges[:60], own, *new, n_permutations=39)
    return edge, own, found


def test_an_edge_that_does_it_all_comes_first_and_qualifies(twin, new, planted):
    z, task = new
    edge, _, null = planted
    assert (np.abs(null.t).argmax(axis=1) == edge).all()
    found = recommend(twin, z, task, null, n_exact=1)
    hit = found[found["qualifies"]]
    assert len(hit) > 5
    assert (hit["edge"] == edge).all()
    assert (hit["associated"] < 0.0).all()
    assert (hit["delta_z"] < 0.0).all()
    slower = recommend(twin, z, task, null, direction=1, n_exact=1)
    assert (slower[slower["qualifies"]]["delta_z"] > 0.0).all()
    none = recommend(twin, z, task, replace(null, largest=100.0 * null.largest), n_exact=1)
    assert none["why_not"].str.contains("no larger than the best edge").sum() > 5


def test_people_of_the_training_data_can_have_an_edge(twin, training, planted):
    """One fold alone may tell them; the interval is that of the edge, not of the folds."""
    people, _ = training
    edge, own, _ = planted
    z = people.edges[:60]
    null = permutation_null(twin, z, own, z, own, n_permutations=39)
    found = recommend(twin, z, own, null, n_exact=1)
    assert found["qualifies"].sum() > 10
    # who would leave what is plausible has another, or none
    assert (found[found["qualifies"]]["edge"] == edge).mean() > 0.8


def test_importance_follows_the_twins_map(twin, new):
    """A map whose codes follow one edge alone."""
    z, task = new
    edge, one = 11, twin.members[0]
    slope = slopes(one, task, one.who(z), Target("rt")).mean(axis=0)
    linear = np.outer(one.basis.components[:, edge], 40.0 * np.sign(slope))
    code_map = replace(one.map, weights={(ALL,): linear})
    known = replace(twin, members=(replace(one, map=code_map),))
    assert np.argmax(importance(known, z, task)) == edge
