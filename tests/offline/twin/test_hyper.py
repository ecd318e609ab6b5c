"""The basis is exact and knows who is outside; the map is the Gaussian process it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from offline.errors import TwinError
from offline.twin.hyper import DEGREES, fit_basis, fit_code_map

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
    monkeypatch.setattr("offline.twin.hyper.DEGREES", (0.4,))
    basis = fit_basis(edges[:45])
    x, new = basis.scores(edges[:45]), basis.scores(edges[45:])
    y = x[:, :1] * 3.0 + np.random.default_rng(2).standard_normal((45, 1)) * 0.1
    fitted = fit_code_map(x, y)

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

    from offline.twin.hyper import fit_degree

    found = fit_degree(kernel[:45, :45], z)
    told, untold = float(found.told[0, 0]), float(found.untold[0, 0])
    assert likelihood(told, untold) == pytest.approx(found.likelihood, abs=1e-8)
    expected = kernel[45:, :45] @ np.linalg.solve(
        told * kernel[:45, :45] + untold * np.eye(45), told * z
    )
    assert np.allclose(fitted.codes(new), y.mean() + y.std() * expected, atol=1e-9)


def test_slopes_are_those_of_finite_differences(edges):
    scores = fit_basis(edges).scores(edges)
    codes = np.stack([scores[:, 0] * scores[:, 1], scores[:, 2]], axis=1) * 50.0
    fitted = fit_code_map(scores, codes)
    step = 1e-6 * np.eye(scores.shape[1])[4]
    found = (fitted.codes(scores + step) - fitted.codes(scores - step)) / 2e-6
    assert np.allclose(found, fitted.slopes(scores)[:, :, 4], atol=1e-6)


def test_a_product_is_given_to_the_second_degree_and_a_sum_to_the_first():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200, 6)) * [1.0, 0.9, 0.8, 0.3, 0.2, 0.1]
    x -= x.mean(axis=0)
    noise = 0.3 * rng.standard_normal(200)
    product = fit_code_map(x, (x[:, 0] * x[:, 1] + noise)[:, None])
    total = fit_code_map(x, (x[:, 0] + x[:, 1] + noise)[:, None])
    assert product.degree > 0.8
    assert total.degree < 0.35
    assert len(DEGREES) > 1


def test_a_second_code_that_shares_what_is_unexplained_sharpens_the_first():
    """u is in both codes, x in one alone: taken together they say more of x than each alone."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((150, 40))
    x -= x.mean(axis=0)
    u, signal = rng.standard_normal(150), x[:, :5].sum(axis=1) / np.sqrt(5.0)
    both = np.stack([0.6 * signal + u, u], axis=1)
    new = rng.standard_normal((2000, 40))
    truth = new[:, :5].sum(axis=1)
    together = np.corrcoef(fit_code_map(x, both).codes(new)[:, 0], truth)[0, 1]
    alone = np.corrcoef(fit_code_map(x, both[:, :1]).codes(new)[:, 0], truth)[0, 1]
    assert together > alone + 0.15


def test_spread_is_the_error_of_people_left_out():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((150, 10))
    x -= x.mean(axis=0)
    codes = x[:, :2] + np.array([0.5, 1.0]) * rng.standard_normal((150, 2))
    fitted = fit_code_map(x, codes)
    new = rng.standard_normal((4000, 10))
    truth = new[:, :2] + np.array([0.5, 1.0]) * rng.standard_normal((4000, 2))
    error = truth - fitted.codes(new)
    assert np.allclose(np.diag(fitted.spread), np.mean(error**2, axis=0), rtol=0.25)
