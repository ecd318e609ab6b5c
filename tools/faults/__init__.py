"""Fault scripts: what goes wrong at the scanner, when, and what a loop can have had of it."""

from tools.faults.accounting import Accounting, Fate, expected
from tools.faults.script import KINDS, Fault, FaultScript, random_faults
from tools.faults.timetable import Delivery, deliveries

__all__ = [
    "KINDS",
    "Accounting",
    "Delivery",
    "Fate",
    "Fault",
    "FaultScript",
    "deliveries",
    "expected",
    "random_faults",
]
