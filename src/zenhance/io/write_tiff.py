"""Write OME-TIFF and ImageJ TIFF plane by plane, with all metadata and checksums.

Planes are read in slabs that fit into any memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import FailureKind, WriteError
from zenhance.io import commit
from zenhance.io.ome_write import compose_ome, ome_type
from zenhance.io.tiff_meta import IMAGEJ_MARK
from zenhance.provenance import hash_array
from zenhance.stack import Stack
from zenhance.wording import format_bytes

__all__ = [
    "BIG_BYTES",
    "SLAB_BYTES",
    "check_imagej",
    "hash_planes",
    "iterate_planes",
    "plane_count",
    "write_imagej_tiff",
    "write_ome_tiff",
]

# Classic TIFF ends at 4 GiB; directories and metadata need room as well.
BIG_BYTES = 3_900_000_000
SMALL_FLOAT_BYTES = 256 * 10**6


def _hashed(
    stack: Stack, hashes: list[str], *, channels_inside: bool
) -> Iterator[npt.NDArray[Any]]:
    middle = plane_count(stack) // 2
    for number, plane in enumerate(iterate_planes(stack, channels_inside=channels_inside)):
        if number == middle:
            commit.reach("half")
        hashes.append(hash_array(plane))
        yield plane


def _compression(stack: Stack, wanted: str) -> str | None:
    if wanted != "auto":
        return None if wanted == "none" else wanted
    # Noise in float32 hardly shrinks and takes long to try.
    total = stack.dtype.itemsize * int(np.prod(stack.shape, dtype=np.int64))
    return (
        None
        if stack.dtype.kind in "fb" and (total > SMALL_FLOAT_BYTES or stack.dtype.kind == "b")
        else "zlib"
    )


def write_ome_tiff(
    path: Path, stack: Stack, provenance: str | None, compression: str = "auto"
) -> None:
    """Fill a file with an OME-TIFF (BigTIFF above 3.9 GB).

    Parameters
    ----------
    path : Path
        An existing empty file.
    stack : Stack
        Read in slabs of at most 64 MiB.
    provenance : str or None
        JSON.
    compression : {'auto', 'zlib', 'none'}
        ``auto``: zlib, but none for large float images.

    Raises
    ------
    WriteError
        OME-TIFF has no such pixel type.
    """
    import tifffile

    ome_type(stack.dtype)
    hashes: list[str] = []
    planes, (_, rows, columns) = plane_count(stack), stack.volume_shape
    total = planes * rows * columns * stack.dtype.itemsize
    with tifffile.TiffWriter(str(path), bigtiff=total > BIG_BYTES, ome=False) as tif:
        tif.write(
            _hashed(stack, hashes, channels_inside=False),
            shape=(planes, rows, columns),
            dtype=stack.dtype.newbyteorder("="),
            photometric="minisblack",
            compression=_compression(stack, compression),
            description="pixels are being written",
            metadata=None,
            software="zenhance",
        )
        own = {
            "axes": stack.axes,
            "sha256": " ".join(hashes),
            "channel_names": json.dumps(list(stack.channel_names)),
        }
        if stack.metadata.get("pinhole_au") is not None:
            own["pinhole_au"] = json.dumps(stack.metadata["pinhole_au"])
        if provenance is not None:
            own["provenance"] = provenance
        tif.overwrite_description(compose_ome(stack, own).decode("ascii"))


def _rational(pixels_per_um: float) -> tuple[int, int]:
    """Return a fraction that fits a TIFF rational and is true to 1e-9."""
    ratio = Fraction(pixels_per_um)
    for limit in (10**6, 10**9, 4 * 10**9):
        close = ratio.limit_denominator(limit)
        if (
            close.numerator < 2**32
            and close > 0
            and abs(float(close) - pixels_per_um) <= 1e-9 * pixels_per_um
        ):
            return close.numerator, close.denominator
    scale = min(2**32 - 1, int((2**32 - 1) / pixels_per_um))
    return round(pixels_per_um * scale), scale


def check_imagej(stack: Stack) -> None:
    """Refuse what ImageJ's own format cannot hold.

    Raises
    ------
    WriteError
        A pixel type other than uint8, uint16, int16 and float32, or more than 3.9 GB.
    """
    if stack.dtype.name not in ("uint8", "uint16", "int16", "float32"):
        raise WriteError(
            f"an ImageJ TIFF has no {stack.dtype.name} pixels, only uint8, uint16, int16 and "
            "float32; save as .ome.tif or .ome.zarr",
            FailureKind.BAD_PARAMETER,
        )
    total = stack.dtype.itemsize * int(np.prod(stack.shape, dtype=np.int64))
    if total > BIG_BYTES:
        raise WriteError(
            f"an ImageJ TIFF ends at 3.9 GB and this stack has {format_bytes(total)}; save as "
            ".ome.tif",
            FailureKind.BAD_PARAMETER,
        )


def _imagej_description(stack: Stack) -> str:
    lines = ["ImageJ=1.54f", f"images={plane_count(stack)}"]
    for name, axis in (("channels", "C"), ("slices", "Z"), ("frames", "T")):
        if stack.size(axis) > 1:
            lines.append(f"{name}={stack.size(axis)}")
    lines += ["hyperstack=true", "mode=grayscale", "loop=false"]
    voxel = stack.voxel_size
    # ImageJ has one unit for x and y, and takes a missing resolution for 1: where one is unknown,
    # neither may have a unit.
    lines.append("unit=pixel" if voxel.x_um is None or voxel.y_um is None else "unit=micron")
    if voxel.z_um is not None:
        lines += ["zunit=micron", f"spacing={voxel.z_um!r}"]
    if stack.dtype == np.int16:
        # ImageJ stores signed 16 bits with 32768 added, and a straight line that takes it back.
        lines += ["cf=0", "c0=-32768.0", "c1=1.0", "vunit=Gray Value"]
    step = stack.metadata.get("time_step_s")
    if step is not None:
        lines.append(f"finterval={float(step)!r}")
    return "\n".join(lines) + "\n"


def _imagej_info(stack: Stack, hashes: list[str], provenance: str | None) -> str:
    record = {
        "axes": stack.axes,
        "channel_names": list(stack.channel_names),
        "voxel_um": list(stack.voxel_size.zyx_um),
        "sha256": " ".join(hashes),
        "provenance": provenance,
    }
    return IMAGEJ_MARK + json.dumps(record) + "\n"


def write_imagej_tiff(path: Path, stack: Stack, provenance: str | None) -> None:
    """Fill a file with an uncompressed ImageJ hyperstack; our record goes into its Info property.

    Parameters
    ----------
    path : Path
        An existing empty file.
    stack : Stack
        uint8, uint16, int16 or float32, at most 3.9 GB (see :func:`check_imagej`).
    provenance : str or None
        JSON.
    """
    import tifffile

    check_imagej(stack)
    hashes: list[str] = []
    planes, (_, rows, columns) = plane_count(stack), stack.volume_shape
    blank = _imagej_info(stack, ["0" * 64] * planes, provenance)
    x_um, y_um = stack.voxel_size.x_um, stack.voxel_size.y_um
    resolution = (
        (_rational(1 / x_um), _rational(1 / y_um))
        if x_um is not None and y_um is not None
        else None
    )
    with tifffile.TiffWriter(str(path), bigtiff=False, ome=False) as tif:
        signed = stack.dtype == np.int16
        found = _hashed(stack, hashes, channels_inside=True)
        tif.write(
            (p.view(np.uint16) ^ np.uint16(0x8000) for p in found) if signed else found,
            shape=(planes, rows, columns),
            dtype=np.dtype(np.uint16) if signed else stack.dtype.newbyteorder("="),
            photometric="minisblack",
            description=_imagej_description(stack),
            metadata=None,
            resolution=resolution,
            resolutionunit="NONE",
            software="zenhance",
            extratags=tifffile.imagej_metadata_tag({"Info": blank}, tif.tiff.byteorder),
        )
    filled = _imagej_info(stack, hashes, provenance)
    _replace_info(path, blank, filled)


def _replace_info(path: Path, blank: str, filled: str) -> None:
    """Put the checksums in the place kept for them; both texts have the same length."""
    import tifffile

    with tifffile.TiffFile(str(path)) as tif:
        tag = tif.pages[0].tags[50839]
        offset, length, order = tag.valueoffset, tag.count, tif.byteorder
    encoding = "utf-16-le" if order == "<" else "utf-16-be"
    with path.open("r+b") as handle:
        handle.seek(offset)
        block = handle.read(length)
        handle.seek(offset)
        handle.write(block.replace(blank.encode(encoding), filled.encode(encoding)))


SLAB_BYTES = 64 * 2**20
Array = npt.NDArray[Any]


def plane_count(stack: Stack) -> int:
    """Return the number of (Y, X) planes."""
    return stack.size("T") * stack.size("C") * stack.size("Z")


def _slabs(stack: Stack) -> Iterator[slice]:
    plane_bytes = stack.size("Y") * stack.size("X") * stack.dtype.itemsize
    step = max(1, SLAB_BYTES // max(plane_bytes, 1))
    for z in range(0, stack.size("Z"), step):
        yield slice(z, min(z + step, stack.size("Z")))


def iterate_planes(stack: Stack, *, channels_inside: bool = False) -> Iterator[Array]:
    """Yield every plane (Y, X) in its stored dtype, native byte order.

    Parameters
    ----------
    stack : Stack
        At most 64 MiB of it, times the number of channels where these go inside, are in memory at
        once.
    channels_inside : bool
        Planes in the order t, z, c (ImageJ) instead of t, c, z.
    """
    whole = slice(None)
    for t in range(stack.size("T")):
        if channels_inside:
            for part in _slabs(stack):
                blocks = [stack.read(t, c, (part, whole, whole)) for c in range(stack.size("C"))]
                for z in range(len(blocks[0])):
                    for block in blocks:
                        yield np.ascontiguousarray(block[z])
        else:
            for c in range(stack.size("C")):
                for part in _slabs(stack):
                    yield from (
                        np.ascontiguousarray(plane)
                        for plane in stack.read(t, c, (part, whole, whole))
                    )


def hash_planes(stack: Stack, *, channels_inside: bool = False) -> list[str]:
    """Return the sha256 of every plane (over dtype, shape and pixels)."""
    return [hash_array(plane) for plane in iterate_planes(stack, channels_inside=channels_inside)]
