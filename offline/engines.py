"""Where block functions run: threads, processes, or a Dask cluster.

Each engine takes a function and items and gives results in the order of the items, with a few items
under way at a time. Linear algebra is held to one thread wherever an item runs. Made by
`offline.blocks.open_executor`; Dask is imported only by `open_dask`.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol

from offline.errors import ExecutorError

__all__ = ["Engine", "Processes", "Threads", "one_blas_thread", "open_dask"]

AHEAD = 3
"""Items under way for each worker: enough that none waits, few enough that results fit memory."""

CONNECT_TIMEOUT_S = 10.0


class Engine(Protocol):
    """Where items run."""

    n_workers: int

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Results in the order of the items."""


class Threads:
    """Items in threads of this process; in the calling thread if there is to be one only."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        if self.n_workers == 1 or len(items) < 2:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(self.n_workers, "fcnef-block") as pool:
            yield from _in_order(lambda item: pool.submit(function, item), items, self.n_workers)


class Processes:
    """Items in processes of their own; a started one imports afresh and shares no state."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        if not items:
            return
        pool = ProcessPoolExecutor(
            min(self.n_workers, len(items)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_install,
            initargs=(function,),  # once a process, not once an item
        )
        with pool:
            try:
                yield from _in_order(
                    lambda item: pool.submit(_installed, item), items, self.n_workers
                )
            except BrokenProcessPool as error:
                raise ExecutorError(
                    "expected worker processes to stay alive, found one dead (out of memory?);"
                    " run it again, what the checkpoint holds is not repeated"
                ) from error


class _Dask:
    """Items on a Dask cluster, which runs those of a dead worker again elsewhere."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.n_workers = max(1, sum(client.nthreads().values()))

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        import dask
        from distributed import KilledWorker

        if not items:
            return
        # The shared parameters are a task of their own: sent once a worker, and found again if
        # the worker that held them dies.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
            shared = self._client.submit(_Constant(function), pure=False)

            def submit(item: Any) -> Any:
                return self._client.submit(_call, shared, item, pure=False)

            try:
                yield from _in_order(submit, items, self.n_workers)
            except KilledWorker as error:
                raise ExecutorError(
                    f"expected workers to survive an item, found several dead on one ({error});"
                    " give them more memory"
                ) from error
            finally:
                shared.release()


@contextmanager
def open_dask(address: str) -> Iterator[_Dask]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ExecutorError(
            f"expected the package distributed for the scheduler {address}, found none; install"
            " fcnef[scale]"
        ) from error
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ExecutorError(
            f"expected a Dask scheduler at {address}, found none ({type(error).__name__}); start"
            " `dask scheduler` and workers, or leave the address out"
        ) from error
    try:
        if not client.nthreads():
            raise ExecutorError(
                f"expected workers at the scheduler {address}, found none; start `dask worker"
                f" {address}`"
            )
        yield _Dask(client)
    finally:
        client.close()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for linear algebra: sums in one order, and no more threads than workers."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _limit_blas() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


class _Constant:
    """A task that returns what it was made with."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> Any:
        return self._value


_function: Callable[[Any], Any] | None = None
"""The function of a worker process."""


def _install(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    _limit_blas()


def _installed(item: Any) -> Any:
    assert _function is not None
    return _function(item)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    with one_blas_thread():
        return function(item)


def _in_order(
    submit: Callable[[Any], Future[Any]], items: Sequence[Any], n_workers: int
) -> Iterator[Any]:
    """Results in the order of items, with a few items under way; the rest is not submitted yet."""
    coming = iter(items)
    under_way = deque(submit(item) for item in islice(coming, AHEAD * n_workers))
    try:
        while under_way:
            result = under_way[0].result()
            under_way.popleft()
            under_way.extend(submit(item) for item in islice(coming, 1))
            yield result
    finally:
        for future in under_way:
            future.cancel()
