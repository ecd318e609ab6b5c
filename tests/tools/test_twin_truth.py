"""The known-truth benchmark: what it computes of cohorts whose figures are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from tools.bench import twin_truth, twin_truth_figures
from tools.bench.twin_truth import digest, measure
from tools.bench.twin_truth_figures import summarise

N = 400


def cohort(form: str, seed: int, twin_r: float, recommended: int = 0) -> dict:
    """A cohort in which predictors tell as much as is said, and edits are told half as large."""
    rng = np.random.default_rng(seed)
    y, own = rng.standard_normal((2, N))
    told = {
        name: (r * y + np.sqrt(1.0 - r**2) * rng.standard_normal(N)).tolist()
        for name, r in (
            ("kernel ridge", 0.2),
            ("kernel ridge, linear", 0.15),
            ("CPM", 0.1),
            ("kernel ridge, quadratic", 0.1),
            ("twin", twin_r),
        )
    }
    told["twin, exchanged connectomes"] = own.tolist()
    fold = np.arange(N) % 5
    zero_shot = {"rt_s": (y + 9.0 * fold).tolist(), "fold": fold.tolist(), **told}
    surest = {"planted": True, "true_s": -0.01, "associated_s": -0.03}
    found = {"n": 60, "people": recommended, "without_null": 30}
    found["surest"] = [surest | {"low_s": -0.05, "high_s": 0.0} for _ in range(recommended)]
    row = {"form": form, "seed": seed, "cpu_s": 1.0, "zero_shot": zero_shot, "recommended": found}
    if form == "none":
        return row
    true = rng.standard_normal(60)
    edit = {
        "circuit": "planted, first", "true_s": true.tolist(), "change_s": (0.5 * true).tolist(),
        # every tenth interval misses
        "low_s": (true - 1.0).tolist(),
        "high_s": np.where(np.arange(60) % 10 == 0, true - 0.5, true + 1.0).tolist(),
    }  # fmt: skip
    edit |= {f"shrunken_{name}": edit[name] for name in ("low_s", "high_s")}
    edit["shrunken_s"] = (0.1 * true).tolist()
    edges = {"prevalence": 0.002, "twin": 0.01, "ridge weights": 0.005}
    return {**row, "edges": edges, "edits": [edit]}


def test_figures_of_known_cohorts_are_found_and_judged(monkeypatch):
    monkeypatch.setattr(twin_truth_figures, "N_DRAWS", 200)
    found = {
        "linear": [cohort("linear", k, 0.2, recommended=6) for k in range(4)],
        "interaction": [cohort("interaction", 10 + k, 0.7) for k in range(4)],
        "gated": [cohort("gated", 20 + k, -0.3) for k in range(4)],
        "none": [cohort("none", 30 + k, 0.0, recommended=3) for k in range(20)],
    }
    figures, reached = summarise(found)
    assert figures["interaction"]["r"]["twin"]["value"] == pytest.approx(0.7, abs=0.03)
    gain = figures["interaction"]["gain"]["kernel ridge"]
    assert gain["low"] < 0.5 < gain["high"]
    assert figures["interaction"]["auprc"]["twin"]["times"] == pytest.approx(5.0)
    edits = figures["edits"]["all circuits"]
    assert edits["r"]["value"] == pytest.approx(1.0)
    assert edits["true per predicted"]["value"] == pytest.approx(2.0)
    assert edits["covered"]["value"] == pytest.approx(0.9)
    shrunken = figures["edits, shrunken"]["all circuits"]
    assert shrunken["true per predicted"]["value"] == pytest.approx(10.0)
    assert figures["none"]["recommended"]["value"] == pytest.approx(0.05)
    assert reached["interaction: zero-shot RT above kernel ridge, interval above 0"]
    assert not reached["gated: zero-shot RT above CPM, interval above 0"]
    assert reached["linear: no worse than kernel ridge within the interval"]
    assert reached["predicted against true ΔRT: r >= .7, the value"]
    assert reached["90 % intervals cover 85-95 %, the value, >= 500 people of >= 10 cohorts"]
    assert reached["nothing planted: recommended to <= 5 % of people, the value, >= 20 cohorts"]
    told = figures["recommended"]["linear"]
    assert told["people"]["value"] == pytest.approx(0.1)
    assert told["planted"] == told["covered"] == 1.0
    assert told["rms_true_ms"] == pytest.approx(10.0)
    assert told["rms_associated_ms"] == pytest.approx(30.0)
    assert figures["recommended"]["gated"] == {
        "people": {"value": 0.0, "low": 0.0, "high": 0.0}, "surest edges": 0,
    }  # fmt: skip


def test_intervals_over_cohorts_are_students():
    values = np.array([0.1, 0.2, 0.3, 0.2])
    found = twin_truth_figures._student(values)
    half = 3.1824463 * values.std(ddof=1) / 2.0
    assert found["value"] == pytest.approx(0.2)
    assert found["high"] - found["value"] == pytest.approx(half, abs=1e-4)


def test_too_few_cohorts_reach_nothing_about_edits_and_nothing_planted(monkeypatch):
    monkeypatch.setattr(twin_truth_figures, "N_DRAWS", 50)
    found = {
        "linear": [cohort("linear", k, 0.2) for k in range(2)],
        "none": [cohort("none", 30 + k, 0.0) for k in range(3)],
    }
    _, reached = summarise(found)
    assert not reached["predicted against true ΔRT: r >= .7, the value"]
    nothing = "nothing planted: recommended to <= 5 % of people, the value, >= 20 cohorts"
    assert not reached[nothing]


def test_cohorts_are_kept_and_not_run_again(monkeypatch, tmp_path):
    asked = []

    def counted(form: str, seed: int) -> dict:
        asked.append((form, seed))
        return cohort(form, seed, 0.2)

    monkeypatch.setattr(twin_truth, "CACHE", tmp_path)
    monkeypatch.setattr(twin_truth, "cohort", counted)
    seeds = {"linear": range(2), "gated": range(5, 6)}
    first = measure(seeds, say=lambda text: None)
    assert asked == [("linear", 0), ("gated", 5), ("linear", 1)]  # one of each form first
    assert measure(seeds, say=lambda text: None) == first
    assert len(asked) == 3
    late = measure({"linear": range(3)}, say=lambda text: None, until_s=0.0)
    assert len(late["linear"]) == 2
    assert len(digest()) == 10
