"""Parameters that no decoder can be made with are refused when it is fitted, in one line."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from offline.decoder import (
    ComponentClassifier,
    ComponentRegressor,
    ComponentSelector,
    LassoEnsemble,
    LassoEnsembleRegressor,
)
from offline.decoder.parameters import require_parameters
from offline.errors import DecodeError
from offline.harmonize import ComBat
from tests.offline.decoder.people import people

DECODERS = [LassoEnsemble(), LassoEnsembleRegressor(), ComponentClassifier(), ComponentRegressor()]

INADMISSIBLE: dict[str, list[Any]] = {
    "n_folds": [1, 0, -3, 2.5, "10", None, True],
    "n_undersamples": [0, -1, 1.5, None],
    "n_lambdas": [0, -1, 2.5],
    "n_inner_folds": [1, 0, 2.5],
    "one_se": ["yes", 1, None],
    "class_size": [0, -5, 2.5, "all"],
    "share": [0.0, 1.01, -0.5, float("nan"), "half"],
    "q": [0.0, 1.0, -0.1, float("nan"), "5 %"],
    "features": ["both", None],
    "penalty": [0.0, -1.0, float("nan"), float("inf"), "auto"],
    "standardize": ["no", 0],
    "harmonizer": ["combat", 3],
    "random_state": [-1, 0.5, "seed"],
    "calibration": ["sigmoid", None],
    "within_person": ["no", 1],
}
"""Some of each parameter of any decoder."""

REFUSED = [
    (decoder, name, value)
    for decoder in DECODERS
    for name in decoder.get_params(deep=False)
    for value in INADMISSIBLE[name]
]


@pytest.mark.parametrize(("decoder", "name", "value"), REFUSED)
def test_is_refused_when_fitted(decoder: Any, name: str, value: Any) -> None:
    cohort = people(40, n_edges=8)
    y = cohort.X[:, 0] if "Regressor" in type(decoder).__name__ else cohort.y
    changed = clone(decoder).set_params(**{name: value})
    with pytest.raises(DecodeError, match=rf"^expected {name} to .*, found .*; use ") as caught:
        changed.fit(cohort.X, y)
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("q", 0.0), ("standardize", "no")])
def test_the_selector_refuses_too(name: str, value: Any) -> None:
    cohort = people(40, n_edges=8)
    with pytest.raises(DecodeError, match=f"expected {name} to be"):
        ComponentSelector(**{name: value}).fit(cohort.X, cohort.y)


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_decoders_are_made_with_by_default_is_admissible(decoder: Any) -> None:
    require_parameters(decoder.get_params(deep=False))
    for parameter in inspect.signature(type(decoder)).parameters.values():
        assert parameter.default == getattr(decoder, parameter.name)


def test_numbers_of_any_type_are_admissible() -> None:
    require_parameters(
        {
            "n_folds": np.int64(2),
            "share": 1,
            "q": np.float32(0.5),
            "penalty": 3,
            "one_se": np.True_,
            "class_size": None,
            "random_state": None,
            "harmonizer": ComBat(),
            "somebody's own": object(),
        }
    )
