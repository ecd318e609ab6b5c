"""Block functions of modules, as processes and clusters need them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.errors import DecodeError

__all__ = ["correlate", "count_calls", "die_once", "fail", "square", "threads"]


def square(item: int) -> int:
    return item * item


def correlate(X: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """Linear algebra on random rows: bits that depend on the order of sums."""
    rng = np.random.default_rng(seed)
    drawn = X[rng.permutation(len(X))[: len(X) // 2]]
    return {"seed": seed, "products": drawn.T @ drawn, "last": drawn[-1]}


def count_calls(folder: Path, item: int) -> NDArray[np.int64]:
    """Leaves a mark for each call."""
    (folder / f"call-{item}-{time.monotonic_ns()}").touch()
    return np.array([item, item + 1])


def die_once(X: NDArray[np.float64], folder: Path, seed: int) -> dict[str, Any]:
    """The worker that is the first to come to seed 7 is killed in the middle of it."""
    if seed == 7:
        try:
            (folder / f"killed-{os.getpid()}").touch()
            (folder / "killed").mkdir()
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return correlate(X, seed)


def fail(item: int) -> int:
    if item == 3:
        raise DecodeError("expected less than 3, found 3; give less")
    return item


def threads(item: int) -> list[int]:
    """Threads each linear algebra library would use here."""
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
