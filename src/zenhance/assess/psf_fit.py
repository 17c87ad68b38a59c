"""The PSF's width that explains a measurement best, given a result.

Gauss-Newton in the logarithms of two widths, along the axis and in the plane::

    y ≈ a · H(w) x̂ + b + a δ_z ∂H/∂ln w_z x̂ + a δ_yx ∂H/∂ln w_yx x̂      w ← w · exp(δ)

A true specimen shows a wrong PSF. A result that was made with the wrong PSF hides it: it was fitted
to the measurement with it. Such a PSF is compared with the blur that the spectra of the measured
stack itself show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.assess.forward import Imaging, fit_light
from zenhance.assess.photons import Camera
from zenhance.measurement.profile import measure_profile
from zenhance.physics.psf import gaussian
from zenhance.types import FloatArray, FloatTriple, Region

__all__ = ["StackWidths", "WidthFit", "fit_widths", "stack_widths"]

FIT_VOXELS = 400_000
"""The width is fitted on a part of the volume of about this size."""
ROUNDS = 4
PROBE = math.log(1.08)
MAX_STEP = 0.25
BOUNDS = (math.log(0.55), math.log(1.8))
DOUBTED_FROM = 1.125
"""Factor on the width from which a PSF is doubted, either way."""
SURE_SIGMA = 3.0
MIN_PLANES = 8
"""Fewer do not show the blur along z."""


@dataclass(frozen=True, slots=True)
class WidthFit:
    """Factors on the point spread function's width that explain the measurement best.

    Parameters
    ----------
    z, yx : float
        Along the axis and in the plane.
    z_error, yx_error : float
        Standard errors of their logarithms; infinite where the measurement does not say.
    at_bound : bool
        The fit would have gone beyond its range.
    """

    z: float = 1.0
    yx: float = 1.0
    z_error: float = math.inf
    yx_error: float = math.inf
    at_bound: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether a width is off by more than an eighth, beyond three standard errors."""
        return any(self._off(w, e) for w, e in ((self.z, self.z_error), (self.yx, self.yx_error)))

    @property
    def significant(self) -> bool:
        """Whether a width differs from the stated one by more than chance."""
        pairs = ((self.z, self.z_error), (self.yx, self.yx_error))
        return any(abs(math.log(w)) > SURE_SIGMA * e for w, e in pairs)

    @staticmethod
    def _off(width: float, error: float) -> bool:
        away = abs(math.log(width))
        return away > math.log(DOUBTED_FROM) and away > SURE_SIGMA * error


@dataclass(frozen=True, slots=True)
class StackWidths:
    """Widths of the blur that a stack itself shows, over those of a stated PSF.

    Parameters
    ----------
    z, yx : tuple of float
        Along the axis and in the plane: value, and its 90 % interval.
    """

    z: FloatTriple
    yx: FloatTriple

    @property
    def contradict(self) -> bool:
        """Whether a width is off by more than an eighth, and its interval leaves 1 out."""
        return any(
            abs(math.log(value)) > math.log(DOUBTED_FROM) and not low <= 1.0 <= high
            for value, low, high in (self.z, self.yx)
        )


def stack_widths(
    raw: npt.NDArray[Any], sigma_um: FloatTriple, voxel_size_um: FloatTriple
) -> StackWidths | None:
    """Measure the blur of a stack in the middle of its depths.

    Parameters
    ----------
    raw : array (Z, Y, X)
        The measurement.
    sigma_um : tuple of float
        Widths of the stated PSF along z, y, x.

    Returns
    -------
    StackWidths or None
        None where the stack does not show its blur.
    """
    if min(raw.shape) < MIN_PLANES or min(sigma_um) <= 0.0:
        return None
    profile = measure_profile(raw, voxel_size_um, psf=gaussian(sigma_um))
    if not profile.blur_is_measured:
        return None
    deepest = (raw.shape[0] - 1) * voxel_size_um[0]
    across = math.sqrt(sigma_um[1] * sigma_um[2])
    z, yx = (
        (q.value / stated, q.low / stated, q.high / stated)
        for q, stated in (
            (profile.sigma_z_um.quantity_at(0.5 * deepest), sigma_um[0]),
            (profile.sigma_yx_um.quantity_at(0.5 * deepest), across),
        )
    )
    return StackWidths(z, yx)


