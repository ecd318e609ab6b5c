"""ComBat against a slow oracle written from the papers, and what it refuses. Simulated data."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from offline.atlas import Atlas
from offline.errors import AtlasError, DesignError, HarmonizeError, UnseenSiteError
from offline.harmonize import ComBat, inputs
from offline.store import EdgeStore
from tests.offline.harmonize.combat_oracle import combat

SITES = ("a", "b", "c")
N_ROIS = 7
N_EDGES = N_ROIS * (N_ROIS - 1) // 2
ATLAS = Atlas("seven", tuple("ABCDEFG"))


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    rng = np.random.default_rng(0)
    X = rng.normal(0.3, 0.2, (30, N_EDGES))
    X[sites() == "b"] += rng.normal(0.0, 0.2, N_EDGES)
    X[sites() == "c"] *= 1.5
    return X


def sites() -> np.ndarray:
    return np.array(np.random.default_rng(1).permutation(["a"] * 12 + ["b"] * 8 + ["c"] * 10))


def people() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {"age": rng.integers(20, 60, 30).astype(float), "sex": rng.choice(["F", "M", "X"], 30)}
    )


def columns(table: pd.DataFrame) -> np.ndarray:
    return np.column_stack([table.age, table.sex == "M", table.sex == "X"]).astype(float)


OPTIONS = list(
    itertools.product([(True, True), (False, True), (True, False)], [False, True], [None, "b"])
)


# --- the published equations ------------------------------------------------------------------


@pytest.mark.parametrize(("bayes", "mean_only", "reference"), OPTIONS)
@pytest.mark.parametrize("kept", [False, True])
def test_equals_the_papers_equations(
    X: np.ndarray, bayes: tuple[bool, bool], mean_only: bool, reference: str | None, kept: bool
) -> None:
    parametric, empirical = bayes
    table = people() if kept else None
    found = ComBat(parametric, empirical, mean_only, reference).fit_transform(X, sites(), table)
    expected = combat(
        X,
        sites(),
        columns(people()) if kept else None,
        parametric=parametric,
        empirical_bayes=empirical,
        mean_only=mean_only,
        reference=reference,
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_large_mean_costs_no_digits(X: np.ndarray) -> None:
    """Sums of squares are taken about each site's mean."""
    near = ComBat().fit_transform(X, sites(), people())
    far = ComBat().fit_transform(X + 1e4, sites(), people())
    np.testing.assert_allclose(far - 1e4, near, rtol=0, atol=1e-9)


def test_the_reference_site_is_left_as_it_is(X: np.ndarray) -> None:
    found = ComBat(reference_site="c").fit_transform(X, sites(), people())
    assert np.array_equal(found[sites() == "c"], X[sites() == "c"])
    assert not np.allclose(found[sites() == "a"], X[sites() == "a"])


def test_without_bayes_sites_have_one_mean_and_variance(X: np.ndarray) -> None:
    found = ComBat(empirical_bayes=False).fit_transform(X, sites())
    means = [found[sites() == s].mean(axis=0) for s in SITES]
    variances = [found[sites() == s].var(axis=0, ddof=1) for s in SITES]
    np.testing.assert_allclose(means[0], means[1], atol=1e-12)
    np.testing.assert_allclose(variances[0], variances[2], atol=1e-12)


def test_a_large_site_does_not_underflow() -> None:
    """The likelihood of 3,000 scans is below the smallest float64."""
    rng = np.random.default_rng(0)
    X = rng.normal(0.3, 0.2, (3100, 6))
    where = np.repeat(["a", "b"], [3000, 100])
    found = ComBat(parametric=False).fit_transform(X, where)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, X, atol=0.2)


# --- invariances ------------------------------------------------------------------------------


def test_scans_may_come_in_any_order(X: np.ndarray) -> None:
    order = np.random.default_rng(3).permutation(30)
    found = ComBat().fit_transform(X, sites(), people())
    other = ComBat().fit_transform(X[order], sites()[order], people().iloc[order])
    np.testing.assert_allclose(other, found[order], atol=1e-13)


def test_the_level_that_is_the_reference_changes_nothing(X: np.ndarray) -> None:
    table = people()
    found = ComBat().fit_transform(X, sites(), table)
    table["sex"] = pd.Categorical(table["sex"], categories=["X", "M", "F"])
    other = ComBat().fit_transform(X, sites(), table)
    np.testing.assert_allclose(other, found, atol=1e-12)


def test_covariates_may_come_in_any_order_and_unit(X: np.ndarray) -> None:
    found = ComBat().fit_transform(X, sites(), people())
    table = people()[["sex", "age"]]
    table["age"] = 365.25 * table["age"] - 1e4
    np.testing.assert_allclose(ComBat().fit_transform(X, sites(), table), found, atol=1e-11)


