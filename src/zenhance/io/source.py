"""What every reader hands to the gate, and arrays that read a block on demand."""

from __future__ import annotations

import itertools
import math
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError, ZenhanceError
from zenhance.lazy_view import FileArray, axis_order
from zenhance.stack import ArrayLike

__all__ = [
    "FileState",
    "GuardedArray",
    "LazyArray",
    "Opened",
    "RawArray",
    "Source",
    "parse_index",
    "pick_series",
    "wrap_errors",
]

CACHE_BYTES = 256 * 2**20
# The small files of a zarr folder that are written again with its image.
FOLDER_MARKS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
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
    series_names : tuple of str
        What they are called, where the file says so.
    """

    data: ArrayLike
    axes: str
    format: str
    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)
    origin_um: tuple[float | None, float | None, float | None] = (None, None, None)
    channel_names: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    series: int = 1
    series_names: tuple[str, ...] = ()


def pick_series(path: Path, series: int, count: int, names: Sequence[str] = ()) -> int:
    """Return the number of an image in a file that holds several.

    Raises
    ------
    ReadError
        The file holds no such image; the text says which it holds.
    """
    if not 0 <= series < count:
        listed = f": {', '.join(names)[:80]}" if names else ""
        raise ReadError(
            path, f"series {series} was requested, but it holds series 0 to {count - 1}{listed}"
        )
    return series


@dataclass(frozen=True, slots=True)
class FileState:
    """Inode, size and time of the files of an image, to notice that one was replaced or rewritten.

    Parameters
    ----------
    path : Path
        The image, named in errors.
    marks : tuple of (str, int, int, int)
        Path, inode, size in bytes and time of change in ns of each file.
    """

    path: Path
    marks: tuple[tuple[str, int, int, int], ...]

    @classmethod
    def of(cls, path: Path, parts: Sequence[str | Path] = ()) -> FileState:
        """Return the present state of an image and of the further files that belong to it."""
        return cls(
            path, tuple(_mark(name) for name in (str(path), *_marked(path), *map(str, parts)))
        )

    def check(self) -> None:
        """Refuse pixels of files that are not as they were.

        Raises
        ------
        ReadError
            A file is missing, or its inode, size or time differs.
        """
        for mark in self.marks:
            name = mark[0]
            try:
                now = _mark(name)
            except OSError as error:
                raise ReadError(
                    self.path, "it was removed or replaced since it was opened; open it again"
                ) from error
            if now != mark:
                what = "replaced" if now[1] != mark[1] else "changed"
                sizes = f" ({mark[2]} bytes before, {now[2]} now)" if now[2] != mark[2] else ""
                raise ReadError(
                    self.path, f"it was {what} since it was opened{sizes}; open it again"
                )


def _marked(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return [str(path / name) for name in FOLDER_MARKS if (path / name).is_file()]


def _mark(name: str) -> tuple[str, int, int, int]:
    status = Path(name).stat()
    if stat.S_ISDIR(status.st_mode):
        # Size and time of a folder change with any file in it, such as a lock.
        return name, status.st_ino, 0, 0
    return name, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Opened:
    """How an array in a file was opened, so that another process can open it again.

    Parameters
    ----------
    state : FileState
        Of the files when they were opened.
    again : callable
        Opens the image and returns its array; it can be pickled.
    """

    state: FileState
    again: Callable[[], LazyArray | GuardedArray]

    def restored(self, order: tuple[int, ...] | None) -> LazyArray | GuardedArray:
        """Open the image again, with the stored axes in an order."""
        self.state.check()
        array = self.again()
        return array.ordered(order) if isinstance(array, LazyArray) and order else array


def _cannot_travel(path: Path) -> TypeError:
    return TypeError(f'the pixels of "{path}" cannot be pickled; open them with open_stack')


def wrap_errors(path: Path, error: Exception) -> ReadError:
    """Turn any error of a reader library into one sentence that names the file."""
    if isinstance(error, ReadError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) and not isinstance(error, ZenhanceError):
        return ReadError(
            path,
            "there is not enough memory to decode it; crop it, or convert it to .ome.zarr, which "
            "is read in pieces",
        )
    if "imagecodecs" in text or isinstance(error, ImportError):
        return ReadError(
            path,
            "decoding its compression needs a package that is not installed; install it with: "
            'pip install "zenhance[io]"',
        )
    if isinstance(error, FileNotFoundError):
        return ReadError(path, "there is no such file; check the name")
    if isinstance(error, PermissionError):
        return ReadError(path, "the system refuses access; check the file's permissions")
    return ReadError(
        path,
        f"it is damaged or of an unknown kind ({(text or type(error).__name__)[:90]}); export it "
        "again as OME-TIFF",
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


class LazyArray(FileArray):
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
        Takes the flat index of a block and returns an array that can be reshaped to
        ``block_shape``.
    order : tuple of int, optional
        Transposition of the stored axes.

    Notes
    -----
    Up to 256 MiB of decoded blocks are remembered, so that slicing along z does not decode the same
    page twice.
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
        self.opened: Opened | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.opened is None:
            raise _cannot_travel(self._path)
        return self.opened.restored, (self._order,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in display order."""
        return tuple(self._stored[i] for i in self._order)

    def transpose(self, *axes: Any) -> LazyArray:
        """Return a view with the axes in another order; shares the reader, not the cache."""
        return self.ordered(tuple(self._order[i] for i in axis_order(axes, self.ndim)))

    def ordered(self, order: tuple[int, ...]) -> LazyArray:
        """Return a view with the stored axes in another order; it shares the reader alone."""
        # copy.copy would open the file again, as unpickling does.
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._order = order
        view._cache = OrderedDict()
        return view

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

    def _check(self) -> None:
        if self.opened is not None:
            self.opened.state.check()

    def _inside(self, index: int, inner: tuple[slice, ...]) -> Array:
        """Return a part of a block."""
        return self.block(index)[inner]

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
            # Before, so that no pixel of a changed file is decoded, and after the last of them.
            self._check()
            inner = tuple(stored[lead:])
            for place in itertools.product(*(range(len(r)) for r in ranges[:lead])):
                at = [r[i] for r, i in zip(ranges, place, strict=False)]
                index = int(np.ravel_multi_index(at, self._lead)) if at else 0
                out[place] = self._inside(index, inner)
            self._check()
        shown: Array = out.transpose(self._order)[tuple(0 if p else slice(None) for p in picked)]
        return shown


