"""TravelingSubject against its KKT system and against simulated truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from offline.atlas import Atlas
from offline.errors import AtlasError, DesignError, HarmonizeError, UnseenSiteError
from offline.harmonize import TravelingSubject, inputs
from offline.harmonize.ridge import PENALTIES
from offline.store import EdgeStore
from offline.synthetic import SyntheticCohort, traveling_cohort
from tests.offline.harmonize import traveling_oracle as oracle


@pytest.fixture(scope="module")
def small() -> SyntheticCohort:
    """Four sites, three travelers, two disorders; 85 scans."""
    return traveling_cohort(
        n_edges=21,
        n_travelers=3,
        scans_per_visit=2,
        controls=(12, 9, 8, 7),
        patients={"MDD": {0: 8, 1: 6}, "ASD": {2: 6, 3: 5}},
    )


@pytest.fixture(scope="module")
def large() -> SyntheticCohort:
    return traveling_cohort(0.035, n_edges=400, seed=3)


def given(cohort: SyntheticCohort) -> tuple[Any, ...]:
    return cohort.X, cohort.site, cohort.traveler, cohort.diagnosis


# --- the published system ---------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.3, 6.0, 200.0])
def test_joint_equals_the_kkt_system(small: SyntheticCohort, penalty: float) -> None:
    X, *labels = given(small)
    D, A, names = oracle.design(*labels)
    expected, dof, _ = oracle.solve(D, A, X, penalty)
    model = TravelingSubject(penalty).fit(*given(small))
    places = [k for k, (name, _) in enumerate(names) if name == "site"]
    np.testing.assert_allclose(model.measurement_bias_, expected[places], rtol=0, atol=1e-12)
    people = [k for k, (name, _) in enumerate(names) if name == "participant"]
    np.testing.assert_allclose(model.participant_, expected[people], rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.constant_, expected[-1], rtol=0, atol=1e-12)
    assert model.report_.dof == pytest.approx(dof, rel=1e-10)


def test_traveling_only_sees_travelers_alone(small: SyntheticCohort) -> None:
    X, sites, travelers, _ = given(small)
    rows = [k for k, t in enumerate(travelers) if t is not None]
    D, A, names = oracle.design(sites[rows], travelers[rows], [None] * len(rows))
    expected, *_ = oracle.solve(D, A, X[rows], 2.0)
    changed = X.copy()
    changed[travelers == None] = 7.0  # noqa: E711 (element by element)
    model = TravelingSubject(2.0, "traveling_only").fit(changed, sites, travelers)
    places = [k for k, (name, _) in enumerate(names) if name == "site"]
    np.testing.assert_allclose(model.measurement_bias_, expected[places], rtol=0, atol=1e-12)


def test_penalty_zero_is_least_squares(small: SyntheticCohort) -> None:
    X, *labels = given(small)
    D, A, names = oracle.design(*labels)
    # the constrained least squares solution, by elimination of the constraints
    free = np.linalg.svd(A)[2][len(A) :].T
    expected = free @ np.linalg.lstsq(D @ free, X, rcond=None)[0]
    model = TravelingSubject(0.0).fit(*given(small))
    places = [k for k, (name, _) in enumerate(names) if name == "site"]
    np.testing.assert_allclose(model.measurement_bias_, expected[places], rtol=0, atol=1e-10)


def test_gcv_takes_the_least_total_score(small: SyntheticCohort) -> None:
    X, *labels = given(small)
    D, A, _ = oracle.design(*labels)
    scores = []
    for penalty in PENALTIES[::8]:
        _, dof, squares = oracle.solve(D, A, X, penalty)
        scores.append(squares.sum() / (1 - dof / len(X)) ** 2)
    chosen = TravelingSubject().fit(*given(small)).penalty_
    best = PENALTIES[::8][int(np.argmin(scores))]
    assert 0.6 < chosen / best < 1.7  # the coarse grid has steps of 58 %
    _, dof, squares = oracle.solve(D, A, X, chosen)
    assert squares.sum() / (1 - dof / len(X)) ** 2 <= min(scores) * (1 + 1e-12)


def test_biases_sum_to_zero(small: SyntheticCohort) -> None:
    model = TravelingSubject().fit(*given(small))
    np.testing.assert_allclose(model.measurement_bias_.sum(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(model.participant_.sum(axis=0), 0.0, atol=1e-12)


def test_only_the_measurement_bias_is_removed(small: SyntheticCohort) -> None:
    model = TravelingSubject().fit(*given(small))
    place = [model.sites_.index(site) for site in small.site]
    expected = small.X - model.measurement_bias_[place]
    np.testing.assert_allclose(model.transform(small.X, small.site), expected, atol=1e-15)


def test_without_a_diagnosis_residents_are_one_population(small: SyntheticCohort) -> None:
    X, sites, travelers, dx = given(small)
    model = TravelingSubject(3.0).fit(X, sites, travelers)
    same = np.where(dx == dx, "control", dx)
    assert model.covariate_names_ == ()
    np.testing.assert_allclose(
        model.measurement_bias_,
        TravelingSubject(3.0).fit(X, sites, travelers, same).measurement_bias_,
    )


# --- truth ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling_sd", [0.0, 0.07])
@pytest.mark.parametrize("estimator", ["joint", "traveling_only"])
def test_errors_are_as_large_as_the_standard_error_says(sampling_sd: float, estimator: Any) -> None:
    cohort = traveling_cohort(sampling_sd, n_edges=300, seed=1)
    model = TravelingSubject(estimator=estimator).fit(*given(cohort))
    z = (model.measurement_bias_ - cohort.measurement_bias) / model.standard_error_
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.08)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("sampling_sd", "regime"),
    [(0.0, "measurement bias dominates"), (0.035, "both of a size"), (0.07, "sampling bias dom")],
)
def test_the_ratio_of_biases_and_its_regime(sampling_sd: float, regime: str) -> None:
    cohort = traveling_cohort(sampling_sd, n_edges=400, seed=2)
    report = TravelingSubject().fit(*given(cohort)).report_
    assert report.measurement_sd == pytest.approx(0.04, rel=0.05)
    assert report.sampling_sd == pytest.approx(sampling_sd, abs=0.006)
    assert report.regime.startswith(regime)
    assert report.noise_sd["travelers"] == pytest.approx(0.09, rel=0.05)
    assert report.noise_sd["residents"] == pytest.approx(np.hypot(0.1, 0.09), rel=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_no_regime(seed: int) -> None:
    """Where neither bias is there, their ratio is one of two noises."""
    cohort = traveling_cohort(0.0, n_edges=400, seed=seed)
    X, sites, *others = given(cohort)
    unbiased = X - cohort.measurement_bias[np.searchsorted(sorted(set(sites)), sites)]
    report = TravelingSubject(3.0).fit(unbiased, sites, *others).report_
    assert "no measurement bias was found" in report.regime


def test_no_regime_without_measurement_bias() -> None:
    cohort = traveling_cohort(0.0, n_edges=400, seed=0)
    X, sites, *others = given(cohort)
    unbiased = X - cohort.measurement_bias[np.searchsorted(sorted(set(sites)), sites)]
    report = TravelingSubject(3.0).fit(unbiased, sites, *others).report_
    assert report.measurement_sd == 0.0
    assert np.isnan(report.ratio)
    assert "no measurement bias was found" in report.regime
    alone = TravelingSubject(estimator="traveling_only").fit(*given(cohort)).report_
    assert "only the joint estimator" in alone.regime


def test_cross_validation_comes_near_the_oracle(large: SyntheticCohort) -> None:
    def left(penalty: Any) -> float:
        bias = TravelingSubject(penalty).fit(*given(large)).measurement_bias_
        return float((bias - large.measurement_bias).std(axis=1).mean())

    oracle_left = min(left(penalty) for penalty in np.logspace(-1, 2, 13))
    assert left("gcv") <= 1.05 * oracle_left
    raw = large.measurement_bias.std(axis=1).mean()
    assert oracle_left < 0.45 * raw


# --- arrays and stores ------------------------------------------------------------------------


def test_store_array_and_order_give_the_same(small: SyntheticCohort, tmp_path: Path) -> None:
    X, *labels = given(small)
    atlas = Atlas("seven", tuple("ABCDEFG"))
    narrow = X.astype(np.float32)
    store = EdgeStore.from_array(tmp_path / "x", narrow, atlas)
    out = EdgeStore.create(tmp_path / "y", len(X), atlas)
    expected = TravelingSubject().fit(narrow.astype(np.float64), *labels)
    for form in (narrow, np.asfortranarray(narrow), store):
        model = TravelingSubject().fit(form, *labels)
        np.testing.assert_allclose(model.measurement_bias_, expected.measurement_bias_, atol=1e-13)
    model.transform(store, labels[0], out=out)
    harmonized = expected.transform(narrow, labels[0])
    np.testing.assert_allclose(out.read(slice(None)), harmonized, atol=1e-7)
    other = EdgeStore.from_array(tmp_path / "z", narrow, Atlas("turned", tuple("GFEDCBA")))
    with pytest.raises(AtlasError, match="expected atlas seven"):
        model.transform(other, labels[0])


def test_blocks_and_the_order_of_scans_change_nothing(
    large: SyntheticCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TravelingSubject().fit(*given(large))
    monkeypatch.setattr(inputs, "INNER_VALUES", 1)
    order = np.random.default_rng(0).permutation(len(large.X))
    parts = TravelingSubject().fit(*(values[order] for values in given(large)))
    assert parts.penalty_ == whole.penalty_
    np.testing.assert_allclose(parts.measurement_bias_, whole.measurement_bias_, atol=1e-12)
    np.testing.assert_allclose(parts.standard_error_, whole.standard_error_, rtol=1e-9)


def test_in_place(small: SyntheticCohort) -> None:
    model = TravelingSubject().fit(*given(small))
    expected = model.transform(small.X, small.site)
    own = small.X.copy()
    assert model.transform(own, small.site, out=own) is own
    assert np.array_equal(own, expected)


def test_a_constant_edge_is_left_alone(small: SyntheticCohort) -> None:
    X, *labels = given(small)
    wide = np.insert(X, 2, 0.7, axis=1)
    model = TravelingSubject().fit(wide, *labels)
    assert model.constant_edges_.tolist() == [2]
    assert np.array_equal(model.transform(wide, labels[0])[:, 2], wide[:, 2])
    assert not model.standard_error_[:, 2].any()
    without = TravelingSubject().fit(X, *labels)
    assert model.penalty_ == without.penalty_
    np.testing.assert_allclose(
        np.delete(model.measurement_bias_, 2, axis=1), without.measurement_bias_, atol=1e-13
    )


def test_is_an_estimator() -> None:
    model = TravelingSubject(penalty=4.0, estimator="traveling_only", measurement_factors=("coil",))
    assert clone(model).get_params() == model.get_params()
    assert not [name for name in vars(model) if name.endswith("_")]


# --- factors ----------------------------------------------------------------------------------


def test_a_measurement_factor_is_removed_and_another_kept(small: SyntheticCohort) -> None:
    rng = np.random.default_rng(0)
    n = len(small.X)
    table = pd.DataFrame(
        {"phase_encoding": rng.choice(["AP", "PA"], n), "age": rng.integers(20, 70, n) * 1.0}
    )
    reverse, slope = rng.normal(0, 0.2, 21), rng.normal(0, 0.004, 21)
    X = small.X + np.where(table.phase_encoding == "AP", 0.5, -0.5)[:, None] * reverse
    X += (table.age.to_numpy() - table.age.mean())[:, None] * slope
    model = TravelingSubject(0.01, measurement_factors=("phase_encoding",))
    model.fit(X, *given(small)[1:], factors=table)
    bias = model.factor_bias_["phase_encoding"]
    assert model.factor_levels_ == {"phase_encoding": ["AP", "PA"]}
    assert np.corrcoef(bias[0] - bias[1], reverse)[0, 1] > 0.97
    np.testing.assert_allclose(bias.sum(axis=0), 0.0, atol=1e-12)
    found = model.transform(X, small.site, factors=table)
    place = [model.sites_.index(site) for site in small.site]
    level = (table.phase_encoding == "PA").astype(int)
    np.testing.assert_allclose(found, X - model.measurement_bias_[place] - bias[level], atol=1e-14)
    assert model.covariate_names_ == ("diagnosis", "phase_encoding", "age")
    with pytest.raises(HarmonizeError, match="measurement factor phase_encoding"):
        model.transform(X, small.site)
    with pytest.raises(HarmonizeError, match=r"levels of phase_encoding .*\(AP, PA\), found LR"):
        model.transform(X, small.site, factors=table.assign(phase_encoding="LR"))


def test_a_measurement_factor_of_numbers(small: SyntheticCohort) -> None:
    tr = np.random.default_rng(1).choice([0.8, 1.2, 2.0], len(small.X))
    slope = np.random.default_rng(0).normal(0, 0.3, 21)
    X = small.X + (tr - tr.mean())[:, None] * slope
    table = pd.DataFrame({"tr": tr})
    model = TravelingSubject(0.01, measurement_factors=("tr",))
    found = model.fit_transform(X, *given(small)[1:], factors=table)
    left = found - TravelingSubject(0.01).fit_transform(*given(small))
    assert np.std(left) < 0.35 * np.std(X - small.X)
    with pytest.raises(HarmonizeError, match="each of 85 scans in factor tr, found 84"):
        model.transform(X, small.site, factors=table.assign(tr=[np.nan, *tr[1:]]))


def test_a_factor_nested_in_sites_is_said(small: SyntheticCohort) -> None:
    table = pd.DataFrame({"maker": np.where(small.site == "S01", "G", "S")})
    model = TravelingSubject(1.0).fit(*given(small), factors=table)
    assert any("decided by the penalty alone" in note for note in model.report_.notes)
    with pytest.raises(DesignError, match="at penalty 0, found 1 direction"):
        TravelingSubject(0.0).fit(*given(small), factors=table)


@pytest.mark.parametrize(
    ("table", "wanted", "message"),
    [
        ({"coil": "32"}, (), "factor coil to differ between scans"),
        ({"site": "x"}, (), "besides those of the model, found 'site'"),
        (
            {"coil": ["a", "b"] * 42 + ["a"]},
            ("gradient",),
            "among the columns coil, found gradient",
        ),
        ({"age": [np.nan] + [30.0, 40.0] * 42}, (), "a number for each of 85 scans"),
    ],
)
def test_factors_of_no_use(small: SyntheticCohort, table: Any, wanted: Any, message: str) -> None:
    factors = pd.DataFrame(table, index=range(len(small.X)))
    with pytest.raises(HarmonizeError, match=message):
        TravelingSubject(measurement_factors=wanted).fit(*given(small), factors=factors)


# --- designs that do not do -------------------------------------------------------------------


def only(cohort: SyntheticCohort, visits: dict[str, list[str]]) -> np.ndarray:
    """Scans of residents, and of travelers at these sites alone."""
    return np.array(
        [
            k
            for k, (t, s) in enumerate(zip(cohort.traveler, cohort.site, strict=True))
            if t is None or s in visits.get(t, [])
        ]
    )


def test_an_incomplete_design_is_enough_if_it_connects(small: SyntheticCohort) -> None:
    rows = only(small, {"T00": ["S01", "S02"], "T01": ["S02", "S03"], "T02": ["S03", "S04"]})
    model = TravelingSubject().fit(*(values[rows] for values in given(small)))
    assert model.report_.parts == [["S01", "S02", "S03", "S04"]]
    assert np.isfinite(model.measurement_bias_).all()


def test_parts_of_a_disconnected_design_are_named(small: SyntheticCohort) -> None:
    rows = only(small, {"T00": ["S01", "S03"], "T01": ["S02", "S04"], "T02": ["S02"]})
    with pytest.raises(DesignError, match=r"found 2 parts: S01, S03 \| S02, S04"):
        TravelingSubject().fit(*(values[rows] for values in given(small)))


@pytest.mark.parametrize("estimator", ["joint", "traveling_only"])
def test_a_site_without_travelers_is_named(small: SyntheticCohort, estimator: Any) -> None:
    rows = only(small, {t: ["S01", "S02", "S03"] for t in ("T00", "T01", "T02")})
    with pytest.raises(DesignError, match="found none at S04"):
        TravelingSubject(estimator=estimator).fit(*(values[rows] for values in given(small)))


def test_a_site_of_travelers_alone_and_one_of_one_resident(small: SyntheticCohort) -> None:
    resident = np.array([t is None for t in small.traveler])
    first = np.flatnonzero(resident & (small.site == "S02"))[1:]
    drop = np.isin(np.arange(len(small.X)), first) | (resident & (small.site == "S01"))
    notes = TravelingSubject().fit(*(v[~drop] for v in given(small))).report_.notes
    assert "only travelers were scanned at S01" in notes
    assert any(note.startswith("one resident alone at S02") for note in notes)


def test_diagnosis_confounded_with_site_is_said_loudly(small: SyntheticCohort) -> None:
    X, sites, travelers, dx = given(small)
    dx = np.where(sites == "S01", "MDD", "control")
    model = TravelingSubject().fit(X, sites, travelers, dx)
    text = "\n".join(model.report_.lines())
    assert "NOTE: no controls at S01" in text
    assert "diagnosis MDD CONFOUNDED WITH SITE S01" in text
    assert "every site has residents of one diagnosis alone" in text
    assert np.isfinite(model.measurement_bias_).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, s, t, d: (X, s, t, np.where(d == "control", "HC", d)), "diagnosed 'control'"),
        (lambda X, s, t, d: (X, s, t, np.where(d == "MDD", None, d)), "diagnosis for every resid"),
        (lambda X, s, t, d: (X, s, [None] * len(s), d), "found none at S01, S02, S03, S04"),
        (lambda X, s, t, d: (X[:4], ["S01"] * 4, ["a"] * 4, None), "at least two sites"),
        (lambda X, s, t, d: (X, s[:-1], t, d), r"sites of shape \(85,\), found \(84,\)"),
        (lambda X, s, t, d: (X[0], s, t, d), r"shape \(n_scans, n_edges\)"),
        (lambda X, s, t, d: (X.astype(str), s, t, d), "real numbers"),
    ],
)
def test_labels_that_do_not_do(small: SyntheticCohort, change: Any, message: str) -> None:
    with pytest.raises(HarmonizeError, match=message):
        TravelingSubject().fit(*change(*given(small)))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("estimator", ["joint", "traveling_only"])
def test_a_value_that_is_not_finite_is_named(
    small: SyntheticCohort, value: float, estimator: Any
) -> None:
    X, *labels = given(small)
    broken = X.copy()
    broken[3, 5] = value
    with pytest.raises(HarmonizeError, match="first: scan 3, edge 5"):
        TravelingSubject(estimator=estimator).fit(broken, *labels)
    model = TravelingSubject().fit(X, *labels)
    with pytest.raises(HarmonizeError, match="first: scan 3, edge 5"):
        model.transform(broken, labels[0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"penalty": -1.0}, "penalty >= 0, found -1"),
        ({"penalty": "cv"}, "penalty gcv or a number"),
        ({"estimator": "both"}, "joint or traveling_only"),
    ],
)
def test_parameters(small: SyntheticCohort, parameters: Any, message: str) -> None:
    with pytest.raises(HarmonizeError, match=message):
        TravelingSubject(**parameters).fit(*given(small))


# --- sites not seen ---------------------------------------------------------------------------


def apart(cohort: SyntheticCohort, site: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows elsewhere, and rows of travelers there."""
    travels = np.array([t is not None for t in cohort.traveler])
    return cohort.site != site, travels & (cohort.site == site)


