"""A run on several workers: they prepare volumes, compute tiles and write them.

::

    here                                        a worker
    plan, hash of the input, learning
    channel of a series   ------------------>   microscope, shared statistics     once a channel
    volume                ------------------>   measure, prepare                  once a volume
    tile                  ------------------>   read with the halo, compute, write, journal
    result, provenance    <------------------   numbers and sentences

No array comes here. What a volume needs goes from worker to worker, without the measurement, which
each worker opens by its name. The tasks of a lost worker are done again; its finished tiles are in
the journal.
"""

from __future__ import annotations

import io
import pickle
import threading
import uuid
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from zenhance.contract import registry
from zenhance.io import open_stack
from zenhance.pipeline.journal import Journal
from zenhance.pipeline.output import Output
from zenhance.pipeline.plan import RunPlan, plan_run
from zenhance.pipeline.request import EnhanceRequest
from zenhance.pipeline.result import EnhanceResult, Progress, Run, result_of
from zenhance.pipeline.run import (
    begin_run_steps,
    channel_steps,
    ready_volume_steps,
    record_volume,
)
from zenhance.pipeline.tiles import TiledVolume, book_tile, warn_uncounted
from zenhance.scaleout.cluster import Workers, use_threads
from zenhance.stack import Stack
from zenhance.steps import drain
from zenhance.tiling.geometry import plan_tiles

__all__ = ["distributed_steps"]

# A worker may have several threads, and a prepared method serves one at a time.
_COMPUTING = threading.RLock()
_PROCESSES = 8
"""Runs whose open files a worker keeps."""


@dataclass(frozen=True)
class _Job:
    """What every task of a run has to know; requests as JSON."""

    run: str
    source: str
    opened_as: str
    request: str
    journal: str
    weights: str | None
    neighbours: int

    def begin(self) -> Run:
        """Return a run of its own for one task, in which the task gathers what it finds."""
        use_threads(self.neighbours)
        plan, (journal, outputs) = _plan(self), _outputs(self)
        method = registry.load(plan.request.method)
        run = Run(plan.plan, method, plan.request, threading.Event(), outputs, None, None, journal)
        run.weights = self.weights
        return run


@dataclass(frozen=True)
class _Opened:
    plan: RunPlan
    request: EnhanceRequest


@lru_cache(_PROCESSES)
def _plan(job: _Job) -> _Opened:
    how = EnhanceRequest.model_validate_json(job.opened_as)
    request = EnhanceRequest.model_validate_json(job.request)
    stack = open_stack(job.source, axes=how.axes, series=how.series)
    return _Opened(plan_run(stack, request), request)


@lru_cache(_PROCESSES)
def _outputs(job: _Job) -> tuple[Journal, dict[str, Output]]:
    journal = Journal(Path(job.journal))
    journal.resume()
    return journal, journal.outputs(_plan(job).plan.outputs)


@dataclass
class _Found:
    """What a task found: numbers and sentences, and objects that read the measurement.

    The objects are sent without the measurement; the receiver puts its own in place.
    """

    job: _Job
    report: dict[str, Any]
    value: Any

    def __getstate__(self) -> dict[str, Any]:
        import cloudpickle

        measurement, buffer = _plan(self.job).plan.stack, io.BytesIO()

        class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
            def persistent_id(self, thing: Any) -> str | None:
                return "measurement" if thing is measurement else None

        Pickler(buffer).dump(self.value)
        return {**self.__dict__, "value": buffer.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        job = state["job"]

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, _name: str) -> Stack:
                return _plan(job).plan.stack

        self.__dict__.update(state)
        self.value = Unpickler(io.BytesIO(state["value"])).load()


def _find_channel(job: _Job, c: int) -> _Found:
    with _COMPUTING:
        run = job.begin()
        drain(channel_steps(run, c))
        return _Found(job, run.report(), (run.kept, run.profiles))


def _find_volume(
    job: _Job, place: tuple[int, int], number: int, count: int, channel: _Found | None
) -> _Found:
    with _COMPUTING:
        run = job.begin()
        if channel is not None:
            run.kept, run.profiles = (dict(known) for known in channel.value)
        volume = drain(ready_volume_steps(run, *place, number, count))
        record_volume(run, volume.prepared, number, count)
        halo_px = volume.plan.halo_px
        return _Found(job, {**run.report(), "change": volume.change, "halo_px": halo_px}, volume)


def _report(found: _Found) -> dict[str, Any]:
    return found.report


