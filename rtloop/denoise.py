"""Causal nuisance regression: betas from every volume so far, at a cost no run length changes.

`NuisanceModel` makes one row of regressors per volume. `Denoiser` keeps the triangle of the
weighted least-squares problem over all volumes of weight > 0, so that its betas equal an
ordinary regression on everything seen, seeding rest included. A volume of weight 0 is exactly
what a spike column of its own would make of it: no part in the betas.

Levels and drifts belong to a run, motion and tissue effects to the participant. Each seeding run
therefore has its own intercept and drift, which are projected out of it (Frisch-Waugh-Lovell);
what its remaining triangle says of the shared regressors enters the new run's triangle. This is
the regression on the block design

    seed   [ own level, drift |        0         | motion, tissue ]
    run    [        0         | own level, drift | motion, tissue ].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtloop.kernels.least_squares import back_substitute, givens_update, subtract_fit

__all__ = ["RANK_TOLERANCE", "Denoiser", "NuisanceModel"]

MOTION_NAMES = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")

RANK_TOLERANCE = 1e-7
"""A regressor whose part that no earlier one explains is a smaller share of it has beta 0. Well
above rounding (1e-16) over the accuracy asked for (1e-9 of signal SD)."""

Float64 = NDArray[np.float64]


class NuisanceModel:
    """One row of nuisance regressors per volume, made causally.

    Columns, in this order: `intercept`; `drift1`..: powers of scanner time; motion; tissue
    signals; their derivatives. The first `n_own` (level and drift) belong to one run, the others
    are shared between runs. Names are fMRIPrep's.

    Drift is a polynomial that starts with the run. Its powers span what Legendre polynomials on
    the planned run do, so residuals are the same, but the angles between powers of time since
    the start do not change as the run grows (the sine of the k-th to the lower ones is at least
    about k!²/(2k)!), whereas Legendre polynomials are all but parallel on a run's first volumes.

    Parameters
    ----------
    motion : {0, 6, 12, 24}
        6: translations and rotations. 12: and their derivatives. 24: and the squares of both
        (Satterthwaite et al. 2013, doi:10.1016/j.neuroimage.2012.08.052; Friston's own 24 have
        the previous volume's parameters in place of derivatives and span the same space but for
        the squares).
    drift_order : int
        Highest polynomial; 0 for the level alone.
    tissue : sequence of str
        Names of the tissue signals given to `row`.
    tissue_derivatives : bool
        Add the derivative of each.
    n_volumes_planned : int
        Planned length of the run; scales drift to 0..1. The fit does not depend on it, and a
        longer run simply goes on.
    tr_s : float
        Repetition time, seconds.
    """

    def __init__(
        self,
        motion: int = 6,
        drift_order: int = 2,
        tissue: tuple[str, ...] | list[str] = (),
        tissue_derivatives: bool = False,
        n_volumes_planned: int = 300,
        tr_s: float = 2.0,
    ) -> None:
        if motion not in (0, 6, 12, 24) or drift_order < 0 or not tr_s > 0:
            raise ValueError(f"motion {motion}, drift_order {drift_order}, tr_s {tr_s}")
        self._squares = motion == 24
        self._span = float(max(n_volumes_planned - 1, 1))
        self._motion = _Course(6 if motion else 0, motion >= 12, tr_s)
        self._tissue = _Course(len(tissue), tissue_derivatives, tr_s)
        self._tissue_anchor: Float64 | None = None
        self._last_index = -1
        self.n_own = 1 + drift_order
        """Columns that belong to one run: level and drift, the first ones."""
        self.names = _column_names(motion, drift_order, tuple(tissue), tissue_derivatives)
        """Name of each column."""
        self._row = np.zeros(len(self.names))

    @property
    def n_regressors(self) -> int:
        return len(self.names)

    def row(
        self,
        index: int,
        motion_parameters: ArrayLike | None = None,
        tissue: ArrayLike | None = None,
    ) -> Float64:
        """Regressors of one volume. Call in the order of `index`, with every volume that came.

        Derivatives are mean rates (per second) since the last volume whose values were finite;
        0 for the first. A volume whose estimate failed has NaN in its columns and is passed over
        by the next derivative, as is a missing one, for which there is no call. A censored volume
        is no gap: the head really was there.

        Parameters
        ----------
        index : int
            Scanner's volume index.
        motion_parameters : array_like, shape (6,), optional
            Three translations (mm), three rotations (rad). Needed if the model has motion.
        tissue : array_like, shape (n_tissues,), optional
            Mean tissue signals. Needed if the model has any. Their column is the difference to
            the first finite values, which keeps the image's baseline out of the arithmetic.

        Returns
        -------
        ndarray, shape (n_regressors,), float64
            Reused by the next call.
        """
        if index <= self._last_index:
            raise ValueError(f"volume {index} after {self._last_index}")
        self._last_index = index
        row = self._row
        _powers(index / self._span, row[: self.n_own])
        at = self.n_own
        if self._motion.n:
            at = self._motion.write(index, np.asarray(motion_parameters, dtype=np.float64), row, at)
        if self._squares:
            np.square(row[at - 12 : at], out=row[at : at + 12])
            at += 12
        if self._tissue.n:
            values = np.asarray(tissue, dtype=np.float64)
            if self._tissue_anchor is None and np.isfinite(values).all():
                self._tissue_anchor = values.copy()
            if self._tissue_anchor is not None:
                values = values - self._tissue_anchor
            self._tissue.write(index, values, row, at)
        return row


class Denoiser:
    """Weighted least squares of ROI signals on nuisance regressors, one volume at a time.

    Parameters
    ----------
    n_rois : int
        Signals cleaned together.
    model : NuisanceModel
        Tells the number of regressors and how many belong to the run; rows are given to
        `update`, so that the caller has them for the window too.

    Attributes
    ----------
    n_volumes : int
        Volumes of weight > 0 so far, seeding rest included.
    rank : int
        Regressors in the fit; fewer than all while some say nothing new (`RANK_TOLERANCE`).
        Up to date once `betas` was read.
    """

    def __init__(self, n_rois: int, model: NuisanceModel) -> None:
        self._n_own = model.n_own
        p = model.n_regressors
        self._R = np.zeros((p, p))
        self._Z = np.zeros((p, n_rois))
        self._work_R = np.zeros((p, p))
        self._work_Z = np.zeros((p, n_rois))
        self._row_x = np.zeros(p)
        self._row_y = np.zeros(n_rois)
        self._betas = np.full((p, n_rois), math.nan)
        self._anchor = np.zeros(n_rois)
        self._anchored = False
        self._stale = False
        self._weight_sum = 0.0
        self._run_weight_sum = 0.0
        self.n_volumes = 0
        self.rank = 0

    def seed(
        self, regressors: ArrayLike, signals: ArrayLike, weights: ArrayLike | None = None
    ) -> None:
        """Start from a run that is over, such as the day's rest. Before the first `update`.

        May be called once per such run.

        Parameters
        ----------
        regressors : array_like, shape (n_volumes, n_regressors)
            Rows of a model with the same columns, made for that run.
        signals : array_like, shape (n_volumes, n_rois)
            ROI means.
        weights : array_like, shape (n_volumes,), optional
            0..1 per volume; None for 1.
        """
        if self._anchored:
            raise ValueError("seed before the first volume of the run")
        rows = np.asarray(regressors, dtype=np.float64)
        means = np.asarray(signals, dtype=np.float64)
        each = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        if not len(rows) == len(means) == len(each):
            raise ValueError(f"{len(rows)} rows, {len(means)} signals, {len(each)} weights")
        R, Z = np.zeros_like(self._R), np.zeros_like(self._Z)
        anchor: Float64 | None = None
        for x, y, weight in zip(rows, means, each, strict=True):
            if not _counts(weight, x, y):
                continue
            anchor = y.copy() if anchor is None else anchor
            self._rotate(R, Z, x, y - anchor, weight)
            self._weight_sum += float(weight)
            self.n_volumes += 1
        # own level and drift have their rows; those below speak of the shared regressors alone
        own = self._n_own
        for j in range(own, len(R)):
            self._row_x[:own] = 0.0
            self._row_x[own:] = R[j, own:]
            self._row_y[:] = Z[j]
            givens_update(self._R, self._Z, self._row_x, self._row_y)

    def update(self, regressors: Float64, x: Float64, weight: float = 1.0) -> bool:
        """Take one volume in; returns whether it counts.

        Parameters
        ----------
        regressors : ndarray, shape (n_regressors,), float64
            `NuisanceModel.row` of the volume.
        x : ndarray, shape (n_rois,), float64
            ROI means.
        weight : float
            0..1. A volume of weight 0, or with anything not finite in it, changes nothing.
        """
        if not _counts(weight, regressors, x):
            return False
        if not self._anchored:
            # signals are fitted relative to here: sums then have the size of the fluctuations
            self._anchor[:] = x
            self._anchored = True
        np.subtract(x, self._anchor, out=self._row_y)
        self._rotate(self._R, self._Z, regressors, self._row_y, weight)
        self._weight_sum += float(weight)
        self._run_weight_sum += float(weight)
        self.n_volumes += 1
        self._stale = True
        return True

    @property
    def betas(self) -> Float64:
        """Coefficients, shape (n_regressors, n_rois), signal units per regressor unit.

        NaN before the run's first volume. A regressor that says nothing new so far has 0, and
        the others are the least-squares fit without it. The same array every time, solved anew
        only when volumes have come since it was last read.
        """
        if self._stale:
            self.rank = back_substitute(
                self._R,
                self._Z,
                RANK_TOLERANCE,
                self._work_R,
                self._work_Z,
                self._row_x,
                self._row_y,
                self._betas,
            )
            self._betas[0] += self._anchor
            self._stale = False
        return self._betas

    def residual(self, x: Float64, regressors: Float64, out: Float64 | None = None) -> Float64:
        """Signals of one volume without what the regressors explain, under the present betas.

        Parameters
        ----------
        x : ndarray, shape (n_rois,), float64
        regressors : ndarray, shape (n_regressors,), float64
        out : ndarray, shape (n_rois,), float64, optional
            Receives the residual. None: allocated.
        """
        out = np.empty(len(x)) if out is None else out
        np.copyto(out, x)
        subtract_fit(self.betas, np.ascontiguousarray(regressors), out, out)
        return out

    def ready(self, volumes_per_regressor: float = 5.0) -> bool:
        """Whether there is enough to trust the betas.

        `volumes_per_regressor` (in sums of weights) over all columns and all volumes, and over
        the run's own level and drift within the run, which no seeding rest can tell.
        """
        p = len(self._R)
        return (
            self._weight_sum >= volumes_per_regressor * p
            and self._run_weight_sum >= volumes_per_regressor * self._n_own
        )

    def _rotate(self, R: Float64, Z: Float64, x: Float64, y: Float64, weight: float) -> None:
        root = math.sqrt(weight)
        np.multiply(x, root, out=self._row_x)
        np.multiply(y, root, out=self._row_y)
        givens_update(R, Z, self._row_x, self._row_y)


class _Course:
    """Values over time and, if wanted, their rate since the last finite ones."""

    def __init__(self, n: int, rates: bool, tr_s: float) -> None:
        self.n = n
        self._rates = rates
        self._tr_s = tr_s
        self._last = np.zeros(n)
        self._last_index: int | None = None

    def write(self, index: int, values: Float64, row: Float64, at: int) -> int:
        """Fill `row` from column `at` on; returns the next free column."""
        if values.shape != (self.n,):
            raise ValueError(f"expected {self.n} values, found shape {values.shape}")
        end = at + self.n
        row[at:end] = values
        if self._rates:
            rates = row[end : end + self.n]
            end += self.n
            rates[:] = 0.0
            if self._last_index is not None:
                np.subtract(values, self._last, out=rates)
                rates /= (index - self._last_index) * self._tr_s
        if np.isfinite(values).all():
            self._last[:] = values
            self._last_index = index
        return end


def _counts(weight: float, x: Float64, y: Float64) -> bool:
    """Whether a volume takes part in the fit."""
    if weight > 1.0:
        raise ValueError(f"weight {weight} above 1")
    # a NaN weight is no weight
    return bool(weight > 0.0 and np.isfinite(x).all() and np.isfinite(y).all())


def _powers(t: float, out: Float64) -> None:
    power = 1.0
    for k in range(len(out)):
        out[k] = power
        power *= t


def _column_names(
    motion: int, drift_order: int, tissue: tuple[str, ...], tissue_derivatives: bool
) -> tuple[str, ...]:
    parameters = MOTION_NAMES if motion else ()
    rates = tuple(f"{name}_derivative1" for name in parameters) if motion >= 12 else ()
    squares = tuple(f"{name}_power2" for name in (*parameters, *rates)) if motion == 24 else ()
    tissue_rates = tuple(f"{name}_derivative1" for name in tissue) if tissue_derivatives else ()
    drift = tuple(f"drift{k}" for k in range(1, drift_order + 1))
    return ("intercept", *drift, *parameters, *rates, *squares, *tissue, *tissue_rates)
