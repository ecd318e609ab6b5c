"""How well outputs tell a target, with intervals that know of people and sites.

Everything here is a function of what was observed and what a decoder said of people it had never
seen. People of one site are compared with each other: the average of the sites' own AUCs, weighted
by their sizes, cannot be raised by telling the sites apart, which a pooled AUC can.
"""

from offline.decoder.metrics.decisions import threshold_figures
from offline.decoder.metrics.frequencies import calibration, calibration_error
from offline.decoder.metrics.intervals import (
    LEVEL,
    N_DRAWS,
    Figure,
    drawn,
    person_draws,
    wilson,
)
from offline.decoder.metrics.ranking import auc, auc_interval, site_auc, site_aucs
from offline.decoder.metrics.relations import association, centred, correlation

__all__ = [
    "LEVEL",
    "N_DRAWS",
    "Figure",
    "association",
    "auc",
    "auc_interval",
    "calibration",
    "calibration_error",
    "centred",
    "correlation",
    "drawn",
    "person_draws",
    "site_auc",
    "site_aucs",
    "threshold_figures",
    "wilson",
]
