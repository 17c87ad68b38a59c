"""Geometry of tiles: integers only, no image, no device, no method.

A volume is cut into *cores* that cover each voxel once. Computing a core also reads its *halo*. The
*read* region ends at the volume's edge, and *crop* is the core's place inside the read region.
Along one axis::

    volume   0                                                          N
             |----------------------------------------------------------|
    cores    |      0       |      1       |      2       |      3      |
    read 1              [~~~|##############|~~~]              ~ halo, # core (what is written)
    crop 1              [   |##############|   ]              the core relative to the read region
    read 3                                            [~~~|#############]   ends with the volume

Read regions also start on multiples of ``size_multiple`` of the *volume's* grid (the halo is
rounded up), so a method that pools or strides sees the same grid in every tile as in the whole
volume.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from zenhance.errors import MemoryBudgetError, MethodError, StackError
from zenhance.types import Region, Triple

__all__ = [
    "MAX_ELEMENTS",
    "MAX_TILES",
    "Tile",
    "TilePlan",
    "halved",
    "padded_shape",
    "plan_tiles",
    "read_shape",
    "scaled",
    "split",
    "voxel_count",
]


MAX_ELEMENTS = 2**31 - 1
"""Largest number of voxels in one array: many GPU kernels fail above, some silently."""

MAX_TILES = 100_000
"""Largest plan: tiles take about 1 kB each, and a longer run would last over a week."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One piece of work.

    Parameters
    ----------
    index : int
        Position in the plan, from 0.
    core : Region
        What this tile writes, in voxels of the volume.
    read : Region
        What has to be read for it, in voxels of the volume; holds the core.
    crop : Region
        The core relative to the read region.
    """

    index: int
    core: Region
    read: Region
    crop: Region


@dataclass(frozen=True, slots=True)
class TilePlan:
    """All tiles of a volume, in reading order (z slowest).

    Parameters
    ----------
    shape_px, core_shape_px, halo_px, size_multiple : tuple of int
        (Z, Y, X) of the volume, of the largest core, of the context asked for and of the grid.
    tiles : tuple of Tile
    """

    shape_px: Triple
    core_shape_px: Triple
    halo_px: Triple
    size_multiple: Triple
    tiles: tuple[Tile, ...]


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _triple(values: list[int]) -> Triple:
    z, y, x = values
    return (z, y, x)


def voxel_count(region: Region) -> int:
    """Return how many voxels a region has."""
    return math.prod(s.stop - s.start for s in region)


def scaled(region: Region, scale: Triple) -> Region:
    """Return a region on a grid with so many voxels per voxel."""
    z, y, x = (slice(s.start * f, s.stop * f) for s, f in zip(region, scale, strict=True))
    return (z, y, x)


def padded_shape(region: Region, size_multiple: Triple) -> Triple:
    """Return (Z, Y, X) of a region after its end is padded to the next multiple."""
    return _triple([_up(s.stop, m) - s.start for s, m in zip(region, size_multiple, strict=True)])


def read_shape(
    shape_px: Triple, core_shape_px: Triple, halo_px: Triple, size_multiple: Triple
) -> Triple:
    """Return (Z, Y, X) of the largest array a method receives, halo and padding included."""
    lengths = []
    for size, core, halo, multiple in zip(
        shape_px, core_shape_px, halo_px, size_multiple, strict=True
    ):
        whole = _up(size, multiple)
        aligned = _up(min(core, size), multiple)
        lengths.append(whole if aligned >= whole else min(whole, aligned + 2 * _up(halo, multiple)))
    return _triple(lengths)


def check_numbers(
    shape_px: Triple, core_shape_px: Triple, halo_px: Triple, size_multiple: Triple
) -> None:
    """Refuse numbers that no volume can be cut by; see :func:`plan_tiles`."""
    if min(shape_px) < 1:
        raise StackError(
            f"a volume of shape {shape_px} (z, y, x) has no voxels; each axis needs at least 1"
        )
    if min(core_shape_px) < 1:
        raise MethodError(
            f"tile size is {core_shape_px} (z, y, x) px; each axis needs at least 1 px, "
            "set a larger tile"
        )
    if min(halo_px) < 0:
        raise MethodError(f"halo is {halo_px} (z, y, x) px; it must be 0 or more on each axis")
    if min(size_multiple) < 1:
        raise MethodError(
            f"size multiple is {size_multiple} (z, y, x); it must be 1 or more on each axis"
        )


def _reach(core: Region, shape_px: Triple, halo_px: Triple, size_multiple: Triple) -> Region:
    z, y, x = (
        slice(max(0, c.start - _up(h, m)), min(n, _up(c.stop, m) + _up(h, m)))
        for c, n, h, m in zip(core, shape_px, halo_px, size_multiple, strict=True)
    )
    return (z, y, x)


def _tile(
    index: int, core: Region, shape_px: Triple, halo_px: Triple, size_multiple: Triple
) -> Tile:
    read = _reach(core, shape_px, halo_px, size_multiple)
    z, y, x = (slice(c.start - r.start, c.stop - r.start) for c, r in zip(core, read, strict=True))
    return Tile(index, core, read, (z, y, x))


def _cuts(whole: slice, length: int, multiple: int) -> list[slice]:
    step = (
        max(multiple, length // multiple * multiple)
        if length < whole.stop - whole.start
        else whole.stop - whole.start
    )
    return [slice(a, min(a + step, whole.stop)) for a in range(whole.start, whole.stop, step)]


def plan_tiles(
    shape_px: Triple, core_shape_px: Triple, halo_px: Triple, size_multiple: Triple = (1, 1, 1)
) -> TilePlan:
    """Cut a volume into tiles.

    Parameters
    ----------
    shape_px : tuple of int
        (Z, Y, X) of the volume.
    core_shape_px : tuple of int
        Desired core per axis; rounded down to a multiple (at least one), or the whole axis if that
        is no longer than the core.
    halo_px : tuple of int
        Context wanted on each side; rounded up to a multiple, cut at the volume's edge.
    size_multiple : tuple of int
        Grid on which cores and read regions start; they also end on it, save at the volume's end.

    Returns
    -------
    TilePlan
        Its cores cover each voxel of the volume once.

    Raises
    ------
    StackError, MethodError
        A number is out of range.
    MemoryBudgetError
        A tile with its halo would exceed 2**31 - 1 voxels, or the plan 100 000 tiles.
    """
    check_numbers(shape_px, core_shape_px, halo_px, size_multiple)
    whole = _triple([int(n) for n in shape_px])
    volume: Region = (slice(0, whole[0]), slice(0, whole[1]), slice(0, whole[2]))
    axes = [_cuts(s, c, m) for s, c, m in zip(volume, core_shape_px, size_multiple, strict=True)]
    if (count := math.prod(len(cuts) for cuts in axes)) > MAX_TILES:
        raise MemoryBudgetError(
            f"a volume of {whole} px would be cut into {count:,} tiles, "
            f"at most {MAX_TILES:,} are possible; "
            "set a larger tile or crop the stack"
        )
    tiles = tuple(
        _tile(i, (z, y, x), whole, halo_px, size_multiple)
        for i, (z, y, x) in enumerate(itertools.product(*axes))
    )
    largest = _triple([cuts[0].stop for cuts in axes])
    voxels = max(math.prod(padded_shape(tile.read, size_multiple)) for tile in tiles)
    if voxels > MAX_ELEMENTS:
        raise MemoryBudgetError(
            f"a tile of {largest} px with a halo of {halo_px} px has {voxels:,} voxels, "
            f"at most {MAX_ELEMENTS:,} are possible; "
            "set a smaller tile"
        )
    return TilePlan(whole, largest, halo_px, size_multiple, tiles)


def halved(plan: TilePlan, core_shape_px: Triple) -> Triple | None:
    """Return the core with one axis halved, on the grid, or None if no axis can be shorter.

    It halves the axis that saves most voxels of the read region, then the longest. An axis whose
    halo covers the volume comes last: it is always read whole, so cutting it multiplies the work.

    Returns
    -------
    tuple of int or None
        None when no axis can be made shorter.
    """
    choices = []
    for axis in range(3):
        multiple = plan.size_multiple[axis]
        length = min(core_shape_px[axis], plan.shape_px[axis])
        half = _up(-(-length // 2), multiple)
        if half >= length:
            continue
        core = _triple([half if a == axis else core_shape_px[a] for a in range(3)])
        voxels = math.prod(read_shape(plan.shape_px, core, plan.halo_px, plan.size_multiple))
        always_whole = plan.shape_px[axis] <= multiple + plan.halo_px[axis]
        choices.append((voxels, always_whole, -length, core))
    return min(choices)[-1] if choices else None


def split(plan: TilePlan, tile: Tile, core_shape_px: Triple | None = None) -> tuple[Tile, ...]:
    """Cut one tile of a plan into smaller ones that cover the same core, on the same grid.

    Parameters
    ----------
    plan : TilePlan
        Where the tile is from.
    tile : Tile
        What to cut.
    core_shape_px : tuple of int, optional
        Largest core allowed; without it, the tile's own core with one axis halved.

    Returns
    -------
    tuple of Tile
        All with the index of the tile they came from; the tile alone where it is small enough.
    """
    own = _triple([s.stop - s.start for s in tile.core])
    wanted = core_shape_px or halved(plan, own) or own
    axes = [_cuts(s, c, m) for s, c, m in zip(tile.core, wanted, plan.size_multiple, strict=True)]
    cores = itertools.product(*axes)
    return tuple(
        _tile(tile.index, (z, y, x), plan.shape_px, plan.halo_px, plan.size_multiple)
        for z, y, x in cores
    )
