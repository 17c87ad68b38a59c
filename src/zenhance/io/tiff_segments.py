"""Refuse strips and tiles of a TIFF that become far more than the page says.

tifffile gives the decoders of streams (deflate, LZW, zstd, ...) a buffer of the size that the page
states, where imagecodecs is installed. Without it, Python's decoders have no limit. The codecs of
pictures (JPEG, JPEG 2000, PNG, WebP) have a size of their own, which is compared before decoding.
"""

from __future__ import annotations

import importlib.util
import math
import struct
from pathlib import Path
from typing import Any

from zenhance.errors import ReadError
from zenhance.io.decoded import decoded_bytes
from zenhance.wording import format_bytes

__all__ = ["check_segments"]

STREAMS = {8: "zlib", 32946: "zlib", 34925: "lzma", 34926: "zstd", 50000: "zstd"}
JPEG, JPEG_2000 = frozenset({6, 7, 33007, 34892}), frozenset({33003, 33004, 33005, 34712})
PNG, WEBP = frozenset({34933}), frozenset({34927, 50001})
# Their size is not read here: no microscope writes them into TIFF.
UNCHECKED = {22610: "JPEG XR", 34934: "JPEG XR", 34887: "LERC", 50002: "JPEG XL", 52546: "JPEG XL"}
HEADER_BYTES = 2**16
SLACK_BYTES = 2**20
"""A decoder may write a little more than the page holds, such as a whole last row of blocks."""


def check_segments(path: Path, page: Any) -> None:
    """Compare each strip or tile of a page with the size that the page states.

    Parameters
    ----------
    path : Path
        For the error.
    page : tifffile.TiffPage
        Its file is open.

    Raises
    ------
    ReadError
        One becomes more than four times as large, or its codec is one whose size is not known.
    """
    codec = int(page.compression)
    if codec in UNCHECKED:
        raise ReadError(
            path,
            f"its pixels are compressed as {UNCHECKED[codec]}, which is not read; save it as TIFF "
            "with deflate or without compression",
        )
    picture = codec in JPEG | JPEG_2000 | PNG | WEBP
    bounded = importlib.util.find_spec("imagecodecs") is not None
    if not picture and (bounded or codec not in STREAMS):
        return
    stated = math.prod(page.chunks) * page.dtype.itemsize
    limit = 4 * stated + SLACK_BYTES
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        handle.seek(offset)
        raw = handle.read(min(count, HEADER_BYTES) if picture else count)
        size = _picture_bytes(codec, raw) if picture else decoded_bytes(STREAMS[codec], raw, limit)
        if size > limit:
            raise ReadError(
                path,
                f"a strip or tile of {format_bytes(stated)} would become more than "
                f"{format_bytes(limit)}; it is damaged or made to fill the memory",
            )


def _picture_bytes(codec: int, raw: bytes) -> int:
    """Return the bytes of a picture by its header; 0 where the header says nothing."""
    try:
        if codec in JPEG:
            return _jpeg_bytes(raw)
        if codec in JPEG_2000:
            at = raw.index(b"\xff\x51")
            right, bottom, left, top = struct.unpack_from(">4I", raw, at + 6)
            channels = struct.unpack_from(">H", raw, at + 38)[0]
            return int((right - left) * (bottom - top) * channels * 2)
        if codec in PNG:
            width, height = struct.unpack_from(">2I", raw, 16)
            return int(width * height * 8)
        return _webp_bytes(raw)
    except (struct.error, ValueError, IndexError):
        return 0


def _jpeg_bytes(raw: bytes) -> int:
    """Return the bytes of a JPEG by its frame header (ITU T.81, B.2.2)."""
    at = 2
    while raw[at] == 0xFF:
        marker = raw[at + 1]
        length = struct.unpack_from(">H", raw, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack_from(">B2HB", raw, at + 4)
            return int(width * height * channels * (2 if bits > 8 else 1))
        at += 2 + length
    return 0


def _webp_bytes(raw: bytes) -> int:
    """Return the bytes of a WebP picture by its first chunk (RFC 9649, 2.5 to 2.7)."""
    kind = raw[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(raw[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        packed = int.from_bytes(raw[21:25], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (n & 0x3FFF for n in struct.unpack_from("<2H", raw, 26))
    return int(width * height * 4)
