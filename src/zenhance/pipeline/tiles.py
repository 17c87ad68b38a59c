"""The tiles of one volume: computed, written, counted, and found again in a journal."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from zenhance.contract.spec import MethodContext, Prepared
from zenhance.device.choice import release_memory
from zenhance.measurement.reader import VolumeReader
from zenhance.pipeline.changes import VolumeChange
from zenhance.pipeline.journal import Journal
from zenhance.pipeline.output import Output
from zenhance.pipeline.plan import plan_volume
from zenhance.pipeline.result import Progress, Run
from zenhance.steps import relay
from zenhance.tiling.geometry import Tile, TilePlan, plan_tiles, scaled, split, voxel_count
from zenhance.tiling.run import RunReport, TileProgress, run_tiles
from zenhance.types import FloatArray, Region, Triple

__all__ = ["TiledVolume", "book_tile", "tile_steps", "tiled_volume", "warn_uncounted"]


@dataclass
class TiledVolume:
    """A volume, measured and prepared: all that its tiles need, on whatever machine.

    Parameters
    ----------
    plan : TilePlan
        Its tiles.
    reader : VolumeReader
        Reads the measurement.
    prepared : Prepared
        The method.
    change : VolumeChange
        Counts of the volume; nothing is counted in it here.
    counted : str
        The output whose voxels are counted; empty for none.
    output_scale : tuple of int
        Output voxels per input voxel along z, y, x.
    series : mapping of str to int
        Samples of each output.
    device : str
        Where it runs.
    whole_voxels : int
        Most voxels that the method was prepared on at once.
    """

    plan: TilePlan
    reader: VolumeReader
    prepared: Prepared
    change: VolumeChange
    counted: str
    output_scale: Triple
    series: Mapping[str, int]
    device: str
    whole_voxels: int

    def steps(
        self,
        outputs: Mapping[str, Output],
        tiles: Sequence[Tile],
        change: VolumeChange,
        cancel: threading.Event | None,
    ) -> Generator[TileProgress, None, RunReport]:
        """Compute tiles, write them to the outputs and count them; see :func:`run_tiles`."""

        def write(name: str, region: Region, block: FloatArray) -> None:
            outputs[name].write(self.reader, region, block)
            if name == self.counted:
                change.add(self.reader, outputs[name].source(region), block)

        return run_tiles(
            replace(self.plan, tiles=tuple(tiles)),
            self.reader.read,
            self.prepared,
            write,
            cancel=cancel,
            release=lambda: release_memory(self.device),
            output_scale=self.output_scale,
            series=self.series,
        )

    def kept_steps(
        self,
        journal: Journal,
        outputs: Mapping[str, Output],
        number: int,
        core_px: Triple,
        cancel: threading.Event | None = None,
    ) -> Generator[TileProgress, None, dict[str, Any]]:
        """Take one tile from the journal, or compute it and add it; return its record.

        Parameters
        ----------
        number : int
            The tile's, in the plan.
        core_px : tuple of int
            Cut the tile to this size where memory ran out before.
        """
        tile = self.plan.tiles[number]
        place = (outputs, self.reader, number, scaled(tile.core, self.output_scale))
        if (known := journal.finished(*place)) is not None:
            return known | {"taken": True}
        change, before = self.change.empty(), self._said()
        clipped = {name: output.clipped for name, output in outputs.items()}
        pieces = split(self.plan, tile, core_px)
        report = yield from self.steps(outputs, pieces, change, cancel)
        record: dict[str, Any] = {
            "tiles": report.tiles,
            "core_px": list(report.core_shape_px),
            "shrunk": report.shrunk,
            "change": change.counts(),
            "clipped": {name: o.clipped - clipped[name] for name, o in outputs.items()},
            "said": self._said() != before,
        }
        journal.finish(*place, record)
        for name, output in outputs.items():
            # Who books the record counts them, whether the tile was computed here or elsewhere.
            output.clipped = clipped[name]
        return record | {"taken": False}

    def _said(self) -> str:
        """Return what the method reports, as text; some methods count in their tiles."""
        return repr([getattr(self.prepared, f.name) for f in fields(Prepared)])


def tiled_volume(
    run: Run, reader: VolumeReader, prepared: Prepared, context: MethodContext, where: str
) -> TiledVolume:
    """Plan the tiles of a volume that was measured and prepared."""
    shape, device = reader.stack.volume_shape, run.plan.device.name
    if run.journal is None:
        share = run.plan.memory_share
        plan = plan_volume(run.method, run.request, shape, prepared.halo_px, device, share)
    else:
        multiple = run.method.spec.size_multiple
        plan = plan_tiles(shape, run.journal.core_px, prepared.halo_px, multiple)
    place = f" of {where.removesuffix(', ')}" if where else ""
    statistics, noise = context.statistics, context.noise
    change = VolumeChange(
        place, statistics, statistics.background if noise is None else noise.offset
    )
    main = run.request.parameters().outputs[0]
    return TiledVolume(
        plan,
        reader,
        prepared,
        change,
        main.name if main.kind == "image" and not main.series else "",
        run.request.parameters().output_scale,
        {name: layout.series for name, layout in run.plan.outputs.items()},
        device,
        context.whole_voxels,
    )


def tile_steps(
    run: Run, volume: TiledVolume, where: str, at: Callable[[float], float]
) -> Generator[Progress, None, None]:
    """Compute the tiles of a volume, or take them from the journal of the run."""
    run.changes.append(volume.change)

    def told(step: TileProgress) -> Progress:
        tile = f"tile {step.tile + 1} of {step.tiles}" if step.tiles > 1 else "working"
        return run.progress("enhance", at(step.fraction), f"{where}{tile}")

    if run.journal is None:
        tiles = volume.steps(run.outputs, volume.plan.tiles, volume.change, run.cancel)
        run.reports.append((yield from relay(tiles, told)))
        return
    done, taken, said = 0.0, 0, 0
    count, core = len(volume.plan.tiles), volume.plan.core_shape_px
    for number, tile in enumerate(volume.plan.tiles):
        record = yield from relay(
            volume.kept_steps(run.journal, run.outputs, number, core, run.cancel),
            lambda step, n=number, d=done: told(  # type: ignore[misc]
                replace(step, tile=n, tiles=count, fraction=min(1.0, d + step.fraction))
            ),
            run.check,
        )
        core = book_tile(run, volume.plan.halo_px, record)
        done += voxel_count(tile.core) / math.prod(volume.plan.shape_px)
        taken += record["taken"]
        said += record["said"]
        yield told(TileProgress(number, count, min(1.0, done), None))
    warn_uncounted(run, taken if said else 0, count)


def warn_uncounted(run: Run, tiles: int, count: int) -> None:
    """Warn that figures which a method counts in its tiles leave some of them out."""
    if tiles:
        run.warnings.append(
            f"figures that the method counts in its tiles leave out {tiles} of {count} tiles, "
            "which were computed before the run was interrupted, or by another worker"
        )


def book_tile(run: Run, halo_px: Triple, record: Mapping[str, Any]) -> Triple:
    """Add the record of a tile to the run; return the size that tiles had to be cut to."""
    z, y, x = record["core_px"]
    run.reports.append(RunReport(record["tiles"], (z, y, x), halo_px, record["shrunk"], 0.0))
    run.changes[-1].merge(record["change"])
    for name, clipped in record["clipped"].items():
        run.outputs[name].clipped += clipped
    return (z, y, x)
