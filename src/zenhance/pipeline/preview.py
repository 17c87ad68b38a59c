"""Preview a request on the field of view, and estimate the time of the whole run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zenhance.contract.spec import WHOLE_VOXELS, VolumeStatistics
from zenhance.errors import CheckpointError, RecipeError, RunCancelled
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure, measure_noise
from zenhance.physics.noise import PoissonGauss
from zenhance.pipeline.plan import RunPlan, plan_run, psf_for, work_of
from zenhance.pipeline.profile import (
    blur_profile_steps,
    measured_by_default,
    profile_of_steps,
    profiled_volume_steps,
    too_small,
)
from zenhance.pipeline.request import MEASURE, NO_PROFILE, NO_WEIGHTS, EnhanceRequest, Range
from zenhance.pipeline.run import EnhanceResult, Progress, enhance_steps
from zenhance.stack import Stack
from zenhance.steps import relay

if TYPE_CHECKING:
    from zenhance.physics.profile_volume import ProfiledVolume

__all__ = ["as_requested", "estimate_steps", "measure_sample", "part_steps", "preview_steps"]

Known = tuple[VolumeStatistics, PoissonGauss]

# A preview looks at this many planes on either side of the one in view, at most, and at a field of
# this many pixels along y and x.
CONTEXT_PLANES = 4
FIELD_PX = 512
# Voxels from which a preview takes its statistics.
SAMPLE_VOXELS = 2_000_000
# The blocks on which the run time is measured, z, y, x.
TRIALS_PX = ((12, 48, 48), (24, 112, 112))


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
    """Enhance one plane of the field of view, with some neighbours as context; learn nothing.

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

    Raises
    ------
    RecipeError
        The request learns from random weights, so that there is nothing to try yet.

    Notes
    -----
    Statistics and noise come from planes all through the volume. A stop rule looks at the view
    only, so a full run can take a few more or fewer iterations.
    """
    if request.weights == NO_WEIGHTS:
        raise RecipeError(
            "random weights cannot be previewed; click Enhance to train them, or choose weights "
            "to begin from"
        )
    stack = as_requested(stack, request)
    stack = stack.crop({a: slice(i, i + 1) for a, i in (("T", t), ("C", c)) if a in stack.axes})
    depth = stack.size("Z")
    plane = min(max(plane, 0), depth - 1)
    first, last = max(plane - CONTEXT_PLANES, 0), min(plane + CONTEXT_PLANES + 1, depth)
    view = {a: _view((field or {}).get(a), stack.size(a)) for a in "YX"}
    crop = ((first, last), (view["Y"].start, view["Y"].stop), (view["X"].start, view["X"].stop))
    result, _ = yield from part_steps(stack, request, crop, cancel)
    scale = request.parameters().output_scale[0]
    only = (
        {"Z": slice((plane - first) * scale, (plane - first + 1) * scale)}
        if "Z" in stack.axes
        else {}
    )
    extras = {name: extra.crop(only) for name, extra in result.extras.items()}
    return replace(result, stack=result.stack.crop(only), extras=extras)


def part_steps(
    stack: Stack,
    request: EnhanceRequest,
    crop: tuple[Range, Range, Range],
    cancel: threading.Event | None = None,
    known: Known | None = None,
) -> Generator[Progress, None, tuple[EnhanceResult, ProfiledVolume | None]]:
    """Enhance a part of a volume as a run on the whole would; learn nothing.

    Parameters
    ----------
    stack : Stack
        One volume, read as the request says.
    request : EnhanceRequest
        What to do; its axes, channel and crop are replaced.
    crop : tuple of (start, stop)
        The part, z, y, x in voxels.
    cancel : threading.Event, optional
        As in :func:`enhance_steps`.
    known : tuple of VolumeStatistics and PoissonGauss, optional
        Of the volume, from :func:`measure_sample`; left out, they are measured.

    Returns
    -------
    tuple of EnhanceResult and ProfiledVolume or None
        The part, and its microscope where the run measured one on the whole volume.
    """
    fields = request.model_dump(exclude_unset=True) | {
        "axes": None,
        "channel": None,
        "crop": crop,
        "learn_minutes": None,
    }
    known = known or measure_sample(stack, request)
    by_depth, whole = yield from _microscope_steps(stack, request, cancel)
    fields["profile"] = MEASURE if by_depth else NO_PROFILE
    part = None
    if whole is not None:
        z, y, x = (slice(start, stop) for start, stop in crop)
        part = whole.cropped((z, y, x))
    result = yield from enhance_steps(stack, EnhanceRequest(**fields), cancel, known, profiled=part)
    return result, part


def measure_sample(stack: Stack, request: EnhanceRequest) -> Known:
    """Return statistics and noise of one volume, from planes all through it."""
    sample = [_sample(stack, request.repair_outliers)]
    statistics, _ = measure(sample, request.background)
    return statistics, measure_noise(sample, statistics)


def _microscope_steps(
    stack: Stack, request: EnhanceRequest, cancel: threading.Event | None
) -> Generator[Progress, None, tuple[bool, ProfiledVolume | None]]:
    """Return whether the run blurs by depth, and the whole volume with its microscope."""

    def check() -> None:
        if cancel is not None and cancel.is_set():
            raise RunCancelled("the run was cancelled; the original is unchanged")

    def told(step: tuple[str, float]) -> Progress:
        return Progress("measure", 0.5 * step[1], None, step[0])

    profile, _ = yield from relay(blur_profile_steps(stack, request, 0), told, check)
    by_depth = profile is not None
    if profile is None and request.even_light:
        asked = request.model_copy(update={"profile": MEASURE})
        steps = profile_of_steps(stack, asked, 0, psf_for(stack, request))
        profile = yield from relay(steps, told, check)
    if profile is None:
        return by_depth, None
    volume = yield from relay(profiled_volume_steps(stack, 0, 0, profile), told, check)
    return by_depth, volume


def _sample(stack: Stack, repair_outliers: bool) -> VolumeReader:
    """Return evenly spaced planes as a volume, so that a preview need not read a huge stack."""
    reader = VolumeReader(stack)
    planes = [
        reader.raw((slice(z, z + 1), slice(None), slice(None)))
        for z in reader.planes(SAMPLE_VOXELS)
    ]
    return VolumeReader(
        Stack(np.concatenate(planes), "ZYX", stack.voxel_size), repair_outliers=repair_outliers
    )


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


def estimate_steps(
    stack: Stack, request: EnhanceRequest, cancel: threading.Event | None = None
) -> Generator[Progress, None, float]:
    """Estimate the seconds of a run by running it on two small blocks of the first volume.

    Returns
    -------
    float
        Seconds: what every run costs, plus the time per unit of work (``MethodParameters.work``)
        times the plan's work, plus the minutes for which it learns first. Nothing is learnt for the
        estimate; one that begins from random weights is timed with the method's own, or counts the
        minutes alone where there are none.
    """
    plan = plan_run(stack, request)
    if request.learn_minutes is not None:
        plain = request.model_copy(
            update={
                "learn_minutes": None,
                "weights": None if request.weights == NO_WEIGHTS else request.weights,
            }
        )
        try:
            seconds = yield from estimate_steps(stack, plain, cancel)
        except CheckpointError:
            if request.weights != NO_WEIGHTS:
                raise
            seconds = 0.0
        return 60 * request.learn_minutes + seconds
    first = plan.stack.crop({a: slice(0, 1) for a in "TC" if a in plan.stack.axes})
    works, times = [], []
    # The first pass also pays for imports and caches.
    for size in (TRIALS_PX[0], *TRIALS_PX):
        fields = request.model_dump(exclude_unset=True) | {
            "axes": None,
            "channel": None,
            "voxel_size_um": None,
        }
        if measured_by_default(first, request) and not too_small(first):
            # A block alone may be too small to be measured.
            fields["profile"] = MEASURE
        trial = EnhanceRequest(**fields | {"crop": _middle(first, size)})
        started = time.perf_counter()
        result = yield from enhance_steps(first, trial, cancel)
        times.append(time.perf_counter() - started)
        voxels = math.prod(result.provenance.input_shape)
        works.append(_work(request, voxels, voxels))
    return _extrapolated(
        works[1:],
        times[1:],
        _work(request, *_voxels(plan)),
        plan.volumes,
    )


def _middle(
    stack: Stack, most_px: tuple[int, int, int]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    starts = [
        max(0, (size - most) // 2) for size, most in zip(stack.volume_shape, most_px, strict=True)
    ]
    z, y, x = (
        (start, min(size, start + most))
        for start, size, most in zip(starts, stack.volume_shape, most_px, strict=True)
    )
    return (z, y, x)


def _work(request: EnhanceRequest, volume_voxels: int, read_voxels: int) -> float:
    """Return the work on one volume: measuring, preparing and tiles."""
    return volume_voxels + sum(work_of(request, volume_voxels, read_voxels, WHOLE_VOXELS))


def _voxels(plan: RunPlan) -> tuple[int, int]:
    """Return the voxels of one volume, and those that its tiles read."""
    return math.prod(plan.stack.volume_shape), plan.read_voxels // plan.volumes


def _extrapolated(works: list[float], times: list[float], work: float, volumes: int) -> float:
    """Draw the line through two trials: what every run costs, and what each unit of work costs."""
    (small, large), (quick, slow) = works, times
    slope = max(slow - quick, 0.1 * slow) / (large - small) if large > small else slow / large
    return volumes * (max(slow - slope * large, 0.0) + slope * work)
