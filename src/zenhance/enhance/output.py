"""Where a result is gathered: one array for all tiles, cast as asked, with what the cast clipped counted."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from zenhance.contract.spec import FloatArray, MethodSpec, OutputSpec
from zenhance.enhance.request import EnhanceRequest
from zenhance.errors import FailureKind, WriteError
from zenhance.stack import Stack
from zenhance.tiling.budget import free_bytes
from zenhance.volumes import VolumeReader

__all__ = ["Output", "allocate", "limits"]

# A result larger than this share of the free memory is gathered in a temporary file instead.
MEMORY_SHARE = 0.4
# So much more than the result has to be free where that file lies: other programs write there too.
DISK_MARGIN = 1.1


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
        block = self._cast(block)
        if self.array.dtype.kind == "f":
            bad = reader.mask(self._source(region))
            if bad is not None:
                for axis, factor in enumerate(self.scale):
                    bad = np.repeat(bad, factor, axis=axis)
                block = np.where(bad, block.dtype.type(np.nan), block)
        index = reader.stack.index(reader.t, reader.c, region)
        self.array[index] = block if "Z" in reader.stack.axes else block[0]

    def _cast(self, block: FloatArray) -> npt.NDArray[Any]:
        """Return a block in the result's type, clipped where that cannot hold its values; these are counted."""
        target = self.array.dtype
        low, high = limits(target)
        if target.kind == "f":
            if high >= float(np.finfo(np.float32).max):
                return block.astype(target)
        else:
            block = np.rint(block)
        wide = block.astype(np.float64)
        self.clipped += int(np.count_nonzero((wide < low) | (wide > high)))
        return np.clip(wide, low, high).astype(target)

    def _source(self, region: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
        z, y, x = (slice(r.start // s, -(-r.stop // s)) for r, s in zip(region, self.scale, strict=True))
        return (z, y, x)

    def warnings(self) -> list[str]:
        """Say what the cast lost, where that is worth saying."""
        if self.clipped <= 1e-4 * self.array.size:
            return []
        return [f"{self.clipped} voxels were clipped to {self.array.dtype}; choose dtype float32 to keep them"]


def limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the lowest and highest float64 that a type holds; a cast of anything beyond would wrap around or become infinite."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    info = np.iinfo(dtype)
    highest = float(info.max)
    # 2^63 - 1 and 2^64 - 1 are no float64; they round up to numbers that the type does not hold.
    return float(info.min), float(np.nextafter(highest, 0.0)) if highest > info.max else highest


def allocate(stack: Stack, output: OutputSpec, method: MethodSpec, request: EnhanceRequest) -> Output:
    """Make the array for one output, in memory where it fits and in a temporary file where not.

    Raises
    ------
    WriteError
        The disk of the temporary folder has too little space for that file.
    """
    scale = method.scale(request.parameters())
    sizes = [n * (scale["ZYX".index(a)] if a in "ZYX" else 1) for a, n in zip(stack.axes, stack.shape, strict=True)]
    dtype: np.dtype[Any] = np.dtype(np.float32)
    if output.kind == "labels":
        # What every format holds, and more than any method has labels.
        dtype = np.dtype(np.uint16)
    elif request.dtype == "input":
        dtype = np.dtype(np.uint8) if stack.dtype.kind == "b" else stack.dtype.newbyteorder("=")
    needed = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    if needed <= MEMORY_SHARE * free_bytes("cpu"):
        return Output(np.empty(sizes, dtype), scale)
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free < DISK_MARGIN * needed:
        raise _disk_full(folder, needed)
    with tempfile.TemporaryFile(prefix="zenhance-", dir=folder) as file:
        _reserve(file, folder, needed)
        return Output(np.memmap(file, dtype=dtype, mode="w+", shape=tuple(sizes)), scale)


def _reserve(file: IO[bytes], folder: str, needed: int) -> None:
    """Take the space now: a mapped file that finds the disk full later kills the whole process."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise _disk_full(folder, needed) from error
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _disk_full(folder: str, needed: int) -> WriteError:
    free = shutil.disk_usage(folder).free
    return WriteError(
        f"the result needs {DISK_MARGIN * needed / 1e9:.3g} GB in {folder[:60]}, where {free / 1e9:.3g} GB are free; "
        "free some space, crop the stack, or set TMPDIR to a folder on a larger disk",
        FailureKind.DISK_FULL,
    )
