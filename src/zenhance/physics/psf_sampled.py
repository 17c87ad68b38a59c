"""A point spread function given as samples: resampled, trimmed and measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import MethodError
from zenhance.physics.psf_base import FWHM_PER_SIGMA, MAX_KERNEL_VOXELS, VoxelSizeUm
from zenhance.types import FloatArray

__all__ = ["SampledShape", "fitted_sigma_um", "trimmed"]

_OUTSIDE = 1e-4


def trimmed(kernel: npt.NDArray[np.float64]) -> FloatArray:
    """Trim an odd kernel symmetrically by less than 1e-4 of its sum; scale it to sum one."""
    total = kernel.sum()
    slices = []
    for axis, size in enumerate(kernel.shape):
        profile = kernel.sum(axis=tuple(a for a in range(kernel.ndim) if a != axis))
        centre = size // 2
        radius = centre
        while (
            radius > 0
            and profile[: centre - radius + 1].sum() + profile[centre + radius :].sum()
            < _OUTSIDE / 3.0 * total
        ):
            radius -= 1
        slices.append(slice(centre - radius, centre + radius + 1))
    cut = kernel[tuple(slices)]
    return np.ascontiguousarray(cut / cut.sum(), dtype=np.float32)


def _half_width(profile: npt.NDArray[np.float64]) -> float:
    """Full width at half maximum in samples, by linear interpolation on both flanks of the peak."""
    peak = int(profile.argmax())
    half = profile[peak] / 2.0
    width = 0.0
    for side in (profile[peak:], profile[peak::-1]):
        below = np.flatnonzero(side < half)
        if below.size == 0:
            width += side.size - 0.5
            continue
        k = int(below[0])
        width += k - 1 + (side[k - 1] - half) / (side[k - 1] - side[k])
    return width


def fitted_sigma_um(
    kernel: npt.NDArray[np.floating], voxel_size_um: VoxelSizeUm
) -> tuple[float, float, float]:
    """Return sigma (z, y, x) in µm of Gaussians fitted to the profiles through the peak.

    Second moments do not help here: those of a diffraction pattern grow with the window.
    """
    peak = np.unravel_index(int(kernel.argmax()), kernel.shape)
    sigmas = []
    for axis, voxel in enumerate(voxel_size_um):
        index = tuple(slice(None) if a == axis else peak[a] for a in range(3))
        profile = np.asarray(kernel[index], dtype=np.float64)
        sigmas.append(_fitted_sigma(profile) * voxel)
    return (sigmas[0], sigmas[1], sigmas[2])


def _fitted_sigma(profile: npt.NDArray[np.float64]) -> float:
    if profile.size < 3:
        return 0.0
    start = max(_half_width(profile) / FWHM_PER_SIGMA, 0.2)
    offsets = np.arange(profile.size, dtype=np.float64) - int(profile.argmax())
    near = np.abs(offsets) <= max(2.0, 2.5 * start)
    if near.sum() < 4:
        return start
    # Imported here, because a dock must open fast.
    from scipy.optimize import least_squares

    def misfit(guess: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        height, centre, sigma = guess
        return np.asarray(
            height * np.exp(-0.5 * ((offsets[near] - centre) / sigma) ** 2)
            - profile[near] / profile.max()
        )

    fit = least_squares(
        misfit, (1.0, 0.0, start), bounds=([0.0, -1.0, 0.05 * start], [2.0, 1.0, 20.0 * start])
    )
    return float(fit.x[2])


@dataclass(frozen=True, eq=False, slots=True)
class SampledShape:
    """A PSF given as an odd, centred array (Z, Y, X) on its own grid."""

    samples: FloatArray
    own_voxel_um: VoxelSizeUm

    @property
    def sigma_um(self) -> tuple[float, float, float]:
        """Standard deviations of Gaussians fitted through the peak."""
        return fitted_sigma_um(self.samples, self.own_voxel_um)

    def radius_px(self, voxel_size_um: VoxelSizeUm, ndim: int) -> tuple[int, int, int]:
        """Return the half widths of the kernel in pixels."""
        z, y, x = (n // 2 for n in self.kernel(voxel_size_um, ndim).shape)
        return (z, y, x)

    def kernel(self, voxel_size_um: VoxelSizeUm, ndim: int) -> FloatArray:
        """Resample to a grid: average the light over coarser voxels, interpolate for finer ones."""
        samples = self.samples.astype(np.float64)
        own = list(self.own_voxel_um)
        target = list(voxel_size_um)
        if ndim == 2:
            centre = samples.shape[0] // 2
            samples = samples[centre : centre + 1]
            own[0] = target[0] = 1.0
        for axis in range(3):
            ratio = target[axis] / own[axis]
            if ratio > 1.0 and samples.shape[axis] > 1:
                # A coarse voxel sees the light of all the fine ones in it.
                samples = _box_average(samples, ratio, axis)
        radii = [
            math.floor((n // 2) * o / t + 1e-6)
            for n, o, t in zip(samples.shape, own, target, strict=True)
        ]
        if math.prod(2 * r + 1 for r in radii) > MAX_KERNEL_VOXELS:
            raise MethodError(
                f"a PSF of {[2 * r + 1 for r in radii]} voxels does not fit into memory; "
                f"check the voxel size {target} µm"
            )
        positions = [
            np.arange(-r, r + 1) * t / o + n // 2
            for r, n, o, t in zip(radii, samples.shape, own, target, strict=True)
        ]
        kernel = ndimage.map_coordinates(
            samples, np.meshgrid(*positions, indexing="ij"), order=1, mode="constant"
        )
        return trimmed(np.clip(kernel, 0.0, None))


def _box_average(
    samples: npt.NDArray[np.float64], width: float, axis: int
) -> npt.NDArray[np.float64]:
    """Average over a window of a fractional number of samples."""
    reach = math.ceil((width - 1.0) / 2.0)
    offsets = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.clip(
        np.minimum(offsets + 0.5, width / 2.0) - np.maximum(offsets - 0.5, -width / 2.0), 0.0, 1.0
    )
    averaged = ndimage.convolve1d(samples, weights / weights.sum(), axis=axis, mode="constant")
    return np.asarray(averaged)
