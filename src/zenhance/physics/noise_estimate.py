"""Noise and background of one image, read off small blocks of each plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError

__all__ = ["Blocks", "background_level", "fit_variance_line", "measure_blocks"]

Floats = npt.NDArray[np.float64]

_BLOCK_PX = 8
_MAX_VOXELS = 2**24
_BINS = 32
_MIN_BLOCKS_PER_BIN = 12
# A plateau of this many voxels at the highest value is the detector's limit, not chance.
_PLATEAU = 1e-5
_UNSATURATED = 0.4
# Differences of neighbours are correlated: 64 of them are worth 64 / (70/36)^2 = 17 independent ones, and the median of a chi-square
# over 17 degrees of freedom lies at (1 - 2 / (9 * 17))^3 of its mean.
_MEDIAN_OF_VARIANCE = (1.0 - 2.0 / (9.0 * 17.0)) ** 3


@dataclass(frozen=True, slots=True)
class Blocks:
    """What is known of each block of 8 x 8 pixels, and of the whole image."""

    mean: Floats
    variance: Floats
    """Of the noise."""
    saturated: npt.NDArray[np.bool_]
    """Whether a voxel is at the detector's upper limit."""
    cut_off: npt.NDArray[np.bool_]
    """Whether all voxels are at the lowest value: nothing can be told of their noise."""
    void: npt.NDArray[np.bool_]
    """Whether the block, or its rim, holds voxels without data: not finite, or padding."""
    low: float
    high: float

    def only(self, kept: npt.NDArray[np.bool_]) -> Blocks:
        """Return the chosen blocks, or all where hardly any is chosen."""
        if kept.sum() < max(2 * _MIN_BLOCKS_PER_BIN, 0.01 * kept.size):
            return self
        return Blocks(
            self.mean[kept],
            self.variance[kept],
            self.saturated[kept],
            self.cut_off[kept],
            self.void[kept],
            self.low,
            self.high,
        )


