"""Figures equal what their definitions give, and intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, matthews_corrcoef, roc_auc_score

from offline.decoder import metrics
from offline.decoder.metrics import Figure


def sample(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, two classes, three sites."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    score = np.round(rng.standard_normal(n) + 0.8 * y, 1)
    return y, score, np.array(["A", "B", "C"], object)[rng.integers(0, 3, n)]


def test_auc_is_that_of_scikit_learn_ties_included() -> None:
    for seed in range(5):
        y, score, _ = sample(seed=seed)
        assert metrics.auc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert np.isnan(metrics.auc(np.ones(4, bool), np.arange(4.0)))


def test_average_of_sites_is_weighted_by_their_sizes() -> None:
    y, score, sites = sample()
    expected, weight = 0.0, 0
    for site in "ABC":
        at = sites == site
        expected += at.sum() * roc_auc_score(y[at], score[at])
        weight += at.sum()
    assert metrics.site_auc(y, score, sites).value == pytest.approx(expected / weight)


def test_a_site_of_one_class_does_not_count() -> None:
    y, score, sites = sample()
    found = metrics.site_auc(y, score, sites).value
    more = np.concatenate([sites, np.full(5, "D", object)])
    with_one = metrics.site_auc(np.r_[y, np.ones(5, bool)], np.r_[score, np.zeros(5)], more)
    assert with_one.value == pytest.approx(found)
    alone = metrics.site_auc(np.ones(5, bool), np.zeros(5), np.full(5, "D", object))
    assert np.isnan(alone.value)
    assert alone.covers_chance


def test_telling_sites_apart_cannot_raise_the_average() -> None:
    """A score that is the site's prevalence: perfect knowledge of the site, none of the person."""
    rng = np.random.default_rng(1)
    place = rng.integers(0, 3, 600)
    y = rng.random(600) < np.array([0.1, 0.5, 0.9])[place]
    score, sites = place.astype(float), place.astype(str).astype(object)
    assert metrics.auc(y, score) > 0.8
    assert metrics.site_auc(y, score, sites).value == pytest.approx(0.5)
    draws = metrics.person_draws(np.arange(600), sites, y, 0)
    found = metrics.threshold_figures(y, score > 1.0, sites, draws)
    assert found["accuracy"].value > 0.6
    assert found["balanced accuracy within sites"].value == pytest.approx(0.5)


def test_newcombe_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = 0.7602  # of normal scores one SD apart
    inside = 0
    for _ in range(400):
        y = np.arange(40) < 18
        low, high = metrics.auc_interval(metrics.auc(y, rng.standard_normal(40) + 1.0 * y), 18, 22)
        inside += low <= truth <= high
    assert 0.91 <= inside / 400 <= 0.99


def test_newcombe_interval_has_a_width_at_the_ends() -> None:
    low, high = metrics.auc_interval(1.0, 5, 5)
    assert high == 1.0
    assert 0.4 < low < 0.9
    assert metrics.auc_interval(0.0, 5, 5) == pytest.approx((0.0, 1.0 - low))


def test_draws_keep_sites_classes_and_people_together() -> None:
    people = np.repeat(np.arange(30), 2)
    sites = np.where(people < 12, "A", "B").astype(object)
    y = people % 3 == 0
    draws = metrics.person_draws(people, sites, y, 0)
    assert draws.shape == (metrics.N_DRAWS, 60)
    np.testing.assert_array_equal(draws[:, ::2], draws[:, 1::2])
    for site in "AB":
        for label in (False, True):
            at = (sites == site) & (y == label)
            assert (draws[:, at].sum(axis=1) == at.sum()).all()
    assert draws.std() > 0.5


