"""Components against textbook PCA and tests; planted ones are found, and none where none is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA

from offline.decoder import ComponentClassifier, ComponentRegressor, ComponentSelector
from offline.errors import DecodeError

Float64 = NDArray[np.float64]

EDGES = 12
"""Edges of the planted component."""


def planted(
    n: int = 120, p: int = 300, shift: float = 0.9, seed: int = 0
) -> tuple[Float64, NDArray[np.str_], Float64]:
    """Twelve edges move together, more in patients; others are noise."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) % 2, "patient", "control")
    level = rng.standard_normal(n) + shift * (y == "patient")
    X = 0.2 + 0.15 * rng.standard_normal((n, p))
    X[:, :EDGES] += 0.15 * level[:, None]
    return X, y, level


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("shape", [(60, 300), (90, 20)])
def test_scores_are_those_of_pca(standardize: bool, shape: tuple[int, int]) -> None:
    X, y, _ = planted(*shape)
    selector = ComponentSelector(q=0.9, standardize=standardize).fit(X, y)
    assert len(selector.selected_) > 1
    given = (X - X.mean(axis=0)) / X.std(axis=0) if standardize else X
    pca = PCA(svd_solver="full").fit(given)
    n = min(shape[0] - 1, shape[1])
    np.testing.assert_allclose(
        selector.explained_variance_ratio_, pca.explained_variance_ratio_[:n], rtol=1e-8
    )
    theirs = pca.transform(given)[:, selector.selected_]
    ours = selector.transform(X)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-8)
    loadings = pca.components_[selector.selected_]
    np.testing.assert_allclose(np.abs(selector.components_), np.abs(loadings), atol=1e-8)


def test_statistics_are_students() -> None:
    X, y, level = planted(60, 300)
    selector = ComponentSelector().fit(X, y)
    scores = PCA(svd_solver="full").fit_transform(X)[:, :59]
    t, p = stats.ttest_ind(scores[y == "patient"], scores[y == "control"])
    np.testing.assert_allclose(np.abs(selector.statistic_), np.abs(t), rtol=1e-6)
    np.testing.assert_allclose(selector.p_, p, rtol=1e-6)
    np.testing.assert_array_equal(
        selector.selected_, np.flatnonzero(stats.false_discovery_control(p) <= 0.05)
    )
    z = stats.zscore(selector.components_, axis=1)
    q = [stats.false_discovery_control(stats.chi2.sf(row**2, 1)) for row in z]
    np.testing.assert_array_equal(selector.edges_, np.any(np.array(q) <= 0.05, axis=0))
    continuous = ComponentSelector().fit(X, level)
    r = [stats.pearsonr(score, level) for score in scores.T]
    np.testing.assert_allclose(continuous.p_, [found.pvalue for found in r], rtol=1e-6)


def test_covariates_are_partialled_out() -> None:
    X, y, level = planted(100, 200, shift=0.0)
    # a covariate behind both edges and target: alone it makes the component go with the target
    score = level + 0.3 * np.random.default_rng(1).standard_normal(100)
    assert ComponentSelector().fit(X, score).p_[0] < 1e-10
    told = pd.DataFrame({"level": level, "group": y})
    found = ComponentSelector().fit(X, score, covariates=told)
    assert found.p_[0] > 0.01
    # the t of a coefficient in the regression with the covariates beside it
    design = np.column_stack([np.ones(100), level, y == "patient", score]).astype(float)
    first = PCA(svd_solver="full").fit_transform(X)[:, 0]
    beta, squares = np.linalg.lstsq(design, first, rcond=None)[:2]
    error = np.sqrt(squares[0] / 96 * np.linalg.inv(design.T @ design)[3, 3])
    assert abs(found.statistic_[0]) == pytest.approx(abs(beta[3] / error))


def test_planted_edges_and_nothing_else() -> None:
    X, y, _ = planted()
    found = ComponentSelector().fit(X, y)
    assert found.selected_.tolist() == [0]
    assert np.flatnonzero(found.edges_)[:EDGES].tolist() == list(range(EDGES))
    assert found.edges_[EDGES:].sum() <= 2
    X, y, _ = planted(shift=0.0, seed=3)
    nothing = ComponentSelector().fit(X, y)
    assert nothing.transform(X).shape == (120, 0)
    assert not nothing.edges_.any()


@pytest.mark.parametrize("features", ["scores", "edges"])
def test_decoder_is_linear_in_edges_and_judged_out_of_fold(features: str) -> None:
    X, y, _ = planted()
    decoder = ComponentClassifier(n_folds=4, features=features).fit(X, y, groups=np.arange(120))
    scores = X @ decoder.coef_.toarray().T + decoder.intercept_
    np.testing.assert_allclose(
        decoder.predict_proba(X)[:, 1], np.mean(1 / (1 + np.exp(-scores)), axis=1)
    )
    np.testing.assert_allclose(
        decoder.predict_proba(X, groups=np.arange(120))[:, 1], decoder.out_of_fold_
    )
    assert np.mean((decoder.out_of_fold_ > 0.5) == (y == "patient")) > 0.6
    assert np.all(decoder.selection_counts_[:EDGES] == 4)
    assert decoder.n_components_.tolist() == [1, 1, 1, 1]


def test_where_no_component_passes_the_output_says_nothing() -> None:
    X, y, _ = planted(shift=0.0, seed=3)
    decoder = ComponentClassifier(n_folds=4, q=1e-6).fit(X, y)
    assert np.all(decoder.out_of_fold_ == 0.5)
    regressor = ComponentRegressor(n_folds=4, q=1e-9).fit(X, np.random.default_rng(0).random(120))
    assert np.ptp(regressor.predict(X)) == 0.0


def test_continuous_target() -> None:
    X, _, level = planted()
    decoder = ComponentRegressor(n_folds=4).fit(X, 10 + level)
    assert np.corrcoef(decoder.out_of_fold_, level)[0, 1] > 0.8
    assert abs(np.mean(decoder.out_of_fold_ - 10 - level)) < 0.1


def test_refusals() -> None:
    X, y, _ = planted(40, 20)
    with pytest.raises(DecodeError, match="rate"):
        ComponentSelector(q=1.0).fit(X, y)
    with pytest.raises(DecodeError, match="varies"):
        ComponentSelector().fit(X, np.zeros(40))
    with pytest.raises(DecodeError, match="two classes, found 3"):
        ComponentSelector().fit(X, np.array(["a", "b", "c", "a"] * 10))
    with pytest.raises(DecodeError, match="constant"):
        ComponentSelector().fit(np.ones((40, 20)), y)
    with pytest.raises(DecodeError, match="'scores' or 'edges'"):
        ComponentClassifier(features="both").fit(X, y)
