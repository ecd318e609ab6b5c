"""Cohorts at full size: connectivity of 10,000 people, their edges on disk, a worker that dies.

Simulated signals at BOLD magnitude. Three parts. Connectivity: 379 ROIs x 400 volumes to 71,631
Fisher z for 10,000 people, beside the products of all ROI pairs by the BLAS alone on signals that
are standardised already: both as NumPy multiplies a matrix with its own transpose (one triangle,
half the work) and as the full product. Storage: 10,000 x 71,631 written by people and read by
edges, beside a raw file, peak memory as the kernel counts it. Dask: a cohort built by two worker
processes, one killed midway, against the same built here.

Storage needs 6 GB for a while, in FCNEF_BENCH_DIR or the temporary folder; nothing is left there.
CPU time throughout, one thread; each part runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tools.bench.cohort_store import STEPS

__all__ = ["PARTS", "measure", "prove"]

N_ROIS, N_VOLUMES, N_PEOPLE = 379, 400, 10_000
N_EDGES = N_ROIS * (N_ROIS - 1) // 2
BASELINE, SD = 10_000.0, 50.0

FC_RATIO = 2.0
MEMORY_GB = 4.0
ERROR_LIMIT = 1e-6

N_DIFFERENT = 50
"""People whose signals differ; they are gone through again until there are 10,000."""

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}

Float32 = NDArray[np.float32]


def measure(part: str, n_people: int = N_PEOPLE) -> dict[str, Any]:
    """Run one part in a process of its own, one BLAS thread.

    Parameters
    ----------
    part : {"fc", "store", "dask"}
        Which.
    n_people : int
        Scans; fewer for a quick look.

    Returns
    -------
    dict
        Figures.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench.cohort", "--part", part, "--people", str(n_people)],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Full size: figures and what they reach."""
    figures = {part: measure(part) for part in PARTS}
    fc, store, dask = figures["fc"], figures["store"], figures["dask"]
    reached = {
        f"{N_PEOPLE:,} people, {N_ROIS} ROIs x {N_VOLUMES} volumes: CPU <= {FC_RATIO:g} x BLAS"
        " (one triangle)": fc["times_blas_triangle"] <= FC_RATIO,
        f"error of z against float64 <= {ERROR_LIMIT:g}": fc["largest_error"] <= ERROR_LIMIT,
        f"{N_PEOPLE:,} x {N_EDGES:,} written by people in <= {MEMORY_GB:g} GB": store["write"][
            "peak_gb"
        ]
        <= MEMORY_GB,
        f"read by edges, all people, in <= {MEMORY_GB:g} GB": store["read"]["peak_gb"] <= MEMORY_GB,
        f"one person withdrawn in <= {MEMORY_GB:g} GB, nothing left": store["withdraw"]["peak_gb"]
        <= MEMORY_GB
        and (store["withdraw"]["found_before"], store["withdraw"]["found_after"]) == (1, 0),
        "Dask with a worker killed midway: the local run's bits": dask["same_bits"]
        and dask["workers_killed"] == 1,
    }
    return figures, reached


def signals(seed: int) -> NDArray[np.float64]:
    """One person's ROI signals, (n_volumes, n_rois), correlated, at BOLD magnitude."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((N_VOLUMES, 12)) @ rng.standard_normal((12, N_ROIS)) / np.sqrt(12)
    return np.asarray(BASELINE + SD * (0.7 * shared + rng.standard_normal((N_VOLUMES, N_ROIS))))


# --- connectivity ---------------------------------------------------------------------------------


def _fc(n_people: int) -> dict[str, Any]:
    """Ours and the products alone take turns in blocks, so that both meet the same machine."""
    from offline.fc import fc_block

    series = [signals(seed) for seed in range(N_DIFFERENT)]
    scaled = [_standardized(x) for x in series]
    out = np.empty((N_ROIS, N_ROIS), np.float32)
    other = [x.copy() for x in scaled]

    def triangle() -> None:
        for x in scaled:
            np.matmul(x.T, x, out=out)

    def whole() -> None:
        for x, y in zip(scaled, other, strict=True):
            np.matmul(x.T, y, out=out)

    ways: dict[str, Callable[[], Any]] = {
        "fcnef": lambda: fc_block(series),
        "blas_triangle": triangle,
        "blas_whole": whole,
    }
    spent = dict.fromkeys(ways, 0.0)
    for way in ways.values():
        way()
    n_blocks = -(-n_people // N_DIFFERENT)
    for _ in range(n_blocks):
        for name, way in ways.items():
            start = time.process_time()
            way()
            spent[name] += time.process_time() - start
    people = n_blocks * N_DIFFERENT
    error = max(float(np.abs(fc_block([x])[0] - _oracle(x)).max()) for x in series[:10])
    return {
        "people": people,
        **{f"{name}_cpu_s": round(total, 2) for name, total in spent.items()},
        "fcnef_ms_per_person": round(1e3 * spent["fcnef"] / people, 3),
        "times_blas_triangle": round(spent["fcnef"] / spent["blas_triangle"], 3),
        "times_blas_whole": round(spent["fcnef"] / spent["blas_whole"], 3),
        "largest_error": error,
        "largest_r": float(max(np.tanh(np.abs(_oracle(x))).max() for x in series[:10])),
    }


def _standardized(x: NDArray[np.float64]) -> Float32:
    centred = x - x.mean(axis=0)
    return np.asarray(centred / np.sqrt((centred**2).sum(axis=0)), np.float32)


def _oracle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two passes in float64."""
    centred = x - x.mean(axis=0)
    products = centred.T @ centred
    sd = np.sqrt(np.diag(products))
    a, b = np.triu_indices(N_ROIS, k=1)
    return np.asarray(np.arctanh(products[a, b] / (sd[a] * sd[b])))


