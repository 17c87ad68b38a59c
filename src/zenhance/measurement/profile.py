"""The microscope of one channel, measured from the stack alone.

Camera by photon transfer, surface and light by depth from block means, blur by depth from spectra.
What the stack cannot tell keeps its prior and is marked "default".
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.measurement.blur_by_depth import BlurFit, BlurPrior, blur_steps
from zenhance.measurement.light_by_depth import Light, Surface, find_surface, measure_light
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import FILTERED, CameraFit, Spread, fit_camera
from zenhance.physics.profile import (
    MAX_ATTENUATION_UM,
    DepthCurve,
    MicroscopeProfile,
    Origin,
    Quantity,
)
from zenhance.physics.psf import Psf
from zenhance.steps import drain, relay
from zenhance.types import FloatTriple

__all__ = [
    "doubt_metadata",
    "doubt_narrowing",
    "measure_profile",
    "names_objective",
    "profile_steps",
    "squeeze_along_z",
]

MAX_NOISE_VOXELS = 4_000_000
MAX_SQUEEZE = 1.6
"""Structures that are so many times shorter along z than across put the z step in doubt."""
MIN_AXIAL_RATIO = 2.0
"""No lens has a smaller ratio of axial to lateral width (NA 1.4 in oil has 2.5)."""
SMOOTH_UM = 1.5
_SECONDARY = ("n", "ex_nm", "em_nm", "pinhole_au", "n_sample", "depth_um", "m_f")
"""Numbers of a PSF that leave its width open without the numerical aperture."""
MIN_PLANES = 5
MAX_NARROWING = 0.8
"""A PSF that narrows with depth by more than this is doubted."""


def measure_profile(
    volume: npt.NDArray[Any],
    voxel_size_um: FloatTriple,
    *,
    psf: Psf | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str = "measured",
) -> MicroscopeProfile:
    """Measure camera, light and blur by depth on one stack.

    Parameters
    ----------
    volume : ndarray (Z, Y, X)
        Grey values as recorded; the first plane is the one nearest to the objective.
    voxel_size_um : tuple of float
        (z, y, x).
    psf : Psf, optional
        Where the widths at the surface start, for example from the file's metadata.
    metadata : mapping, optional
        What the file says; numbers that cannot be right are doubted.
    name : str
        Of the profile.

    Raises
    ------
    StackError
        The array is not a stack, or the voxel size is not positive.
    """
    return drain(profile_steps(volume, voxel_size_um, psf=psf, metadata=metadata, name=name))


def profile_steps(
    volume: npt.NDArray[Any],
    voxel_size_um: FloatTriple,
    *,
    psf: Psf | None = None,
    metadata: Mapping[str, Any] | None = None,
    name: str = "measured",
) -> Generator[tuple[str, float], None, MicroscopeProfile]:
    """Measure like :func:`measure_profile`; yield what comes next and the fraction done.

    Each yield is a point where the measurement can be cancelled.
    """
    if volume.ndim != 3 or volume.size == 0:
        raise StackError(
            f"a profile is measured on a stack (Z, Y, X), not on an array of shape {volume.shape}"
        )
    if not all(math.isfinite(v) and v > 0.0 for v in voxel_size_um):
        raise StackError(
            f"the voxel size {tuple(voxel_size_um)} µm must be positive; set it as z, y, x"
        )
    yield "measuring the camera", 0.0
    camera = fit_camera(measure_blocks(_sampled(volume)))
    finite = _finite(volume, camera.background.value)
    yield "measuring the light", 0.1
    surface = find_surface(finite, voxel_size_um, camera)
    light = measure_light(surface, voxel_size_um[0], camera)
    length = light.attenuation_um.value if light.measured else MAX_ATTENUATION_UM
    blur = yield from relay(
        blur_steps(finite, voxel_size_um, surface, camera, max(length, 10.0), _prior(psf)),
        lambda fraction: ("measuring the blur", 0.3 + 0.3 * fraction),
    )
    if camera.determined and not camera.whiteness < FILTERED:
        # Later, since it imports torch, which the docks do without until they run.
        from zenhance.measurement.held_out_blur import corrected_steps

        noise = PoissonGauss(camera.gain.value, camera.offset.value, camera.read_noise.value)
        blur = yield from relay(
            corrected_steps(finite, voxel_size_um, surface, noise, blur),
            lambda fraction: ("predicting held-out photons", 0.6 + 0.3 * fraction),
        )
    yield "checking the voxel size", 0.9
    doubts = (
        *doubt_metadata(metadata or {}, voxel_size_um),
        *camera.remarks,
        *_doubts(finite, voxel_size_um, surface, light, blur, _origin(psf)),
    )
    return _assembled(name, voxel_size_um, camera, light, blur, psf, doubts)


def _sampled(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return evenly spaced planes of at most 4 million voxels."""
    planes = max(1, min(volume.shape[0], MAX_NOISE_VOXELS // max(volume[0].size, 1)))
    index = np.linspace(0, volume.shape[0] - 1, planes).round().astype(int)
    return np.asarray(volume[np.unique(index)])


def _finite(volume: npt.NDArray[Any], fill: float) -> npt.NDArray[np.float32]:
    grey = np.asarray(volume, np.float32)
    return grey if np.isfinite(grey).all() else np.nan_to_num(grey, nan=fill, posinf=fill)


def names_objective(psf: Psf) -> bool:
    """Tell whether the file or the user named what decides the width of a PSF."""
    return any(v.name not in _SECONDARY and v.origin != "default" for v in psf.values)


def _prior(psf: Psf | None) -> BlurPrior:
    """Return what is known of the widths: narrow where file or user name the objective."""
    if psf is None or min(psf.sigma_um) <= 0.0 or not names_objective(psf):
        return BlurPrior()
    return BlurPrior(psf.sigma_um[0], math.sqrt(psf.sigma_um[1] * psf.sigma_um[2]), 0.25)


def _origin(psf: Psf | None) -> Origin:
    """Return the mark of a width that keeps what was known before."""
    if psf is None or not names_objective(psf):
        return "default"
    return "user" if any(v.origin == "user" for v in psf.values) else "file"


def _assembled(
    name: str,
    voxel_um: FloatTriple,
    camera: CameraFit,
    light: Light,
    blur: BlurFit,
    psf: Psf | None,
    doubts: tuple[str, ...],
) -> MicroscopeProfile:
    told: Origin = "measured" if camera.determined else "default"
    lit: Origin = "measured" if light.measured else "default"
    length = light.attenuation_um
    if not light.measured:
        length = Spread(MAX_ATTENUATION_UM, min(length.low, MAX_ATTENUATION_UM), MAX_ATTENUATION_UM)
    surface = max(float(light.mean[0]), float(light.mean.max()) * 1e-3, 1e-12)
    depth = tuple(float(d) for d in light.depth_um)
    prior = _origin(psf)
    return MicroscopeProfile(
        name=name,
        voxel_size_um=voxel_um,
        gain=_quantity(camera.gain, told),
        offset=_quantity(camera.offset, told),
        read_noise=_quantity(camera.read_noise, told),
        background=_quantity(camera.background, "measured"),
        attenuation_um=_quantity(length, lit),
        bleached_per_plane=Quantity(value=0.0, low=0.0, high=0.02, origin="default"),
        brightness=_curve(depth, light.mean / surface, light.mean_range / surface, lit),
        haze=_curve(depth, light.haze, light.haze_range, lit),
        sigma_z_um=_widths(blur.depth_um, blur.sigma_z_um, blur.measured_z, prior),
        sigma_yx_um=_widths(blur.depth_um, blur.sigma_yx_um, blur.measured_yx, prior),
        doubts=doubts,
    )


def _quantity(spread: Spread, origin: Origin) -> Quantity:
    low, high = min(spread.low, spread.value), max(spread.high, spread.value)
    return Quantity(value=spread.value, low=low, high=high, origin=origin)


def _curve(
    depth: tuple[float, ...],
    values: npt.NDArray[np.float64],
    span: npt.NDArray[np.float64],
    origin: Origin,
) -> DepthCurve:
    """Return a curve that is 0 or more, with its intervals (2, N)."""
    middle = np.maximum(values, 0.0)
    low, high = np.clip(span[0], 0.0, middle), np.maximum(span[1], middle)
    numbers = (tuple(float(v) for v in column) for column in (middle, low, high))
    value, least, most = numbers
    marks = (origin,) * len(depth)
    return DepthCurve(depth_um=depth, values=value, low=least, high=most, origins=marks)


def _widths(
    depth: npt.NDArray[np.float64],
    table: npt.NDArray[np.float64],
    measured: npt.NDArray[np.bool_],
    prior: Origin,
) -> DepthCurve:
    value, low, high = (tuple(float(v) for v in column) for column in table.T)
    return DepthCurve(
        depth_um=tuple(float(d) for d in depth),
        values=value,
        low=low,
        high=high,
        origins=tuple("measured" if m else prior for m in measured),
    )


def _doubts(
    volume: npt.NDArray[np.float32],
    voxel_um: FloatTriple,
    surface: Surface,
    light: Light,
    blur: BlurFit,
    prior: Origin,
) -> tuple[str, ...]:
    """Say what could not be measured and what cannot be right."""
    said = []
    if volume.shape[0] < MIN_PLANES:
        said.append(f"{volume.shape[0]} planes are too few: blur by depth could not be measured")
    for axis, told in (("σ_yx", blur.measured_yx), ("σ_z", blur.measured_z)):
        if not told.all() and volume.shape[0] >= MIN_PLANES:
            where = ", ".join(f"{d:.0f}" for d in blur.depth_um[~told])
            kept = "the default" if prior == "default" else f"the width of the {prior}'s PSF"
            said.append(f"{axis} at {where} µm could not be measured; {kept} was kept")
    said.extend(doubt_narrowing(blur))
    if not light.measured:
        said.append("the loss of light with depth could not be measured")
    if surface.inside_at_top > 0.5:
        said.append(
            "the first plane is inside the specimen already; depth is counted from that plane"
        )
    if volume.shape[0] >= 2 * MIN_PLANES:
        said.extend(_z_step(volume, voxel_um, blur))
    return tuple(said)


def doubt_narrowing(blur: BlurFit) -> list[str]:
    """Doubt a PSF that looks clearly narrower in the depth than at the surface."""
    said = []
    for axis, table, told in (
        ("σ_yx", blur.sigma_yx_um, blur.measured_yx),
        ("σ_z", blur.sigma_z_um, blur.measured_z),
    ):
        shallow, deep = float(table[0, 0]), float(table[-1, 0])
        if told.all() and deep < MAX_NARROWING * shallow:
            said.append(
                f"{axis} falls from {shallow:.2g} µm at the surface to {deep:.2g} µm at depth, "
                "which no tissue does: structures differ with depth"
            )
    return said


def _z_step(volume: npt.NDArray[np.float32], voxel_um: FloatTriple, blur: BlurFit) -> list[str]:
    """Doubt a z step at which structures or the PSF are squeezed or stretched along z."""
    middle = len(blur.depth_um) // 2
    z, yx = float(blur.sigma_z_um[middle, 0]), float(blur.sigma_yx_um[middle, 0])
    factor = squeeze_along_z(volume, voxel_um, (z, yx))
    step = voxel_um[0]
    if bool(blur.measured_z.all() and blur.measured_yx.all()) and z < MIN_AXIAL_RATIO * yx:
        return [
            f"the blur along z ({z:.2g} µm) is only {z / yx:.1f} times that across, less than any "
            f"lens has: the z step of {step:.3g} µm is doubtful, it may be "
            f"{MIN_AXIAL_RATIO * yx / z:.1f} times as large or more"
        ]
    if 1.0 / MAX_SQUEEZE <= factor <= MAX_SQUEEZE:
        return []
    word, times = ("shorter", factor) if factor > 1.0 else ("longer", 1.0 / factor)
    return [
        f"structures are {times:.1f} times {word} along z than across: the z step of "
        f"{step:.3g} µm is doubtful ({step * factor:.2g} µm would make them alike)"
    ]


def squeeze_along_z(
    volume: npt.NDArray[np.float32],
    voxel_um: FloatTriple,
    sigma_um: tuple[float, float],
    always: bool = False,
) -> float:
    """Return how many times shorter structures are along z than across, once blurred alike.

    Parameters
    ----------
    volume : array (Z, Y, X)
        Grey values.
    voxel_um : tuple of float
        (z, y, x).
    sigma_um : tuple of float
        Widths of the PSF (z, yx); the stack is blurred further until both are equal.
    always : bool
        Whether to follow small differences too; otherwise they count as none.
    """
    spans = [slice(max(0, (n - 192) // 2), max(0, (n - 192) // 2) + 192) for n in volume.shape]
    grey = volume[tuple(spans)].astype(np.float64)
    factor = 1.0
    for _ in range(4):
        # Equal blur in corrected lengths: at the right factor nothing is left to mend.
        voxel = (voxel_um[0] * factor, voxel_um[1], voxel_um[2])
        narrow = (sigma_um[0] * factor, sigma_um[1], sigma_um[1])
        ratio = _slope_ratio(grey, voxel, narrow)
        if factor == 1.0 and 1.0 / MAX_SQUEEZE < ratio < MAX_SQUEEZE and not always:
            # Structures without a size of their own, such as thin filaments, end here.
            return 1.0
        factor = float(np.clip(factor * ratio, 0.1, 10.0))
    return factor


def _slope_ratio(
    grey: npt.NDArray[np.float64], voxel_um: FloatTriple, sigma_um: FloatTriple
) -> float:
    """Return the slope along z over that across, after blurring further to one width."""
    wide = max(*sigma_um, SMOOTH_UM, 1.5 * voxel_um[0])
    extra = [
        math.sqrt(max(wide**2 - s**2, 0.0)) / v for s, v in zip(sigma_um, voxel_um, strict=True)
    ]
    smooth = ndimage.gaussian_filter(grey, extra)
    # The light's decay must not count as structure.
    smooth /= np.maximum(smooth.mean(axis=(1, 2), keepdims=True), 1e-12)
    inside = smooth >= np.quantile(smooth, 0.3)
    slopes = [
        float((np.gradient(smooth, voxel_um[axis], axis=axis)[inside] ** 2).mean())
        for axis in range(3)
    ]
    across = 0.5 * (slopes[1] + slopes[2])
    return math.sqrt(slopes[0] / across) if across > 0.0 and slopes[0] > 0.0 else 1.0


def doubt_metadata(metadata: Mapping[str, Any], voxel_size_um: FloatTriple) -> tuple[str, ...]:
    """Return one sentence for each number of a file that cannot be right."""

    def number(key: str) -> float | None:
        value = metadata.get(key)
        if isinstance(value, (list, tuple, np.ndarray)):
            value = value[0] if len(value) else None
        try:
            found = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None
        return found if math.isfinite(found) else None

    said = []
    na, n = number("na"), number("refractive_index")
    if na is not None and na <= 0.0:
        said.append(f"the file's numerical aperture is {na:g}, which no lens has")
    elif na is not None and na >= (n or 1.6):
        against = f"the refractive index {n:g}" if n else "any immersion's index"
        said.append(f"the file's numerical aperture {na:g} is not below {against}")
    if number("pinhole_au") is not None and (number("pinhole_au") or 0.0) <= 0.0:
        said.append(f"the file's pinhole is {number('pinhole_au'):g} Airy units, which is closed")
    ex, em = number("excitation_nm"), number("emission_nm")
    if ex is not None and em is not None and 0.0 < em < ex < 1.6 * em:
        said.append(
            f"the file's emission at {em:g} nm is shorter than its excitation at {ex:g} nm; "
            "they look swapped"
        )
    for axis, size in zip("zyx", voxel_size_um, strict=True):
        if size > 100.0 or (axis != "z" and size > 20.0):
            said.append(f"the voxel is {size:g} µm along {axis}, too large for a microscope")
        elif size < 0.002:
            said.append(
                f"the voxel is {size:g} µm along {axis}; it looks like millimetres "
                f"({1000 * size:.3g} µm)"
            )
    return tuple(said)
