"""Look at the chunk files of a zarr array before any is decoded: which are there, and what each claims to become."""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from zenhance.errors import ReadError
from zenhance.io.limits import format_bytes
from zenhance.io.zarr_meta import ArrayMeta

__all__ = ["check_bombs", "chunk_files", "links_in", "missing_chunks"]

MAX_CHECKED = 20_000
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
    """Return the symbolic links inside a store."""
    return [Path(folder, name) for folder, folders, names in os.walk(root) for name in folders + names if Path(folder, name).is_symlink()]


def missing_chunks(meta: ArrayMeta, files: Mapping[str, int]) -> int:
    """Count the chunks that a complete array would have and this one has not (or has as empty files)."""
    missing = 0
    for place in itertools.product(*(range(n) for n in meta.grid)):
        key = meta.prefix + meta.separator.join(str(i) for i in place)
        missing += files.get(key, 0) == 0
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


def _pieces(handle: BinaryIO, size: int, codecs: tuple[Mapping[str, Any], ...], meta: ArrayMeta) -> Iterator[tuple[str, int, int, int]]:
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
    checked = any(isinstance(c, dict) and c.get("name") == "crc32c" for c in config.get("index_codecs") or ())
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


def check_bombs(root: Path, node: Path, meta: ArrayMeta, files: Mapping[str, int]) -> None:
    """Refuse chunks that would become much more than a chunk is.

    Raises
    ------
    ReadError
        A chunk claims more than twice its size (and 64 kB).
    """
    for key, size in itertools.islice(files.items(), MAX_CHECKED):
        with (node / key).open("rb") as handle:
            for name, offset, length, expected in _pieces(handle, size, meta.codecs, meta):
                claimed = _claimed(name, handle, offset, length)
                if claimed is not None and claimed > 2 * expected + _SLACK_BYTES:
                    raise ReadError(
                        root,
                        f"its chunk {key[:40]} claims {format_bytes(claimed)} instead of {format_bytes(expected)}; it is damaged",
                    )
