"""Fault scripts: what each fault does to the timetable, and the plain model of what is left."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rtloop.errors import ConfigError
from rtloop.gateway.order import Order
from tools.faults import (
    KINDS,
    Accounting,
    Delivery,
    FaultScript,
    deliveries,
    expected,
    random_faults,
)

N = 10
EXAMPLE = Path(__file__).parents[2] / "configs" / "faults.toml"


def script(*faults: dict[str, Any]) -> FaultScript:
    return FaultScript.model_validate({"fault": faults})


def order(plan: list[Delivery]) -> list[int]:
    return [one.index for one in plan]


def test_without_faults_every_volume_comes_when_it_is_complete() -> None:
    plan = deliveries(FaultScript(), N)
    assert [(one.index, one.at_tr) for one in plan] == [(i, i + 1.0) for i in range(N)]
    (account,) = expected(FaultScript(), N)
    assert account == Accounting(dict.fromkeys(range(N), "used"))


def test_drop() -> None:
    faulty = script({"kind": "drop", "volume": 4})
    assert order(deliveries(faulty, N)) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert expected(faulty, N)[0].fates[4] == "missing"


def test_duplicate_comes_again_and_is_counted() -> None:
    faulty = script({"kind": "duplicate", "volume": 3, "after": 2})
    plan = deliveries(faulty, N)
    assert order(plan) == [0, 1, 2, 3, 4, 5, 3, 6, 7, 8, 9]
    assert [one.copy for one in plan if one.index == 3] == [0, 1]
    (account,) = expected(faulty, N)
    assert account.duplicates == {3: 1}
    assert account.with_fate("used") == list(range(N))


def test_reorder_is_late_on_the_stream_and_repaired_by_a_patient_gateway() -> None:
    faulty = script({"kind": "reorder", "volume": 5})
    assert order(deliveries(faulty, N)) == [0, 1, 2, 3, 4, 6, 5, 7, 8, 9]
    assert expected(faulty, N)[0].with_fate("late") == [5]
    assert expected(faulty, N, patience_tr=0.5)[0].with_fate("late") == []


@pytest.mark.parametrize(("by_tr", "fate"), [(0.5, "used"), (1.2, "late"), (4.0, "late")])
def test_delay_is_late_once_the_successor_has_gone(by_tr: float, fate: str) -> None:
    faulty = script({"kind": "delay", "volume": 5, "by_tr": by_tr})
    delayed = next(one for one in deliveries(faulty, N) if one.index == 5)
    assert delayed.at_tr == pytest.approx(6 + by_tr)
    assert expected(faulty, N)[0].fates[5] == fate


def test_a_deadline_makes_late_what_no_successor_overtook() -> None:
    faulty = script({"kind": "delay", "volume": N - 1, "by_tr": 2.0})
    assert expected(faulty, N)[0].fates[N - 1] == "used"
    assert expected(faulty, N, deadline_tr=1.5)[0].fates[N - 1] == "late"


def test_burst_comes_at_once_in_order() -> None:
    faulty = script({"kind": "burst", "volume": 4, "n_volumes": 3})
    plan = deliveries(faulty, N)
    assert order(plan) == list(range(N))
    assert [one.at_tr for one in plan[3:8]] == [4.0, 7.0, 7.0, 7.0, 8.0]
    assert expected(faulty, N)[0].with_fate("used") == list(range(N))
    assert expected(faulty, N, deadline_tr=1.0)[0].with_fate("late") == [4]


def test_partial_and_truncate() -> None:
    faulty = script(
        {"kind": "partial", "volume": 2, "keep": 0.3, "pause_tr": 0.5},
        {"kind": "truncate", "volume": 6, "keep": 0.2},
        {"kind": "partial", "volume": 8, "pause_tr": 1.5},
    )
    plan = deliveries(faulty, N)
    parts = [(one.index, one.part) for one in plan if one.part != "whole"]
    assert parts == [(2, "first"), (2, "rest"), (6, "cut"), (8, "first"), (8, "rest")]
    fates = expected(faulty, N)[0].fates
    assert (fates[2], fates[6], fates[8]) == ("used", "refused", "late")


def test_wrong_content_is_refused_and_nan_censored() -> None:
    faulty = script(
        {"kind": "nan", "volume": 1},
        {"kind": "wrong_shape", "volume": 3},
        {"kind": "wrong_affine", "volume": 5, "shift_mm": 4.0},
        {"kind": "wrong_series", "volume": 7, "n_volumes": 2},
    )
    plan = deliveries(faulty, N)
    changes = {one.index: one.change for one in plan if one.change != "none"}
    assert changes == {1: "nan", 3: "wrong_shape", 5: "wrong_affine"}
    (account,) = expected(faulty, N)
    assert (account.fates[1], account.fates[3], account.fates[5]) == (
        "censored", "refused", "refused",
    )  # fmt: skip
    assert account.n_foreign == 2
    assert account.fates[7] == "used"


def test_abort_leaves_the_rest_missing() -> None:
    faulty = script({"kind": "abort", "volume": 5})
    (account,) = expected(faulty, N)
    assert account.with_fate("missing") == [6, 7, 8, 9]
    assert not account.complete
    assert order(deliveries(faulty, N)) == [0, 1, 2, 3, 4, 5]


def test_restart_begins_a_new_attempt_after_a_pause() -> None:
    faulty = script(
        {"kind": "restart", "volume": 3, "pause_tr": 2.0},
        {"kind": "drop", "volume": 1, "attempt": 1},
    )
    plan = deliveries(faulty, N)
    assert [(one.attempt, one.index) for one in plan[:6]] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 2),
    ]  # fmt: skip
    assert plan[4].at_tr == pytest.approx(4 + 2.0 + 1)
    first, second = expected(faulty, N)
    assert first.with_fate("used") == [0, 1, 2, 3]
    assert not first.complete
    assert second.with_fate("missing") == [1]
    assert second.complete


def test_a_straggler_of_a_closed_attempt_is_late() -> None:
    faulty = script(
        {"kind": "delay", "volume": 3, "by_tr": 8.0},
        {"kind": "restart", "volume": 4, "pause_tr": 1.0},
    )
    assert expected(faulty, N)[0].fates[3] == "late"
    last = script({"kind": "delay", "volume": 4, "by_tr": 8.0}, {"kind": "restart", "volume": 5})
    assert expected(last, N, patience_tr=20)[0].fates[4] == "late"


@pytest.mark.parametrize("patience_tr", [0.0, 0.5])
def test_random_scripts_account_for_every_volume_once(patience_tr: float) -> None:
    n_volumes, seen = 40, set()
    for seed in range(200):
        faulty = random_faults(seed, n_volumes, first=5)
        assert faulty == random_faults(seed, n_volumes, first=5)
        assert all(fault.volume >= 5 for fault in faulty.fault)
        places = [fault.volume for fault in faulty.fault]
        assert all(b - a >= 4 for a, b in pairwise(places))
        seen |= {fault.kind for fault in faulty.fault}
        plan = deliveries(faulty, n_volumes)
        assert [one.at_tr for one in plan] == sorted(one.at_tr for one in plan)
        accounts = expected(faulty, n_volumes, patience_tr)
        assert all(sorted(account.fates) == list(range(n_volumes)) for account in accounts)
        for account, attempt in zip(accounts, range(9), strict=False):
            came = {one.index for one in plan if one.attempt == attempt and one.part != "foreign"}
            missing = {i for i, fate in account.fates.items() if fate == "missing"}
            assert missing == set(range(n_volumes)) - came
    assert seen == set(KINDS)


def test_random_scripts_hold_only_the_kinds_asked_for() -> None:
    kinds = {f.kind for seed in range(50) for f in random_faults(seed, 60, ("drop", "delay")).fault}
    assert kinds == {"drop", "delay"}


def test_the_example_file_is_valid_and_its_account_is_as_it_says() -> None:
    faulty = FaultScript.load(EXAMPLE)
    first, second = expected(faulty, 200)
    assert first.with_fate("late") == [20, 24]
    assert first.with_fate("refused") == [38, 42, 46]
    assert first.with_fate("missing") == [12, *range(61, 200)]
    assert (first.duplicates, first.n_foreign) == ({16: 1}, 2)
    assert second.with_fate("missing") == [8]


def test_bad_scripts_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[fault]]\nkind = "drop"\nvolume = -1\n[[fault]]\nkind = "melt"\nvolume = 2\n')
    with pytest.raises(ConfigError, match=r"volume.*melt") as error:
        FaultScript.load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="expected a readable file"):
        FaultScript.load(tmp_path / "none.toml")
    with pytest.raises(ValidationError, match="several for volume 3"):
        script({"kind": "drop", "volume": 3}, {"kind": "delay", "volume": 3})


def through_the_gateway(faulty: FaultScript, patience_tr: float) -> list[list[int]]:
    """Late volumes by the gateway's own ordering, times in repetition times."""
    order: Order[tuple[int, int]] = Order()
    left: list[tuple[int, int]] = []
    for one in deliveries(faulty, N_LONG):
        left += order.due(one.at_tr)
        attempt = str(one.attempt)
        if one.part == "cut" or one.change in ("wrong_shape", "wrong_affine"):
            left += order.give_up(attempt, one.index)
        elif one.part not in ("foreign", "first") and not one.copy:
            item = (one.attempt, one.index)
            left += order.offer(attempt, one.index, item, now_s=one.at_tr, wait_s=patience_tr)
    left += order.due(1e9)
    newest = (-1, -1)
    late: dict[int, list[int]] = {attempt: [] for attempt, _ in left}
    for place in left:
        if place < newest:
            late[place[0]].append(place[1])
        newest = max(newest, place)
    return [sorted(late[attempt]) for attempt in sorted(late)]


N_LONG = 60


@pytest.mark.parametrize("patience_tr", [0.0, 0.3, 0.5, 1.2])
def test_the_model_agrees_with_the_gateways_ordering(patience_tr: float) -> None:
    n_late = 0
    for seed in range(150):
        faulty = random_faults(seed, N_LONG, apart=5)
        accounts = expected(faulty, N_LONG, patience_tr)
        found = through_the_gateway(faulty, patience_tr)
        assert [account.with_fate("late") for account in accounts] == found, seed
        n_late += sum(map(len, found))
    assert n_late > 20
