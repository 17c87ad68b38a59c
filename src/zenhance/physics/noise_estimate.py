"""Noise, offset and background of one image, from the photon transfer of its flattest blocks.

The variance of a camera's noise is a line over brightness. Its slope is the gain, and it is zero
at ``offset - read_noise^2 / gain``. The third cumulant of the noise is a line too,
``gain^2 (mean - offset)``, because read noise is symmetric. Where there is enough light, it
separates the offset from the read noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.errors import StackError

__all__ = [
    "FILTERED",
    "Blocks",
    "CameraFit",
    "Spread",
    "background_level",
    "fit_camera",
    "measure_blocks",
]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_BLOCK_PX = 8
_MAX_VOXELS = 2**24
_BINS = 32
_MIN_BLOCKS_PER_BIN = 12
# A plateau of this many voxels at the highest value is the detector's limit, not chance.
_PLATEAU = 1e-5
_UNSATURATED = 0.4
_FLATTEST = 0.35
"""Share of the blocks of one brightness that are flat enough to show noise, not structure."""
_NOISY = 2.4
"""97 % of the blocks of white noise of variance 1 have less than this roughness."""
_GROUP = 8
"""Blocks whose variances are averaged before the median is taken."""
_SYSTEMATIC = 0.03
"""Relative error that structure leaves in a variance, however many blocks there are."""
MAX_PHOTONS = 1e4
"""Photons of the brightest structures where the image shows no noise at all."""
ROUNDING = 1.0 / 12.0
"""Variance of rounding to whole grey values."""


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
        if kept.sum() < max(2 * _MIN_BLOCKS_PER_BIN, 0.01 * kept.size):
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


@dataclass(frozen=True, slots=True)
class Spread:
    """A number and its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CameraFit:
    """Gain, offset, read noise and background with intervals, and what is wrong with the data."""

    gain: Spread
    offset: Spread
    read_noise: Spread
    background: Spread
    slope: float
    """Of the variance over brightness."""
    intercept: float
    """Variance at brightness 0."""
    determined: bool
    """Whether the image shows noise at all."""
    dark: bool
    """Whether the image has a flat dark region."""
    whiteness: float
    """Differences of neighbours relative to distant ones: 1 for independent noise, NaN unknown."""
    remarks: tuple[str, ...] = ()


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
    steps = np.zeros((8, 2))
    for plane in stack:
        grey = np.nan_to_num(plane.astype(np.float64), nan=low, posinf=high, neginf=low)
        size = (min(_BLOCK_PX, grey.shape[0] - 2), min(_BLOCK_PX, grey.shape[1] - 2))
        void = ~np.isfinite(plane) | (grey == padding)
        if void.any():
            void = ndimage.binary_dilation(void, np.ones((3, 3)))
        inside = grey[1:-1, 1:-1]
        area = size[0] * size[1]
        difference = _second_difference(grey)
        rows.append(
            (
                _block_sums(inside, size).ravel() / area,
                _block_sums(difference**2, size).ravel() / area,
                _block_sums(_lagged(grey, 1), size).ravel(),
                _block_sums(_lagged(grey, 3), size).ravel(),
                6.0 * _block_sums(difference**3, size).ravel() / area,
                _roughness(inside, size).ravel(),
                _touched(inside >= ceiling, size),
                ~_touched(inside > low, size),
                _touched(void[1:-1, 1:-1], size),
            )
        )
        steps += _border_steps(grey)
    columns: list[Any] = [np.concatenate(column) for column in zip(*rows, strict=True)]
    sample = stack[finite] if stack.size < 2**20 else stack[finite][:: stack.size // 2**19]
    return Blocks(
        **dict(zip(_PER_BLOCK, columns, strict=True)),
        low=low,
        high=high,
        whole=bool((sample == np.rint(sample)).all()),
        clipped=float(np.count_nonzero(stack == low)) / stack.size,
        saturation=float(np.count_nonzero(stack >= ceiling)) / stack.size,
        blocking=_blocking(steps),
    )


def _blocking(steps: Floats) -> float:
    """Return the step across multiples of 8 pixels relative to the median of the others."""
    if steps.min() <= 0.0:
        return 1.0
    mean = steps[:, 0] / steps[:, 1]
    return float(mean[0] / np.median(mean[1:]))


def background_level(blocks: Blocks) -> float:
    """Return the grey value without specimen: the dark crowd's, else the photon transfer's."""
    return fit_camera(blocks).background.value


def _dark_crowd(blocks: Blocks) -> tuple[float, float] | None:
    """Return the level at which the darkest blocks crowd together and its scatter, or None.

    A region without specimen is one level: hardly a block is darker than its noise allows. Where
    tissue fills the field, blocks of every darkness are found below any such level.
    """
    order = np.argsort(blocks.mean, kind="stable")
    mean, variance = blocks.mean[order], blocks.variance[order]
    level = float(mean[int(0.02 * (mean.size - 1))])
    width = 0.0
    for _ in range(20):
        near = mean <= level
        noise = float(np.mean(variance[near])) if near.any() else 0.0
        width = 3.0 * np.sqrt(noise) / _BLOCK_PX + 1e-9 * (blocks.high - blocks.low)
        crowd = mean[np.abs(mean - level) <= width]
        new = float(np.median(crowd)) if crowd.size else level
        done = abs(new - level) <= 0.01 * width
        level = new
        if done:
            break
    crowd = mean[np.abs(mean - level) <= width]
    below = int(np.count_nonzero(mean < level - width))
    if crowd.size < max(_MIN_BLOCKS_PER_BIN, MIN_DARK * mean.size):
        return None
    lower = int(np.count_nonzero(crowd < level - width / 3.0))
    upper = int(np.count_nonzero(crowd > level + width / 3.0))
    if below > MAX_DARKER * crowd.size or lower > 0.35 * crowd.size or upper > 0.35 * crowd.size:
        return None
    return level, width / 3.0


MIN_DARK = 0.02
"""Share of the blocks that a dark region must have to be believed."""
MAX_DARKER = 0.1
"""Blocks darker than a dark region's noise allows, relative to the region."""


@dataclass(frozen=True, slots=True)
class _Bins:
    """Photon transfer: one row a brightness."""

    brightness: Floats
    variance: Floats
    variance_error: Floats
    third: Floats
    third_error: Floats


def _binned(blocks: Blocks) -> _Bins:
    """Collect the flattest blocks of like brightness.

    Bins are equal in number at the dark end and equal in width at the bright end.
    """
    mean = blocks.mean
    even = np.linspace(0.0, 1.0, _BINS // 2 + 1)
    edges = np.unique(
        np.concatenate([np.quantile(mean, even), mean.min() + even * (mean.max() - mean.min())])
    )
    which = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, max(edges.size - 2, 0))
    rows = []
    for index in np.unique(which):
        member = np.flatnonzero(which == index)
        chosen = member[~blocks.saturated[member]]
        # Where saturation takes most blocks of a bin, those left have little noise by chance.
        if chosen.size >= max(_MIN_BLOCKS_PER_BIN, _UNSATURATED * member.size):
            rows.append(_row(blocks, chosen))
    if not rows:
        rows = [_row(blocks, np.arange(mean.size))]
    return _Bins(*np.array(rows).T)


def _row(blocks: Blocks, chosen: npt.NDArray[np.intp]) -> tuple[float, ...]:
    """Return brightness, variance and third cumulant of a bin's flattest blocks, with errors."""
    roughness = blocks.roughness[chosen]
    order = np.argsort(roughness, kind="stable")
    fewest = max(_MIN_BLOCKS_PER_BIN, round(_FLATTEST * chosen.size))
    noise = float(blocks.variance[chosen[order[:fewest]]].mean())
    keep = max(fewest, int(np.searchsorted(roughness[order], _NOISY * noise)))
    flat = np.sort(chosen[order[:keep]])
    brightness = float(blocks.mean[flat].mean())
    variance = _median_of_means(blocks.variance[flat])
    # 64 correlated squares of differences are worth 17 independent ones.
    error = np.hypot(variance * np.sqrt(2.0 / 17.0 / flat.size) * 1.25, _SYSTEMATIC * variance)
    third = blocks.third[flat]
    scatter = float(third.std()) / np.sqrt(third.size) if third.size > 1 else np.inf
    return brightness, variance, float(error), _median_of_means(third), 1.5 * scatter


def _median_of_means(values: Floats) -> float:
    """Return the median over groups of their mean: robust, and unbiased for rare photons."""
    groups = max(1, values.size // _GROUP)
    if groups < 3:
        return float(values.mean())
    # Neighbours in the image land in different groups.
    cut = values[: groups * _GROUP].reshape(_GROUP, groups)
    return float(np.median(cut.mean(axis=0)))


def _fit_line(
    bins: _Bins, prior: tuple[float, float, float], floor: float
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Return slope and intercept of the variance over brightness, and their covariance.

    Bins off the line lose weight (Cauchy), sooner above it, where structure is. ``prior`` is a
    brightness, the variance expected there and its standard deviation.
    """
    x = np.append(bins.brightness, prior[0])
    y = np.append(bins.variance, prior[1])
    relative = np.append(bins.variance_error / np.maximum(bins.variance, 1e-300), 0.0)
    centre, width = float(bins.brightness.mean()), max(float(np.ptp(x)), 1e-300)
    design = np.stack([(x - centre) / width, np.ones_like(x)], axis=1)
    model, trust = np.maximum(y, floor), np.ones_like(y)
    found, covariance = np.zeros(2), np.eye(2)
    for _ in range(30):
        error = np.maximum(relative * np.maximum(model, floor), 1e-9 * floor)
        error[-1] = prior[2]
        weight = trust / error**2
        covariance = np.linalg.pinv(design.T @ (weight[:, None] * design))
        found = covariance @ (design.T @ (weight * y))
        if found[0] < 0.0:
            found = np.array([0.0, float((weight[:-1] * y[:-1]).sum() / weight[:-1].sum())])
        model = design @ found
        off = (y - model) / error
        spread = np.where(off > 0.0, 2.0, 4.0)
        trust = 1.0 / (1.0 + (off / spread) ** 2)
        trust[-1] = 1.0
    back = np.array([[1.0 / width, 0.0], [-centre / width, 1.0]])
    misfit = max(1.0, float(np.average(off[:-1] ** 2, weights=trust[:-1])))
    return back @ found, back @ covariance @ back.T * misfit


def fit_camera(blocks: Blocks, offset: float | None = None) -> CameraFit:
    """Fit gain, offset, read noise and background.

    Parameters
    ----------
    blocks : Blocks
        From :func:`measure_blocks`.
    offset : float, optional
        Grey value without light, where it is known.
    """
    usable = blocks.only(~blocks.void)
    crowd = _dark_crowd(usable)
    bins = _binned(usable.only(~usable.cut_off))
    floor = ROUNDING if blocks.whole else max(1e-12 * (blocks.high - blocks.low) ** 2, 1e-290)
    top = crowd[0] if crowd else _darkest(usable)
    determined = _shows_noise(blocks, usable, bins)
    span = max(blocks.high - blocks.low, 0.0)
    bright = float(np.quantile(usable.mean, 0.999)) - top
    least = 1e-6 * span if span > 0.0 else 1e-6
    if not determined:
        return _guess(blocks, usable, crowd, (top, bright, least), offset)
    start = top - 0.5 * max(bright, 0.0)
    line, covariance = _fit_line(
        bins, (start, floor, 2.0 * float(bins.variance.max()) + floor), floor
    )
    slope, intercept = max(float(line[0]), least), float(line[1])
    at_top = slope * top + intercept
    if at_top < floor:
        # The darkest blocks have some noise at least: the line must not cross zero above them.
        intercept = floor - slope * top
    calm = 2.0 * slope + (3.0 if blocks.whole else 0.0)
    stray = 2.0 * slope if crowd else np.inf
    reach = 1.0 / (1.0 / max(bright, least) + 1.0 / stray)
    draws = _draws((slope, intercept), covariance, bins, (top, reach, calm), offset)
    gain_error = 1.645 * float(np.sqrt(covariance[0, 0]))
    dark_value = Spread(*draws[0])
    if crowd is None:
        # Unsigned data are not darker than 0, whatever the line says.
        level = max(dark_value.value, 0.0) if blocks.low >= 0.0 else dark_value.value
        back = Spread(level, min(dark_value.low, level), max(level, top))
    else:
        level, width = crowd[0], 1.645 * crowd[1]
        back = Spread(level, level - width, level + width)
    return CameraFit(
        gain=Spread(slope, max(slope - gain_error, least), slope + gain_error),
        offset=dark_value,
        read_noise=Spread(*draws[1]),
        background=back,
        slope=slope,
        intercept=intercept,
        determined=True,
        dark=crowd is not None,
        whiteness=_whiteness(usable),
        remarks=_remarks(blocks, usable, True),
    )


def _darkest(blocks: Blocks) -> float:
    """Return the brightness of the darkest percent, less what noise alone makes darker."""
    level = float(np.quantile(blocks.mean, 0.01))
    dark = blocks.mean <= np.quantile(blocks.mean, 0.05)
    return level + 2.0 * float(np.sqrt(blocks.variance[dark].mean())) / _BLOCK_PX


def _guess(
    blocks: Blocks,
    usable: Blocks,
    crowd: tuple[float, float] | None,
    scale: tuple[float, float, float],
    offset: float | None,
) -> CameraFit:
    """Return a camera for an image without noise: as many photons as a good stack has."""
    top, bright, least = scale
    gain = max(bright / MAX_PHOTONS, least)
    level = min(top, blocks.low) if crowd is None else top
    dark = level if offset is None else offset
    read = float(np.sqrt(ROUNDING)) if blocks.whole and blocks.high > blocks.low else 0.0
    return CameraFit(
        gain=Spread(gain, 0.01 * gain, 100.0 * gain),
        offset=Spread(dark, min(dark, 0.0), max(dark, top)),
        read_noise=Spread(read, 0.0, read),
        background=Spread(level, min(level, blocks.low), max(level, top)),
        slope=gain,
        intercept=read**2 - gain * dark,
        determined=False,
        dark=crowd is not None,
        whiteness=_whiteness(usable),
        remarks=_remarks(blocks, usable, False),
    )


def _draws(
    line: tuple[float, float],
    covariance: Floats,
    bins: _Bins,
    prior: tuple[float, float, float],
    known: float | None,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return offset and read noise as (value, low, high).

    For each line that the photon transfer allows, the offset runs from its zero (no read noise) to
    the darkest level (no stray light). The third cumulants decide where there is enough light; else
    ``prior`` does: the darkest level, how far below it the offset typically is, and a typical read
    noise.
    """
    top, reach, calm = prior
    rng = np.random.Generator(np.random.Philox(0))
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    power, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = scale[:, None] * axes * np.sqrt(np.maximum(power, 0.0))
    lines = np.asarray(line) + rng.standard_normal((128, 2)) @ root.T
    lines[0] = line
    share = (np.arange(64) + 0.5) / 64.0
    offsets, reads, costs = [], [], []
    for slope, intercept in lines[lines[:, 0] > 0.0]:
        read = share * np.sqrt(max(slope * top + intercept, 0.0))
        offset = (read**2 - intercept) / slope
        if known is not None:
            offset = np.full_like(read, known)
            read = np.full_like(read, np.sqrt(max(slope * known + intercept, 0.0)))
        precision = (slope**2 / np.maximum(bins.third_error, 1e-9 * slope**2)) ** 2
        misfit = precision * (offset[:, None] - bins.brightness + bins.third / slope**2) ** 2
        # No single bin decides: structure has third cumulants too.
        cost = 0.5 * np.minimum(misfit, 9.0).sum(axis=1)
        offsets.append(offset)
        reads.append(read)
        costs.append(cost + np.maximum(top - offset, 0.0) / reach + read / calm)
    if not offsets:
        at = top if known is None else known
        read = float(np.sqrt(max(line[1] + line[0] * at, 0.0)))
        return (at, at, at), (read, read, read)
    cost = np.concatenate(costs)
    weight = np.exp(cost.min() - cost)
    return (
        _quantiles(np.concatenate(offsets), weight),
        _quantiles(np.concatenate(reads), weight),
    )


def _quantiles(values: Floats, weight: Floats) -> tuple[float, float, float]:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order])
    share /= share[-1]
    ranked = values[order]
    middle, low, high = (
        float(ranked[min(int(np.searchsorted(share, q)), values.size - 1)])
        for q in (0.5, 0.05, 0.95)
    )
    return middle, low, high


def _whiteness(blocks: Blocks) -> float:
    """Return squared differences of neighbours over those three pixels apart: 1 for white noise."""
    lively = (blocks.far > 0.0) & ~blocks.saturated & ~blocks.cut_off
    if lively.sum() < 2 * _MIN_BLOCKS_PER_BIN:
        return float("nan")
    flat = lively & (blocks.roughness <= np.quantile(blocks.roughness[lively], 0.15))
    return float(blocks.near[flat].sum() / blocks.far[flat].sum())


def _shows_noise(blocks: Blocks, usable: Blocks, bins: _Bins) -> bool:
    """Return whether what is left after differences is noise: strong enough, and without memory."""
    if blocks.high <= blocks.low or bins.variance.max() <= 1e-24 * (blocks.high - blocks.low) ** 2:
        return False
    if blocks.whole and float(np.quantile(bins.variance, 0.9)) < 2.0 * ROUNDING:
        return False
    white = _whiteness(usable)
    return not white < MIN_WHITENESS


MIN_WHITENESS = 0.35
"""Below this ratio of near to distant differences the image shows no independent noise."""
FILTERED = 0.75
"""Below this ratio the noise of neighbouring pixels is correlated."""


def _remarks(blocks: Blocks, usable: Blocks, determined: bool) -> tuple[str, ...]:
    """Say what was done to the data before they came here."""
    said = []
    white = _whiteness(usable)
    if not determined and white < MIN_WHITENESS:
        said.append(
            "the image shows no pixel noise: it was filtered, denoised or computed; the gain is a "
            f"guess ({MAX_PHOTONS:g} photons in the brightest structures)"
        )
    elif not determined and blocks.high > blocks.low:
        said.append(
            "the noise is smaller than the rounding to whole grey values, so the gain is a guess "
            f"({MAX_PHOTONS:g} photons in the brightest structures)"
        )
    elif white < FILTERED:
        said.append(
            f"the noise of neighbouring pixels is correlated (differences {white:.2f} of what "
            "independent pixels have): the image was filtered, interpolated or averaged"
        )
    if blocks.blocking > 1.15:
        said.append(
            f"steps at every 8th pixel are {blocks.blocking:.2f} times the others: the image was "
            "compressed with loss (JPEG)"
        )
    if blocks.clipped > 0.05 and blocks.whole:
        said.append(
            f"{100 * blocks.clipped:.0f} % of the voxels have the lowest value {blocks.low:g}: "
            "darkness is cut off, so offset and read noise are uncertain"
        )
    if blocks.saturation > 0.001:
        said.append(
            f"{100 * blocks.saturation:.1f} % of the voxels have the highest value "
            f"{blocks.high:g}: bright structures are cut off"
        )
    return tuple(said)