# --- storage --------------------------------------------------------------------------------------


def _store(n_people: int) -> dict[str, Any]:
    """Each step in a process of its own, so that its peak memory is its own."""
    folder = Path(tempfile.mkdtemp(prefix="fcnef-bench-", dir=os.environ.get("FCNEF_BENCH_DIR")))
    try:
        figures = {step: _step(step, folder, n_people) for step in STEPS}
    finally:
        shutil.rmtree(folder)
    gb = 4e-9 * n_people * N_EDGES
    return {"people": n_people, "edges": N_EDGES, "gb": round(gb, 3), **figures}


def _step(step: str, folder: Path, n_people: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench.cohort_store", step, str(folder), str(n_people)]
    done = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout))


# --- Dask -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mortal:
    """A source of simulated people one of whose readers is killed, once, half way.

    Attributes
    ----------
    folder : Path
        Where the killed process leaves its mark; None for a source that nobody dies of.
    victim : int
        Row at which it happens.
    """

    folder: Path | None
    victim: int

    @property
    def atlas(self) -> Any:
        from offline.atlas import Atlas

        return Atlas("379", tuple(f"R{k}" for k in range(N_ROIS)))

    def stamp(self, entry: Any) -> str:
        return ""

    def read(self, entry: Any) -> Any:
        from offline.cohort.scans import Censoring, scan_of_series

        if self.folder is not None and entry.row == self.victim:
            try:
                (self.folder / f"killed-{self.victim}").mkdir()
            except FileExistsError:
                pass
            else:
                (self.folder / "pid").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
        return scan_of_series(signals(entry.row), None, self.atlas, Censoring(tr_s=2.0))


def _dask(n_people: int) -> dict[str, Any]:
    """`build_cohort` on two worker processes, one killed, against one by one in this process."""
    import logging

    import pandas as pd
    from distributed import LocalCluster

    from offline.blocks import open_executor
    from offline.cohort import build_cohort, read_people

    n_people = min(n_people, 600)
    people = read_people(
        pd.DataFrame({"participant": [f"p{k}" for k in range(n_people)], "site": "A"})
    )
    folder = Path(tempfile.mkdtemp(prefix="fcnef-bench-", dir=os.environ.get("FCNEF_BENCH_DIR")))
    build = partial(build_cohort, people=people)
    try:
        with open_executor(workers=1) as executor:
            here = build(folder / "here", source=Mortal(None, -1), executor=executor)
        with (
            LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                dashboard_address=None,
                host="127.0.0.1",
                silence_logs=logging.CRITICAL,
            ) as cluster,
            open_executor(cluster.scheduler_address) as executor,
        ):
            source = Mortal(folder, n_people // 2)
            there = build(folder / "there", source=source, executor=executor)
        same = all(
            here.z.read(block).tobytes() == there.z.read(block).tobytes()
            for block in here.z.blocks()
        )
        killed = len(list(folder.glob("killed-*")))
    finally:
        shutil.rmtree(folder)
    return {"people": n_people, "workers": 2, "workers_killed": killed, "same_bits": same}


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {"fc": _fc, "store": _store, "dask": _dask}
"""Parts of the benchmark by name."""


def _show(figures: dict[str, Any], reached: dict[str, bool]) -> None:
    console = Console(width=110)
    table = Table(title="Edges of 10,000 people on disk (simulated)")
    for column in ("step", "CPU s", "wall s", "peak GB"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in STEPS:
        row = figures["store"][step]
        table.add_row(step, *(f"{row[name]:.2f}" for name in ("cpu_s", "wall_s", "peak_gb")))
    console.print(table)
    console.print_json(json.dumps({part: figures[part] for part in ("fc", "dask")}))
    for claim, holds in reached.items():
        console.print(f"{'reached    ' if holds else 'NOT REACHED'}  {claim}")


def main() -> None:
    """Print one part as JSON, or everything for people."""
    parser = argparse.ArgumentParser(description="Cohorts at full size.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--part", choices=sorted(PARTS))
    parser.add_argument("--people", type=int, default=N_PEOPLE)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments.people)))
    else:
        figures, reached = prove()
        if arguments.json:
            print(json.dumps({**figures, "reached": reached}, indent=2))
        else:
            _show(figures, reached)


if __name__ == "__main__":
    main()
