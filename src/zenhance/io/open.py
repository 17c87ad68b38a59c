"""The one gate in: look at a file, refuse what is broken or hostile, and hand out a lazy Stack.

Headers first: :func:`inspect_image` reads no pixel, :func:`open_stack` one plane at most. Whatever
a reader library raises becomes a :class:`~zenhance.errors.ReadError` of one sentence that names the
file.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from zenhance.errors import ReadError, StackError, sentence
from zenhance.io.names import MAGIC, stem
from zenhance.io.slices import slices_in
from zenhance.io.source import (
    FileState,
    GuardedArray,
    LazyArray,
    Opened,
    Source,
    wrap_errors,
)
from zenhance.stack import AXES, Stack, VoxelSize, wrong_dimensions

__all__ = ["ImageInfo", "inspect_image", "open_stack"]

PROBE_BYTES = 64 * 2**20
BLOCK_BYTES = 4096
MAX_ZEROS_BYTES = 2**30

# Their files may end in room that is not used.
_SPARSE = ("BigDataViewer", "HDF5", "Imaris", "Nikon ND2", "Olympus OIB", "picture")
_DV_MAGIC = (b"\xa0\xc0", b"\xc0\xa0")
_NAMES = "TIFF, OME-Zarr, CZI, LIF, ND2, OIB, DV, HDF5, Imaris, INR, PNG and JPEG"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the headers of an image file say; no pixel was read.

    Parameters
    ----------
    path : Path
        The file or folder.
    format : str
        Name of the format.
    shape : tuple of int
        One number per axis, in the order of ``axes``.
    axes : str
        Letters of ``TCZYX``; ``?`` for an axis that the file does not name.
    dtype : dtype
        Of the pixels.
    voxel_size : VoxelSize
        In µm, each axis with its origin.
    origin_um : tuple of float or None
        Stage position of the first voxel, (z, y, x).
    decoded_bytes : int
        Size of all pixels in memory.
    file_bytes : int
        Size on disk, of all files in a folder.
    series : int
        Number of images in the file.
    read_as : str or None
        The axes that :func:`open_stack` takes, in the file's order; None if it asks for them.
    series_names : tuple of str
        What the images are called, one each, where the file says so.
    """

    path: Path
    format: str
    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    voxel_size: VoxelSize
    origin_um: tuple[float | None, float | None, float | None]
    decoded_bytes: int
    file_bytes: int
    series: int
    read_as: str | None = None
    series_names: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


