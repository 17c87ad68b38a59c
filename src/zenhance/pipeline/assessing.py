"""Judge a result by its measurement, with the PSF and the noise of its own run."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from zenhance.assess.assessment import Assessment, assess
from zenhance.assess.reblur import PSF_TOLERANCE, Microscopy, psf_in_the_plane
from zenhance.errors import MethodError, RunCancelled
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure, measure_noise
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.profile import DepthCurve, MicroscopeProfile
from zenhance.pipeline.even_light import uneven
from zenhance.pipeline.plan import psf_for
from zenhance.pipeline.profile import (
    PROFILES,
    blur_profile_steps,
    noise_of,
    profile_of_steps,
    profiled_volume,
)
from zenhance.pipeline.request import MEASURE, EnhanceRequest
from zenhance.provenance import ArrayHash, Provenance
from zenhance.stack import Stack
from zenhance.steps import drain
from zenhance.types import FloatArray, Region

if TYPE_CHECKING:
    from zenhance.physics.profile_volume import ProfiledVolume
    from zenhance.physics.psf import Psf

__all__ = [
    "ASSESSMENT",
    "assess_result",
    "assessment_notes",
    "is_made_from",
    "noise_of_volume",
    "part_of",
]

ASSESSMENT = "assessment"
# Of a time series, the first, a middle and the last time point are judged.
MAX_TIME_POINTS = 3
# From the worst to the best.
LIGHTS = ("red", "amber", "green")


def assess_result(
    raw: Stack,
    result: Stack,
    request: EnhanceRequest | None = None,
    cancel: threading.Event | None = None,
    *,
    truth: Stack | None = None,
    labels: Stack | None = None,
    deblurred: bool | None = None,
    axes_named: bool = False,
    region: Region | None = None,
    quick: bool = False,
    profiled: ProfiledVolume | None = None,
) -> Assessment:
    """Judge a result; of several channels and time points, the worst of those judged is returned.

    Parameters
    ----------
    raw : Stack
        The measurement as it was opened: axes, voxel size, channel and crop of the request are
        applied to it here.
    result : Stack
        What the request made of it.
    request : EnhanceRequest, optional
        Of the run; left out, the one inside the result, else the file's own values and defaults.
    cancel : threading.Event, optional
        Looked at each time the result is blurred.
    truth, labels : Stack, optional
        On the result's voxels, or on those of the whole measurement where the request crops it.
    deblurred : bool, optional
        Whether the result is expected to be free of the microscope's blur; left out, its method
        says so.
    axes_named : bool
        Whether the measurement was already read with the axes of the request.
    region : tuple of slice, optional
        Judge this part (z, y, x) of the measured volumes alone; noise and profile are those of the
        whole.
    quick : bool
        Only the re-blur check.
    profiled : ProfiledVolume, optional
        The microscope of the volume that the measurement was cut from, cut as the measurement is.

    Returns
    -------
    Assessment
        Its last sentences say which volumes were judged, and whether the result names another
        measurement.

    Raises
    ------
    StackError
        The stacks do not fit together.
    RunCancelled
        The user stopped it.
    """
    record = Provenance.find(result.metadata)
    if request is None:
        request = EnhanceRequest(**({} if record is None else record.request))
    before = request.apply_to(raw, axes_named=axes_named)
    known = _Known(
        request,
        _cropped(truth, raw, request),
        _cropped(labels, raw, request),
        deblurred,
        record,
        region,
        quick,
        cancel or threading.Event(),
        profiled,
    )
    found: list[Assessment] = []
    for t in _time_points(before.size("T")):
        for c in range(before.size("C")):
            known.check_cancel()
            found.append(_assess_volume(before, result, known, t, c))
    worst = min(found, key=lambda a: LIGHTS.index(a.verdict))
    said = _judged(found, worst, before) + ([] if region else _origin(before, record))
    if known.deblurs and _plane_by_plane(before, request):
        said.append(
            "The method works plane by plane and removes no blur along z, so the result was "
            "blurred again in the plane alone."
        )
    return worst.model_copy(update={"sentences": (*worst.sentences, *said)})


def _time_points(count: int) -> list[int]:
    if count <= MAX_TIME_POINTS:
        return list(range(count))
    return [0, count // 2, count - 1]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known beside the two stacks."""

    request: EnhanceRequest
    truth: Stack | None
    labels: Stack | None
    deblurred: bool | None
    record: Provenance | None
    region: Region | None
    quick: bool
    cancel: threading.Event
    profiled: ProfiledVolume | None = None

    def check_cancel(self) -> None:
        """Stop if the user cancelled."""
        if self.cancel.is_set():
            raise RunCancelled(
                "the run was cancelled while its result was assessed; the original is unchanged"
            )

    @property
    def deblurs(self) -> bool:
        """Whether blur was removed: as the caller says, else by the record of the run."""
        return _deblurs(self.request, self.record) if self.deblurred is None else self.deblurred


