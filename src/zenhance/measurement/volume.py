"""What is known of a volume before it is enhanced: its voxels made finite, its statistics, its noise, its hash.

Everything here is measured once per volume, never per tile: a statistic that changes from tile to tile leaves seams. All of it
comes from one pass over the file, in slabs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.contract.spec import VolumeStatistics
from zenhance.errors import StackError
from zenhance.measurement.nonfinite import MAX_ISOLATED, Fill
from zenhance.physics.noise import PoissonGauss, estimate, estimate_background
from zenhance.provenance import ArrayHash
from zenhance.stack import Stack
from zenhance.types import FloatArray, Region

__all__ = ["PixelHash", "Survey", "VolumeReader", "measure", "measure_noise", "survey"]


MAX_NON_FINITE = 0.1
# Percentiles and noise are taken from at most this many voxels, picked on a regular grid of planes.
SAMPLE_VOXELS = 4_000_000
# So much is read at a time: 16 planes of 2048 x 2048 pixels, as deep as chunks of a zarr array usually are.
SLAB_BYTES = 128 * 2**20


@dataclass(frozen=True)
class VolumeReader:
    """Reads regions of one (t, c) volume as finite float32.

    Parameters
    ----------
    stack : Stack
        The image.
    t, c : int
        Which volume.
    not_finite : int, optional
        How many of its voxels are NaN or infinite, where they were counted already (:func:`survey` does).
    """

    stack: Stack
    t: int = 0
    c: int = 0
    not_finite: int | None = None
    _fill: Fill = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Not self.raw: a reference back to the reader would keep image and fill alive until the garbage collector comes by.
        object.__setattr__(
            self, "_fill", Fill(partial(self.stack.read, self.t, self.c), self.stack.volume_shape)
        )

    @property
    def all_finite(self) -> bool:
        """Whether it is known that nothing has to be filled in."""
        return self.stack.dtype.kind != "f" or self.not_finite == 0

    def raw(self, region: Region) -> npt.NDArray[Any]:
        """Return a region (Z, Y, X) as stored."""
        return self.stack.read(self.t, self.c, region)

    def mask(self, region: Region) -> npt.NDArray[np.bool_] | None:
        """Return where a region is not finite, or None where all of it is."""
        if self.all_finite:
            return None
        bad = ~np.isfinite(self.raw(region))
        return bad if bad.any() else None

    def read(self, region: Region) -> FloatArray:
        """Return a region as float32; NaN and infinite voxels take values from their finite neighbours (:mod:`zenhance.measurement.nonfinite`)."""
        block = self.raw(region)
        bad = None if self.all_finite else ~np.isfinite(block)
        filled = block.astype(np.float32)
        if bad is not None and bad.any():
            self._fill.into(filled, bad, region)
        return filled

    def slabs(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield the volume in slabs of planes as stored, each with the index of its first plane."""
        depth, height, width = self.stack.volume_shape
        most = max(1, SLAB_BYTES // (height * width * self.stack.dtype.itemsize))
        # Chunks are 2, 4, 8 ... planes deep: slabs of such a depth do not cut through them.
        step = 1 << (most.bit_length() - 1)
        for z in range(0, depth, step):
            yield z, self.raw((slice(z, min(z + step, depth)), slice(None), slice(None)))

    def planes(self, most_voxels: int | None = None) -> list[int]:
        """Return the indices of all planes, or of evenly spaced ones that hold at most so many voxels together."""
        depth, height, width = self.stack.volume_shape
        count = (
            depth if most_voxels is None else max(1, min(depth, most_voxels // (height * width)))
        )
        return sorted({round(i) for i in np.linspace(0, depth - 1, count)})


class PixelHash:
    """sha256 over dtype, shape and pixels of a whole stack, fed with its volumes as they come by.

    Parameters
    ----------
    stack : Stack
        All of it is hashed, in the order of its axes, so that the digest equals :func:`zenhance.provenance.hash_array` of the array.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._digest = ArrayHash(stack.dtype, stack.shape)
        self._left = list(stack.volumes())

    def take(self, reader: VolumeReader) -> bool:
        """Tell whether this volume is the next in order; if so, all of it has to be added."""
        if (
            not self._left
            or reader.stack is not self._stack
            or self._left[0] != (reader.t, reader.c)
        ):
            return False
        del self._left[0]
        return True

    def add(self, slab: npt.NDArray[Any]) -> None:
        """Feed the next planes of the volume that was taken."""
        self._digest.add(slab)

    def finish(self) -> Generator[float, None, str]:
        """Read the volumes that did not come by in order, and return the digest.

        Yields
        ------
        float
            The fraction read, once a slab.
        """
        left, self._left = self._left, []
        depth = self._stack.volume_shape[0]
        for number, (t, c) in enumerate(left):
            for z, slab in VolumeReader(self._stack, t, c).slabs():
                self._digest.add(slab)
                yield (number + (z + len(slab)) / depth) / len(left)
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Survey:
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


class _Tally:
    """Running totals over planes, and the sample of them."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._top = np.iinfo(dtype).max if dtype.kind in "iu" else None
        self.total = self.not_finite = self._saturated = 0
        self._first = self._second = 0.0
        self._low, self._high = np.inf, -np.inf
        self._sample: list[FloatArray] = []

    def add(self, plane: npt.NDArray[Any]) -> int:
        """Count a plane (Y, X) as stored; return how many of its voxels are finite."""
        grey = plane.astype(np.float64)
        finite = grey[np.isfinite(grey)] if self._dtype.kind == "f" else grey
        self.total += grey.size
        self.not_finite += grey.size - finite.size
        if not finite.size:
            return 0
        self._low, self._high = (
            min(self._low, float(finite.min())),
            max(self._high, float(finite.max())),
        )
        self._first += float(finite.sum())
        self._second += float(np.square(finite).sum())
        self._saturated += 0 if self._top is None else int(np.count_nonzero(plane == self._top))
        return int(finite.size)

    def keep(self, plane: FloatArray) -> None:
        """Make a plane (Y, X) part of the sample."""
        self._sample.append(plane)

    def sample(self) -> FloatArray:
        """Return the sampled planes (Z, Y, X); regions without data are not finite."""
        return np.stack(self._sample)

    def statistics(self, background: float | None) -> VolumeStatistics:
        """Return the statistics of the finite voxels.

        Raises
        ------
        StackError
            More than a tenth of the voxels is NaN or infinite.
        """
        count = self.total - self.not_finite
        if count < (1 - MAX_NON_FINITE) * self.total:
            raise StackError(
                f"{self.not_finite} of {self.total} voxels are NaN or infinite; at most a tenth may be: repair or crop the stack first"
            )
        mean = self._first / count
        std = float(np.sqrt(max(self._second / count - mean * mean, 0.0)))
        sample = self.sample()
        p_low, p_high = (float(v) for v in np.percentile(sample[np.isfinite(sample)], [0.1, 99.9]))
        ground = float(background) if background is not None else float(estimate_background(sample))
        return VolumeStatistics(self._low, self._high, mean, std, p_low, p_high, ground)

    def remarks(self) -> tuple[str, ...]:
        """Say what the user should know of these voxels."""
        said = []
        low, high = self._low, self._high
        if self.not_finite:
            said.append(
                f"{self.not_finite} voxels are NaN or infinite; they were filled in for the run and are NaN in the result"
            )
        if low == high:
            said.append(f"the volume has no contrast: every voxel is {low:g}")
        elif self._saturated > 0.01 * self.total:
            said.append(
                f"{100 * self._saturated / self.total:.1f} % of the voxels are saturated; bright structures cannot be restored there"
            )
        if self._dtype.kind in "iu" and max(abs(low), abs(high)) > 2**24:
            said.append(
                f"intensities reach {max(abs(low), abs(high)):.3g}; above 16777216 single counts are rounded"
            )
        if self._dtype.kind == "b":
            said.append("the stack holds only true and false; it is treated as 0 and 1")
        return tuple(said)


def _sampled(reader: VolumeReader, z: int, plane: npt.NDArray[Any]) -> FloatArray:
    """Return a plane (Y, X) for the sample: dead pixels filled, regions without data left so that the estimates pass them over."""
    missing = (
        plane.size - int(np.count_nonzero(np.isfinite(plane))) if plane.dtype.kind == "f" else 0
    )
    if 0 < missing <= MAX_ISOLATED:
        filled: FloatArray = reader.read((slice(z, z + 1), slice(None), slice(None)))[0]
        return filled
    return plane.astype(np.float32)


def _pass(
    readers: Sequence[VolumeReader], pixels: PixelHash | None = None
) -> Generator[float, None, tuple[_Tally, tuple[VolumeReader, ...]]]:
    """Read every voxel of the volumes once, slab by slab; at least one plane of each goes into the sample."""
    tally = _Tally(readers[0].stack.dtype)
    counted = []
    depth = readers[0].stack.volume_shape[0]
    for number, reader in enumerate(readers):
        wanted = reader.planes(SAMPLE_VOXELS // len(readers))
        before = tally.not_finite
        feeds = pixels is not None and pixels.take(reader)
        for first, slab in reader.slabs():
            if pixels is not None and feeds:
                pixels.add(slab)
            for z, plane in enumerate(slab, first):
                # A plane without data is replaced by the next that has some.
                if tally.add(plane) and wanted and wanted[0] <= z:
                    tally.keep(_sampled(reader, z, plane))
                    del wanted[0]
            yield (number + (first + len(slab)) / depth) / len(readers)
        counted.append(replace(reader, not_finite=tally.not_finite - before))
    return tally, tuple(counted)


def survey(
    readers: Sequence[VolumeReader],
    background: float | None = None,
    pixels: PixelHash | None = None,
) -> Generator[float, None, Survey]:
    """Measure what one or several volumes share, in a single pass over their voxels.

    Parameters
    ----------
    readers : sequence of VolumeReader
        One volume, or all that are to share their statistics.
    background : float, optional
        Given by the user in the input's units; left out, it is estimated.
    pixels : PixelHash, optional
        Fed on the way with the volumes whose turn it is.

    Yields
    ------
    float
        The fraction read, once a slab: the place to stop or to look after the viewer.

    Returns
    -------
    Survey

    Raises
    ------
    StackError
        More than a tenth of the voxels is NaN or infinite.
    """
    tally, counted = yield from _pass(readers, pixels)
    statistics = tally.statistics(background)
    return Survey(
        statistics, estimate(tally.sample(), offset=statistics.background), tally.remarks(), counted
    )


def measure(
    readers: Sequence[VolumeReader], background: float | None = None
) -> tuple[VolumeStatistics, tuple[str, ...]]:
    """Measure the statistics that one or several volumes share; :func:`survey` does it in steps.

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
        More than a tenth of the voxels is NaN or infinite.
    """
    steps = _pass(readers)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            tally: _Tally = done.value[0]
            return tally.statistics(background), tally.remarks()


def measure_noise(readers: Sequence[VolumeReader], statistics: VolumeStatistics) -> PoissonGauss:
    """Estimate gain, offset and read noise from evenly spaced planes; the offset is the statistics' background."""
    share = SAMPLE_VOXELS // len(readers)
    kept = []
    for reader in readers:
        for z in reader.planes(share):
            plane = _sampled(reader, z, reader.raw((slice(z, z + 1), slice(None), slice(None)))[0])
            if np.isfinite(plane).any():
                kept.append(plane)
    if not kept:
        kept = [readers[0].read((slice(0, 1), slice(None), slice(None)))[0]]
    return estimate(np.stack(kept), offset=statistics.background)
