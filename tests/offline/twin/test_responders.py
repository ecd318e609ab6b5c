"""Who responds, and who has edges for a plan: of effects made by hand, every reason one person."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from offline.atlas import Atlas
from offline.errors import TwinError
from offline.twin.effects import NO_INTERVAL, Intervention
from offline.twin.responders import group_view, plan_edges

FAR = "outside the people it was trained with"
OTHER_WAY, CHANCE = "predicted the other way", "may be chance"
PEOPLE = {
    # change, low, high, agreement
    "crossing": (-0.02, -0.05, 0.01, 1.0),
    "slower": (0.04, 0.01, 0.07, 1.0),
    "divided": (-0.01, -0.015, -0.005, 0.6),
    "faster": (-0.05, -0.07, -0.03, 1.0),
    "far": (np.nan, np.nan, np.nan, np.nan),
    "alone": (-0.03, np.nan, np.nan, 1.0),
}
TWIN = SimpleNamespace(provenance="real", atlas=Atlas("four", tuple("ABCD")))


@pytest.fixture
def found():
    """Of the target asked for, after one that says the contrary of everybody."""
    change, low, high, agreement = np.array(list(PEOPLE.values())).T
    n = len(PEOPLE)
    return Intervention(
        people=tuple(PEOPLE),
        edges=np.array([0, 3, 4]),
        delta_z=np.tile([0.4, 0.0, -0.1], (n, 1)),
        targets=("response:dACC", "rt"),
        before=np.array([np.full(n, 9.0), np.full(n, 0.8)]),
        members=np.full((2, 3, n), np.nan),
        change=np.array([-change, change]),
        low=np.array([-high, low]),
        high=np.array([-low, high]),
        agreement=np.array([agreement, agreement]),
        others=np.zeros(n),
        refused=tuple(FAR if name == "far" else "" for name in PEOPLE),
    )


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (-1, {"faster": "", "alone": NO_INTERVAL, "crossing": CHANCE, "divided": CHANCE,
              "slower": OTHER_WAY, "far": FAR}),
        (1, {"slower": "", "divided": OTHER_WAY, "crossing": OTHER_WAY, "alone": NO_INTERVAL,
             "faster": OTHER_WAY, "far": FAR}),
    ],
)  # fmt: skip
def test_the_group_view_has_the_strongest_first_and_says_why_not(found, direction, expected):
    change, low, high, _ = np.array([PEOPLE[name] for name in expected]).T
    view = group_view(found, "rt", direction)
    rows = pd.DataFrame(
        {
            "person": list(expected), "before": 0.8, "after": 0.8 + change, "change": change,
            "low": low, "high": high, "responds": [not why for why in expected.values()],
            "why_not": list(expected.values()),
        }
    )  # fmt: skip
    pd.testing.assert_frame_equal(view, rows, check_dtype=False)


def test_effects_that_may_be_chance_either_way_are_of_nobody(found):
    view = group_view(replace(found, low=-np.abs(found.low), high=np.abs(found.high)), "rt", 1)
    assert not view["responds"].any()
    assert view.set_index("person")["why_not"]["slower"] == CHANCE


def test_a_target_that_was_not_asked_for_is_refused(found):
    with pytest.raises(TwinError, match="expected one of the targets response:dACC, rt"):
        group_view(found, "speed", -1)
    with pytest.raises(TwinError, match="expected one of the targets response:dACC, rt"):
        plan_edges(TWIN, found, "faster", "speed", -1)


@pytest.mark.parametrize(("person", "direction"), [("faster", -1), ("slower", 1)])
def test_a_plan_has_the_edges_that_are_edited_by_how_much(found, person, direction):
    edges = plan_edges(TWIN, found, person, "rt", direction)
    assert [(edge.a, edge.b) for edge in edges] == [("A", "B"), ("B", "D")]
    assert [edge.weight for edge in edges] == pytest.approx([1.0, 0.25])
    assert [edge.direction for edge in edges] == [1, -1]


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ("crossing", r"of sub-crossing to plan for, found: 90% interval -0.05 to \+0.01 covers 0"),
        ("divided", "found: only 60% of members agree on the sign"),
        ("alone", f"found: {NO_INTERVAL}"),
        ("far", f"found: {FAR}"),
        ("slower", r"found: a change the other way, \+0.04"),
        ("nobody", "expected a person of the intervention, found 'nobody'"),
    ],
)
def test_a_plan_without_a_certain_effect_is_refused(found, person, message):
    with pytest.raises(TwinError, match=message):
        plan_edges(TWIN, found, person, "rt", -1)


def test_a_plan_of_a_simulated_twin_is_refused(found):
    simulated = SimpleNamespace(provenance="synthetic", atlas=TWIN.atlas)
    with pytest.raises(TwinError, match="expected a twin of real people for a plan"):
        plan_edges(simulated, found, "faster", "rt", -1)
