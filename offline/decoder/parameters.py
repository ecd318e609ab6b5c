"""Admissible values of the decoders' parameters, in one place; looked at when a decoder is fitted.

A parameter means the same in every decoder that has it, so that its name is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np

from offline.decoder.calibration import Calibration
from offline.errors import DecodeError

__all__ = ["Features", "require_parameters"]

Features = Literal["scores", "edges"]


@dataclass(frozen=True)
class _Admissible:
    """A test, and the same in words with a value to use."""

    holds: Callable[[Any], bool]
    words: str
    use: str


def require_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse values that no decoder can be made with.

    Parameters
    ----------
    parameters : mapping
        By name, as of an estimator's `get_params`; names that are not known are not looked at.

    Raises
    ------
    DecodeError
        Naming the parameter, what it may be and what was found.
    """
    for name, value in parameters.items():
        known = _ADMISSIBLE.get(name)
        if known is not None and not known.holds(value):
            found = value.item() if isinstance(value, np.generic) else value
            raise DecodeError(f"expected {name} {known.words}, found {found!r}; use {known.use}")


def _whole(least: int, use: int | None, none: bool = False) -> _Admissible:
    """Whole numbers from `least` on, and None where it means something."""

    def holds(value: Any) -> bool:
        if value is None:
            return none
        return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least

    words = f"to be a whole number >= {least}{' or None' if none else ''}"
    return _Admissible(holds, words, str(use))


def _number(inside: Callable[[float], bool], words: str, use: float) -> _Admissible:
    def holds(value: Any) -> bool:
        return not isinstance(value, bool) and isinstance(value, Real) and inside(float(value))

    return _Admissible(holds, f"to be {words}", f"{use:g}")


def _one_of(names: tuple[str, ...]) -> _Admissible:
    words = " or ".join(repr(name) for name in names)
    return _Admissible(lambda value: value in names, f"to be {words}", repr(names[0]))


def _flag(use: bool) -> _Admissible:
    def holds(value: Any) -> bool:
        return isinstance(value, bool | np.bool_)

    return _Admissible(holds, "to be True or False", str(use))


def _harmonizes(value: Any) -> bool:
    return value is None or (hasattr(value, "fit") and hasattr(value, "transform"))


_ADMISSIBLE = {
    "n_folds": _whole(2, use=10),
    "n_undersamples": _whole(1, use=10),
    "n_lambdas": _whole(1, use=25),
    "n_inner_folds": _whole(2, use=10),
    "one_se": _flag(True),
    "class_size": _whole(1, use=None, none=True),
    "share": _number(lambda x: 0.0 < x <= 1.0, "above 0 and at most 1", use=0.8),
    "q": _number(lambda x: 0.0 < x < 1.0, "a false discovery rate, between 0 and 1", use=0.05),
    "features": _one_of(get_args(Features)),
    "penalty": _number(lambda x: 0.0 < x < np.inf, "above 0 and finite", use=1.0),
    "standardize": _flag(True),
    "harmonizer": _Admissible(
        _harmonizes, "to have `fit` and `transform`, or to be None", "ComBat()"
    ),
    "random_state": _whole(0, use=0, none=True),
    "calibration": _one_of(get_args(Calibration)),
    "within_person": _flag(False),
}
