"""Statistics of small blocks of an image, from which its noise is estimated.

A second difference along both axes leaves the noise of a pixel and hardly any of the structure that
the microscope has blurred. Each block of 8 x 8 pixels has its brightness, variance and third
cumulant of the noise, and its roughness.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError

__all__ = [
    "BLOCK_PX",
    "MIN_BLOCKS",
    "NOISY_ROUGHNESS",
    "Blocks",
    "Floats",
    "Mask",
    "measure_blocks",
]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BLOCK_PX = 8
MIN_BLOCKS = 12
"""Blocks of one brightness that are enough to measure its noise."""
NOISY_ROUGHNESS = 2.4
"""97 % of the blocks of white noise of variance 1 have less than this roughness."""
_MAX_VOXELS = 2**24
# A plateau of this many voxels at the highest value is the detector's limit, not chance.
_PLATEAU = 1e-5
# So many of the lowest voxels may be dead pixels.
_DEAD_PIXELS = 2


@dataclass(frozen=True, slots=True)
class Blocks:
    """Statistics of each block of 8 x 8 pixels, and of the whole image."""

    mean: Floats
    variance: Floats
    """Of the noise."""
    near: Floats
    """Squared differences of neighbouring pixels, slopes removed."""
    far: Floats
    """The same, three pixels apart."""
    third: Floats
    """Third cumulant of the noise."""
    roughness: Floats
    """Contrast of the block at a scale that noise hardly reaches."""
    saturated: Mask
    """Whether a voxel is at the detector's upper limit."""
    cut_off: Mask
    """Whether all voxels are at the lowest value, where no noise is left."""
    void: Mask
    """Whether the block, or its rim, holds voxels without data: not finite, or padding."""
    low: float
    high: float
    lowest: float
    """Third lowest measured voxel, the lowest of a small image: no dead pixel, no padding."""
    voxels: int
    """How many were measured."""
    whole: bool
    """Whether the grey values are whole numbers."""
    clipped: float
    """Share of the voxels at the lowest value."""
    saturation: float
    """Share of the voxels at the highest value, where they form a plateau."""
    blocking: float
    """Contrast across multiples of 8 pixels relative to other places; 1 without compression."""

    def only(self, kept: Mask) -> Blocks:
        """Return the chosen blocks, or all where hardly any is chosen."""
        if kept.sum() < max(2 * MIN_BLOCKS, 0.01 * kept.size):
            return self
        return replace(self, **{name: getattr(self, name)[kept] for name in _PER_BLOCK})


_PER_BLOCK = (
    "mean",
    "variance",
    "near",
    "far",
    "third",
    "roughness",
    "saturated",
    "cut_off",
    "void",
)


