"""Fault scripts: what goes wrong at the scanner, when, and what a loop can have had of it."""

from tools.faults.accounting import Accounting, Fate, expected
from tools.faults.script import KINDS, Fault, FaultScript, random_faults
from tools.faults.timetable import Change, Delivery, Part, deliveries

__all__ = [
    "KINDS",
    "Accounting",
    "Change",
    "Delivery",
    "Fate",
    "Fault",
    "FaultScript",
    "Part",
    "deliveries",
    "expected",
    "random_faults",
]
