"""Every decoder on every disorder, nobody by classifiers that met them."""

from __future__ import annotations

import numpy as np
import pytest

from offline.decoder import LassoEnsemble, across_disorders
from offline.errors import DecodeError

SMALL = {"n_folds": 4, "n_undersamples": 2, "n_lambdas": 8, "n_inner_folds": 4}


def test_shared_and_specific_edges_show_in_the_table() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(["control", "A", "B", "C"], [90, 50, 50, 50])
    X = rng.standard_normal((240, 40))
    X[group == "A", :4] += 1.0
    X[group == "B", 2:6] += 1.0  # two edges of A's
    names = np.arange(240)
    decoders = {}
    for disorder in ("A", "B"):
        rows = np.flatnonzero(np.isin(group, ["control", disorder]))
        decoders[disorder] = LassoEnsemble(**SMALL).fit(X[rows], group[rows], groups=names[rows])
    table = across_disorders(decoders, X, group, groups=names).set_index(["decoder", "disorder"])
    assert table.loc[("A", "A"), "auc"] > 0.8
    assert 0.6 < table.loc[("A", "B"), "auc"] < table.loc[("A", "A"), "auc"]
    assert abs(table.loc[("A", "C"), "auc"] - 0.5) < 0.12
    assert table.loc[("A", "A"), "known"] == 1.0
    assert table.loc[("A", "B"), "known"] == pytest.approx(90 / 140)
    assert table.loc[("B", "B"), "auc_low"] < table.loc[("B", "B"), "auc"]
    # its own cell is the out-of-fold AUC
    own = decoders["A"]
    rows = np.flatnonzero(np.isin(group, ["control", "A"]))
    p = 1.0 - own.out_of_fold_  # classes_ are A, control
    sick, healthy = p[group[rows] == "A"], p[group[rows] == "control"]
    auc = np.mean((sick[:, None] > healthy) + 0.5 * (sick[:, None] == healthy))
    assert table.loc[("A", "A"), "auc"] == pytest.approx(auc)


def test_without_an_effect_memory_does_not_flatter() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((120, 200))
    group = np.tile(["control", "A"], 60)
    decoder = LassoEnsemble(**SMALL, one_se=False).fit(X, group, groups=np.arange(120))
    table = across_disorders({"A": decoder}, X, group, groups=np.arange(120))
    assert abs(table["auc"][0] - 0.5) < 0.2
    # the same people under other names are taken for strangers
    strangers = across_disorders({"A": decoder}, X, group, groups=np.arange(120) + 1000)
    assert strangers["auc"][0] > 0.8
    assert strangers["known"][0] == 0.0


def test_refuses_a_cohort_without_controls() -> None:
    with pytest.raises(DecodeError, match="'control'"):
        across_disorders({}, np.zeros((30, 3)), ["HC"] * 30, groups=np.arange(30))
