"""Where a result is gathered: one array for all tiles, cast as asked, with what the cast clipped counted."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.contract.spec import FloatArray, MethodSpec, OutputSpec
from zenhance.enhance.request import EnhanceRequest
from zenhance.stack import Stack
from zenhance.tiling.budget import free_bytes
from zenhance.volumes import VolumeReader

__all__ = ["Output", "allocate"]

# A result larger than this share of the free memory is gathered in a temporary file instead.
MEMORY_SHARE = 0.4


@dataclass
class Output:
    """A result array in the input's axes.

    Parameters
    ----------
    array : ndarray
        In memory, or mapped to a temporary file that goes away with it.
    scale : tuple of int
        Output voxels per input voxel along z, y, x.
    """

    array: npt.NDArray[Any]
    scale: tuple[int, int, int]
    clipped: int = 0

    def write(self, reader: VolumeReader, region: tuple[slice, slice, slice], block: FloatArray) -> None:
        """Put a block (Z, Y, X) in its place; voxels that were not finite in the input are NaN again (float results)."""
        target = self.array.dtype
        if target.kind == "f":
            bad = reader.mask(self._source(region))
            if bad is not None:
                for axis, factor in enumerate(self.scale):
                    bad = np.repeat(bad, factor, axis=axis)
                block = np.where(bad, np.float32(np.nan), block)
        else:
            info = np.iinfo(target)
            block = np.rint(block)
            self.clipped += int(np.count_nonzero((block < info.min) | (block > info.max)))
            block = np.clip(block.astype(np.float64), info.min, info.max)
        index = reader.stack.index(reader.t, reader.c, region)
        self.array[index] = (block if "Z" in reader.stack.axes else block[0]).astype(target)

    def _source(self, region: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
        z, y, x = (slice(r.start // s, -(-r.stop // s)) for r, s in zip(region, self.scale, strict=True))
        return (z, y, x)

    def warnings(self) -> list[str]:
        """Say what the cast lost, where that is worth saying."""
        if self.clipped <= 1e-4 * self.array.size:
            return []
        return [f"{self.clipped} voxels were clipped to {self.array.dtype}; choose dtype float32 to keep them"]


def allocate(stack: Stack, output: OutputSpec, method: MethodSpec, request: EnhanceRequest) -> Output:
    """Make the array for one output, in memory where it fits and in a temporary file where not."""
    scale = method.scale(request.parameters())
    sizes = [n * (scale["ZYX".index(a)] if a in "ZYX" else 1) for a, n in zip(stack.axes, stack.shape, strict=True)]
    dtype: np.dtype[Any] = np.dtype(np.float32)
    if output.kind == "labels":
        dtype = np.dtype(np.int32)
    elif request.dtype == "input":
        dtype = np.dtype(np.uint8) if stack.dtype.kind == "b" else stack.dtype.newbyteorder("=")
    needed = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    if needed <= MEMORY_SHARE * free_bytes("cpu"):
        return Output(np.empty(sizes, dtype), scale)
    with tempfile.TemporaryFile(prefix="zenhance-") as file:
        return Output(np.memmap(file, dtype=dtype, mode="w+", shape=tuple(sizes)), scale)
