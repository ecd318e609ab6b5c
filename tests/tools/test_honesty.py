"""Short forms of the proofs of what decoders claim: simulated nothing, and real people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tools.bench import honesty, rest


def test_nothing_is_reported_where_nothing_is() -> None:
    """Six sites, prevalence from 15 to 85 %, no effect (simulated)."""
    rows = pd.DataFrame(honesty.measure(range(3), n_people=80, n_edges=600))
    assert abs(rows["AUC within sites"].mean() - 0.5) < 0.05
    assert abs(rows["AUC at sites left out"].mean() - 0.5) < 0.05
    assert rows["edges as measured: AUC pooled over sites"].min() > 0.65
    assert rows["ComBat keeping the label, on everybody: AUC pooled over sites"].min() > 0.55
    assert rows["ComBat without it, on everybody: AUC pooled over sites"].max() < 0.45
    assert rows["site told before"].min() > 0.9
    assert rows["site told after"].max() < 0.35
    assert rows["confounded"].all()


def test_an_effect_is_reported_where_one_is() -> None:
    (row,) = honesty.measure([0], n_people=60, n_edges=200, n_effect_edges=15)
    assert row["AUC within sites"] > 0.6
    assert row["AUC at sites left out"] > 0.6


@pytest.fixture(scope="module")
def three_sites(data: Path) -> rest.Rest:
    return rest.load(data / "rest")


@pytest.fixture(autouse=True)
def few_deals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "SEEDS", range(2))


def test_people_of_three_sites_each_once(three_sites: rest.Rest) -> None:
    """Two people with the same values under two names are left out, and one ROI for everyone."""
    assert three_sites.people["site"].value_counts().to_dict() == {
        "essen": 47,
        "bochum": 41,
        "szeged": 29,
    }
    assert three_sites.X.shape == three_sites.first.shape == (117, 7260)
    assert not {"essen-004", "essen-005"} & set(three_sites.people["participant"])
    # the halves are of the same people and edges as the whole
    r = np.corrcoef(three_sites.X.ravel(), (three_sites.first + three_sites.second).ravel())[0, 1]
    assert r > 0.95


def test_the_site_is_taken_out_of_real_people(three_sites: rest.Rest) -> None:
    told = rest.site_told(three_sites)
    assert told["before"] > 0.8
    assert told["after"] < 0.55
    variance = rest.variance_between_sites(three_sites)
    assert variance["after"] < 0.2 * variance["before"]


def test_who_somebody_is_stays_in(three_sites: rest.Rest) -> None:
    found = rest.identification(three_sites)
    for gallery in ("everyone", "own site"):
        assert found[gallery]["before"] > 0.9
        assert found[gallery]["after"] > found[gallery]["before"] - 0.03
    assert found["everyone"]["people looked among"] > found["own site"]["people looked among"]
