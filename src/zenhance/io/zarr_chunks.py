"""Look at the chunk files of a zarr array before any is decoded: which are there, and what each claims to become."""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.source import GuardedArray, parse_index
from zenhance.io.zarr_meta import ArrayMeta
from zenhance.stack import ArrayLike
from zenhance.wording import format_bytes

__all__ = ["CheckedArray", "chunk_files", "links_in", "missing_chunks"]

MAX_LOOKED_AT = 50_000
_SLACK_BYTES = 65_536
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
    """Return the symbolic links inside a store (among its first 50 000 files, so that huge stores open quickly)."""
    everything = (
        Path(folder, name) for folder, folders, names in os.walk(root) for name in folders + names
    )
    return [p for p in itertools.islice(everything, MAX_LOOKED_AT) if p.is_symlink()]


def missing_chunks(meta: ArrayMeta, files: Mapping[str, int]) -> int:
    """Count the chunks that a complete array would have and this one has not (or has as empty files)."""
    missing = 0
    for place in itertools.product(*(range(n) for n in meta.grid)):
        missing += files.get(meta.key(place), 0) == 0
    return missing


def _zstd_bytes(head: bytes) -> int | None:
    """Return the frame content size of a zstd header (RFC 8878, 3.1.1.1), or None where it is not given."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 14:
        return None
    flags = head[4]
    single = bool(flags & 0x20)
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    if not width:
        return None
    return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)


def _claimed(name: str, handle: BinaryIO, offset: int, length: int) -> int | None:
    """Return how many bytes a compressed piece says it will become."""
    handle.seek(offset)
    head = handle.read(min(length, 18))
    if name == "blosc" and len(head) >= 16:
        return int(struct.unpack_from("<I", head, 4)[0])
    if name == "zstd":
        return _zstd_bytes(head)
    if name == "gzip" and length >= 18:
        handle.seek(offset + length - 4)
        return int(struct.unpack("<I", handle.read(4))[0])
    return None


def _pieces(
    handle: BinaryIO, size: int, codecs: tuple[Mapping[str, Any], ...], meta: ArrayMeta
) -> Iterator[tuple[str, int, int, int]]:
    """Yield codec, offset, stored length and expected bytes of each compressed piece in a chunk file."""
    names = [str(c.get("name")) for c in codecs]
    if "sharding_indexed" not in names:
        outer = next((n for n in reversed(names) if n != "crc32c"), "")
        yield outer, 0, size, meta.chunk_bytes
        return
    config = codecs[names.index("sharding_indexed")].get("configuration") or {}
    inner = config.get("chunk_shape") or meta.chunk_shape
    inner_names = [str(c.get("name")) for c in config.get("codecs") or () if isinstance(c, dict)]
    outer = next((n for n in reversed(inner_names) if n != "crc32c"), "")
    count = math.prod(-(-a // b) for a, b in zip(meta.chunk_shape, inner, strict=True))
    checked = any(
        isinstance(c, dict) and c.get("name") == "crc32c" for c in config.get("index_codecs") or ()
    )
    index_bytes = 16 * count + (4 if checked else 0)
    start = 0 if config.get("index_location") == "start" else size - index_bytes
    if start < 0 or index_bytes > size:
        return
    handle.seek(start)
    index = struct.unpack(f"<{2 * count}Q", handle.read(16 * count))
    expected = math.prod(inner) * meta.item_bytes
    for offset, length in zip(index[::2], index[1::2], strict=True):
        if offset != _EMPTY and offset + length <= size:
            yield outer, offset, length, expected


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
            for place in itertools.product(*places):
                self._check(self._meta.key(place))
        return super().__getitem__(key)

    def _check(self, key: str) -> None:
        """Refuse a chunk that would become more than twice what a chunk is."""
        if key in self._checked:
            return
        file = self._node / key
        try:
            size = file.stat().st_size
        except OSError:
            return
        with file.open("rb") as handle:
            for name, offset, length, expected in _pieces(
                handle, size, self._meta.codecs, self._meta
            ):
                claimed = _claimed(name, handle, offset, length)
                if claimed is not None and claimed > 2 * expected + _SLACK_BYTES:
                    said = f"{format_bytes(claimed)} instead of {format_bytes(expected)}"
                    raise ReadError(
                        self._path, f"its chunk {key[:40]} claims {said}; it is damaged"
                    )
        # Only now: a chunk that was refused is refused each time it is asked for.
        self._checked.add(key)