def _compute_tile(found: _Found, number: int) -> dict[str, Any]:
    with _COMPUTING:
        use_threads(found.job.neighbours)
        volume: TiledVolume = found.value
        core_px = volume.plan.core_shape_px
        return drain(volume.kept_steps(*_outputs(found.job), number, core_px))


@dataclass
class _Tasks:
    """The tasks of a run, begun one by one, and what each of them is."""

    workers: Workers
    job: _Job
    run: Run
    tiles: int
    meaning: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        """Begin the next task whenever one is asked for."""
        volumes = list(self.run.plan.stack.volumes())
        channels: dict[int, Any] = {}
        request = self.run.request
        shared = request.statistics == "shared"
        shared |= bool(request.profile) or request.needs_blur_by_depth
        for number, (t, c) in enumerate(volumes):
            if shared and self.run.plan.stack.size("T") > 1 and c not in channels:
                channels[c] = self._begin(_find_channel, self.job, c)
                yield self._begin(_report, channels[c], means=("channel", c, 0))
            channel = channels.get(c)
            found = self._begin(_find_volume, self.job, (t, c), number, len(volumes), channel)
            yield self._begin(_report, found, means=("volume", number, 0))
            for tile in range(self.tiles):
                yield self._begin(_compute_tile, found, tile, means=("tile", number, tile))

    def _begin(self, function: Any, *what: Any, means: tuple[str, int, int] | None = None) -> Any:
        task = self.workers.submit(function, *what)
        if means is not None:
            self.meaning[task.key] = means
        return task


def distributed_steps(
    workers: Workers,
    source: Path,
    opened_as: EnhanceRequest,
    stack: Stack,
    request: EnhanceRequest,
    cancel: threading.Event,
    journal: Journal,
) -> Generator[Progress, None, EnhanceResult]:
    """Run a request on several workers; :func:`zenhance.pipeline.enhance_steps` on one.

    Parameters
    ----------
    workers : Workers
        All of them must see the input and the journal under the same path.
    source : Path
        The input.
    opened_as : EnhanceRequest
        Gives the reader its axes and its image.
    stack : Stack
        The input, as it was opened here.
    request : EnhanceRequest
        What to do with the stack that was opened.
    cancel : threading.Event
        Set from any thread, it ends the run within a second; tiles at work may still be finished.
    journal : Journal
        Where the tiles go.

    Yields
    ------
    Progress
        Several times a second.

    Returns
    -------
    EnhanceResult
        The voxels of a run in one process with the same tiles.
    """
    share = 1 / workers.on_one_host
    run = yield from begin_run_steps(stack, request, cancel, journal=journal, memory_share=share)
    job = _Job(
        uuid.uuid4().hex[:8],
        str(source.resolve()),
        opened_as.model_dump_json(),
        request.model_dump_json(),
        str(journal.folder.resolve()),
        run.weights,
        workers.on_one_host,
    )
    multiple = run.method.spec.size_multiple
    # The halo that a volume really needs is known to its worker; it does not change the count.
    tiles = len(plan_tiles(run.plan.stack.volume_shape, journal.core_px, (0, 0, 0), multiple).tiles)
    tasks = _Tasks(workers, job, run, tiles)
    found: dict[tuple[str, int, int], Any] = {}
    total, done = tiles * run.plan.volumes, 0
    for task, result in workers.results(tasks, cancel.is_set):
        if task is not None:
            what = tasks.meaning[task.key]
            found[what] = result
            done += what[0] == "tile"
        yield run.progress("enhance", done / total, f"{done} of {total} tiles, {workers.words}")
    run.check()
    _book(run, found)
    return result_of(run, str(journal.job["input"][0]))


def _book(run: Run, found: Mapping[tuple[str, int, int], Any]) -> None:
    """Add what the tasks found to the run, in the order of one process."""
    records: dict[int, dict[int, Any]] = defaultdict(dict)
    for (kind, number, tile), record in found.items():
        if kind == "tile":
            records[number][tile] = record
    said = 0
    for number, (_, c) in enumerate(run.plan.stack.volumes()):
        channel = found.get(("channel", c, 0))
        if channel is not None and number < run.plan.stack.size("C"):
            run.absorb(channel)
        report = found["volume", number, 0]
        run.absorb(report)
        run.changes.append(report["change"])
        for _, record in sorted(records[number].items()):
            book_tile(run, report["halo_px"], record)
            said += record["said"]
    warn_uncounted(run, said, len(run.reports))
