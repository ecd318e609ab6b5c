"""PyTorch so that the same input has the same bits: threads, algorithms, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from offline.errors import TwinError

__all__ = ["deterministic"]

MOST_THREADS = 1024
"""Far beyond, OpenMP ends the process."""


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Torch with so many threads and without algorithms whose result may differ between runs.

    Parameters
    ----------
    threads : int

    Raises
    ------
    TwinError
        If there is none, or more than any machine has.
    """
    import os

    import torch

    if not 1 <= threads <= MOST_THREADS:
        raise TwinError(
            f"expected 1 to {MOST_THREADS} threads, found {threads}; give one for each core"
        )
    # cuBLAS is deterministic only with a fixed workspace, which it reads when first used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # set up as the module is imported
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # a quarter of the time, to fill what is written to anyway
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set up as the module is imported
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]  # set up as the module is imported
