"""Gather a result: one array for all tiles, cast as requested; clipped voxels are counted."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import FailureKind, StackError, WriteError
from zenhance.measurement.reader import VolumeReader
from zenhance.pipeline.request import EnhanceRequest
from zenhance.provenance import SAMPLES_AXIS, ArrayHash
from zenhance.stack import Stack
from zenhance.tiling.budget import free_bytes
from zenhance.types import FloatArray
from zenhance.wording import format_bytes

__all__ = ["Layout", "Output", "allocate", "layouts", "limits"]

# A result larger than this share of the free memory is gathered in a temporary file instead.
MEMORY_SHARE = 0.4
# Free space needed on the disk of that file, relative to the result: other programs write there.
DISK_MARGIN = 1.1


@dataclass(frozen=True, slots=True)
class Layout:
    """What an output will be, known before anything has run.

    Parameters
    ----------
    axes : str
        The input's; of a series those without time, and the samples in front, along T.
    shape : tuple of int
    dtype : numpy.dtype
    scale : tuple of int
        Output voxels per input voxel along z, y, x.
    series : int
        How many samples; 0 for one image.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: tuple[int, int, int]
    series: int = 0

    @property
    def nbytes(self) -> int:
        """Memory of all pixels."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass
class Output:
    """A result array in the input's axes, or in those of a series (:class:`Layout`).

    Parameters
    ----------
    array : ndarray
        In memory, or mapped to a temporary file that goes away with it.
    scale : tuple of int
        Output voxels per input voxel along z, y, x.
    clipped : int
        Voxels that the pixel type cannot hold.
    series : int
        How many samples; 0 for one image.
    keeps_padding : bool
        Whether padding keeps its value, as in an image; a standard deviation and labels are 0
        there.
    """

    array: npt.NDArray[Any]
    scale: tuple[int, int, int]
    clipped: int = 0
    series: int = 0
    keeps_padding: bool = True

    def write(
        self, reader: VolumeReader, region: tuple[slice, slice, slice], block: FloatArray
    ) -> None:
        """Put a block (Z, Y, X), or (K, Z, Y, X), in its place.

        Where the input has no data, float results are NaN again; images keep the value of padding.
        """
        void = self._void(reader, region)
        samples = block if self.series else (block,)
        for index, sample in zip(self._places(reader, region), samples, strict=True):
            self._put(index, sample, void, "Z" not in reader.stack.axes)

    def _places(
        self, reader: VolumeReader, region: tuple[slice, slice, slice]
    ) -> list[tuple[Any, ...]]:
        """Return the index of a region in the array, one a sample."""
        stack = reader.stack
        if not self.series:
            return [stack.index(reader.t, reader.c, region)]
        indices = [stack.index(number, reader.c, region) for number in range(self.series)]
        timed = "T" in stack.axes
        return [i if timed else (number, *i) for number, i in enumerate(indices)]

    def digest(self, reader: VolumeReader, region: tuple[slice, slice, slice]) -> str:
        """Return the sha256 of a region as the array holds it."""
        places = self._places(reader, region)
        blocks = [np.asarray(self.array[place]) for place in places]
        total = ArrayHash(self.array.dtype, (len(blocks), *blocks[0].shape))
        for block in blocks:
            total.add(block)
        return total.hexdigest()

    def _put(
        self,
        index: tuple[Any, ...],
        block: FloatArray,
        void: tuple[npt.NDArray[np.bool_], npt.NDArray[Any]] | None,
        flat: bool,
    ) -> None:
        cast = self._cast(block)
        if void is not None:
            where, stored = void
            cast = np.where(where, stored, cast)
        self.array[index] = cast[0] if flat else cast

    def _void(
        self, reader: VolumeReader, region: tuple[slice, slice, slice]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]] | None:
        """Return where the input has no data, and what the output holds there, on its grid."""
        source = self.source(region)
        where = reader.mask(source)
        if where is None:
            return None
        stored = reader.raw(source)
        finite = np.isfinite(stored)
        kept = stored if self.keeps_padding else np.zeros_like(stored)
        if self.array.dtype.kind == "f":
            stored = np.where(finite, kept, np.nan).astype(self.array.dtype)
        else:
            # An integer cannot say "no data": what was filled in stays where the input had NaN.
            where = where & finite
            stored = np.where(finite, kept, 0).astype(self.array.dtype)
        for axis, factor in enumerate(self.scale):
            where, stored = np.repeat(where, factor, axis), np.repeat(stored, factor, axis)
        return where, stored

    def _cast(self, block: FloatArray) -> npt.NDArray[Any]:
        """Return a block in the result's type; values beyond its range are clipped and counted."""
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

    def source(self, region: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
        """Return the voxels of the input that a region of the output stands for."""
        z, y, x = (
            slice(r.start // s, -(-r.stop // s)) for r, s in zip(region, self.scale, strict=True)
        )
        return (z, y, x)

    def warnings(self) -> list[str]:
        """Say what the cast lost, where that is worth saying."""
        if self.clipped <= 1e-4 * self.array.size:
            return []
        return [
            f"{self.clipped} voxels were clipped to {self.array.dtype}; choose dtype float32 to "
            "keep them"
        ]


def limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the range of a type in float64; casting a value beyond it would wrap around."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    info = np.iinfo(dtype)
    highest = float(info.max)
    # 2^63 - 1 and 2^64 - 1 are not float64; they round up to numbers beyond the type's range.
    return float(info.min), float(np.nextafter(highest, 0.0)) if highest > info.max else highest


def layouts(stack: Stack, request: EnhanceRequest) -> dict[str, Layout]:
    """Tell axes, shape and pixel type of each output, the enhanced image first.

    Only the enhanced image is ever kept in the input's type: a standard deviation of a few grey
    levels would be rounded to nothing in it.

    Raises
    ------
    StackError
        Samples are asked for of a stack with several time points.
    """
    parameters = request.parameters()
    scale = parameters.output_scale
    own = np.dtype(np.uint8) if stack.dtype.kind == "b" else stack.dtype.newbyteorder("=")
    found: dict[str, Layout] = {}
    for number, output in enumerate(request.outputs()):
        # Labels: what every format holds, and more than any method has.
        dtype: np.dtype[Any] = np.dtype(np.uint16 if output.kind == "labels" else np.float32)
        if number == 0 and request.dtype == "input" and output.kind == "image":
            dtype = own
        axes, sizes = stack.axes, dict(zip(stack.axes, stack.shape, strict=True))
        if output.series:
            if sizes.get("T", 1) > 1:
                raise StackError(
                    f"{output.title} are kept for one time point and the stack has {sizes['T']}; "
                    "switch them off in the settings, "
                    "or save one time point as a stack of its own and enhance that"
                )
            axes, sizes = (
                SAMPLES_AXIS + axes.replace("T", ""),
                {**sizes, SAMPLES_AXIS: output.series},
            )
        shape = tuple(sizes[a] * (scale["ZYX".index(a)] if a in "ZYX" else 1) for a in axes)
        found[output.name] = Layout(axes, shape, dtype, scale, output.series)
    return found


def allocate(
    planned: Mapping[str, Layout],
    array_of: Callable[[str, Layout], npt.NDArray[Any]] | None = None,
) -> dict[str, Output]:
    """Make the arrays of all outputs, in memory where they fit, else in a temporary file.

    Parameters
    ----------
    planned : mapping of str to Layout
        The enhanced image first.
    array_of : callable, optional
        Makes the array of an output elsewhere.

    Raises
    ------
    WriteError
        The disk of the temporary folder has too little space for such a file.
    """
    room = MEMORY_SHARE * free_bytes("cpu")
    made: dict[str, Output] = {}
    array: npt.NDArray[Any]
    for name, layout in planned.items():
        if array_of is not None:
            array = array_of(name, layout)
        elif layout.nbytes <= room:
            # An array of numpy takes its memory only when it is filled: what is promised already is
            # counted here.
            room -= layout.nbytes
            array = np.empty(layout.shape, layout.dtype)
        else:
            array = _mapped(layout)
        made[name] = Output(
            array, layout.scale, series=layout.series, keeps_padding=not made or layout.series > 0
        )
    return made


def _mapped(layout: Layout) -> npt.NDArray[Any]:
    """Return an array mapped to a temporary file that goes away with it."""
    folder, needed = tempfile.gettempdir(), layout.nbytes
    if shutil.disk_usage(folder).free < DISK_MARGIN * needed:
        raise _disk_full(folder, needed)
    with tempfile.TemporaryFile(prefix="zenhance-", dir=folder) as file:
        _reserve(file, folder, needed)
        return np.memmap(file, dtype=layout.dtype, mode="w+", shape=layout.shape)


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
        f"the result needs {format_bytes(DISK_MARGIN * needed)} in {folder[:60]}, "
        f"where {format_bytes(free)} are free; "
        "free some space, crop the stack, or set TMPDIR to a folder on a larger disk",
        FailureKind.DISK_FULL,
    )
