"""What the record costs per volume: commits of 1.6 MB volumes with `synchronous=FULL`.

Beside it the naive way, one file per volume with fsync of file and folder. Both write to the same
disk in turn. The commit comes after the feedback was published, so it is off the participant's
path; it has to end before the next volume.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rtloop.events import Screen, Step, Watch
from rtloop.journal import Record, Times
from rtloop.scoring import NO_SCORE
from rtloop.volume import Volume

__all__ = ["measure", "prove"]

SHAPE = (104, 104, 72)
"""1.6 MB of int16."""

SHORTEST_TR_S = 0.8


def measure(n_volumes: int = 300) -> list[dict[str, Any]]:
    """Rows: method, median and p99 in ms, memory is not kept."""
    random = np.random.default_rng(0)
    data = np.asfortranarray(random.integers(0, 4000, SHAPE, dtype=np.int16))
    with tempfile.TemporaryDirectory(dir=os.environ.get("FCNEF_BENCH_DIR")) as name:
        folder = Path(name)
        ours, naive = [], []
        with Record.create(folder / "run.sqlite", {}) as record:
            with record.transaction():
                attempt = record.open_attempt("bench", 0.0, b"", {})
            for index in range(n_volumes):
                volume = _volume(index, data)
                start = time.perf_counter()
                with record.transaction():
                    record.add_event(attempt, volume, _step(index), Times(None, 0.0, 0.0, 0.0))
                    record.acknowledge("bench", index)
                ours.append(1e3 * (time.perf_counter() - start))
                start = time.perf_counter()
                _write_file(folder, index, data.T.data.cast("B"))
                naive.append(1e3 * (time.perf_counter() - start))
        size_mb = sum(f.stat().st_size for f in folder.glob("run.sqlite*")) / 1e6
    mine, theirs = _row("record, one transaction", ours), _row("naive, a file and fsync", naive)
    mine["times_naive"] = mine["median_ms"] / theirs["median_ms"]
    mine["mb_per_volume"] = round(size_mb / n_volumes, 2)
    return [mine, theirs]


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """The cost is reported; the claim is that it fits into the shortest TR in use."""
    rows = measure(1000)
    fits = rows[0]["p99_ms"] < 1e3 * SHORTEST_TR_S
    return {"rows": rows}, {f"p99 of a commit < TR of {SHORTEST_TR_S:g} s": fits}


def _volume(index: int, data: np.ndarray) -> Volume:
    return Volume("bench", index, data, np.eye(4), 1.0, 0.0)


def _step(index: int) -> Step:
    return Step(
        index=index,
        status="used",
        reasons=(),
        missing=(),
        observation=None,
        weight=1.0,
        fd_mm=0.1,
        n_samples=40.0,
        correlations=np.zeros(10),
        scores=(NO_SCORE,),
        warming_up="",
        trial=None,
        trial_score=None,
        screen=Screen("feedback", 50.0, "", None, None),
        watch=Watch(),
    )


def _write_file(folder: Path, index: int, voxels: memoryview) -> None:
    handle = os.open(folder / f"{index}.raw", os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(handle, voxels)
    os.fsync(handle)
    os.close(handle)
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _row(method: str, times_ms: list[float]) -> dict[str, Any]:
    return {
        "method": method,
        "median_ms": round(float(np.median(times_ms)), 2),
        "p99_ms": round(float(np.percentile(times_ms, 99)), 2),
        "max_ms": round(max(times_ms), 2),
    }