def fit_widths(
    raw: npt.NDArray[Any],
    result: FloatArray,
    imaging: Imaging,
    factors: tuple[int, int, int],
    sigma_px: FloatTriple,
    camera: Camera,
    valid: npt.NDArray[np.bool_],
    others: Sequence[FloatArray] = (),
) -> WidthFit:
    """Fit both widths of the PSF on the brightest part of a volume.

    Parameters
    ----------
    raw, result : array (Z, Y, X)
        Measurement, and result on voxels ``factors`` times finer.
    imaging : Imaging
        Images the result again.
    sigma_px : tuple of float
        Of the PSF on the measurement's voxels; so much of the part's border is left out, three
        times over.
    valid : bool array (Z, Y, X)
        Voxels that count.
    others : sequence of float32 array (Z, Y, X)
        What else may explain the measurement (haze).
    """
    part, inner = _brightest_part(raw, sigma_px)
    fine = tuple(slice(s.start * f, s.stop * f) for s, f in zip(part, factors, strict=True))
    x, y = np.ascontiguousarray(result[fine]), raw[part]
    keep = np.zeros(y.shape, bool)
    keep[inner] = valid[part][inner]
    if keep.sum() < 100:
        return WidthFit()
    further = [v[part] for v in others]
    deep = raw.shape[0] > 1
    logs, errors = np.zeros(2), np.full(2, math.inf)
    for _ in range(ROUNDS):
        z, yx = np.exp(logs)
        now = imaging(x, part, z, yx)
        steps = [(imaging(x, part, z, yx * math.exp(PROBE)) - now) / np.float32(PROBE)]
        if deep:
            steps.append((imaging(x, part, z * math.exp(PROBE), yx) - now) / np.float32(PROBE))
        light = fit_light((now, *steps, *further), y, camera, keep)
        slope = light.factors[0]
        if slope <= 0.0:
            return WidthFit()
        move = np.array([light.factors[2] if deep else 0.0, light.factors[1]]) / slope
        errors = np.array([light.errors[2] if deep else math.inf, light.errors[1]]) / slope
        move[~np.isfinite(errors)] = 0.0
        logs = np.clip(logs + np.clip(move, -MAX_STEP, MAX_STEP), *BOUNDS)
    bound = bool(np.any((logs <= BOUNDS[0]) | (logs >= BOUNDS[1])))
    z, yx = (float(w) for w in np.exp(logs))
    return WidthFit(z, yx, float(errors[0]), float(errors[1]), bound)


def _brightest_part(raw: npt.NDArray[Any], sigma_px: FloatTriple) -> tuple[Region, Region]:
    """Return a part around the brightest voxel, and its interior three standard deviations in."""
    shape = raw.shape
    depth = min(shape[0], 64)
    edge = max(64, int(math.sqrt(FIT_VOXELS / depth)))
    sizes = (depth, min(shape[1], edge), min(shape[2], edge))
    parts, inners = [], []
    for axis, size in enumerate(sizes):
        others = tuple(a for a in range(3) if a != axis)
        profile = np.nan_to_num(raw.astype(np.float32)).sum(axis=others, dtype=np.float64)
        sums = np.convolve(profile, np.ones(size), mode="valid")
        start = int(np.argmax(sums))
        parts.append(slice(start, start + size))
        rim = min(math.ceil(3.0 * sigma_px[axis]) if shape[axis] > 1 else 0, (size - 1) // 3)
        inners.append(slice(rim, size - rim))
    return (parts[0], parts[1], parts[2]), (inners[0], inners[1], inners[2])
