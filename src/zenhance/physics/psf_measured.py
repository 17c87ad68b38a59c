"""The measured point spread function of a microscope, from a stack of beads.

Subtract the background, locate the beads, drop those too near to the border or to each other, shift
the rest to their centres with sub-voxel precision, and average. The mean bead must exceed the noise
and be fully in view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.physics.psf_base import Psf, PsfValue, VoxelSizeUm
from zenhance.physics.psf_sampled import SampledShape, fitted_sigma_um

__all__ = ["measured"]

Floats = npt.NDArray[np.float64]

MIN_SNR = 8.0
_MAX_BEADS = 64
_REACH_SIGMA = 6.0
_GOOD_REACH_SIGMA = 4.0
_MIN_REACH_SIGMA = 2.0
_RIVAL = 0.25


@dataclass(frozen=True, slots=True)
class _Bead:
    centre_px: tuple[float, float, float]
    peak: float


def _background_and_noise(stack: Floats) -> tuple[float, float]:
    """Return the level around the beads and its scatter: the median, and the spread below it."""
    background = float(np.median(stack))
    below = stack[stack <= background]
    scatter = 1.4826 * float(np.median(background - below))
    # In 8-bit stacks most of the background has one value; the noise is then at least one step.
    levels = np.unique(stack[:: max(1, stack.shape[0] // 16)])
    step = float(np.diff(levels).min()) if levels.size > 1 else 1.0
    return background, max(scatter, step / np.sqrt(12.0))


def _rough_sigma_px(smooth: Floats) -> tuple[float, float, float]:
    """Return the widths of the brightest bead, corrected for the smoothing by one voxel."""
    wide = fitted_sigma_um(smooth, (1.0, 1.0, 1.0))
    z, y, x = (
        float(np.sqrt(max(s**2 - 1.0, 0.25))) if n > 1 else 0.0
        for s, n in zip(wide, smooth.shape, strict=True)
    )
    return (z, y, x)


def _locate(smooth: Floats, floor: float, reach_px: Sequence[int]) -> list[_Bead]:
    """Return the beads wholly in view with no rival nearby, brightest first."""
    near = [2 * r + 1 if n > 1 else 1 for r, n in zip(reach_px, smooth.shape, strict=True)]
    is_peak = (smooth == ndimage.maximum_filter(smooth, size=3, mode="nearest")) & (smooth > floor)
    peaks = np.argwhere(is_peak)
    heights = smooth[tuple(peaks.T)]
    beads = []
    for peak in np.argwhere(
        is_peak & (smooth == ndimage.maximum_filter(smooth, size=near, mode="nearest"))
    ):
        if not all(r <= p < n - r for p, r, n in zip(peak, reach_px, smooth.shape, strict=True)):
            continue
        height = float(smooth[tuple(peak)])
        distance = np.abs(peaks - peak)
        rivals = (
            (distance <= np.array(near) - 1).all(axis=1)
            & (distance > np.array(reach_px) // 2).any(axis=1)
            & (heights > _RIVAL * height)
        )
        if not rivals.any():
            beads.append(_Bead(_centre(smooth, peak, reach_px), height))
    return sorted(beads, key=lambda bead: -bead.peak)[:_MAX_BEADS]


def _centre(
    smooth: Floats, peak: npt.NDArray[np.int64], reach_px: Sequence[int]
) -> tuple[float, float, float]:
    """Return the centroid of the bead above half its height, weighted by the excess."""
    window = tuple(slice(p - r, p + r + 1) for p, r in zip(peak, reach_px, strict=True))
    excess = np.clip(smooth[window] - 0.5 * smooth[tuple(peak)], 0.0, None)
    parts, _ = ndimage.label(excess > 0.0)
    excess[parts != parts[tuple(reach_px)]] = 0.0
    z, y, x = ndimage.center_of_mass(excess)
    return (float(z + window[0].start), float(y + window[1].start), float(x + window[2].start))


def _average(light: Floats, beads: Sequence[_Bead], reach_px: Sequence[int]) -> Floats:
    """Shift each bead to the middle of an odd window and average, weighted by their light."""
    total = np.zeros([2 * r + 1 for r in reach_px])
    offsets = np.meshgrid(
        *(np.arange(-r, r + 1, dtype=np.float64) for r in reach_px), indexing="ij"
    )
    for bead in beads:
        grid = [o + c for o, c in zip(offsets, bead.centre_px, strict=True)]
        total += ndimage.map_coordinates(light, grid, order=3, mode="nearest")
    return total / len(beads)


def _cleaned(average: Floats) -> tuple[Floats, float]:
    """Subtract the remaining background and noise specks; return the bead and its SNR.

    The window's faces give level and noise. The voxels connected to the peak above twice the noise
    are kept; clipping at zero instead would keep half the noise, which adds up over the window.
    """
    faces = [
        np.take(average, index, axis=axis).ravel()
        for axis in range(3)
        if average.shape[axis] > 1
        for index in (0, -1)
    ]
    edge = np.concatenate(faces)
    level = float(np.median(edge))
    noise = max(1.4826 * float(np.median(np.abs(edge - level))), 1e-9 * float(average.max()))
    bead = average - level
    parts, _ = ndimage.label(bead > 2.0 * noise)
    middle = tuple(n // 2 for n in bead.shape)
    kept = np.where(parts == parts[middle], bead, 0.0) if parts[middle] else np.zeros_like(bead)
    return np.asarray(np.clip(kept, 0.0, None)), float(bead[middle]) / noise


def _checked_stack(beads: npt.NDArray[Any]) -> Floats:
    stack = np.asarray(beads, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim != 3 or min(stack.shape[1:]) < 5:
        raise StackError(
            f"a bead image of shape {np.shape(beads)} cannot be used; "
            "give one stack (Z, Y, X) or image (Y, X) of 5 pixels or more"
        )
    if not np.isfinite(stack).all() or stack.max() <= stack.min():
        raise StackError(
            "the bead image is constant or has values that are not finite; "
            "give a stack in which beads can be seen"
        )
    return stack


def measured(beads: npt.NDArray[Any], voxel_size_um: VoxelSizeUm, name: str = "beads") -> Psf:
    """Return the PSF seen in a stack of beads, or in one picture of a PSF.

    Parameters
    ----------
    beads : ndarray (Z, Y, X) or (Y, X)
        Beads much smaller than the PSF, not saturated; one is enough.
    voxel_size_um : tuple of float
        (z, y, x) of that stack; kernels are resampled to the image's voxels.
    name : str
        File or name, for the record.

    Raises
    ------
    StackError
        No bead is fully in view, all are too near to another, or they do not exceed the noise.
    """
    stack = _checked_stack(beads)
    background, noise = _background_and_noise(stack)
    light = stack - background
    smooth = np.asarray(
        ndimage.gaussian_filter(light, [1.0 if n > 1 else 0.0 for n in light.shape], mode="nearest")
    )
    sigma_px = _rough_sigma_px(smooth)
    chosen, reach_px = _choose(smooth, sigma_px, 3.0 * noise)
    bead, snr = _cleaned(_average(light, chosen, reach_px))
    if snr < MIN_SNR:
        raise StackError(
            f'the beads of "{name[-60:]}" stand only {snr:.1f} times above the noise, '
            f"not {MIN_SNR:g}; average longer or use brighter beads"
        )
    samples = (bead / bead.sum()).astype(np.float32)
    samples.setflags(write=False)
    values = (
        PsfValue("beads", float(len(chosen)), "", "user"),
        PsfValue("snr", round(snr, 1), "", "user"),
        PsfValue("file", name, "", "user"),
        PsfValue("voxel_size_um", tuple(float(v) for v in voxel_size_um), "µm", "user"),
    )
    return Psf("measured", values, SampledShape(samples, _triple(voxel_size_um)))


def _triple(voxel_size_um: VoxelSizeUm) -> VoxelSizeUm:
    z, y, x = (float(v) for v in voxel_size_um)
    return (z, y, x)


def _choose(
    smooth: Floats, sigma_px: tuple[float, float, float], noise: float
) -> tuple[list[_Bead], list[int]]:
    """Find beads wholly in view: most with 4 to 6 sigma of margin, else with what there is."""
    floor = max(0.2 * float(smooth.max()), noise)
    best: tuple[list[_Bead], list[int]] = ([], [])
    for factor in np.linspace(_REACH_SIGMA, _MIN_REACH_SIGMA, 9):
        if best[0] and factor < _GOOD_REACH_SIGMA:
            break
        reach = [
            int(np.ceil(factor * s)) if n > 1 else 0
            for s, n in zip(sigma_px, smooth.shape, strict=True)
        ]
        found = _locate(smooth, floor, reach)
        if len(found) > len(best[0]):
            best = (found, reach)
    if best[0]:
        return best
    widths = " x ".join(f"{s:.1f}" for s in sigma_px)
    raise StackError(
        f"no bead is wholly in view and alone: with a standard deviation of {widths} px (z, y, x) "
        "it needs twice that to each side "
        f"in a stack of {smooth.shape}; crop around one bead"
    )
