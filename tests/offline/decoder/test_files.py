"""Fitted decoders on disk: the same outputs, no name of a person, no foreign harmonizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from offline.decoder import (
    ComponentClassifier,
    LassoEnsemble,
    LassoEnsembleRegressor,
    load_decoder,
)
from offline.errors import DecodeError
from offline.harmonize import ComBat
from tests.offline.decoder.people import people

SMALL: dict[str, Any] = {"n_folds": 4, "n_undersamples": 2, "n_lambdas": 6, "n_inner_folds": 4}


@pytest.mark.parametrize(
    "decoder",
    [
        LassoEnsemble(**SMALL, calibration="isotonic"),
        LassoEnsembleRegressor(**SMALL),
        ComponentClassifier(n_folds=4, q=0.2),
    ],
)
def test_round_trip(decoder: Any, tmp_path: Path) -> None:
    cohort = people(100)
    target = cohort.X[:, 0] if isinstance(decoder, LassoEnsembleRegressor) else cohort.y
    names = np.array([f"sub-{k:03d}" for k in range(100)], object)
    decoder.fit(cohort.X, target, groups=names, **cohort.known)
    decoder.save(tmp_path / "decoder")
    found = load_decoder(tmp_path / "decoder.safetensors")
    assert type(found) is type(decoder)
    assert found.get_params() == decoder.get_params()
    for groups in (None, names):
        np.testing.assert_array_equal(
            found.predict(cohort.X, groups=groups), decoder.predict(cohort.X, groups=groups)
        )
    if hasattr(decoder, "classes_"):
        np.testing.assert_array_equal(
            found.predict_calibrated(cohort.X), decoder.predict_calibrated(cohort.X)
        )
    for name in ("out_of_fold_", "folds_", "selection_counts_", "intercept_", "seed_"):
        np.testing.assert_array_equal(getattr(found, name), getattr(decoder, name))
    assert b"sub-0" not in (tmp_path / "decoder.safetensors").read_bytes()


def test_harmonizers_come_along_and_must_be_the_same(tmp_path: Path) -> None:
    cohort = people(100)
    decoder = LassoEnsemble(**SMALL, harmonizer=ComBat(parametric=False))
    decoder.fit(cohort.X, cohort.y, covariates=cohort.covariates, **cohort.known)
    decoder.save(tmp_path / "a.safetensors")
    assert len(list(tmp_path.glob("a.harmonizer-*.safetensors"))) == 4
    known = {"sites": cohort.sites, "covariates": cohort.covariates}
    found = LassoEnsemble.load(tmp_path / "a")
    assert found.harmonizer.parametric is False
    np.testing.assert_array_equal(
        found.predict_proba(cohort.X, **known), decoder.predict_proba(cohort.X, **known)
    )
    shutil.copy(tmp_path / "a.harmonizer-1.safetensors", tmp_path / "a.harmonizer-0.safetensors")
    with pytest.raises(DecodeError, match="found another one"):
        LassoEnsemble.load(tmp_path / "a")
    (tmp_path / "a.harmonizer-0.safetensors").unlink()
    with pytest.raises(DecodeError, match="found none"):
        LassoEnsemble.load(tmp_path / "a")


def test_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="found none"):
        load_decoder(tmp_path / "nothing")
    (tmp_path / "text.safetensors").write_text("no model", encoding="utf-8")
    with pytest.raises(DecodeError, match="expected safetensors"):
        load_decoder(tmp_path / "text")
    save_file({"a": np.zeros(3)}, tmp_path / "plain.safetensors")
    with pytest.raises(DecodeError, match="without its header"):
        load_decoder(tmp_path / "plain")
    cohort = people(80)
    LassoEnsemble(**SMALL).fit(cohort.X, cohort.y).save(tmp_path / "lasso")
    with pytest.raises(DecodeError, match="expected a ComponentClassifier, found a LassoEnsemble"):
        ComponentClassifier.load(tmp_path / "lasso")


def test_a_changed_header_is_refused(tmp_path: Path) -> None:
    cohort = people(80)
    path = tmp_path / "lasso.safetensors"
    LassoEnsemble(**SMALL).fit(cohort.X, cohort.y).save(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["fcnef"])
    for name in header.keys() - {"kind", "format"}:
        lost = {entry: value for entry, value in header.items() if entry != name}
        for other in (lost, {**header, name: None}):
            if other == header:
                continue
            save_file(tensors, path, metadata=metadata | {"fcnef": json.dumps(other)})
            with pytest.raises(DecodeError, match="expected what was written, found it changed"):
                load_decoder(path)
