"""Open TIFF files of all flavours lazily: ImageJ, OME, LSM, STK, BigTIFF, plain."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zenhance.errors import ReadError
from zenhance.io.limits import (
    MAX_XML_BYTES,
    check_claim,
    check_xml,
    open_regular,
    read_bounded,
)
from zenhance.io.ome_xml import file_names, metadata_file, outside_names, parse_ome
from zenhance.io.source import LazyArray, RawArray, Source, pick_series
from zenhance.io.tiff_meta import describe_series
from zenhance.io.tiff_scan import TiffScan, scan_tiff
from zenhance.io.tiff_segments import check_segments
from zenhance.io.units import number
from zenhance.stack import ArrayLike

__all__ = ["read_companion", "read_tiff"]

LSM_MAGIC = (b"\x4c\x49\x00\x03", b"\x4c\x49\x00\x04")
PRIVATE_TAG = 65000
PATCH_BYTES = 512 * 2**20


_SILENT = threading.local()


def _is_heard(_: logging.LogRecord) -> bool:
    return not getattr(_SILENT, "on", False)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Drop the library's log lines in this thread; what matters in them is checked here."""
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
    """Open with tifffile; hide and read a tag of old Zeiss software that it cannot parse."""
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
    """Return the OME-XML of the file, checked to be harmless, or None."""
    description = tif.pages[0].description or ""
    if "<OME" not in description[:8192] and not tif.is_ome:
        if description.lstrip()[:1] == "<" and "DOCTYPE" in description[:65536].upper():
            check_xml(path, description)
        return None
    return _harmless(path, str(description))


def _harmless(path: Path, text: str) -> str:
    check_xml(path, text)
    bad = outside_names(text)
    if bad:
        raise ReadError(
            path,
            f'its OME-XML points to the file "{bad[0][:60]}" outside its folder; '
            "only files beside it may be parts of it",
        )
    return text


def _companion(path: Path, name: str) -> str:
    """Return the OME-XML of the file that holds the metadata of several.

    Raises
    ------
    ReadError
        It is missing or holds none.
    """
    import tifffile

    file = path.with_name(name)
    if not file.is_file():
        raise ReadError(
            path, f'its metadata are in "{name[:60]}", which is missing; copy it beside this file'
        )
    with open_regular(file) as handle:
        is_tiff = handle.read(2) in (b"II", b"MM")
    if is_tiff:
        with tifffile.TiffFile(str(file)) as tif:
            text = str(tif.pages[0].description or "")
    else:
        text = read_bounded(file, MAX_XML_BYTES).decode("utf-8", "replace")
    if metadata_file(text) is not None or "<" not in text:
        raise ReadError(path, f'its metadata file "{name[:60]}" holds no OME-XML; copy it again')
    return _harmless(path, text)


def read_companion(path: Path, series: int = 0) -> Source:
    """Open the TIFF files that a companion file (``NAME.companion.ome``) describes.

    Raises
    ------
    ReadError
        The file is not OME-XML, or the files that it names are missing.
    """
    text = _harmless(path, read_bounded(path, MAX_XML_BYTES).decode("utf-8", "replace"))
    names = [n for n in file_names(text) if n != path.name]
    if not names:
        raise ReadError(path, "it is XML that names no image files; name an image file")
    first = path.with_name(names[0])
    if not first.is_file():
        raise ReadError(
            path, f'the image file "{names[0][:60]}" that it names is missing; copy it beside it'
        )
    source = read_tiff(first, series)
    parts = (str(first), *source.metadata.get("parts", ()))
    return replace(source, metadata={**source.metadata, "parts": parts})


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
    for index, page in enumerate(pages):
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
                    f"the pixels of plane {index + 1} of {wanted} reach beyond the end of the "
                    "file; copy or export it again",
                )
        if (
            keyframe.compression == 1
            and stored < keyframe.nbytes
            and keyframe.bitspersample in (8, 16, 32, 64)
            and not keyframe.is_tiled
        ):
            raise ReadError(
                path,
                f"plane {index + 1} of {wanted} holds {stored} of {keyframe.nbytes} bytes; copy "
                "or export it again",
            )
    if segments and empty > segments / 2 and series.nbytes > 256 * 10**6:
        raise ReadError(
            path,
            f"{empty} of its {segments} strips or tiles hold nothing; it was not written to the "
            "end",
        )


