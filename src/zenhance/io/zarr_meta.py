"""Read the JSON of an OME-Zarr image (NGFF 0.4 on zarr 2, 0.5 on zarr 3)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zenhance.errors import ReadError
from zenhance.io.decoded import COMPRESSORS, HARMLESS_CODECS, codec_name
from zenhance.io.limits import MAX_XML_BYTES, memory_bytes, read_bounded
from zenhance.io.units import number, to_seconds, to_um
from zenhance.wording import format_bytes

__all__ = [
    "LIGHT_KEYS",
    "ArrayMeta",
    "Multiscale",
    "array_meta",
    "attributes",
    "inside",
    "load_json",
    "multiscale",
]

LIGHT_KEYS = (
    "na",
    "refractive_index",
    "excitation_nm",
    "emission_nm",
    "pinhole_au",
    "modality",
    "time_step_s",
)
"""What is kept of the light path, under these names."""
MAX_AXIS = 2**40
MAX_CHUNK_BYTES = 2**29
MAX_CHUNKS_A_SHARD = 10**6
_V2_TYPES = "|<>"


@dataclass(frozen=True, slots=True)
class ArrayMeta:
    """Layout of one stored array.

    Parameters
    ----------
    shape, chunk_shape : tuple of int
        In pixels; a chunk is one file (a shard, where there are any).
    item_bytes : int
        Bytes a pixel.
    codecs : tuple of dict or str
        Filters and compression, outermost last; see :func:`zenhance.io.decoded.codec_name`.
    separator : str
        Between the numbers of a chunk's key.
    prefix : str
        ``c/`` in zarr 3, nothing in zarr 2.
    dimension_names : tuple of str or None
        As stored in the array itself.
    """

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    item_bytes: int
    codecs: tuple[Any, ...]
    separator: str
    prefix: str
    dimension_names: tuple[str | None, ...] = ()

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one decoded chunk file."""
        return math.prod(self.chunk_shape) * self.item_bytes

    def key(self, place: Sequence[int]) -> str:
        """Return the name of a chunk's file, by its place in the grid."""
        return self.prefix + self.separator.join(str(i) for i in place)

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk_shape, strict=True))


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One image: the level to read and what its axes mean."""

    level: Path
    axes: str
    voxel_um: tuple[float | None, float | None, float | None]
    origin_um: tuple[float | None, float | None, float | None]
    channel_names: tuple[str, ...]
    time_step_s: float | None = None
    missing_level: str | None = None


def load_json(root: Path, file: Path) -> dict[str, Any]:
    """Read a JSON record of at most 64 MiB.

    Raises
    ------
    ReadError
        The file is too large, not a regular file, or not a JSON record.
    """
    try:
        content = json.loads(read_bounded(file, MAX_XML_BYTES).decode("utf-8"))
    except ReadError as error:
        raise ReadError(root, f'its "{file.name}": {error.reason}') from error
    except (ValueError, RecursionError) as error:
        raise ReadError(
            root, f'its "{file.name}" is not JSON ({str(error)[:60]}); copy it again'
        ) from error
    if not isinstance(content, dict):
        raise ReadError(root, f'its "{file.name}" holds no record; copy it again')
    return content


def attributes(root: Path, node: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the NGFF attributes and all attributes of a group or array, of either zarr version."""
    if (node / "zarr.json").is_file():
        everything = load_json(root, node / "zarr.json").get("attributes") or {}
        ngff = everything.get("ome", everything) if isinstance(everything, dict) else {}
    else:
        everything = load_json(root, node / ".zattrs") if (node / ".zattrs").is_file() else {}
        ngff = everything
    if not isinstance(everything, dict) or not isinstance(ngff, dict):
        raise ReadError(root, "its attributes hold no record; copy it again")
    return ngff, everything


def inside(root: Path, name: Any) -> Path:
    """Return the folder of a node named in metadata, checked to be inside the store.

    Raises
    ------
    ReadError
        The name leads out of the store.
    """
    parts = str(name).replace("\\", "/").split("/") if isinstance(name, str) else [".."]
    node = root.joinpath(*parts)
    bad = ".." in parts or str(name).startswith("/") or ":" in str(name)
    if bad or not Path(os.path.realpath(node)).is_relative_to(os.path.realpath(root)):
        raise ReadError(
            root,
            f'its metadata point to "{str(name)[:60]}" outside of it; only folders inside it may '
            "be levels",
        )
    return node


def _counts(root: Path, values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not 1 <= len(values) <= 8:
        raise ReadError(
            root, f"its {what} is {str(values)[:40]}, not a list of numbers; it is damaged"
        )
    if not all(
        isinstance(v, int) and not isinstance(v, bool) and 0 < v <= MAX_AXIS for v in values
    ):
        raise ReadError(
            root,
            f"its {what} is {str(list(values))[:80]}; every number must lie between 1 and 2^40, "
            "so it is damaged",
        )
    return tuple(values)


_V3_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
}


