"""What a twin recovers of simulated people's truth: planted edges, and effects of editing them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from offline.twin.background import Background, backgrounds_of
from offline.twin.baselines import KernelRidge
from offline.twin.intervene import edited_twins
from offline.twin.outcomes import Target
from offline.twin.screen import importance
from offline.twin.study import Study
from offline.twin.synthetic import SyntheticPeople
from offline.twin.twin import Twin

__all__ = ["truth_tables"]

NOTHING_PLANTED = "no edge was planted"
NO_TRUTH = "the truth is not known of real people"


def truth_tables(
    study: Study, twin: Twin | None, missing: str, seed: int, threads: int
) -> dict[str, pd.DataFrame]:
    """`edges`, planted ones among all, and `interventions`, true against predicted effects.

    Parameters
    ----------
    study : Study
    twin : Twin or None
    missing : str
        Why there is no twin.
    seed : int
        Of the doses.
    threads : int
        Of torch.
    """
    truth = study.truth
    if twin is None or truth is None or not len(truth.planted):
        why = missing if twin is None else NO_TRUTH if truth is None else NOTHING_PLANTED
        absent = pd.DataFrame([{"note": f"not measured: {why}"}])
        return {"edges": absent, "interventions": absent.copy()}
    return {
        "edges": pd.DataFrame(list(_recovered(study, twin, truth))),
        "interventions": pd.DataFrame(list(_edits(study, twin, truth, seed, threads))),
    }


def _recovered(study: Study, twin: Twin, truth: SyntheticPeople) -> Iterator[dict[str, Any]]:
    """Average precision of the planted edges among all."""
    z, examples = study.connectomes, study.examples
    planted = np.isin(np.arange(z.shape[1]), truth.planted)
    y = np.nanmean(np.exp(examples.log_rt), axis=(1, 2))
    ridge = KernelRidge("linear").fit(z, y)
    for name, score in (
        ("twin", importance(twin, z, examples)),
        ("ridge weights", np.abs(ridge.X_.T @ ridge.dual_)),
    ):
        found = float(average_precision_score(planted, score))
        yield {"by": name, "auprc": found, "times_prevalence": found / float(planted.mean())}


def _edits(
    study: Study, twin: Twin, truth: SyntheticPeople, seed: int, threads: int
) -> Iterator[dict[str, Any]]:
    """True and predicted effects of editing each planted circuit."""
    z, examples = study.connectomes, study.examples
    place = {name: k for k, name in enumerate(truth.people["participant"])}
    at = np.array([place[name] for name in examples.people])
    _, sd = twin.edge_spread()
    known = _backgrounds(study, twin, threads)
    rng = np.random.default_rng((seed, 6))
    for number in (0, 1):
        edges = truth.planted[truth.circuit == number]
        delta = rng.uniform(-1.0, 1.0, (len(z), 1)) * sd[edges]
        found = edited_twins(twin, z, edges, delta, examples, None, [Target("rt")], threads, known)
        everybody = np.zeros((len(truth.edges), len(edges)))
        everybody[at] = delta
        true, change = truth.delta_rt_s(edges, everybody)[at], found.change[0]
        kept = np.isfinite(change)
        ends = kept & np.isfinite(found.low[0])
        inside = (found.low[0] <= true) & (true <= found.high[0])
        yield {
            "circuit": f"planted {number + 1}", "n": int(kept.sum()),
            "refused": int((~kept).sum()), "r": float(np.corrcoef(true[kept], change[kept])[0, 1]),
            "true_ms": 1e3 * float(np.sqrt(np.mean(true[kept] ** 2))),
            "predicted_ms": 1e3 * float(np.sqrt(np.mean(change[kept] ** 2))),
            "covered": float(inside[ends].mean()) if ends.any() else np.nan,
            "note": "" if known is not None else "shrunken: not all training people are here",
        }  # fmt: skip


def _backgrounds(study: Study, twin: Twin, threads: int) -> tuple[Background, ...] | None:
    """For effects in their own size, where all whom the twin was trained with are here."""
    rows = np.flatnonzero(twin.folds_of(study.examples.people) >= 0)
    if len(rows) < len(twin.people) or twin.settings.form != "low_rank":
        return None
    return backgrounds_of(twin, study.connectomes[rows], study.examples.of(rows), threads=threads)
