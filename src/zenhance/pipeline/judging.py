"""The verdict beside a result: a column of the stack, all depths, judged in a few seconds."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from zenhance.assess.assessment import Assessment
from zenhance.pipeline.assessing import ASSESSMENT, assess_result, assessment_notes, part_of
from zenhance.pipeline.request import EnhanceRequest
from zenhance.pipeline.result import EnhanceResult, Progress
from zenhance.provenance import Provenance
from zenhance.stack import Stack
from zenhance.types import Region

if TYPE_CHECKING:
    from zenhance.physics.profile_volume import ProfiledVolume

__all__ = ["Judged", "brightest_column", "judge_steps"]

MAX_VOXELS = 1_000_000
"""Judged in about five seconds of one core, channels together."""
MAX_PLANES = 160
MIN_SIDE_PX = 64
SEEN_PLANES = 8
"""The brightest place is looked for in so many planes."""


@dataclass(frozen=True)
class Judged:
    """A verdict, the part of the stack that it was made on, and the record with it.

    Parameters
    ----------
    assessment : Assessment
        With the z-map of the part.
    raw, result : Stack
        The part, for the report.
    region : tuple of slice
        Of the measured volume, (z, y, x), after the request's crop.
    provenance : Provenance
        Of the run, with the verdict among its notes.
    """

    assessment: Assessment
    raw: Stack
    result: Stack
    region: Region
    provenance: Provenance


def judge_steps(
    raw: Stack,
    result: EnhanceResult,
    request: EnhanceRequest,
    cancel: threading.Event,
    profiled: ProfiledVolume | None = None,
) -> Generator[Progress, None, Judged]:
    """Judge a result by a part of its measurement.

    Parameters
    ----------
    raw : Stack
        The measurement as the run was given it.
    result : EnhanceResult
        What the run made of it.
    request : EnhanceRequest
        Of the run.
    cancel : threading.Event
        Looked at between the steps of the check.
    profiled : ProfiledVolume, optional
        As in :func:`assess_result`.

    Raises
    ------
    StackError
        There is nothing to judge.
    RunCancelled
        The user stopped it.
    """
    yield Progress("assess", 0.0, None, "judging the result by the measurement")
    before = request.apply_to(raw)
    region = brightest_column(before)
    yield Progress("assess", 0.2, None, "judging the result by the measurement")
    found = assess_result(
        raw, result.stack, request, cancel, region=region, quick=True, profiled=profiled
    )
    t, c = found.time_point, found.channel
    notes = {**result.provenance.notes, ASSESSMENT: dict(assessment_notes(found))}
    return Judged(
        found,
        _volume(before, t, c, region, before.volume_shape),
        _volume(result.stack, t, c, region, before.volume_shape),
        region,
        result.provenance.model_copy(update={"notes": notes}),
    )


def _volume(stack: Stack, t: int, c: int, region: Region, measured: tuple[int, ...]) -> Stack:
    part = part_of(stack, region, measured).pick_channel(c if stack.size("C") > c else 0)
    data = part.read(t if stack.size("T") > t else 0)
    # A copy: a view would keep the whole stack in memory.
    return Stack(np.array(data), "ZYX", stack.voxel_size, name=stack.name, metadata=part.metadata)


def brightest_column(stack: Stack, most: int | None = None) -> Region:
    """Return the brightest part that has all planes and at most so many voxels."""
    depth, height, width = stack.volume_shape
    most = (MAX_VOXELS if most is None else most) // stack.size("C")
    planes = min(depth, MAX_PLANES)
    side = max(MIN_SIDE_PX, int((most / planes) ** 0.5))
    rows, columns = min(height, side), min(width, side)
    total = np.zeros((height, width), np.float32)
    light = np.zeros(depth)
    for z in np.unique(np.linspace(0, depth - 1, SEEN_PLANES).round().astype(int)):
        plane = stack.read(0, 0, (slice(z, z + 1), slice(0, height), slice(0, width)))[0]
        plane = np.nan_to_num(plane.astype(np.float32))
        total += plane
        light[z] = plane.mean()
    mean = ndimage.uniform_filter(total, (rows, columns), mode="constant")
    y, x = np.unravel_index(int(mean.argmax()), mean.shape)
    starts = (
        min(max(0, int(light.argmax()) - planes // 2), depth - planes),
        min(max(0, int(y) - rows // 2), height - rows),
        min(max(0, int(x) - columns // 2), width - columns),
    )
    sizes = (planes, rows, columns)
    z0, y0, x0 = (slice(a, a + n) for a, n in zip(starts, sizes, strict=True))
    return (z0, y0, x0)
