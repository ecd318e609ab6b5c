"""The LASSO ensemble: nobody is judged by what saw them, results do not depend on where it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from offline.atlas import Atlas
from offline.blocks import open_executor
from offline.decoder import (
    ComponentClassifier,
    ComponentRegressor,
    ComponentSelector,
    LassoEnsemble,
    LassoEnsembleRegressor,
)
from offline.errors import AtlasError, DecodeError, LeakageError
from offline.harmonize import ComBat, TravelingSubject
from offline.store import EdgeStore
from offline.synthetic import traveling_cohort
from tests.offline.decoder.people import people

SMALL: dict[str, Any] = {"n_folds": 5, "n_undersamples": 2, "n_lambdas": 8, "n_inner_folds": 4}
TINY: dict[str, Any] = {"n_folds": 2, "n_undersamples": 1, "n_lambdas": 4, "n_inner_folds": 2}

TOO_FEW = "a decoder is refused fewer than 20 scans"
EXPECTED = {
    "check_n_features_in_after_fitting": TOO_FEW,
    "check_estimators_nan_inf": TOO_FEW,
    "check_classifier_data_not_an_array": TOO_FEW,
    "check_classifiers_one_label": TOO_FEW,
    "check_regressors_no_decision_function": TOO_FEW,
    "check_fit2d_1feature": TOO_FEW,
}


@pytest.mark.filterwarnings("ignore")  # the checks warn about their own data
@parametrize_with_checks(
    [
        LassoEnsemble(**TINY),
        LassoEnsembleRegressor(**TINY),
        ComponentClassifier(n_folds=2),
        ComponentRegressor(n_folds=2),
        ComponentSelector(),
    ],
    expected_failed_checks=lambda e: {} if isinstance(e, ComponentSelector) else EXPECTED,
)
def test_follows_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_out_of_fold_is_what_classifiers_that_never_saw_the_person_say() -> None:
    cohort = people(160)
    names = np.array([f"p{k // 2}" for k in range(160)], object)
    decoder = LassoEnsemble(**SMALL).fit(cohort.X, cohort.y, groups=names)
    again = decoder.predict_proba(cohort.X, groups=names)[:, 1]
    np.testing.assert_allclose(again, decoder.out_of_fold_, rtol=1e-12)
    assert np.array_equal(decoder.folds_[::2], decoder.folds_[1::2])
    # by hand: the two classifiers of a person's own fold
    at = decoder.folds_[7]
    scores = cohort.X[7] @ decoder.coef_[2 * at : 2 * at + 2].toarray().T
    scores = scores + decoder.intercept_[2 * at : 2 * at + 2]
    assert decoder.out_of_fold_[7] == pytest.approx(np.mean(1 / (1 + np.exp(-scores))))
    # strangers are judged by all ten
    scores = cohort.X @ decoder.coef_.toarray().T + decoder.intercept_
    np.testing.assert_allclose(
        decoder.predict_proba(cohort.X)[:, 1], np.mean(1 / (1 + np.exp(-scores)), axis=1)
    )


def test_finds_true_edges_and_calibrates() -> None:
    cohort = people(200, n_edges=100)
    decoder = LassoEnsemble(**SMALL).fit(cohort.X, cohort.y, **cohort.known)
    patient = cohort.y == decoder.classes_[1]
    assert decoder.out_of_fold_[patient].mean() > 0.6 > 0.4 > decoder.out_of_fold_[~patient].mean()
    assert set(np.argsort(-decoder.selection_counts_)[:5]) == set(cohort.true)
    assert decoder.selection_counts_.max() == len(decoder.intercept_) == 10
    assert np.array_equal(decoder.selection_counts_, (decoder.coef_.toarray() != 0).sum(axis=0))
    assert decoder.gap_.max() <= 1e-6
    # shrunken outputs are stretched by calibration, and kept in order
    raw, calibrated = decoder.out_of_fold_, decoder.out_of_fold_calibrated_
    assert calibrated.std() > raw.std()
    p = decoder.predict_calibrated(cohort.X)
    assert p[:, 1].std() > decoder.predict_proba(cohort.X)[:, 1].std()
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    order = np.argsort(decoder.predict_proba(cohort.X)[:, 1])
    assert np.all(np.diff(p[order, 1]) >= 0)


def test_the_same_wherever_it_runs() -> None:
    cohort = people(120)
    decoder = LassoEnsemble(**SMALL, harmonizer=ComBat())
    here = clone(decoder).fit(cohort.X, cohort.y, **cohort.known)
    for processes in (False, True):
        with open_executor(workers=2, processes=processes) as executor:
            there = clone(decoder).fit(cohort.X, cohort.y, executor=executor, **cohort.known)
        # also where this process compiled the kernels that others load from the cache
        assert np.array_equal(here.out_of_fold_, there.out_of_fold_)
        assert np.array_equal(here.coef_.toarray(), there.coef_.toarray())
    other = clone(decoder).set_params(random_state=1).fit(cohort.X, cohort.y, **cohort.known)
    assert not np.array_equal(here.out_of_fold_, other.out_of_fold_)


def test_a_store_gives_the_bits_of_the_array(tmp_path: Any) -> None:
    cohort = people(80, n_edges=66)
    atlas = Atlas("twelve", tuple(f"R{k}" for k in range(12)))
    X = cohort.X.astype(np.float32)
    store = EdgeStore.from_array(tmp_path / "z", X, atlas)
    stored = LassoEnsemble(**SMALL).fit(store, cohort.y, **cohort.known)
    array = LassoEnsemble(**SMALL).fit(X, cohort.y, **cohort.known)
    assert np.array_equal(stored.out_of_fold_, array.out_of_fold_)
    assert np.array_equal(stored.predict_proba(store), array.predict_proba(X))
    turned = Atlas("turned", tuple(f"R{k}" for k in range(11, -1, -1)))
    with pytest.raises(AtlasError, match="same atlas"):
        stored.predict(EdgeStore.from_array(tmp_path / "t", X, turned))


class Spy(BaseEstimator):
    """A harmonizer that shifts by what it was fitted on and remembers who that was."""

    def __init__(self, log: Any = None) -> None:
        self.log = log

    def __sklearn_clone__(self) -> Spy:
        return Spy(self.log)

    def fit(self, X: Any, sites: Any, covariates: Any = None) -> Spy:
        self.seen_ = X[:, -1].copy()
        self.log.append(("fit", set(self.seen_.tolist()), covariates))
        return self

    def transform(self, X: Any, sites: Any, covariates: Any = None) -> Any:
        self.log.append(("transform", set(X[:, -1].tolist()), covariates))
        return X - X.mean()


def test_harmonizer_is_fitted_on_the_training_fold_alone() -> None:
    cohort = people(100)
    X = np.column_stack([cohort.X, np.arange(100) / 1000.0])
    log: list[Any] = []
    decoder = LassoEnsemble(**SMALL, harmonizer=Spy(log))
    decoder.fit(X, cohort.y, covariates=cohort.covariates, **cohort.known)
    assert [entry[0] for entry in log] == ["fit", "transform", "transform"] * 5
    for fold in range(5):
        inside = set((np.flatnonzero(decoder.folds_ != fold) / 1000.0).tolist())
        outside = set((np.flatnonzero(decoder.folds_ == fold) / 1000.0).tolist())
        fitted, trained, judged = (entry[1] for entry in log[3 * fold : 3 * fold + 3])
        assert fitted == trained == inside
        assert judged == outside
    # neither target nor sites are among what it is told
    assert list(log[0][2].columns) == ["age", "sex"]


def test_combat_inside_the_folds_and_on_strangers() -> None:
    cohort = people(150, effect=1.5)
    decoder = LassoEnsemble(**SMALL, harmonizer=ComBat())
    decoder.fit(cohort.X, cohort.y, covariates=cohort.covariates, **cohort.known)
    assert len(decoder.harmonizers_) == 5
    known = {"sites": cohort.sites, "covariates": cohort.covariates}
    assert decoder.predict_proba(cohort.X[:9], **{k: v[:9] for k, v in known.items()}).shape == (
        9,
        2,
    )
    with pytest.raises(DecodeError, match="sites"):
        decoder.predict(cohort.X)


def test_covariates_that_tell_the_target_are_refused_only_with_a_harmonizer() -> None:
    cohort = people(80)
    told = cohort.covariates.assign(arm=np.where(cohort.y == "patient", 1, 2))
    with pytest.raises(LeakageError, match="'arm'"):
        LassoEnsemble(**SMALL, harmonizer=ComBat()).fit(
            cohort.X, cohort.y, covariates=told, **cohort.known
        )
    LassoEnsemble(**TINY).fit(cohort.X, cohort.y, covariates=told, **cohort.known)


def test_traveling_scans_fit_harmonizers_and_nothing_else() -> None:
    cohort = traveling_cohort(
        n_edges=45,
        n_travelers=4,
        scans_per_visit=1,
        controls=(16, 14, 12),
        patients={"MDD": {0: 16, 1: 12, 2: 14}},
    )
    table = cohort.people
    known = {"sites": cohort.site, "groups": table["participant"]}
    decoder = LassoEnsemble(**TINY, harmonizer=TravelingSubject())
    with pytest.raises(LeakageError, match="found 4 scanned at several"):
        decoder.fit(cohort.X, cohort.diagnosis, **known)
    travels = table["traveling"].to_numpy(bool)
    decoder.fit(cohort.X, cohort.diagnosis, traveling=travels, **known)
    assert np.all(decoder.folds_[travels] == -1)
    assert np.all(np.isnan(decoder.out_of_fold_[travels]))
    assert np.all(np.isfinite(decoder.out_of_fold_[~travels]))
    assert "12 traveling scans" in " ".join(decoder.notes_)
    # labels of travelers are not looked at: "control" or nonsense, the result is the same
    other = np.where(travels, "nobody", cohort.diagnosis)
    again = clone(decoder).fit(cohort.X, other, traveling=travels, **known)
    assert np.array_equal(again.out_of_fold_, decoder.out_of_fold_, equal_nan=True)
    mixed = travels.copy()
    mixed[0] = False
    with pytest.raises(DecodeError, match="all of their scans"):
        decoder.fit(cohort.X, cohort.diagnosis, traveling=mixed, **known)


def test_states_within_people() -> None:
    rng = np.random.default_rng(0)
    n = 40
    names = np.repeat(np.arange(n), 2)
    state = np.tile(["before", "after"], n)
    X = np.repeat(3.0 * rng.standard_normal((n, 30)), 2, axis=0) + rng.standard_normal((2 * n, 30))
    X[state == "after", 0] += 2.0
    centred = LassoEnsemble(**SMALL, within_person=True).fit(X, state, groups=names)
    plain = LassoEnsemble(**SMALL).fit(X, state, groups=names)
    right = (centred.out_of_fold_ > 0.5) == (state == centred.classes_[1])
    assert right.mean() > 0.75 > np.mean((plain.out_of_fold_ > 0.5) == (state == "before"))
    again = centred.predict_proba(X, groups=names)[:, 1]
    np.testing.assert_allclose(again, centred.out_of_fold_, rtol=1e-12)
    with pytest.raises(DecodeError, match="groups"):
        centred.predict(X)
    with pytest.raises(DecodeError, match="at least two scans"):
        clone(centred).fit(X[1:], state[1:], groups=names[1:])


def test_severity() -> None:
    cohort = people(150, effect=0.0)
    score = 20 + 40 * cohort.X[:, 0] + np.random.default_rng(1).standard_normal(150)
    decoder = LassoEnsembleRegressor(**SMALL, share=0.7).fit(cohort.X, score, **cohort.known)
    assert np.corrcoef(decoder.out_of_fold_, score)[0, 1] > 0.9
    assert np.argmax(decoder.selection_counts_) == 0
    assert decoder.gap_.max() <= 1e-6
    names = np.arange(150)
    np.testing.assert_allclose(
        decoder.predict(cohort.X, groups=names), decoder.out_of_fold_, rtol=1e-12
    )
    with pytest.raises(DecodeError, match="share"):
        LassoEnsembleRegressor(share=0.0).fit(cohort.X, score)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": ["control"] * 80}, "two classes, found 1"),
        ({"y": np.arange(80) % 3}, "two classes, found 3"),
        ({"y": np.arange(79) % 2}, r"target for each of 80 scans, found shape \(79,\)"),
        ({"y": np.where(np.arange(80) == 3, None, "a")}, "target of every scan, found 1 missing"),
        ({"y": np.array(["a"] * 4 + ["b"] * 76)}, "at least 5 people in every class"),
        ({"sites": ["A"] * 79}, "sites"),
        ({"sites": [None] + ["A"] * 79}, "`sites` of every scan, found 1 missing"),
        ({"groups": ["A"] * 79}, "groups"),
        ({"covariates": pd.DataFrame({"age": np.arange(79)})}, "covariates of 80 scans, found 79"),
        ({"covariates": np.arange(80)}, "DataFrame"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    cohort = people(80)
    given = {"y": cohort.y, "sites": cohort.sites, **change}
    with pytest.raises(DecodeError, match=message) as caught:
        LassoEnsemble(**SMALL).fit(cohort.X, **given)
    assert "\n" not in str(caught.value)


def test_too_few_scans_and_missing_edges_are_refused() -> None:
    cohort = people(80)
    with pytest.raises(DecodeError, match="at least 20 scans"):
        LassoEnsemble(**SMALL).fit(cohort.X[:19], cohort.y[:19])
    X = cohort.X.copy()
    X[3, 5] = X[3, 6] = X[9, 5] = np.nan
    with pytest.raises(DecodeError, match="in 2 edges of 2 scans"):
        LassoEnsemble(**SMALL).fit(X, cohort.y)
    decoder = LassoEnsemble(**TINY).fit(cohort.X, cohort.y)
    with pytest.raises(DecodeError, match="in 2 edges of 2 scans"):
        decoder.predict(X)
    with pytest.raises(DecodeError, match="class_size <= "):
        LassoEnsemble(**SMALL, class_size=60).fit(cohort.X, cohort.y)


def test_sites_of_one_class_are_allowed_and_said() -> None:
    cohort = people(80)
    y = np.where(cohort.sites == "A", "control", cohort.y)
    decoder = LassoEnsemble(**TINY).fit(cohort.X, y, **cohort.known)
    assert "1 site(s) with one class only (A)" in decoder.notes_[0]
    alone = cohort.sites.astype(object)
    alone[7] = "Z"
    with pytest.raises(DecodeError, match="all scans of Z in one"):
        LassoEnsemble(**TINY, harmonizer=ComBat()).fit(cohort.X, y, sites=alone)


def test_nothing_is_computed_before_fit() -> None:
    decoder = LassoEnsemble(n_folds=7, harmonizer=ComBat(parametric=False))
    assert clone(decoder).get_params(deep=False).keys() == decoder.get_params(deep=False).keys()
    assert decoder.set_params(harmonizer__parametric=True).harmonizer.parametric is True
    assert not [name for name in vars(decoder) if name.endswith("_")]
