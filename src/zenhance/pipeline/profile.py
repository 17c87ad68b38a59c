"""The microscope profile of a run: measured, read from a file, or taken from an earlier record."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from scipy import ndimage

from zenhance.contract.spec import VolumeStatistics
from zenhance.errors import MethodError, StackError
from zenhance.measurement.light_by_depth import find_surface
from zenhance.measurement.profile import profile_steps
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.noise_estimate import fit_camera, measure_blocks
from zenhance.physics.profile import MicroscopeProfile, load_profile
from zenhance.physics.psf import Psf
from zenhance.pipeline.request import MEASURE, NO_PROFILE, EnhanceRequest
from zenhance.stack import Stack
from zenhance.steps import drain, relay
from zenhance.types import FloatArray, FloatTriple

if TYPE_CHECKING:
    from zenhance.physics.profile_volume import ProfiledVolume

__all__ = [
    "PROFILES",
    "noise_of",
    "profile_of",
    "profile_of_steps",
    "profiled_volume",
    "profiled_volume_steps",
    "statistics_of",
]

Found = TypeVar("Found")
Steps = Generator[tuple[str, float], None, Found]
"""What comes next and the fraction done, then the result."""

PROFILES = "profiles"
"""Note of a record that holds the profile of each channel."""
MAX_VOXELS = 64_000_000
"""A larger volume is measured on its middle, and its surface on every n-th pixel."""
MAX_NOISE_VOXELS = 4_000_000
MIN_FIELD_PX = 64
READ_SHARE = 0.3
"""Of the progress of a measurement, reading."""


def profile_of(
    stack: Stack, request: EnhanceRequest, c: int, psf: Psf, notes: Mapping[str, Any] | None = None
) -> MicroscopeProfile:
    """Return the profile of a channel, without steps; see :func:`profile_of_steps`."""
    return drain(profile_of_steps(stack, request, c, psf, notes))


def profile_of_steps(
    stack: Stack, request: EnhanceRequest, c: int, psf: Psf, notes: Mapping[str, Any] | None = None
) -> Steps[MicroscopeProfile]:
    """Return the profile of a channel; yield what comes next and the fraction done.

    Parameters
    ----------
    stack : Stack
        As the request wants it read.
    request : EnhanceRequest
        Its ``profile`` is a path, or JSON of one profile or of one per channel; otherwise the
        stack is measured.
    c : int
        Channel of the stack.
    psf : Psf
        Where the measured widths start.
    notes : mapping, optional
        Of an earlier run on this stack, whose profiles are used again.

    Raises
    ------
    MethodError
        The profile cannot be read.
    StackError
        The image has no planes along z, or its voxel size is unknown.
    """
    kept = (notes or {}).get(PROFILES)
    if kept:
        return _from_json(json.dumps(kept), c)
    wanted = request.profile or MEASURE
    if wanted not in (MEASURE, NO_PROFILE):
        return _from_json(wanted, c) if wanted.lstrip()[:1] in "[{" else load_profile(wanted)
    voxel = _voxel(stack)
    volume = yield from relay(
        _middle_steps(stack, c), lambda fraction: ("reading the stack", READ_SHARE * fraction)
    )
    return (
        yield from relay(
            profile_steps(
                volume,
                voxel,
                psf=psf,
                metadata=stack.metadata,
                name=f"{stack.name} channel {c}",
            ),
            lambda step: (step[0], READ_SHARE + (1.0 - READ_SHARE) * step[1]),
        )
    )


def _from_json(text: str, c: int) -> MicroscopeProfile:
    try:
        found = json.loads(text)
        found = [found] if isinstance(found, dict) else found
        return MicroscopeProfile.model_validate_json(json.dumps(found[min(c, len(found) - 1)]))
    except (ValueError, ValidationError, IndexError, TypeError, RecursionError) as error:
        raise MethodError(
            f"the profile in the request cannot be used ({str(error).splitlines()[0]}); "
            "measure it again with profile: measure"
        ) from error


def _voxel(stack: Stack) -> FloatTriple:
    if stack.size("Z") < 2:
        raise StackError(
            "a microscope profile needs a stack, and this image has one plane; leave profile out"
        )
    stack.voxel_size.require("ZYX")
    z, y, x = (float(v or 1.0) for v in stack.voxel_size.zyx_um)
    return (z, y, x)


def _middle_steps(stack: Stack, c: int) -> Generator[float, None, npt.NDArray[Any]]:
    """Read the first time point of a channel; of a wide volume, its middle."""
    depth, height, width = stack.volume_shape
    share = min(1.0, (MAX_VOXELS / (depth * height * width)) ** 0.5)
    spans = []
    for size in (height, width):
        kept = min(size, max(MIN_FIELD_PX, int(size * share)))
        spans.append(slice((size - kept) // 2, (size - kept) // 2 + kept))
    planes = []
    for z in range(depth):
        yield z / depth
        planes.append(np.asarray(stack.read(0, c, (slice(z, z + 1), spans[0], spans[1])))[0])
    return np.stack(planes)


def profiled_volume(stack: Stack, t: int, c: int, profile: MicroscopeProfile) -> ProfiledVolume:
    """Return a volume with its profile, without steps."""
    return drain(profiled_volume_steps(stack, t, c, profile))


def profiled_volume_steps(
    stack: Stack, t: int, c: int, profile: MicroscopeProfile
) -> Steps[ProfiledVolume]:
    """Return a volume with its profile; the specimen's surface is found in the volume itself."""
    from zenhance.physics.profile_volume import ProfiledVolume

    voxel = _voxel(stack)
    depth, height, width = stack.volume_shape
    step = max(1, int(np.ceil((depth * height * width / MAX_VOXELS) ** 0.5)))
    count = max(1, min(depth, MAX_NOISE_VOXELS // (height * width)))
    noisy = set(np.linspace(0, depth - 1, count).round().astype(int).tolist())
    full, sparse = [], []
    for z in range(depth):
        yield "finding the surface", 0.8 * z / depth
        plane = stack.read(t, c, (slice(z, z + 1), slice(0, height), slice(0, width)))[0]
        if z in noisy:
            full.append(plane)
        sparse.append(np.asarray(plane[::step, ::step], np.float32))
    yield "finding the surface", 0.8
    camera = fit_camera(measure_blocks(np.stack(full)))
    yield "finding the surface", 0.9
    background = camera.background.value
    seen = np.nan_to_num(np.stack(sparse), nan=background, posinf=background)
    surface = find_surface(seen, (voxel[0], voxel[1] * step, voxel[2] * step), camera)
    rows, columns = surface.height_um.shape
    block = surface.block_px * step
    y = np.clip((np.arange(height) + 0.5) / block - 0.5, 0, rows - 1)
    x = np.clip((np.arange(width) + 0.5) / block - 0.5, 0, columns - 1)
    at = np.meshgrid(y, x, indexing="ij")
    found = ndimage.map_coordinates(surface.height_um, at, order=1, mode="nearest")
    heights: FloatArray = np.asarray(found, np.float32)
    return ProfiledVolume(profile, heights, depth, voxel)


def noise_of(profile: MicroscopeProfile) -> PoissonGauss:
    """Return the camera of a profile."""
    return PoissonGauss(profile.gain.value, profile.offset.value, profile.read_noise.value)


def statistics_of(
    statistics: VolumeStatistics, profile: MicroscopeProfile, request: EnhanceRequest
) -> VolumeStatistics:
    """Return the statistics with the profile's background, unless the user gave one."""
    if request.background is not None:
        return statistics
    return replace(statistics, background=profile.background.value)