class _Pages:
    """Reads single pages through one open tifffile handle."""

    def __init__(self, path: Path, tif: Any, series: Any) -> None:
        self._path, self._tif = path, tif
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
                check_segments(self._path, page)
                data: np.ndarray[Any, np.dtype[Any]] = page.asarray(maxworkers=1)
            finally:
                if was_closed:
                    handle.close()
            return data


def _array(path: Path, tif: Any, series: Any, shape: tuple[int, ...], size: int) -> ArrayLike:
    """Return an array that reads rows where the pixels are contiguous, else page by page."""
    keyframe = series.keyframe
    dtype = np.dtype(keyframe.dtype).newbyteorder(tif.byteorder)
    offset = series.dataoffset
    if offset is not None and tif.filehandle.is_file and not series.is_multifile:
        if offset + math.prod(shape) * dtype.itemsize > size:
            raise ReadError(
                path,
                f"it should hold {math.prod(shape) * dtype.itemsize} bytes of pixels but is cut "
                f"short at {size}; copy it again",
            )
        tif.close()
        return RawArray(path, offset, shape, dtype)
    _check_pages(path, series, size)
    block = tuple(keyframe.shape)
    lead = shape[: len(shape) - len(block)]
    if lead + block != shape or math.prod(lead) > len(series.pages):
        raise ReadError(
            path,
            f"its pages of shape {block} do not add up to the shape {shape} it claims; export it "
            "again",
        )
    return LazyArray(path, lead, block, dtype.newbyteorder("="), _Pages(path, tif, series))


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


def _reopened(path: Path, tif: Any, xml: str | None) -> tuple[Any, str | None]:
    """Open again with the right metadata where tifffile would take others.

    They may be in a companion file, or be Micro-Manager's OME-XML beside its index of pages, which
    has neither voxel size nor positions.
    """
    import tifffile

    pointer = metadata_file(xml) if xml is not None else None
    if pointer is not None:
        xml = _companion(path, pointer)
        tif.close()
        return tifffile.TiffFile(str(path), omexml=xml), xml
    if xml is not None and tif.is_mmstack and "TiffData" in xml:
        tif.close()
        return tifffile.TiffFile(str(path), is_mmstack=False), xml
    return tif, xml


def _check_promise(path: Path, tif: Any, images: list[Any]) -> list[str]:
    """Compare the planes that an ImageJ header promises with those in the file.

    Raises
    ------
    ReadError
        There are fewer.
    """
    meta = tif.imagej_metadata if tif.is_imagej else None
    if not meta or not images:
        return []
    sizes = dict(zip(images[0].axes, images[0].shape, strict=True))
    held = math.prod(n for a, n in sizes.items() if a not in "YXS")
    counts = [int(number(meta.get(k, 1)) or 1) for k in ("channels", "slices", "frames")]
    promised = max(math.prod(counts), int(number(meta.get("images", 1)) or 1))
    if promised > held * sizes.get("S", 1):
        raise ReadError(
            path,
            f"its ImageJ header promises {promised} planes but it holds {held}; "
            "copy or export it again",
        )
    if len(tif.pages) > max(promised, held):
        return [f"its ImageJ header says {promised} planes, but it holds {len(tif.pages)}"]
    return []


def _images(tif: Any) -> list[Any]:
    """Return the series of a file; previews are not images if there is anything else."""
    images = list(tif.series)
    if tif.is_lsm:
        return images[:1]
    full = [i for i in images if i.kind == "ome" or not i.keyframe.is_reduced]
    return full or images


def _positions(path: Path, chosen: Any, series: int) -> tuple[Any, int, tuple[int, ...], str]:
    """Take one position of a Micro-Manager stack: pages, count, shape and axes."""
    axes, shape = str(chosen.axes), tuple(int(n) for n in chosen.shape)
    at = axes.index("R")
    pick_series(path, series, shape[at])
    lead = shape[: len(shape) - len(chosen.keyframe.shape)]
    numbers = np.arange(math.prod(lead)).reshape(lead).take(series, axis=at).ravel()
    pages = list(chosen.pages)
    return (
        [pages[int(i)] for i in numbers],
        shape[at],
        shape[:at] + shape[at + 1 :],
        axes[:at] + axes[at + 1 :],
    )


