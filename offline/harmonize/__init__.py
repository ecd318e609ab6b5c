"""Harmonizers: what scanners add to connectivity is estimated and taken out.

`TravelingSubject` needs people who were scanned at every site and removes the measurement bias
alone; `ComBat` needs nobody to travel and makes sites alike, whatever made them differ.
"""

from offline.harmonize.traveling import TravelingSubject

__all__ = ["TravelingSubject"]
