"""How much memory is free, and the largest tile that fits into it.

For every way to cut each axis into equal parts, the search computes the cost of all tiles with
their halos and takes the cheapest that fits. It keeps z whole if that costs little, because axial
deconvolution needs depth most.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zenhance.errors import MemoryBudgetError, MethodError
from zenhance.tiling.geometry import MAX_ELEMENTS, check_numbers, read_shape
from zenhance.types import Triple
from zenhance.wording import format_bytes

__all__ = ["choose_core", "free_bytes"]

HOST_SHARE = 0.7
"""Share of the free host memory to plan with; the viewer, file cache and libraries use the rest."""
DEVICE_SHARE = 0.9
"""Share of the free CUDA memory to plan with; FFT work areas and fragmentation use the rest."""
WHOLE_Z_EXTRA = 1.1
"""Keeping z whole may cost this factor over the cheapest cut."""


def _meminfo_bytes(path: Path = Path("/proc/meminfo")) -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cgroup_folders(membership: Path, root: Path) -> Iterator[tuple[Path, str, str]]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, limit, usage = (
            (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else (root, "memory.max", "memory.current")
        )
        folder = base / name.lstrip("/")
        # In a container the name is the host's; its own limit is then at the root of the mount.
        for place in (folder, *folder.parents):
            yield place, limit, usage
            if place == base:
                break


def _cgroup_bytes(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    rooms = []
    for folder, limit_name, usage_name in _cgroup_folders(membership, root):
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is None or usage is None:
            continue
        try:
            cached = re.search(
                r"^(?:total_)?inactive_file (\d+)",
                (folder / "memory.stat").read_text(),
                re.MULTILINE,
            )
        except OSError:
            cached = None
        rooms.append(max(0, limit - usage + (int(cached.group(1)) if cached else 0)))
    return min(rooms, default=None)


def _address_space_bytes() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    return max(0, limit - used)


def _macos_bytes() -> int | None:
    try:
        text = subprocess.run(
            ["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    page = re.search(r"page size of (\d+) bytes", text)
    pages = re.findall(
        r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)\.", text, re.MULTILINE
    )
    return int(page.group(1)) * sum(map(int, pages)) if page and pages else None


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *(
            (name, ctypes.c_uint64)
            for name in (
                "total",
                "available",
                "total_page",
                "available_page",
                "total_virtual",
                "available_virtual",
                "extended",
            )
        ),
    )


def _windows_bytes() -> int | None:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    windll = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.available)


def _host_bytes() -> int:
    own = {"win32": _windows_bytes, "darwin": _macos_bytes}.get(sys.platform, _meminfo_bytes)()
    if own is None:
        # the last resort where the system does not say what is free: half of what is built in
        own = (
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
            if hasattr(os, "sysconf")
            else 2 * 1024**3
        )
    limits = (own, _cgroup_bytes(), _address_space_bytes())
    return int(HOST_SHARE * min(n for n in limits if n is not None))


def free_bytes(device: str) -> int:
    """Return how many bytes a run may plan with on a device.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; torch is imported for the last three only.

    Returns
    -------
    int
        For the host, 0.7 of the smallest of: available memory, the rest of the control group
        (container, batch job), the rest of the address-space limit. For CUDA, 0.9 of the free
        memory, including torch's own unused cache.

    Raises
    ------
    MethodError
        The device's name is none of these.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return _host_bytes()
    if kind == "cuda":
        import torch

        number = int(index) if index else torch.cuda.current_device()
        free, _ = torch.cuda.mem_get_info(number)
        cached = torch.cuda.memory_reserved(number) - torch.cuda.memory_allocated(number)
        return int(DEVICE_SHARE * (free + cached))
    if kind == "mps":
        import torch

        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return min(int(HOST_SHARE * max(0, free)), _host_bytes())
    raise MethodError(f'there is no device "{device}"; allowed are cpu, cuda, cuda:N and mps')


@dataclass(frozen=True, slots=True)
class _Cut:
    """One way to cut an axis: core length, longest read, sum of all reads, number of tiles."""

    core: int
    read: int
    total: int
    tiles: int


