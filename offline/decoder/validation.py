"""The result of a judgement: what may be claimed of one decoder on one target, and what not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from offline.decoder.judge import WITHIN
from offline.decoder.metrics import Figure
from offline.decoder.null import SelectionNull

__all__ = ["Validation"]


@dataclass(frozen=True)
class Validation:
    """Figures and tables of one decoder on one target.

    Attributes
    ----------
    target : str
    classes : tuple of str or None
        Names of the negative and the positive class; None for a continuous target.
    figures : dict of str to Figure
        What may be quoted; `headline` is the one to begin with.
    not_to_believe : dict of str to Figure
        Pooled over sites.
    permuted : pandas.DataFrame
        One row a permutation: the headline and the pooled figure, `largest` selection count.
    sites : pandas.DataFrame
        One row a site: people, AUC (or r) with interval, within sites and left out; `told`: what
        was done with the site's scans when it was left out.
    outputs : pandas.DataFrame
        One row a judged scan: participant, site, target, output, output_left_out and, where
        known, output_calibrated and mean_fd.
    site_prediction : pandas.DataFrame
        From `offline.decoder.confounds.predict_site`.
    confounds : pandas.DataFrame
        People of each class at each site.
    confounding : float
        Cramér's V of target and site; for a continuous target the share of its SD between sites.
    motion : dict of str to Figure
        Correlation of output and mean FD: `pooled`, `within sites`.
    calibration : pandas.DataFrame or None
        Bins of probabilities: calibrated ones where the decoder has them.
    brier, calibration_error : float
        Of the same; NaN for a continuous target.
    selection : SelectionNull or None
        Selection counts against their null; None without permutations or counts.
    warnings, notes : tuple of str
        What a reader must know first, and should know besides.
    settings : dict
        Resolved configuration.
    decoder : estimator or None
        Fitted, where it is one of this package.
    disorders : pandas.DataFrame or None
        Every decoder on every disorder, where somebody made that table.
    """

    target: str
    classes: tuple[str, str] | None
    figures: dict[str, Figure]
    not_to_believe: dict[str, Figure]
    permuted: pd.DataFrame
    sites: pd.DataFrame
    outputs: pd.DataFrame
    site_prediction: pd.DataFrame
    confounds: pd.DataFrame
    confounding: float
    motion: dict[str, Figure]
    calibration: pd.DataFrame | None
    brier: float
    calibration_error: float
    selection: SelectionNull | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    decoder: Any = None
    disorders: pd.DataFrame | None = None

    @property
    def headline(self) -> str:
        """Name of the figure to begin with."""
        return WITHIN[self.classes is not None]

    @property
    def p(self) -> float:
        """Share of permutations that reach the headline, the truth counted in; NaN without any."""
        value = self.figures[self.headline].value
        if not len(self.permuted) or not np.isfinite(value):
            return float("nan")
        reached = self.permuted[self.headline].to_numpy(np.float64) >= value
        return float((1 + reached.sum()) / (1 + len(reached)))
