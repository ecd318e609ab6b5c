"""Known truth: whether (estimate - truth) / standard error of a circuit's score is as it should be.

Every window belongs to a run of its own: BOLD-like signals of ten ROIs with a known population
correlation (a band-limited haemodynamic spectrum, white noise of each ROI's own), head motion
that leaks into them, drift, censored volumes. The run goes through the loop's own nuisance
regression, sliding window and circuits, volume by volume; its last window is scored. Truth is
Σ w z / Σ |w| with z of the signals' population correlation, white noise included and nuisance
not. Over independent windows the ratio must have mean 0 ± 0.1 and SD 0.9-1.1.

Unless said otherwise the signals hold nothing below 0.01 Hz, so that what drift regression
removes is no part of them.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rtloop.circuit import Circuit, Score
from rtloop.connectivity import SlidingWindowFC, edge_pairs
from rtloop.denoise import Denoiser, NuisanceModel

__all__ = ["CIRCUITS", "CONDITIONS", "Condition", "examine", "prove", "run"]

N_ROIS = 10
N_WINDOWS = 2000
LOWEST_HZ = 0.01
NEURAL_TIME_S = 1.0
BASELINE = 10_000.0
SIGNAL_SD = 50.0
MEAN_WITHIN = 0.1
SD_WITHIN = (0.9, 1.1)

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """One way to scan.

    `white` is the share of each ROI's variance that is noise of its own; `strong` makes all
    correlations large and positive; `delay_s` spreads the ROIs' haemodynamic delays evenly from 0
    to it; `changed` moves the correlations by this share towards others just as the last window
    begins, as successful training would; the signals' spectrum begins at `lowest_hz`. What lies
    beyond what is asked for has `asked` False: its figures tell where the standard error stops
    being right.
    """

    name: str
    tr_s: float
    window_s: float
    run_s: float
    white: float = 0.3
    motion: int = 6
    censored: float = 0.1
    strong: bool = False
    delay_s: float = 0.0
    changed: float = 0.0
    lowest_hz: float = LOWEST_HZ
    asked: bool = True

    @property
    def window(self) -> int:
        return round(self.window_s / self.tr_s)

    @property
    def n_volumes(self) -> int:
        return round(self.run_s / self.tr_s)


CONDITIONS = (
    Condition("TR 0.8 s", 0.8, 40, 480),
    Condition("TR 1 s", 1.0, 40, 480),
    Condition("TR 2 s", 2.0, 40, 480),
    Condition("window 60 s", 1.0, 60, 480),
    Condition("window 120 s", 2.0, 120, 600),
    Condition("no white noise", 1.0, 40, 480, white=0.0),
    Condition("mostly white noise", 1.0, 40, 480, white=0.7),
    Condition("strong correlations", 1.0, 60, 480, strong=True),
    Condition("30 % censored", 1.0, 60, 480, censored=0.3),
    Condition("5 minutes of run", 1.0, 40, 300),
    Condition("24 motion columns", 1.0, 40, 480, motion=24),
    Condition("correlations changed by 30 %", 1.0, 60, 480, changed=0.3),
    Condition("delays up to 1 s", 1.0, 60, 480, delay_s=1.0),
    Condition("signals down to 0 Hz", 1.0, 60, 480, lowest_hz=0.0, asked=False),
    Condition("105 s of run", 1.0, 40, 105, asked=False),
    Condition("all correlations exchanged", 1.0, 60, 480, changed=1.0, asked=False),
    Condition("delays up to 2 s", 1.0, 60, 480, delay_s=2.0, asked=False),
    Condition("window 20 s", 1.0, 20, 480, asked=False),
    Condition("24 columns, 3 minutes", 1.0, 40, 180, motion=24, asked=False),
)


def _circuits() -> dict[str, Circuit]:
    generator = np.random.default_rng(5)
    pairs = edge_pairs(N_ROIS)
    chosen = pairs[np.sort(generator.choice(len(pairs), 20, replace=False))]
    weights = generator.uniform(0.3, 1.0, 20) * generator.choice([-1.0, 1.0], 20)
    five = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]])
    return {
        "1 edge": Circuit(np.array([[0, 1]]), np.ones(1)),
        "5 edges, 4 ROIs": Circuit(five, np.array([1.0, 1.0, -0.5, 1.0, 0.5])),
        "5 edges, one way": Circuit(five, np.ones(5)),
        "20 edges": Circuit(chosen, weights),
    }


CIRCUITS = _circuits()


def run(
    n_windows: int = N_WINDOWS, conditions: tuple[Condition, ...] = CONDITIONS
) -> dict[str, Any]:
    """Mean and SD of (estimate - truth) / standard error, per condition and circuit.

    Returns
    -------
    dict
        `n_windows` and `rows`, one per condition and circuit: `truth`, `spread` (SD of the
        estimates), `standard_error` (mean), `n_effective` (mean), `mean`, `sd` (of the ratio),
        `mean_uncorrected` (with `value` in place of `estimate`), `refused` (windows without a
        standard error, left out), `within`, `asked`.
    """
    rows = []
    for condition in track(conditions, "known truth", transient=True):
        rows += examine(condition, n_windows)
    return {"n_windows": n_windows, "rows": rows}


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """The figures at full size, and whether each condition asked for is met by all circuits."""
    figures = run()
    reached: dict[str, bool] = {}
    for row in figures["rows"]:
        if row["asked"]:
            claim = f"{row['condition']}: mean 0 ± 0.1 and SD 0.9-1.1"
            reached[claim] = reached.get(claim, True) and row["within"]
    return figures, reached


def examine(condition: Condition, n_windows: int) -> list[dict[str, Any]]:
    """One row per circuit from `n_windows` independent runs, seeded by the condition's name."""
    seed = zlib.crc32(condition.name.encode())
    before, others = _correlations(condition)
    in_window = before + condition.changed * (others - before)
    scores: dict[str, list[Score]] = {name: [] for name in CIRCUITS}
    for number in range(n_windows):
        generator = np.random.default_rng([seed, number])
        clean = _signals(condition, before, in_window, generator)
        for name, score in _last_window(condition, clean, generator).items():
            scores[name].append(score)
    population = in_window * _shared(condition)
    return [
        _row(condition, name, scores[name], _truth(CIRCUITS[name], population)) for name in CIRCUITS
    ]