def test_an_unseen_site(small: SyntheticCohort) -> None:
    rest, _ = apart(small, "S04")
    model = TravelingSubject().fit(*(values[rest] for values in given(small)))
    with pytest.raises(UnseenSiteError, match=r"\(S01, S02, S03\), found S04; extend the model"):
        model.transform(small.X, small.site)


def test_extend_by_known_travelers(large: SyntheticCohort) -> None:
    rest, there = apart(large, "S05")
    model = TravelingSubject().fit(*(values[rest] for values in given(large)))
    known = model.measurement_bias_.copy()
    model.extend(large.X[there], large.site[there], large.traveler[there])
    assert model.sites_[-1] == "S05"
    assert np.array_equal(model.measurement_bias_[:-1], known)
    assert not model.transductive_
    # against the fitted sites, whose biases sum to zero
    truth = large.measurement_bias[4] - np.delete(large.measurement_bias, 4, axis=0).mean(axis=0)
    z = (model.measurement_bias_[-1] - truth) / model.standard_error_[-1]
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.25)
    assert np.std(model.measurement_bias_[-1] - truth) < 0.7 * np.std(truth)
    assert model.transform(large.X, large.site).shape == large.X.shape


def test_extend_by_new_travelers_who_were_at_a_known_site(large: SyntheticCohort) -> None:
    rest, _ = apart(large, "S05")
    old = large.traveler == "T00"
    fit = rest & ~old
    model = TravelingSubject().fit(*(values[fit] for values in given(large)))
    new = old & np.isin(large.site, ["S05", "S01", "S02"])
    lost = old & (large.site == "S05")
    with pytest.raises(DesignError, match=r"1 part\(s\) without: S05"):
        clone_fitted(model).extend(large.X[lost], large.site[lost], large.traveler[lost])
    model.extend(large.X[new], large.site[new], large.traveler[new])
    truth = large.measurement_bias[4] - np.delete(large.measurement_bias, 4, axis=0).mean(axis=0)
    assert np.corrcoef(model.measurement_bias_[-1], truth)[0, 1] > 0.4
    assert np.mean(model.standard_error_[-1]) > np.mean(model.standard_error_[:-1])


