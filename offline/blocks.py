"""Running one function over many items: in this process, in several, or on a Dask cluster.

Cohort connectivity, folds and permutations are the same kind of work: a pure function, called
once an item, whose seed is part of the item. Where it runs is then one argument of
`open_executor` and changes nothing else: results come in the order of the items, bit for bit the
same everywhere, because linear algebra is held to one thread wherever an item runs. Dask is
imported only when a scheduler's address is given.

Work that takes hours is given a folder as its checkpoint (`offline.checkpoint`): what is finished
is not run again.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from offline.checkpoint import Checkpoint
from offline.errors import ExecutorError

__all__ = ["Executor", "open_executor"]

PROGRESS_AFTER_S = 2.0
"""Work that is done sooner shows no bar."""

AHEAD = 3
"""Items under way for each worker: enough that none waits, few enough that results fit memory."""

CONNECT_TIMEOUT_S = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Engine(Protocol):
    """Where items run."""

    n_workers: int

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Results in the order of the items."""


class Executor:
    """Runs pure functions over items; made by `open_executor`."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    @property
    def n_workers(self) -> int:
        """Items that run at the same time."""
        return self._engine.n_workers

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        label: str = "",
        checkpoint: str | Path | None = None,
    ) -> Iterator[Result]:
        """Results of `function(item)`, in the order of the items.

        Parameters
        ----------
        function : callable
            Pure: its result depends on its item (a seed included) alone. Parameters that all items
            share are bound with `functools.partial`. For processes and Dask a function of a
            module, and items that can be pickled; large arrays are better given as an
            `EdgeStore`, which travels as its path.
        items : iterable
            What to call it with.
        label : str
            What the progress bar says. It is shown after two seconds if standard error is a
            terminal; "" for none.
        checkpoint : str or Path or None
            Folder where each finished item is kept; items kept there by the same function with
            the same shared parameters are not run again. None keeps nothing.

        Yields
        ------
        object
            Results as they are next in order; few are held at a time.

        Raises
        ------
        ExecutorError
            If the checkpoint belongs to other work, or workers died.
        """
        items = list(items)
        kept = None if checkpoint is None else Checkpoint.open(checkpoint, function)
        return self._results(function, items, label, kept)

    def _results(
        self,
        function: Callable[[Item], Result],
        items: list[Item],
        label: str,
        kept: Checkpoint | None,
    ) -> Iterator[Result]:
        names = [kept.name(item) for item in items] if kept else []
        todo = [k for k in range(len(items)) if not (kept and kept.has(names[k]))]
        fresh = self._engine.run(function, [items[k] for k in todo])
        waiting = deque(todo)
        with _progress(label, len(items), len(items) - len(todo)) as advance:
            try:
                for k in range(len(items)):
                    if waiting and waiting[0] == k:
                        waiting.popleft()
                        result = next(fresh)
                        if kept:
                            kept.write(names[k], result)
                        advance()
                    else:
                        assert kept is not None
                        result = kept.read(names[k])
                    yield result
            finally:
                close = getattr(fresh, "close", None)
                if close:
                    close()


@contextmanager
def open_executor(
    scheduler: str | None = None, workers: int | None = None, processes: bool = False
) -> Iterator[Executor]:
    """Workers for the duration of a block.

    Parameters
    ----------
    scheduler : str or None
        Address of a Dask scheduler, such as `tcp://host:8786`; its workers need this version of
        fcnef and the same files under the same paths. None for this machine.
    workers : int or None
        Items at the same time on this machine; None for the processors this process may use. 1
        runs them one by one in the calling thread.
    processes : bool
        Whether workers are processes instead of threads.

    Yields
    ------
    Executor
        Of no use after the block.

    Raises
    ------
    ExecutorError
        If no scheduler answers, or Dask is not installed.
    """
    if workers is not None and workers < 1:
        raise ExecutorError(f"expected at least one worker, found {workers}; leave it out for all")
    with ExitStack() as stack:
        if scheduler is not None:
            engine: _Engine = stack.enter_context(_open_dask(scheduler))
        else:
            n_workers = workers or _processors()
            stack.enter_context(_one_blas_thread())
            engine = _Processes(n_workers) if processes else _Threads(n_workers)
        yield Executor(engine)


class _Threads:
    """Items in threads of this process; in the calling thread if there is to be one only."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        if self.n_workers == 1 or len(items) < 2:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(self.n_workers, "fcnef-block") as pool:
            yield from _in_order(lambda item: pool.submit(function, item), items, self.n_workers)


class _Processes:
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
    with _one_blas_thread():
        return function(item)


@contextmanager
def _open_dask(address: str) -> Iterator[_Dask]:
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


def _processors() -> int:
    """Processors this process may use; not every system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """One thread for linear algebra: sums in one order, and no more threads than workers."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _limit_blas() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


@contextmanager
def _progress(label: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    """Something to call when an item is finished; a bar on a terminal once it takes long."""
    if not label or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    started_s = time.monotonic()
    with ExitStack() as stack:
        bar: Progress | None = None
        task = None
        finished = done

        def advance() -> None:
            nonlocal bar, task, finished
            finished += 1
            if bar is None and time.monotonic() - started_s > PROGRESS_AFTER_S:
                columns = ("{task.description}", BarColumn(), MofNCompleteColumn())
                bar = Progress(
                    *columns,
                    TimeRemainingColumn(),
                    console=Console(stderr=True),
                    transient=True,
                )
                stack.enter_context(bar)
                task = bar.add_task(label, total=total)
            if bar is not None and task is not None:
                bar.update(task, completed=finished)

        yield advance
