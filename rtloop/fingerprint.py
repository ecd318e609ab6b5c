"""Which machine, libraries and settings a score was computed with.

Scores are bit-identical only where the same instructions are compiled from the same versions. The
fingerprint is recorded with every run; replay compares it and says what to expect: equal digests,
identical scores; else the largest difference is reported.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]

__all__ = ["fingerprint"]

LIBRARIES = ("numpy", "numba", "llvmlite")

CODE_SETTINGS = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT", "NUMBA_ENABLE_AVX")
"""Environment variables that change the code Numba generates."""


def fingerprint() -> dict[str, Any]:
    """What decides the bits of a score on this machine.

    Returns
    -------
    dict
        `cpu` (LLVM's name), `cpu_features` (sorted list), `machine`, `system`, `libc`, `python`,
        one version per library, `settings` (Numba's code settings in the environment), and
        `digest`: SHA-256 of all that, 64 hexadecimal digits.

    Examples
    --------
    >>> len(fingerprint()["digest"])
    64
    """
    features = llvm.get_host_cpu_features()
    content: dict[str, Any] = {
        "cpu": llvm.get_host_cpu_name(),
        "cpu_features": sorted(name for name, present in features.items() if present),
        "machine": platform.machine(),
        "system": platform.system(),
        # sin, cos and log of the kernels are the C library's.
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "settings": {name: os.environ[name] for name in CODE_SETTINGS if name in os.environ},
        **{name: _version(name) for name in LIBRARIES},
    }
    return {**content, "digest": _digest(content)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