def _v3(root: Path, meta: Mapping[str, Any]) -> ArrayMeta:
    data_type = meta.get("data_type")
    item = _V3_BYTES.get(str(data_type), 8 if data_type in ("int64", "uint64", "float64") else 0)
    if not item:
        raise ReadError(
            root,
            f"its pixels are of type {str(data_type)[:40]}, not real numbers; convert them first",
        )
    grid, keys = meta.get("chunk_grid") or {}, meta.get("chunk_key_encoding") or {}
    if grid.get("name") != "regular":
        raise ReadError(
            root,
            f"its chunks form the grid {str(grid.get('name'))[:40]}; only regular grids are read",
        )
    default = keys.get("name", "default") == "default"
    separator = (keys.get("configuration") or {}).get("separator", "/" if default else ".")
    codecs = tuple(meta.get("codecs") or ())
    return ArrayMeta(
        _counts(root, meta.get("shape"), "shape"),
        _counts(root, (grid.get("configuration") or {}).get("chunk_shape"), "chunk shape"),
        item,
        codecs,
        str(separator),
        f"c{separator}" if default else "",
        tuple(meta.get("dimension_names") or ()),
    )


def _v2(root: Path, meta: Mapping[str, Any]) -> ArrayMeta:
    code = meta.get("dtype")
    if (
        not isinstance(code, str)
        or len(code) < 3
        or code[0] not in _V2_TYPES
        or code[1] not in "buif"
        or not code[2:].isdigit()
    ):
        raise ReadError(
            root, f"its pixels are of type {str(code)[:40]}, not real numbers; convert them first"
        )
    filters = meta.get("filters") or ()
    compressor = (meta["compressor"],) if meta.get("compressor") else ()
    codecs = (*filters, *compressor) if isinstance(filters, list | tuple) else (filters,)
    return ArrayMeta(
        _counts(root, meta.get("shape"), "shape"),
        _counts(root, meta.get("chunks"), "chunk shape"),
        int(code[2:]),
        codecs,
        str(meta.get("dimension_separator", ".")),
        "",
    )


def _check_codecs(root: Path, codecs: Sequence[Any], *, inner: bool = False) -> None:
    """Refuse codecs that could run code, become endless or are not known."""
    names = [codec_name(c) for c in codecs]
    allowed = COMPRESSORS | HARMLESS_CODECS | (frozenset() if inner else {"sharding_indexed"})
    odd = [n for n in names if n not in allowed]
    if odd:
        raise ReadError(
            root,
            f'its chunks are stored with the codec "{odd[0][:40]}", which is not read; convert it '
            "to blosc or zstd",
        )
    if sum(n in COMPRESSORS or n == "sharding_indexed" for n in names) > 1:
        raise ReadError(root, "its chunks are compressed more than once; convert it to zstd")
    for codec in codecs:
        if codec_name(codec) == "lzma" and _config(codec).get("format") not in (None, 0, 1, 2):
            raise ReadError(root, "its lzma chunks have no header; convert it to zstd")


def _config(codec: Any) -> Mapping[str, Any]:
    """Return a codec's settings, which zarr 3 nests and zarr 2 does not."""
    config = codec.get("configuration", codec) if isinstance(codec, Mapping) else {}
    return config if isinstance(config, Mapping) else {}


