"""Check which chunk files of a zarr array exist, and how large each would become."""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.decoded import COMPRESSORS, codec_name, decoded_bytes
from zenhance.io.limits import open_regular
from zenhance.io.source import GuardedArray, parse_index
from zenhance.io.zarr_meta import ArrayMeta
from zenhance.stack import ArrayLike
from zenhance.wording import format_bytes

__all__ = ["CheckedArray", "chunk_files", "links_in", "missing_chunks"]

MAX_LOOKED_AT = 50_000
MAX_CHUNKS_A_READ = 10**6
_SLACK_BYTES = 256 * 2**10
_EMPTY = 2**64 - 1


def chunk_files(node: Path) -> dict[str, int]:
    """Return the size of every file of an array, by its key (path with ``/``)."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(node):
        for name in names:
            file = Path(folder, name)
            if not name.startswith(".z") and name != "zarr.json":
                found[file.relative_to(node).as_posix()] = file.lstat().st_size
    return found


def links_in(root: Path) -> list[Path]:
    """Return the symbolic links among the first 50 000 files of a store."""
    everything = (
        Path(folder, name) for folder, folders, names in os.walk(root) for name in folders + names
    )
    return [p for p in itertools.islice(everything, MAX_LOOKED_AT) if p.is_symlink()]


def missing_chunks(meta: ArrayMeta, files: Mapping[str, int]) -> int:
    """Count the chunks that a complete array would have and this one has not, or as empty files."""
    ndim = len(meta.grid)
    present = 0
    for key, size in files.items():
        place = key.removeprefix(meta.prefix).split(meta.separator)
        if size and key.startswith(meta.prefix) and len(place) == ndim:
            present += all(
                i.isdecimal() and int(i) < n for i, n in zip(place, meta.grid, strict=True)
            )
    return math.prod(meta.grid) - present


def _compressor(codecs: Iterable[Mapping[str, Any]]) -> str:
    """Return the name of the one compressor among codecs, or nothing."""
    return next((n for n in map(codec_name, codecs) if n in COMPRESSORS), "")


def _pieces(handle: BinaryIO, size: int, meta: ArrayMeta) -> Iterator[tuple[str, int, int, int]]:
    """Yield compressor, offset, stored length and expected bytes of each piece of a chunk file."""
    shard = next((c for c in meta.codecs if codec_name(c) == "sharding_indexed"), None)
    if shard is None:
        yield _compressor(meta.codecs), 0, size, meta.chunk_bytes
        return
    config = shard.get("configuration") or {}
    inner = config.get("chunk_shape") or meta.chunk_shape
    count = math.prod(-(-a // b) for a, b in zip(meta.chunk_shape, inner, strict=True))
    checked = any(codec_name(c) == "crc32c" for c in config.get("index_codecs") or ())
    index_bytes = 16 * count + (4 if checked else 0)
    start = 0 if config.get("index_location") == "start" else size - index_bytes
    if start < 0 or index_bytes > size:
        return
    handle.seek(start)
    index = struct.unpack(f"<{2 * count}Q", handle.read(16 * count))
    expected = math.prod(inner) * meta.item_bytes
    name = _compressor(config.get("codecs") or ())
    for offset, length in zip(index[::2], index[1::2], strict=True):
        if offset != _EMPTY and offset + length <= size:
            yield name, offset, length, expected


class CheckedArray(GuardedArray):
    """A zarr array whose chunk files are looked at before they are decoded for the first time.

    Parameters
    ----------
    path, node : Path
        The store, named in errors, and the array's folder in it.
    array : array-like
        As the library opened it.
    meta : ArrayMeta
        The array's layout.
    """

    def __init__(self, path: Path, node: Path, array: ArrayLike, meta: ArrayMeta) -> None:
        super().__init__(path, array)
        self._node, self._meta = node, meta
        self._checked: set[str] = set()

    def __getitem__(self, key: Any, /) -> npt.NDArray[Any]:
        parsed = parse_index(key, self.shape)
        slices = parsed[0] if parsed is not None else [slice(None)] * self.ndim
        ranges = [range(*s.indices(n)) for s, n in zip(slices, self.shape, strict=True)]
        if all(ranges):
            places = [
                range(min(r) // c, max(r) // c + 1)
                for r, c in zip(ranges, self._meta.chunk_shape, strict=True)
            ]
            wanted = math.prod(map(len, places))
            if wanted > MAX_CHUNKS_A_READ:
                raise ReadError(
                    self._path,
                    f"{wanted} chunks of shape {self._meta.chunk_shape} are needed at once, more "
                    f"than {MAX_CHUNKS_A_READ}; rechunk it, for example to 16 x 256 x 256",
                )
            for place in itertools.product(*places):
                self._check(self._meta.key(place))
        return super().__getitem__(key)

    def _check(self, key: str) -> None:
        """Refuse a chunk that would become more than twice what a chunk is."""
        if key in self._checked:
            return
        file = self._node / key
        if not file.exists():
            return
        with open_regular(file) as handle:
            size = handle.seek(0, os.SEEK_END)
            for name, offset, length, expected in _pieces(handle, size, self._meta):
                allowed = 2 * expected + _SLACK_BYTES
                handle.seek(offset)
                decoded = (
                    length
                    if length > allowed or not name
                    else decoded_bytes(name, handle.read(length), allowed)
                )
                if decoded > allowed:
                    said = f"{format_bytes(decoded)} or more instead of {format_bytes(expected)}"
                    raise ReadError(
                        self._path, f"its chunk {key[:40]} becomes {said}; it is damaged"
                    )
        # Only now: a chunk that was refused is refused each time it is asked for.
        self._checked.add(key)
