"""Harmonizers where the truth is known: residual measurement bias in three regimes.

Simulated cohorts of nine travelers at twelve scanners and 466 others, sampling bias of SD 0, .035
and .07. What a method takes out of a site's scans is compared with the measurement bias that was
put in; the figure is the SD over edges of what is left, mean over sites, as a share of the same
of the bias itself. The oracle is the penalty that is best in hindsight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.harmonize import ComBat, TravelingSubject, two_fold_bias
from offline.synthetic import SyntheticCohort, traveling_cohort

__all__ = ["ORACLE_SHARE", "SAMPLING_SD", "SEEDS", "TRAVELING_LIMIT", "regimes"]

SAMPLING_SD = (0.0, 0.035, 0.07)
SEEDS = range(6)
N_EDGES = 2000
ORACLE_SHARE = 1.05
TRAVELING_LIMIT = 0.44
PENALTIES = np.logspace(-1.0, 2.5, 71)
"""Where the oracle looks: steps of 12 %."""

Float64 = NDArray[np.float64]


def regimes() -> list[dict[str, Any]]:
    """One row for each regime and seed."""
    return [
        {"sampling_sd": sd, "seed": seed, **_row(traveling_cohort(sd, n_edges=N_EDGES, seed=seed))}
        for sd in SAMPLING_SD
        for seed in SEEDS
    ]


def _row(cohort: SyntheticCohort) -> dict[str, Any]:
    given = (cohort.X, cohort.site, cohort.traveler, cohort.diagnosis)
    joint = TravelingSubject().fit(*given)
    alone = TravelingSubject(estimator="traveling_only").fit(*given)
    oracle = {
        float(penalty): _left(TravelingSubject(float(penalty)).fit(*given), cohort)
        for penalty in PENALTIES
    }
    best = min(oracle, key=lambda penalty: oracle[penalty])
    error = joint.measurement_bias_ - cohort.measurement_bias
    folds = [
        two_fold_bias(*given, harmonizer=harmonizer)
        for harmonizer in (TravelingSubject(), ComBat())
    ]
    return {
        "joint": _left(joint, cohort),
        "oracle": oracle[best],
        "penalty": joint.penalty_,
        "oracle_penalty": best,
        "traveling_only": _left(alone, cohort),
        "combat": _left_by_combat(cohort),
        "estimated_ratio": joint.report_.ratio,
        "error_to_standard_error": _rms(error) / _rms(joint.standard_error_),
        "two_fold_reduction": folds[0].reduction,
        "two_fold_reduction_combat": folds[1].reduction,
    }


def _left(model: TravelingSubject, cohort: SyntheticCohort) -> float:
    return _share(model.measurement_bias_, cohort)


def _left_by_combat(cohort: SyntheticCohort) -> float:
    """ComBat keeping the diagnosis: what it took out of each site's scans, sites centred."""
    kept = pd.DataFrame({"diagnosis": cohort.diagnosis})
    removed = cohort.X - np.asarray(ComBat().fit_transform(cohort.X, cohort.site, kept))
    of_site = np.stack([removed[cohort.site == site].mean(axis=0) for site in cohort.sites])
    return _share(of_site - of_site.mean(axis=0), cohort)


def _share(bias: Float64, cohort: SyntheticCohort) -> float:
    raw = cohort.measurement_bias
    return float((bias - raw).std(axis=1).mean() / raw.std(axis=1).mean())


def _rms(values: Float64) -> float:
    return float(np.sqrt(np.mean(values**2)))