def test_interval_of_the_average_is_that_of_a_plain_bootstrap() -> None:
    y, score, sites = sample(90)
    people = np.arange(90)
    draws = metrics.person_draws(people, sites, y, 3)
    found = metrics.site_auc(y, score, sites, draws)
    slow = []
    for counts in draws[:300].astype(int):
        at = np.repeat(people, counts)
        slow.append(metrics.site_auc(y[at], score[at], sites[at]).value)
    fast = metrics.site_auc(y, score, sites, draws[:300])
    assert (fast.low, fast.high) == pytest.approx(metrics.drawn(np.array(slow)), abs=1e-6)
    assert found.low < found.value < found.high


def test_threshold_figures_are_those_of_their_definitions() -> None:
    y, score, sites = sample()
    said = score > 0.3
    draws = metrics.person_draws(np.arange(60), sites, y, 0)
    found = metrics.threshold_figures(y, said, sites, draws)
    assert found["accuracy"].value == pytest.approx(np.mean(y == said))
    assert found["sensitivity"].value == pytest.approx(said[y].mean())
    assert found["specificity"].value == pytest.approx((~said[~y]).mean())
    assert found["MCC"].value == pytest.approx(matthews_corrcoef(y, said))
    for figure in found.values():
        assert figure.low <= figure.value <= figure.high
    everyone = metrics.threshold_figures(y, np.ones(60, bool), sites, draws)
    assert everyone["MCC"].value == 0.0


def test_knowing_the_site_is_chance_for_what_pools_over_sites() -> None:
    sites = np.repeat(["A", "B"], 30)
    y = np.concatenate([np.arange(30) < 6, np.arange(30) < 24])  # 20 % and 80 %
    draws = metrics.person_draws(np.arange(60), sites, y, 0)
    found = metrics.threshold_figures(y, sites == "B", sites, draws)  # looks at the site alone
    assert found["MCC"].value == found["MCC"].chance == pytest.approx(0.6)
    assert found["accuracy"].value == found["accuracy"].chance == pytest.approx(0.8)
    assert found["balanced accuracy within sites"].value == pytest.approx(0.5)


def test_calibration_of_true_probabilities_is_near_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    y = rng.random(4000) < p
    bins = metrics.calibration(y, p)
    assert bins["n"].sum() == 4000
    assert (bins["low"] - 0.03 < bins["predicted"]).all()
    assert (bins["predicted"] < bins["high"] + 0.03).all()
    assert metrics.calibration_error(bins) < 0.03
    assert metrics.calibration_error(metrics.calibration(y, p**3)) > 0.15
    assert brier_score_loss(y, p) == pytest.approx(np.mean((p - y) ** 2))


def test_correlation_with_and_without_draws() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(200)
    b = 0.5 * a + rng.standard_normal(200)
    plain = metrics.correlation(a, b)
    draws = metrics.person_draws(np.arange(200), np.full(200, "A"), np.zeros(200), 0)
    drawn = metrics.correlation(a, b, draws)
    assert plain.value == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert drawn.value == plain.value
    assert (drawn.low, drawn.high) == pytest.approx((plain.low, plain.high), abs=0.06)
    assert np.isnan(metrics.correlation(a, np.zeros(200)).value)


def test_association_is_0_without_and_1_with_a_relation() -> None:
    a = np.array(["x", "y"], object)[np.arange(100) % 2]
    b = np.array(["u", "v", "w"], object)[np.arange(100) % 2]
    assert metrics.association(a, b)[:2] == pytest.approx((1.0, 1.0))
    c = np.repeat(np.array(["u", "v"], object), 50)
    v, information, p = metrics.association(a, c)
    assert v == pytest.approx(0.0, abs=1e-9)
    assert information == pytest.approx(0.0, abs=1e-9)
    assert p == pytest.approx(1.0)


def test_an_undefined_figure_covers_chance() -> None:
    assert Figure(0.6, np.nan, np.nan, 0.5).covers_chance
    assert Figure(0.6, 0.4, 0.7, 0.5).covers_chance
    assert not Figure(0.6, 0.55, 0.7, 0.5).covers_chance
