"""Open TIFF files of all flavours lazily: ImageJ, OME, LSM, STK, BigTIFF, plain."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zenhance.errors import ReadError
from zenhance.io.limits import check_claim, check_xml
from zenhance.io.ome_xml import outside_names
from zenhance.io.source import LazyArray, RawArray, Source
from zenhance.io.tiff_meta import describe_series
from zenhance.io.tiff_scan import TiffScan, scan_tiff
from zenhance.stack import ArrayLike

__all__ = ["read_tiff"]

LSM_MAGIC = (b"\x4c\x49\x00\x03", b"\x4c\x49\x00\x04")
PRIVATE_TAG = 65000
PATCH_BYTES = 512 * 2**20


_SILENT = threading.local()


def _is_heard(_: logging.LogRecord) -> bool:
    return not getattr(_SILENT, "on", False)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Drop the library's log lines in this thread: what matters in them is checked here and said in one sentence."""
    logging.getLogger("tifffile").addFilter(_is_heard)
    before = getattr(_SILENT, "on", False)
    _SILENT.on = True
    try:
        yield
    finally:
        _SILENT.on = before


def _open_library(
    path: Path, handle: BinaryIO, scan: TiffScan, size: int
) -> tuple[Any, dict[str, Any]]:
    """Open with tifffile; a tag of old Zeiss software that it cannot parse is hidden from it and read here."""
    import tifffile

    if scan.lsm_entry is None or scan.lsm_value is None:
        return tifffile.TiffFile(str(path)), {}
    handle.seek(scan.lsm_value[0])
    record = handle.read(min(scan.lsm_value[1], 64))
    if record[:4] in LSM_MAGIC or record[:2] != b"LI" or size > PATCH_BYTES:
        return tifffile.TiffFile(str(path)), {}
    handle.seek(0)
    patched = bytearray(handle.read())
    patched[scan.lsm_entry : scan.lsm_entry + 2] = PRIVATE_TAG.to_bytes(
        2, "little" if scan.byteorder == "<" else "big"
    )
    legacy: dict[str, Any] = {}
    if len(record) >= 44:
        x_um, y_um, z_um = np.frombuffer(record, scan.byteorder + "f4", 3, 32).tolist()
        legacy = {"voxel_um": (z_um, y_um, x_um)}
    return tifffile.TiffFile(io.BytesIO(bytes(patched)), name=str(path)), legacy


def _check_ome(path: Path, tif: Any) -> str | None:
    """Return the OME-XML of the file, made sure to be harmless, or None."""
    description = tif.pages[0].description or ""
    if "<OME" not in description[:8192] and not tif.is_ome:
        if description.lstrip()[:1] == "<" and "DOCTYPE" in description[:65536].upper():
            check_xml(path, description)
        return None
    check_xml(path, description)
    bad = outside_names(description)
    if bad:
        raise ReadError(
            path,
            f'its OME-XML points to the file "{bad[0][:60]}" outside its folder; only files beside it may be parts of it',
        )
    return str(description)


def _check_pages(path: Path, series: Any, size: int) -> None:
    """Make sure that every page of a series is there and that its pixels lie inside the file."""
    keyframe = series.keyframe
    per_page = math.prod(keyframe.shape)
    wanted = math.prod(series.get_shape(squeeze=False)) // max(per_page, 1)
    pages = list(series.pages)
    missing = wanted - sum(p is not None for p in pages)
    if missing > 0:
        raise ReadError(
            path,
            f"{missing} of its {wanted} planes are missing; copy the file, or all its parts, again",
        )
    sizes = {}
    segments = empty = 0
    for number, page in enumerate(pages):
        home = page.parent.filehandle
        if home not in sizes:
            sizes[home] = size if home.name == path.name else Path(home.path).stat().st_size
        stored = 0
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            segments += 1
            empty += count == 0 or offset == 0
            stored += count
            if offset + count > sizes[home]:
                raise ReadError(
                    path,
                    f"the pixels of plane {number + 1} of {wanted} reach beyond the end of the file; copy or export it again",
                )
        if (
            keyframe.compression == 1
            and stored < keyframe.nbytes
            and keyframe.bitspersample in (8, 16, 32, 64)
            and not keyframe.is_tiled
        ):
            raise ReadError(
                path,
                f"plane {number + 1} of {wanted} holds {stored} of {keyframe.nbytes} bytes; copy or export it again",
            )
    if segments and empty > segments / 2 and series.nbytes > 256 * 10**6:
        raise ReadError(
            path,
            f"{empty} of its {segments} strips or tiles hold nothing; it was not written to the end",
        )


