"""Noise and background of one image, read off small blocks of each plane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import StackError

__all__ = ["Blocks", "background_level", "fit_variance_line", "measure_blocks"]

Floats = npt.NDArray[np.float64]

_BLOCK_PX = 8
_MAX_VOXELS = 2**24
_BINS = 32
_MIN_BLOCKS_PER_BIN = 12
# A plateau of this many voxels at the highest value is the detector's limit, not chance.
_PLATEAU = 1e-5
# Differences of neighbours are correlated: 64 of them are worth 64 / (70/36)^2 = 17 independent ones, and the median of a chi-square
# over 17 degrees of freedom lies at (1 - 2 / (9 * 17))^3 of its mean.
_MEDIAN_OF_VARIANCE = (1.0 - 2.0 / (9.0 * 17.0)) ** 3


@dataclass(frozen=True, slots=True)
class Blocks:
    """Mean, variance of the noise, and contact with the detector's limits, for each block of 8 x 8 pixels."""

    mean: Floats
    variance: Floats
    clipped: npt.NDArray[np.bool_]
    low: float
    high: float

    def without_clipped(self) -> Blocks:
        """Return the blocks away from the limits, or all where hardly any is."""
        kept = ~self.clipped
        if kept.sum() < max(2 * _MIN_BLOCKS_PER_BIN, 0.01 * kept.size):
            return self
        return replace(self, mean=self.mean[kept], variance=self.variance[kept], clipped=self.clipped[kept])


def _planes(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return at most 16 million voxels in evenly spaced planes (Z, Y, X), mirrored to at least 3 pixels along y and x."""
    stack = np.asarray(volume)
    stack = stack[None] if stack.ndim == 2 else stack
    if stack.ndim != 3 or stack.size == 0:
        raise StackError(f"noise is measured on an image (Y, X) or a stack (Z, Y, X), not on an array of shape {np.shape(volume)}")
    count = max(1, min(stack.shape[0], _MAX_VOXELS // (stack.shape[1] * stack.shape[2])))
    stack = stack[np.unique(np.linspace(0, stack.shape[0] - 1, count).round().astype(int))]
    short = [max(0, 3 - n) for n in stack.shape[1:]]
    return np.pad(stack, [(0, 0), (0, short[0]), (0, short[1])], mode="symmetric") if any(short) else stack


def _ceiling(stack: npt.NDArray[Any], high: float) -> float:
    """Return the grey value at which the detector was saturated, inf where it was not."""
    return high if np.count_nonzero(stack == high) > max(4.0, _PLATEAU * stack.size) else np.inf


def _block_sums(image: Floats, size: tuple[int, int]) -> Floats:
    """Add up blocks of a plane; a remainder at the far edge is left out."""
    rows, columns = image.shape[0] // size[0], image.shape[1] // size[1]
    cut = image[: rows * size[0], : columns * size[1]]
    return np.asarray(cut.reshape(rows, size[0], columns, size[1]).sum(axis=(1, 3)))


def _second_difference(plane: Floats) -> Floats:
    """Return [1 -2 1] along y times [1 -2 1] along x, over 6: unit gain for white noise, zero for planes and ramps."""
    along_y = plane[:-2] - 2.0 * plane[1:-1] + plane[2:]
    return np.asarray((along_y[:, :-2] - 2.0 * along_y[:, 1:-1] + along_y[:, 2:]) / 6.0)


def measure_blocks(volume: npt.NDArray[Any]) -> Blocks:
    """Measure all blocks of a stack (Z, Y, X) or image (Y, X); voxels that are not finite count as the lowest finite one."""
    stack = _planes(volume)
    finite = np.isfinite(stack)
    if not finite.any():
        raise StackError("the image has no finite voxel, so its noise cannot be measured; check the file")
    low, high = float(stack[finite].min()), float(stack[finite].max())
    ceiling = _ceiling(stack, high)
    means, variances, clipped = [], [], []
    for plane in stack:
        grey = np.nan_to_num(plane.astype(np.float64), nan=low, posinf=high, neginf=low)
        size = (min(_BLOCK_PX, grey.shape[0] - 2), min(_BLOCK_PX, grey.shape[1] - 2))
        area = size[0] * size[1]
        inside = grey[1:-1, 1:-1]
        means.append(_block_sums(inside, size).ravel() / area)
        variances.append(_block_sums(_second_difference(grey) ** 2, size).ravel() / area)
        saturated = _block_sums((inside >= ceiling).astype(np.float64), size).ravel() > 0
        # A block all at the lowest value was cut off there, or holds no data at all. Single voxels at the lowest value are kept: where
        # photons are few, most voxels saw none.
        clipped.append(saturated | (_block_sums((inside > low).astype(np.float64), size).ravel() == 0))
    return Blocks(np.concatenate(means), np.concatenate(variances), np.concatenate(clipped), low, high)


def background_level(blocks: Blocks) -> float:
    """Climb from the darkest blocks to the level at which dark blocks crowd together."""
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
    which = np.clip(np.searchsorted(edges, blocks.mean, side="right") - 1, 0, max(edges.size - 2, 0))
    rows = []
    for index in np.unique(which):
        chosen = which == index
        number = int(chosen.sum())
        if number >= _MIN_BLOCKS_PER_BIN:
            rows.append((float(blocks.mean[chosen].mean()), float(np.median(blocks.variance[chosen])) / _MEDIAN_OF_VARIANCE, float(number)))
    if not rows:
        rows = [(float(blocks.mean.mean()), float(np.median(blocks.variance)), float(blocks.mean.size))]
    brightness, variance, number_of = np.array(rows).T
    return brightness, variance, number_of


def fit_variance_line(blocks: Blocks) -> tuple[float, float]:
    """Return slope and intercept of the variance over brightness; the slope is 0 or more.

    Weighted least squares, weights 1 / variance^2 as a variance scatters in proportion to itself; bins that lie off the line are given
    less and less weight (Cauchy), more so above it, where structure is.
    """
    brightness, variance, number = _binned(blocks)
    if brightness.size < 2 or brightness[-1] - brightness[0] <= 1e-12 * max(abs(brightness[-1]), 1.0):
        return 0.0, float(np.average(variance, weights=number))
    trust = np.ones_like(variance)
    scale = np.maximum(variance, 1e-3 * max(float(variance.max()), 1e-300))
    slope, intercept = 0.0, float(np.median(variance))
    for _ in range(30):
        weight = trust * np.sqrt(number) / scale**2
        slope, intercept = _weighted_line(brightness, variance, weight)
        line = np.maximum(slope * brightness + intercept, 1e-3 * max(float(variance.max()), 1e-300))
        off = variance / line - 1.0
        spread = max(1.4826 * float(np.median(np.abs(off))), 0.02)
        trust = 1.0 / (1.0 + (off / (spread * np.where(off > 0.0, 1.5, 3.0))) ** 2)
        scale = line
    return slope, intercept


def _weighted_line(x: Floats, y: Floats, weight: Floats) -> tuple[float, float]:
    total = weight.sum()
    x_mean, y_mean = float((weight * x).sum() / total), float((weight * y).sum() / total)
    bend = float((weight * (x - x_mean) ** 2).sum())
    slope = max(float((weight * (x - x_mean) * (y - y_mean)).sum()) / bend, 0.0) if bend > 0.0 else 0.0
    return slope, y_mean - slope * x_mean
