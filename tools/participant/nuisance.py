"""What a scanner picks up besides the ROI signals: motion, breathing, heart beat, drift, noise.

Every component has one amplitude in `Nuisance`, 0 switches it off, and the truth of each volume is
kept. Motion is rigid per volume: a mean-reverting random walk, occasional jumps that stay, and the
breathing cycle; it is a 4x4 matrix in world mm that maps the reference head to the volume's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Body", "Nuisance", "pose_matrix"]

Array = NDArray[np.float64]

WALK_MEMORY_S = 120.0
"""Time constant with which the head returns to rest; keeps long runs within a few SD."""

BREATH_HZ, BREATH_WANDER_HZ = 0.27, 0.02
HEART_HZ, HEART_WANDER_HZ = 1.1, 0.05

JUMP_RAD_PER_MM = np.deg2rad(0.6)
"""A jump turns the head about as much as it shifts it."""


@dataclass(frozen=True, slots=True)
class Nuisance:
    """Amplitudes of everything that is no ROI signal.

    Attributes
    ----------
    tsnr : float
        Median brain signal over the SD of thermal noise in a voxel; inf for none.
    walk_mm, walk_rad : float
        Stationary SD of the random walk, each translation and rotation.
    jumps_per_minute, jump_mm : float
        How often the head jumps, and the SD of a jump per translation.
    breath_mm, breath_rad : float
        Amplitude of the breathing cycle: along y, and as pitch.
    breath_pct, heart_pct : float
        Signal modulation: breathing everywhere, heart beat in CSF, percent of the baseline.
    drift_pct : float
        SD of the scanner's slow drift after half an hour, percent.
    """

    tsnr: float = 80.0
    walk_mm: float = 0.15
    walk_rad: float = 0.0025
    jumps_per_minute: float = 0.15
    jump_mm: float = 0.5
    breath_mm: float = 0.04
    breath_rad: float = 0.0004
    breath_pct: float = 0.3
    heart_pct: float = 1.0
    drift_pct: float = 1.0

    @classmethod
    def none(cls) -> Nuisance:
        """Nothing but the ROI signals in a head at rest."""
        return cls(np.inf, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Body:
    """Motion and physiology over a run, made volume by volume and kept.

    Parameters
    ----------
    nuisance : Nuisance
        Amplitudes.
    tr_s : float
        Repetition time.
    seed : int
        All randomness.

    Attributes
    ----------
    poses : list of ndarray, shape (6,)
        Per volume three translations (mm) and three rotations (rad), see `pose_matrix`.
    """

    def __init__(self, nuisance: Nuisance, tr_s: float, seed: int) -> None:
        self.poses: list[Array] = []
        self._nuisance, self._tr_s = nuisance, tr_s
        self._random = np.random.default_rng([seed, 2])
        self._walk, self._jumps = np.zeros(6), np.zeros(6)
        self._phases = self._random.uniform(0, 2 * np.pi, 2)
        self._starts: list[Array] = []
        self._rates: list[Array] = []
        self._drift = self._random.standard_normal(4)

    def pose(self, index: int) -> Array:
        """Where the head is during volume `index`, shape (6,)."""
        self._extend(index)
        return self.poses[index]

    def breath(self, index: int, offsets_s: Array) -> Array:
        """Breathing cycle, -1..1, at instants within the volume."""
        return np.sin(self._phase(index, 0, offsets_s))

    def heart(self, index: int, offsets_s: Array) -> Array:
        """Heart beat, -1..1, at instants within the volume."""
        return np.sin(self._phase(index, 1, offsets_s))

    def drift(self, index: int) -> tuple[float, Array]:
        """Drift as share of the baseline: everywhere, and its slope along x, y, z per FOV."""
        minutes = index * self._tr_s / 60
        grown = self._nuisance.drift_pct / 100 * (1 - np.exp(-minutes / 15)) / (1 - np.exp(-2))
        return float(grown * self._drift[0]), grown * self._drift[1:] / 2

    def _phase(self, index: int, which: int, offsets_s: Array) -> Array:
        self._extend(index)
        turned = 2 * np.pi * self._rates[index][which] * offsets_s
        return np.asarray(self._starts[index][which] + turned)

    def _extend(self, index: int) -> None:
        while len(self.poses) <= index:
            self._next()

    def _next(self) -> None:
        """One more volume; draws the same number of random values whatever the amplitudes."""
        n, first = self._nuisance, not self.poses
        wander, step, jump = self._random.standard_normal((3, 6))
        leap = self._random.random() < n.jumps_per_minute * self._tr_s / 60
        rates = np.array([BREATH_HZ, HEART_HZ])
        rates = rates + np.array([BREATH_WANDER_HZ, HEART_WANDER_HZ]) * np.clip(wander[:2], -2, 2)
        if not first:
            keep = np.exp(-self._tr_s / WALK_MEMORY_S)
            scale = np.repeat([n.walk_mm, n.walk_rad], 3)
            self._walk = keep * self._walk + np.sqrt(1 - keep**2) * scale * step
            if leap:
                self._jumps += jump * n.jump_mm * np.repeat([1, JUMP_RAD_PER_MM], 3)
        self._starts.append(self._phases)
        self._rates.append(rates)
        self._phases = self._phases + 2 * np.pi * rates * self._tr_s
        middle = np.sin(self._starts[-1][0] + np.pi * rates[0] * self._tr_s)
        breathing = np.array([0, n.breath_mm, 0, n.breath_rad, 0, 0]) * middle
        self.poses.append(self._walk + self._jumps + breathing)


def pose_matrix(pose: Array, centre_mm: Array) -> Array:
    """Rigid matrix of a pose, world mm, reference head -> moved head.

    Rotations are about `centre_mm`, first x, then y, then z: p -> Rz Ry Rx (p - c) + c + t.
    """
    (cx, cy, cz), (sx, sy, sz) = np.cos(pose[3:]), np.sin(pose[3:])
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = z @ y @ x
    matrix[:3, 3] = centre_mm + pose[:3] - matrix[:3, :3] @ centre_mm
    return matrix
