"""What a method did to a volume as a whole: voxels set to the floor, and the total intensity.

Every tile is counted while it is written, so this costs one further read of the input and no
memory. A change that the user must know of becomes one sentence among the warnings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zenhance.contract.spec import VolumeStatistics
from zenhance.measurement.reader import VolumeReader
from zenhance.types import FloatArray, Region

__all__ = ["MAX_FLOOR_SHARE", "MAX_TOTAL_CHANGE", "VolumeChange", "change_warnings"]

MAX_FLOOR_SHARE = 0.05
"""Share of the voxels that a method may set to the floor without a warning."""
MAX_TOTAL_CHANGE = 0.02
"""Change of the total intensity above the background that needs no warning."""
# Voxels closer to the floor than this share of the intensity range are on it.
FLOOR_TOLERANCE = 1e-3
# Without specimen there is no total to compare: it counts as at least this share of the range.
MIN_TOTAL = 0.02
_SUMS = ("voxels", "before_voxels", "before_at_minimum", "total", "before_total")
_LISTS = ("on_floor", "before_on_floor")


@dataclass
class VolumeChange:
    """Counts of one (t, c) volume, before and after.

    Parameters
    ----------
    where : str
        Names the volume; empty where there is only one.
    statistics : VolumeStatistics
        Of the measurement.
    offset : float
        Intensity without light, as the run uses it.
    """

    where: str
    statistics: VolumeStatistics
    offset: float
    floors: tuple[float, ...] = field(init=False)
    on_floor: list[int] = field(init=False)
    before_on_floor: list[int] = field(init=False)
    voxels: int = 0
    before_voxels: int = 0
    # The lowest value of the result: a method that clips where no floor is expected is seen too.
    lowest: float = math.inf
    at_lowest: int = 0
    before_at_minimum: int = 0
    total: float = 0.0
    before_total: float = 0.0

    def __post_init__(self) -> None:
        self.floors = tuple(dict.fromkeys((self.offset, self.statistics.background, 0.0)))
        self.on_floor = [0] * len(self.floors)
        self.before_on_floor = [0] * len(self.floors)

    @property
    def span(self) -> float:
        """Range from background to the 99.9 % percentile, or to the maximum if that is empty."""
        known = self.statistics
        return max(known.percentile_high - known.background, 0.0) or max(
            known.maximum - known.background, 0.0
        )

    def add(self, reader: VolumeReader, region: Region, block: FloatArray) -> None:
        """Count a block of the result, and the voxels of the measurement that it stands for.

        Parameters
        ----------
        reader : VolumeReader
            Of the measurement.
        region : tuple of slice
            In voxels of the measurement.
        block : float32 array (Z, Y, X)
            Of the result, a whole multiple of the region's size.
        """
        # As the method sees it: a repaired outlier is no change of the method.
        before = reader.read(region)
        # Voxels without data keep their value, whatever the method does.
        void = reader.mask(region)
        if void is not None:
            finite = kept = ~void
            for axis in range(3):
                kept = np.repeat(kept, block.shape[axis] // before.shape[axis], axis=axis)
            block, before = block[kept], before[finite]
        near = FLOOR_TOLERANCE * self.span
        self._count_lowest(block)
        self.voxels += block.size
        self.before_voxels += before.size
        self.total += float(block.sum(dtype=np.float64))
        self.before_total += float(before.sum(dtype=np.float64))
        at_minimum = int(np.count_nonzero(before <= self.statistics.minimum + near))
        self.before_at_minimum += at_minimum
        for number, floor in enumerate(self.floors):
            self.on_floor[number] += int(np.count_nonzero(np.abs(block - floor) <= near))
            already = int(np.count_nonzero(np.abs(before - floor) <= near))
            self.before_on_floor[number] += max(already, at_minimum)

    def empty(self) -> VolumeChange:
        """Return a count of the same volume with nothing counted yet."""
        return VolumeChange(self.where, self.statistics, self.offset)

    def counts(self) -> dict[str, Any]:
        """Return what was counted, for :meth:`merge`; JSON can hold it."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return lists | {name: getattr(self, name) for name in (*_SUMS, "lowest", "at_lowest")}

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add what was counted elsewhere of the same volume."""
        if counts["lowest"] < self.lowest:
            self.lowest, self.at_lowest = counts["lowest"], 0
        if counts["lowest"] == self.lowest:
            self.at_lowest += counts["at_lowest"]
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + counts[name])
        for name in _LISTS:
            added = zip(getattr(self, name), counts[name], strict=True)
            setattr(self, name, [a + b for a, b in added])

    def _count_lowest(self, block: FloatArray) -> None:
        if not block.size:
            return
        lowest = float(block.min())
        if lowest < self.lowest:
            self.lowest, self.at_lowest = lowest, 0
        if lowest == self.lowest:
            self.at_lowest += int(np.count_nonzero(block == lowest))

    def floor(self) -> tuple[float, float]:
        """Return the floor with most voxels, and the share that the method has added to it."""
        if not self.voxels:
            return 0.0, 0.0
        levels = (*self.floors, self.lowest)
        counts = zip(
            (*self.on_floor, self.at_lowest),
            (*self.before_on_floor, self.before_at_minimum),
            strict=True,
        )
        added = [
            after / self.voxels - before / max(self.before_voxels, 1) for after, before in counts
        ]
        return levels[added.index(max(added))], max(added)

    def total_change(self) -> float:
        """Return the relative change of the total above the background."""
        if not self.voxels or self.span <= 0:
            return 0.0
        after, before = self.total / self.voxels, self.before_total / max(self.before_voxels, 1)
        above = before - self.statistics.background
        return (after - before) / max(abs(above), MIN_TOTAL * self.span)


def change_warnings(changes: Sequence[VolumeChange]) -> list[str]:
    """Return a sentence for the volume with most voxels set to the floor, and for the total.

    Parameters
    ----------
    changes : sequence of VolumeChange
        Of all volumes of a run.

    Returns
    -------
    list of str
        Empty where no volume has 5 % more voxels on the floor than its measurement, and no total
        changed by 2 %.
    """
    said = []
    worst = max(changes, key=lambda change: change.floor()[1], default=None)
    if worst is not None and worst.floor()[1] > MAX_FLOOR_SHARE:
        level, added = worst.floor()
        said.append(
            f"the method set {100 * added:.0f} % of the voxels{worst.where} to the floor "
            f"{level:.4g}; check the background and the noise estimate if there is specimen in them"
        )
    worst = max(changes, key=lambda change: abs(change.total_change()), default=None)
    if worst is not None and abs(worst.total_change()) > MAX_TOTAL_CHANGE:
        said.append(
            f"the total intensity above the background {worst.statistics.background:.4g} changed "
            f"by {100 * worst.total_change():+.0f} %{worst.where}; compare intensities with care"
        )
    return said