def _planes(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return at most 16 million voxels in evenly spaced planes (Z, Y, X), at least 3 px wide."""
    stack = np.asarray(volume)
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim != 3 or stack.size == 0:
        raise StackError(
            "noise is measured on an image (Y, X) or a stack (Z, Y, X), not on an array of shape "
            f"{np.shape(volume)}"
        )
    count = max(1, min(stack.shape[0], _MAX_VOXELS // (stack.shape[1] * stack.shape[2])))
    stack = stack[np.unique(np.linspace(0, stack.shape[0] - 1, count).round().astype(int))]
    short = [max(0, 3 - n) for n in stack.shape[1:]]
    return (
        np.pad(stack, [(0, 0), (0, short[0]), (0, short[1])], mode="symmetric")
        if any(short)
        else stack
    )


def _ceiling(stack: npt.NDArray[Any], high: float) -> float:
    """Return the grey value at which the detector was saturated, inf where it was not."""
    return high if np.count_nonzero(stack == high) > max(4.0, _PLATEAU * stack.size) else np.inf


def _padding(stack: npt.NDArray[Any], low: float) -> float:
    """Return the value that a registered stack is padded with, NaN where it is not.

    Padding is far below the data: the gap above the lowest value is many times the steps that
    follow. In a stack of single photons the lowest value is frequent too, but all steps are alike.
    """
    step = max(1, round((stack.size / 500_000) ** 0.5))
    levels, counts = np.unique(stack[:, ::step, ::step], return_counts=True)
    finite = np.isfinite(levels)
    levels, counts = levels[finite].astype(np.float64), counts[finite]
    if levels.size < 12 or levels[0] != low or counts[0] < 0.005 * counts.sum():
        return np.nan
    return low if levels[1] - levels[0] > 5.0 * (levels[11] - levels[1]) / 10.0 else np.nan


def _block_sums(image: Floats, size: tuple[int, int]) -> Floats:
    """Add up blocks of a plane; a remainder at the far edge is left out."""
    rows, columns = image.shape[0] // size[0], image.shape[1] // size[1]
    cut = image[: rows * size[0], : columns * size[1]]
    return np.asarray(cut.reshape(rows, size[0], columns, size[1]).sum(axis=(1, 3)))


def _second_difference(plane: Floats) -> Floats:
    """Return [1 -2 1] along y times [1 -2 1] along x, over 6: white noise keeps its variance."""
    along_y = plane[:-2] - 2.0 * plane[1:-1] + plane[2:]
    return np.asarray((along_y[:, :-2] - 2.0 * along_y[:, 1:-1] + along_y[:, 2:]) / 6.0)


def _roughness(inside: Floats, size: tuple[int, int]) -> Floats:
    """Return for each block the largest squared steps between the means of its quarters."""
    if min(size) < 2:
        return np.zeros((inside.shape[0] // size[0], inside.shape[1] // size[1]))
    half = (size[0] // 2, size[1] // 2)
    quarter = _block_sums(inside, half) / (half[0] * half[1])
    steps = np.zeros_like(quarter)
    for axis in (0, 1):
        square = np.diff(quarter, axis=axis) ** 2
        before = [(0, 0), (0, 0)]
        after = [(0, 0), (0, 0)]
        before[axis], after[axis] = (1, 0), (0, 1)
        steps += np.pad(square, before, mode="edge") + np.pad(square, after, mode="edge")
    rows, columns = inside.shape[0] // size[0], inside.shape[1] // size[1]
    down, across = size[0] // half[0], size[1] // half[1]
    cut = steps[: rows * down, : columns * across]
    return np.asarray(cut.reshape(rows, down, columns, across).max(axis=(1, 3)))


def _touched(mask: Mask, size: tuple[int, int]) -> Mask:
    """Return for each block whether the mask holds anywhere in it."""
    return np.asarray(_block_sums(mask.astype(np.float64), size).ravel() > 0)


def _lagged(grey: Floats, lag: int) -> Floats:
    """Return squared differences of pixels ``lag`` apart along x as (Y - 2, X - 2)."""
    if grey.shape[1] <= lag:
        return np.zeros((grey.shape[0] - 2, grey.shape[1] - 2))
    step = grey[:, lag:] - grey[:, :-lag]
    square = (step[2:] - 2.0 * step[1:-1] + step[:-2]) ** 2
    wide = np.pad(square, [(0, 0), (0, lag)], mode="edge")
    return np.asarray(wide[:, : grey.shape[1] - 2])


def _border_steps(grey: Floats) -> Floats:
    """Return sum and number of third differences at each of 8 columns, (8, 2)."""
    found = np.zeros((8, 2))
    if grey.shape[1] < 32:
        return found
    column = np.abs(np.diff(grey, 3, axis=1)).mean(axis=0)
    # Element i is centred on the border between pixels i + 1 and i + 2.
    phase = (np.arange(column.size) + 2) % 8
    for p in range(8):
        found[p] = column[phase == p].sum(), (phase == p).sum()
    return found


def _of_blocks(grey: Floats, void: Mask, ceiling: float, low: float) -> tuple[Any, ...]:
    """Return the statistics of the blocks of a plane, in the order of :data:`_PER_BLOCK`."""
    size = (min(BLOCK_PX, grey.shape[0] - 2), min(BLOCK_PX, grey.shape[1] - 2))
    if void.any():
        void = ndimage.binary_dilation(void, np.ones((3, 3)))
    inside = grey[1:-1, 1:-1]
    area = size[0] * size[1]
    difference = _second_difference(grey)
    square = difference * difference
    return (
        _block_sums(inside, size).ravel() / area,
        _block_sums(square, size).ravel() / area,
        _block_sums(_lagged(grey, 1), size).ravel(),
        _block_sums(_lagged(grey, 3), size).ravel(),
        6.0 * _block_sums(square * difference, size).ravel() / area,
        _roughness(inside, size).ravel(),
        _touched(inside >= ceiling, size),
        ~_touched(inside > low, size),
        _touched(void[1:-1, 1:-1], size),
    )


def measure_blocks(volume: npt.NDArray[Any]) -> Blocks:
    """Measure all blocks of a stack (Z, Y, X) or image (Y, X)."""
    stack = _planes(volume)
    finite = np.isfinite(stack)
    if not finite.any():
        raise StackError(
            "the image has no finite voxel, so its noise cannot be measured; check the file"
        )
    low, high = float(stack[finite].min()), float(stack[finite].max())
    ceiling, padding = _ceiling(stack, high), _padding(stack, low)
    rows: list[tuple[Any, ...]] = []
    steps = np.zeros((8, 2))
    for plane in stack:
        grey = np.nan_to_num(plane.astype(np.float64), nan=low, posinf=high, neginf=low)
        void = ~np.isfinite(plane) | (grey == padding)
        rows.append(_of_blocks(grey, void, ceiling, low))
        steps += _border_steps(grey)
    columns: list[Any] = [np.concatenate(column) for column in zip(*rows, strict=True)]
    measured = stack[finite & (stack != padding)]
    sample = stack[finite] if stack.size < 2**20 else stack[finite][:: stack.size // 2**19]
    return Blocks(
        **dict(zip(_PER_BLOCK, columns, strict=True)),
        low=low,
        high=high,
        lowest=_lowest(measured),
        voxels=measured.size,
        whole=bool((sample == np.rint(sample)).all()),
        clipped=float(np.count_nonzero(stack == low)) / stack.size,
        saturation=float(np.count_nonzero(stack >= ceiling)) / stack.size,
        blocking=_blocking(steps),
    )


def _lowest(measured: npt.NDArray[Any]) -> float:
    """Return the lowest voxel, except for a few dead pixels where there are many voxels."""
    few = min(_DEAD_PIXELS, measured.size // 2**12)
    return float(np.partition(measured, few)[few])


def _blocking(steps: Floats) -> float:
    """Return the step across multiples of 8 pixels relative to the median of the others."""
    if steps.min() <= 0.0:
        return 1.0
    mean = steps[:, 0] / steps[:, 1]
    return float(mean[0] / np.median(mean[1:]))
