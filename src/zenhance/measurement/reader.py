"""Read the volumes of a stack as float32, and hash its pixels as they come by."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.measurement.missing import MissingData
from zenhance.physics.noise import PoissonGauss
from zenhance.provenance import ArrayHash
from zenhance.stack import Stack
from zenhance.types import FloatArray, Region

__all__ = ["PixelHash", "VolumeReader"]

# Read this much at a time: 16 planes of 2048 x 2048 pixels, a usual chunk depth of zarr arrays.
SLAB_BYTES = 128 * 2**20


@dataclass(frozen=True)
class VolumeReader:
    """Reads regions of one (t, c) volume as float32, with values in place of missing voxels.

    Parameters
    ----------
    stack : Stack
        The image.
    t, c : int
        Which volume.
    repair_outliers : bool
        Replace hot and dead pixels, once the noise of the volume is known.
    """

    stack: Stack
    t: int = 0
    c: int = 0
    repair_outliers: bool = True
    _missing: MissingData = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Not self.raw: with a reference back to the reader, the image and the values would stay
        # in memory until the garbage collector runs.
        read = partial(self.stack.read, self.t, self.c)
        object.__setattr__(self, "_missing", MissingData(read, self.stack.volume_shape))

    @property
    def missing(self) -> MissingData:
        """The missing voxels of the volume."""
        return self._missing

    @property
    def not_finite(self) -> int | None:
        """How many voxels are NaN or infinite; None before all planes were read."""
        return self._missing.not_finite

    def raw(self, region: Region) -> npt.NDArray[Any]:
        """Return a region (Z, Y, X) as stored."""
        return self.stack.read(self.t, self.c, region)

    def mask(self, region: Region) -> npt.NDArray[np.bool_] | None:
        """Return where a region has no data (outliers have), or None where all was measured."""
        return self._missing.mask(region)

    def read(self, region: Region) -> FloatArray:
        """Return a region as float32; missing voxels take values from their neighbours."""
        filled = self.raw(region).astype(np.float32)
        self._missing.into(filled, region)
        return filled

    def settle(self, noise: PoissonGauss) -> None:
        """Decide with the noise of the volume which voxels are outliers."""
        self._missing.settle(noise if self.repair_outliers else None)

    def slabs(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield the volume in slabs of planes as stored, each with the index of its first plane."""
        depth, height, width = self.stack.volume_shape
        most = max(1, SLAB_BYTES // (height * width * self.stack.dtype.itemsize))
        # Chunks are 2, 4, 8 ... planes deep: slabs of such a depth do not cut through them.
        step = 1 << (most.bit_length() - 1)
        for z in range(0, depth, step):
            yield z, self.raw((slice(z, min(z + step, depth)), slice(None), slice(None)))

    def planes(self, most_voxels: int | None = None) -> list[int]:
        """Return the indices of all planes, or of evenly spaced ones within so many voxels."""
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
        Hashed in the order of its axes, so that the digest equals
        :func:`zenhance.provenance.hash_array` of the array.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._digest = ArrayHash(stack.dtype, stack.shape)
        self._left = list(stack.volumes())

    def take(self, reader: VolumeReader) -> bool:
        """Return whether this volume is the next in order; if so, all of it must be added."""
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
