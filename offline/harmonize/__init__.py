"""Harmonizers: what scanners add to connectivity is estimated and taken out.

`TravelingSubject` needs people who were scanned at every site and removes the measurement bias
alone; `ComBat` needs nobody to travel and makes sites alike, whatever made them differ.
"""

from __future__ import annotations

from pathlib import Path

from offline.harmonize.combat import ComBat
from offline.harmonize.metric import two_fold_bias
from offline.harmonize.models import HARMONIZERS
from offline.harmonize.traveling import TravelingSubject

__all__ = ["ComBat", "TravelingSubject", "load", "two_fold_bias"]


def load(path: str | Path) -> ComBat | TravelingSubject:
    """Read any saved harmonizer; the file says which it is.

    Raises
    ------
    HarmonizeError
        If there is no such file, or it is no harmonizer of this version.
    """
    kind, arrays, header = HARMONIZERS.read(path)
    known: dict[str, type[ComBat | TravelingSubject]] = {
        of.__name__: of for of in (ComBat, TravelingSubject)
    }
    return known[kind].restored(arrays, header)
