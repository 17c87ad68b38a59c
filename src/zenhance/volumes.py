"""What is known of a volume before it is enhanced: its voxels made finite, its statistics, its noise.

Everything here is measured once per volume, never per tile: a statistic that changes from tile to tile leaves seams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.contract.spec import FloatArray, VolumeStatistics
from zenhance.errors import StackError
from zenhance.physics.noise import PoissonGauss, estimate, estimate_background
from zenhance.stack import Stack

__all__ = ["VolumeReader", "measure", "measure_noise"]

Region = tuple[slice, slice, slice]

# A voxel that is not finite is replaced by the median of the finite ones in this neighbourhood (half-width in voxels).
FILL_RADIUS_PX = 2
MAX_NON_FINITE = 0.1
# Percentiles and noise are taken from at most this many voxels, picked on a regular grid of planes.
SAMPLE_VOXELS = 4_000_000


@dataclass(frozen=True)
class VolumeReader:
    """Reads regions of one (t, c) volume as finite float32.

    Parameters
    ----------
    stack : Stack
        The image.
    t, c : int
        Which volume.
    """

    stack: Stack
    t: int = 0
    c: int = 0

    def raw(self, region: Region) -> npt.NDArray[Any]:
        """Return a region (Z, Y, X) as stored."""
        return self.stack.read(self.t, self.c, region)

    def mask(self, region: Region) -> npt.NDArray[np.bool_] | None:
        """Return where a region is not finite, or None where all of it is."""
        if self.stack.dtype.kind != "f":
            return None
        bad = ~np.isfinite(self.raw(region))
        return bad if bad.any() else None

    def read(self, region: Region) -> FloatArray:
        """Return a region as float32; NaN and infinite voxels become the median of their finite neighbours."""
        block = self.raw(region)
        if block.dtype.kind != "f":
            return block.astype(np.float32)
        bad = ~np.isfinite(block)
        return self._filled(block, bad, region) if bad.any() else block.astype(np.float32)

    def _filled(self, block: npt.NDArray[Any], bad: npt.NDArray[np.bool_], region: Region) -> FloatArray:
        filled = block.astype(np.float32)
        starts = [r.indices(n)[0] for r, n in zip(region, self.stack.volume_shape, strict=True)]
        for voxel in np.argwhere(bad):
            near = [int(v) + s for v, s in zip(voxel, starts, strict=True)]
            around = (
                slice(max(near[0] - FILL_RADIUS_PX, 0), near[0] + FILL_RADIUS_PX + 1),
                slice(max(near[1] - FILL_RADIUS_PX, 0), near[1] + FILL_RADIUS_PX + 1),
                slice(max(near[2] - FILL_RADIUS_PX, 0), near[2] + FILL_RADIUS_PX + 1),
            )
            values = self.raw(around)
            finite = values[np.isfinite(values)]
            filled[tuple(voxel)] = np.median(finite) if finite.size else 0.0
        return filled

    def planes(self, most_voxels: int | None = None) -> list[int]:
        """Return the indices of all planes, or of evenly spaced ones that hold at most so many voxels together."""
        depth, height, width = self.stack.volume_shape
        count = depth if most_voxels is None else max(1, min(depth, most_voxels // (height * width)))
        return sorted({round(i) for i in np.linspace(0, depth - 1, count)})


def _plane(index: int) -> Region:
    return (slice(index, index + 1), slice(None), slice(None))


def _sample(readers: Sequence[VolumeReader]) -> FloatArray:
    """Read evenly spaced planes of the volumes, at most ``SAMPLE_VOXELS`` in all (at least one plane each)."""
    share = SAMPLE_VOXELS // len(readers)
    return np.concatenate([reader.read(_plane(z)) for reader in readers for z in reader.planes(share)])


def measure(readers: Sequence[VolumeReader], background: float | None = None) -> tuple[VolumeStatistics, tuple[str, ...]]:
    """Measure the statistics that one or several volumes share, plane by plane.

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
    total = not_finite = saturated = 0
    first = second = 0.0
    low, high = np.inf, -np.inf
    top = np.iinfo(readers[0].stack.dtype).max if readers[0].stack.dtype.kind in "iu" else None
    for reader in readers:
        for z in reader.planes():
            plane = reader.raw(_plane(z)).astype(np.float64)
            finite = plane[np.isfinite(plane)]
            total += plane.size
            not_finite += plane.size - finite.size
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
                first += float(finite.sum())
                second += float(np.square(finite).sum())
                saturated += 0 if top is None else int((finite == top).sum())
    count = total - not_finite
    if count < (1 - MAX_NON_FINITE) * total:
        raise StackError(f"{not_finite} of {total} voxels are NaN or infinite; at most a tenth may be: repair or crop the stack first")
    mean = first / count
    std = float(np.sqrt(max(second / count - mean * mean, 0.0)))
    sample = _sample(readers)
    p_low, p_high = (float(v) for v in np.percentile(sample, [0.1, 99.9]))
    ground = float(background) if background is not None else float(estimate_background(sample))
    warnings = _remarks(not_finite, saturated, total, low, high, readers[0].stack.dtype)
    return VolumeStatistics(low, high, mean, std, p_low, p_high, ground), warnings


def _remarks(not_finite: int, saturated: int, total: int, low: float, high: float, dtype: np.dtype[Any]) -> tuple[str, ...]:
    said = []
    if not_finite:
        said.append(f"{not_finite} voxels are NaN or infinite; they were filled in for the run and are NaN in the result")
    if low == high:
        said.append(f"the volume has no contrast: every voxel is {low:g}")
    elif saturated > 0.01 * total:
        said.append(f"{100 * saturated / total:.1f} % of the voxels are saturated; bright structures cannot be restored there")
    if dtype.kind in "iu" and max(abs(low), abs(high)) > 2**24:
        said.append(f"intensities reach {max(abs(low), abs(high)):.3g}; above 16777216 single counts are rounded")
    if dtype.kind == "b":
        said.append("the stack holds only true and false; it is treated as 0 and 1")
    return tuple(said)


def measure_noise(readers: Sequence[VolumeReader], statistics: VolumeStatistics) -> PoissonGauss:
    """Estimate gain, offset and read noise from evenly spaced planes; the offset is the statistics' background."""
    return estimate(_sample(readers), offset=statistics.background)
