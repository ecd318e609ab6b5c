"""A simulated participant: EPI-like volumes whose ROI signals, motion and noise are known.

The generative model, for voxel x of volume i, acquired at time t of its slice:

    S(x, t) = c(x) B(x') (1 + p w(x') s_k(t) + breathing(t) + csf(x) heart(t)) (1 + drift(x, i))
    V(x, t) = |S(x, t) + ghost(x) + complex Gaussian noise|,   rounded

with x' = inv(M_i) x the place in the head that sits at x, M_i the pose, B the head, c the coil's
sensitivity (fixed in the scanner), w a sphere with a soft border around ROI k, s_k the ROI's
signal of unit variance and p its amplitude. Everything follows from the seed; feedback that the
participant hears changes only volumes that were not made yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rtloop.plan import Sphere
from rtloop.volume import Volume
from tools.participant.grid import BRAIN_CENTRE_MM, Grid
from tools.participant.head import Head
from tools.participant.nuisance import Body, Nuisance, pose_matrix
from tools.participant.signals import Edge, FcScript, RoiSignals, Scripted
from tools.participant.spheres import BORDER_MM, PLATEAU_MM, default_spheres, network_correlation
from tools.participant.truth import Truth

__all__ = ["PROTOCOL_NAME", "Participant"]

GHOST = 0.012
"""Nyquist ghost, share of the head's signal, half a field of view along y."""

MARGIN_VOXELS = 3
"""Voxels around the resting head that are sampled, so that a moved head is not cut."""

REACH_MM = 10.0
"""How far the head may move before an ROI's signal misses voxels that it should reach."""

ECHO_TIME_S = 0.03
PROTOCOL_NAME = "simulated_participant"

FIRST_ACQUISITION_S = 10 * 3600.0
"""Scanner clock at the first volume: ten o'clock."""

Array = NDArray[np.float64]


