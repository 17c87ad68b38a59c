"""How many bytes compressed data become, found without ever holding more than a limit.

A few kilobytes of bz2, zlib, lzma or zstd can become gigabytes. Codecs that state their size are
believed only as far as their decoder enforces it; the others are decoded in pieces that are thrown
away, and no further than the limit.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

__all__ = ["COMPRESSORS", "HARMLESS_CODECS", "codec_name", "decoded_bytes"]

COMPRESSORS = frozenset({"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"})
# These keep the size, or add a checksum.
HARMLESS_CODECS = frozenset(
    [
        "adler32",
        "astype",
        "bitround",
        "bytes",
        "crc32",
        "crc32c",
        "delta",
        "endian",
        "fixedscaleoffset",
        "fletcher32",
        "jenkins_lookup3",
        "packbits",
        "quantize",
        "shuffle",
        "transpose",
    ]
)
PIECE_BYTES = 2**20
# Deflate cannot shrink by more.
MAX_DEFLATE_RATIO = 1040
MAX_LZMA_MEMORY = 256 * 2**20
MAX_ZSTD_BLOCK = 128 * 2**10
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def codec_name(codec: Any) -> str:
    """Return the name of a codec as zarr 2 (``id``) or 3 (``name``, ``numcodecs.``) writes it."""
    name = (codec.get("name") or codec.get("id")) if isinstance(codec, Mapping) else codec
    return str(name).removeprefix("numcodecs.")


class _Decoder(Protocol):
    """What the decoders of bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _streamed(raw: bytes, limit: int, new: Callable[[], _Decoder]) -> int:
    """Decode one stream after the other, piece by piece, up to the limit."""
    count = 0
    while raw and count <= limit:
        decoder = new()
        while not decoder.eof and count <= limit:
            found = len(decoder.decompress(raw, PIECE_BYTES))
            count, raw = count + found, b""
            if decoder.needs_input and not found:
                break
        raw = decoder.unused_data if decoder.eof else b""
    return count


def _inflated(raw: bytes, limit: int, wbits: int) -> int:
    """Decode zlib or gzip, members one after the other, up to the limit."""
    if len(raw) * MAX_DEFLATE_RATIO <= limit:
        return len(raw)
    count = 0
    while raw and count <= limit:
        decoder = zlib.decompressobj(wbits)
        while not decoder.eof and count <= limit:
            found = len(decoder.decompress(raw, PIECE_BYTES))
            count, raw = count + found, decoder.unconsumed_tail
            if not found and not raw:
                break
        raw = decoder.unused_data.lstrip(b"\0") if decoder.eof and wbits > 15 else b""
    return count


def _zstd_frame(raw: bytes, at: int) -> tuple[int, int, bool]:
    """Return where a zstd frame ends, the most it becomes, and whether it states that itself.

    A frame states its size, or a compressed block becomes at most 128 KiB (RFC 8878, 3.1.1).
    """
    if raw[at : at + 4] != _ZSTD_MAGIC:
        if (struct.unpack_from("<I", raw, at)[0] & 0xFFFFFFF0) != 0x184D2A50:
            raise IndexError(at)
        return at + 8 + struct.unpack_from("<I", raw, at + 4)[0], 0, True
    flags = raw[at + 4]
    single = bool(flags & 0x20)
    place = at + 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    stated = int.from_bytes(raw[place : place + width], "little") + (256 if width == 2 else 0)
    place += width
    last, most = False, 0
    while not last:
        head = raw[place] | raw[place + 1] << 8 | raw[place + 2] << 16
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        most += MAX_ZSTD_BLOCK if kind == 2 else length
        place += 3 + (1 if kind == 1 else length)
    return place + (4 if flags & 4 else 0), stated if width else most, bool(width)


def _zstd(raw: bytes, limit: int) -> int:
    """Add the sizes of all frames; where that is not exact and too much, decode up to the limit."""
    at, total, exact = 0, 0, True
    try:
        while at < len(raw):
            at, most, stated = _zstd_frame(raw, at)
            total, exact = total + most, exact and stated
    except (IndexError, struct.error):
        exact, total = False, limit + 1
    if exact or total <= limit:
        return total
    from numcodecs.zstd import decompress

    try:
        return len(bytes(decompress(raw, np.empty(limit, np.uint8))))
    except RuntimeError as error:
        # Shorter data than the buffer are an error as well, with their length at the end.
        length = str(error).rpartition("got ")[2]
        return int(length) if "expected" in str(error) and length.isdecimal() else limit + 1


def decoded_bytes(name: str, raw: bytes, limit: int) -> int:
    """Return how many bytes compressed data become, or some number above the limit.

    Parameters
    ----------
    name : str
        One of ``COMPRESSORS``.
    raw : bytes
        The compressed data.
    limit : int
        No more than this and a piece of 1 MiB is ever held.

    Raises
    ------
    Exception
        Whatever the decoder raises for damaged data.
    """
    if name == "blosc":
        return int(struct.unpack_from("<I", raw, 4)[0]) if len(raw) >= 16 else 0
    if name == "lz4":
        return int(struct.unpack_from("<I", raw)[0]) if len(raw) >= 4 else 0
    if name == "zstd":
        return _zstd(raw, limit)
    if name in ("gzip", "zlib"):
        return _inflated(raw, limit, 31 if name == "gzip" else 15)
    if name == "bz2":
        return _streamed(raw, limit, bz2.BZ2Decompressor)
    return _streamed(
        raw, limit, lambda: lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=MAX_LZMA_MEMORY)
    )