def _reader(path: Path) -> tuple[str, str]:
    """Pick the reader by what the file begins with."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise wrap_errors(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        if any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs")):
            return "zarr_store", "read_zarr"
        if slices_in(path):
            return "slices", "read_slices"
        raise ReadError(path, "it is a folder, and not an OME-Zarr image; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ReadError(path, "it is not a regular file")
    if status.st_size == 0:
        raise ReadError(path, "the file is empty (0 bytes); copy or export it again")
    try:
        with path.open("rb") as handle:
            head = handle.read(128)
    except OSError as error:
        raise wrap_errors(path, error) from error
    for magic, module, function in MAGIC:
        if head.startswith(magic):
            return module, function
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"<?xml", b"<OME")):
        return "tiff", "read_companion"
    if head[96:98] in _DV_MAGIC:
        return "dv", "read_dv"
    if head.startswith(b"MATLAB "):
        raise ReadError(
            path,
            "MATLAB files hold variables, not images; save the one you want as TIFF, for example "
            "with imwrite",
        )
    if head.startswith(b"PK\x03\x04"):
        raise ReadError(path, "it is a zip archive; unpack it first")
    raise ReadError(path, f"it is none of the formats known here ({_NAMES}); export it as OME-TIFF")


def _source(path: str | Path, series: int) -> tuple[Path, Source]:
    path = Path(path)
    module, function = _reader(path)
    read: Callable[[Path, int], Source] = getattr(import_module(f"zenhance.io.{module}"), function)
    try:
        before = FileState.of(path)
        source = read(path, series)
        before.check()
        if isinstance(source.data, LazyArray | GuardedArray):
            state = FileState.of(path.absolute(), source.metadata.get("parts", ()))
            source.data.opened = Opened(state, partial(_pixels, path.absolute(), series))
    except ReadError:
        raise
    except Exception as error:  # the gate: reader libraries raise a dozen types for damaged headers
        raise wrap_errors(path, error) from error
    kind = np.dtype(source.data.dtype).kind
    if kind not in "buif":
        what = "complex numbers" if kind == "c" else f"of type {source.data.dtype}"
        raise ReadError(
            path, f"its pixels are {what}; save real numbers (for example the magnitude) instead"
        )
    if 0 in source.data.shape:
        raise ReadError(path, f"it holds no pixels: shape {tuple(source.data.shape)}")
    shape = tuple(int(n) for n in source.data.shape)
    if len(shape) > len(AXES) or source.axes.count("?") > len(set(AXES) - set(source.axes)):
        raise ReadError(
            path,
            f"it has {len(shape)} dimensions {shape}, and only t, c, z, y and x are read; save one "
            "value of each further dimension as OME-TIFF, for example with Duplicate in Fiji",
        )
    note = _blank_end(path, source) if path.is_file() and source.format not in _SPARSE else None
    if note is not None:
        notes = (*source.metadata.get("warnings", ()), note)
        source = replace(source, metadata={**source.metadata, "warnings": notes})
    return path, source


def _pixels(path: Path, series: int) -> LazyArray | GuardedArray:
    """Open an image again, as an unpickled stack does."""
    data = _source(path, series)[1].data
    if not isinstance(data, LazyArray | GuardedArray):
        raise ReadError(path, "its pixels are no longer read on demand; open it again")
    return data


def _blank_end(path: Path, source: Source) -> str | None:
    """Say so if a file ends in zeros, at least a plane of them: often it was copied in part."""
    plane = math.prod(source.data.shape[-2:]) * np.dtype(source.data.dtype).itemsize
    with path.open("rb") as handle:
        size = handle.seek(0, 2)
        zeros = 0
        while zeros < size:
            # Doubling steps find the end of a gigabyte of zeros in a few reads.
            step = min(max(zeros, BLOCK_BYTES), 2**22, size - zeros)
            handle.seek(size - zeros - step)
            held = len(handle.read(step).rstrip(b"\0"))
            zeros += step - held
            if held or zeros > MAX_ZEROS_BYTES:
                break
    if zeros < max(plane, BLOCK_BYTES):
        return None
    share = f"{100 * zeros / size:.0f} %" if zeros <= MAX_ZEROS_BYTES else "much"
    return (
        f"the end of the file, {share} of it, is zeros; if that is not the image, it was copied or "
        "written only in part"
    )


def _voxel_size(source: Source) -> VoxelSize:
    lengths = [
        v if a in source.axes or "?" in source.axes else None
        for a, v in zip("ZYX", source.voxel_um, strict=True)
    ]
    return VoxelSize.of(lengths, "file")


def inspect_image(path: str | Path, *, series: int = 0) -> ImageInfo:
    """Read the headers of an image file and check them; no pixel is read.

    Parameters
    ----------
    path : str or Path
        A file, or the folder of an OME-Zarr image.
    series : int
        Which image of a file that holds several.

    Raises
    ------
    ReadError
        The file is missing, broken, hostile or of an unknown kind.
    """
    path, source = _source(path, series)
    shape = tuple(int(n) for n in source.data.shape)
    axes = source.axes
    if "?" not in axes:
        order = sorted(range(len(axes)), key=lambda i: AXES.index(axes[i]))
        axes, shape = "".join(axes[i] for i in order), tuple(shape[i] for i in order)
    dtype = np.dtype(source.data.dtype)
    return ImageInfo(
        path=path,
        format=source.format,
        shape=shape,
        axes=axes,
        dtype=dtype.newbyteorder("="),
        voxel_size=_voxel_size(source),
        origin_um=source.origin_um,
        decoded_bytes=math.prod(shape) * dtype.itemsize,
        file_bytes=_stored_bytes(path),
        series=source.series,
        read_as=_named_axes(source),
        series_names=source.series_names,
        channel_names=source.channel_names,
        metadata=dict(source.metadata),
    )


def _stored_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
    return total


def _named_axes(source: Source) -> str | None:
    """Return the axes of a source, or None if one of them could be several things.

    One unnamed axis of more than four pages is z.
    """
    unknown = source.axes.count("?")
    if not unknown:
        return source.axes
    pages = int(source.data.shape[source.axes.index("?")])
    if unknown == 1 and pages > 4 and "Z" not in source.axes:
        return source.axes.replace("?", "Z")
    return None


def _resolve_axes(path: Path, source: Source, given: str | None) -> str:
    """Combine the user's axes with the file's; an ambiguous axis is an error."""
    shape = tuple(int(n) for n in source.data.shape)
    if not 2 <= len(shape) <= len(AXES):
        raise ReadError(path, wrong_dimensions(shape))
    if given is not None:
        given = given.upper()
        if len(given) != len(shape) or len(set(given)) != len(given) or not set(given) <= set(AXES):
            raise StackError(
                f'axes "{given}" do not name the {len(shape)} dimensions of "{path.name}", shape '
                f"{shape}; use each letter of TCZYX once"
            )
        return given
    named = _named_axes(source)
    if named is None:
        example = "TCZYX"[-len(shape) :] if len(shape) != 4 else "CZYX"
        raise ReadError(
            path,
            f"an axis of its shape {shape} could be slices, channels or times; name the axes, "
            f"for example --axes {example}",
        )
    return named


def _probe(path: Path, source: Source) -> None:
    """Decode one plane, so that damaged pixels show now and not in the middle of a run."""
    axes, shape = source.axes, source.data.shape
    plane_bytes = (
        math.prod(n for a, n in zip(axes, shape, strict=True) if a in "YXC")
        * np.dtype(source.data.dtype).itemsize
    )
    if plane_bytes > PROBE_BYTES:
        return
    try:
        np.asarray(source.data[tuple(slice(None) if a in "YX" else 0 for a in axes)])
    except Exception as error:  # the gate: reader libraries raise a dozen types for damaged pixels
        raise wrap_errors(path, error) from error


def open_stack(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_size_um: Sequence[float | None] | None = None,
    series: int = 0,
) -> Stack:
    """Open an image file as a lazy Stack.

    Parameters
    ----------
    path : str or Path
        A file, or the folder of an OME-Zarr image.
    axes : str, optional
        Name the dimensions, one letter of ``TCZYX`` each, instead of what the file says.
    voxel_size_um : sequence of float or None, optional
        (z, y, x) or (y, x) in µm; takes the place of the file's lengths, None keeps one.
    series : int
        Which image of a file that holds several.

    Returns
    -------
    Stack
        Pixels are read where asked for; the stored dtype is kept.

    Raises
    ------
    ReadError
        The file is missing, broken, hostile, of an unknown kind, or does not name an axis that
        could be several things.
    StackError
        The axes or voxel size given do not fit.
    """
    path, source = _source(path, series)
    chosen = _resolve_axes(path, source, axes)
    _probe(path, source)
    lengths = [v if a in chosen else None for a, v in zip("ZYX", source.voxel_um, strict=True)]
    voxel_size = VoxelSize.of(lengths, "file").replaced_by(voxel_size_um)
    channels = source.data.shape[chosen.index("C")] if "C" in chosen else 1
    names = source.channel_names if len(source.channel_names) == channels else ()
    metadata = {k: v for k, v in source.metadata.items() if v is not None}
    metadata["format"] = source.format
    if source.series > 1:
        metadata |= {"image": series, "images": f"image {series + 1} of {source.series}"}
    if any(v is not None for v in source.origin_um):
        metadata["origin_um"] = source.origin_um
    try:
        return Stack.from_array(
            source.data,
            chosen,
            voxel_size,
            channel_names=names,
            name=stem(path),
            metadata=metadata,
            path=path.absolute(),
        )
    except StackError as error:
        raise ReadError(path, sentence(error)) from error
