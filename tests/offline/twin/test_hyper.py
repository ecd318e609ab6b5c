"""The basis is exact and knows who is outside; the map is the Gaussian process it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from offline.errors import TwinError
from offline.twin.basis import fit_basis
from offline.twin.hyper import fit_code_map
from offline.twin.kernels import ALL, Kernels, Spectrum, fit, scores_of
from offline.twin.mixtures import fit_mixtures

N, P = 60, 300


@pytest.fixture
def edges():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((N, 8)) @ rng.standard_normal((8, P))
    return 0.1 * factors + 0.1 * rng.standard_normal((N, P)) + rng.standard_normal(P)


def test_the_basis_keeps_every_distance_between_training_people(edges):
    basis = fit_basis(edges)
    scores = basis.scores(edges)
    z = (edges - edges.mean(axis=0)) / edges.std(axis=0)
    assert np.allclose(scores @ scores.T, z @ z.T / P, atol=1e-10)
    assert np.allclose(basis.components @ basis.components.T, np.eye(N - 1), atol=1e-10)
    assert np.allclose(scores.std(axis=0), basis.sd)


def test_who_is_far_from_the_training_people_is_outside(edges):
    basis = fit_basis(edges)
    assert basis.outside(edges).mean() <= 0.04
    far = edges + 6.0 * edges.std(axis=0) * np.sign(np.random.default_rng(1).standard_normal(P))
    assert basis.outside(far).all()
    along = edges[:1] + 30.0 * basis.sd[0] * basis.components[0] * basis.scale * np.sqrt(P)
    assert basis.outside(along).all()


def test_an_edge_that_never_varies_does_no_harm(edges):
    edges[:, 3] = 0.2
    assert np.isfinite(fit_basis(edges).scores(edges)).all()


@pytest.mark.parametrize("wrong", ["nan", "few"])
def test_what_no_basis_can_be_of_is_refused(edges, wrong):
    edges = edges[:2] if wrong == "few" else np.where(edges > edges.max() - 1e-9, np.nan, edges)
    with pytest.raises(TwinError, match="expected"):
        fit_basis(edges)


def test_the_map_equals_the_gaussian_process_written_out(edges, monkeypatch):
    """One code, one degree: codes(x) = k(x)' (K G + E I)^-1 y, with the kernel formed plainly."""
    monkeypatch.setattr("offline.twin.mixtures.DEGREES", (0.4,))
    basis = fit_basis(edges[:45])
    x, new = basis.scores(edges[:45]), basis.scores(edges[45:])
    y = x[:, :1] * 3.0 + np.random.default_rng(2).standard_normal((45, 1)) * 0.1
    fitted = fit_code_map(x[:, None], y)

    unit = np.trace(x @ x.T) / 45
    square = lambda a, b: (a @ b.T / unit) ** 2  # noqa: E731
    both = np.vstack([x, new])
    k2 = square(both, both)
    rows = square(both, x).mean(axis=1)
    k2 = k2 - rows - rows[:, None] + square(x, x).mean()
    k2 /= np.trace(k2[:45, :45]) / 45
    kernel = 0.6 * both @ both.T / unit + 0.4 * k2
    z = (y - y.mean()) / y.std()

    def likelihood(told, untold):
        covariance = told * kernel[:45, :45] + untold * np.eye(45)
        return -0.5 * (np.linalg.slogdet(covariance)[1] + z.T @ np.linalg.solve(covariance, z))

    found = fit(Spectrum.of(kernel[:45, :45]), z)
    told, untold = float(found.told[0, 0]), float(found.untold[0, 0])
    assert likelihood(told, untold) == pytest.approx(found.likelihood, abs=1e-8)
    expected = kernel[45:, :45] @ np.linalg.solve(
        told * kernel[:45, :45] + untold * np.eye(45), told * z
    )
    assert np.allclose(fitted.codes(new[:, None]), y.mean() + y.std() * expected, atol=1e-9)


def test_slopes_are_those_of_finite_differences():
    _, edges, _, levels = networked(4)
    blocks = fit_basis(edges).block_scores(edges)
    codes = np.stack([levels[:, 1] * levels[:, 4], levels[:, 2]], axis=1)
    fitted = fit_code_map(blocks, codes)
    assert any(len(term) == 2 and ALL not in term for term in fitted.weights)
    by_codes = np.array([[2.0, -1.0]] * len(edges))
    for block in range(blocks.shape[1]):
        step = np.zeros(blocks.shape[1:])
        step[block, 4] = 1e-6
        found = (fitted.codes(blocks + step) - fitted.codes(blocks - step)) / 2e-6
        slopes = fitted.slopes(blocks, by_codes)[:, block, 4]
        assert np.allclose(np.sum(by_codes * found, axis=1), slopes, atol=1e-5)


def test_a_product_is_given_to_the_second_degree_and_a_sum_to_the_first():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200, 6)) * [1.0, 0.9, 0.8, 0.3, 0.2, 0.1]
    x -= x.mean(axis=0)
    noise = 0.3 * rng.standard_normal(200)
    product = fit_code_map(x[:, None], (x[:, 0] * x[:, 1] + noise)[:, None])
    total = fit_code_map(x[:, None], (x[:, 0] + x[:, 1] + noise)[:, None])
    assert product.degree > 0.8
    assert total.degree < 0.35


