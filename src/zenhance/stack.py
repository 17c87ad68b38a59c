"""Stack: an image with its axes, its voxel size in micrometres and its channel names.

Axes are a subset of ``TCZYX`` kept in that order, so that a reader never has to ask which index is
z::

    T  time        C  channel        Z  depth        Y  rows        X  columns
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from zenhance.errors import StackError
from zenhance.lazy_view import Readable as ArrayLike
from zenhance.lazy_view import select, transposed

__all__ = ["AXES", "ArrayLike", "Origin", "Stack", "VoxelSize", "guess_axes", "wrong_dimensions"]

AXES = "TCZYX"
Origin = Literal["file", "user", "unknown"]

# A voxel outside this window is not from a light microscope: the value is refused or asked for
# again.
MIN_VOXEL_UM = 0.001
MAX_VOXEL_UM = 1000.0

# What a file may say once a channel.
_PER_CHANNEL = ("na", "refractive_index", "excitation_nm", "emission_nm", "pinhole_au", "modality")


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """Size of a voxel in micrometres, each axis with where the number came from.

    Parameters
    ----------
    z_um, y_um, x_um : float or None
        Edge lengths in micrometres; None where unknown (and for z of a 2-D image).
    origins : tuple of {'file', 'user', 'unknown'}
        For z, y and x.

    Raises
    ------
    StackError
        A length is not finite, not positive, or outside 0.001 ... 1000 µm.
    """

    z_um: float | None = None
    y_um: float | None = None
    x_um: float | None = None
    origins: tuple[Origin, Origin, Origin] = ("unknown", "unknown", "unknown")

    def __post_init__(self) -> None:
        for axis, value in zip("zyx", self.zyx_um, strict=True):
            if value is None:
                continue
            if not (math.isfinite(value) and MIN_VOXEL_UM <= value <= MAX_VOXEL_UM):
                raise StackError(
                    f"voxel size in {axis} is {value:g} µm, allowed are {MIN_VOXEL_UM:g} to "
                    f"{MAX_VOXEL_UM:g} µm; "
                    "give it with --voxel-size Z,Y,X or set the layer's scale"
                )

    @classmethod
    def of(cls, sizes_um: Sequence[float | None], origin: Origin = "user") -> Self:
        """Build from (z, y, x) or (y, x) in micrometres, all known lengths with one origin."""
        values = [None if v is None else float(v) for v in sizes_um]
        if len(values) == 2:
            values = [None, *values]
        if len(values) != 3:
            raise StackError(
                f"a voxel size has 2 or 3 numbers (z, y, x in µm), not {len(values)}: "
                f"{tuple(sizes_um)}"
            )
        marks: list[Origin] = ["unknown" if v is None else origin for v in values]
        return cls(values[0], values[1], values[2], (marks[0], marks[1], marks[2]))

    @property
    def zyx_um(self) -> tuple[float | None, float | None, float | None]:
        """The three lengths in order z, y, x."""
        return (self.z_um, self.y_um, self.x_um)

    def is_known(self, axes: str = "ZYX") -> bool:
        """Tell whether each of the named spatial axes has a length."""
        return all(v is not None for a, v in zip("ZYX", self.zyx_um, strict=True) if a in axes)

    def origin(self, axes: str = "ZYX") -> Origin:
        """Return the least certain origin among the named spatial axes."""
        marks = [o for a, o in zip("ZYX", self.origins, strict=True) if a in axes]
        for weakest in ("unknown", "user", "file"):
            if weakest in marks:
                return weakest
        return "unknown"

    def require(self, axes: str = "ZYX") -> tuple[float, float, float]:
        """Return (z, y, x) in micrometres, or say which one is missing.

        The z of an image without z-axis is returned as 1.0; nothing uses it.

        Raises
        ------
        StackError
            A length that the named axes need is unknown.
        """
        missing = [
            a.lower() for a, v in zip("ZYX", self.zyx_um, strict=True) if v is None and a in axes
        ]
        if missing:
            raise StackError(
                f"voxel size in {', '.join(missing)} is unknown; give it with --voxel-size Z,Y,X "
                "or set the layer's scale"
            )
        z, y, x = (1.0 if v is None else v for v in self.zyx_um)
        return (z, y, x)

    def replaced_by(self, sizes_um: Sequence[float | None] | None) -> VoxelSize:
        """Return a copy with the lengths that the user gave; None keeps one."""
        if sizes_um is None:
            return self
        given = VoxelSize.of(sizes_um, "user")
        values = [
            g if g is not None else own for g, own in zip(given.zyx_um, self.zyx_um, strict=True)
        ]
        marks = [
            go if g is not None else oo
            for g, go, oo in zip(given.zyx_um, given.origins, self.origins, strict=True)
        ]
        return VoxelSize(values[0], values[1], values[2], (marks[0], marks[1], marks[2]))


def _unmasked(data: np.ma.MaskedArray[Any, Any]) -> npt.NDArray[Any]:
    """Return a masked array as a plain one; masked pixels are NaN, which counts as no data."""
    if not np.ma.is_masked(data) or data.dtype.kind not in "buif":
        return np.asarray(data.data)
    wide = data.astype(np.result_type(data.dtype, np.float32))
    return np.asarray(np.ma.filled(wide, np.nan))


def guess_axes(shape: Sequence[int]) -> str:
    """Name the axes of a bare array where only one reading makes sense.

    2-D is ``YX``, 3-D is ``ZYX``. A 3-D array whose first or last axis is at most 4 long could be
    colour, and more than three axes could be anything: then the user is asked.

    Raises
    ------
    StackError
        The shape does not tell.
    """
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3 and shape[0] > 4 and shape[-1] > 4:
        return "ZYX"
    if len(shape) == 3:
        raise StackError(
            f"an axis of at most 4 in shape {tuple(shape)} could be channels or slices; name the "
            "axes, for example --axes ZYX"
        )
    if len(shape) not in (4, 5):
        raise StackError(wrong_dimensions(shape))
    raise StackError(
        f"the axes of an array of shape {tuple(shape)} are not known; name them, for example "
        f"--axes {'CZYX' if len(shape) == 4 else 'TCZYX'}"
    )


def wrong_dimensions(shape: Sequence[int]) -> str:
    """Explain that an image has 2 to 5 dimensions, and what to do."""
    count, what = len(shape), "give an array of at least Y and X"
    if count > len(AXES):
        what = (
            "give one part of it, such as array[0], or merge axes with reshape; a file with more "
            "axes has to be exported in parts"
        )
    return (
        f"an image has 2 to {len(AXES)} dimensions ({AXES}), but the shape {tuple(shape)} has "
        f"{count}; {what}"
    )


@dataclass(frozen=True)
class Stack:
    """An image as the whole package passes it on: array, axes, voxel size, names.

    Parameters
    ----------
    data : array-like
        numpy, dask or zarr array of real numbers; pixels are read only where asked for.
    axes : str
        Subset of ``TCZYX`` in that order, one letter per dimension, with Y and X.
    voxel_size : VoxelSize
        In micrometres, each axis with its origin.
    channel_names : tuple of str
        One a channel, or empty.
    name : str
        Shown to the user.
    metadata : mapping
        Whatever else the file said (``excitation_nm``, ``emission_nm``, ``na``,
        ``refractive_index``, ``pinhole_au``, ``zenhance`` ...).
    path : Path or None
        The file it came from.

    Raises
    ------
    StackError
        Axes and array disagree, an axis is empty, or the numbers are complex, structured or text.
    """

    data: ArrayLike
    axes: str
    voxel_size: VoxelSize = field(default_factory=VoxelSize)
    channel_names: tuple[str, ...] = ()
    name: str = "stack"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self) -> None:
        axes, shape = self.axes, tuple(self.data.shape)
        if (
            len(set(axes)) != len(axes)
            or any(a not in AXES for a in axes)
            or not {"Y", "X"} <= set(axes)
        ):
            raise StackError(
                f'axes "{axes}" are not usable; name each dimension once with letters of TCZYX, Y '
                "and X among them"
            )
        if not 2 <= len(shape) <= len(AXES):
            raise StackError(wrong_dimensions(shape))
        if len(axes) != len(shape):
            raise StackError(
                f'axes "{axes}" name {len(axes)} dimensions but the array has {len(shape)}: shape '
                f"{shape}"
            )
        if "".join(a for a in AXES if a in axes) != axes:
            raise StackError(
                f'axes "{axes}" are not in the order TCZYX; use Stack.from_array, which transposes'
            )
        for letter, size in zip(axes, shape, strict=True):
            if size == 0:
                what = {"T": "time points", "C": "channels", "Z": "planes"}.get(letter, "pixels")
                raise StackError(f"the stack has no {what}: shape {shape}, axes {axes}")
        if np.dtype(self.data.dtype).kind not in "buif":
            raise StackError(
                f"pixels of type {self.data.dtype} are not supported; convert to real numbers "
                "first, for example the magnitude"
            )
        if self.channel_names and len(self.channel_names) != self.size("C"):
            raise StackError(
                f"{len(self.channel_names)} channel names for {self.size('C')} channels"
            )

    @classmethod
    def from_array(
        cls,
        data: ArrayLike,
        axes: str | None = None,
        voxel_size_um: Sequence[float | None] | VoxelSize | None = None,
        *,
        channel_names: Sequence[str] = (),
        name: str = "stack",
        metadata: Mapping[str, Any] | None = None,
        path: Path | None = None,
    ) -> Self:
        """Build from any array with named axes; dimensions are transposed to ``TCZYX`` order.

        Parameters
        ----------
        data : array-like
            numpy, dask or zarr array.
        axes : str, optional
            One letter per dimension; left out, it is guessed where that is safe
            (:func:`guess_axes`).
        voxel_size_um : sequence of float or VoxelSize, optional
            (z, y, x) or (y, x) in micrometres.

        Raises
        ------
        StackError
            It is not an array, or axes and array disagree or cannot be guessed.
        """
        if data is None or isinstance(data, str | bytes | Path):
            raise StackError(
                f"an image is a {type(data).__name__}, not an array; "
                "open a file with zenhance.open_stack first"
            )
        if not hasattr(data, "shape"):
            data = np.asarray(data)
        if isinstance(data, np.ma.MaskedArray):
            data = _unmasked(data)
        axes = (axes or guess_axes(data.shape)).upper()
        if len(axes) == len(data.shape) and set(axes) <= set(AXES):
            ordered = "".join(a for a in AXES if a in axes)
            if ordered != axes and len(set(axes)) == len(axes):
                data = transposed(data, [axes.index(a) for a in ordered])
                axes = ordered
        if not isinstance(voxel_size_um, VoxelSize):
            voxel_size_um = VoxelSize() if voxel_size_um is None else VoxelSize.of(voxel_size_um)
        return cls(
            data, axes, voxel_size_um, tuple(channel_names), name, dict(metadata or {}), path
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, one number per axis."""
        return tuple(int(n) for n in self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type of the array."""
        return np.dtype(self.data.dtype)

    def size(self, axis: str) -> int:
        """Length along an axis; 1 where the stack does not have it."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """(Z, Y, X), with Z = 1 for a 2-D image."""
        return (self.size("Z"), self.size("Y"), self.size("X"))

    @property
    def spatial_axes(self) -> str:
        """``ZYX``, or ``YX`` for a 2-D image."""
        return "".join(a for a in self.axes if a in "ZYX")

    def volumes(self) -> Iterator[tuple[int, int]]:
        """Iterate over the (t, c) pairs, each of which is one volume."""
        for t in range(self.size("T")):
            for c in range(self.size("C")):
                yield t, c

    def index(
        self, t: int, c: int, region: tuple[slice, slice, slice] = (slice(None),) * 3
    ) -> tuple[Any, ...]:
        """Return the index into ``data`` of a (z, y, x) region of one volume."""
        picks: dict[str, Any] = {"T": t, "C": c, "Z": region[0], "Y": region[1], "X": region[2]}
        return tuple(picks[a] for a in self.axes)

    def read(
        self, t: int = 0, c: int = 0, region: tuple[slice, slice, slice] = (slice(None),) * 3
    ) -> npt.NDArray[Any]:
        """Read a region of one volume (Z, Y, X) in the stored dtype and native byte order."""
        block = np.asarray(self.data[self.index(t, c, region)])
        if "Z" not in self.axes:
            block = block[np.newaxis]
        return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))

    def with_data(self, data: ArrayLike, **changes: Any) -> Self:
        """Return a copy with another array (and whatever else is named)."""
        return replace(self, data=data, **changes)

    def relabelled(self, axes: str) -> Self:
        """Return a copy whose dimensions have these axes, transposed to ``TCZYX`` order.

        Raises
        ------
        StackError
            Axes and array disagree.
        """
        names = self.channel_names if "C" in axes and "C" in self.axes else ()
        return type(self).from_array(
            self.data,
            axes,
            self.voxel_size,
            channel_names=names,
            name=self.name,
            metadata=self.metadata,
            path=self.path,
        )

    def pick_channel(self, channel: int) -> Self:
        """Return a copy with one channel only, without its axis; pixels are not read.

        Metadata that hold one entry a channel hold that channel's alone.

        Raises
        ------
        StackError
            There is no such channel.
        """
        if "C" not in self.axes:
            if channel == 0:
                return self
            raise StackError(
                f"channel {channel} was requested, but the stack has one channel; use --channel 0 "
                "or leave it out"
            )
        count = self.size("C")
        if not 0 <= channel < count:
            raise StackError(
                f"channel {channel} was requested, but the stack has channels 0 to {count - 1}"
            )
        index = tuple(channel if a == "C" else slice(None) for a in self.axes)
        names = (self.channel_names[channel],) if self.channel_names else ()
        own = {key: entries[channel] for key, entries in self._per_channel().items()}
        metadata = {
            key: value
            for key, value in {**self.metadata, **own}.items()
            if key not in own or value is not None
        }
        axes = self.axes.replace("C", "")
        return replace(
            self, data=select(self.data, index), axes=axes, channel_names=names, metadata=metadata
        )

    def crop(self, region: Mapping[str, slice]) -> Self:
        """Return a copy cropped along named axes, or the stack itself; pixels are not read.

        Metadata that hold one entry a channel hold those of the channels kept.

        Raises
        ------
        StackError
            The region is empty or beyond the stack.
        """
        index: list[Any] = []
        for letter, size in zip(self.axes, self.shape, strict=True):
            part = region.get(letter, slice(None))
            start, stop, _ = part.indices(size)
            if stop <= start or (part.stop is not None and part.stop > size):
                low = letter.lower()
                raise StackError(
                    f"crop {low}{part.start}:{part.stop} is outside the stack, which has {size} "
                    f"along {low}"
                )
            index.append(slice(start, stop))
        if all(part == slice(0, size) for part, size in zip(index, self.shape, strict=True)):
            return self
        first = {letter: part.start for letter, part in zip(self.axes, index, strict=True)}
        names, metadata = self.channel_names, self._moved(first)
        if "C" in self.axes:
            kept = index[self.axes.index("C")]
            names = names[kept]
            metadata = {
                **metadata,
                **{key: entries[kept] for key, entries in self._per_channel().items()},
            }
        return replace(
            self, data=select(self.data, tuple(index)), channel_names=names, metadata=metadata
        )

    def _per_channel(self) -> dict[str, list[Any]]:
        """Return the metadata that hold one entry a channel."""
        found = {
            key: self.metadata[key]
            for key in _PER_CHANNEL
            if isinstance(self.metadata.get(key), list | tuple | np.ndarray)
        }
        return {
            key: list(entries) for key, entries in found.items() if len(entries) == self.size("C")
        }

    def _moved(self, first: Mapping[str, int]) -> Mapping[str, Any]:
        """Return the metadata with ``origin_um`` (z, y, x) moved to the crop's first voxel."""
        origin, sizes = self.metadata.get("origin_um"), self.voxel_size.zyx_um
        if not origin or len(origin) != 3:
            return self.metadata
        steps = [first.get(a, 0) * (v or 0.0) for a, v in zip("ZYX", sizes, strict=True)]
        return {
            **self.metadata,
            "origin_um": tuple(
                None if o is None else o + s for o, s in zip(origin, steps, strict=True)
            ),
        }

    def describe(self) -> str:
        """One line for the user: ``Z Y X — 61 × 512 × 512, 0.50 × 0.22 × 0.22 µm (file)``."""
        sizes = " × ".join(str(n) for n in self.shape)
        lengths = [v for a, v in zip("ZYX", self.voxel_size.zyx_um, strict=True) if a in self.axes]
        voxel = " × ".join("?" if v is None else f"{v:.3g}" for v in lengths)
        origin = self.voxel_size.origin(self.spatial_axes)
        return f"{' '.join(self.axes)} — {sizes}, {voxel} µm ({origin})"
