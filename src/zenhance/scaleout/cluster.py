"""The workers of a run: processes of this computer, or those of a scheduler that runs already."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zenhance.errors import FailureKind, MemoryBudgetError, MethodError, WriteError

__all__ = ["Workers", "open_workers", "use_threads"]

MAX_WORKERS = 1024
MAX_WAIT_S = 60.0
POLL_S = 0.2
"""How long a wait for tasks lasts before Cancel is looked at again."""


class Workers:
    """Processes that take tasks.

    Parameters
    ----------
    client : distributed.Client
        Connected to the scheduler.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        known = client.scheduler_info(n_workers=-1)["workers"].values()
        self.count = len(known)
        """How many workers there are when the run begins."""
        self.on_one_host = max(Counter(worker["host"] for worker in known).values(), default=1)
        """How many of them share a computer, its memory and its cores."""

    @property
    def words(self) -> str:
        """How many workers there are, in words."""
        return f"{self.count} worker{'s' if self.count > 1 else ''}"

    def submit(self, function: Callable[..., Any], *what: Any) -> Any:
        """Begin a task; it is done again if its worker is lost."""
        key = f"{function.__name__.strip('_')}-{uuid.uuid4().hex}"
        return self.client.submit(function, *what, key=key, pure=False)

    def results(
        self, futures: Iterable[Any], stopped: Callable[[], bool]
    ) -> Iterator[tuple[Any, Any]]:
        """Yield each task that is done with its result, and ``(None, None)`` while none is.

        Parameters
        ----------
        futures : iterable of Future
            Taken one by one when a worker is about to have nothing to do.
        stopped : callable
            Asked a few times a second; once it is true, the tasks are given up.

        Raises
        ------
        ZenhanceError
            What a task raised, or that workers died of it.
        """
        waiting, tasks, most = set[Any](), iter(futures), 3 * max(1, self.count)
        try:
            while not stopped():
                while len(waiting) < most and (task := next(tasks, None)) is not None:
                    waiting.add(task)
                if not waiting:
                    return
                done = self._done(waiting)
                waiting -= done
                if not done:
                    yield None, None
                for task in done:
                    yield task, _result(task)
        finally:
            self.client.cancel(list(waiting), force=True)

    def _done(self, waiting: set[Any]) -> set[Any]:
        from distributed import wait

        with contextlib.suppress(TimeoutError):
            wait(list(waiting), timeout=POLL_S, return_when="FIRST_COMPLETED")
        return {task for task in waiting if task.status not in ("pending", "lost")}


def _result(task: Any) -> Any:
    from distributed import KilledWorker

    if task.status == "cancelled":
        raise WriteError(
            "the scheduler went away; start it again and give the same command, which continues",
            FailureKind.DEVICE_LOST,
        )
    try:
        return task.result()
    except KilledWorker as error:
        raise MemoryBudgetError(
            "several workers died of the same task, most likely for want of memory; start fewer "
            "workers, or set a smaller tile with --tile"
        ) from error


def use_threads(neighbours: int) -> None:
    """Let this process compute in its share of the computer's threads."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // max(1, neighbours)))


@contextlib.contextmanager
def open_workers(count: int | None = None, scheduler: str | None = None) -> Iterator[Workers]:
    """Start workers on this computer, or use those of a scheduler.

    Parameters
    ----------
    count : int, optional
        Processes to start; with a scheduler, how many workers to wait for.
    scheduler : str, optional
        Address, such as ``tcp://node7:8786``.

    Raises
    ------
    MethodError
        dask.distributed is not installed, or the number cannot be.
    WriteError
        No scheduler answers, or it has too few workers.
    """
    if count is not None and not 1 <= count <= MAX_WORKERS:
        raise MethodError(f"--workers is {count}; choose a number from 1 to {MAX_WORKERS}")
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MethodError(
            "several workers need dask.distributed; install it with: pip install zenhance[scaleout]"
        ) from error
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=50,
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        else:
            try:
                client = stack.enter_context(Client(scheduler, timeout=f"{MAX_WAIT_S:g}s"))
            except (OSError, ValueError) as error:
                raise _no_workers(scheduler, "does not answer") from error
        try:
            client.wait_for_workers(count or 1, timeout=MAX_WAIT_S)
        except TimeoutError as error:
            raise _no_workers(scheduler or "here", f"has fewer than {count or 1}") from error
        yield Workers(client)


def _no_workers(scheduler: str, what: str) -> WriteError:
    return WriteError(
        f'the scheduler "{scheduler[:80]}" {what} workers after {MAX_WAIT_S:g} s; check its '
        "address and that its workers run",
        FailureKind.BAD_PARAMETER,
    )