def _row(condition: Condition, name: str, scores: list[Score], truth: float) -> dict[str, Any]:
    stated = [score for score in scores if math.isfinite(score.standard_error)]
    value = np.array([score.value for score in stated])
    error = np.array([score.standard_error for score in stated])
    ratio = (np.array([score.estimate for score in stated]) - truth) / error
    mean, sd = float(ratio.mean()), float(ratio.std(ddof=1))
    return {
        "condition": condition.name,
        "circuit": name,
        "truth": truth,
        "spread": float(value.std(ddof=1)),
        "standard_error": float(error.mean()),
        "n_effective": float(np.mean([score.n_effective for score in stated])),
        "mean": mean,
        "sd": sd,
        "mean_uncorrected": float(((value - truth) / error).mean()),
        "refused": len(scores) - len(stated),
        "within": abs(mean) <= MEAN_WITHIN and SD_WITHIN[0] <= sd <= SD_WITHIN[1],
        "asked": condition.asked,
    }


def _truth(circuit: Circuit, population: Float64) -> float:
    z = np.arctanh(population[tuple(circuit.edges.T)])
    return float((circuit.weights * z).sum() / np.abs(circuit.weights).sum())


# --- signals --------------------------------------------------------------------------------


def _correlations(condition: Condition) -> tuple[Float64, Float64]:
    """Two correlation matrices of the haemodynamic signals: the usual one, and another."""
    matrices = []
    for seed in (3, 4):
        generator = np.random.default_rng(seed)
        factors = generator.standard_normal((N_ROIS, 3))
        if condition.strong:
            factors = np.abs(factors) + 1.0
        covariance = factors @ factors.T + np.diag(generator.uniform(1.0, 3.0, N_ROIS))
        sd = np.sqrt(np.diag(covariance))
        matrices.append(covariance / np.outer(sd, sd))
    return matrices[0], matrices[1]


def _spectrum(condition: Condition) -> tuple[Float64, Float64]:
    """Frequencies in Hz and power of a haemodynamic signal, mean power 1 over both signs."""
    n_samples = 2 ** math.ceil(math.log2(2 * condition.n_volumes))
    frequency_hz = np.asarray(np.fft.rfftfreq(n_samples, condition.tr_s), np.float64)
    time_s = np.arange(0.0, 40.0, 0.05, np.float64)
    response = _gamma(time_s, 6) - _gamma(time_s, 16) / 6.0
    transfer = np.exp(-2j * np.pi * frequency_hz[:, None] * time_s) @ response
    neural = 1.0 / (1.0 + (2.0 * np.pi * frequency_hz * NEURAL_TIME_S) ** 2)
    high_pass = frequency_hz**8 / np.maximum(frequency_hz**8 + condition.lowest_hz**8, 1e-300)
    high_pass[0] = float(condition.lowest_hz == 0.0)
    power = np.abs(transfer) ** 2 * neural * high_pass
    return frequency_hz, power / np.fft.irfft(power)[0]


def _gamma(time_s: Float64, shape: int) -> Float64:
    return np.asarray(time_s ** (shape - 1) * np.exp(-time_s) / math.gamma(shape), np.float64)


def _delays_s(condition: Condition) -> Float64:
    return np.linspace(0.0, condition.delay_s, N_ROIS)


def _shared(condition: Condition) -> Float64:
    """What white noise and differing delays leave of a correlation, per ROI pair."""
    frequency_hz, power = _spectrum(condition)
    lag_s = np.subtract.outer(_delays_s(condition), _delays_s(condition))
    weights = power * np.where((frequency_hz == 0) | (frequency_hz == frequency_hz[-1]), 1.0, 2.0)
    phase = np.cos(2.0 * np.pi * lag_s[..., None] * frequency_hz)
    return np.asarray((1.0 - condition.white) * (phase @ weights) / weights.sum(), np.float64)


