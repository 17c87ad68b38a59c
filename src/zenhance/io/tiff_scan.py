"""Walk a TIFF's directories before any library does, to find cuts and traps.

::

    header -> IFD -> IFD -> ... -> 0      every arrow must land inside the file, and so must every
    value it points to

A cut file loses the end of that chain, a crash while writing loses its last link; tifffile reads
either as a shorter stack.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zenhance.errors import ReadError
from zenhance.io.limits import MAX_XML_BYTES, open_regular

__all__ = ["TiffScan", "first_description", "scan_tiff"]

MAX_PAGES = 10**6
MAX_TAGS = 4096
# Tags whose count is what the TIFF specification says (others, such as MetaMorph's, break it and
# are left to the library).
_CHECKED = {256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 322, 323, 324, 325}
# Types 1 to 18 of the specification; 14 and 15 do not exist.
_TYPE_BYTES = dict(zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True))
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
LSM_TAG = 34412


@dataclass(frozen=True, slots=True)
class TiffScan:
    """What the walk found.

    Parameters
    ----------
    pages : int
        Directories in the chain.
    byteorder : str
        ``<`` or ``>``.
    lsm_entry : int or None
        File offset of the directory entry of Zeiss's tag 34412.
    lsm_value : tuple of int or None
        Offset and length of its value.
    """

    pages: int
    byteorder: str
    lsm_entry: int | None = None
    lsm_value: tuple[int, int] | None = None


def _cut(path: Path, what: str, size: int) -> ReadError:
    return ReadError(
        path,
        f"the file is cut short: {what} beyond its end at {size} bytes; copy or export it again",
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a TIFF or a BigTIFF stores numbers and directories, and where the first one begins."""

    order: str
    count_code: str
    link_code: str
    entry_bytes: int
    first: int

    @classmethod
    def of(cls, path: Path, head: bytes) -> _Layout:
        """Read the first 16 bytes of a file."""
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise ReadError(path, "it is not a TIFF file")
        version = struct.unpack_from(order + "H", head, 2)[0]
        big = version == 43
        if version not in (42, 43) or (big and len(head) < 16):
            raise ReadError(path, f"it is not a TIFF file (version {version}, known are 42 and 43)")
        count, link, entry_bytes, at = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
        return cls(order, count, link, entry_bytes, struct.unpack_from(order + link, head, at)[0])

    @property
    def count_bytes(self) -> int:
        return struct.calcsize(self.count_code)

    @property
    def link_bytes(self) -> int:
        """Bytes of an offset; a value no longer than that stands in its entry."""
        return struct.calcsize(self.link_code)

    def count(self, raw: bytes) -> int:
        """Return the number of entries with which a directory begins."""
        return int(struct.unpack(self.order + self.count_code, raw)[0])

    def entry(self, table: bytes, at: int) -> tuple[int, int, int, int]:
        """Return tag, type, number and offset (or value) of an entry."""
        form = self.order + "HH" + self.link_code * 2
        tag, kind, number, value = struct.unpack_from(form, table, at)
        return tag, kind, number, value


def first_description(path: Path) -> str:
    """Return the ImageDescription of a TIFF's first page, at most 64 MiB; empty if there is none.

    Raises
    ------
    ReadError
        The file is not a TIFF, not a regular file, or cut short.
    """
    with open_regular(path) as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        layout = _Layout.of(path, handle.read(16))
        handle.seek(min(layout.first, size))
        raw = handle.read(layout.count_bytes)
        count = layout.count(raw) if len(raw) == layout.count_bytes else 0
        width = layout.entry_bytes
        table = handle.read(min(count, MAX_TAGS) * width)
        for at in range(0, len(table) - width + 1, width):
            tag, _, length, place = layout.entry(table, at)
            inline = length <= layout.link_bytes
            if tag == 270 and length <= MAX_XML_BYTES and not inline and place < size:
                handle.seek(place)
                return handle.read(length).rstrip(b"\0").decode("utf-8", "replace")
    return ""


def scan_tiff(path: Path, handle: BinaryIO, size: int) -> TiffScan:
    """Follow the chain of directories and check where it leads.

    Parameters
    ----------
    path : Path
        Named in errors.
    handle : file
        Open for reading.
    size : int
        Bytes in the file.

    Raises
    ------
    ReadError
        The chain or a value lies outside the file, loops, or the header is no TIFF.
    """
    handle.seek(0)
    layout = _Layout.of(path, handle.read(16))
    offset = layout.first
    seen: set[int] = set()
    lsm_entry: int | None = None
    lsm_value: tuple[int, int] | None = None
    while offset:
        if offset in seen or len(seen) >= MAX_PAGES:
            raise ReadError(path, "its directories form a loop; it is damaged, export it again")
        seen.add(offset)
        table = _directory(path, handle, layout, offset, len(seen), size)
        end = len(table) - layout.link_bytes
        for at in range(0, end, layout.entry_bytes):
            tag, kind, number, value = layout.entry(table, at)
            if tag not in _CHECKED and tag != LSM_TAG:
                continue
            length = number * _TYPE_BYTES.get(kind, 1)
            if tag == LSM_TAG and lsm_entry is None:
                lsm_entry, lsm_value = offset + layout.count_bytes + at, (value, length)
            if length > layout.link_bytes and value + length > size:
                raise _cut(path, f"tag {tag} of page {len(seen)} ends", size)
        offset = struct.unpack_from(layout.order + layout.link_code, table, end)[0]
    if not seen:
        raise ReadError(path, "the TIFF holds no image")
    return TiffScan(len(seen), layout.order, lsm_entry, lsm_value)


def _directory(
    path: Path, handle: BinaryIO, layout: _Layout, offset: int, page: int, size: int
) -> bytes:
    """Return the entries of a directory and the offset of the next one, as they are stored."""
    start = offset + layout.count_bytes
    if start > size:
        raise _cut(path, f"page {page} begins", size)
    handle.seek(offset)
    entries = layout.count(handle.read(layout.count_bytes))
    end = start + entries * layout.entry_bytes + layout.link_bytes
    if end > size:
        raise _cut(path, f"page {page} ends", size)
    if not entries:
        raise ReadError(path, f"page {page} has no tags; copy or export it again")
    if entries > MAX_TAGS:
        raise ReadError(
            path, f"page {page} has {entries} tags, more than any program writes; it is damaged"
        )
    return handle.read(end - start)
