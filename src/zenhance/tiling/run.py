"""Run a callable over the tiles of a plan; use smaller tiles when memory runs out.

Each voxel is written once. When a tile runs out of memory, it and all remaining tiles are cut into
smaller ones; finished tiles stay. The retry happens outside the ``except`` block, because an
exception holds its frames and those hold the arrays.
"""

from __future__ import annotations

import gc
import math
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from zenhance.errors import (
    FailureKind,
    MemoryBudgetError,
    MethodError,
    RunCancelled,
    StackError,
    ZenhanceError,
    classify,
    sentence,
)
from zenhance.tiling.geometry import (
    MAX_ELEMENTS,
    Tile,
    TilePlan,
    halved,
    padded_shape,
    scaled,
    split,
    voxel_count,
)
from zenhance.types import FloatArray, Region, Triple

__all__ = ["DeviceLostError", "Process", "Read", "RunReport", "TileProgress", "Write", "run_tiles"]

MAX_SHRINKS = 8
"""How often tiles are halved before the run fails; a 256th of the planned core then failed."""

Outputs = Mapping[str, FloatArray]
Read = Callable[[Region], FloatArray]
Process = Callable[[FloatArray, Triple], Generator[float, None, Outputs]]
Write = Callable[[str, Region, FloatArray], None]


class DeviceLostError(ZenhanceError, RuntimeError):
    """The GPU stopped answering; it stays lost for this process, so nothing is tried again.

    Attributes
    ----------
    finished : tuple of Region
        Cores that had been written, in voxels of the input volume.
    """

    kind = FailureKind.DEVICE_LOST

    def __init__(self, message: str, finished: tuple[Region, ...]) -> None:
        super().__init__(message)
        self.finished = finished


