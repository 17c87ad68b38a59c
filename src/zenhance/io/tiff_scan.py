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
# Tags whose count is what the TIFF specification says (others, such as MetaMorph's, break it and
# are left to the library).
_CHECKED = {256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 322, 323, 324, 325}
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
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


def first_description(path: Path) -> str:
    """Return the ImageDescription of a TIFF's first page, of at most 64 MiB; empty if there is none.

    Raises
    ------
    ReadError
        The file is not a TIFF, not a regular file, or cut short.
    """
    with open_regular(path) as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        head = handle.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            raise ReadError(path, "it is not a TIFF file")
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        count_code, link_code = ("Q", "Q") if big else ("H", "I")
        start = struct.unpack_from(order + link_code, head, 8 if big else 4)[0]
        handle.seek(min(start, size))
        raw = handle.read(struct.calcsize(count_code))
        count = struct.unpack(order + count_code, raw)[0] if len(raw) > 1 else 0
        width = 20 if big else 12
        table = handle.read(min(count, 4096) * width)
        for at in range(0, len(table) - width + 1, width):
            tag, _, length, place = struct.unpack_from(order + "HH" + link_code * 2, table, at)
            inline = length <= (8 if big else 4)
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
    head = handle.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ReadError(path, "it is not a TIFF file")
    version = struct.unpack_from(order + "H", head, 2)[0]
    big = version == 43
    if version not in (42, 43) or (big and len(head) < 16):
        raise ReadError(path, f"it is not a TIFF file (version {version}, known are 42 and 43)")
    offset = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]
    count_code, entry_bytes, link_code = ("Q", 20, "Q") if big else ("H", 12, "I")
    count_bytes, link_bytes = struct.calcsize(count_code), struct.calcsize(link_code)
    seen: set[int] = set()
    lsm_entry: int | None = None
    lsm_value: tuple[int, int] | None = None
    while offset:
        if offset in seen or len(seen) >= MAX_PAGES:
            raise ReadError(path, "its directories form a loop; it is damaged, export it again")
        seen.add(offset)
        if offset + count_bytes > size:
            raise _cut(path, f"page {len(seen)} begins", size)
        handle.seek(offset)
        entries = struct.unpack(order + count_code, handle.read(count_bytes))[0]
        end = offset + count_bytes + entries * entry_bytes + link_bytes
        if end > size:
            raise _cut(path, f"page {len(seen)} ends", size)
        if not entries:
            raise ReadError(path, f"page {len(seen)} has no tags; copy or export it again")
        if entries > 4096:
            raise ReadError(
                path,
                f"page {len(seen)} has {entries} tags, more than any program writes; it is damaged",
            )
        table = handle.read(end - offset - count_bytes)
        for at in range(0, entries * entry_bytes, entry_bytes):
            tag, kind = struct.unpack_from(order + "HH", table, at)
            if tag not in _CHECKED and tag != LSM_TAG:
                continue
            number, value = struct.unpack_from(order + link_code * 2, table, at + 4)
            length = number * _TYPE_BYTES.get(kind, 1)
            if tag == LSM_TAG and lsm_entry is None:
                lsm_entry, lsm_value = offset + count_bytes + at, (value, length)
            if length > link_bytes and value + length > size:
                raise _cut(path, f"tag {tag} of page {len(seen)} ends", size)
        offset = struct.unpack_from(order + link_code, table, entries * entry_bytes)[0]
    if not seen:
        raise ReadError(path, "the TIFF holds no image")
    return TiffScan(len(seen), order, lsm_entry, lsm_value)
