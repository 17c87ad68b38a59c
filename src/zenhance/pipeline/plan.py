"""Plan a run before a voxel is read: device, voxel size, PSF, tiles and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zenhance.contract import registry
from zenhance.contract.spec import Method, PlanContext
from zenhance.device.choice import Device, choose_device
from zenhance.errors import StackError
from zenhance.io.beads import read_beads
from zenhance.physics.psf import Psf, resolve_psf
from zenhance.pipeline.arbitration import (
    Effort,
    arbitrated_bytes_per_voxel,
    arbitration_halo_px,
)
from zenhance.pipeline.denoised import denoised_halo_px
from zenhance.pipeline.output import Layout, layouts
from zenhance.pipeline.request import EnhanceRequest
from zenhance.stack import Stack
from zenhance.tiling.budget import choose_core, free_bytes
from zenhance.tiling.geometry import TilePlan, plan_tiles
from zenhance.types import Triple
from zenhance.wording import format_bytes

__all__ = ["RunPlan", "arbitrated_psf", "plan_run", "plan_volume", "psf_for", "work_of"]

# Share of the free memory a run may plan with; the rest is for the result, the viewer and other
# programs.
MEMORY_SHARE = 0.5
# Tiles on the CPU are no larger than this, however much memory there is: a step between two looks
# at Cancel must stay short.
CPU_TILE_VOXELS = 48_000_000


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run will do, for the user to see before it starts.

    Parameters
    ----------
    stack : Stack
        The input as the request wants it read (axes, voxel size, channel, crop).
    volumes : int
        How many (t, c) volumes there are.
    device : Device
        Where it runs, and why there.
    psf : Psf or None
        None where the method needs none.
    tiles : TilePlan
        Of each volume; the run itself may use a smaller halo.
    working_bytes : int
        Memory that one tile needs on the device.
    result_bytes : int
        Memory of the result, further outputs included.
    learn_minutes : float or None
        How long it learns from the stack first.
    outputs : mapping of str to Layout
        What comes out, the enhanced image first.
    memory_share : float
        Of the free memory, with which the tiles were planned.
    """

    stack: Stack
    volumes: int
    device: Device
    psf: Psf | None
    tiles: TilePlan
    working_bytes: int
    result_bytes: int
    learn_minutes: float | None = None
    outputs: Mapping[str, Layout] = field(default_factory=dict)
    memory_share: float = 1.0

    @property
    def read_voxels(self) -> int:
        """Voxels that go through the method, halos counted as often as they are read."""
        return self.volumes * sum(_voxels(tile.read) for tile in self.tiles.tiles)

    def describe(self) -> str:
        """One line for the user: tiles, memory and device."""
        z, y, x = self.tiles.core_shape_px
        count = len(self.tiles.tiles) * self.volumes
        tiles = f"{count} tiles of {z} × {y} × {x}" if count > 1 else "1 tile"
        first = "" if self.learn_minutes is None else f"learns {self.learn_minutes:g} min first, "
        memory = (
            f"{format_bytes(self.working_bytes)} to work in, "
            f"result {format_bytes(self.result_bytes)}"
        )
        return f"{first}{tiles}, {memory}, on {self.device.reason}"


def psf_for(stack: Stack, request: EnhanceRequest, channel: int = 0) -> Psf:
    """Return the PSF of a channel: the request's, else the file's, else the default."""
    ndim = 3 if "Z" in stack.axes else 2
    return resolve_psf(request.psf, stack.metadata, ndim, channel=channel, read_measured=read_beads)


def arbitrated_psf(stack: Stack, request: EnhanceRequest, channel: int = 0) -> Psf | None:
    """Return the PSF with which a network competes; None where it does not compete.

    It does not where the voxel size is unknown.
    """
    lengths = dict(zip("ZYX", stack.voxel_size.zyx_um, strict=True))
    known = all(lengths[a] is not None for a in "ZYX" if a != "Z" or stack.size("Z") > 1)
    return psf_for(stack, request, channel) if request.arbitrates and known else None


def work_of(
    request: EnhanceRequest, volume_voxels: int, read_voxels: int, whole_voxels: int
) -> tuple[float, float]:
    """Return the work before the tiles of a volume and in them; see ``MethodParameters.work``."""
    parameters = request.parameters()
    if not request.arbitrates:
        return parameters.work(volume_voxels, read_voxels, whole_voxels)
    effort = Effort.of(parameters, volume_voxels, read_voxels, whole_voxels)
    return sum(effort.phases), effort.tiles


