"""The measure of Yamashita et al. 2019: how much measurement bias is left in people not seen.

People are split in two halves. Biases are estimated on one half, taken out of the other, and
estimated there again; what is left is the mean over sites of the SD over edges. Without the step
between, the same measure says how large the bias was. (doi:10.1371/journal.pbio.3000042)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from offline.errors import DesignError
from offline.harmonize.combat import ComBat
from offline.harmonize.inputs import Edges, Labels, labels_or_none, site_labels
from offline.harmonize.traveling import TravelingSubject
from offline.store import EdgeStore

__all__ = ["TwoFoldBias", "two_fold_bias"]

TRAVELERS: tuple[str, ...] = ("travelers",)
"""The stratum of all traveling subjects; those of residents are (site, diagnosis)."""


@dataclass(frozen=True)
class TwoFoldBias:
    """Measurement bias of people not seen, mean of both halves, Fisher z.

    Attributes
    ----------
    before, after : float
        Mean over sites of the SD over edges.
    """

    before: float
    after: float

    @property
    def reduction(self) -> float:
        """Share that was removed; the paper reports .29."""
        return 1.0 - self.after / self.before


def two_fold_bias(
    X: Edges,
    sites: Any,
    subjects: Any,
    diagnosis: Any = None,
    *,
    harmonizer: TravelingSubject | ComBat | None = None,
    participants: Any = None,
    seed: int = 0,
) -> TwoFoldBias:
    """Bias in one half of the people before and after harmonization learned from the other.

    Parameters
    ----------
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
        Read into memory, a half at a time.
    sites, subjects, diagnosis : array_like, shape (n_scans,)
        As for `TravelingSubject.fit`.
    harmonizer : TravelingSubject, ComBat or None
        What is judged, unfitted; ComBat keeps the diagnosis if there is one. None:
        `TravelingSubject()`.
    participants : array_like of str or None, shape (n_scans,)
        Whose scan it is, so that residents scanned twice stay in one half; None: every resident's
        scan is another person.
    seed : int
        Of the split, which is even among travelers and within each site and diagnosis.

    Raises
    ------
    DesignError
        If there are fewer than four travelers: two in each half.
    """
    n = X.shape[0]
    labels = site_labels(sites, n)
    travelers = labels_or_none(subjects, n, "subjects")
    dx = None if diagnosis is None else labels_or_none(diagnosis, n, "diagnosis")
    people = None if participants is None else labels_or_none(participants, n, "participants")
    half = _halves(labels, travelers, dx, people, np.random.default_rng(seed))
    judged = harmonizer if harmonizer is not None else TravelingSubject()
    judge = TravelingSubject() if isinstance(judged, ComBat) else clone(judged)
    before, after = [], []
    for train, test in ((half, ~half), (~half, half)):
        own = [None if v is None else v[test] for v in (labels, travelers, dx)]
        Y = _rows(X, test)
        before.append(_size(judge.fit(Y, *own)))
        fitted = _fit(clone(judged), _rows(X, train), labels[train], travelers[train], dx, train)
        harmonized = fitted.transform(Y, labels[test], **_kept(judged, dx, test))
        after.append(_size(judge.fit(harmonized, *own)))
    return TwoFoldBias(float(np.mean(before)), float(np.mean(after)))


def _size(model: TravelingSubject) -> float:
    return float(model.measurement_bias_.std(axis=1).mean())


def _rows(X: Edges, rows: NDArray[np.bool_]) -> NDArray[Any]:
    places = np.flatnonzero(rows)
    return X.read(slice(None), places) if isinstance(X, EdgeStore) else X[places]


def _fit(
    model: Any,
    X: NDArray[Any],
    sites: Labels,
    travelers: Labels,
    dx: Labels | None,
    rows: NDArray[np.bool_],
) -> Any:
    if isinstance(model, ComBat):
        return model.fit(X, sites, **_kept(model, dx, rows))
    return model.fit(X, sites, travelers, None if dx is None else dx[rows])


def _kept(model: Any, dx: Labels | None, rows: NDArray[np.bool_]) -> dict[str, Any]:
    if not isinstance(model, ComBat) or dx is None:
        return {}
    return {"covariates": pd.DataFrame({"diagnosis": dx[rows]})}


def _halves(
    sites: Labels,
    travelers: Labels,
    dx: Labels | None,
    people: Labels | None,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which scans are in the first half: every person whole, strata split evenly."""
    strata: dict[tuple[str, ...], list[str]] = {}
    person = np.empty(len(sites), object)
    for k, (site, traveler) in enumerate(zip(sites, travelers, strict=True)):
        if traveler is not None:
            person[k], stratum = f"traveler {traveler}", TRAVELERS
        else:
            person[k] = f"resident {k if people is None else people[k]}"
            stratum = ("at", site) if dx is None else ("at", site, str(dx[k]))
        members = strata.setdefault(stratum, [])
        if person[k] not in members:
            members.append(person[k])
    n_travelers = len(strata.get(TRAVELERS, []))
    if n_travelers < 4:
        raise DesignError(
            f"expected at least four travelers, found {n_travelers}: two in each half; the"
            " two-fold measure needs more"
        )
    first: set[str] = set()
    for stratum in sorted(strata):
        members = strata[stratum]
        first.update(rng.permutation(members)[: (len(members) + 1) // 2].tolist())
    return np.array([p in first for p in person])