class _Part:
    """Some pages of a series, described as tifffile describes a series."""

    def __init__(self, whole: Any, pages: Any, shape: tuple[int, ...], axes: str) -> None:
        self.pages, self.shape, self.axes = pages, shape, axes
        self.keyframe, self.kind, self.dtype = whole.keyframe, whole.kind, whole.dtype
        self.is_multifile, self.dataoffset = whole.is_multifile, None
        self.nbytes = math.prod(shape) * whole.dtype.itemsize

    def get_shape(self, *, squeeze: bool) -> tuple[int, ...]:
        """Return the shape; it has no axes of length 1 to squeeze."""
        return self.shape


def _read(path: Path, series: int) -> Source:
    size = path.stat().st_size
    with path.open("rb") as handle:
        scan = scan_tiff(path, handle, size)
        tif, legacy = _open_library(path, handle, scan, size)
    keep = False
    try:
        tif, xml = _reopened(path, tif, _check_ome(path, tif))
        images, described_images = _images(tif), None if xml is None else parse_ome(path, xml)
        notes = _check_promise(path, tif, images)
        chosen, count = _chosen(path, images, series)
        check_claim(path, chosen.nbytes, size)
        described = describe_series(path, tif, chosen, series, described_images, legacy)
        _check_parts(path, tif, chosen)
        if parts := _other_files(path, chosen):
            described.metadata["parts"] = parts
        if notes:
            described.metadata["warnings"] = (*described.metadata.get("warnings", ()), *notes)
        data = _array(path, tif, chosen, described.shape, size)
        keep = not isinstance(data, RawArray)
    finally:
        if not keep:
            tif.close()
    names = tuple(i.name for i in described_images or ())
    return Source(
        _signed(path, data) if described.signed else data,
        described.axes,
        described.format,
        described.voxel_um,
        described.origin_um,
        described.channel_names,
        described.metadata,
        count,
        names if len(names) == count and all(names) else (),
    )


def _chosen(path: Path, images: list[Any], series: int) -> tuple[Any, int]:
    """Return one image of a file as tifffile describes it, and how many there are."""
    count = len(images)
    if count == 1 and images[0].kind == "mmstack" and "R" in images[0].axes:
        pages, count, shape, axes = _positions(path, images[0], series)
        chosen = _Part(images[0], pages, shape, axes)
    else:
        chosen = images[pick_series(path, series, count)]
    if chosen.dtype is None or math.prod(chosen.shape) == 0:
        raise ReadError(path, f"it holds no pixels: shape {tuple(chosen.shape)}")
    return chosen, count


def _other_files(path: Path, chosen: Any) -> tuple[str, ...]:
    """Return the paths of the other files that hold pages of an image."""
    if not chosen.is_multifile:
        return ()
    homes = {str(p.parent.filehandle.path) for p in chosen.pages if p is not None}
    return tuple(sorted(homes - {str(path)}))


def _signed(path: Path, data: ArrayLike) -> LazyArray:
    """Take back the 32768 that ImageJ adds to signed 16-bit pixels."""
    planes = data if isinstance(data, LazyArray) else np.asarray(data)
    *lead, rows, columns = planes.shape

    def read(index: int) -> np.ndarray[Any, np.dtype[Any]]:
        at = np.unravel_index(index, lead) if lead else ()
        stored = np.asarray(planes[tuple(int(i) for i in at)], np.uint16)
        return (stored ^ np.uint16(0x8000)).view(np.int16)

    return LazyArray(path, tuple(lead), (rows, columns), np.int16, read)


def _check_parts(path: Path, tif: Any, chosen: Any) -> None:
    """Refuse a Micro-Manager stack of which files are missing; tifffile makes it smaller."""
    if chosen.kind != "mmstack":
        return
    summary = (tif.micromanager_metadata or {}).get("Summary") or {}
    names = {"C": "Channels", "Z": "Slices", "T": "Frames"}
    sizes = dict(zip(chosen.axes, chosen.shape, strict=True))
    for axis, key in names.items():
        promised = number(summary.get(key, 1)) or 1
        if promised > sizes.get(axis, 1):
            raise ReadError(
                path,
                f"its Micro-Manager summary promises {int(promised)} {key.lower()} but it holds "
                f"{sizes.get(axis, 1)}; copy all its files, or export it again",
            )
