"""An edit's own effect: generalised least squares written out, and a planted effect's size."""

from __future__ import annotations

import numpy as np
import pytest

from offline.twin.background import Background
from offline.twin.kernels import ALL, Kernels, Spectrum, fit
from offline.twin.mixtures import DEGREES, LEAST_PROBABILITY
from tests.offline.twin.connectomes_of import drawn

N, EDGES, CODES = 40, 300, 2


def test_it_is_generalised_least_squares():
    """Against the covariance of all codes written out as one matrix."""
    rng, edges, basis = drawn(0)
    scores = basis.scores(edges)
    codes = scores @ rng.standard_normal((scores.shape[1], CODES)) / basis.sd[0]
    codes += rng.standard_normal((N, CODES))
    known = Background.of(basis, edges, codes)
    before = edges[:1] + 0.1
    after = before.copy()
    after[:, [3, 50]] += 0.4
    found, spread = known.effect(before, after)

    unit = codes.std(axis=0)
    y = (codes - codes.mean(axis=0)) / unit
    kernels = Kernels.of(basis, edges)
    second_unit = kernels.of_term((ALL, ALL))[1]
    fits = [
        fit(Spectrum.of(kernels.mixed({(ALL,): 1.0 - degree, (ALL, ALL): degree})), y)
        for degree in DEGREES
    ]
    likelihood = np.array([one.likelihood for one in fits])
    weights = np.exp(likelihood - likelihood.max())
    weights = np.where(weights / weights.sum() < LEAST_PROBABILITY, 0.0, weights)
    weights /= weights.sum()

    def features(z):
        """Both degrees of a person, the second written out."""
        x = (z - basis.mean) / basis.scale / np.sqrt(EDGES)
        return x / np.sqrt(kernels.unit), np.outer(x, x).ravel() / kernels.unit

    first, second = (np.array(f) for f in zip(*(features(row) for row in edges), strict=True))
    second = (second - second.mean(axis=0)) / np.sqrt(second_unit)
    moved, was = features(after[0]), features(before[0])
    step = moved[0] - was[0], (moved[1] - was[1]) / np.sqrt(second_unit)
    means, covariances = [], []
    for degree, one in zip(DEGREES, fits, strict=True):
        kernel = (1.0 - degree) * first @ first.T + degree * second @ second.T
        v = np.kron(kernel, one.told) + np.kron(np.eye(N), one.untold)
        g = (1.0 - degree) * first @ step[0] + degree * second @ step[1]
        size = (1.0 - degree) * step[0] @ step[0] + degree * step[1] @ step[1]
        design = np.kron(g[:, None], np.eye(CODES))
        inverse = np.linalg.inv(design.T @ np.linalg.solve(v, design))
        means.append(size * inverse @ design.T @ np.linalg.solve(v, y.ravel()))
        covariances.append(size**2 * inverse)
    mean = weights @ np.array(means)
    assert np.allclose(found[0], mean * unit, rtol=1e-6)
    expected = sum(
        w * (c + np.outer(m - mean, m - mean))
        for w, m, c in zip(weights, means, covariances, strict=True)
    )
    assert np.allclose(spread[0], expected * np.outer(unit, unit), rtol=1e-6)


def test_a_planted_effect_has_its_size_and_its_error_is_as_told():
    """Codes follow three edges; over cohorts the effect is right and so is its spread."""
    ratios, standardised = [], []
    for seed in range(25):
        rng, edges, basis = drawn(100 + seed)
        planted = [3, 50, 200]
        z = (edges - edges.mean(axis=0)) / edges.std(axis=0)
        true = 0.5 * z[:, planted].sum(axis=1)
        codes = np.stack([true, -true], axis=1) + rng.standard_normal((N, CODES))
        known = Background.of(basis, edges, codes)
        after = edges.copy()
        after[:, planted] += 0.5 * edges.std(axis=0)[planted]
        found, spread = known.effect(edges, after)
        ratios.append(found[0, 0] / 0.75)
        standardised.append((found[0, 0] - 0.75) / np.sqrt(spread[0, 0, 0]))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.25)
    assert np.mean(np.abs(standardised) < 2.0) > 0.8


def test_where_nothing_is_edited_nothing_changes():
    rng, edges, basis = drawn(3)
    codes = rng.standard_normal((N, CODES))
    known = Background.of(basis, edges, codes)
    found, spread = known.effect(edges[:4], edges[:4])
    assert not found.any()
    assert not spread.any()
