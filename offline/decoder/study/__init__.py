"""One decoder on one cohort: who is compared with whom, with what, and what is written down.

`choose` says which scans of a cohort take part for a target, `make_decoder` and
`make_harmonizer` which estimators, `disorders_table` applies the decoders of all disorders to
all of them, and `write_study` leaves everything in one folder: report, results as JSON, tables,
and the fitted decoder.
"""

from offline.decoder.study.choice import CONTROLS, Chosen, choose
from offline.decoder.study.disorders import disorders_table
from offline.decoder.study.recipe import Harmonizer, Selector, make_decoder, make_harmonizer
from offline.decoder.study.writing import write_study

__all__ = [
    "CONTROLS",
    "Chosen",
    "Harmonizer",
    "Selector",
    "choose",
    "disorders_table",
    "make_decoder",
    "make_harmonizer",
    "write_study",
]
