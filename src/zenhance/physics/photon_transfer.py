"""Photon transfer: the noise's variance over brightness, a line whose slope is the gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zenhance.physics.noise_blocks import MIN_BLOCKS, NOISY_ROUGHNESS, Blocks, Floats

__all__ = ["Bins", "DarkPrior", "binned", "fit_line", "offset_and_read_noise"]

_BINS = 32
_UNSATURATED = 0.4
_FLATTEST = 0.35
"""Share of the blocks of one brightness that are flat enough to show noise, not structure."""
_GROUP = 8
"""Blocks whose variances are averaged before the median is taken."""
_SYSTEMATIC = 0.03
"""Relative error that structure leaves in a variance, however many blocks there are."""


@dataclass(frozen=True, slots=True)
class Bins:
    """Photon transfer: one row a brightness."""

    brightness: Floats
    variance: Floats
    variance_error: Floats
    third: Floats
    third_error: Floats


def binned(blocks: Blocks) -> Bins:
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
        if chosen.size >= max(MIN_BLOCKS, _UNSATURATED * member.size):
            rows.append(_row(blocks, chosen))
    if not rows:
        rows = [_row(blocks, np.arange(mean.size))]
    return Bins(*np.array(rows).T)


def _row(blocks: Blocks, chosen: npt.NDArray[np.intp]) -> tuple[float, ...]:
    """Return brightness, variance and third cumulant of a bin's flattest blocks, with errors."""
    roughness = blocks.roughness[chosen]
    order = np.argsort(roughness, kind="stable")
    fewest = max(MIN_BLOCKS, round(_FLATTEST * chosen.size))
    noise = float(blocks.variance[chosen[order[:fewest]]].mean())
    keep = max(fewest, int(np.searchsorted(roughness[order], NOISY_ROUGHNESS * noise)))
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


def fit_line(
    bins: Bins, prior: tuple[float, float, float], floor: float
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


@dataclass(frozen=True, slots=True)
class DarkPrior:
    """What is known of offset and read noise beside the line."""

    top: float
    """The darkest level: the offset plus the least stray light."""
    reach: float
    """How far below it the offset typically is."""
    calm: float
    """A typical read noise."""
    lowest: float = np.inf
    """Of all voxels; photons only add to the offset, so only read noise goes below it."""
    deviations: float = 0.0
    """How many standard deviations of read noise the lowest voxel is below the offset at most."""

    def read_noises(self, slope: float, intercept: float) -> tuple[float, float]:
        """Return the least and the most read noise at which a line's offset is possible.

        The first is larger than the second where the line is impossible.
        """
        most = float(np.sqrt(max(slope * self.top + intercept, 0.0)))
        if not np.isfinite(self.lowest):
            return 0.0, most
        # offset = (read^2 - intercept) / slope <= lowest + deviations * read
        middle = 0.5 * self.deviations * slope
        square = middle**2 + slope * self.lowest + intercept
        if square < 0.0:
            return np.inf, 0.0
        root = float(np.sqrt(square))
        return max(middle - root, 0.0), min(middle + root, most)


def offset_and_read_noise(
    line: tuple[float, float],
    covariance: Floats,
    bins: Bins,
    prior: DarkPrior,
    known: float | None,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return offset and read noise as (value, low, high).

    For each line that the photon transfer allows, the offset runs from its zero (no read noise) to
    the darkest level (no stray light), or as far as the lowest voxel allows. The third cumulants
    decide where there is enough light; else ``prior`` does.
    """
    rng = np.random.Generator(np.random.Philox(0))
    # Slope and height at the darkest level: draws of these shift and scale with the image.
    level = np.array([[1.0, 0.0], [prior.top, 1.0]])
    covariance = level @ covariance @ level.T
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    # Written out, since the signs of eigenvectors differ between processors.
    alike = float(np.clip(covariance[0, 1] / (scale[0] * scale[1]), -1.0, 1.0))
    root = scale[:, None] * np.array([[1.0, 0.0], [alike, np.sqrt(1.0 - alike**2)]])
    lines = level @ np.asarray(line) + rng.standard_normal((128, 2)) @ root.T
    lines[:, 1] -= lines[:, 0] * prior.top
    lines[0] = line
    share = (np.arange(64) + 0.5) / 64.0
    offsets, reads, costs = [], [], []
    for slope, intercept in lines[lines[:, 0] > 0.0]:
        if known is not None:
            offset = np.full_like(share, known)
            read = np.full_like(share, np.sqrt(max(slope * known + intercept, 0.0)))
        else:
            least, most = prior.read_noises(slope, intercept)
            if least > most:
                continue
            read = least + share * (most - least)
            offset = (read**2 - intercept) / slope
        precision = (slope**2 / np.maximum(bins.third_error, 1e-9 * slope**2)) ** 2
        misfit = precision * (offset[:, None] - bins.brightness + bins.third / slope**2) ** 2
        # No single bin decides: structure has third cumulants too.
        cost = 0.5 * np.minimum(misfit, 9.0).sum(axis=1)
        offsets.append(offset)
        reads.append(read)
        costs.append(cost + np.maximum(prior.top - offset, 0.0) / prior.reach + read / prior.calm)
    if not offsets:
        at = min(prior.top, prior.lowest) if known is None else known
        noise = float(np.sqrt(max(line[1] + line[0] * at, 0.0)))
        return (at, at, at), (noise, noise, noise)
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