def clone_fitted(model: TravelingSubject) -> TravelingSubject:
    import copy

    return copy.deepcopy(model)


def test_extend_refuses_residents_and_known_sites(small: SyntheticCohort) -> None:
    rest, there = apart(small, "S04")
    model = TravelingSubject().fit(*(values[rest] for values in given(small)))
    with pytest.raises(HarmonizeError, match="traveling subjects only"):
        model.extend(small.X[there], small.site[there], [None] * there.sum())
    known = rest & np.array([t is not None for t in small.traveler])
    with pytest.raises(HarmonizeError, match="a new site, found S01, S02, S03, all known"):
        model.extend(small.X[known], small.site[known], small.traveler[known])


def test_reference_controls_are_flagged_and_take_sampling_for_measurement() -> None:
    cohort = traveling_cohort(0.07, n_edges=400, seed=4)
    rest, _ = apart(cohort, "S02")
    controls = (cohort.site == "S02") & (cohort.diagnosis == "control")
    controls &= np.array([t is None for t in cohort.traveler])
    model = TravelingSubject().fit(*(values[rest] for values in given(cohort)))
    model.reference_controls(cohort.X[controls], cohort.site[controls])
    assert model.transductive_
    assert any(note.startswith("TRANSDUCTIVE") for note in model.report_.notes)
    both = cohort.measurement_bias[1] + cohort.sampling_bias["control"][1]
    found = model.measurement_bias_[-1]
    assert np.corrcoef(found, both)[0, 1] > np.corrcoef(found, cohort.measurement_bias[1])[0, 1]
    z = (found - cohort.measurement_bias[1]) / model.standard_error_[-1]
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.25)


def test_reference_controls_need_the_joint_estimator_and_new_sites(small: SyntheticCohort) -> None:
    X, sites, travelers, dx = given(small)
    alone = TravelingSubject(estimator="traveling_only").fit(X, sites, travelers)
    with pytest.raises(HarmonizeError, match="the joint estimator"):
        alone.reference_controls(X[:3], ["new"] * 3)
    with pytest.raises(HarmonizeError, match="new sites only, found S01"):
        TravelingSubject().fit(X, sites, travelers, dx).reference_controls(X[:3], ["S01"] * 3)
