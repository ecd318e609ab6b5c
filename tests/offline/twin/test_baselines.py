"""Baselines for people never seen: against closed forms, and against leakage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from offline.errors import TwinError
from offline.twin.baselines import Cpm, Demographics, GroupMap, KernelRidge
from offline.twin.intervals import compare, evaluate


def connectivity(n=80, n_edges=120, n_planted=10, r2=0.5, seed=0):
    """Simulated: some edges make up a share `r2` of the outcome's variance."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_edges)) * 0.2 + 0.3
    signal = X[:, :n_planted].sum(axis=1)
    signal = (signal - signal.mean()) / signal.std()
    y = 0.8 + 0.15 * (np.sqrt(r2) * signal + np.sqrt(1 - r2) * rng.standard_normal(n))
    return X, y


@pytest.mark.parametrize("kernel", ["linear", "correlation"])
def test_kernel_ridge_is_the_textbooks(kernel):
    """Centred kernel, penalised least squares with a free mean, solved the slow way."""
    X, y = connectivity(30, 50)
    model = KernelRidge(kernel).fit(X[:24], y[:24])
    Z = model._prepared(X)
    K = Z @ Z.T / model.scale_
    train = K[:24, :24]
    a = np.block([[train + model.alpha_ * np.eye(24), np.ones((24, 1))],
                  [np.ones((1, 24)), np.zeros((1, 1))]])  # fmt: skip
    solved = np.linalg.solve(a, np.append(y[:24], 0.0))
    expected = K[24:, :24] @ solved[:24] + solved[24]
    np.testing.assert_allclose(model.predict(X[24:]), expected, rtol=1e-8)


def test_kernel_ridges_penalty_has_the_least_leave_one_out_error():
    X, y = connectivity(24, 40, r2=0.3, seed=2)
    model = KernelRidge("linear").fit(X, y)

    def error(alpha):
        Z = model._prepared(X)
        K = Z @ Z.T / model.scale_
        left = []
        for k in range(len(y)):
            keep = np.arange(len(y)) != k
            own = K[np.ix_(keep, keep)]
            a = np.block([[own + alpha * np.eye(23), np.ones((23, 1))],
                          [np.ones((1, 23)), np.zeros((1, 1))]])  # fmt: skip
            solved = np.linalg.solve(a, np.append(y[keep], 0.0))
            left.append(y[k] - K[k, keep] @ solved[:23] - solved[23])
        return np.mean(np.square(left))

    grid = np.logspace(-3.0, 2.0, 16)
    errors = [error(alpha) for alpha in grid]
    assert model.alpha_ == pytest.approx(grid[int(np.argmin(errors))])


@pytest.mark.parametrize("kernel", ["quadratic", "rbf"])
def test_kernels_that_are_not_linear_are_what_they_are_called(kernel):
    X, y = connectivity(30, 40, r2=0.3, seed=2)
    model = KernelRidge(kernel).fit(X[:24], y[:24])
    Z = (X - X[:24].mean(axis=0)) / X[:24].std(axis=0)
    unit = np.mean(np.sum(Z[:24] ** 2, axis=1))
    if kernel == "quadratic":
        K = (Z @ Z.T / unit) ** 2
    else:
        distance = np.sum((Z[:, None] - Z[None]) ** 2, axis=2) / unit
        K = np.exp(-distance / (4.0 * model.width_**2))
    a = np.block([[K[:24, :24] + model.alpha_ * np.eye(24), np.ones((24, 1))],
                  [np.ones((1, 24)), np.zeros((1, 1))]])  # fmt: skip
    solved = np.linalg.solve(a, np.append(y[:24], 0.0))
    expected = K[24:, :24] @ solved[:24] + solved[24]
    np.testing.assert_allclose(model.predict(X[24:]), expected, rtol=1e-8)


def test_products_of_edges_are_found_by_the_quadratic_kernel_alone():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((600, 8))
    y = X[:, 0] * X[:, 1] + 0.3 * rng.standard_normal(600)
    told = {
        k: KernelRidge(k).fit(X[:500], y[:500]).predict(X[500:]) for k in ("linear", "quadratic")
    }
    assert np.corrcoef(told["quadratic"], y[500:])[0, 1] > 0.8
    assert abs(np.corrcoef(told["linear"], y[500:])[0, 1]) < 0.3


def test_an_edge_that_is_the_same_in_everybody_up_to_rounding_takes_no_part():
    X, y = connectivity(30, 40, r2=0.3, seed=2)
    constant = np.full((30, 1), 0.3)
    constant[:15] += 5e-17
    both = [KernelRidge("linear").fit(Z[:24], y[:24]) for Z in (X, np.hstack([X, constant]))]
    far = np.hstack([X[24:], np.full((6, 1), 0.9)])
    np.testing.assert_allclose(both[1].predict(far), both[0].predict(X[24:]), rtol=1e-9)


@pytest.mark.parametrize("model", [KernelRidge, Cpm])
def test_planted_edges_are_found_and_shuffled_ones_are_not(model):
    X, y = connectivity(500, 200, r2=0.6, seed=1)
    train = np.arange(500) < 400
    told = model().fit(X[train], y[train]).predict(X[~train])
    order = np.random.default_rng(0).permutation(400)
    null = model().fit(X[train][order], y[train]).predict(X[~train])
    gain = compare(y[~train], {"matched": told, "shuffled": null}, "matched", "shuffled")
    assert gain["r"].low > 0.0
    assert gain["rmse"].low > 0.0


