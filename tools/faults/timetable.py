"""The timetable of a faulty run: what is handed out when, over the stream or into a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tools.faults.script import (
    Burst,
    Delay,
    Drop,
    Duplicate,
    Fault,
    FaultScript,
    Nan,
    Partial,
    Reorder,
    Truncate,
    WrongAffine,
    WrongSeries,
    WrongShape,
)

__all__ = ["Change", "Delivery", "Part", "deliveries"]

Change = Literal["none", "nan", "wrong_shape", "wrong_affine"]
JUST_AFTER_TR = 1e-6
"""Right after another volume, yet before anything that comes a moment later."""

Part = Literal["whole", "first", "rest", "cut", "foreign"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One thing the scanner hands out.

    Attributes
    ----------
    at_tr : float
        When, in repetition times since the start; volume i is complete at i + 1.
    attempt, index : int
        Which volume (of a foreign series: the one it comes before).
    part : {"whole", "first", "rest", "cut", "foreign"}
        All of it; the first part of it, to be completed by the rest; a part that stays alone; a
        volume of a foreign series.
    keep : float
        Share of the file in the first or only part.
    change : {"none", "nan", "wrong_shape", "wrong_affine"}
        What is wrong with the content.
    shift_mm : float
        How far a wrong affine is off.
    copy : int
        0, or the how-manieth repetition of the volume this is.
    """

    at_tr: float
    attempt: int
    index: int
    part: Part = "whole"
    keep: float = 1.0
    change: Change = "none"
    shift_mm: float = 0.0
    copy: int = 0


def deliveries(script: FaultScript, n_volumes: int) -> list[Delivery]:
    """The timetable of a run under faults.

    Parameters
    ----------
    script : FaultScript
        What goes wrong.
    n_volumes : int
        Volumes of each attempt.

    Returns
    -------
    list of Delivery
        In order of time, ties in the order they are handed out.
    """
    plan: list[Delivery] = []
    start_tr, attempt = 0.0, 0
    while True:
        faults = {fault.volume: fault for fault in script.of(attempt)}
        end = next((f for f in faults.values() if f.kind in ("abort", "restart")), None)
        last = n_volumes - 1 if end is None else min(end.volume, n_volumes - 1)
        for index in range(last + 1):
            plan += _of_volume(faults.get(index), attempt, index, start_tr)
        plan = _held_back(plan, faults, attempt, last, start_tr)
        if end is None or end.kind == "abort" or end.volume >= n_volumes:
            return sorted(plan, key=lambda delivery: delivery.at_tr)
        start_tr += end.volume + 1 + end.pause_tr
        attempt += 1


def _of_volume(fault: Fault | None, attempt: int, index: int, start_tr: float) -> list[Delivery]:
    """What is handed out of one volume."""
    at_tr = start_tr + index + 1
    plain = Delivery(at_tr, attempt, index)
    match fault:
        case Drop():
            return []
        case Duplicate(after=after):
            again_tr = at_tr + after + (JUST_AFTER_TR if after else 0)
            return [plain, Delivery(again_tr, attempt, index, copy=1)]
        case Reorder():
            return [Delivery(at_tr + 1 + JUST_AFTER_TR, attempt, index)]
        case Delay(by_tr=by_tr):
            return [Delivery(at_tr + by_tr, attempt, index)]
        case Partial(keep=keep, pause_tr=pause_tr):
            first = Delivery(at_tr, attempt, index, "first", keep)
            return [first, Delivery(at_tr + pause_tr, attempt, index, "rest", keep)]
        case Truncate(keep=keep):
            return [Delivery(at_tr, attempt, index, "cut", keep)]
        case Nan():
            return [Delivery(at_tr, attempt, index, change="nan")]
        case WrongShape():
            return [Delivery(at_tr, attempt, index, change="wrong_shape")]
        case WrongAffine(shift_mm=shift_mm):
            return [Delivery(at_tr, attempt, index, change="wrong_affine", shift_mm=shift_mm)]
        case WrongSeries(n_volumes=n):
            between = [Delivery(at_tr - 0.5, attempt, index, "foreign", copy=i) for i in range(n)]
            return [*between, plain]
        case _:
            return [plain]


def _held_back(
    plan: list[Delivery], faults: dict[int, Fault], attempt: int, last: int, start_tr: float
) -> list[Delivery]:
    """The timetable with bursts: their volumes come when the last of them would have."""
    moved = list(plan)
    for fault in faults.values():
        if isinstance(fault, Burst):
            stop = min(fault.volume + fault.n_volumes - 1, last)
            for place, one in enumerate(moved):
                if one.attempt == attempt and fault.volume <= one.index <= stop:
                    late_tr = max(one.at_tr, start_tr + stop + 1)
                    moved[place] = replace(one, at_tr=late_tr)
    return moved
