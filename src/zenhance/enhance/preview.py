"""Try a request on what is in view, and tell beforehand how long the whole will take, measured on one small block."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import replace

from zenhance.contract import registry
from zenhance.enhance.plan import plan_run
from zenhance.enhance.request import EnhanceRequest
from zenhance.enhance.run import EnhanceResult, Progress, enhance_steps
from zenhance.stack import Stack
from zenhance.volumes import VolumeReader, measure, measure_noise

__all__ = ["as_requested", "estimate_steps", "preview_steps"]

# A preview looks at this many planes on either side of the one in view, at most, and at a field of this many pixels along y and x.
CONTEXT_PLANES = 4
FIELD_PX = 512
# The block on which the run time is measured, z, y, x.
TRIAL_PX = (24, 96, 96)
WARM_UP_S = 4.0


def preview_steps(
    stack: Stack,
    request: EnhanceRequest,
    plane: int,
    field: Mapping[str, slice] | None = None,
    *,
    t: int = 0,
    c: int = 0,
    cancel: threading.Event | None = None,
) -> Generator[Progress, None, EnhanceResult]:
    """Enhance one plane, with a few neighbours as context, in the field of view only.

    Parameters
    ----------
    stack : Stack
        The whole input.
    request : EnhanceRequest
        What to do; its crop and channel are replaced by the view.
    plane : int
        Index along z of the plane in view (ignored for a 2-D image).
    field : mapping, optional
        Slices along ``Y`` and ``X`` in pixels; cut to 512 × 512 about its middle.
    t, c : int
        Time point and channel in view.
    cancel : threading.Event, optional
        As in :func:`enhance_steps`.

    Returns
    -------
    EnhanceResult
        The stack has one plane; its request's crop tells where it lies.

    Notes
    -----
    Statistics and noise are the whole volume's; a stop rule looks at the view, so a full run may take a few more or fewer iterations.
    """
    stack = as_requested(stack, request)
    stack = stack.crop({a: slice(i, i + 1) for a, i in (("T", t), ("C", c)) if a in stack.axes})
    depth = stack.size("Z")
    plane = min(max(plane, 0), depth - 1)
    first, last = max(plane - CONTEXT_PLANES, 0), min(plane + CONTEXT_PLANES + 1, depth)
    view = {a: _view((field or {}).get(a), stack.size(a)) for a in "YX"}
    crop = ((first, last), (view["Y"].start, view["Y"].stop), (view["X"].start, view["X"].stop))
    fields = request.model_dump(exclude_unset=True) | {"axes": None, "channel": None, "crop": crop}
    whole = VolumeReader(stack)
    statistics, _ = measure([whole], request.background)
    known = (statistics, measure_noise([whole], statistics))
    result = yield from enhance_steps(stack, EnhanceRequest(**fields), cancel, known)
    scale = registry.load(request.method).spec.scale(request.parameters())[0]
    only = {"Z": slice((plane - first) * scale, (plane - first + 1) * scale)} if "Z" in stack.axes else {}
    extras = {name: extra.crop(only) for name, extra in result.extras.items()}
    return replace(result, stack=result.stack.crop(only), extras=extras)


def as_requested(stack: Stack, request: EnhanceRequest) -> Stack:
    """Return the stack with the request's axes and voxel size, uncropped and with all channels."""
    fields = request.model_dump(exclude_unset=True) | {"crop": None, "channel": None}
    return EnhanceRequest(**fields).apply_to(stack)


def _view(part: slice | None, size: int) -> slice:
    start, stop, _ = (part or slice(None)).indices(size)
    start, stop = min(start, size - 1), max(stop, start + 1)
    surplus = stop - start - FIELD_PX
    if surplus > 0:
        start += surplus // 2
        stop = start + FIELD_PX
    return slice(start, min(stop, size))


def estimate_steps(stack: Stack, request: EnhanceRequest, cancel: threading.Event | None = None) -> Generator[Progress, None, float]:
    """Tell how many seconds a run will take, by running it on a small block from the middle of the first volume.

    Returns
    -------
    float
        Seconds: time per voxel of the block times all voxels the plan reads, halos included.
    """
    plan = plan_run(stack, request)
    middle = {}
    for axis, most in zip("ZYX", TRIAL_PX, strict=True):
        size = plan.stack.size(axis)
        start = max(0, (size - most) // 2)
        middle[axis] = (start, min(size, start + most))
    fields = request.model_dump(exclude_unset=True)
    fields |= {"axes": None, "channel": None, "crop": (middle["Z"], middle["Y"], middle["X"]), "voxel_size_um": None}
    first = plan.stack.crop({a: slice(0, 1) for a in "TC" if a in plan.stack.axes})
    seconds = float("inf")
    for _ in range(2):
        # The first pass also pays for imports and caches; a second one is only worth its time where the first was quick.
        started = time.perf_counter()
        result = yield from enhance_steps(first, EnhanceRequest(**fields), cancel)
        seconds = min(seconds, time.perf_counter() - started)
        if seconds > WARM_UP_S:
            break
    z, y, x = result.stack.volume_shape
    scale = registry.load(request.method).spec.scale(request.parameters())
    voxels = z * y * x // (scale[0] * scale[1] * scale[2])
    return seconds * plan.read_voxels / voxels