class _Pages:
    """Reads single pages through one open tifffile handle."""

    def __init__(self, tif: Any, series: Any) -> None:
        self._tif = tif
        self._pages = list(series.pages)
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, tif.close)

    def __call__(self, index: int) -> np.ndarray[Any, np.dtype[Any]]:
        page = self._pages[index]
        handle = page.parent.filehandle
        with self._lock, _quietly():
            # Parts of a multi-file image are closed between reads.
            was_closed = handle.closed
            if was_closed:
                handle.open()
            try:
                data: np.ndarray[Any, np.dtype[Any]] = page.asarray(maxworkers=1)
            finally:
                if was_closed:
                    handle.close()
            return data


def _array(path: Path, tif: Any, series: Any, shape: tuple[int, ...], size: int) -> ArrayLike:
    """Return an array that reads rows where the pixels lie in one piece, else page by page."""
    keyframe = series.keyframe
    dtype = np.dtype(keyframe.dtype).newbyteorder(tif.byteorder)
    offset = series.dataoffset
    if offset is not None and tif.filehandle.is_file and not series.is_multifile:
        if offset + math.prod(shape) * dtype.itemsize > size:
            raise ReadError(
                path,
                f"it should hold {math.prod(shape) * dtype.itemsize} bytes of pixels but is cut short at {size}; copy it again",
            )
        tif.close()
        return RawArray(path, offset, shape, dtype)
    _check_pages(path, series, size)
    block = tuple(keyframe.shape)
    lead = shape[: len(shape) - len(block)]
    if lead + block != shape or math.prod(lead) > len(series.pages):
        raise ReadError(
            path,
            f"its pages of shape {block} do not add up to the shape {shape} it claims; export it again",
        )
    return LazyArray(path, lead, block, dtype.newbyteorder("="), _Pages(tif, series))


def read_tiff(path: Path, series: int = 0) -> Source:
    """Open a TIFF; no pixel is read.

    Parameters
    ----------
    path : Path
        A regular file that begins like a TIFF.
    series : int
        Which image of the file.

    Raises
    ------
    ReadError
        The file is cut short, damaged, hostile or has no such series.
    """
    with _quietly():
        return _read(path, series)


def _read(path: Path, series: int) -> Source:
    size = path.stat().st_size
    with path.open("rb") as handle:
        scan = scan_tiff(path, handle, size)
        tif, legacy = _open_library(path, handle, scan, size)
    keep = False
    try:
        xml = _check_ome(path, tif)
        images = list(tif.series)
        if tif.is_lsm:
            images = images[:1]
        if not 0 <= series < len(images):
            raise ReadError(
                path, f"series {series} asked for, but it holds series 0 to {len(images) - 1}"
            )
        chosen = images[series]
        if chosen.dtype is None or math.prod(chosen.shape) == 0:
            raise ReadError(path, f"it holds no pixels: shape {tuple(chosen.shape)}")
        check_claim(path, chosen.nbytes, size)
        described = describe_series(path, tif, chosen, series, xml, legacy)
        parts = (
            sorted(
                {str(p.parent.filehandle.path) for p in chosen.pages if p is not None} - {str(path)}
            )
            if chosen.is_multifile
            else []
        )
        if parts:
            described.metadata["parts"] = tuple(parts)
        data = _array(path, tif, chosen, described.shape, size)
        keep = not isinstance(data, RawArray)
        return Source(
            data,
            described.axes,
            described.format,
            described.voxel_um,
            described.origin_um,
            described.channel_names,
            described.metadata,
            len(images),
        )
    finally:
        if not keep:
            tif.close()
