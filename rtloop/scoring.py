"""From one volume's ROI signals to the circuits' scores.

Slice-time alignment, nuisance regression over the whole run so far, the sliding window, and the
raw scores of the planned circuits with their standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtloop.circuit import Circuit, Score
from rtloop.config import EngineConfig
from rtloop.connectivity import SlidingWindowFC, edge_pairs
from rtloop.denoise import Denoiser, NuisanceModel
from rtloop.observer import Geometry
from rtloop.plan import Plan, PlanEdge
from rtloop.rois import RoiSet
from rtloop.seeding import SeedRun
from rtloop.slicetime import SliceAligner, largest_offset_s

__all__ = ["NO_SCORE", "Scorer", "Window"]

NO_SCORE = Score(math.nan, math.nan, math.nan, 0.0, math.nan)


@dataclass(frozen=True, slots=True)
class Window:
    """What the window says after a volume has entered it.

    `correlations` are those of the circuits' edges, A then B; `warming_up` says why there is no
    score yet and is empty if there is one.
    """

    correlations: NDArray[np.float64]
    scores: tuple[Score, ...]
    n_samples: float
    warming_up: str


class Scorer:
    """The numbers of one attempt, volume by volume of scanner time.

    Parameters
    ----------
    plan : Plan
        Circuits, window, planned length.
    config : EngineConfig
        Denoising, edges followed, share of good volumes a score needs.
    rois : RoiSet
        Order of the signals.
    geometry : Geometry
        Slice times, where the scanner tells them.
    seeds : sequence of SeedRun
        Finished runs that the regression starts from.
    """

    def __init__(
        self,
        plan: Plan,
        config: EngineConfig,
        rois: RoiSet,
        geometry: Geometry,
        seeds: Sequence[SeedRun] = (),
    ) -> None:
        self._config = config
        self._n_wanted = config.quality.effective_share_min * plan.window
        self._window = plan.window
        planned = [plan.edges] + ([plan.sham_edges] if plan.sham_edges else [])
        self.circuits = [_circuit(edges, rois) for edges in planned]
        self._nuisance = _nuisance(config, plan.n_volumes, plan.tr_s)
        self._denoiser = Denoiser(rois.n_rois, self._nuisance)
        self._courses = [
            circuit.autocorrelation(plan.tr_s, self._nuisance.n_regressors)
            for circuit in self.circuits
        ]
        for seed in seeds:
            aligner = _aligner(config, rois, geometry, self.circuits)
            model = _nuisance(config, seed.n_planned, plan.tr_s)
            self._seed(*_seed_rows(seed, model, len(config.denoise.tissue), aligner))
        self._aligner = _aligner(config, rois, geometry, self.circuits)
        edges, self._places = self._edges(rois.n_rois)
        self._fc = SlidingWindowFC(rois.n_rois, plan.window, edges, self._nuisance.n_regressors)
        self._correlations = np.full(len(self._fc.edges), math.nan)
        self._blank = np.full(rois.n_rois, math.nan)

    @property
    def regressor_names(self) -> tuple[str, ...]:
        return tuple(self._nuisance.names)

    @property
    def all_correlations(self) -> NDArray[np.float64]:
        """Pearson r of every edge followed, after the last `enter`; a reused buffer."""
        return self._correlations

    def enter(
        self,
        index: int,
        signals: NDArray[np.float64] | None,
        parameters: NDArray[np.float64] | None = None,
        tissue: NDArray[np.float64] | None = None,
        weight: float = 0.0,
    ) -> Window:
        """One volume of scanner time; `signals` is None where there is none.

        Parameters
        ----------
        index : int
            Volume index.
        signals : ndarray, shape (n_rois,), or None
            ROI means.
        parameters : ndarray, shape (6,), or None
            Motion parameters.
        tissue : ndarray, shape (n_tissues,), or None
            Tissue regressors' means.
        weight : float
            0 keeps the volume out of window and betas; it still takes its place in time.
        """
        row = None
        if signals is not None:
            row = self._nuisance.row(index, parameters, tissue)
        signals, weight = self._align(signals, weight)
        if signals is None or row is None or not np.isfinite(row).all():
            weight = 0.0
        self._fc.update(signals, weight, row)
        self._follow(signals, row, weight)
        return self._say()

    def _align(
        self, signals: NDArray[np.float64] | None, weight: float
    ) -> tuple[NDArray[np.float64] | None, float]:
        if self._aligner is None:
            return signals, weight
        there = signals is not None and weight > 0
        aligned, valid = self._aligner.update(self._blank if signals is None else signals, there)
        return (aligned, weight) if valid else (None, 0.0)

    def _follow(
        self,
        signals: NDArray[np.float64] | None,
        row: NDArray[np.float64] | None,
        weight: float,
    ) -> None:
        """Betas and autocorrelation of the run so far."""
        if signals is None or row is None or weight == 0:
            for course in self._courses:
                course.update(None, 0.0)
            return
        self._denoiser.update(row, signals, weight)
        for circuit, course in zip(self.circuits, self._courses, strict=True):
            course.update(signals[circuit.rois], weight, row)

    def _seed(
        self,
        rows: NDArray[np.float64],
        signals: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:
        self._denoiser.seed(rows, signals, weights)
        for circuit, course in zip(self.circuits, self._courses, strict=True):
            course.seed(rows, signals[:, circuit.rois], weights, self._nuisance.n_own)

    def _say(self) -> Window:
        n_samples = self._fc.effective_samples
        reason = self._warming_up(n_samples)
        if reason:
            self._correlations.fill(math.nan)
        else:
            self._fc.correlation(self._denoiser.betas, self._correlations)
        followed = self._correlations[self._places]
        if reason:
            return Window(followed, (NO_SCORE,) * len(self.circuits), n_samples, reason)
        betas, products = self._denoiser.betas, self._fc.regressor_products()
        weights, scores, start = self._fc.weights, [], 0
        for circuit, course in zip(self.circuits, self._courses, strict=True):
            stop = start + len(circuit.edges)
            scores.append(circuit.score(followed[start:stop], course, weights, betas, products))
            start = stop
        undefined = "" if math.isfinite(scores[0].value) else "an edge's correlation is undefined"
        return Window(followed, tuple(scores), n_samples, undefined)

    def _warming_up(self, n_samples: float) -> str:
        each = self._config.denoise.volumes_per_regressor
        if not self._denoiser.ready(each):
            wanted, seen = each * self._nuisance.n_regressors, self._denoiser.n_volumes
            if seen < wanted:
                return f"{seen} of {wanted:.0f} volumes for the nuisance regression"
            own = each * self._nuisance.n_own
            return f"fewer than {own:.0f} volumes of this run for its level and drift"
        if n_samples < self._n_wanted - 1e-9:
            return f"{n_samples:.1f} good volumes of {self._window} in the window"
        return ""

    def _edges(self, n_rois: int) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
        """Edges to follow (None for all), and where the circuits' edges are among them."""
        places = np.concatenate([circuit.positions(n_rois) for circuit in self.circuits])
        if self._config.connectivity.edges == "all":
            return None, places
        # Circuits may share an edge; it is followed once.
        followed, among = np.unique(places, return_inverse=True)
        return edge_pairs(n_rois)[followed], among


