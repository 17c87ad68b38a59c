"""Noise, offset and background of one image, from the photon transfer of its flattest blocks.

The variance of a camera's noise is a line over brightness. Its slope is the gain, and it is zero
at ``offset - read_noise^2 / gain``. The third cumulant of the noise is a line too,
``gain^2 (mean - offset)``, because read noise is symmetric. Where there is enough light, it
separates the offset from the read noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zenhance.physics.noise_blocks import BLOCK_PX, MIN_BLOCKS, NOISY_ROUGHNESS, Blocks, Floats
from zenhance.physics.photon_transfer import (
    Bins,
    DarkPrior,
    binned,
    fit_line,
    offset_and_read_noise,
)

__all__ = [
    "FILTERED",
    "CameraFit",
    "Spread",
    "background_level",
    "correlation_px",
    "fit_camera",
    "kept_variance",
]

MAX_PHOTONS = 1e4
"""Photons of the brightest structures where the image shows no noise at all."""
ROUNDING = 1.0 / 12.0
"""Variance of rounding to whole grey values."""


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
        width = 3.0 * np.sqrt(noise) / BLOCK_PX + 1e-9 * (blocks.high - blocks.low)
        crowd = mean[np.abs(mean - level) <= width]
        new = float(np.median(crowd)) if crowd.size else level
        done = abs(new - level) <= 0.01 * width
        level = new
        if done:
            break
    crowd = mean[np.abs(mean - level) <= width]
    below = int(np.count_nonzero(mean < level - width))
    if crowd.size < max(MIN_BLOCKS, MIN_DARK * mean.size):
        return None
    lower = int(np.count_nonzero(crowd < level - width / 3.0))
    upper = int(np.count_nonzero(crowd > level + width / 3.0))
    if below > MAX_DARKER * crowd.size or lower > 0.35 * crowd.size or upper > 0.35 * crowd.size:
        return None
    # The darker half: light beside the region reaches into the other.
    inside = order[(mean >= level - width) & (mean <= level)]
    noise = float(blocks.variance[inside].mean())
    rough = float(np.mean(blocks.roughness[inside] > NOISY_ROUGHNESS * noise))
    if rough > MAX_ROUGH and level > blocks.lowest:
        return None
    return level, width / 3.0


MIN_DARK = 0.02
"""Share of the blocks that a dark region must have to be believed."""
MAX_DARKER = 0.1
"""Blocks darker than a dark region's noise allows, relative to the region."""
MAX_ROUGH = 0.5
"""Share of a dark region's blocks that may be rougher than its noise: there is no specimen in it.

Dark regions of real stacks have 0.03 to 0.3, structure that fills a small stack has 0.6 to 1.
"""


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
    bins = binned(usable.only(~usable.cut_off))
    top = crowd[0] if crowd else _darkest(usable)
    determined = _shows_noise(blocks, usable, bins)
    span = max(blocks.high - blocks.low, 0.0)
    bright = float(np.quantile(usable.mean, 0.999)) - top
    least = 1e-6 * span if span > 0.0 else 1e-6
    if not determined:
        return _guess(blocks, usable, crowd, (top, bright, least), offset)
    calm = 3.0 if blocks.whole else 0.0
    prior = DarkPrior(top, max(bright, least), calm)
    if crowd is None:
        # Without a dark region, few voxels have no light. Of so many draws from a normal
        # distribution the lowest is hardly ever farther out.
        deviations = float(np.sqrt(2.0 * np.log(max(MIN_DARK * blocks.voxels, 2.0))))
        prior = replace(prior, lowest=blocks.lowest, deviations=deviations)
    slope, intercept, covariance = _line(blocks, bins, prior, least)
    stray = 2.0 * slope if crowd else np.inf
    prior = replace(prior, reach=1.0 / (1.0 / prior.reach + 1.0 / stray), calm=calm + 2.0 * slope)
    draws = offset_and_read_noise((slope, intercept), covariance, bins, prior, offset)
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


def _floor(blocks: Blocks) -> float:
    """Return the least variance that noise has: that of rounding, or of the last digits."""
    if blocks.whole:
        return ROUNDING
    return max(1e-12 * (blocks.high - blocks.low) ** 2, 1e-290)


def _line(
    blocks: Blocks, bins: Bins, prior: DarkPrior, least: float
) -> tuple[float, float, Floats]:
    """Return slope and intercept of the photon transfer, and their covariance.

    Structure that is taken for noise bends the line at the dark end. Where its zero is above what
    the lowest voxels allow, the line is drawn again through them: photons are not negative.
    """
    floor, most = _floor(blocks), float(bins.variance.max())
    start = prior.top - 0.5 * prior.reach
    line, covariance = fit_line(bins, (start, floor, 2.0 * most + floor), floor)
    low, high = prior.read_noises(max(float(line[0]), least), float(line[1]))
    if low > high:
        line, covariance = fit_line(bins, (prior.lowest, floor, floor + 1e-3 * most), floor)
    slope, intercept = max(float(line[0]), least), float(line[1])
    if slope * prior.top + intercept < floor:
        # The darkest blocks have some noise at least: the line must not cross zero above them.
        intercept = floor - slope * prior.top
    return slope, intercept, covariance


def _darkest(blocks: Blocks) -> float:
    """Return the brightness of the darkest percent, less what noise alone makes darker."""
    level = float(np.quantile(blocks.mean, 0.01))
    dark = blocks.mean <= np.quantile(blocks.mean, 0.05)
    return level + 2.0 * float(np.sqrt(blocks.variance[dark].mean())) / BLOCK_PX


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


def _whiteness(blocks: Blocks) -> float:
    """Return squared differences of neighbours over those at distance three: 1 for white noise."""
    lively = (blocks.far > 0.0) & ~blocks.saturated & ~blocks.cut_off
    if lively.sum() < 2 * MIN_BLOCKS:
        return float("nan")
    flat = lively & (blocks.roughness <= np.quantile(blocks.roughness[lively], 0.15))
    return float(blocks.near[flat].sum() / blocks.far[flat].sum())


def correlation_px(blocks: Blocks) -> float:
    """Return the width of the filter that correlates the noise of neighbouring pixels, 0 for none.

    The filter is taken for a Gaussian: pixels k apart then correlate by exp(-k² / 4 s²), and the
    ratio of near to distant differences is 1 - exp(-1 / 4 s²), less what is left at 3 pixels.
    """
    white = _whiteness(blocks)
    if not MIN_WHITENESS <= white < FILTERED:
        return 0.0
    return float(0.5 / np.sqrt(-np.log(1.0 - white)))


def kept_variance(sigma_px: float) -> float:
    """Return the share of the noise's variance that second differences show after a Gaussian."""
    if sigma_px <= 0.0:
        return 1.0
    one, two = np.exp(-0.25 / sigma_px**2), np.exp(-1.0 / sigma_px**2)
    return float((1.0 - 4.0 / 3.0 * one + two / 3.0) ** 2)


def _shows_noise(blocks: Blocks, usable: Blocks, bins: Bins) -> bool:
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