def test_a_second_code_that_shares_what_is_unexplained_sharpens_the_first():
    """u is in both codes, x in one alone: taken together they say more of x than each alone."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((150, 40))
    x -= x.mean(axis=0)
    u, signal = rng.standard_normal(150), x[:, :5].sum(axis=1) / np.sqrt(5.0)
    both = np.stack([0.6 * signal + u, u], axis=1)
    new = rng.standard_normal((2000, 40))
    truth = new[:, :5].sum(axis=1)
    together = np.corrcoef(fit_code_map(x[:, None], both).codes(new[:, None])[:, 0], truth)[0, 1]
    alone = np.corrcoef(fit_code_map(x[:, None], both[:, :1]).codes(new[:, None])[:, 0], truth)[
        0, 1
    ]
    assert together > alone + 0.15


def test_spread_is_the_error_of_people_left_out():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((150, 10))
    x -= x.mean(axis=0)
    codes = x[:, :2] + np.array([0.5, 1.0]) * rng.standard_normal((150, 2))
    fitted = fit_code_map(x[:, None], codes)
    new = rng.standard_normal((4000, 10))
    truth = new[:, :2] + np.array([0.5, 1.0]) * rng.standard_normal((4000, 2))
    error = truth - fitted.codes(new[:, None])
    assert np.allclose(np.diag(fitted.spread), np.mean(error**2, axis=0), rtol=0.25)


def networked(seed: int, n_people: int = 160, n_networks: int = 3, size: int = 6):
    """Edges of people whose networks are told by the mean connectome, and each edge's block."""
    rng = np.random.default_rng(seed)
    network = np.repeat(np.arange(n_networks), size)
    a, b = np.triu_indices(n_networks * size, 1)
    pair = np.sort(np.stack([network[a], network[b]], axis=1), axis=1)
    block = np.unique(pair[:, 0] * n_networks + pair[:, 1], return_inverse=True)[1]
    levels = rng.standard_normal((n_people, block.max() + 1))
    edges = 0.1 * levels[:, block] + 0.1 * rng.standard_normal((n_people, len(a)))
    return rng, edges + np.where(network[a] == network[b], 0.6, 0.05), block, levels


def test_block_scores_add_up_and_networks_are_those_of_the_mean_connectome():
    _, edges, block, _ = networked(0)
    basis = fit_basis(edges)
    assert np.allclose(basis.block_scores(edges).sum(axis=1), basis.scores(edges))
    # the same partition, whatever the numbers
    pairs = set(zip(block.tolist(), basis.block.tolist(), strict=True))
    assert len(pairs) == len(np.unique(block)) == len(np.unique(basis.block))


def test_of_block_terms_weights_are_the_kernel_written_out():
    rng, edges, _, _ = networked(1, 40)
    basis = fit_basis(edges)
    kernels = Kernels.of(basis, edges)
    z = basis.standardised(edges)
    dual = rng.standard_normal((40, 2))
    for term in ((ALL,), (2,), (ALL, ALL), (1, 3), (2, 2)):
        product = np.ones((40, 40))
        for block in term:
            own = slice(None) if block == ALL else basis.block == block
            product *= z[:, own] @ z[:, own].T
        centred = product - product.mean(axis=0) - product.mean(axis=1)[:, None] + product.mean()
        centred /= np.trace(centred) / 40
        assert np.allclose(kernels.of_term(term)[0], centred, atol=1e-10)
        weights, constant = kernels.weights(term, dual)
        scores = [scores_of(kernels.blocks, block) for block in term]
        if len(term) == 1:
            found = scores[0] @ weights
        else:
            found = np.einsum("pi,kij,pj->pk", scores[0], weights, scores[1]) + constant
        assert np.allclose(found, centred @ dual, atol=1e-8)


@pytest.mark.parametrize("degree", [1, 2])
def test_the_blocks_that_act_are_found(degree):
    rng, edges, block, levels = networked(2)
    basis = fit_basis(edges)
    acting = [1, 4][:degree]
    y = np.prod(levels[:, acting], axis=1) + 0.5 * rng.standard_normal(len(edges))
    y = (y - y.mean())[:, None] / y.std()
    mixtures = fit_mixtures(Kernels.of(basis, edges), y)
    assert sum(one.probability for one in mixtures) == pytest.approx(1.0)
    number = [int(basis.block[block == k][0]) for k in acting]
    term = tuple(sorted(number))
    assert sum(one.probability for one in mixtures if term in one.shares) > 0.9
    assert all(sum(one.shares.values()) == pytest.approx(1.0) for one in mixtures)


def test_where_nothing_acts_no_block_is_sure():
    rng, edges, _, _ = networked(3)
    kernels = Kernels.of(fit_basis(edges), edges)
    sure = 0
    for _ in range(10):
        y = rng.standard_normal((len(edges), 2))
        mixtures = fit_mixtures(kernels, y - y.mean(axis=0))
        terms = {term for one in mixtures for term in one.shares if ALL not in term}
        sure += any(
            sum(one.probability for one in mixtures if term in one.shares) > 0.9 for term in terms
        )
    assert sure <= 1


def test_codes_beyond_the_main_traits_are_told_at_their_mean():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((80, 8))
    x -= x.mean(axis=0)
    codes = x[:, :5] * [5.0, 4.0, 3.0, 0.2, 0.1] + 1.0
    fitted = fit_code_map(x[:, None], codes)
    assert np.allclose(fitted.codes(x[:, None])[:, 3:], 1.0, atol=0.2)
    assert np.diag(fitted.spread)[3] == pytest.approx(codes[:, 3].var(), rel=0.1)
    same = fit_code_map(x[:, None], np.ones((80, 2)))
    assert np.allclose(same.codes(x[:, None]), 1.0)
