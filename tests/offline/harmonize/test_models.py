"""Saved harmonizers: whole, small, without pickle, and refused when of another version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from offline.errors import DecodeError, HarmonizeError
from offline.harmonize import ComBat, TravelingSubject, load, models
from offline.model_file import ModelFile, digest
from offline.synthetic import SyntheticCohort, traveling_cohort
from rtloop import __version__


@pytest.fixture(scope="module")
def cohort() -> SyntheticCohort:
    return traveling_cohort(n_edges=15, n_travelers=4, scans_per_visit=1)


def kept(cohort: SyntheticCohort) -> pd.DataFrame:
    return cohort.people[["diagnosis", "age", "sex"]]


def test_combat_is_the_same_after_saving(cohort: SyntheticCohort, tmp_path: Path) -> None:
    model = ComBat(reference_site="S03").fit(cohort.X, cohort.site, kept(cohort))
    path = model.save(tmp_path / "combat")
    assert path.name == "combat.safetensors"
    again = load(path)
    assert isinstance(again, ComBat)
    assert again.get_params() == model.get_params()
    assert again.covariate_names_ == ("diagnosis", "age", "sex")
    expected = model.transform(cohort.X, cohort.site, kept(cohort))
    assert np.array_equal(again.transform(cohort.X, cohort.site, kept(cohort)), expected)


def test_traveling_subject_is_the_same_after_saving(
    cohort: SyntheticCohort, tmp_path: Path
) -> None:
    coil = pd.DataFrame({"coil": np.where(np.arange(len(cohort.X)) % 3, "12", "32")})
    rest = cohort.site != "S12"
    model = TravelingSubject(measurement_factors=["coil"])
    model.fit(
        cohort.X[rest],
        cohort.site[rest],
        cohort.traveler[rest],
        cohort.diagnosis[rest],
        factors=coil[rest],
    )
    again = load(model.save(tmp_path / "ts.safetensors"))
    assert isinstance(again, TravelingSubject)
    assert again.report_ == model.report_
    expected = model.transform(cohort.X[rest], cohort.site[rest], factors=coil[rest])
    found = again.transform(cohort.X[rest], cohort.site[rest], factors=coil[rest])
    assert np.array_equal(found, expected)


def test_a_saved_model_can_be_extended(cohort: SyntheticCohort, tmp_path: Path) -> None:
    rest = cohort.site != "S12"
    given = (cohort.X, cohort.site, cohort.traveler, cohort.diagnosis)
    model = TravelingSubject(estimator="traveling_only").fit(*(v[rest] for v in given))
    again = load(model.save(tmp_path / "ts"))
    assert np.isnan(again.report_.ratio)
    there = ~rest & (cohort.traveler != None)  # noqa: E711 (element by element)
    for one in (model, again):
        one.extend(cohort.X[there], cohort.site[there], cohort.traveler[there])
    assert np.array_equal(model.measurement_bias_, again.measurement_bias_)


def test_the_header_tells_what_made_the_model(cohort: SyntheticCohort, tmp_path: Path) -> None:
    path = ComBat().fit(cohort.X, cohort.site).save(tmp_path / "m")
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["fcnef"])
    assert header["kind"] == "ComBat"
    assert header["versions"]["fcnef"] == __version__
    assert header["atlas"] == {"name": None, "digest": None, "n_edges": 15}
    assert digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["combat", "traveling"])
def test_size_does_not_depend_on_people(kind: str, tmp_path: Path) -> None:
    sizes = []
    for factor in (1, 4):
        cohort = traveling_cohort(
            n_edges=15,
            n_travelers=4,
            scans_per_visit=1,
            controls=[10 * factor] * 4,
            patients={"MDD": {0: 5 * factor, 1: 5 * factor}},
        )
        if kind == "combat":
            model: Any = ComBat().fit(cohort.X, cohort.site, kept(cohort))
        else:
            model = TravelingSubject().fit(cohort.X, cohort.site, cohort.traveler, cohort.diagnosis)
        sizes.append(model.save(tmp_path / f"{factor}").stat().st_size)
    # but for the digits of the numbers in the header
    assert abs(sizes[1] - sizes[0]) < 200


def test_another_format_is_refused(
    cohort: SyntheticCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "HARMONIZERS", replace(models.HARMONIZERS, format=7))
    path = ComBat().fit(cohort.X, cohort.site).save(tmp_path / "m")
    monkeypatch.undo()
    with pytest.raises(HarmonizeError, match="expected format 1, found 7 written by fcnef"):
        load(path)


def test_files_that_are_no_models(cohort: SyntheticCohort, tmp_path: Path) -> None:
    with pytest.raises(HarmonizeError, match="expected a file, found none"):
        load(tmp_path / "none.safetensors")
    bare = tmp_path / "bare.safetensors"
    save_file({"a": np.zeros(3)}, bare)
    with pytest.raises(HarmonizeError, match="a file without its header"):
        load(bare)
    path = ComBat().fit(cohort.X, cohort.site).save(tmp_path / "m")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(HarmonizeError, match="expected safetensors"):
        load(path)
    decoder = ModelFile("decoder", ("LassoEnsemble",), 1, DecodeError)
    other = decoder.write(tmp_path / "decoder", "LassoEnsemble", {"a": np.zeros(3)}, {})
    with pytest.raises(HarmonizeError, match="expected a harmonizer, found a LassoEnsemble; take"):
        load(other)
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(HarmonizeError, match="expected to be able to write it"):
        ComBat().fit(cohort.X, cohort.site).save(taken / "m")
    with pytest.raises(HarmonizeError, match="expected TravelingSubject, found ComBat"):
        TravelingSubject.load(ComBat().fit(cohort.X, cohort.site).save(tmp_path / "n"))
