"""Open OME-Zarr images (NGFF 0.4 and 0.5) lazily, the highest resolution that is there.

Before a chunk is read, its size and what it would become are checked.
"""

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
from zenhance.io.limits import check_claim, memory_bytes, open_regular
from zenhance.io.source import GuardedArray, Source, parse_index, pick_series
from zenhance.io.units import plausible_um
from zenhance.io.zarr_meta import (
    LIGHT_KEYS,
    ArrayMeta,
    Multiscale,
    array_meta,
    attributes,
    inside,
    load_json,
    multiscale,
)
from zenhance.stack import ArrayLike
from zenhance.wording import format_bytes

__all__ = ["OWN_KEY", "CheckedArray", "chunk_files", "links_in", "missing_chunks", "read_zarr"]

OWN_KEY = "zenhance"
MAX_IMAGES = 10_000


def _image_nodes(path: Path) -> list[str]:
    """Return the names of the groups that hold the images of a store; one empty name for itself.

    A plate holds an image for each field of each well, a collection (bioformats2raw) several.
    """
    ngff, everything = attributes(path, path)
    if "plate" in ngff:
        return _plate_fields(path, ngff["plate"])
    if "well" in ngff:
        return _paths(path, ngff["well"], "images")
    if "multiscales" in ngff:
        return [""]
    if "bioformats2raw.layout" in ngff or "bioformats2raw.layout" in everything:
        numbers = sorted(int(p.name) for p in path.iterdir() if p.name.isdecimal())
        if not numbers:
            raise ReadError(path, "it is a collection of images that holds none; copy it again")
        return [str(n) for n in numbers]
    if (path / ".zarray").is_file() or (
        (path / "zarr.json").is_file()
        and load_json(path, path / "zarr.json").get("node_type") == "array"
    ):
        return []
    raise ReadError(
        path,
        "it is a zarr folder without image metadata; open the folder whose metadata say "
        "multiscales",
    )


def _paths(path: Path, record: Any, key: str) -> list[str]:
    """Return the ``path`` of each entry of a list in a plate's or a well's metadata."""
    entries = record.get(key) if isinstance(record, dict) else None
    found = [
        str(e["path"])
        for e in entries or ()
        if isinstance(e, dict) and isinstance(e.get("path"), str)
    ]
    if not found or len(found) > MAX_IMAGES:
        raise ReadError(path, f"its metadata name {len(found)} {key}; copy it again")
    return found


def _plate_fields(path: Path, plate: Any) -> list[str]:
    names: list[str] = []
    for well in _paths(path, plate, "wells"):
        ngff = attributes(path, inside(path, well))[0]
        names += [f"{well}/{field}" for field in _paths(path, ngff.get("well"), "images")]
        if len(names) > MAX_IMAGES:
            raise ReadError(path, f"it holds more than {MAX_IMAGES} images; open a well of it")
    return names


def _bare(path: Path) -> Multiscale:
    """Describe an array that comes without NGFF metadata."""
    meta = array_meta(path, path)
    names = [str(n).upper() for n in meta.dimension_names] or ["?"] * len(meta.shape)
    letters = "".join(n if n in ("T", "C", "Z", "Y", "X") else "?" for n in names)
    if "?" in letters and len(letters) in (2, 3):
        letters = "?YX"[-len(letters) :]
    return Multiscale(path, letters, (None,) * 3, (None,) * 3, ())


def _own(everything: dict[str, Any]) -> dict[str, Any]:
    """Return what our own writer left in the attributes."""
    record = everything.get(OWN_KEY)
    if not isinstance(record, dict):
        return {}
    found = {k: record[k] for k in LIGHT_KEYS if k in record}
    if isinstance(record.get("sha256"), list):
        found["sha256"] = tuple(str(h) for h in record["sha256"])
    if isinstance(record.get("provenance"), str):
        found["zenhance"] = record["provenance"]
    return found


def _notes(path: Path, image: Multiscale, meta: ArrayMeta, *, own: bool) -> tuple[str, ...]:
    """Return what is missing or odd in a store."""
    notes = []
    if image.missing_level is not None:
        if own:
            raise ReadError(
                path,
                f'its finest level "{image.missing_level[:40]}" is missing; copy it again or '
                "repeat the run",
            )
        notes.append(
            f'its finest level "{image.missing_level[:40]}" is missing, so that level '
            f'"{image.level.name}" is read, which is coarser'
        )
    files = chunk_files(image.level)
    total = math.prod(meta.grid)
    lost = missing_chunks(meta, files)
    if lost == total or (own and lost):
        which = "all" if lost == total else str(lost)
        raise ReadError(
            path,
            f"{which} of its {total} chunks are missing, which would read as black; copy it again "
            "or repeat the run",
        )
    if lost:
        notes.append(f"{lost} of its {total} chunks are missing and read as the fill value")
    links = links_in(path)
    if links:
        notes.append(f"{len(links)} links inside it lead elsewhere, the first is {links[0].name}")
    return tuple(notes)


def read_zarr(path: Path, series: int = 0) -> Source:
    """Open an OME-Zarr folder; no chunk is decoded.

    Parameters
    ----------
    path : Path
        A folder with ``zarr.json``, ``.zgroup`` or ``.zarray``.
    series : int
        Which image of a bioformats2raw collection.

    Raises
    ------
    ReadError
        Metadata are damaged or lead outside, a chunk is a bomb, or one that this program wrote is
        missing.
    """
    import zarr

    nodes = _image_nodes(path)
    count = max(len(nodes), 1)
    chosen = pick_series(path, series, count, nodes if count > 1 else ())
    node = inside(path, nodes[chosen]) if nodes and nodes[chosen] else path
    ngff, everything = attributes(path, node)
    image = multiscale(path, node, ngff) if nodes else _bare(path)
    meta = array_meta(path, image.level)
    claimed = math.prod(meta.shape) * meta.item_bytes
    if claimed > memory_bytes():
        check_claim(path, claimed, sum(chunk_files(image.level).values()))
    metadata = _own(everything)
    if image.time_step_s is not None:
        metadata["time_step_s"] = image.time_step_s
    notes = _notes(path, image, meta, own=OWN_KEY in everything)
    if notes:
        metadata["warnings"] = notes
    array = zarr.open_array(store=str(image.level), mode="r")
    names = image.channel_names
    version = ngff.get("version") or (ngff.get("multiscales") or [{}])[0].get("version") or ""
    return Source(
        CheckedArray(path, image.level, array, meta),
        image.axes,
        f"OME-Zarr {version}".strip(),
        (
            plausible_um(image.voxel_um[0]),
            plausible_um(image.voxel_um[1]),
            plausible_um(image.voxel_um[2]),
        ),
        image.origin_um,
        names,
        metadata,
        count,
        tuple(nodes) if count > 1 else (),
    )


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
