"""What a loop can have had of a faulty run: a plain model of its door, for fault tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tools.faults.script import FaultScript, Restart
from tools.faults.timetable import Delivery, deliveries

__all__ = ["Accounting", "Fate", "expected"]

Fate = Literal["used", "censored", "late", "refused", "missing"]
"""used: in time and whole; censored: in time, but NaN; late: came when its successor had gone or
its deadline was over (its place in the design counts as missing); refused: came broken;
missing: never came."""


@dataclass(slots=True)
class Accounting:
    """What a loop can have had of one attempt.

    Attributes
    ----------
    fates : dict of int to Fate
        One for every volume index below the planned number.
    duplicates : dict of int to int
        How often a volume came again.
    n_foreign : int
        Volumes of other series that came in between.
    complete : bool
        Whether the series ran to its end.
    """

    fates: dict[int, Fate] = field(default_factory=dict)
    duplicates: dict[int, int] = field(default_factory=dict)
    n_foreign: int = 0
    complete: bool = True

    def with_fate(self, fate: Fate) -> list[int]:
        """Indices of one fate, ascending."""
        return [index for index, found in sorted(self.fates.items()) if found == fate]


def expected(
    script: FaultScript,
    n_volumes: int,
    patience_tr: float = 0.0,
    deadline_tr: float | None = None,
) -> list[Accounting]:
    """What a loop can have had, by a plain model of its door.

    Parameters
    ----------
    script : FaultScript
        What goes wrong.
    n_volumes : int
        Volumes of each attempt.
    patience_tr : float
        How long a volume is held for missing predecessors before it is used: 0 for the stream,
        the gateway's wait for an export folder.
    deadline_tr : float or None
        How long after its time a volume is given up even without a successor; None for never.

    Returns
    -------
    list of Accounting
        One per attempt, in order.
    """
    plan = deliveries(script, n_volumes)
    start_tr = 0.0
    accounts = []
    for attempt in range(1 + max((one.attempt for one in plan), default=0)):
        faults = script.of(attempt)
        end = next((f for f in faults if f.kind in ("abort", "restart")), None)
        account = _account([one for one in plan if one.attempt == attempt], n_volumes)
        _judge_times(account, plan, attempt, start_tr, patience_tr, deadline_tr)
        account.complete = end is None or end.volume >= n_volumes - 1
        accounts.append(account)
        if isinstance(end, Restart):
            start_tr += end.volume + 1 + end.pause_tr
    return accounts


def _account(plan: list[Delivery], n_volumes: int) -> Accounting:
    """Fates by content alone, as if everything that came had come in time."""
    account = Accounting(dict.fromkeys(range(n_volumes), "missing"))
    for one in plan:
        if one.part == "foreign":
            account.n_foreign += 1
        elif one.copy:
            account.duplicates[one.index] = account.duplicates.get(one.index, 0) + 1
        elif one.part == "cut" or one.change in ("wrong_shape", "wrong_affine"):
            account.fates[one.index] = "refused"
        elif one.part != "first":
            account.fates[one.index] = "censored" if one.change == "nan" else "used"
    return account


def _judge_times(
    account: Accounting,
    plan: list[Delivery],
    attempt: int,
    start_tr: float,
    patience_tr: float,
    deadline_tr: float | None,
) -> None:
    """Mark as late what came after its successor, its deadline, or the start of a new attempt."""
    came: dict[int, tuple[float, int]] = {}
    for order, one in enumerate(plan):
        good = account.fates.get(one.index) in ("used", "censored")
        if one.attempt == attempt and good and one.part in ("whole", "rest") and not one.copy:
            came[one.index] = (one.at_tr, order)
    anew = [(one.at_tr, order) for order, one in enumerate(plan) if one.attempt > attempt]
    for index, (at_tr, order) in came.items():
        overtaken = any(
            later > index and (gone_tr + patience_tr, place) <= (at_tr, order)
            for later, (gone_tr, place) in came.items()
        )
        over = deadline_tr is not None and at_tr - (start_tr + index + 1) > deadline_tr
        closed = any(started <= (at_tr, order) for started in anew)
        if overtaken or over or closed:
            account.fates[index] = "late"
