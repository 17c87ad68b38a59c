"""What every reader hands to the gate, and arrays that read a block only when it is asked for."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError, ZenhanceError
from zenhance.stack import ArrayLike

__all__ = ["GuardedArray", "LazyArray", "Source", "parse_index", "wrap_errors"]

CACHE_BYTES = 256 * 2**20
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Source:
    """An opened image, pixels unread.

    Parameters
    ----------
    data : array-like
        Lazy array.
    axes : str
        One letter per dimension in the file's order; ``?`` where the file does not say.
    format : str
        Shown to the user.
    voxel_um, origin_um : tuple of float or None
        For z, y, x.
    channel_names : tuple of str
        Empty, or one a channel.
    metadata : dict
        Acquisition keys and ``warnings``.
    series : int
        How many images the file holds.
    """

    data: ArrayLike
    axes: str
    format: str
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)
    origin_um: tuple[float | None, float | None, float | None] = (None, None, None)
    channel_names: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    series: int = 1


def wrap_errors(path: Path, error: Exception) -> ReadError:
    """Put whatever a reader library raised into one sentence that names the file."""
    if isinstance(error, ReadError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) and not isinstance(error, ZenhanceError):
        return ReadError(
            path,
            "there is not enough memory to decode it; crop it, or convert it to .ome.zarr, which is read in pieces",
        )
    if "imagecodecs" in text or isinstance(error, ImportError):
        return ReadError(
            path,
            'decoding its compression needs a package that is not installed; install it with: pip install "zenhance[io]"',
        )
    if isinstance(error, FileNotFoundError):
        return ReadError(path, "there is no such file; check the name")
    if isinstance(error, PermissionError):
        return ReadError(path, "the system refuses access; check the file's permissions")
    return ReadError(
        path,
        f"it is damaged or of an unknown kind ({(text or type(error).__name__)[:90]}); export it again as OME-TIFF",
    )


def parse_index(key: Any, shape: tuple[int, ...]) -> tuple[list[slice], list[bool]] | None:
    """Turn an index into one slice per axis.

    Returns
    -------
    tuple of list of slice and list of bool, or None
        The slices, and which of them stand for an integer; None for lists and masks.

    Raises
    ------
    IndexError
        Too many indices, or an integer outside its axis.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    at = next((i for i, p in enumerate(parts) if p is Ellipsis), None)
    if at is not None:
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    if len(parts) > len(shape):
        raise IndexError(f"{len(parts)} indices for {len(shape)} dimensions")
    slices: list[slice] = []
    picked: list[bool] = []
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            slices.append(part)
            picked.append(False)
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            index = int(part) + (size if part < 0 else 0)
            if not 0 <= index < size:
                raise IndexError(f"index {int(part)} is outside an axis of {size}")
            slices.append(slice(index, index + 1))
            picked.append(True)
        else:
            return None
    return slices, picked


class LazyArray:
    """Array made of equal blocks that are read on demand, with axes in any order.

    Parameters
    ----------
    path : Path
        Named in errors.
    lead_shape, block_shape : tuple of int
        The array's shape is one after the other; a block is what one read returns.
    dtype : dtype
        Of the pixels.
    read_block : callable
        Takes the flat index of a block and returns an array that can be reshaped to ``block_shape``.
    order : tuple of int, optional
        Transposition of the stored axes.

    Notes
    -----
    Up to 256 MiB of decoded blocks are remembered, so that slicing along z does not decode the same page twice.
    """

    def __init__(
        self,
        path: Path,
        lead_shape: tuple[int, ...],
        block_shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        read_block: Callable[[int], Array],
        order: tuple[int, ...] | None = None,
    ) -> None:
        self._path = path
        self._lead = tuple(int(n) for n in lead_shape)
        self._block = tuple(int(n) for n in block_shape)
        self._stored = self._lead + self._block
        self._order = tuple(range(len(self._stored))) if order is None else order
        self.dtype = np.dtype(dtype)
        self._read = read_block
        self._cache: OrderedDict[int, Array] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in display order."""
        return tuple(self._stored[i] for i in self._order)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._stored)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._stored)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels, decoded."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def transpose(self, *axes: Any) -> LazyArray:
        """Return a view with the axes in another order; shares the reader, not the cache."""
        order = tuple(axes[0]) if len(axes) == 1 and not isinstance(axes[0], int) else tuple(axes)
        order = order or tuple(reversed(range(self.ndim)))
        return LazyArray(
            self._path,
            self._lead,
            self._block,
            self.dtype,
            self._read,
            tuple(self._order[i] for i in order),
        )

    def block(self, index: int) -> Array:
        """Return one block, from memory if it was read lately.

        Raises
        ------
        ReadError
            The block cannot be decoded.
        """
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            try:
                data = (
                    np.asarray(self._read(index))
                    .reshape(self._block)
                    .astype(self.dtype, copy=False)
                )
            except (
                Exception
            ) as error:  # the gate: reader libraries raise a dozen types for damaged pixels
                raise wrap_errors(self._path, error) from error
            self._cache[index] = data
            while len(self._cache) > 1 and len(self._cache) * data.nbytes > CACHE_BYTES:
                self._cache.popitem(last=False)
            return data

    def __getitem__(self, key: Any, /) -> Array:
        parsed = parse_index(key, self.shape)
        if parsed is None:
            picks = key if isinstance(key, tuple) else (key,)
            everything: Array = self[(slice(None),) * self.ndim]
            result: Array = everything[picks]
            return result
        slices, picked = parsed
        stored = [slice(None)] * self.ndim
        for display, axis in enumerate(self._order):
            stored[axis] = slices[display]
        ranges = [range(*s.indices(n)) for s, n in zip(stored, self._stored, strict=True)]
        lead = len(self._lead)
        out = np.empty([len(r) for r in ranges], self.dtype)
        if out.size:
            inner = tuple(stored[lead:])
            for place in itertools.product(*(range(len(r)) for r in ranges[:lead])):
                at = [r[i] for r, i in zip(ranges, place, strict=False)]
                index = int(np.ravel_multi_index(at, self._lead)) if at else 0
                out[place] = self.block(index)[inner]
        shown: Array = out.transpose(self._order)[tuple(0 if p else slice(None) for p in picked)]
        return shown

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(
                "the pixels are in a file, so that an array cannot be had without a copy"
            )
        return np.asarray(self[...], dtype=dtype)


class GuardedArray:
    """A foreign lazy array whose errors become :class:`ReadError`."""

    def __init__(self, path: Path, array: ArrayLike) -> None:
        self._path = path
        self._array = array
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> Array:
        try:
            return np.asarray(self._array[key])
        except IndexError:
            raise
        except Exception as error:  # the gate: stores raise a dozen types for damaged chunks
            raise wrap_errors(self._path, error) from error

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(
                "the pixels are in a file, so that an array cannot be had without a copy"
            )
        return np.asarray(self[...], dtype=dtype)
