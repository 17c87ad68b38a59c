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

from zenhance.contract import registry
from zenhance.contract.spec import VolumeStatistics
from zenhance.errors import MethodError, StackError
from zenhance.measurement.light_by_depth import find_surface
from zenhance.measurement.profile import names_objective, profile_steps
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import fit_camera
from zenhance.physics.profile import MicroscopeProfile, load_profile
from zenhance.physics.psf import Psf
from zenhance.pipeline.plan import psf_for
from zenhance.pipeline.request import MEASURE, NO_PROFILE, EnhanceRequest
from zenhance.stack import Stack
from zenhance.steps import drain, relay
from zenhance.types import FloatArray, FloatTriple

if TYPE_CHECKING:
    from zenhance.physics.profile_volume import ProfiledVolume

__all__ = [
    "PROFILES",
    "blur_profile_steps",
    "measured_by_default",
    "noise_of",
    "profile_of_steps",
    "profiled_volume",
    "profiled_volume_steps",
    "statistics_of",
    "too_small",
]

Found = TypeVar("Found")
Steps = Generator[tuple[str, float], None, Found]
"""What comes next and the fraction done, then the result."""

PROFILES = "profiles"
"""Note of a record: the profile of each channel, null where one PSF serves all depths."""
MAX_VOXELS = 64_000_000
"""A larger volume is measured on its middle, and its surface on every n-th pixel."""
MAX_NOISE_VOXELS = 4_000_000
MIN_FIELD_PX = 64
MIN_NETWORK_DEPTH_UM = 15.0
"""Shallower stacks keep the default PSF with a network: few blocks of their spectra are deep enough
to tell blur from thick structures, and a network loses to deconvolution with a wrong blur."""
MIN_PLANES, MIN_SIDE_PX, MIN_SIDE_UM = 8, 48, 10.0
"""Smallest stack whose blur is measured unasked; narrower fields show less than a few cells."""
READ_SHARE = 0.3
"""Of the progress of a measurement, reading."""


def profile_of_steps(
    stack: Stack, request: EnhanceRequest, c: int, psf: Psf, notes: Mapping[str, Any] | None = None
) -> Steps[MicroscopeProfile | None]:
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

    Returns
    -------
    MicroscopeProfile or None
        None where the record of an earlier run says one PSF for all depths.

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
    name = f"{stack.name} channel {c}"
    return (
        yield from relay(
            profile_steps(volume, voxel, psf=psf, metadata=stack.metadata, name=name),
            lambda step: (step[0], READ_SHARE + (1.0 - READ_SHARE) * step[1]),
        )
    )


def blur_profile_steps(
    stack: Stack, request: EnhanceRequest, c: int, notes: Mapping[str, Any] | None = None
) -> Steps[tuple[MicroscopeProfile | None, str]]:
    """Return the profile whose blur a run uses for a channel, and why it uses none.

    Where the request names neither a profile nor a PSF, the file does not name the objective, and
    the run needs the blur of each depth, the stack is measured. What cannot be measured keeps
    the default PSF, and the sentence says so. Arguments are those of :func:`profile_of_steps`.

    Returns
    -------
    tuple of MicroscopeProfile or None, and str
        None where one PSF serves all depths. The sentence is empty where nothing was tried.
    """
    given = request.profile is not None or bool((notes or {}).get(PROFILES))
    if request.profile == NO_PROFILE or not (given or measured_by_default(stack, request, c)):
        return None, ""
    if not given and (why := too_small(stack)):
        return None, f"{why}; the default PSF was used"
    found = yield from profile_of_steps(stack, request, c, psf_for(stack, request, c), notes)
    if found is not None and not given and not found.blur_is_measured:
        return None, "the blur could not be measured on this stack; the default PSF was used"
    return found, ""


def measured_by_default(stack: Stack, request: EnhanceRequest, c: int = 0) -> bool:
    """Tell whether a channel is measured although the request does not ask for it.

    It is where neither the request nor the file tells the blur, and the run needs it by depth.
    """
    silent = request.profile is None and not (request.psf or "").strip()
    z, *across = stack.voxel_size.zyx_um
    if not silent or not request.needs_blur_by_depth or None in across:
        return False
    if registry.load(request.method).spec.learns != "no":
        reach = (stack.volume_shape[0] - 1) * (z or 0.0)
        if reach < MIN_NETWORK_DEPTH_UM:
            return False
    return not names_objective(psf_for(stack, request, c))


def too_small(stack: Stack) -> str:
    """Return why a stack is too small to measure its blur, or an empty text."""
    planes, height, width = stack.volume_shape
    if planes < 2:
        return "the microscope is measured on stacks, and this image has one plane"
    across = min(
        n * (v or 0.0) for n, v in zip((height, width), stack.voxel_size.zyx_um[1:], strict=True)
    )
    if planes >= MIN_PLANES and min(height, width) >= MIN_SIDE_PX and across >= MIN_SIDE_UM:
        return ""
    return (
        f"the microscope is measured on at least {MIN_PLANES} planes of {MIN_SIDE_PX} × "
        f"{MIN_SIDE_PX} pixels and {MIN_SIDE_UM:g} µm, and this stack has {planes} planes of "
        f"{height} × {width} pixels and {across:.3g} µm"
    )


def _from_json(text: str, c: int) -> MicroscopeProfile | None:
    """Return the profile of a channel; null stands for one PSF for all depths."""
    try:
        found = json.loads(text)
        found = [found] if isinstance(found, dict) else found
        mine = found[min(c, len(found) - 1)]
        return None if mine is None else MicroscopeProfile.model_validate_json(json.dumps(mine))
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