def _signals(
    condition: Condition, before: Float64, in_window: Float64, generator: np.random.Generator
) -> Float64:
    """Signals without nuisance, (n_volumes, n_rois), SD 1; `in_window` holds from the window on."""
    frequency_hz, power = _spectrum(condition)
    n_samples = 2 * (len(frequency_hz) - 1)
    white = np.fft.rfft(generator.standard_normal((n_samples, N_ROIS)), axis=0)
    delay = np.exp(-2j * np.pi * frequency_hz[:, None] * _delays_s(condition))
    sources = white * np.sqrt(power)[:, None]
    usual, changed = (
        np.fft.irfft(sources @ np.linalg.cholesky(matrix).T * delay, n_samples, axis=0)
        for matrix in (before, in_window)
    )
    start = condition.n_volumes - condition.window
    signals = np.concatenate((usual[:start], changed[start : condition.n_volumes]))
    noise = generator.standard_normal(signals.shape)
    return np.asarray(
        math.sqrt(1.0 - condition.white) * signals + math.sqrt(condition.white) * noise, np.float64
    )


def _head(condition: Condition, generator: np.random.Generator) -> Float64:
    """Motion parameters (n_volumes, 6): a slow walk, jitter, and three lasting jumps; mm, rad."""
    n = condition.n_volumes
    steps = generator.standard_normal((n, 6)) * 0.03 * math.sqrt(condition.tr_s)
    for at in generator.integers(0, n, 3):
        steps[at] += generator.standard_normal(6) * 0.3
    motion = np.cumsum(steps, axis=0) + generator.standard_normal((n, 6)) * 0.05
    motion[:, 3:] *= 0.01
    return np.asarray(motion, np.float64)


# --- the loop -------------------------------------------------------------------------------


def _last_window(
    condition: Condition, clean: Float64, generator: np.random.Generator
) -> dict[str, Score]:
    """The run's volumes through regression, window and circuits; scores of its last window."""
    motion = _head(condition, generator)
    weights = (generator.random(len(clean)) >= condition.censored).astype(np.float64)
    model = NuisanceModel(condition.motion, 2, (), False, len(clean), condition.tr_s)
    rows = np.array([model.row(index, values).copy() for index, values in enumerate(motion)])
    spread = rows.std(axis=0)
    spread[0] = 1.0  # the level
    loads = generator.standard_normal((rows.shape[1], N_ROIS)) / spread[:, None]
    observed = BASELINE + SIGNAL_SD * (clean + 0.7 * rows @ loads)

    denoiser = Denoiser(N_ROIS, model)
    window = SlidingWindowFC(N_ROIS, condition.window, n_regressors=model.n_regressors)
    # circuits of the same ROIs share what the run shows of them
    runs = {
        tuple(circuit.rois): circuit.autocorrelation(condition.tr_s, model.n_regressors)
        for circuit in CIRCUITS.values()
    }
    for x, row, weight in zip(observed, rows, weights, strict=True):
        denoiser.update(row, x, weight)
        window.update(x, weight, row)
        for rois, autocorrelation in runs.items():
            autocorrelation.update(x[list(rois)], weight, row)
    betas, products = denoiser.betas, window.regressor_products()
    r = window.correlation(betas)
    return {
        name: circuit.score(
            r[circuit.positions(N_ROIS)],
            runs[tuple(circuit.rois)],
            window.weights,
            betas,
            products,
        )
        for name, circuit in CIRCUITS.items()
    }


# --- command line ---------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Known truth of circuit scores.")
    parser.add_argument("--windows", type=int, default=N_WINDOWS, help="independent windows")
    parser.add_argument("--only", help="conditions whose name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    chosen = tuple(c for c in CONDITIONS if (arguments.only or "") in c.name)
    figures = run(arguments.windows, chosen)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        Console(width=140).print(_table(figures))


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"(estimate - truth) / standard error, {figures['n_windows']} windows")
    for column in ("condition", "circuit"):
        table.add_column(column)
    for column in (
        "truth",
        "spread",
        "SE",
        "n eff",
        "mean",
        "SD",
        "uncorrected",
        "refused",
        "within",
    ):
        table.add_column(column, justify="right")
    for row in figures["rows"]:
        table.add_row(
            row["condition"] + ("" if row["asked"] else " *"),
            row["circuit"],
            f"{row['truth']:+.3f}",
            f"{row['spread']:.3f}",
            f"{row['standard_error']:.3f}",
            f"{row['n_effective']:.1f}",
            f"{row['mean']:+.3f}",
            f"{row['sd']:.3f}",
            f"{row['mean_uncorrected']:+.3f}",
            str(row["refused"]),
            "yes" if row["within"] else "NO",
        )
    table.caption = "* beyond what is asked for; uncorrected: mean without the bias correction"
    return table


if __name__ == "__main__":
    main()
