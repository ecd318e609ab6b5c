"""What the core install weighs, and how long `import rtloop` takes, in an empty environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["measure", "prove"]

ROOT = Path(__file__).parents[2]
SIZE_LIMIT_MB = 400.0
IMPORT_LIMIT_S = 0.5
HEAVY = ("torch", "psychopy", "antspyx", "scikit-learn", "nilearn", "matplotlib")


def measure() -> dict[str, Any]:
    """Install the core into a new environment and look at it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "env"
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        before_mb = _size_mb(folder)
        subprocess.run([python, "-m", "pip", "install", "-q", str(ROOT)], check=True)
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True
        )
        names = {entry["name"].lower() for entry in json.loads(listed.stdout)}
        return {
            "core_mb": round(_size_mb(folder) - before_mb, 1),
            "packages": len(names),
            "heavy_packages": sorted(names & set(HEAVY)),
            "import_rtloop_s": _import_s(python, "rtloop"),
            "import_engine_s": _import_s(python, "rtloop.engine"),
        }


def prove() -> tuple[dict[str, Any], dict[str, bool]]:
    """Size and time against their limits."""
    found = measure()
    return found, {
        f"core install < {SIZE_LIMIT_MB:g} MB": found["core_mb"] < SIZE_LIMIT_MB,
        f"import rtloop < {IMPORT_LIMIT_S:g} s": found["import_rtloop_s"] < IMPORT_LIMIT_S,
        "no PyTorch, PsychoPy or ANTs in the core": not found["heavy_packages"],
    }


def _size_mb(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _import_s(python: Path, module: str) -> float:
    """Median over five fresh processes, the first (which compiles and caches) left out."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        subprocess.run([python, "-c", f"import {module}"], check=True, cwd=Path(python).parent)
        times.append(time.perf_counter() - start)
    return round(float(np.median(times[1:])), 3)


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=2)