def _axis_cut(size: int, reach: int, multiple: int, core: int) -> _Cut:
    """Sum the read lengths along an axis in closed form; in grid cells, except ``size``."""
    cells = -(-size // multiple)
    tiles = -(-cells // core)
    inner = min(
        tiles, max(0, (cells - reach) // core)
    )  # tiles whose halo ends before the volume does
    first = min(tiles, reach // core + 1)  # tiles whose halo begins before the volume does
    stops = core * inner * (inner + 1) // 2 + reach * inner + cells * (tiles - inner)
    starts = core * (tiles * (tiles - 1) - first * (first - 1)) // 2 - reach * (tiles - first)
    # The read length is a concave function of the tile's number: its maximum is beside a bend.
    bends = {i for i in (0, first - 1, first, inner - 1, inner, tiles - 1) if 0 <= i < tiles}
    longest = max(min(cells, (i + 1) * core + reach) - max(0, i * core - reach) for i in bends)
    return _Cut(min(size, core * multiple), longest * multiple, (stops - starts) * multiple, tiles)


def _axis_cuts(size: int, halo: int, multiple: int) -> list[_Cut]:
    """List the useful cuts of an axis: each takes more memory than the last and costs less."""
    cells, reach = -(-size // multiple), -(-halo // multiple)
    parts, cores = 1, {cells}
    while parts < cells:
        # beyond ten parts, steps of a tenth: finer ones do not make a better plan
        parts = min(cells, max(parts + 1, parts * 11 // 10))
        cores.add(-(-cells // parts))
    cuts: list[_Cut] = []
    for cut in sorted(
        (_axis_cut(size, reach, multiple, c) for c in cores),
        key=lambda c: (c.read, c.total, c.tiles),
    ):
        if not cuts or (cut.total, cut.tiles) < (cuts[-1].total, cuts[-1].tiles):
            cuts.append(cut)
    return cuts


def _best(
    cuts: tuple[list[_Cut], list[_Cut], list[_Cut]], max_voxels: float
) -> tuple[int, Triple] | None:
    best: tuple[int, int, int, int, Triple] | None = None
    reads_x = [c.read for c in cuts[2]]
    for z in cuts[0]:
        for y in cuts[1]:
            fitting = bisect_right(reads_x, max_voxels // (z.read * y.read))
            if not fitting:
                break  # the cuts ascend: a longer y does not fit either
            x = cuts[2][fitting - 1]
            rank = (
                z.total * y.total * x.total,
                z.tiles * y.tiles * x.tiles,
                -z.core,
                abs(y.core - x.core),
                (z.core, y.core, x.core),
            )
            if best is None or rank < best:
                best = rank
    return None if best is None else (best[0], best[4])


def choose_core(
    shape_px: Triple,
    halo_px: Triple,
    size_multiple: Triple,
    bytes_per_voxel: float,
    budget_bytes: int,
    output_scale: Triple = (1, 1, 1),
) -> Triple:
    """Return the core of the cheapest tiling whose tiles fit into memory.

    Parameters
    ----------
    shape_px : tuple of int
        (Z, Y, X) of the volume.
    halo_px, size_multiple : tuple of int
        As :func:`zenhance.tiling.geometry.plan_tiles` takes them.
    bytes_per_voxel : float
        Working memory per voxel of a tile, halo and padding included.
    budget_bytes : int
        Memory that one tile may take, see :func:`free_bytes`.
    output_scale : tuple of int
        Output voxels per input voxel, per axis; the output has to stay below 2**31 voxels as well.

    Returns
    -------
    tuple of int
        (Z, Y, X); the whole volume where that fits, z whole where that costs at most a tenth more.

    Raises
    ------
    StackError, MethodError
        A number is out of range.
    MemoryBudgetError
        Even the smallest tile needs more; the text says how much is needed and how much there is.
    """
    check_numbers(shape_px, shape_px, halo_px, size_multiple)
    if bytes_per_voxel <= 0:
        raise MethodError(
            f"working memory is {bytes_per_voxel:g} bytes per voxel; it must be more than 0, "
            "report this to the method's author"
        )
    max_voxels = min(budget_bytes // bytes_per_voxel, MAX_ELEMENTS // math.prod(output_scale))
    axes = [_axis_cuts(n, h, m) for n, h, m in zip(shape_px, halo_px, size_multiple, strict=True)]
    z_cuts, y_cuts, x_cuts = axes
    best = _best((z_cuts, y_cuts, x_cuts), max_voxels)
    if best is None:
        smallest = read_shape(shape_px, size_multiple, halo_px, size_multiple)
        needed = math.prod(smallest) * bytes_per_voxel
        raise MemoryBudgetError(
            f"the smallest tile, {smallest} (z, y, x) px with its halo, "
            f"needs {format_bytes(needed)}, "
            f"{format_bytes(budget_bytes)} are free; "
            "close other programs, use a smaller point spread function or another device"
        )
    whole_z = _best(([c for c in z_cuts if c.tiles == 1], y_cuts, x_cuts), max_voxels)
    if whole_z is not None and whole_z[0] <= WHOLE_Z_EXTRA * best[0]:
        return whole_z[1]
    return best[1]
