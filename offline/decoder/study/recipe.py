"""With what: the estimators that a decoder is made of, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from offline.decoder import (
    ComponentClassifier,
    ComponentRegressor,
    LassoEnsemble,
    LassoEnsembleRegressor,
)
from offline.decoder.study.choice import Chosen
from offline.errors import DecodeError, HarmonizeError, LeakageError
from offline.harmonize import ComBat, TravelingSubject

__all__ = ["Harmonizer", "Selector", "make_decoder", "make_harmonizer"]

Selector = Literal["lasso", "components"]
Harmonizer = Literal["combat", "traveling", "none"]


def make_decoder(
    selector: Selector,
    categorical: bool,
    *,
    seed: int = 0,
    draws: int = 10,
    within_person: bool = False,
) -> Any:
    """The estimator of a selector, unfitted; the arguments are those of the command."""
    if draws < 1:
        raise DecodeError(f"expected at least one draw, found {draws}; use 10")
    known: dict[str, Any] = {"random_state": seed, "within_person": within_person}
    if selector == "lasso":
        kind = LassoEnsemble if categorical else LassoEnsembleRegressor
        return kind(n_undersamples=draws, **known)
    return (ComponentClassifier if categorical else ComponentRegressor)(**known)


def make_harmonizer(
    name: Harmonizer, chosen: Chosen, covariates: Sequence[str], target: str
) -> Any:
    """The harmonizer of that name, unfitted; None for none.

    Raises
    ------
    LeakageError
        If it should keep the target.
    HarmonizeError
        If the method cannot be used on these scans.
    """
    people = chosen.people
    if target in covariates:
        raise LeakageError(
            f"expected covariates other than the target, found {target!r}: a harmonizer that keeps"
            " the target writes it into the edges; leave it out"
        )
    unknown = [name for name in covariates if name not in people]
    if unknown:
        raise HarmonizeError(
            f"expected covariates among the columns of the participants table, found {unknown[0]!r}"
        )
    if name == "none":
        if covariates:
            raise HarmonizeError(
                "expected no covariates without a harmonizer, found"
                f" {', '.join(covariates)}; leave them out or choose combat"
            )
        return None
    if name == "combat":
        return ComBat()
    if covariates:
        raise HarmonizeError(
            f"expected no covariates for traveling, found {', '.join(covariates)}; it removes"
            " measurement bias alone and has nothing to keep"
        )
    if not people["traveling"].any():
        raise HarmonizeError(
            "expected traveling subjects, found none; mark their scans in the column traveling, or"
            " use --harmonizer combat"
        )
    return TravelingSubject()