def _circuit(edges: tuple[PlanEdge, ...], rois: RoiSet) -> Circuit:
    pairs = np.array([[rois.index(edge.a), rois.index(edge.b)] for edge in edges])
    weights = np.array([edge.weight * edge.direction for edge in edges])
    return Circuit(pairs, weights, tuple(f"{edge.a} – {edge.b}" for edge in edges))


def _nuisance(config: EngineConfig, n_volumes: int, tr_s: float) -> NuisanceModel:
    denoise = config.denoise
    return NuisanceModel(
        denoise.motion,
        denoise.drift_order,
        denoise.tissue,
        denoise.tissue_derivatives,
        n_volumes,
        tr_s,
    )


def _seed_rows(
    seed: SeedRun, model: NuisanceModel, n_tissues: int, aligner: SliceAligner | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Regressors, signals and weights of a seeding run, made as the run's own are.

    One row for each volume of scanner time; those that were not observed have weight 0.
    """
    first, n = int(seed.indices[0]), int(seed.indices[-1] - seed.indices[0]) + 1
    rows, weights = np.zeros((n, model.n_regressors)), np.zeros(n)
    signals = np.full((n, seed.signals.shape[1]), math.nan)
    for k, index in enumerate(seed.indices.tolist()):
        rows[index - first] = model.row(index, seed.parameters[k], seed.tissue[k, :n_tissues])
        signals[index - first], weights[index - first] = seed.signals[k], seed.weights[k]
    if aligner is not None:
        for k in range(n):
            signals[k], valid = aligner.update(signals[k].copy(), bool(weights[k] > 0))
            weights[k] = weights[k] if valid else 0.0
    return rows, signals, weights


def _aligner(
    config: EngineConfig, rois: RoiSet, geometry: Geometry, circuits: list[Circuit]
) -> SliceAligner | None:
    """Alignment in time, where a circuit's ROIs lie too far apart in it."""
    if geometry.slice_times_s is None:
        return None
    offsets_s = rois.slice_offsets_s(geometry.slice_times_s, geometry.slice_axis)
    pairs = [(int(a), int(b)) for circuit in circuits for a, b in circuit.edges]
    if largest_offset_s(offsets_s, pairs) <= config.connectivity.slice_alignment_above_s:
        return None
    return SliceAligner(offsets_s, geometry.tr_s)