def test_cpm_takes_the_edges_whose_test_says_so():
    from scipy import stats

    X, y = connectivity(60, 80)
    model = Cpm(0.05).fit(X, y)
    tests = [stats.pearsonr(X[:, k], y) for k in range(80)]
    chosen = np.array([test.pvalue < 0.05 for test in tests])
    sign = np.array([test.statistic > 0 for test in tests])
    np.testing.assert_array_equal(model.positive_, chosen & sign)
    np.testing.assert_array_equal(model.negative_, chosen & ~sign)


def test_cpm_without_an_edge_tells_the_mean():
    X, y = connectivity(40, 20, r2=0.0)
    model = Cpm(1e-12).fit(X, y)
    np.testing.assert_allclose(model.predict(X[:5] + 1.0), y.mean())


@pytest.mark.parametrize("model", [KernelRidge, Cpm])
def test_edges_that_are_missing_or_of_another_atlas_are_refused(model):
    X, y = connectivity(20, 30)
    holes = X.copy()
    holes[4, 7] = np.nan
    with pytest.raises(TwinError, match="row 4, edge 7"):
        model().fit(holes, y)
    fitted = model().fit(X, y)
    with pytest.raises(TwinError, match="the atlas that was learned"):
        fitted.predict(X[:, :29])
    with pytest.raises(TwinError, match="one finite outcome"):
        model().fit(X, np.append(y[:-1], np.nan))


def table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.uniform(20, 60, n),
            "sex": rng.choice(["F", "M"], n),
            "site": rng.choice(["1", "2"], n),
            "group": rng.choice(["Patient", "GenPop"], n),
        }
    )


def test_demographics_tell_what_they_determine():
    people = table()
    y = 0.5 + 0.01 * people["age"] + 0.05 * (people["sex"] == "M")
    model = Demographics().fit(people[:150], y[:150])
    told = model.predict(people[150:])
    assert np.corrcoef(told, y[150:])[0, 1] > 0.99


def test_without_age_people_are_told_as_of_mean_age():
    people = table()
    model = Demographics().fit(people, 0.5 + 0.01 * people["age"])
    mean = people[:2].assign(age=people["age"].mean())
    np.testing.assert_allclose(
        model.predict(people[:2].assign(age=np.nan)), model.predict(mean), rtol=1e-12
    )
    assert not np.allclose(model.predict(people[:2]), model.predict(mean))


def test_a_new_class_is_told_as_the_one_that_others_are_compared_with():
    people = table()
    model = Demographics().fit(people, 0.5 + 0.1 * (people["site"] == "2"))
    new, first, second = (model.predict(people[:2].assign(site=site)) for site in "912")
    np.testing.assert_array_equal(new, first)
    assert (second > first + 0.05).all()
    with pytest.raises(TwinError, match="found no group"):
        model.predict(people.drop(columns="group"))


def test_a_group_map_is_the_mean_of_those_who_have_it():
    maps = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]])
    model = GroupMap().fit(maps)
    np.testing.assert_array_equal(model.predict(2), [[2.0, 2.0, np.nan]] * 2)
    with pytest.raises(TwinError, match="expected maps"):
        GroupMap().fit(np.zeros(3))


# --- intervals --------------------------------------------------------------------------------


def test_figures_are_numpys():
    rng = np.random.default_rng(0)
    y = 0.8 + 0.1 * rng.standard_normal(50)
    told = y + 0.1 * rng.standard_normal(50)
    found = evaluate(y, {"a": told})["a"]
    assert found["r"].value == pytest.approx(np.corrcoef(y, told)[0, 1])
    assert found["rmse"].value == pytest.approx(np.sqrt(np.mean((y - told) ** 2)))
    assert found["r"].low < found["r"].value < found["r"].high


def test_a_paired_interval_is_narrower_and_covers():
    """Simulated: two predictors of equal worth whose errors are mostly shared."""
    covered, widths = 0, []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = rng.standard_normal(80)
        shared = y + rng.standard_normal(80)
        both = {name: shared + 0.2 * rng.standard_normal(80) for name in "ab"}
        gain = compare(y, both, "a", "b", n_draws=400)["rmse"]
        covered += gain.low <= 0.0 <= gain.high
        alone = evaluate(y, {"a": both["a"]}, n_draws=400)["a"]["rmse"]
        widths.append((gain.high - gain.low) / (alone.high - alone.low))
    assert covered >= 87
    assert np.median(widths) < 0.6


def test_a_better_predictor_is_told_so():
    rng = np.random.default_rng(1)
    y = rng.standard_normal(200)
    told = {"good": y + 0.3 * rng.standard_normal(200), "bad": rng.standard_normal(200)}
    gain = compare(y, told, "good", "bad")
    assert gain["r"].low > 0.0
    assert gain["rmse"].low > 0.0
    lost = compare(y, told, "bad", "good")
    assert lost["r"].value == -gain["r"].value


def test_a_constant_has_no_correlation():
    y = np.arange(10.0)
    found = evaluate(y, {"flat": np.full(10, 4.5)})["flat"]
    assert np.isnan(found["r"].value)
    assert np.isnan(found["r"].low)
    assert found["rmse"].value == pytest.approx(y.std())


def test_predictions_of_other_people_are_refused():
    with pytest.raises(TwinError, match="predict everyone"):
        evaluate(np.arange(5.0), {"a": np.arange(4.0)})
    with pytest.raises(TwinError, match="missing values"):
        evaluate(np.arange(5.0), {"a": np.full(5, np.nan)})
