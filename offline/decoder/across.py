"""Every decoder on every disorder: what is a trait of one, and what several share.

A decoder of one disorder is applied to the patients of every other and their controls. People it
was trained with are judged by those of its models that never saw them, so no cell of the table is
flattered by memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from offline.decoder.folded import person_key
from offline.decoder.samples import columns_of, covariate_table
from offline.decoder.target import ClassTarget
from offline.errors import DecodeError
from offline.store import EdgeStore, read_block

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["across_disorders"]

Floats = NDArray[np.floating[Any]]


def across_disorders(
    decoders: Mapping[str, ClassTarget],
    X: Floats | EdgeStore,
    diagnosis: ArrayLike,
    *,
    groups: ArrayLike,
    control: str = "control",
    sites: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None,
    traveling: ArrayLike | None = None,
) -> pd.DataFrame:
    """Apply fitted decoders to every disorder of a cohort.

    Parameters
    ----------
    decoders : mapping
        Fitted decoder by disorder; `classes_` of each may be anything, the second is taken for
        the patients unless one of them is `control`.
    X : ndarray or EdgeStore, shape (n_scans, n_edges)
        Fisher z, not harmonized.
    diagnosis : array_like of str, shape (n_scans,)
        Disorder of each scan, or `control`.
    groups : array_like, shape (n_scans,)
        Person of each scan: who was in a decoder's training is known by it.
    control : str
        What controls are called.
    sites : array_like, shape (n_scans,), or None
        Needed where the decoders harmonize.
    covariates : pandas.DataFrame or None
        As the decoders were trained with.
    traveling : array_like of bool, shape (n_scans,), or None
        Traveling scans, which are left out.

    Returns
    -------
    pandas.DataFrame
        One row for each decoder and disorder: decoder, disorder, patients, controls (scans),
        auc (probability that a patient's output exceeds a control's), auc_low, auc_high (95 %,
        Hanley and McNeil 1982), d (Cohen's, of log odds), known (share of scans of people from
        the decoder's training, judged out of fold).
    """
    import pandas as pd

    n_scans = X.shape[0]
    labels = columns_of("diagnosis", diagnosis, n_scans)
    people = columns_of("groups", groups, n_scans)
    where = columns_of("sites", sites, n_scans)
    table = covariate_table(covariates, n_scans)
    travels = columns_of("traveling", traveling, n_scans)
    if labels is None or people is None:
        raise DecodeError("expected `diagnosis` and `groups` of every scan, found none; give them")
    stays = np.ones(n_scans, bool) if travels is None else ~travels.astype(bool)
    healthy, sick = _rows_of(labels, stays, control)
    rows = np.concatenate([healthy, *sick.values()])
    edges = read_block(X, slice(None), rows)
    lines = []
    for name, decoder in decoders.items():
        p = decoder.predict_proba(
            edges,
            sites=None if where is None else where[rows],
            covariates=None if table is None else table.iloc[rows],
            groups=people[rows],
        )
        output = np.full(n_scans, np.nan)
        output[rows] = p[:, 0] if decoder.classes_[1] == control else p[:, 1]
        trained = set(decoder.people_.tolist())  # type: ignore[attr-defined]  # of a FoldedDecoder
        known = np.array([person_key(person) in trained for person in people.tolist()])
        lines += [
            {
                "decoder": name,
                "disorder": disorder,
                "patients": len(own),
                "controls": len(healthy),
                **_separation(output[own], output[healthy]),
                "known": float(known[np.concatenate([own, healthy])].mean()),
            }
            for disorder, own in sick.items()
        ]
    return pd.DataFrame(lines)


def _rows_of(
    labels: NDArray[Any], stays: NDArray[np.bool_], control: str
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Rows of controls, and of every disorder's patients."""
    healthy = np.flatnonzero(stays & (labels == control))
    disorders = sorted({str(d) for d in labels[stays] if d != control})
    if not disorders or not len(healthy):
        raise DecodeError(
            f"expected patients and people called {control!r}, found {len(disorders)} disorder(s)"
            f" and {len(healthy)} controls; say what controls are called"
        )
    return healthy, {d: np.flatnonzero(stays & (labels == d)) for d in disorders}


def _separation(sick: NDArray[np.float64], healthy: NDArray[np.float64]) -> dict[str, float]:
    """AUC with its interval, and Cohen's d of log odds."""
    n, m = len(sick), len(healthy)
    ranks = stats.rankdata(np.concatenate([sick, healthy]))
    auc = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
    q1, q2 = auc / (2.0 - auc), 2.0 * auc * auc / (1.0 + auc)
    variance = auc * (1 - auc) + (n - 1) * (q1 - auc**2) + (m - 1) * (q2 - auc**2)
    half = 1.959964 * float(np.sqrt(max(variance, 0.0) / (n * m)))
    a, b = (np.log(np.clip(p, 1e-9, 1 - 1e-9) / np.clip(1 - p, 1e-9, 1)) for p in (sick, healthy))
    pooled = (
        np.sqrt(((n - 1) * a.var(ddof=1) + (m - 1) * b.var(ddof=1)) / max(n + m - 2, 1))
        if (min(n, m) > 1)
        else np.nan
    )
    return {
        "auc": auc,
        "auc_low": max(0.0, auc - half),
        "auc_high": min(1.0, auc + half),
        "d": float((a.mean() - b.mean()) / pooled) if pooled > 0 else float("nan"),
    }