def _check_shards(root: Path, meta: ArrayMeta) -> None:
    """Check the codecs inside shards and the number of chunks in one."""
    for codec in meta.codecs:
        if codec_name(codec) != "sharding_indexed":
            continue
        config = _config(codec)
        _check_codecs(root, config.get("codecs") or (), inner=True)
        index = [codec_name(c) for c in config.get("index_codecs") or ()]
        shape = _counts(root, config.get("chunk_shape"), "chunk shape")
        fits = len(shape) == len(meta.chunk_shape)
        many = math.prod(-(-a // b) for a, b in zip(meta.chunk_shape, shape, strict=False))
        if not set(index) <= {"bytes", "crc32c"} or not fits or many > MAX_CHUNKS_A_SHARD:
            raise ReadError(
                root, f"its shards hold {many} chunks each or an index that is not read; rechunk it"
            )


def _check_size(root: Path, node: Path) -> None:
    """Refuse metadata of an array too large for a library, or not a regular file."""
    for name in (".zattrs", ".zarray", "zarr.json"):
        file = node / name
        if file.exists() and (not file.is_file() or file.stat().st_size > MAX_XML_BYTES):
            raise ReadError(root, f'its "{name}" is too large or not a regular file; copy it again')


def array_meta(root: Path, node: Path) -> ArrayMeta:
    """Read and check the layout of an array.

    Raises
    ------
    ReadError
        There is no array, or its layout is absurd: sizes below 1 or above 2^40, chunks above 2 GiB
        or a quarter of the memory.
    """
    _check_size(root, node)
    if (node / "zarr.json").is_file():
        content = load_json(root, node / "zarr.json")
        if content.get("node_type") != "array":
            raise ReadError(root, f'its level "{node.name}" is not an array; copy it again')
        meta = _v3(root, content)
    elif (node / ".zarray").is_file():
        meta = _v2(root, load_json(root, node / ".zarray"))
    else:
        raise ReadError(root, f'its level "{node.name}" is missing; copy it again')
    if len(meta.shape) != len(meta.chunk_shape):
        raise ReadError(
            root,
            f"its chunks of shape {meta.chunk_shape} do not fit its shape {meta.shape}; it is "
            "damaged",
        )
    _check_codecs(root, meta.codecs)
    _check_shards(root, meta)
    allowed = min(MAX_CHUNK_BYTES, memory_bytes() // 4)
    if meta.chunk_bytes > allowed:
        raise ReadError(
            root,
            f"one of its chunks would take {format_bytes(meta.chunk_bytes)}, more than "
            f"{format_bytes(allowed)}; rechunk it",
        )
    return meta


def _axis_letters(root: Path, axes: Any, ndim: int) -> tuple[str, list[str | None]]:
    if axes is None and ndim == 5:
        return "TCZYX", [None] * 5
    if not isinstance(axes, list) or len(axes) != ndim:
        raise ReadError(
            root,
            f"its metadata name {len(axes) if isinstance(axes, list) else 'no'} axes for {ndim} "
            "dimensions; copy it again",
        )
    names = [a.get("name") if isinstance(a, dict) else a for a in axes]
    units = [a.get("unit") if isinstance(a, dict) else None for a in axes]
    letters = "".join(
        n.upper() if isinstance(n, str) and n.upper() in ("T", "C", "Z", "Y", "X") else "?"
        for n in names
    )
    return letters, [u if isinstance(u, str) else None for u in units]


def _combine(transforms: Any, ndim: int) -> tuple[list[float], list[float]]:
    """Return scale and translation of a list of NGFF transformations."""
    scale, shift = [1.0] * ndim, [0.0] * ndim
    for item in transforms if isinstance(transforms, list) else []:
        values = item.get(item.get("type")) if isinstance(item, dict) else None
        if not isinstance(values, list) or len(values) != ndim:
            continue
        known = [number(v) or 0.0 for v in values]
        if item["type"] == "scale":
            scale = [a * b for a, b in zip(scale, known, strict=True)]
            shift = [a * b for a, b in zip(shift, known, strict=True)]
        elif item["type"] == "translation":
            shift = [a + b for a, b in zip(shift, known, strict=True)]
    return scale, shift


def multiscale(root: Path, node: Path, ngff: Mapping[str, Any]) -> Multiscale:
    """Choose the highest resolution that is there, and read what its axes mean.

    Raises
    ------
    ReadError
        No level is there, or the metadata are damaged.
    """
    images = ngff.get("multiscales")
    first = images[0] if isinstance(images, list) and images and isinstance(images[0], dict) else {}
    levels = first.get("datasets")
    if not isinstance(levels, list) or not levels:
        raise ReadError(root, "its metadata name no image level; copy it again")
    level, folder, missing = _best_level(root, node, levels)
    ndim = len(array_meta(root, folder).shape)
    letters, units = _axis_letters(root, first.get("axes"), ndim)
    own, own_shift = _combine(level.get("coordinateTransformations"), ndim)
    common, common_shift = _combine(first.get("coordinateTransformations"), ndim)
    where = {a: i for i, a in enumerate(letters)}

    def length(axis: str) -> float | None:
        index = where.get(axis)
        return None if index is None else to_um(own[index] * common[index], units[index])

    def origin(axis: str) -> float | None:
        index = where.get(axis)
        size_um = length(axis)
        if index is None or size_um is None:
            return None
        step = abs(own[index] * common[index])
        return (own_shift[index] * common[index] + common_shift[index]) * size_um / step

    t = where.get("T")
    return Multiscale(
        folder,
        letters,
        (length("Z"), length("Y"), length("X")),
        (origin("Z"), origin("Y"), origin("X")),
        _channel_labels(ngff.get("omero")),
        None if t is None else to_seconds(own[t] * common[t], units[t]),
        missing,
    )


def _best_level(
    root: Path, node: Path, levels: Sequence[Any]
) -> tuple[Mapping[str, Any], Path, str | None]:
    """Return the first level that is there, its folder, and the first that is missing before it."""
    missing = None
    for level in levels:
        if isinstance(level, dict):
            parts = (*node.relative_to(root).parts, str(level.get("path")))
            folder = inside(root, "/".join(parts))
            there = any((folder / name).is_file() for name in ("zarr.json", ".zarray"))
            if folder != root and there:
                return level, folder, missing
        missing = missing or str(level.get("path") if isinstance(level, dict) else level)
    raise ReadError(root, f"none of its {len(levels)} resolution levels is there; copy it again")


def _channel_labels(omero: Any) -> tuple[str, ...]:
    channels = omero.get("channels") if isinstance(omero, dict) else None
    return tuple(
        str(c.get("label", f"channel {i}"))
        for i, c in enumerate(channels or ())
        if isinstance(c, dict)
    )
