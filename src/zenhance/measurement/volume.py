"""Measure a volume before it is enhanced: finite voxels, statistics, noise, hash.

Everything is measured once per volume, never per tile, because a statistic that changes from tile
to tile leaves seams. One pass over the file, in slabs, measures all of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.contract.spec import VolumeStatistics
from zenhance.errors import StackError
from zenhance.measurement.missing import MAX_ISOLATED
from zenhance.measurement.reader import PixelHash, VolumeReader
from zenhance.physics.noise import PoissonGauss, estimate, estimate_background
from zenhance.physics.noise_blocks import Blocks, measure_blocks
from zenhance.steps import drain
from zenhance.types import FloatArray

__all__ = [
    "VolumeMeasurement",
    "inside_rim",
    "measure",
    "measure_noise",
    "measure_volume",
]


MAX_NON_FINITE = 0.1
# Squares of a hundred million voxels of this magnitude add up to 1e38, the largest float32.
MAX_VALUE = 1e15
# A larger share of single outliers is structure or impulse noise, not a few bad pixels.
MAX_OUTLIERS = 1e-3
# Percentiles and noise are taken from at most this many voxels, picked on a regular grid of planes.
SAMPLE_VOXELS = 4_000_000
# Statistics leave out a rim of each plane, so that a rim without data does not change them: an
# order statistic of few voxels, or a block of the noise, would move with every row that is lost.
RIM_PX = 8
MAX_RIM = 1 / 12


@dataclass(frozen=True, slots=True)
class VolumeMeasurement:
    """What one pass over one or several volumes found.

    Parameters
    ----------
    statistics : VolumeStatistics
        Shared by the volumes, in the input's units.
    noise : PoissonGauss
        Estimated on evenly spaced planes; its offset is the statistics' background.
    warnings : tuple of str
        What the user should know of these voxels.
    readers : tuple of VolumeReader
        The volumes, each knowing how many of its voxels are not finite.
    """

    statistics: VolumeStatistics
    noise: PoissonGauss
    warnings: tuple[str, ...]
    readers: tuple[VolumeReader, ...]

    @property
    def not_finite(self) -> int:
        """Voxels that are NaN or infinite, in all volumes."""
        return sum(reader.not_finite or 0 for reader in self.readers)


@dataclass(slots=True)
class _PlaneTotals:
    """Totals of the measured voxels of one plane."""

    count: int
    first: float = 0.0
    second: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    saturated: int = 0

    @classmethod
    def of(cls, plane: npt.NDArray[Any], void: npt.NDArray[np.bool_] | None) -> _PlaneTotals:
        """Add up a plane (Y, X)."""
        grey = plane.astype(np.float64)
        kept = grey if void is None else grey[~void]
        if not kept.size:
            return cls(0)
        saturated = 0
        if plane.dtype.kind in "iu":
            saturated = int(np.count_nonzero(plane == np.iinfo(plane.dtype).max))
        first, second = float(kept.sum()), float(np.square(kept).sum())
        return cls(kept.size, first, second, float(kept.min()), float(kept.max()), saturated)


def _inside(planes: FloatArray) -> FloatArray:
    """Return planes (Z, Y, X) without their rim; with it where nothing else was measured."""
    inside: FloatArray = planes[:, *inside_rim(planes.shape[1:])]
    return inside if np.isfinite(inside).any() else planes


def inside_rim(shape_px: Sequence[int]) -> tuple[slice, slice]:
    """Return the part (Y, X) of planes of this shape that statistics use."""
    height, width = shape_px[-2:]
    y, x = (min(RIM_PX, int(MAX_RIM * size)) for size in (height, width))
    return slice(y, height - y), slice(x, width - x)


def _check_range(plane: npt.NDArray[Any]) -> None:
    """Refuse values whose squares and sums do not fit into float32, in which methods compute.

    Raises
    ------
    StackError
        A finite value of the plane is larger than :data:`MAX_VALUE`.
    """
    if plane.dtype.kind == "f":
        largest = float(np.abs(plane[np.isfinite(plane)]).max(initial=0))
    elif plane.dtype.kind in "iu" and plane.dtype.itemsize == 8:
        largest = float(max(-int(plane.min(initial=0)), int(plane.max(initial=0))))
    else:
        return
    if largest > MAX_VALUE:
        raise StackError(
            f"voxel values reach {largest:.3g}, allowed are magnitudes up to {MAX_VALUE:g}; "
            "rescale the stack, or replace values that mean no data by NaN"
        )


class _Tally:
    """Totals of all planes, and the sample of them."""

    def __init__(self, readers: Sequence[VolumeReader]) -> None:
        self._readers = tuple(readers)
        self._dtype = readers[0].stack.dtype
        self._totals: dict[tuple[int, int], _PlaneTotals] = {}
        self._sample: dict[tuple[int, int], FloatArray] = {}
        self._not_finite = 0
        self._stray = 0
        self._padded = 0
        self._padding_values: set[float] = set()
        self._outliers = 0
        self.refused = 0
        self._blocks: Blocks | None = None

    def add(self, number: int, z: int, plane: npt.NDArray[Any]) -> int:
        """Count a plane (Y, X) as stored; return how many of its voxels were measured."""
        _check_range(plane)
        missing = self._readers[number].missing
        missing.examine(z, plane)
        void = missing.void(z)
        totals = _PlaneTotals.of(plane, void)
        self._totals[number, z] = totals
        if void is not None:
            padding = missing.padding(z)
            padded = 0 if padding is None else int(np.count_nonzero(padding))
            self._padded += padded
            self._not_finite += plane.size - totals.count - padded
            self._stray += missing.stray(z)
            if padding is not None and padded:
                self._padding_values.add(float(plane[padding][0]))
        return totals.count

    def keep(self, number: int, z: int, plane: FloatArray) -> None:
        """Make a plane (Y, X) part of the sample."""
        self._sample[number, z] = plane

    def sample(self) -> FloatArray:
        """Return the inside of the sampled planes (Z, Y, X), not finite where there are no data."""
        return _inside(np.stack(list(self._sample.values())))

    def blocks(self) -> Blocks:
        """Return the noise blocks of the sample, measured once."""
        if self._blocks is None:
            self._blocks = measure_blocks(self.sample())
        return self._blocks

    def settle(self, noise: PoissonGauss) -> bool:
        """Remove the outliers from totals and sample; return whether there were any."""
        for reader in self._readers:
            reader.settle(noise)
        planes = [(n, z) for n, r in enumerate(self._readers) for z in r.missing.outlier_planes()]
        found = {(n, z): self._readers[n].missing.outliers(z) for n, z in planes}
        count = sum(places.size for places, _ in found.values())
        voxels = sum(totals.count for totals in self._totals.values())
        if count > MAX_OUTLIERS * voxels:
            self.refused = count
            for reader in self._readers:
                reader.missing.settle(None)
            return False
        self._outliers, self._blocks = count, None
        for (number, z), (places, values) in found.items():
            reader = self._readers[number]
            plane = reader.raw((slice(z, z + 1), slice(None), slice(None)))[0].copy()
            # The totals of an integer stack stay those of whole numbers.
            plane.ravel()[places] = values.astype(plane.dtype)
            self._totals[number, z] = _PlaneTotals.of(plane, reader.missing.void(z))
            if (number, z) in self._sample:
                self._sample[number, z].ravel()[places] = values
        return bool(count)

    def statistics(self, background: float | None) -> VolumeStatistics:
        """Return the statistics of the measured voxels.

        Raises
        ------
        StackError
            More than a tenth of the voxels is NaN or infinite, or no voxel was measured.
        """
        totals = self._totals.values()
        count = sum(plane.count for plane in totals)
        total = count + self._padded + self._not_finite
        if self._stray > MAX_NON_FINITE * total or not count:
            raise StackError(
                f"{self._not_finite} of {total} voxels are NaN or infinite; at most a tenth may "
                "be, a rim not counted: repair or crop the stack first"
            )
        mean = sum(plane.first for plane in totals) / count
        second = sum(plane.second for plane in totals)
        std = float(np.sqrt(max(second / count - mean * mean, 0.0)))
        sample = self.sample()
        p_low, p_high = (float(v) for v in np.percentile(sample[np.isfinite(sample)], [0.1, 99.9]))
        ground = float(estimate_background(self.blocks()) if background is None else background)
        low, high = min(plane.low for plane in totals), max(plane.high for plane in totals)
        return VolumeStatistics(low, high, mean, std, p_low, p_high, ground)

    def remarks(self) -> tuple[str, ...]:
        """Say what the user should know of these voxels."""
        totals = self._totals.values()
        low, high = min(p.low for p in totals), max(p.high for p in totals)
        count, saturated = sum(p.count for p in totals), sum(p.saturated for p in totals)
        said = [*self._missing_remarks()]
        if low == high:
            said.append(f"the volume has no contrast: every voxel is {low:g}")
        elif saturated > 0.01 * count:
            said.append(
                f"{100 * saturated / count:.1f} % of the voxels are saturated; "
                "bright structures cannot be restored there"
            )
        if self._dtype.kind in "iu" and max(abs(low), abs(high)) > 2**24:
            said.append(
                f"intensities reach {max(abs(low), abs(high)):.3g}; "
                "above 16777216 single counts are rounded"
            )
        if self._dtype.kind == "b":
            said.append("the stack holds only true and false; it is treated as 0 and 1")
        return tuple(said)

    def _missing_remarks(self) -> Iterator[str]:
        if not_finite := self._not_finite:
            yield (
                f"{not_finite} voxels are NaN or infinite; they were filled in for the run and "
                "are NaN in the result"
            )
        if self._padded:
            values = ", ".join(f"{value:g}" for value in sorted(self._padding_values)[:3])
            yield (
                f"{self._padded} voxels hold the constant {values} where nothing was measured "
                "(padding or blank planes); they were filled in for the run and keep their value"
            )
        if self._outliers:
            count = self._outliers
            yield (
                f"{count} hot or dead pixel{'s' if count > 1 else ''} that the blur cannot produce "
                "took the median of the neighbours; repair_outliers=false keeps such voxels"
            )
        if self.refused:
            yield (
                f"{self.refused} single voxels differ from their neighbours as only outliers do; "
                "because there are so many, they may be real and were not repaired: check the "
                "stack for impulse noise"
            )


def _sampled(reader: VolumeReader, z: int, plane: npt.NDArray[Any]) -> FloatArray:
    """Return a plane (Y, X) for the sample: dead pixels filled, regions without data as NaN."""
    reader.missing.examine(z, plane)
    void = reader.missing.void(z)
    sampled = plane.astype(np.float32)
    if void is not None:
        if np.count_nonzero(void) <= MAX_ISOLATED and reader.missing.padding(z) is None:
            filled: FloatArray = reader.read((slice(z, z + 1), slice(None), slice(None)))[0]
            return filled
        sampled[void] = np.nan
    return sampled


def _pass(
    readers: Sequence[VolumeReader], pixels: PixelHash | None = None
) -> Generator[float, None, _Tally]:
    """Read every voxel once, slab by slab; at least one plane of each volume is sampled."""
    tally = _Tally(readers)
    depth = readers[0].stack.volume_shape[0]
    for number, reader in enumerate(readers):
        wanted = reader.planes(SAMPLE_VOXELS // len(readers))
        feeds = pixels is not None and pixels.take(reader)
        for first, slab in reader.slabs():
            if pixels is not None and feeds:
                pixels.add(slab)
            for z, plane in enumerate(slab, first):
                # A plane without data is replaced by the next that has some.
                if tally.add(number, z, plane) and wanted and wanted[0] <= z:
                    tally.keep(number, z, _sampled(reader, z, plane))
                    del wanted[0]
            yield (number + (first + len(slab)) / depth) / len(readers)
    return tally


def _settled(
    tally: _Tally, readers: Sequence[VolumeReader], background: float | None
) -> tuple[VolumeStatistics, PoissonGauss | None]:
    """Return statistics, and the noise where it was needed, outliers taken out."""
    statistics = tally.statistics(background)
    if not any(r.repair_outliers and r.missing.has_candidates for r in readers):
        return statistics, None
    noise = estimate(tally.blocks(), offset=statistics.background)
    if not tally.settle(noise):
        return statistics, noise
    return tally.statistics(background), None


def measure_volume(
    readers: Sequence[VolumeReader],
    background: float | None = None,
    pixels: PixelHash | None = None,
) -> Generator[float, None, VolumeMeasurement]:
    """Measure what one or several volumes share, in a single pass over their voxels.

    Parameters
    ----------
    readers : sequence of VolumeReader
        One volume, or all that are to share their statistics.
    background : float, optional
        Given by the user in the input's units; left out, it is estimated.
    pixels : PixelHash, optional
        Fed with the volumes in order.

    Yields
    ------
    float
        The fraction read, once a slab.

    Returns
    -------
    VolumeMeasurement

    Raises
    ------
    StackError
        More than a tenth of the voxels, a rim not counted, is NaN or infinite.
    """
    tally = yield from _pass(readers, pixels)
    statistics, noise = _settled(tally, readers, background)
    if noise is None:
        noise = estimate(tally.blocks(), offset=statistics.background)
    return VolumeMeasurement(statistics, noise, tally.remarks(), tuple(readers))


def measure(
    readers: Sequence[VolumeReader], background: float | None = None
) -> tuple[VolumeStatistics, tuple[str, ...]]:
    """Measure the statistics that volumes share; :func:`measure_volume` does it in steps.

    Parameters
    ----------
    readers : sequence of VolumeReader
        One volume, or all that are to share their statistics.
    background : float, optional
        Given by the user in the input's units; left out, it is estimated.

    Returns
    -------
    statistics : VolumeStatistics
        In the input's units.
    warnings : tuple of str
        What the user should know of these voxels.

    Raises
    ------
    StackError
        More than a tenth of the voxels, a rim not counted, is NaN or infinite.
    """
    tally = drain(_pass(readers))
    return _settled(tally, readers, background)[0], tally.remarks()


def measure_noise(readers: Sequence[VolumeReader], statistics: VolumeStatistics) -> PoissonGauss:
    """Estimate the noise on evenly spaced planes; its offset is the statistics' background."""
    share = SAMPLE_VOXELS // len(readers)
    kept = []
    for reader in readers:
        for z in reader.planes(share):
            plane = _sampled(reader, z, reader.raw((slice(z, z + 1), slice(None), slice(None)))[0])
            plane.ravel()[reader.missing.outliers(z)[0]] = reader.missing.outliers(z)[1]
            if np.isfinite(plane).any():
                kept.append(plane)
    if not kept:
        kept = [readers[0].read((slice(0, 1), slice(None), slice(None)))[0]]
    return estimate(_inside(np.stack(kept)), offset=statistics.background)