class RawArray(LazyArray):
    """Pixels stored uncompressed and contiguously in a file.

    A memory map of a file that shrinks kills the process; here a file that has changed since it
    was opened is an error.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        Byte at which the pixels begin.
    shape : tuple of int
        As stored, in C order; at least two axes.
    dtype : dtype
        As stored, of any byte order; blocks are in native order.
    """

    def __init__(
        self, path: Path, offset: int, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> None:
        # A last axis of a few samples belongs to the pixels.
        inner = 3 if len(shape) > 2 and shape[-1] <= 4 else 2
        stored = np.dtype(dtype)
        super().__init__(
            path,
            shape[:-inner],
            shape[-inner:],
            stored.newbyteorder("="),
            lambda index: self._inside(index, (slice(None),) * inner),
        )
        self._offset, self._dtype = offset, stored

    def _inside(self, index: int, inner: tuple[slice, ...]) -> Array:
        """Read only the rows that a part of a block touches."""
        rows = range(*inner[0].indices(self._block[0]))
        if not rows:
            return np.empty((0, *self._block[1:]), self.dtype)[(slice(None), *inner[1:])]
        first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        row_bytes = math.prod(self._block[1:]) * self._dtype.itemsize
        at = self._offset + (index * self._block[0] + first) * row_bytes
        wanted = (last - first + 1) * row_bytes
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(at)
                buffer = bytearray(wanted)
                view, got = memoryview(buffer), 0
                while got < wanted and (count := file.readinto(view[got:])):
                    got += count
        except OSError as error:
            raise wrap_errors(self._path, error) from error
        if got < wanted:
            raise ReadError(
                self._path, f"it ends at byte {at + got} of {at + wanted}; copy it again"
            )
        block = np.frombuffer(buffer, self._dtype).reshape(-1, *self._block[1:])
        return block[(slice(rows[0] - first, None, rows.step), *inner[1:])].astype(
            self.dtype, copy=False
        )


class GuardedArray(FileArray):
    """A foreign lazy array whose errors become :class:`ReadError`."""

    def __init__(self, path: Path, array: ArrayLike) -> None:
        self._path = path
        self._array = array
        self._shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.opened: Opened | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.opened is None:
            raise _cannot_travel(self._path)
        return self.opened.restored, (None,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._shape

    def __getitem__(self, key: Any, /) -> Array:
        try:
            if self.opened is not None:
                self.opened.state.check()
            pixels = np.asarray(self._array[key])
            if self.opened is not None:
                self.opened.state.check()
            return pixels
        except IndexError:
            raise
        except Exception as error:  # the gate: stores raise a dozen types for damaged chunks
            raise wrap_errors(self._path, error) from error
