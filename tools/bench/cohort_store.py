"""Edges of many people on disk, one step a process: `-m tools.bench.cohort_store STEP FOLDER N`.

A cohort is written by people, read by edges, read for half of the people, and a person withdrawn;
beside it a raw C-ordered file is written and read by edges through a memory map. Each step prints
its CPU time, wall time and peak memory, all its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offline.atlas import Atlas
from offline.cohort import Cohort
from offline.cohort.consent import Tombstones
from offline.cohort.stored import FORMAT, TEXT_COLUMNS, write_generation
from offline.store import EdgeStore, edge_blocks, read_block

__all__ = ["STEPS", "run"]

N_ROIS, N_VOLUMES = 379, 400
N_EDGES = N_ROIS * (N_ROIS - 1) // 2

Float32 = NDArray[np.float32]


def run(step: str, folder: Path, n_people: int) -> dict[str, Any]:
    """One step in this process.

    Parameters
    ----------
    step : str
        One of `STEPS`.
    folder : Path
        Where earlier steps wrote.
    n_people : int
        Scans.

    Returns
    -------
    dict
        CPU and wall time in s, peak memory in GB, and what the step found.
    """
    started, cpu = time.perf_counter(), time.process_time()
    found = STEPS[step](folder, n_people) or {}
    return {
        "cpu_s": round(time.process_time() - cpu, 2),
        "wall_s": round(time.perf_counter() - started, 2),
        "peak_gb": round(_peak_gb(), 3),
        **found,
    }


def _peak_gb() -> float:
    """Largest resident memory of this process so far, as Linux counts it (mapped pages too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024e-9


def _people(n_people: int) -> Iterator[tuple[int, Float32]]:
    """Blocks of people's edges, made up, each row told from the others."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((64, N_EDGES), np.float32)
    for start in range(0, n_people, 64):
        block[:, 0] = np.arange(start, start + 64)
        yield start, block[: min(64, n_people - start)]


def _write(folder: Path, n_people: int) -> None:
    """A whole cohort, as `build_cohort` leaves it: `withdraw` works on that."""
    atlas = Atlas("379", tuple(f"R{k}" for k in range(N_ROIS)))
    names = [f"p{k:05d}" for k in range(n_people)]
    people = pd.DataFrame({"participant": names, "session": "1", "site": "A"})
    people = people.reindex(columns=[*TEXT_COLUMNS, "age", "mean_fd", "minutes", "traveling"])
    scans = people[["participant", "session"]].assign(
        n_volumes=N_VOLUMES, n_used=N_VOLUMES, content=names, note="n/a"
    )
    excluded = pd.DataFrame({"participant": [], "session": [], "reason": []}, dtype="str")

    def edges(path: Path) -> None:
        with EdgeStore.create(path, n_people, atlas).rows() as writer:
            for _, block in _people(n_people):
                writer.add(block)

    about = {
        "format": FORMAT,
        "atlas": atlas.as_json(),
        "scores": [],
        "rules": [],
        "notes": [],
        "tombstones": {"key": Tombstones().key, "marks": []},
    }
    write_generation(folder / "cohort", about, people, scans, excluded, edges)


def _read(folder: Path, n_people: int) -> dict[str, Any]:
    z = Cohort.open(folder / "cohort").z
    total = 0.0
    for block in edge_blocks(z):
        total += float(read_block(z, block)[:, 0].sum(dtype=np.float64))
    first = z.read(slice(0, 1))[:, 0]
    assert np.array_equal(first, np.arange(n_people))
    return {"checked": bool(np.isfinite(total))}


def _subset(folder: Path, n_people: int) -> None:
    z = Cohort.open(folder / "cohort").z
    rows = np.sort(np.random.default_rng(0).permutation(n_people)[: n_people // 2])
    for block in edge_blocks(z):
        assert len(read_block(z, block, rows)) == len(rows)


def _withdraw(folder: Path, n_people: int) -> dict[str, Any]:
    """A person in the middle leaves; their values are then looked for in every byte on disk."""
    row = n_people // 2
    cohort = Cohort.open(folder / "cohort")
    secret = cohort.z.read(slice(0, 1024), np.array([row]))[0].tobytes()
    before = _times_held(folder, secret)
    cohort.withdraw(f"p{row:05d}")
    found = _times_held(folder, secret)
    left = np.delete(np.arange(n_people), row)
    assert np.array_equal(Cohort.open(folder / "cohort").z.read(slice(0, 1))[:, 0], left)
    return {"found_before": before, "found_after": found}


def _times_held(folder: Path, secret: bytes) -> int:
    """How often some bytes are in the files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.read_bytes().count(secret) for path in files)


def _raw_write(folder: Path, n_people: int) -> None:
    """One C-ordered file, a block of people after another."""
    with (folder / "raw").open("wb") as file:
        for _, block in _people(n_people):
            file.write(block.data)


def _raw_read(folder: Path, n_people: int) -> None:
    """Its edges by blocks through a memory map: pages of the whole file become resident."""
    X = np.memmap(folder / "raw", np.float32, "r", shape=(n_people, N_EDGES))
    for start in range(0, N_EDGES, 4096):
        assert len(np.ascontiguousarray(X[:, start : start + 4096])) == n_people


STEPS: dict[str, Callable[[Path, int], Any]] = {
    "write": _write,
    "read": _read,
    "subset": _subset,
    "withdraw": _withdraw,
    "raw_write": _raw_write,
    "raw_read": _raw_read,
}
"""Steps by name, in their order."""


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