def _planes(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return at most 16 million voxels in evenly spaced planes (Z, Y, X), mirrored to at least 3 pixels along y and x."""
    stack = np.asarray(volume)
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim != 3 or stack.size == 0:
        raise StackError(
            f"noise is measured on an image (Y, X) or a stack (Z, Y, X), not on an array of shape {np.shape(volume)}"
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

    Padding lies far below the data: the gap above the lowest value is many times the steps that follow. In a stack of single photons
    the lowest value is frequent too, but the steps are all alike.
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
    """Return [1 -2 1] along y times [1 -2 1] along x, over 6: unit gain for white noise, zero for planes and ramps."""
    along_y = plane[:-2] - 2.0 * plane[1:-1] + plane[2:]
    return np.asarray((along_y[:, :-2] - 2.0 * along_y[:, 1:-1] + along_y[:, 2:]) / 6.0)


def _touched(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Tell for each block whether the mask holds anywhere in it."""
    return np.asarray(_block_sums(mask.astype(np.float64), size).ravel() > 0)


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
    rows: list[tuple[npt.NDArray[Any], ...]] = []
    for plane in stack:
        grey = np.nan_to_num(plane.astype(np.float64), nan=low, posinf=high, neginf=low)
        size = (min(_BLOCK_PX, grey.shape[0] - 2), min(_BLOCK_PX, grey.shape[1] - 2))
        void = ~np.isfinite(plane) | (grey == padding)
        if void.any():
            void = ndimage.binary_dilation(void, np.ones((3, 3)))
        inside = grey[1:-1, 1:-1]
        area = size[0] * size[1]
        mean = _block_sums(inside, size).ravel() / area
        variance = _block_sums(_second_difference(grey) ** 2, size).ravel() / area
        rows.append(
            (
                mean,
                variance,
                _touched(inside >= ceiling, size),
                ~_touched(inside > low, size),
                _touched(void[1:-1, 1:-1], size),
            )
        )
    mean, variance, saturated, cut_off, void = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    return Blocks(mean, variance, saturated, cut_off, void, low, high)


def background_level(blocks: Blocks) -> float:
    """Climb from the darkest blocks to the level at which dark blocks crowd together."""
    blocks = blocks.only(~blocks.void)
    order = np.argsort(blocks.mean, kind="stable")
    mean, variance = blocks.mean[order], blocks.variance[order]
    level = float(mean[int(0.02 * (mean.size - 1))])
    for _ in range(20):
        near = mean <= level
        noise = float(np.median(variance[near])) if near.any() else 0.0
        width = 3.0 * np.sqrt(noise) / _BLOCK_PX + 1e-9 * (blocks.high - blocks.low)
        crowd = mean[np.abs(mean - level) <= width]
        new = float(np.median(crowd)) if crowd.size else level
        if abs(new - level) <= 0.01 * width:
            break
        level = new
    return level


def _binned(blocks: Blocks) -> tuple[Floats, Floats, Floats]:
    """Return brightness, variance and number of blocks in bins of brightness: equal in width at the bright end, in number at the dark."""
    edges = np.unique(
        np.concatenate(
            [
                np.quantile(blocks.mean, np.linspace(0.0, 1.0, _BINS // 2 + 1)),
                np.linspace(blocks.mean.min(), blocks.mean.max(), _BINS // 2 + 1),
            ]
        )
    )
    which = np.clip(
        np.searchsorted(edges, blocks.mean, side="right") - 1, 0, max(edges.size - 2, 0)
    )
    rows = []
    for index in np.unique(which):
        member = which == index
        chosen = member & ~blocks.saturated
        number = int(chosen.sum())
        # Where saturation picks out many blocks of one brightness, those left are the ones whose noise happened to be small.
        if number >= max(_MIN_BLOCKS_PER_BIN, _UNSATURATED * member.sum()):
            rows.append(
                (
                    float(blocks.mean[chosen].mean()),
                    float(np.median(blocks.variance[chosen])) / _MEDIAN_OF_VARIANCE,
                    float(number),
                )
            )
    if not rows:
        rows = [
            (float(blocks.mean.mean()), float(np.median(blocks.variance)), float(blocks.mean.size))
        ]
    brightness, variance, number_of = np.array(rows).T
    return brightness, variance, number_of


def fit_variance_line(blocks: Blocks) -> tuple[float, float]:
    """Return slope and intercept of the variance over brightness; the slope is 0 or more.

    Weighted least squares, weights 1 / variance^2 as a variance scatters in proportion to itself; bins that lie off the line are given
    less and less weight (Cauchy), more so above it, where structure is.
    """
    brightness, variance, number = _binned(blocks.only(~(blocks.void | blocks.cut_off)))
    if brightness.size < 2 or brightness[-1] - brightness[0] <= 1e-12 * max(
        abs(brightness[-1]), 1.0
    ):
        return 0.0, float(np.average(variance, weights=number))
    top = float(variance.max())
    if top < 1e-300:
        return 0.0, 0.0
    variance = variance / top
    trust = np.ones_like(variance)
    scale = np.maximum(variance, 1e-3)
    slope, intercept = 0.0, float(np.median(variance))
    for _ in range(30):
        weight = trust * np.sqrt(number) / scale**2
        slope, intercept = _weighted_line(brightness, variance, weight)
        line = np.maximum(slope * brightness + intercept, 1e-3)
        off = variance / line - 1.0
        spread = max(1.4826 * float(np.median(np.abs(off))), 0.02)
        trust = 1.0 / (1.0 + (off / (spread * np.where(off > 0.0, 1.5, 3.0))) ** 2)
        scale = line
    return slope * top, intercept * top


def _weighted_line(x: Floats, y: Floats, weight: Floats) -> tuple[float, float]:
    total = weight.sum()
    x_mean, y_mean = float((weight * x).sum() / total), float((weight * y).sum() / total)
    bend = float((weight * (x - x_mean) ** 2).sum())
    slope = (
        max(float((weight * (x - x_mean) * (y - y_mean)).sum()) / bend, 0.0) if bend > 0.0 else 0.0
    )
    return slope, y_mean - slope * x_mean