@dataclass(frozen=True, slots=True)
class TileProgress:
    """Where a run is.

    Parameters
    ----------
    tile : int
        Number of the tile at work, from 0.
    tiles : int
        How many there are; grows when tiles have to shrink.
    fraction : float
        Part of the volume done, 0 ... 1, the part of the tile at work included; never falls.
    seconds_left : float or None
        Estimate from the voxels done so far; None before there are any.
    """

    tile: int
    tiles: int
    fraction: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did.

    Parameters
    ----------
    tiles : int
        Tiles written.
    core_shape_px, halo_px : tuple of int
        Largest core at the end, and the context read along with it.
    shrunk : int
        How often tiles had to be halved for want of memory.
    seconds : float
    """

    tiles: int
    core_shape_px: Triple
    halo_px: Triple
    shrunk: int
    seconds: float


def _words(region: Region) -> str:
    return ", ".join(f"{axis} {s.start}:{s.stop}" for axis, s in zip("zyx", region, strict=True))


@dataclass(slots=True)
class _Run:
    """Book of a run: what is still to do, what is done, how long it took."""

    plan: TilePlan
    output_scale: Triple
    cancel: threading.Event | None
    release: Callable[[], None] | None
    series: Mapping[str, int]
    pending: deque[Tile] = field(init=False)
    core_shape_px: Triple = field(init=False)
    finished: list[Region] = field(default_factory=list)
    names: frozenset[str] | None = None
    shrunk: int = 0
    fraction: float = 0.0
    voxels_done: int = 0
    work_left: int = field(
        init=False
    )  # voxels to read, halos included: what time is proportional to
    work_done: int = 0
    work_s: float = 0.0
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = perf_counter()
        self.pending = deque(self.plan.tiles)
        self.core_shape_px = self.plan.core_shape_px
        limit = MAX_ELEMENTS // (math.prod(self.output_scale) * max((1, *self.series.values())))
        while any(
            math.prod(padded_shape(t.read, self.plan.size_multiple)) > limit for t in self.pending
        ):
            self.cut(f"an output tile would have more than {MAX_ELEMENTS:,} voxels")
        self.work_left = sum(voxel_count(t.read) for t in self.pending)

    @property
    def tiles(self) -> int:
        """How many tiles there are, done and to do."""
        return len(self.finished) + len(self.pending)

    def name(self, tile: Tile) -> str:
        """Name the tile at work for people."""
        return f"tile {len(self.finished) + 1} of {self.tiles} ({_words(tile.core)})"

    def cut(self, cause: str) -> None:
        """Replace all tiles still to come by ones half as large."""
        core = halved(self.plan, self.core_shape_px)
        if core is None:
            raise MemoryBudgetError(
                f"tiles of {self.core_shape_px} px cannot be made smaller, and {cause}"
            )
        self.core_shape_px = core
        self.pending = deque(
            piece for tile in self.pending for piece in split(self.plan, tile, core)
        )
        self.work_left = sum(voxel_count(t.read) for t in self.pending)

    def shrink(self, failure: str) -> None:
        """Make tiles smaller after memory ran out, or give up."""
        gc.collect()
        if self.release is not None:
            self.release()
        if self.shrunk == MAX_SHRINKS:
            raise MemoryBudgetError(
                f"{failure[:150]}; still so after tiles were halved {MAX_SHRINKS} times, "
                f"to {self.core_shape_px} px ({len(self.finished)} done)"
            )
        self.shrunk += 1
        self.cut(failure[:150])

    def check_cancelled(self) -> None:
        """Stop here if the user cancelled."""
        if self.cancel is not None and self.cancel.is_set():
            raise RunCancelled(
                f"the run was cancelled after {len(self.finished)} of {self.tiles} tiles"
            )

    def progress(self, tile: Tile, inner: float, busy_s: float) -> TileProgress:
        """Return the progress after ``inner`` of the current tile and ``busy_s`` seconds."""
        done = self.voxels_done + inner * voxel_count(tile.core)
        self.fraction = min(1.0, max(self.fraction, done / math.prod(self.plan.shape_px)))
        extra = inner * voxel_count(tile.read)
        work = self.work_done + extra
        seconds_left = (
            (self.work_s + busy_s) / work * (self.work_left - extra) if work > 0 else None
        )
        return TileProgress(len(self.finished), self.tiles, self.fraction, seconds_left)

    def finish(self, tile: Tile, busy_s: float) -> None:
        """Book the first pending tile as written."""
        self.finished.append(self.pending.popleft().core)
        self.voxels_done += voxel_count(tile.core)
        self.work_done += voxel_count(tile.read)
        self.work_left -= voxel_count(tile.read)
        self.work_s += busy_s

    def device_lost(self, tile: Tile, failure: str) -> DeviceLostError:
        """Put the loss of the GPU into words."""
        kept = (
            f"the {len(self.finished)} tiles before it are kept"
            if len(self.finished) > 1
            else "the tile before it is kept"
        )
        done = kept if self.finished else "no tile was finished before it"
        text = (
            f"the GPU stopped answering in {self.name(tile)}; {done}; restart the program, "
            "or choose device 'cpu'"
        )
        return DeviceLostError(
            f"{text} ({failure[:60]})" if failure else text, tuple(self.finished)
        )


def _block(read: Read, tile: Tile, size_multiple: Triple) -> FloatArray:
    """Read a tile as a float32 copy (Z, Y, X), its end mirrored to the next grid multiple."""
    block = np.asarray(read(tile.read), dtype=np.float32)
    expected = tuple(s.stop - s.start for s in tile.read)
    if block.shape != expected:
        raise StackError(
            f"reading {_words(tile.read)} gave an array of shape {block.shape}, "
            f"expected {expected}; open the stack again"
        )
    padding = [
        (0, p - n) for p, n in zip(padded_shape(tile.read, size_multiple), expected, strict=True)
    ]
    if any(after for _, after in padding):
        block = np.pad(block, padding, mode="symmetric")
    # a method may work in place, and the array read may be a view of the user's image
    if not (block.flags.owndata and block.flags.writeable and block.flags.c_contiguous):
        block = np.array(block, order="C")
    return block


def _checked(name: str, output: FloatArray, run: _Run, tile: Tile) -> FloatArray:
    """Return the core of one output, after its shape and values were looked at."""
    array = np.asarray(output, dtype=np.float32)
    padded = padded_shape(tile.read, run.plan.size_multiple)
    expected = tuple(n * f for n, f in zip(padded, run.output_scale, strict=True))
    samples = run.series.get(name, 0)
    expected = (samples, *expected) if samples else expected
    if array.shape != expected:
        raise MethodError(
            f'the method gave "{name}" of shape {array.shape} in {run.name(tile)}, '
            f"expected {expected}; report this to its author"
        )
    core: FloatArray = array[(..., *scaled(tile.crop, run.output_scale))]
    # One image at a time: what is looked at takes a byte a voxel.
    bad = core.size - sum(
        int(np.count_nonzero(np.isfinite(image))) for image in (core if samples else (core,))
    )
    if bad:
        raise MethodError(
            f'the method gave {bad:,} voxels of "{name}" that are not finite in {run.name(tile)}; '
            "use fewer iterations or more regularisation"
        )
    return core


def _compute(
    run: _Run, tile: Tile, read: Read, process: Process
) -> Generator[TileProgress, None, tuple[dict[str, FloatArray], float]]:
    """Process one tile; return its cropped outputs and the seconds it took."""
    run.check_cancelled()
    started = perf_counter()
    block = _block(read, tile, run.plan.size_multiple)
    steps = process(block, (tile.read[0].start, tile.read[1].start, tile.read[2].start))
    del block
    try:
        while True:
            inner = next(steps)
            run.check_cancelled()
            yield run.progress(tile, min(1.0, max(0.0, float(inner))), perf_counter() - started)
            run.check_cancelled()
    except StopIteration as stop:
        outputs: Outputs = stop.value
    finally:
        steps.close()
    run.check_cancelled()
    if run.names is None:
        run.names = frozenset(outputs)
    if not outputs or frozenset(outputs) != run.names:
        raise MethodError(
            f"the method gave the outputs {sorted(outputs)} in {run.name(tile)}, "
            f"expected {sorted(run.names) or 'at least one'}"
        )
    return {
        name: _checked(name, output, run, tile) for name, output in outputs.items()
    }, perf_counter() - started


def run_tiles(
    plan: TilePlan,
    read: Read,
    process: Process,
    write: Write,
    *,
    cancel: threading.Event | None = None,
    release: Callable[[], None] | None = None,
    output_scale: Triple = (1, 1, 1),
    series: Mapping[str, int] | None = None,
) -> Generator[TileProgress, None, RunReport]:
    """Process a volume tile by tile.

    Parameters
    ----------
    plan : TilePlan
        From :func:`zenhance.tiling.geometry.plan_tiles`.
    read : callable
        Takes a region, returns it as float32 (Z, Y, X).
    process : callable
        Takes a tile (Z, Y, X), halo included, and the tile's origin in the volume. Returns a
        generator that yields the fraction done and returns a mapping from name to array, each of
        the tile's shape times ``output_scale`` (preceded by the samples of a series). At the
        volume's end the tile is mirrored (edge voxels repeated) up to ``size_multiple``; that part
        is cropped off again.
    write : callable
        Takes an output's name, a region in voxels of the *output*, and its float32 array, which it
        must not keep. Called once per voxel and output; its exceptions propagate and are not
        retried.
    cancel : threading.Event, optional
        Looked at whenever the process yields, and between tiles.
    release : callable, optional
        Called after memory ran out, when nothing refers to the failed tile any longer.
    output_scale : tuple of int
        Output voxels per input voxel along z, y, x.
    series : mapping of str to int, optional
        How many samples each output has that is a series; 0, and what is not named, is one image.

    Yields
    ------
    TileProgress
        Whenever the process yields, and after each tile.

    Returns
    -------
    RunReport

    Raises
    ------
    RunCancelled
        ``cancel`` was set.
    MemoryBudgetError
        Memory ran out even after tiles were halved eight times, or they cannot be made smaller.
    DeviceLostError
        The GPU stopped answering; tiles that were written stay and are named in ``finished``.
    MethodError
        An output has the wrong shape or voxels that are not finite; the text names the tile.
    """
    run = _Run(plan, output_scale, cancel, release, dict(series or {}))
    while run.pending:
        tile = run.pending[0]
        failure = ""
        try:
            outputs, busy_s = yield from _compute(run, tile, read, process)
        except Exception as error:
            kind = classify(error)
            if kind is FailureKind.DEVICE_LOST:
                traceback.clear_frames(error.__traceback__)
                raise run.device_lost(tile, " ".join(str(error).split())) from error
            if kind not in (FailureKind.OOM_DEVICE, FailureKind.OOM_HOST):
                error.add_note(f"in {run.name(tile)}")
                raise
            failure = sentence(error)
        if failure:
            run.shrink(failure)
            continue
        for name, array in outputs.items():
            write(name, scaled(tile.core, output_scale), array)
        del outputs
        update = run.progress(tile, 1.0, busy_s)
        run.finish(tile, busy_s)
        yield update
    return RunReport(
        len(run.finished),
        run.core_shape_px,
        plan.halo_px,
        run.shrunk,
        perf_counter() - run.started_s,
    )
