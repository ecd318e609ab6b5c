"""Outputs for people never seen, judged: figures, tables by site, motion, calibration.

All figures that may be quoted compare people of one site with each other. For classes that is the
size-weighted average of the sites' own AUCs; for numbers the correlation after each site's mean
was taken off both sides. What pools over sites is kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.decoder import metrics
from offline.decoder.metrics import Figure
from offline.decoder.outputs import Task

__all__ = ["LEFT_OUT", "POOLED", "THRESHOLD", "WITHIN", "Judge"]

THRESHOLD = 0.5

WITHIN = {True: "AUC within sites", False: "r within sites"}
LEFT_OUT = {True: "AUC at sites left out", False: "r at sites left out"}
POOLED = {True: "AUC pooled over sites", False: "r pooled over sites"}
"""Names of the figures for classes (True) and numbers (False)."""

Float64 = NDArray[np.float64]
Figures = dict[str, Figure]


class Judge:
    """Judges outputs of one task.

    Parameters
    ----------
    task : Task
    seed : int
        Of the draws of people behind the intervals.
    """

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.rows = task.samples.rows
        self.y = task.y[self.rows]
        self.site = task.sites[self.rows].astype(str)
        people = task.samples.people[self.rows]
        classes = self.y if task.categorical else np.zeros(len(self.y))
        self.draws = metrics.person_draws(people, self.site, classes, seed)

    def figures(self, outputs: Float64, left: Float64) -> tuple[Figures, Figures]:
        """What may be quoted, and what not to believe.

        Parameters
        ----------
        outputs, left : ndarray of float64, shape (n_scans,)
            Out of fold, and from decoders that never saw the site; the latter NaN where there is
            none.
        """
        kind, own, apart = self.task.categorical, outputs[self.rows], left[self.rows]
        figures, pooled = self._of_classes(own, apart) if kind else self._numbers(own, apart)
        first = figures[WITHIN[kind]]
        if np.isfinite(first.value):
            return figures, pooled
        # the site alone determines the target: whatever else was reached may be the site's
        pooled |= {name: figure for name, figure in figures.items() if np.isfinite(figure.value)}
        return {WITHIN[kind]: first}, pooled

    def permuted(self, runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
        """The first figure and the pooled one of every permutation, and its largest count."""
        kind = self.task.categorical
        table = []
        for run in runs:
            y, own = run["y"][self.rows], run["outputs"][self.rows]
            within, pooled = (
                (metrics.site_auc(y == 1, own, self.site), metrics.auc(y == 1, own))
                if kind
                else (self._within_r(y, own, None), metrics.correlation(y, own).value)
            )
            table.append((within.value, pooled, run["largest"]))
        return pd.DataFrame(table, columns=[WITHIN[kind], POOLED[kind], "largest"])

    def sites(self, outputs: Float64, left: Float64, told: dict[str, str]) -> pd.DataFrame:
        """One row a site: `value` with `low`, `high`, the same for `left_out`, and `told`."""
        own, apart = outputs[self.rows], left[self.rows]
        table = []
        for name in sorted(set(self.site.tolist())):
            at = self.site == name
            row = {"site": name, "n": int(at.sum())}
            if self.task.categorical:
                row["n_positive"] = int((self.y[at] == 1).sum())
            for key, values in (("", own), ("left_out_", apart)):
                found = self._at(at, values)
                row |= {
                    f"{key}value": found.value,
                    f"{key}low": found.low,
                    f"{key}high": found.high,
                }
            table.append(row | {"told": told.get(name, "not left out")})
        return pd.DataFrame(table)

    def motion(self, outputs: Float64, people: pd.DataFrame) -> Figures:
        """Correlation of outputs with mean FD, pooled and within sites; empty without FD."""
        if "mean_fd" not in people:
            return {}
        fd = people["mean_fd"].to_numpy(np.float64, na_value=np.nan)[self.rows]
        own = outputs[self.rows]
        known = np.isfinite(fd) & np.isfinite(own)
        if known.sum() < 4:
            return {}
        a, b, draws = own[known], fd[known], self.draws[:, known]
        within = [metrics.centred(v, self.site[known]) for v in (a, b)]
        return {
            "pooled": metrics.correlation(a, b, draws),
            "within sites": metrics.correlation(within[0], within[1], draws),
        }

    def calibration(self, p: Float64) -> tuple[pd.DataFrame, float, float]:
        """Bins, Brier score and expected calibration error of probabilities (n_scans,)."""
        y, p = self.y == 1, p[self.rows]
        bins = metrics.calibration(y, p)
        return bins, float(np.mean((p - y) ** 2)), metrics.calibration_error(bins)

    def _of_classes(self, own: Float64, apart: Float64) -> tuple[Figures, Figures]:
        y = self.y == 1
        figures = {WITHIN[True]: metrics.site_auc(y, own, self.site, self.draws)}
        seen = np.isfinite(apart)
        if seen.any():
            figures[LEFT_OUT[True]] = metrics.site_auc(y, apart, self.site, self.draws)
        figures |= metrics.threshold_figures(y, own > THRESHOLD, self.site, self.draws)
        if seen.any():
            found = metrics.threshold_figures(
                y[seen], apart[seen] > THRESHOLD, self.site[seen], self.draws[:, seen]
            )
            name = "balanced accuracy within sites"
            figures["balanced accuracy at sites left out"] = found[name]
        one = np.zeros(len(y), int).astype(str)
        pooled = {POOLED[True]: metrics.site_auc(y, own, one, self.draws)}
        if seen.any():
            pooled["AUC pooled, sites left out"] = metrics.site_auc(y, apart, one, self.draws)
        return figures, pooled

    def _numbers(self, own: Float64, apart: Float64) -> tuple[Figures, Figures]:
        figures = {WITHIN[False]: self._within_r(self.y, own, self.draws)}
        seen = np.isfinite(apart)
        if seen.any():
            figures[LEFT_OUT[False]] = self._within_r(self.y, apart, self.draws)
        middle = self.y - metrics.centred(self.y, self.site)
        within = metrics.centred(self.y, self.site), metrics.centred(self.y - own, self.site)
        figures["R² within sites"] = self._explained(*within)
        figures["mean absolute error"] = self._mean(
            np.abs(self.y - own), float(np.mean(np.abs(self.y - middle)))
        )
        if seen.any():
            y, wrong, site = self.y[seen], np.abs(self.y - apart)[seen], self.site[seen]
            chance = float(np.mean(np.abs(metrics.centred(y, site))))
            figures["mean absolute error at sites left out"] = self._mean(
                wrong, chance, self.draws[:, seen]
            )
        pooled = {
            POOLED[False]: metrics.correlation(self.y, own, self.draws),
            "R² pooled over sites": self._explained(self.y - self.y.mean(), self.y - own),
        }
        return figures, pooled

    def _within_r(self, y: Float64, outputs: Float64, draws: NDArray[np.float32] | None) -> Figure:
        known = np.isfinite(outputs)
        a, b = (metrics.centred(v[known], self.site[known]) for v in (y, outputs))
        if known.any() and not b.any() and a.any():
            return Figure(0.0, 0.0, 0.0, 0.0)  # everyone of a site gets the same: nothing is told
        return metrics.correlation(a, b, None if draws is None else draws[:, known])

    def _explained(self, deviation: Float64, wrong: Float64) -> Figure:
        """1 - squared error over squared deviation; 0 is what a mean gives."""
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = 1.0 - (self.draws @ wrong**2) / (self.draws @ deviation**2)
            value = 1.0 - float(np.sum(wrong**2) / np.sum(deviation**2))
        return Figure(value, *metrics.drawn(drawn), 0.0)

    def _mean(
        self, values: Float64, chance: float, draws: NDArray[np.float32] | None = None
    ) -> Figure:
        draws = self.draws if draws is None else draws
        weight = draws.sum(axis=1, dtype=np.float64)
        drawn = np.divide(draws @ values, weight, out=np.full(len(draws), np.nan), where=weight > 0)
        return Figure(float(values.mean()), *metrics.drawn(drawn), chance)

    def _at(self, at: NDArray[np.bool_], values: Float64) -> Figure:
        y, own = self.y[at], values[at]
        if not self.task.categorical:
            return metrics.correlation(y, own)
        table = metrics.site_aucs(y == 1, own, np.full(len(y), "site"))
        value, low, high = table.loc[0, ["auc", "low", "high"]].astype(float)
        return Figure(value, low, high, 0.5)
