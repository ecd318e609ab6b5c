"""Scanner files to volumes, one scanner form per file; which series belong to the run.

`Assembler` is what the gateway uses, file by file; `survey` and `read_series` look at folders.
"""

from rtloop.readers.assembler import Assembler
from rtloop.readers.binding import ScannerConfig
from rtloop.readers.export import as_nifti
from rtloop.readers.outcome import (
    Complete,
    Outcome,
    Refused,
    Repeat,
    Skipped,
    Taken,
    Unfinished,
)
from rtloop.readers.survey import SeriesFound, read_series, survey, the_series, volumes_of

__all__ = [
    "Assembler",
    "Complete",
    "Outcome",
    "Refused",
    "Repeat",
    "ScannerConfig",
    "SeriesFound",
    "Skipped",
    "Taken",
    "Unfinished",
    "as_nifti",
    "read_series",
    "survey",
    "the_series",
    "volumes_of",
]