def _cropped(stack: Stack | None, raw: Stack, request: EnhanceRequest) -> Stack | None:
    """Crop an image on the grid of the whole measurement as the request crops it."""
    if stack is None or request.crop is None or stack.volume_shape != raw.volume_shape:
        return stack
    return EnhanceRequest(crop=request.crop).apply_to(stack)


def _assess_volume(before: Stack, result: Stack, known: _Known, t: int, c: int) -> Assessment:
    request = known.request
    psf, (noise, reader) = psf_for(before, request, c), noise_of_volume(before, request, t, c)
    flat = known.deblurs and _plane_by_plane(before, request)
    if flat:
        psf = psf_in_the_plane(psf)
    region = known.region or _whole(before)
    microscopy = None
    notes = None if known.record is None else known.record.notes
    if request.even_light:
        light = known.profiled or _light(before, request, t, c, psf, notes)
        result = _uneven(result, light, t, c)
    profile = None
    # Unasked, the microscope counts only where the run measured it.
    if request.profile is not None or (request.psf is None and PROFILES in (notes or {})):
        profile, _ = drain(blur_profile_steps(before, request, c, notes))
    if profile is not None and not flat:
        volume = known.profiled or profiled_volume(before, t, c, profile)
        measured = request.profile in (None, MEASURE) and profile.blur_is_measured
        microscopy = _microscopy(volume, region, measured) if known.deblurs else None
        psf, noise = profile.psf_at(0.5 * volume.deepest_um), noise_of(profile)
    # Values taken from neighbours were not measured: bad pixels, and voxels without data.
    stored = reader.raw(region).astype(np.float32)
    missing = reader.read(region) != stored
    used = () if known.record is None else known.record.freedom
    number = t * before.size("C") + c
    found = assess(
        part_of(before, region, before.volume_shape),
        part_of(result, region, before.volume_shape),
        psf=psf,
        noise=noise,
        truth=known.truth,
        labels=known.labels,
        deblurred=known.deblurs,
        freedom=used[number] if number < len(used) else 0.0,
        quick=known.quick,
        t=t,
        c=c,
        microscopy=microscopy,
        missing=missing,
        on_blur=known.check_cancel,
    )
    return found.model_copy(
        update={"noise": found.noise.replace("(given)", "(estimated, as in the run)")}
    )


def _light(
    before: Stack,
    request: EnhanceRequest,
    t: int,
    c: int,
    psf: Psf,
    notes: Mapping[str, Any] | None,
) -> ProfiledVolume:
    """Return the volume whose light by depth the run evened out."""
    profile = drain(profile_of_steps(before, request, c, psf, notes))
    if profile is None:
        asked = request.model_copy(update={"profile": MEASURE})
        profile = drain(profile_of_steps(before, asked, c, psf))
    return profiled_volume(before, t, c, cast(MicroscopeProfile, profile))


def _whole(stack: Stack) -> Region:
    """Return the region of whole volumes."""
    depth, height, width = stack.volume_shape
    return (slice(0, depth), slice(0, height), slice(0, width))