def _lengths(request: EnhanceRequest, stack: Stack) -> tuple[float, float, float]:
    """Return the voxel size.

    It need not be known without a PSF, nor along z for a method that works plane by plane.
    """
    if request.needs_psf() or request.needs_profile:
        flat = stack.size("Z") == 1 or request.parameters().solved_dimensions == 2
        stack.voxel_size.require("YX" if flat else stack.spatial_axes)
    z, y, x = (1.0 if v is None else v for v in stack.voxel_size.zyx_um)
    return (z, y, x)


def plan_volume(
    method: Method,
    request: EnhanceRequest,
    shape_px: Triple,
    halo_px: Triple,
    device: str,
    memory_share: float = 1.0,
) -> TilePlan:
    """Plan the tiles of one volume from the halo, the bytes per voxel and the free memory.

    Raises
    ------
    MemoryBudgetError
        Not even the smallest tile fits.
    """
    spec = method.spec
    budget = int(memory_share * MEMORY_SHARE * free_bytes(device))
    each = _bytes_per_voxel(method, request)
    if device == "cpu":
        budget = min(budget, CPU_TILE_VOXELS * each)
    core = choose_core(shape_px, halo_px, spec.size_multiple, each, budget)
    if request.tile_px is not None:
        core = _limited(core, request.tile_px, spec.size_multiple)
    return plan_tiles(shape_px, core, halo_px, spec.size_multiple)


def _bytes_per_voxel(method: Method, request: EnhanceRequest) -> int:
    """Return the bytes per voxel of a tile: working memory, and float32 samples of each series."""
    parameters = request.parameters()
    z, y, x = parameters.output_scale
    samples = sum(output.series for output in request.outputs())
    own = method.spec.bytes_per_voxel + 4 * samples * z * y * x
    return arbitrated_bytes_per_voxel(own) if request.arbitrates else own


def _limited(core: Triple, most: Triple, multiple: Triple) -> Triple:
    z, y, x = (min(c, max(m, (t // m) * m)) for c, t, m in zip(core, most, multiple, strict=True))
    return (z, y, x)


def plan_run(
    stack: Stack, request: EnhanceRequest, *, axes_named: bool = False, memory_share: float = 1.0
) -> RunPlan:
    """Plan a run without running it, in milliseconds; the first call looks for a GPU.

    Parameters
    ----------
    stack : Stack
        The input.
    request : EnhanceRequest
        What to do with it.
    axes_named : bool
        Whether the stack was already read with the axes of the request.
    memory_share : float
        Of the free memory, where other runs share the computer.

    Raises
    ------
    StackError
        Axes, crop, channel or voxel size do not fit, or samples are asked for of several time
        points.
    MethodError
        Method, setting or device is not available.
    MemoryBudgetError
        Not even the smallest tile fits.
    """
    method = registry.load(request.method)
    parameters = request.parameters()
    stack = request.apply_to(stack, axes_named=axes_named)
    outputs = layouts(stack, request)
    voxel_size_um = _lengths(request, stack)
    device = choose_device(request.device)
    competing = arbitrated_psf(stack, request)
    psf = psf_for(stack, request) if request.needs_psf() else competing
    shape = stack.volume_shape
    halo = method.plan_halo_px(PlanContext(parameters, shape, voxel_size_um, psf))
    if competing is not None:
        halo = arbitration_halo_px(halo, competing, shape, voxel_size_um)
    if request.output == "denoised" and psf is not None:
        ndim = 2 if shape[0] == 1 else parameters.solved_dimensions
        halo = denoised_halo_px(halo, psf, voxel_size_um, ndim)
    tiles = plan_volume(method, request, shape, halo, device.name, memory_share)
    largest = max(_voxels(tile.read) for tile in tiles.tiles)
    volumes = stack.size("T") * stack.size("C")
    result = sum(output.nbytes for output in outputs.values())
    working = largest * _bytes_per_voxel(method, request)
    return RunPlan(
        stack,
        volumes,
        device,
        psf,
        tiles,
        working,
        result,
        request.learn_minutes,
        outputs,
        memory_share,
    )


def _voxels(region: tuple[slice, slice, slice]) -> int:
    z, y, x = (r.stop - r.start for r in region)
    if min(z, y, x) < 1:
        raise StackError(f"a tile of {z} × {y} × {x} voxels is empty; set a larger tile")
    return int(z * y * x)
