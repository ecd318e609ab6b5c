"""What is known of a simulated participant: the oracle of the truth tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tools.participant.nuisance import pose_matrix
from tools.participant.spheres import BORDER_MM, PLATEAU_MM

if TYPE_CHECKING:
    from tools.participant.person import Participant

__all__ = ["Truth"]

WHITE_MATTER, CSF = 1, 2
"""Values of the tissue image (see `rtloop.config.DenoiseConfig.tissue_image`)."""

PURE = 0.9
"""Share of a tissue in a voxel from which it counts as that tissue."""

Array = NDArray[np.float64]


class Truth:
    """Reads what the participant's model knows; asking never changes what volumes look like.

    Parameters
    ----------
    person : Participant
        Whose truth it is.

    Attributes
    ----------
    labels : ndarray, shape (x, y, z), int16
        ROI k has label k + 1: voxels of the resting head whose centre is inside the sphere.
    tissue : ndarray, shape (x, y, z), int16
        1 = white matter, 2 = CSF, clear of all ROIs.
    brain : ndarray, shape (x, y, z), bool
        Voxels of the resting head that are mostly brain.
    """

    def __init__(self, person: Participant) -> None:
        self._person = person
        shares = self._shares()
        self.brain: NDArray[np.bool_] = shares[0] > 0.5
        self.labels, reached = self._label_image()
        self.tissue = np.zeros(person.grid.shape, dtype=np.int16)
        self.tissue[(shares[1] > PURE) & ~reached] = WHITE_MATTER
        # Ventricles and sulci are thin: CSF hardly ever fills a voxel.
        self.tissue[(shares[2] > 0.75 * PURE) & ~reached] = CSF

    def pose(self, index: int) -> Array:
        """Head motion of a volume: three translations (mm), three rotations (rad), shape (6,)."""
        return self._person.body.pose(index).copy()

    def matrix(self, index: int, reference: int | None = None) -> Array:
        """World transform, mm, of the reference head to the volume's, shape (4, 4).

        Parameters
        ----------
        index : int
            Volume.
        reference : int or None
            Volume that serves as reference; None for the head at rest.
        """
        moved = pose_matrix(self.pose(index), self._person.centre_mm)
        if reference is None:
            return moved
        rest = pose_matrix(self.pose(reference), self._person.centre_mm)
        return np.asarray(moved @ np.linalg.inv(rest))

    def signals(self, n_volumes: int, at_s: float | None = None) -> Array:
        """ROI signals in SD units, shape (n_volumes, n_rois).

        Parameters
        ----------
        n_volumes : int
            Volumes from the first on.
        at_s : float or None
            Time within each volume; None for what ROI means see: every voxel at its slice's time.
        """
        person = self._person
        if at_s is not None:
            offsets = np.array([at_s / person.tr_s])
            return np.stack([person.signals.at(i, offsets)[0] for i in range(n_volumes)])
        offsets = np.array(person.slice_times_s) / person.tr_s
        mix = self._slice_shares()
        return np.stack(
            [(mix * person.signals.at(i, offsets)).sum(axis=0) for i in range(n_volumes)]
        )

    def z(self, index: int) -> float:
        """Fisher z of the steered edges in volume `index`."""
        self._person.signals.at(index, np.zeros(1))
        return self._person.signals.z[index]

    def correlation(self, index: int) -> Array:
        """Population correlation of the ROI signals in volume `index`, (n_rois, n_rois)."""
        self._person.signals.at(index, np.zeros(1))
        return self._person.signals.correlations[index].copy()

    def noise_ratio(self) -> Array:
        """Variance of thermal noise over that of the signal, of each ROI mean, (n_rois,)."""
        person = self._person
        rest = person.rest
        ratio = np.empty(len(person.spheres))
        for k in range(len(ratio)):
            inside = self.labels == k + 1
            signal_sd = person.signal_pct / 100 * rest[inside].mean()
            voxel = person.noise_sd**2 if np.isfinite(person.nuisance.tsnr) else 0.0
            ratio[k] = (voxel + 1 / 12) / inside.sum() / signal_sd**2
        return ratio

    def measured_correlation(self, index: int, window: int | None = None) -> Array:
        """Population correlation of ROI means with their thermal noise, (n_rois, n_rois).

        White noise adds to the variances alone. Within a window of n volumes the mean is taken
        out, which costs a slow signal more variance than white noise: the expected sums of
        squares are tr(C G) = n - 1'G1 / n for the signal, G its autocorrelation, and n - 1 for the
        noise. Differences of slice times between ROIs are not in it.

        Parameters
        ----------
        index : int
            Volume.
        window : int or None
            Volumes whose mean is removed; None for the process itself.
        """
        kept = 1.0
        if window is not None:
            lags = np.abs(np.subtract.outer(np.arange(window), np.arange(window)))
            gamma = self._person.signals.autocorrelation(window)[lags]
            kept = (window - gamma.sum() / window) / (window - 1)
        scale = np.sqrt(kept / (kept + self.noise_ratio()))
        found = self.correlation(index) * np.outer(scale, scale)
        np.fill_diagonal(found, 1.0)
        return np.asarray(found)

    def _shares(self) -> Array:
        """Shares of brain, white matter and CSF on the grid, shape (3, x, y, z)."""
        person, head = self._person, self._person.head
        to_template = np.linalg.inv(person.mni_to_native @ head.affine) @ person.grid.affine
        return np.stack(
            [
                ndimage.affine_transform(
                    tissue, to_template[:3, :3], to_template[:3, 3], person.grid.shape, order=1
                )
                for tissue in (head.brain, head.white_matter, head.csf)
            ]
        )

    def _label_image(self) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Labels, and everything an ROI's signal reaches."""
        grid = self._person.grid
        world = grid.world()
        labels = np.zeros(grid.shape, dtype=np.int16)
        reached = np.zeros(grid.shape, dtype=bool)
        for k, sphere in enumerate(self._person.spheres):
            distance = np.sqrt(((world - np.array(sphere.center_mm)) ** 2).sum(axis=-1))
            labels[(distance <= sphere.radius_mm) & self.brain] = k + 1
            reached |= distance <= sphere.radius_mm + PLATEAU_MM + BORDER_MM
        return labels, reached

    def _slice_shares(self) -> Array:
        """Each ROI mean's weight on each slice, shape (n_slices, n_rois)."""
        rest = self._person.rest
        shares = np.zeros((self._person.grid.shape[2], len(self._person.spheres)))
        for k in range(shares.shape[1]):
            weighted = np.where(self.labels == k + 1, rest, 0.0).sum(axis=(0, 1))
            shares[:, k] = weighted / weighted.sum()
        return shares