class Participant:
    """A person in the scanner, made from a seed.

    Parameters
    ----------
    seed : int
        All randomness: anatomy, signals, motion, noise.
    grid : Grid, optional
        Slices; None for 64x64x33 voxels of 3.5x3.5x4 mm.
    tr_s : float
        Repetition time.
    script : FcScript, optional
        Fisher z of the steered edges; None for a constant 0.3.
    edges : sequence of Edge
        What the script steers; the default is the connection of the first two spheres.
    spheres : sequence of Sphere, optional
        ROIs in MNI coordinates; None for twelve of nilearn's Dosenbach set.
    correlation : ndarray, shape (n_rois, n_rois), optional
        Population correlation of all other edges; None for one factor per network (unrelated
        where `spheres` are given).
    nuisance : Nuisance
        Amplitudes of motion, physiology, drift and noise.
    baseline : float
        Median brain signal, 100..10000.
    signal_pct : float
        SD of the ROI signals, percent of the baseline.
    band_hz : tuple of float
        Pass band of the ROI signals.

    Attributes
    ----------
    truth : Truth
        What is known of the volumes.
    spheres : tuple of Sphere
        ROIs in the run's own world, mm.
    mni_to_native : ndarray, shape (4, 4)
        This person's anatomy: MNI world to the run's world at rest, mm.
    rest : ndarray, shape (x, y, z)
        Signal of the resting head without ghost and noise.
    """

    def __init__(
        self,
        seed: int = 0,
        grid: Grid | None = None,
        tr_s: float = 2.0,
        *,
        script: FcScript | None = None,
        edges: Sequence[Edge] = (Edge(0, 1),),
        spheres: Sequence[Sphere] | None = None,
        correlation: Array | None = None,
        nuisance: Nuisance | None = None,
        baseline: float = 1000.0,
        signal_pct: float = 1.0,
        band_hz: tuple[float, float] = (0.01, 0.1),
    ) -> None:
        self.seed, self.grid, self.tr_s = seed, grid or Grid.axial(), tr_s
        self.baseline, self.signal_pct = baseline, signal_pct
        self.nuisance = nuisance or Nuisance()
        self.slice_times_s = self.grid.slice_times_s(tr_s)
        chosen, networks = default_spheres() if spheres is None else (tuple(spheres), None)
        if correlation is None:
            correlation = np.eye(len(chosen)) if networks is None else network_correlation(networks)
        self.mni_to_native = _anatomy(seed)
        self.spheres = tuple(_placed(sphere, self.mni_to_native) for sphere in chosen)
        self.head = Head.build(self.grid.voxel_mm)
        self.body = Body(self.nuisance, tr_s, seed)
        self.signals = RoiSignals(correlation, edges, script or Scripted(), tr_s, band_hz, seed)
        self._prepare()
        self.truth = Truth(self)

    @property
    def noise_sd(self) -> float:
        """SD of thermal noise in a voxel, in signal units."""
        return self.baseline / self.nuisance.tsnr

    @property
    def centre_mm(self) -> Array:
        """The point that rotations turn about: the middle of the slices."""
        middle = (np.array(self.grid.shape) - 1) / 2
        return np.asarray(self.grid.affine[:3, :3] @ middle + self.grid.affine[:3, 3])

    def volume(self, index: int, received_s: float = 0.0) -> Volume:
        """Volume `index`; earlier ones may be asked for again and come out the same."""
        data = np.zeros(self.grid.shape, order="F", dtype=np.float32)
        data[self._voxels] = self._signal(index)
        data += self._ghost
        return Volume(
            attempt=f"participant-{self.seed}",
            index=index,
            data=self._measured(data, index),
            affine=self.grid.affine.copy(),
            tr_s=self.tr_s,
            received_s=received_s,
            acquired_s=(FIRST_ACQUISITION_S + index * self.tr_s) % 86400,
            slice_times_s=self.slice_times_s,
            protocol=self._protocol(),
        )

    def _protocol(self) -> dict[str, Any]:
        """What readers tell of the exported files, see `tools.scanner.mosaic`."""
        return {
            "manufacturer": "SIEMENS",
            "model": "Simulated",
            "protocol_name": PROTOCOL_NAME,
            "field_strength_t": 3.0,
            "echo_time_s": ECHO_TIME_S,
            "prescan_normalise": False,
            "repetition_time_s": self.tr_s,
            "voxel_size_mm": [round(float(edge), 4) for edge in self.grid.voxel_mm],
            "phase_encoding_axis": "j",
            "phase_encoding": "j-",
        }

    def hear(self, index: int, value: float) -> None:
        """Feedback `value` (0..100) was seen after volume `index`: the script may answer it."""
        self.signals.hear(index, value)

    def _prepare(self) -> None:
        """What all volumes share: sampled voxels, coil, ghost, tissue and ROIs at rest."""
        self._to_template = np.linalg.inv(self.mni_to_native @ self.head.affine)
        everywhere = np.indices(self.grid.shape).reshape(3, -1)
        rest = self.head.sample(self._place(everywhere, np.eye(4))).reshape(self.grid.shape)
        reach = rest > 0.01
        for axis in range(3):
            reach = _widened(reach, axis)
        self._voxels = np.nonzero(reach)
        self._index = np.stack(self._voxels).astype(np.float64)
        coil = self.grid.coil()
        self._coil = (self.baseline * coil[self._voxels]).astype(np.float32)
        middle = (np.array(self.grid.shape)[:, None] - 1) / 2
        self._slope = (self._index / (2 * middle) - 0.5).astype(np.float32)
        self.rest = self.baseline * coil * rest
        ghost = GHOST * np.roll(self.rest, self.grid.shape[1] // 2, axis=1)
        self._ghost = ghost.astype(np.float32)
        place = self._place(self._index, np.eye(4))
        self._csf = ndimage.map_coordinates(self.head.csf, place, np.float32, order=1)
        self._find_rois()

    def _place(self, index: NDArray[Any], pose: Array) -> Array:
        """Template voxels that lie at grid voxels `index` (3, n) when the head is at `pose`."""
        matrix = self._to_template @ np.linalg.inv(pose) @ self.grid.affine
        return np.asarray(matrix[:3, :3] @ index + matrix[:3, 3:])

    def _find_rois(self) -> None:
        """Sampled voxels that an ROI's signal may reach, and the ROI nearest to each."""
        centres = np.array([sphere.center_mm for sphere in self.spheres]).T
        world = self.grid.affine[:3, :3] @ self._index + self.grid.affine[:3, 3:]
        best_mm = np.full(world.shape[1], np.inf)
        nearest = np.zeros(world.shape[1], dtype=np.intp)
        radii_mm = np.array([sphere.radius_mm for sphere in self.spheres])
        for k in range(centres.shape[1]):
            beyond_mm = np.sqrt(((world - centres[:, k : k + 1]) ** 2).sum(axis=0)) - radii_mm[k]
            closer = beyond_mm < best_mm
            best_mm[closer], nearest[closer] = beyond_mm[closer], k
        self._near = np.flatnonzero(best_mm < PLATEAU_MM + BORDER_MM + REACH_MM)
        self._roi = nearest[self._near]
        self._near_world = world[:, self._near]
        self._near_centre = centres[:, self._roi]
        self._outer_mm = radii_mm[self._roi] + PLATEAU_MM + BORDER_MM

    def _signal(self, index: int) -> NDArray[np.float32]:
        """Noise-free signal of the sampled voxels of one volume."""
        pose = pose_matrix(self.body.pose(index), self.centre_mm)
        found = self.head.sample(self._place(self._index, pose))
        change = self._physiology(index)
        change[self._near] += self._roi_change(index, pose)
        everywhere, slope = self.body.drift(index)
        drift = slope.astype(np.float32) @ self._slope + np.float32(1 + everywhere)
        return np.asarray(self._coil * found * (1 + change) * drift)

    def _roi_change(self, index: int, pose: Array) -> NDArray[np.float32]:
        """Relative change by the ROI signals of the voxels near ROIs, at their slices' times."""
        offsets = np.array(self.slice_times_s) / self.tr_s
        signals = self.signals.at(index, offsets) * self.signal_pct / 100
        back = np.linalg.inv(pose)
        head_mm = back[:3, :3] @ self._near_world + back[:3, 3:]
        distance_mm = np.sqrt(((head_mm - self._near_centre) ** 2).sum(axis=0))
        weight = np.clip((self._outer_mm - distance_mm) / BORDER_MM, 0, 1)
        change = weight * signals[self._voxels[2][self._near], self._roi]
        return np.asarray(change, dtype=np.float32)

    def _physiology(self, index: int) -> NDArray[np.float32]:
        """Relative change by breathing (everywhere) and heart beat (in CSF)."""
        times_s = np.array(self.slice_times_s)
        breath = self.nuisance.breath_pct / 100 * self.body.breath(index, times_s)
        heart = self.nuisance.heart_pct / 100 * self.body.heart(index, times_s)
        slices = self._voxels[2]
        change = breath.astype(np.float32)[slices] + self._csf * heart.astype(np.float32)[slices]
        return np.asarray(change, dtype=np.float32)

    def _measured(self, signal: NDArray[np.float32], index: int) -> NDArray[np.int16]:
        """Magnitude image with thermal noise, rounded to integers."""
        if np.isfinite(self.nuisance.tsnr):
            random = np.random.default_rng([self.seed, 3, index])
            shape = (2, *signal.shape[::-1])
            noise = random.standard_normal(shape, dtype=np.float32) * np.float32(self.noise_sd)
            signal = np.hypot(signal + noise[0].T, noise[1].T)
        return np.asfortranarray(np.rint(np.clip(signal, 0, 32767)).astype(np.int16))


def _anatomy(seed: int) -> Array:
    """Size and position of this person's head: similarity transform MNI -> scanner, mm."""
    random = np.random.default_rng([seed, 0])
    turn = random.normal(0, np.deg2rad([4.0, 1.5, 1.5]))
    pose = np.concatenate([random.normal(0, [1.5, 3.0, 3.0]), np.clip(turn, -0.15, 0.15)])
    matrix = pose_matrix(pose, np.array(BRAIN_CENTRE_MM))
    matrix[:3, :3] *= random.uniform(0.96, 1.02)
    return matrix


def _placed(sphere: Sphere, matrix: Array) -> Sphere:
    """The sphere in the person's own world; its radius is kept."""
    x, y, z = matrix[:3, :3] @ np.array(sphere.center_mm) + matrix[:3, 3]
    return Sphere(
        name=sphere.name,
        center_mm=(round(float(x), 3), round(float(y), 3), round(float(z), 3)),
        radius_mm=sphere.radius_mm,
    )


def _widened(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """The mask grown by `MARGIN_VOXELS` along one axis."""
    grown = mask.copy()
    for step in range(1, MARGIN_VOXELS + 1):
        ahead = [slice(None)] * 3
        behind = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
        grown[tuple(ahead)] |= mask[tuple(behind)]
        grown[tuple(behind)] |= mask[tuple(ahead)]
    return grown
