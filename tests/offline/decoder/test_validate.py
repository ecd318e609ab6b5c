"""Judgement is nested, groups people, believes no site, and says what it could not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier

from offline.blocks import open_executor
from offline.decoder import ComponentClassifier, LassoEnsemble, confounds
from offline.decoder.confounds import predict_site
from offline.decoder.samples import Samples
from offline.decoder.validate import Validation, validate
from offline.errors import DecodeError, LeakageError
from offline.harmonize import ComBat, TravelingSubject
from offline.synthetic import SyntheticCohort, case_control, traveling_cohort

SMALL = LassoEnsemble(n_folds=3, n_undersamples=1, n_lambdas=5, n_inner_folds=3)
MODEL = LogisticRegression(C=0.1, max_iter=200)


def cohort(effect_edges: int = 4, seed: int = 0, **known: Any) -> SyntheticCohort:
    return case_control(
        known.pop("sizes", [40, 40, 40]),
        known.pop("prevalence", [0.3, 0.5, 0.7]),
        n_edges=40,
        n_effect_edges=effect_edges,
        effect=1.2,
        seed=seed,
        **known,
    )


def judged(
    c: SyntheticCohort, model: Any = MODEL, harmonizer: Any = None, **known: Any
) -> Validation:
    known = {"n_permutations": 0, "target": "diagnosis", "positive": "MDD", **known}
    return validate(c.X, c.diagnosis, c.people, model, harmonizer, **known)


class Spy(ClassifierMixin, BaseEstimator):
    """Keeps the sums of the rows it was fitted with and asked about."""

    seen: list[tuple[set[float], set[float]]]

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Spy:
        self.classes_ = np.unique(y)
        self.rows_ = set(X[:, 0].tolist())
        return self

    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        Spy.seen.append((self.rows_, set(X[:, 0].tolist())))
        return np.full((len(X), 2), 0.5)


@pytest.mark.parametrize("model", [MODEL, RidgeClassifier(), SMALL, ComponentClassifier(n_folds=3)])
def test_any_classifier_finds_a_planted_effect(model: Any) -> None:
    found = judged(cohort(), model, ComBat())
    assert found.headline == "AUC within sites"
    assert found.figures[found.headline].low > 0.55
    assert found.figures["AUC at sites left out"].low > 0.5
    assert found.classes == ("control", "MDD")
    assert len(found.outputs) == 120
    assert found.outputs["output"].between(0, 1).all()


def test_no_person_and_no_traveling_scan_is_on_both_sides() -> None:
    c = traveling_cohort(
        n_edges=30, n_travelers=3, controls=(15, 15), patients={"MDD": {0: 15, 1: 15}}
    )
    X, people = c.X.copy(), c.people.copy()
    X[:, 0] = np.arange(len(X))
    # residents' second scans
    residents = np.flatnonzero(~people["traveling"])
    X = np.vstack([X, X[residents]])
    people = pd.concat([people, people.iloc[residents]], ignore_index=True)
    X[len(c.X) :, 0] += 0.25
    Spy.seen = []
    y = people["diagnosis"].to_numpy(object)
    validate(X, y, people, Spy(), None, n_permutations=1, target="diagnosis", positive="MDD")
    person = dict(zip(X[:, 0].tolist(), people["participant"], strict=True))
    travels = set(X[people["traveling"].to_numpy(bool), 0].tolist())
    assert len(Spy.seen) >= 22
    for inside, outside in Spy.seen:
        assert not (inside | outside) & travels
        assert not {person[k] for k in inside} & {person[k] for k in outside}


class Remember(ComBat):
    """ComBat that keeps what it was fitted with and asked to transform."""

    fitted: list[set[float]]

    def fit(self, X: Any, sites: Any, covariates: Any = None) -> Any:
        Remember.fitted.append(set(np.asarray(X)[:, 0].tolist()))
        return super().fit(X, sites, covariates)


def test_a_harmonizer_never_sees_who_is_judged() -> None:
    c = cohort()
    c.X[:, 0] += np.arange(120) * 1e-9  # every row is known by its first edge
    Remember.fitted = []
    judged(c, MODEL, Remember())
    everyone = set(c.X[:, 0].tolist())
    assert len(Remember.fitted) == 10 + 3 + 5  # folds, sites left out, predict the site
    assert all(len(fitted) < len(everyone) for fitted in Remember.fitted)
    folds = [everyone - fitted for fitted in Remember.fitted[:10]]
    assert set().union(*folds) == everyone
    assert sum(map(len, folds)) == len(everyone)
    left = [everyone - fitted for fitted in Remember.fitted[10:13]]
    sites = c.people["site"].to_numpy()
    assert left == [set(c.X[sites == s, 0].tolist()) for s in sorted(set(sites))]


def test_prevalence_alone_raises_only_what_is_not_to_be_believed() -> None:
    within, pooled = [], []
    for seed in range(4):
        c = case_control([100] * 4, [0.15, 0.4, 0.6, 0.85], n_edges=100, seed=seed)
        found = judged(c, RidgeClassifier(alpha=10.0), leave_out=False)
        within.append(found.figures["AUC within sites"].value)
        pooled.append(found.not_to_believe["AUC pooled over sites"].value)
        assert "CONFOUNDED WITH SITE" in found.warnings[0]
    assert abs(np.mean(within) - 0.5) < 0.05
    assert np.mean(pooled) > 0.65


def test_permuted_labels_and_selection_counts_come_from_the_same_runs() -> None:
    found = judged(cohort(6), SMALL, n_permutations=3)
    assert list(found.permuted.columns) == ["AUC within sites", "AUC pooled over sites", "largest"]
    assert found.p == pytest.approx(0.25)
    assert found.selection is not None
    np.testing.assert_array_equal(found.selection.largest, found.permuted["largest"])
    np.testing.assert_array_equal(found.selection.counts, found.decoder.selection_counts_)
    assert any("cannot show p below 0.25" in note for note in found.notes)


def test_interrupted_permutations_resume_and_change_nothing(tmp_path: Path) -> None:
    c = cohort()
    first = judged(c, n_permutations=3, checkpoint=tmp_path / "work")
    kept = sorted(path.name for path in (tmp_path / "work" / "permutations").glob("item-*"))
    (tmp_path / "work" / "permutations" / kept[0]).unlink()
    with open_executor(workers=2) as executor:
        second = judged(c, n_permutations=4, checkpoint=tmp_path / "work", executor=executor)
    pd.testing.assert_frame_equal(second.permuted.iloc[:3], first.permuted)
    assert len(list((tmp_path / "work" / "permutations").glob("item-*"))) == 4
    assert second.figures == first.figures


@pytest.mark.parametrize("model", [Spy(), SMALL])
def test_people_who_moved_are_not_trained_with_when_a_site_is_left_out(model: Any) -> None:
    c = cohort()
    moved = c.people.iloc[::2]  # scanned again at the next site, with the same edges
    sites = sorted(set(c.people["site"]))
    there = [sites[(sites.index(site) + 1) % len(sites)] for site in moved["site"]]
    people = pd.concat([c.people, moved.assign(site=there)], ignore_index=True)
    people["traveling"] = False
    X, y = np.concatenate([c.X, c.X[::2]]), np.concatenate([c.diagnosis, c.diagnosis[::2]])
    Spy.seen = []
    found = validate(X, y, people, model, n_permutations=0, positive="MDD")
    assert all(not trained & asked for trained, asked in Spy.seen)
    assert found.outputs["output_left_out"].notna().all()


def test_sites_left_out_are_harmonized_as_said() -> None:
    c = traveling_cohort(
        n_edges=40, n_travelers=4, controls=(12, 12, 12), patients={"MDD": {0: 12, 1: 12, 2: 12}}
    )
    y = c.diagnosis
    known = {"n_permutations": 0, "target": "diagnosis", "positive": "MDD"}
    told = {}
    for policy in ("unharmonized", "extend", "reference_controls"):
        found = validate(c.X, y, c.people, MODEL, TravelingSubject(), unseen_site=policy, **known)
        told[policy] = found.sites["told"].iloc[0]
        transductive = any("TRANSDUCTIVE" in note for note in found.notes)
        assert transductive == (policy == "reference_controls")
    assert told["unharmonized"].startswith("as measured")
    assert told["extend"] == "harmonized by 4 traveling subjects, no label used"
    assert told["reference_controls"].startswith("TRANSDUCTIVE: harmonized by its own 12 controls")


def test_a_site_cannot_be_added_by_what_is_not_there() -> None:
    """Said before anything is trained."""
    c = traveling_cohort(
        n_edges=40, n_travelers=4, controls=(12, 12, 12), patients={"MDD": {0: 12, 1: 12, 2: 12}}
    )
    known = {"n_permutations": 0, "target": "diagnosis", "positive": "MDD"}
    with pytest.raises(DecodeError, match="sites can be added to by extend, found ComBat"):
        validate(c.X, c.diagnosis, c.people, MODEL, ComBat(), unseen_site="extend", **known)
    lived = ~c.people["traveling"].to_numpy(bool)
    residents = c.people[lived].reset_index(drop=True)
    with pytest.raises(DecodeError, match="traveling scans to extend the harmonizer by, found no"):
        validate(
            c.X[lived], c.diagnosis[lived], residents, MODEL, TravelingSubject(),
            unseen_site="extend", **known,
        )  # fmt: skip


def test_numbers_are_told_within_sites() -> None:
    c = cohort(0)
    rng = np.random.default_rng(0)
    y = 30.0 * c.X[:, 3] + 0.5 * rng.standard_normal(120)
    found = validate(c.X, y, c.people, Ridge(alpha=0.1), None, n_permutations=2, target="score")
    assert found.classes is None
    assert not found.warnings
    assert found.figures["r within sites"].low > 0.4
    assert found.figures["R² within sites"].value > 0.2
    assert {"r at sites left out", "mean absolute error"} <= set(found.figures)
    y += 10.0 * pd.factorize(c.people["site"])[0]
    apart = validate(c.X, y, c.people, Ridge(alpha=0.1), None, None, 0, target="score")
    assert "score differs between sites" in apart.warnings[0]


def test_the_same_for_everyone_of_a_site_tells_nothing() -> None:
    """An estimator that says one number per training set: no correlation comes of rounding."""
    c = cohort(0)
    found = validate(
        c.X, c.people["age"], c.people, DummyRegressor(), None, n_permutations=0, target="age"
    )
    figure = found.figures["r at sites left out"]
    assert (figure.value, figure.low, figure.high) == (0.0, 0.0, 0.0)
    assert figure.covers_chance
    assert found.figures["r within sites"].covers_chance


def test_the_site_is_told_before_and_not_after_harmonization() -> None:
    c = cohort(0, sizes=[60, 50, 40], prevalence=[0.5, 0.5, 0.5])
    samples = Samples.of(c.X, c.site, None, None, None)
    table = predict_site(samples, ComBat(), 0)
    assert table["when"].tolist() == ["before", "after"]
    assert table.loc[0, "balanced_low"] > 0.6
    assert table.loc[1, "balanced"] < 0.5
    assert table.loc[0, "balanced_chance"] == pytest.approx(1 / 3)


def test_of_many_edges_the_site_is_told_from_some_spread_evenly() -> None:
    X = np.random.default_rng(0).standard_normal((30, 45_000))
    samples = Samples.of(X, np.array(["A", "B"] * 15, object), None, None, None)
    np.testing.assert_array_equal(confounds._some_edges(samples).X, X[:, ::3])


def test_repeated_scans_of_a_person_are_drawn_together() -> None:
    c = cohort(2)
    people = pd.concat([c.people] * 3, ignore_index=True)
    X = np.vstack([c.X] * 3)
    once = judged(c, leave_out=False).figures["AUC within sites"]
    y = np.tile(c.diagnosis, 3)
    thrice = validate(
        X, y, people, MODEL, None, None, 0, target="diagnosis", positive="MDD", leave_out=False
    )
    figure = thrice.figures["AUC within sites"]
    assert figure.high - figure.low > 0.8 * (once.high - once.low)
    assert any("240 scans are repeats" in note for note in thrice.notes)


def test_a_state_is_told_from_what_changed_within_people() -> None:
    """Before and after treatment: people differ much more than sessions do."""
    rng = np.random.default_rng(0)
    n = 36
    own = rng.standard_normal((n, 30))
    before, after = (own + 0.2 * rng.standard_normal((n, 30)) for _ in range(2))
    after[:, :4] += 0.4
    people = pd.DataFrame(
        {
            "participant": np.tile([f"p{k}" for k in range(n)], 2),
            "site": np.tile(["A", "B"], n),
            "session": np.repeat(["1", "2"], n),
        }
    )
    model = clone(SMALL).set_params(within_person=True)
    X = np.vstack([before, after])
    y = people["session"].to_numpy(object)
    found = validate(X, y, people, model, None, n_permutations=2, target="session")
    assert found.classes == ("1", "2")
    assert found.figures["AUC within sites"].low > 0.8
    assert found.figures["AUC at sites left out"].low > 0.7
    assert found.confounds[["1", "2"]].to_numpy().tolist() == [[18, 18], [18, 18]]
    assert found.permuted["AUC within sites"].max() < 0.8


# --- what is refused or said loudly -----------------------------------------------------------


def test_fewer_than_twenty_scans_are_refused() -> None:
    c = cohort(sizes=[7, 6, 6])
    with pytest.raises(DecodeError, match=r"expected at least 20 scans .* found n_samples = 19"):
        judged(c)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": "one"}, "expected a target that varies, found control for all"),
        ({"y": "three"}, "expected a target of two classes, found 3"),
        ({"y": "missing"}, "expected the target of every scan, found 1 missing"),
        ({"positive": "ASD"}, "expected the positive class to be one of MDD, control, found ASD"),
        ({"n_permutations": -1}, "expected no fewer than 0 permutations"),
        ({"covariates": ["weight"]}, "found none named weight"),
    ],
)
def test_targets_that_cannot_be_judged(change: dict[str, Any], message: str) -> None:
    c = cohort()
    y = c.diagnosis.copy()
    kind = change.pop("y", None)
    if kind == "one":
        y[:] = "control"
    elif kind == "three":
        y[0] = "ASD"
    elif kind == "missing":
        y[0] = None
    known = {"target": "diagnosis", "n_permutations": 0, "positive": None, **change}
    with pytest.raises(DecodeError, match=message):
        validate(c.X, y, c.people, MODEL, None, None, **known)


def test_a_harmonizer_that_is_told_the_target_is_refused() -> None:
    c = cohort()
    c.people["group"] = np.where(c.diagnosis == "MDD", "a", "b")
    with pytest.raises(LeakageError, match="group"):
        judged(c, MODEL, ComBat(), covariates=["age", "group"])
    with pytest.raises(LeakageError, match="the target itself"):
        judged(c, MODEL, ComBat(), covariates=["diagnosis"])


def test_a_person_at_two_sites_who_does_not_travel_is_refused() -> None:
    c = cohort()
    a, b = (np.flatnonzero(c.site == s)[0] for s in ("S01", "S02"))
    c.people.loc[b, "participant"] = c.people.loc[a, "participant"]
    people = c.people.drop(columns="traveling")
    with pytest.raises(LeakageError, match="found 1 scanned at several"):
        validate(c.X, c.diagnosis, people, MODEL, None, None, 0, positive="MDD")


def test_nan_is_refused() -> None:
    c = cohort()
    c.X[3, 5] = np.nan
    with pytest.raises(DecodeError, match="found NaN or infinity in 1 edges of 1 scans"):
        judged(c)


def test_full_confounding_is_said_loudly_and_nothing_is_claimed() -> None:
    found = judged(cohort(prevalence=[0.0, 1.0, 0.0]), RidgeClassifier())
    assert "IS CONFOUNDED WITH SITE: no site has both" in found.warnings[0]
    assert found.confounding == pytest.approx(1.0)
    figure = found.figures[found.headline]
    assert np.isnan(figure.value)
    assert figure.covers_chance
    assert found.not_to_believe["AUC pooled over sites"].value > 0.9


def test_sites_that_judge_nothing_are_named() -> None:
    c = cohort(sizes=[40, 40, 10, 1], prevalence=[0.5, 0.5, 1.0, 1.0])
    found = judged(c)
    said = " ".join(found.warnings)
    assert "Sites with one person: S04" in said
    assert "Sites without control: S03" in said
    assert found.sites["value"].isna().tolist() == [False, False, True, True]
    without = judged(cohort(sizes=[40, 40, 10], prevalence=[0.5, 0.5, 0.0]))
    assert "Sites without MDD: S03" in " ".join(without.warnings)


def test_outputs_that_go_with_motion_are_warned_of() -> None:
    c = cohort(prevalence=[0.5, 0.5, 0.5])
    sick = c.diagnosis == "MDD"
    c.people["mean_fd"] = 0.1 + 0.1 * sick + 0.01 * np.random.default_rng(0).random(120)
    found = judged(c, leave_out=False)
    assert found.motion["within sites"].low > 0.3
    assert found.warnings[-1].startswith("Outputs go with motion")
    c.people["mean_fd"] = np.nan
    assert not judged(c, leave_out=False).motion


def test_one_site_says_nothing_of_another() -> None:
    found = judged(cohort(sizes=[60], prevalence=[0.5]))
    assert found.warnings == ("One site: nothing can be said of another scanner.",)
    assert "AUC at sites left out" not in found.figures
    assert not len(found.site_prediction)