def part_of(stack: Stack, region: Region, measured: tuple[int, ...]) -> Stack:
    """Return the region (z, y, x) of a measurement, or of a result on its voxels or finer ones."""
    fine = {
        axis: slice(part.start * n // m, part.stop * n // m)
        for axis, part, n, m in zip("ZYX", region, stack.volume_shape, measured, strict=True)
    }
    return stack.crop({axis: part for axis, part in fine.items() if axis in stack.axes})


def _microscopy(volume: ProfiledVolume, judged: Region, measured: bool) -> Microscopy:
    """Return blur by depth and haze as a profile has them, and how far its widths may be off."""
    import torch

    def imaging(image: FloatArray, region: Region, /, z: float = 1.0, yx: float = 1.0) -> Any:
        wider = replace(volume, profile=volume.profile.widened(z, yx))
        z0, y0, x0 = (
            slice(j.start + r.start, j.start + r.stop) for j, r in zip(judged, region, strict=True)
        )
        seen = wider.blur([(z0, y0, x0)], "cpu")(torch.from_numpy(image)[None])[0]
        return np.asarray(seen.numpy())

    profile, sizes = volume.profile, volume.voxel_size_um
    haze = volume.haze([judged], "cpu")[0].numpy()
    widths = (profile.sigma_z_um, profile.sigma_yx_um, profile.sigma_yx_um)
    border = [3.0 * max(w.values) / v for w, v in zip(widths, sizes, strict=True)]
    return Microscopy(
        imaging,
        np.asarray(haze, np.float32) if haze.any() else None,
        (border[0], border[1], border[2]),
        max(PSF_TOLERANCE, *(_relative_error(w) for w in widths)),
        measured,
    )


def _relative_error(widths: DepthCurve) -> float:
    """Return the standard error of a profile's widths from their 90 % intervals, as a share."""
    halves = [
        (h - low) / (2 * 1.645 * v)
        for v, low, h in zip(widths.values, widths.low, widths.high, strict=True)
    ]
    return min(float(np.median(halves)), 0.3)


def _uneven(result: Stack, volume: ProfiledVolume, t: int, c: int) -> Stack:
    """Return one volume of a result whose light was evened out, with the measurement's light."""
    there = result.read(t if result.size("T") > t else 0, c if result.size("C") > c else 0).astype(
        np.float32
    )
    return Stack(uneven(there, volume), "ZYX", result.voxel_size, name=result.name)


def noise_of_volume(
    before: Stack, request: EnhanceRequest, t: int, c: int
) -> tuple[PoissonGauss, VolumeReader]:
    """Return the noise of a volume as the run estimated it, and the volume as the run read it."""
    shared = request.statistics == "shared"
    readers = (
        [VolumeReader(before, i, c, request.repair_outliers) for i in range(before.size("T"))]
        if shared
        else [VolumeReader(before, t, c, request.repair_outliers)]
    )
    statistics, _ = measure(readers, request.background)
    noise, reader = measure_noise(readers, statistics), readers[t if shared else 0]
    reader.settle(noise)
    return noise, reader


def _deblurs(request: EnhanceRequest, record: Provenance | None) -> bool:
    """Return whether the method removed blur, by its record or its settings.

    True for a method that is not installed.
    """
    if record is not None and record.deblurs:
        return all(record.deblurs)
    try:
        return request.parameters().deblurs
    except MethodError:
        return True


def _plane_by_plane(before: Stack, request: EnhanceRequest) -> bool:
    """Tell whether a stack of planes was deblurred in each of them alone."""
    try:
        return before.size("Z") > 1 and request.parameters().solved_dimensions == 2
    except MethodError:
        return False


def _judged(found: list[Assessment], worst: Assessment, before: Stack) -> list[str]:
    if len(found) == 1 and before.size("T") * before.size("C") == 1:
        return []
    lights = ", ".join(
        f"time point {a.time_point}, channel {a.channel}: {a.verdict}" for a in found
    )
    return [
        f"Time point {worst.time_point}, channel {worst.channel} is shown, the worst of those "
        f"judged ({lights})."
    ]


def is_made_from(stack: Stack, record: Provenance) -> bool:
    """Return whether the run of a record read exactly the pixels of this stack."""
    if not record.input_sha256:
        return True
    digest = ArrayHash(stack.dtype, stack.shape)
    for t, c in stack.volumes():
        for z in range(stack.volume_shape[0]):
            digest.add(stack.read(t, c, (slice(z, z + 1), slice(None), slice(None))))
    return digest.hexdigest() == record.input_sha256


def _origin(before: Stack, record: Provenance | None) -> list[str]:
    """Say so where the result was made from other pixels than these."""
    if record is None or is_made_from(before, record):
        return []
    return [
        "The result was made from other pixels than these: "
        f'its record names "{record.input_name}", with another hash.'
    ]


def assessment_notes(assessment: Assessment) -> Mapping[str, Any]:
    """Return the figures of an assessment for the provenance, without the curves."""
    notes: dict[str, Any] = json.loads(assessment.to_json())
    for curve in notes.get("correlation", {}).values():
        for name in ("frequency", "correlation", "half_bit"):
            curve.pop(name, None)
    for name in ("raw_name", "result_name", "voxel_size_um", "shape_px"):
        notes.pop(name, None)
    return {name: value for name, value in notes.items() if value not in (None, {}, [])}