def test_blocks_of_any_width_give_the_same(X: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = np.hstack([X, X * 0.9 + 0.1 * np.random.default_rng(5).normal(size=X.shape)] * 3)
    whole = ComBat().fit_transform(wide, sites(), people())
    monkeypatch.setattr(inputs, "INNER_VALUES", 1)
    parts = ComBat().fit_transform(wide, sites(), people())
    assert wide.shape[1] > 32  # several blocks
    np.testing.assert_allclose(parts, whole, atol=1e-14)


# --- new scans, dtypes, stores ----------------------------------------------------------------


def test_new_scans_of_known_sites(X: np.ndarray) -> None:
    """What a scan becomes does not depend on the others it comes with."""
    model = ComBat().fit(X, sites(), people())
    whole = model.transform(X, sites(), people())
    np.testing.assert_allclose(whole, ComBat().fit_transform(X, sites(), people()))
    few = [3, 28, 11]
    some = model.transform(X[few], sites()[few], people().iloc[few])
    np.testing.assert_allclose(some, whole[few], atol=1e-14)


@pytest.mark.parametrize("order", ["C", "F"])
def test_float32_is_computed_in_float64(X: np.ndarray, order: Any) -> None:
    narrow = np.asarray(X, np.float32, order=order)
    found = ComBat().fit_transform(narrow, sites(), people())
    expected = ComBat().fit_transform(narrow.astype(np.float64), sites(), people())
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_in_place(X: np.ndarray) -> None:
    expected = ComBat().fit_transform(X, sites())
    own = X.copy()
    assert ComBat().fit_transform(own, sites(), out=own) is own
    assert np.array_equal(own, expected)


def test_from_store_to_store(X: np.ndarray, tmp_path: Path) -> None:
    narrow = X.astype(np.float32)
    source = EdgeStore.from_array(tmp_path / "source", narrow, ATLAS)
    target = EdgeStore.create(tmp_path / "target", 30, ATLAS)
    model = ComBat().fit(source, sites(), people())
    model.transform(source, sites(), people(), out=target)
    expected = ComBat().fit_transform(narrow, sites(), people())
    assert np.array_equal(target.read(slice(None)), expected.astype(np.float32))
    assert model.atlas_["digest"] == ATLAS.digest


def test_an_out_of_another_shape_is_refused(X: np.ndarray) -> None:
    with pytest.raises(HarmonizeError, match=r"expected out of shape \(30, 21\)"):
        ComBat().fit_transform(X, sites(), out=np.empty((30, 20)))


def test_is_an_estimator() -> None:
    model = ComBat(parametric=False, reference_site="b")
    assert clone(model).get_params() == model.get_params()
    assert not [name for name in vars(model) if name.endswith("_")]


# --- constant edges ---------------------------------------------------------------------------


def test_a_constant_edge_stays_and_takes_no_part(X: np.ndarray) -> None:
    wide = np.insert(X, 4, 0.1, axis=1)
    model = ComBat().fit(wide, sites(), people())
    found = model.transform(wide, sites(), people())
    assert model.constant_edges_.tolist() == [4]
    assert np.array_equal(found[:, 4], wide[:, 4])
    expected = ComBat().fit_transform(X, sites(), people())
    np.testing.assert_allclose(np.delete(found, 4, axis=1), expected, atol=1e-14)


def test_an_edge_constant_at_one_site_is_refused(X: np.ndarray) -> None:
    X = X.copy()
    X[sites() == "b", 5] = 0.2
    with pytest.raises(HarmonizeError, match=r"1 constant at b \(first: edge 5\)"):
        ComBat().fit(X, sites())
    assert np.isfinite(ComBat(mean_only=True).fit_transform(X, sites())).all()


def test_an_edge_that_sites_determine_is_refused(X: np.ndarray) -> None:
    X = X.copy()
    X[:, 2] = np.where(sites() == "a", 0.1, 0.7)
    with pytest.raises(HarmonizeError, match="vary within sites, found 1 that do not"):
        ComBat().fit(X, sites())


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("step", ["fit", "transform"])
def test_a_value_that_is_not_finite_is_named(X: np.ndarray, value: float, step: str) -> None:
    broken = X.copy()
    broken[7, 3] = value
    with pytest.raises(HarmonizeError, match=r"first: scan 7, edge 3"):
        if step == "fit":
            ComBat().fit(broken, sites())
        else:
            ComBat().fit(X, sites()).transform(broken, sites())


def test_one_site_alone(X: np.ndarray) -> None:
    with pytest.raises(DesignError, match="at least two sites, found a alone"):
        ComBat().fit(X, ["a"] * 30)


def test_a_site_of_one_scan(X: np.ndarray) -> None:
    where = np.array(["a"] * 15 + ["b"] * 14 + ["single"])
    with pytest.raises(DesignError, match="found one at single"):
        ComBat().fit(X, where)
    assert np.isfinite(ComBat(mean_only=True).fit_transform(X, where)).all()


def test_a_scan_without_site(X: np.ndarray) -> None:
    where = sites().astype(object)
    where[4] = None
    with pytest.raises(HarmonizeError, match=r"found none for 1 \(first: scan 4\)"):
        ComBat().fit(X, where)


def test_an_unseen_site(X: np.ndarray) -> None:
    model = ComBat().fit(X, sites())
    with pytest.raises(UnseenSiteError, match=r"fitted with \(a, b, c\), found d"):
        model.transform(X[:2], ["a", "d"])


def test_a_reference_site_that_is_not_there(X: np.ndarray) -> None:
    with pytest.raises(HarmonizeError, match="reference site among a, b, c, found 'd'"):
        ComBat(reference_site="d").fit(X, sites())


def test_one_edge_has_no_others_to_learn_from(X: np.ndarray) -> None:
    with pytest.raises(HarmonizeError, match="at least two edges that vary, found 1"):
        ComBat().fit(X[:, :1], sites())
    assert ComBat(empirical_bayes=False).fit_transform(X[:, :1], sites()).shape == (30, 1)


def test_other_edges_or_another_atlas(X: np.ndarray, tmp_path: Path) -> None:
    store = EdgeStore.from_array(tmp_path / "x", X, ATLAS)
    model = ComBat().fit(store, sites())
    with pytest.raises(AtlasError, match="expected the 21 edges"):
        model.transform(X[:, :20], sites())
    turned = EdgeStore.from_array(tmp_path / "y", X, Atlas("turned", tuple("GFEDCBA")))
    with pytest.raises(AtlasError, match="expected atlas seven"):
        model.transform(turned, sites())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(sex=["Q", *t.sex[1:]]), r"levels of sex .*found Q"),
        (lambda t: t.drop(columns="sex"), r"\(age, sex\), found age"),
        (lambda t: t.assign(iq=1.0), r"\(age, sex\), found age, sex, iq"),
        (
            lambda t: t.assign(age=[np.nan, *t.age[1:]]),
            r"age of every scan, found none for 1",
        ),
        (lambda t: t.assign(sex=[None, *t.sex[1:]]), r"sex of every scan, found none for 1"),
        (lambda t: t.iloc[:-1], "covariates of 30 scans, found 29 rows"),
        (lambda t: t.to_numpy(), r"pandas.DataFrame, found ndarray"),
        (lambda t: None, r"\(age, sex\), found none"),
    ],
)
def test_covariates_of_new_scans_that_do_not_fit(X: np.ndarray, change: Any, message: str) -> None:
    model = ComBat().fit(X, sites(), people())
    with pytest.raises(HarmonizeError, match=message):
        model.transform(X, sites(), change(people()))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"field": np.where(sites() == "a", 3.0, 1.5)}, "field to vary within sites.*confounded"),
        ({"maker": np.where(sites() == "b", "G", "S")}, "maker=S to vary within sites"),
        ({"months": 12.0 * people()["age"] + 1.0}, "months determined by site and age"),
        ({"hand": ["R"] * 30}, "hand to differ between scans, found R in all"),
        ({"bias": [2.0] * 30}, "bias to differ between scans"),
    ],
)
def test_covariates_that_sites_or_others_determine(
    X: np.ndarray, extra: dict[str, Any], message: str
) -> None:
    with pytest.raises(DesignError, match=message):
        ComBat().fit(X, sites(), people().assign(**extra))


