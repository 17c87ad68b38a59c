"""A part of an array, cropped or transposed, whose pixels are not read yet."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["FileArray", "LazyView", "Readable", "axis_order", "select", "transposed"]

Array = npt.NDArray[Any]
Pick = int | slice


class Readable(Protocol):
    """An array in a file, with a shape and a type, that reads blocks when indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""

    def __getitem__(self, key: Any, /) -> Any: ...


class FileArray(ABC):
    """An array in a file: numpy's attributes, from its shape and type."""

    dtype: np.dtype[Any]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @abstractmethod
    def __getitem__(self, key: Any, /) -> Array: ...

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels, decoded."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("the pixels are in a file; an array needs a copy of them")
        return np.asarray(self[...], dtype=dtype)


def axis_order(axes: tuple[Any, ...], ndim: int) -> tuple[int, ...]:
    """Return axes as given to numpy's ``transpose``: separate, in a tuple, or none to reverse."""
    order = tuple(axes[0]) if len(axes) == 1 and not isinstance(axes[0], int) else tuple(axes)
    return order or tuple(reversed(range(ndim)))


class LazyView(FileArray):
    """A part of another array; pixels are read when the view is indexed, and only those.

    Parameters
    ----------
    base : array-like
        Indexed with integers and slices of positive step only, so that zarr and HDF5 arrays will
        do.
    picks : tuple of int or slice, optional
        One per axis of the base, slices with step 1; the whole base where left out.
    order : tuple of int, optional
        Axis of the base that each axis of the view shows.
    """

    def __init__(
        self,
        base: Readable,
        picks: tuple[Pick, ...] | None = None,
        order: tuple[int, ...] | None = None,
    ) -> None:
        self._base = base
        self._picks: tuple[Pick, ...] = (
            tuple(slice(0, int(n)) for n in base.shape) if picks is None else picks
        )
        self._order = (
            tuple(i for i, p in enumerate(self._picks) if isinstance(p, slice))
            if order is None
            else order
        )
        self.dtype = np.dtype(base.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self._span(axis)[1] - self._span(axis)[0] for axis in self._order)

    def _span(self, axis: int) -> tuple[int, int]:
        pick = self._picks[axis]
        return (pick.start, pick.stop) if isinstance(pick, slice) else (pick, pick + 1)

    def part(self, index: tuple[Pick, ...]) -> LazyView:
        """Return a smaller view.

        Parameters
        ----------
        index : tuple of int or slice
            One per axis of this view; an integer takes its axis away. Slices have step 1.
        """
        picks, order = list(self._picks), []
        for pick, axis, size in zip(index, self._order, self.shape, strict=True):
            first = self._span(axis)[0]
            if isinstance(pick, slice):
                start, stop, _ = pick.indices(size)
                picks[axis] = slice(first + start, first + max(start, stop))
                order.append(axis)
            else:
                picks[axis] = first + _counted(pick, size)
        return LazyView(self._base, tuple(picks), tuple(order))

    def transpose(self, *axes: Any) -> LazyView:
        """Return a view with the axes in another order, as numpy's ``transpose`` does."""
        order = axis_order(axes, self.ndim)
        return LazyView(self._base, self._picks, tuple(self._order[i] for i in order))

    def __getitem__(self, key: Any, /) -> Array:
        parts = _per_axis(key, self.ndim)
        if parts is None:
            everything: Array = self[...]
            return np.asarray(everything[key])
        wanted = [self._wanted(part, axis) for part, axis in zip(parts, self._order, strict=True)]
        sizes = [len(span) for span in wanted if isinstance(span, range)]
        if 0 in sizes:
            return np.empty(sizes, self.dtype)
        picks, back = list(self._picks), []
        for axis, span in zip(self._order, wanted, strict=True):
            if isinstance(span, range):
                low, high = min(span[0], span[-1]), max(span[0], span[-1])
                picks[axis] = slice(low, high + 1, abs(span.step))
                back.append(slice(None, None, -1) if span.step < 0 else slice(None))
            else:
                picks[axis] = span
        kept = [
            axis for axis, span in zip(self._order, wanted, strict=True) if isinstance(span, range)
        ]
        block = np.asarray(self._base[tuple(picks)])
        stored = sorted(kept)
        return block.transpose([stored.index(axis) for axis in kept])[tuple(back)]

    def _wanted(self, part: Pick, axis: int) -> int | range:
        first, last = self._span(axis)
        if not isinstance(part, slice):
            return first + _counted(part, last - first)
        span = range(*part.indices(last - first))
        return range(first + span.start, first + span.stop, span.step)

    @classmethod
    def of(cls, data: Readable) -> LazyView:
        """Return a view of the whole of an array, or the view that it is."""
        return data if isinstance(data, LazyView) else cls(data)


def _counted(index: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexError(f"index {index} is outside an axis of {size}")
    return int(index) + (size if index < 0 else 0)


def _per_axis(key: Any, ndim: int) -> list[Pick] | None:
    """Turn an index into one integer or slice per axis; None for lists and masks."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if not all(
        part is Ellipsis or isinstance(part, slice | int | np.integer) for part in parts
    ) or any(isinstance(p, bool) for p in parts):
        return None
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
    parts[at : at + 1] = [slice(None)] * (ndim - len(parts) + (at < len(parts)))
    if len(parts) > ndim:
        raise IndexError(f"{len(parts)} indices for {ndim} dimensions")
    return parts


def _is_own_view(data: Readable) -> bool:
    """Tell whether indexing reads nothing, as for numpy and dask arrays."""
    return isinstance(data, np.ndarray) or type(data).__module__.partition(".")[0] == "dask"


def select(data: Readable, index: tuple[Pick, ...]) -> Any:
    """Return a part of any array without reading pixels.

    Parameters
    ----------
    data : array-like
        numpy, dask, zarr or HDF5 array, or a view.
    index : tuple of int or slice
        One per axis, slices with step 1.
    """
    return data[index] if _is_own_view(data) else LazyView.of(data).part(index)


def transposed(data: Any, order: list[int]) -> Any:
    """Return an array with its axes in another order, without reading pixels."""
    return data.transpose(order) if _is_own_view(data) else LazyView.of(data).transpose(order)
