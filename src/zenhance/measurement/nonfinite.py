"""Values for voxels that are not finite, so that nothing rings into the good ones beside them.

A single dead voxel takes the median of its neighbours. A region without data, as registration and deskewing leave it, is
continued from its border: a step down to any constant would act as an edge, which a deconvolution sharpens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.types import Region

__all__ = ["FILL_RADIUS_PX", "MAX_ISOLATED", "Fill"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

# Half-width of the neighbourhood a median is taken of.
FILL_RADIUS_PX = 2
# A plane with at most so many voxels that are not finite has dead pixels rather than a region without data.
MAX_ISOLATED = 1000
# As far as this above and below a nearer finite voxel is looked for.
REACH_PLANES = 8
PLANES_BYTES = 256 * 2**20
FILLS_BYTES = 512 * 2**20
_KEPT_BLOCKS = 5


class Fill:
    """The values of one volume's voxels that are not finite.

    They are computed plane by plane from whole planes and kept, so that every tile sees the same, whatever its halo.

    Parameters
    ----------
    read : callable
        Takes a region, returns it as stored (Z, Y, X).
    shape_px : tuple of int
        Of the volume.
    """

    def __init__(self, read: Callable[[Region], Array], shape_px: tuple[int, int, int]) -> None:
        self._read, self._shape = read, shape_px
        self._planes: dict[int, Array] = {}
        self._fills: dict[int, tuple[Places, Floats]] = {}

    def into(self, block: Floats, bad: npt.NDArray[np.bool_], region: Region) -> None:
        """Replace the voxels of a block that are not finite.

        Parameters
        ----------
        block : ndarray (Z, Y, X)
            Changed in place.
        bad : ndarray of bool
            Where it is not finite.
        region : tuple of slice
            Where in the volume it lies.
        """
        (z, _, _), (top, bottom, _), (left, right, _) = (
            r.indices(n) for r, n in zip(region, self._shape, strict=True)
        )
        for row in np.flatnonzero(bad.any(axis=(1, 2))):
            places, values = self._of_plane(z + int(row))
            y, x = np.divmod(places, self._shape[2])
            inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
            block[row, y[inside] - top, x[inside] - left] = values[inside]

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

    def _of_plane(self, z: int) -> tuple[Places, Floats]:
        """Return the flat indices of a plane's voxels that are not finite, and their values."""
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

    def _computed(self, z: int) -> tuple[Places, Floats]:
        bad = ~np.isfinite(self._plane(z))
        if bad.all():
            return np.arange(bad.size), self._copied(z)
        places = np.flatnonzero(bad)
        values = np.full(places.size, np.nan, np.float32)
        y, x = np.divmod(places, self._shape[2])
        if places.size <= MAX_ISOLATED:
            values = self._medians(z, y, x)
        rest = np.isnan(values)
        if rest.any():
            values[rest] = self._nearest(z, bad, y[rest], x[rest])
        return places, values

    def _copied(self, z: int) -> Floats:
        """Return the nearest plane that has data, itself filled."""
        for distance in range(1, self._shape[0]):
            for other in (z - distance, z + distance):
                if 0 <= other < self._shape[0] and np.isfinite(self._plane(other)).any():
                    flat = self._plane(other).astype(np.float32).ravel()
                    places, values = self._of_plane(other)
                    flat[places] = values
                    return flat
        return np.zeros(self._shape[1] * self._shape[2], np.float32)

    def _medians(self, z: int, y: Places, x: Places) -> Floats:
        """Return the median of the finite voxels around each place, NaN where there are none."""
        radius = FILL_RADIUS_PX
        around = []
        padded = [
            np.pad(self._plane(i), radius, constant_values=np.nan) for i in self._near(z, radius)
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

    def _nearest(self, z: int, bad: npt.NDArray[np.bool_], y: Places, x: Places) -> Floats:
        """Return the nearest finite voxel of the plane, or the one straight above or below where that is nearer."""
        rows, columns = (np.flatnonzero(bad.any(axis=axis)) for axis in (1, 0))
        # The nearest finite voxel is never farther out than the rim around all that are not.
        top, left = max(int(rows[0]) - 1, 0), max(int(columns[0]) - 1, 0)
        window = (slice(top, int(rows[-1]) + 2), slice(left, int(columns[-1]) + 2))
        distances, nearest = ndimage.distance_transform_edt(bad[window], return_indices=True)
        at = (y - top, x - left)
        values: Floats = self._plane(z)[window][nearest[0][at], nearest[1][at]].astype(np.float32)
        far = np.asarray(distances[at])
        for distance in range(1, REACH_PLANES + 1):
            open_ = np.flatnonzero(far > distance)
            beside = [i for i in (z - distance, z + distance) if 0 <= i < self._shape[0]]
            if not open_.size or not beside:
                break
            seen = np.stack([self._plane(i)[y[open_], x[open_]] for i in beside]).astype(np.float64)
            finite = np.isfinite(seen)
            found = finite.any(axis=0)
            total = np.where(finite, seen, 0.0).sum(axis=0)[found]
            values[open_[found]] = total / finite.sum(axis=0)[found]
            far[open_[found]] = 0.0
        return values
