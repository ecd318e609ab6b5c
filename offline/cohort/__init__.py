"""Cohorts: participants, their connectivity, who was left out and why."""

from offline.cohort.build import build_cohort
from offline.cohort.exclusion import Limits
from offline.cohort.people import People, has_diagnosis, read_people
from offline.cohort.sources import open_source
from offline.cohort.stored import Cohort

__all__ = [
    "Cohort",
    "Limits",
    "People",
    "build_cohort",
    "has_diagnosis",
    "open_source",
    "read_people",
]
