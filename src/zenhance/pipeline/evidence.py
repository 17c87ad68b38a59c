"""Evidence of held-out photons: which of two estimates predicts them better, block by block.

Each estimate is seen through the microscope. The prediction that is compared is the best mixture of
a few such views and a constant, fitted to the *kept* photons around each block, so that an estimate
does not lose because the light, the haze or the width of the PSF are known only roughly::

    views of an estimate ──fit to the kept photons──► prediction ──┐
    views of the baseline ─fit to the kept photons──► prediction ──┴─ held-out photons ──► share

On the line from the baseline's prediction (0) to the estimate's (1), the held-out photons have a
best point and a standard error, that of linear regression. Blocks with few photons lean on their
depth. The estimate gets a share where its side of the line is certain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from zenhance.types import FloatArray, FloatTriple, Region, Triple

__all__ = ["Blocks", "Comparison", "Contest", "Tally"]

BLOCK_UM = 2.0
"""Edge of a block; evidence is summed over windows of about two blocks."""
BLOCK_PX = ((1, 16), (2, 16), (2, 16))
"""Fewest and most voxels of a block along z, y, x."""
MAX_BLOCKS = 40_000
"""Larger volumes have larger blocks, so that the sums fit into memory."""
WINDOW_BLOCKS = 1.0
"""Standard deviation of the windows, in blocks."""
CERTAIN = (2.0, 4.0)
"""Standard errors beyond the middle at which an estimate begins to count and counts in full."""
CONTRADICTS = 2.0
"""Standard errors from which a window contradicts its depth."""
BELIEVED = 0.5
"""Least weight of an estimate in its own prediction."""
_RIDGE = 1e-5

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """A volume divided into blocks.

    Parameters
    ----------
    shape_px : tuple of int
        (Z, Y, X) of the volume.
    size_px : tuple of int
        Of a block; the last along an axis may be smaller.
    """

    shape_px: Triple
    size_px: Triple

    @classmethod
    def of(cls, shape_px: Triple, voxel_size_um: FloatTriple) -> Blocks:
        """Return blocks of about :data:`BLOCK_UM`, larger in a large volume."""
        z, y, x = (
            min(n, max(low, min(high, round(BLOCK_UM / v))))
            for n, v, (low, high) in zip(shape_px, voxel_size_um, BLOCK_PX, strict=True)
        )
        blocks = cls(shape_px, (z, y, x))
        while math.prod(blocks.grid) > MAX_BLOCKS:
            z, y, x = (min(2 * s, n) for s, n in zip(blocks.size_px, shape_px, strict=True))
            blocks = cls(shape_px, (z, y, x))
        return blocks

    @property
    def grid(self) -> Triple:
        """Blocks along z, y, x."""
        z, y, x = (-(-n // s) for n, s in zip(self.shape_px, self.size_px, strict=True))
        return (z, y, x)

    def sigma(self) -> FloatTriple:
        """Return the windows' standard deviation in blocks, 0 along an axis of one block."""
        z, y, x = (WINDOW_BLOCKS if n > 1 else 0.0 for n in self.grid)
        return (z, y, x)

    def interpolate(self, values: Float64Array, region: Region) -> FloatArray:
        """Return values of blocks (grid) at the voxels of a region, linear between the middles."""
        for axis, (part, size) in enumerate(zip(region, self.size_px, strict=True)):
            at = (np.arange(part.start, part.stop) + 0.5) / size - 0.5
            at = np.clip(at, 0.0, values.shape[axis] - 1)
            below = np.minimum(at.astype(np.int64), max(values.shape[axis] - 2, 0))
            above = np.minimum(below + 1, values.shape[axis] - 1)
            share = (at - below).reshape([-1 if a == axis else 1 for a in range(3)])
            values = (1 - share) * np.take(values, below, axis) + share * np.take(
                values, above, axis
            )
        return np.asarray(values, np.float32)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An estimate against the baseline.

    Parameters
    ----------
    gain : float64 array (grid)
        Log-likelihood of the held-out photons under the estimate, less that under the baseline.
    information : float64 array (grid)
        Squared difference of the two predictions in units of the held-out noise: the inverse
        variance of the best point between them.
    """

    gain: Float64Array
    information: Float64Array

    @property
    def total(self) -> float:
        """Gain of the whole volume."""
        return float(self.gain.sum())

    @property
    def certainty(self) -> float:
        """Standard errors by which the estimate beats the baseline in the whole volume."""
        return self.total / math.sqrt(max(float(self.information.sum()), 1e-12))

    def certainties(self, sigma: FloatTriple) -> Float64Array:
        """Return by how many standard errors the best point is on the estimate's side (grid).

        Notes
        -----
        The best point of a window is w = 1/2 + gain / information, its variance 1 / information.
        It is combined with that of its depth by the precision of both, the spread between windows
        of one depth included (empirical Bayes; Efron & Morris 1973, JASA 68:117). A window that
        contradicts its depth has a spread of its own, so that it is hardly moved. One without
        photons takes its depth's point, with the spread between windows as doubt.
        """
        gain, known = (_window_sums(x, sigma) for x in (self.gain, self.information))
        deep_gain, deep_known = (_depth_sums(x, sigma) for x in (self.gain, self.information))
        tried = self.information > 0.0
        known, deep_known = known + 1e-9, deep_known + 1e-9
        best, deep = 0.5 + gain / known, 0.5 + deep_gain / deep_known
        apart = np.square(best - deep)
        spread = float((apart * known)[tried].sum()) - np.count_nonzero(tried)
        common = spread / max(float(known[tried].sum()), 1e-9)
        own = apart - CONTRADICTS**2 * (1.0 / known + 1.0 / deep_known)
        trust = 1.0 / (np.maximum(own, max(common, 0.0)) + 1.0 / deep_known)
        precision = known + trust
        return np.asarray(((best - 0.5) * known + (deep - 0.5) * trust) / np.sqrt(precision))

    def shares(self, sigma: FloatTriple) -> Float64Array:
        """Return the estimate's share in each block (grid), 0 ... 1."""
        low, high = CERTAIN
        return np.clip((self.certainties(sigma) - low) / (high - low), 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Contest:
    """An estimate against the baseline, and against light without structure.

    Parameters
    ----------
    baseline, smooth : Comparison
        ``smooth`` is against the mean of each window.
    adapted : bool
        Whether the estimate was changed to fit the photons. It then has to beat smooth light too:
        where there is no structure, any pattern too fine to be seen would fit after a few steps.
    """

    baseline: Comparison
    smooth: Comparison
    adapted: bool

    def shares(self, sigma: FloatTriple) -> Float64Array:
        """Return the estimate's share in each block (grid), 0 ... 1."""
        shares = self.baseline.shares(sigma)
        return np.minimum(shares, self.smooth.shares(sigma)) if self.adapted else shares

    def reached(self, sigma: FloatTriple) -> float:
        """Return the gain of the blend: that of each block, times the estimate's share."""
        return float((self.shares(sigma) * self.baseline.gain).sum())


def _window_sums(values: Float64Array, sigma: FloatTriple) -> Float64Array:
    """Return sums over Gaussian windows that are 1 in their middle."""
    weight = math.prod(math.sqrt(2 * math.pi) * s for s in sigma if s > 0.0)
    return np.asarray(gaussian_filter(values, sigma, mode="constant") * weight)


def _depth_sums(values: Float64Array, sigma: FloatTriple) -> Float64Array:
    """Return sums over all blocks of about one depth (Z, 1, 1)."""
    lines = values.sum(axis=(1, 2))
    if sigma[0] > 0.0:
        weight = math.sqrt(2 * math.pi) * sigma[0]
        lines = gaussian_filter1d(lines, sigma[0], mode="constant") * weight
    return np.asarray(lines)[:, None, None]


class Tally:
    """Sums over blocks from which estimates are compared; a volume is added region by region.

    Parameters
    ----------
    blocks : Blocks
        Of the volume.
    views : int
        How many views each estimate has.
    adapted : sequence of bool
        For each estimate whether it was changed to fit the photons. The baseline comes before them.
    held_share : float
        Share of the photons that is held out.
    """

    def __init__(
        self, blocks: Blocks, views: int, adapted: Sequence[bool], held_share: float
    ) -> None:
        self.blocks, self.views, self.adapted = blocks, views, tuple(adapted)
        self.held_share = held_share
        # All views, the constant, and the kept and the held-out photons.
        self.size = views * (1 + len(self.adapted)) + 3
        self.sums = np.zeros((*blocks.grid, self.size, self.size))

    def add(
        self,
        region: Region,
        views: FloatArray,
        kept: FloatArray,
        held: FloatArray,
        weight: FloatArray,
    ) -> None:
        """Add a region.

        Parameters
        ----------
        region : tuple of slice
            Its place in the volume.
        views : float32 array (views of all, Z, Y, X)
            Expected photons of the whole measurement, the baseline's first.
        kept, held : float32 array (Z, Y, X)
            Photons of either share, divided by the share: two estimates of the same expectation.
        weight : float32 array (Z, Y, X)
            Inverse variance of the measurement in photons; 0 where nothing was measured.
        """
        sizes = self.blocks.size_px
        before = [part.start % size for part, size in zip(region, sizes, strict=True)]
        around = [
            (b, -(part.stop) % size) for b, part, size in zip(before, region, sizes, strict=True)
        ]
        first = [part.start // size for part, size in zip(region, sizes, strict=True)]
        root = np.pad(np.sqrt(weight), around)
        one = np.ones_like(kept)
        stacked = [np.pad(x, around) * root for x in (*views, one, kept, held)]
        z, y, x = (n // size for n, size in zip(root.shape, sizes, strict=True))
        for k in range(z):
            slab = slice(k * sizes[0], (k + 1) * sizes[0])
            cut = np.stack([v[slab] for v in stacked], -1, dtype=np.float64)
            cut = cut.reshape(sizes[0], y, sizes[1], x, sizes[2], self.size)
            cut = cut.transpose(1, 3, 0, 2, 4, 5).reshape(y, x, -1, self.size)
            self.sums[first[0] + k, first[1] : first[1] + y, first[2] : first[2] + x] += (
                cut.swapaxes(-1, -2) @ cut
            )

    def compare(self) -> tuple[Contest, ...]:
        """Return each estimate against the baseline."""
        sigma = (*self.blocks.sigma(), 0.0, 0.0)
        window = gaussian_filter(self.sums, sigma, mode="constant", truncate=3.0)
        baseline, *fits = (self._fit(window, number) for number in range(1 + len(self.adapted)))
        smooth, constant = np.zeros_like(baseline), self.size - 3
        light, weight = window[..., constant, self.size - 2], window[..., constant, constant]
        smooth[..., constant] = light / np.maximum(weight, 1e-12)
        return tuple(
            Contest(self._comparison(fit, baseline), self._comparison(fit, smooth), adapted)
            for fit, adapted in zip(fits, self.adapted, strict=True)
        )

    def _comparison(self, fit: Float64Array, baseline: Float64Array) -> Comparison:
        """Compare the predictions of two sets of coefficients on the held-out photons."""
        used = self.size - 2
        step, middle = fit - baseline, 0.5 * (fit + baseline)
        seen = np.einsum("...i,...ij->...j", step, self.sums[..., :used, :used])
        gain = (step * self.sums[..., :used, -1]).sum(-1) - (seen * middle).sum(-1)
        information = np.maximum((seen * step).sum(-1), 0.0)
        return Comparison(self.held_share * gain, self.held_share * information)

    def _fit(self, window: Float64Array, number: int) -> Float64Array:
        """Return the coefficients (grid, all views and the constant) of an estimate's prediction.

        Notes
        -----
        Weighted least squares, the views' coefficients not negative: of all subsets of the views
        whose solution is not negative, the one that explains most.
        """
        own = list(range(number * self.views, (number + 1) * self.views))
        constant, kept = self.size - 3, self.size - 2
        best = np.full(window.shape[:3], -np.inf)
        chosen = np.zeros((*window.shape[:3], self.size - 2))
        for count in range(self.views, -1, -1):
            for subset in itertools.combinations(own, count):
                index = [*subset, constant]
                found = _solve(window, index, kept)
                explained = (found * window[..., index, kept]).sum(-1)
                better = (found[..., :-1] >= 0.0).all(-1) & (explained > best)
                best[better] = explained[better]
                place = np.zeros_like(chosen)
                place[..., index] = found
                chosen[better] = place[better]
        return self._believed(window, chosen, own[0]) if number else chosen

    def _believed(self, window: Float64Array, fit: Float64Array, told: int) -> Float64Array:
        """Give an estimate's views a weight of at least :data:`BELIEVED` in its prediction.

        A prediction by the constant alone would say nothing about the estimate. The baseline may
        have it.
        """
        constant, kept = self.size - 3, self.size - 2
        weight = fit[..., :constant].sum(-1)
        doubted = weight < BELIEVED
        none = doubted & (weight < _RIDGE)
        fit[none, told], weight[none] = BELIEVED, BELIEVED
        views = fit[doubted, :constant] * (BELIEVED / weight[doubted])[:, None]
        sums = window[doubted]
        seen = (views * sums[:, :constant, constant]).sum(-1)
        measured = np.maximum(sums[:, constant, constant], 1e-12)
        fit[doubted, :constant] = views
        fit[doubted, constant] = (sums[:, constant, kept] - seen) / measured
        return fit


def _solve(window: Float64Array, index: Sequence[int], target: int) -> Float64Array:
    """Solve the normal equations of some columns (grid, columns), slightly regularised."""
    square = window[..., index, :][..., index]
    diagonal = np.einsum("...ii->...i", square)
    square = square + np.eye(len(index)) * (_RIDGE * diagonal[..., None] + 1e-12)
    return np.asarray(np.linalg.solve(square, window[..., index, target][..., None])[..., 0])