def test_more_effects_than_scans(X: np.ndarray) -> None:
    few = [int(np.flatnonzero(sites() == s)[k]) for s in SITES for k in (0, 1)]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 3)), columns=list("xyz"))
    with pytest.raises(DesignError, match="more scans than sites and covariates, found 6 scans"):
        ComBat().fit(X[few], sites()[few], table)


# --- sites not seen ---------------------------------------------------------------------------


def test_reference_controls_put_a_new_site_where_the_others_are(X: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    shift = rng.normal(0.5, 0.2, N_EDGES)
    new = rng.normal(0.3, 0.4, (200, N_EDGES)) + shift
    model = ComBat(empirical_bayes=False).fit(X, sites())
    assert not model.transductive_
    before = model.transform(X, sites())
    model.reference_controls(new, ["d"] * 200)
    assert model.transductive_
    assert model.provenance_["transductive_sites"] == ["d"]
    assert model.sites_ == ("a", "b", "c", "d")
    np.testing.assert_allclose(
        model.transform(new, ["d"] * 200).mean(axis=0), before.mean(axis=0), atol=1e-12
    )
    assert np.array_equal(model.transform(X, sites()), before)


def test_reference_controls_refuse_known_sites(X: np.ndarray) -> None:
    model = ComBat().fit(X, sites())
    with pytest.raises(HarmonizeError, match="new sites only, found a"):
        model.reference_controls(X, sites())


def test_sites_may_be_numbers(X: np.ndarray) -> None:
    numbers = np.searchsorted(SITES, sites()) + 1
    found = ComBat(reference_site=2).fit_transform(X, numbers)  # type: ignore[arg-type]
    expected = ComBat(reference_site="b").fit_transform(X, sites())
    np.testing.assert_allclose(found, expected, atol=1e-14)
