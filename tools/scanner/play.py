"""The simulated scanner: a series handed out volume by volume, on time, with scripted faults.

Deadlines are absolute: volume i is due i + 1 repetition times after the start, whatever the ones
before it cost, so the pace never drifts. Clock and waiting are parameters: with a clock that jumps
when it is waited for, an hour of scanning takes no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rtloop.errors import ConfigError
from tools.faults import Delivery, FaultScript, deliveries
from tools.scanner.series import Series

__all__ = ["Outlet", "Played", "play"]

READY_POLL_S = 0.02


class Outlet(Protocol):
    """Where a scanner's volumes go: `ExportFolder` or `StreamOut`."""

    def check(self, series: Series, deliveries: list[Delivery]) -> None:
        """Refuse what cannot be played."""

    def start(self) -> None:
        """Get ready; the first volume is due one repetition time later."""

    def prepare(self, series: Series, delivery: Delivery) -> Any:
        """Make a delivery's content, before it is due."""

    def deliver(self, series: Series, delivery: Delivery, content: Any) -> None:
        """Hand it out."""

    def idle(self, seconds: float) -> None:
        """Wait, doing what has to be done meanwhile."""

    def is_ready(self) -> bool:
        """Whether more can be handed out when there is no pace."""

    def finish(self, series: Series, complete: bool) -> None:
        """The series has ended."""


@dataclass(frozen=True, slots=True)
class Played:
    """What was handed out.

    Attributes
    ----------
    n_deliveries : int
        Files' volumes, parts of them and foreign ones.
    late_s : list of float
        By how much each was handed out after its deadline, seconds; empty without a pace.
    """

    n_deliveries: int
    late_s: list[float] = field(default_factory=list)


def play(
    series: Series,
    outlet: Outlet,
    script: FaultScript | None = None,
    *,
    speed: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] | None = None,
    before: Sequence[Callable[[Delivery], object]] = (),
) -> Played:
    """Play a series.

    Parameters
    ----------
    series : Series
        What is played.
    outlet : Outlet
        Where it goes.
    script : FaultScript or None
        What goes wrong; None for nothing.
    speed : float
        1 for true time, K for K times as fast, 0 for as fast as it is taken.
    clock : callable
        Monotonic seconds.
    wait : callable or None
        Lets so many seconds pass; None for the outlet's own way, which keeps links alive.
    before : sequence of callable
        Called with each delivery before it is made: progress, or feedback for a participant.

    Raises
    ------
    ConfigError
        If the speed is negative, or a fault cannot be shown by this outlet.
    """
    if not 0 <= speed < float("inf"):
        raise ConfigError(f"speed: expected 0 or a positive factor, found {speed:g}; correct it")
    script = script or FaultScript()
    plan = deliveries(script, series.n_volumes)
    outlet.check(series, plan)
    wait = wait or outlet.idle
    outlet.start()
    start_s = clock()
    late_s = []
    for delivery in plan:
        for call in before:
            call(delivery)
        content = outlet.prepare(series, delivery)
        if speed > 0:
            due_s = start_s + delivery.at_tr * series.tr_s / speed
            _wait_until(due_s, clock, wait)
            late_s.append(clock() - due_s)
        else:
            while not outlet.is_ready():
                wait(READY_POLL_S)
        outlet.deliver(series, delivery, content)
    outlet.finish(series, _is_complete(plan, series.n_volumes))
    return Played(len(plan), late_s)


def _wait_until(due_s: float, clock: Callable[[], float], wait: Callable[[float], None]) -> None:
    """Wait for an absolute time; waiting may end early, when a link has something to do."""
    while (left_s := due_s - clock()) > 0:
        wait(left_s)


def _is_complete(plan: list[Delivery], n_volumes: int) -> bool:
    """Whether the last attempt reached its last volume."""
    last = max((one.attempt for one in plan), default=0)
    return any(one.attempt == last and one.index == n_volumes - 1 for one in plan)
