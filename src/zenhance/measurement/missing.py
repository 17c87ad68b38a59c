"""Missing data of one volume: voxels that hold no measurement, and the values that replace them.

Four kinds count as missing: voxels that are not finite, constant padding, blank planes
(:mod:`zenhance.measurement.padding`) and single outliers (:mod:`zenhance.measurement.outliers`).
An outlier takes the median of its eight neighbours, and a single NaN the median of its finite
neighbours. A region without data is continued from its border, because a deconvolution would
sharpen a step down to any constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.contract.spec import NoiseLike
from zenhance.measurement.outliers import Candidates, find_candidates
from zenhance.measurement.padding import framing, is_constant, looks_blank, padding_of
from zenhance.types import FloatArray, Region, Triple

__all__ = ["FILL_RADIUS_PX", "MAX_ISOLATED", "MissingData"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

# Half-width of the neighbourhood whose median replaces a single voxel.
FILL_RADIUS_PX = 2
# A plane with at most this many missing voxels has dead pixels and not a region without data.
MAX_ISOLATED = 1000
# The search for a nearer measured voxel extends to this many planes above and below.
MAX_PLANES_AWAY = 8
PLANES_BYTES = 256 * 2**20
FILLS_BYTES = 512 * 2**20
_KEPT_BLOCKS = 5


class MissingData:
    """The missing voxels of one volume.

    Values are computed plane by plane from whole planes and kept, so that every tile sees the
    same values, whatever its halo.

    Parameters
    ----------
    read : callable
        Takes a region, returns it as stored (Z, Y, X).
    shape_px : tuple of int
        Of the volume.
    """

    def __init__(self, read: Callable[[Region], Array], shape_px: Triple) -> None:
        self._read, self._shape = read, shape_px
        self._planes: dict[int, Array] = {}
        self._fills: dict[int, tuple[Places, FloatArray]] = {}
        # Of each plane that was examined: padding as packed bits, its one value, what stands out.
        self._padding: dict[int, npt.NDArray[np.uint8] | None] = {}
        self._constant: dict[int, float] = {}
        self._candidates: dict[int, Candidates] = {}
        self._not_finite: dict[int, npt.NDArray[np.uint8]] = {}
        self._blank: dict[int, bool] = {}
        self._noise: NoiseLike | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is computed again where it is needed."""
        return {**self.__dict__, "_planes": {}, "_fills": {}}

    def examine(self, z: int, plane: Array) -> None:
        """Look for missing voxels in a plane (Y, X) as stored, so that it is not read again."""
        if z in self._padding:
            return
        finite = np.isfinite(plane) if plane.dtype.kind == "f" else None
        if finite is not None and not finite.all():
            self._not_finite[z] = np.packbits(~finite)
        self._padding[z] = None
        if plane.dtype.kind == "b":
            return
        if is_constant(plane):
            self._constant[z] = float(plane.flat[0])
            return
        padding = padding_of(plane)
        if padding is not None:
            self._padding[z] = np.packbits(padding)
        missing = padding if finite is None or finite.all() else ~finite | _or(padding, plane.shape)
        found = find_candidates(plane, missing)
        if plane.dtype.kind in "iu":
            found = replace(found, repaired=np.rint(found.repaired))
        if found.places.size:
            self._candidates[z] = found

    @property
    def has_candidates(self) -> bool:
        """Whether a voxel stands out so far that the noise has to decide what it is."""
        return bool(self._candidates)

    def settle(self, noise: NoiseLike | None) -> None:
        """Decide with the volume's noise which voxels are outliers; None repairs none."""
        self._noise = noise
        for z in self._candidates:
            self._fills.pop(z, None)

    def outliers(self, z: int) -> tuple[Places, FloatArray]:
        """Return the flat indices of a plane's outliers and the values that replace them."""
        self._examined(z)
        if self._noise is None or z not in self._candidates:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        return self._candidates[z].outliers(self._noise)

    def outlier_planes(self) -> list[int]:
        """Return the examined planes that have outliers."""
        return [z for z in sorted(self._candidates) if self.outliers(z)[0].size]

    def has_data(self, z: int) -> bool:
        """Return whether a plane has measured voxels."""
        void = self.void(z)
        return void is None or not void.all()

    def padding(self, z: int) -> Mask | None:
        """Return the padding (Y, X) of a plane; None where it has none."""
        self._examined(z)
        if z in self._constant:
            return np.ones(self._shape[1:], np.bool_) if self._blank_at(z) else None
        packed = self._padding[z]
        return None if packed is None else self._unpacked(packed)

    def void(self, z: int) -> Mask | None:
        """Return where a plane (Y, X) has no data, outliers not counted; None where it is whole."""
        padding = self.padding(z)
        if z not in self._not_finite:
            return padding
        return self._unpacked(self._not_finite[z]) | _or(padding, self._shape[1:])

    def stray(self, z: int) -> int:
        """Return how many voxels of a plane are not finite, those that frame it not counted."""
        self._examined(z)
        if z not in self._not_finite:
            return 0
        mask = self._unpacked(self._not_finite[z])
        rim = framing(mask)
        return int(np.count_nonzero(mask if rim is None else mask & ~rim))

    @property
    def not_finite(self) -> int | None:
        """How many voxels are NaN or infinite; None while a plane is not examined."""
        if len(self._padding) < self._shape[0]:
            return None
        return sum(int(np.unpackbits(bits).sum()) for bits in self._not_finite.values())

    def _unpacked(self, packed: npt.NDArray[np.uint8]) -> Mask:
        count = self._shape[1] * self._shape[2]
        return np.unpackbits(packed, count=count).astype(np.bool_).reshape(self._shape[1:])

    def mask(self, region: Region) -> Mask | None:
        """Return where a region has no data; None where all of it was measured."""
        (first, last, _), rows, columns = (
            r.indices(n) for r, n in zip(region, self._shape, strict=True)
        )
        window = (slice(*rows), slice(*columns))
        found = [self.void(z) for z in range(first, last)]
        if all(void is None or not void[window].any() for void in found):
            return None
        return np.stack([_or(void, self._shape[1:])[window] for void in found])

    def into(self, block: FloatArray, region: Region) -> None:
        """Replace the missing voxels of a block.

        Parameters
        ----------
        block : ndarray (Z, Y, X)
            Changed in place.
        region : tuple of slice
            Position of the block in the volume.
        """
        (first, last, _), (top, bottom, _), (left, right, _) = (
            r.indices(n) for r, n in zip(region, self._shape, strict=True)
        )
        for z in range(first, last):
            places, values = self._of_plane(z)
            y, x = np.divmod(places, self._shape[2])
            inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
            block[z - first, y[inside] - top, x[inside] - left] = values[inside]

    def _examined(self, z: int) -> None:
        if z not in self._padding:
            self.examine(z, self._plane(z))

    def _blank_at(self, z: int) -> bool:
        if z not in self._blank:
            self._blank[z] = self._is_blank(z)
        return self._blank[z]

    def _is_blank(self, z: int) -> bool:
        """Return whether a plane of one value is blank: its neighbours hardly have that value."""
        for distance in range(1, self._shape[0]):
            for other in (z - distance, z + distance):
                if not 0 <= other < self._shape[0]:
                    continue
                self._examined(other)
                if other not in self._constant:
                    measured = self._plane(other)
                    padding = self.padding(other)
                    if padding is not None:
                        measured = measured[~padding]
                    return looks_blank(self._constant[z], measured)
        return False

    def _plane(self, z: int) -> Array:
        """Return a plane as stored, read together with its neighbours."""
        plane_bytes = 8 * self._shape[1] * self._shape[2]
        most = max(1, min(16, PLANES_BYTES // (_KEPT_BLOCKS * plane_bytes)))
        step = 1 << (most.bit_length() - 1)
        number = z // step
        if number not in self._planes:
            while len(self._planes) >= _KEPT_BLOCKS:
                del self._planes[next(iter(self._planes))]
            last = min((number + 1) * step, self._shape[0])
            self._planes[number] = self._read(
                (slice(number * step, last), slice(0, self._shape[1]), slice(0, self._shape[2]))
            )
        plane: Array = self._planes[number][z - number * step]
        return plane

    def _of_plane(self, z: int) -> tuple[Places, FloatArray]:
        """Return the flat indices of a plane's missing voxels, and their values."""
        if z not in self._fills:
            found = self._computed(z)
            while (
                self._fills
                and sum(places.nbytes + values.nbytes for places, values in self._fills.values())
                > FILLS_BYTES
            ):
                del self._fills[next(iter(self._fills))]
            self._fills[z] = found
        return self._fills[z]

    def _computed(self, z: int) -> tuple[Places, FloatArray]:
        hot, repaired = self.outliers(z)
        void = self.void(z)
        if void is None:
            return hot, repaired
        if void.all():
            return np.arange(void.size), self._copied(z)
        places = np.flatnonzero(void)
        values = np.full(places.size, np.nan, np.float32)
        y, x = np.divmod(places, self._shape[2])
        if places.size <= MAX_ISOLATED and self.padding(z) is None:
            values = self._medians(z, y, x)
        rest = np.isnan(values)
        if rest.any():
            values[rest] = self._nearest(z, void, y[rest], x[rest])
        return np.concatenate([places, hot]), np.concatenate([values, repaired])

    def _measured(self, z: int) -> FloatArray:
        """Return a plane with NaN for its missing voxels."""
        plane = self._plane(z).astype(np.float32)
        void = self.void(z)
        if void is not None:
            plane[void] = np.nan
        places, values = self.outliers(z)
        plane.ravel()[places] = values
        return plane

    def _copied(self, z: int) -> FloatArray:
        """Return the nearest plane that has data, itself filled."""
        for distance in range(1, self._shape[0]):
            for other in (z - distance, z + distance):
                if 0 <= other < self._shape[0] and self.has_data(other):
                    flat = self._plane(other).astype(np.float32).ravel()
                    places, values = self._of_plane(other)
                    flat[places] = values
                    return flat
        return np.zeros(self._shape[1] * self._shape[2], np.float32)

    def _medians(self, z: int, y: Places, x: Places) -> FloatArray:
        """Return the median of the finite voxels around each place, NaN where there are none."""
        radius = FILL_RADIUS_PX
        around = []
        padded = [
            np.pad(self._measured(i), radius, constant_values=np.nan) for i in self._near(z, radius)
        ]
        for plane in padded:
            rows = [
                plane[y + dy, x + dx]
                for dy in range(2 * radius + 1)
                for dx in range(2 * radius + 1)
            ]
            around.append(np.stack(rows))
        values = np.concatenate(around).astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        found = np.full(y.size, np.nan, np.float32)
        some = np.isfinite(values).any(axis=0)
        found[some] = np.nanmedian(values[:, some], axis=0)
        return found

    def _near(self, z: int, radius: int) -> range:
        return range(max(z - radius, 0), min(z + radius + 1, self._shape[0]))

    def _nearest(self, z: int, bad: Mask, y: Places, x: Places) -> FloatArray:
        """Return the nearest measured voxel of the plane, or one straight above or below."""
        rows, columns = (np.flatnonzero(bad.any(axis=axis)) for axis in (1, 0))
        # The nearest finite voxel is never farther out than the rim around all that are not.
        top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
        window = (slice(top, int(rows[-1]) + 2), slice(left, int(columns[-1]) + 2))
        distances, nearest = ndimage.distance_transform_edt(bad[window], return_indices=True)
        at = (y - top, x - left)
        values: FloatArray = self._measured(z)[window][nearest[0][at], nearest[1][at]].astype(
            np.float32
        )
        far = np.asarray(distances[at])
        for distance in range(1, MAX_PLANES_AWAY + 1):
            open_ = np.flatnonzero(far > distance)
            beside = [i for i in (z - distance, z + distance) if 0 <= i < self._shape[0]]
            if not open_.size or not beside:
                break
            seen = np.stack([self._measured(i)[y[open_], x[open_]] for i in beside]).astype(
                np.float64
            )
            finite = np.isfinite(seen)
            found = finite.any(axis=0)
            total = np.where(finite, seen, 0.0).sum(axis=0)[found]
            values[open_[found]] = total / finite.sum(axis=0)[found]
            far[open_[found]] = 0.0
        return values


def _or(mask: Mask | None, shape: tuple[int, ...]) -> Mask:
    return np.zeros(shape, np.bool_) if mask is None else mask
