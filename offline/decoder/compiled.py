"""How the loops of the L1 path are compiled, and the product they share.

Lengths are padded to `LANES` with zeros, so that inner loops have no remainder. "reassoc" lets
LLVM sum a product in lanes: another order of the same sum, fixed when compiled, with NaN kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

__all__ = ["KERNEL", "LANES", "dot"]

LANES = 32
"""Scans are padded to a multiple of this."""

KERNEL: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz"},
}
"""Of every kernel of the path, besides its signature. A signature has a kernel made, or loaded from
the cache, before those that call it: callers find the same code in every process. Without one they
bind a copy of their own when they come from the cache, which may sum in another order."""


@njit("f8(f8[::1], f8[::1])", **KERNEL)
def dot(a: Float64, b: Float64) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total
