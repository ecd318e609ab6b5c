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

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from offline.checkpoint import Checkpoint
from offline.engines import Engine, Processes, Threads, one_blas_thread, open_dask
from offline.errors import ExecutorError

__all__ = ["Executor", "open_executor"]

MOST_WORKERS = 1024
PROGRESS_AFTER_S = 2.0
"""Work that is done sooner shows no bar."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor:
    """Runs pure functions over items; made by `open_executor`."""

    def __init__(self, engine: Engine) -> None:
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
    if workers is not None and workers > MOST_WORKERS:
        raise ExecutorError(
            f"expected at most {MOST_WORKERS} workers, found {workers}; leave it out for all"
        )
    with ExitStack() as stack:
        if scheduler is not None:
            engine: Engine = stack.enter_context(open_dask(scheduler))
        else:
            n_workers = workers or _processors()
            stack.enter_context(one_blas_thread())
            engine = Processes(n_workers) if processes else Threads(n_workers)
        yield Executor(engine)


def _processors() -> int:
    """Processors this process may use; not every system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
