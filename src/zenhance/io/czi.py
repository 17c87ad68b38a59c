"""Open Zeiss CZI files; imagecodecs (extra ``io``) decodes compressed pixels.

::

    ZISRAWFILE -> ZISRAWDIRECTORY   where each sub-block lies, and which t, c, z, y, x it covers
               -> ZISRAWMETADATA    XML: voxel size, objective, channels

Source of the layout: ZEISS, "CZI file format", design document DS_ZISRAW-FileFormat.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.limits import MAX_XML_BYTES, check_claim, check_xml
from zenhance.io.ome_xml import modality_of
from zenhance.io.source import LazyArray, Source
from zenhance.io.units import number, plausible_um
from zenhance.io.vendor import library

__all__ = ["CziMeta", "parse_czi_xml", "read_czi"]


@dataclass(frozen=True, slots=True)
class CziMeta:
    """What the XML says; empty where it says nothing."""

    voxel_um: tuple[float | None, float | None, float | None] = (None, None, None)
    channel_names: tuple[str, ...] = ()
    light: dict[str, Any] = field(default_factory=dict)


def _scaling_um(root: ElementTree.Element, axis: str) -> float | None:
    """Return the step along an axis; Zeiss stores metres."""
    value = number(root.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value"))
    return None if value is None else plausible_um(value * 1e6)


def _values(channels: list[ElementTree.Element], name: str) -> list[float] | float | None:
    found = [number(c.findtext(f".//{name}")) for c in channels]
    known = [v for v in found if v is not None and 0 < v < 3000]
    if not known or len(known) < len(found):
        return None
    return known[0] if len(known) == 1 else known


def parse_czi_xml(path: Path, text: str) -> CziMeta:
    """Parse the metadata segment of a CZI file.

    Raises
    ------
    ReadError
        The XML is hostile or no XML.
    """
    check_xml(path, text)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ReadError(
            path, f"its XML metadata cannot be parsed ({error}); copy it again"
        ) from error
    channels = root.findall(".//Information/Image/Dimensions/Channels/Channel")
    light: dict[str, Any] = {}
    for key, name in (
        ("excitation_nm", "ExcitationWavelength"),
        ("emission_nm", "EmissionWavelength"),
        ("pinhole_au", "PinholeSizeAiry"),
    ):
        value = _values(channels, name)
        if value is not None:
            light[key] = value if key != "pinhole_au" or isinstance(value, float) else value[0]
    settings = root.find(".//Information/Image/ObjectiveSettings")
    index = number(settings.findtext("RefractiveIndex")) if settings is not None else None
    if index is not None and 0.9 < index < 2:
        light["refractive_index"] = index
    reference = settings.find("ObjectiveRef") if settings is not None else None
    wanted = reference.get("Id") if reference is not None else None
    objectives = root.findall(".//Information/Instrument/Objectives/Objective")
    objective = next(
        (o for o in objectives if o.get("Id") == wanted),
        objectives[0] if len(objectives) == 1 else None,
    )
    aperture = number(objective.findtext("LensNA")) if objective is not None else None
    if aperture is not None and 0 < aperture < 2:
        light["na"] = aperture
    modality = next(
        (m for m in (modality_of(c.findtext("AcquisitionMode")) for c in channels) if m), None
    )
    if modality:
        light["modality"] = modality
    names = (
        tuple(c.get("Name") or f"channel {i}" for i, c in enumerate(channels))
        if any(c.get("Name") for c in channels)
        else ()
    )
    return CziMeta(
        (_scaling_um(root, "Z"), _scaling_um(root, "Y"), _scaling_um(root, "X")), names, light
    )


SEGMENT_BYTES = 32
MAX_BLOCKS = 10**6
_PIXELS = {
    0: ("<u1", 1),
    1: ("<u2", 1),
    2: ("<f4", 1),
    3: ("<u1", 3),
    4: ("<u2", 3),
    8: ("<f4", 3),
    9: ("<u1", 4),
    12: ("<u4", 1),
    13: ("<f8", 1),
}
_COMPRESSIONS = {0: "none", 1: "jpeg", 2: "lzw", 4: "jpegxr", 5: "zstd", 6: "zstdhdr"}


@dataclass(frozen=True, slots=True)
class Block:
    """One rectangle of pixels in the file."""

    position: int
    compression: int
    pixel_type: int
    start: Mapping[str, int]
    size: Mapping[str, int]
    entry_bytes: int


def _segment(path: Path, handle: BinaryIO, position: int, name: bytes, size: int) -> int:
    """Check that a segment begins at a position; return where its content begins."""
    if not 0 <= position <= size - SEGMENT_BYTES:
        raise ReadError(
            path, f"it is cut short: a segment begins at {position} of {size} bytes; copy it again"
        )
    handle.seek(position)
    if handle.read(16).rstrip(b"\0") != name:
        raise ReadError(
            path, f"there is no {name.decode()} segment at {position}; it is damaged, copy it again"
        )
    return position + SEGMENT_BYTES


def _exactly(path: Path, handle: BinaryIO, count: int) -> bytes:
    data = handle.read(count)
    if len(data) < count:
        raise ReadError(
            path, f"it is cut short: {count - len(data)} bytes are missing; copy it again"
        )
    return data


def _directory(path: Path, handle: BinaryIO, position: int, size: int) -> list[Block]:
    """Read the directory; sub-blocks of the pyramid are left out."""
    handle.seek(_segment(path, handle, position, b"ZISRAWDIRECTORY", size))
    (count,) = struct.unpack("<i", _exactly(path, handle, 4))
    if not 0 < count <= MAX_BLOCKS:
        raise ReadError(path, f"its directory lists {count} blocks; it is damaged or empty")
    _exactly(path, handle, 124)
    blocks: list[Block] = []
    for _ in range(count):
        head = _exactly(path, handle, 32)
        kind, pixel_type, place, part, compression, pyramid, dimensions = struct.unpack(
            "<2siqiib5xi", head
        )
        if kind != b"DV" or not 0 < dimensions <= 40:
            raise ReadError(
                path,
                f"its directory holds an entry of the kind {kind!r}; it is damaged or of a newer "
                "version",
            )
        if part > 0:
            raise ReadError(path, "its pixels lie in several files; export it as one file")
        raw = _exactly(path, handle, 20 * dimensions)
        start: dict[str, int] = {}
        extent: dict[str, int] = {}
        stored: dict[str, int] = {}
        for name, first, length, _, kept in struct.iter_unpack("<4siifi", raw):
            letter = name.rstrip(b"\0").decode("latin-1")
            start[letter], extent[letter], stored[letter] = first, length, kept or length
        if pyramid in (1, 2) or any(stored[a] != extent[a] for a in "YX" if a in extent):
            continue
        blocks.append(Block(place, compression, pixel_type, start, extent, len(head) + len(raw)))
    return blocks


def _decode(
    path: Path, block: Block, raw: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    wanted = math.prod(shape) * dtype.itemsize
    kind = _COMPRESSIONS.get(block.compression)
    if kind is None:
        raise ReadError(
            path,
            f"its pixels are compressed by method {block.compression}, which is not known; "
            "export it without compression",
        )
    if kind == "none":
        return np.frombuffer(raw[:wanted], dtype).reshape(shape)
    codecs = library(path, "imagecodecs", "compressed CZI")
    if kind in ("jpeg", "jpegxr"):
        decoded = codecs.jpegxr_decode(raw) if kind == "jpegxr" else codecs.jpeg8_decode(raw)
        return np.asarray(decoded, dtype).reshape(shape)
    split = False
    if kind == "zstdhdr":
        head = raw[0]
        split = head > 1 and bool(raw[2] & 1)
        raw = raw[head:]
    plain = bytes((codecs.lzw_decode if kind == "lzw" else codecs.zstd_decode)(raw, out=wanted))
    if len(plain) < wanted:
        raise ReadError(
            path, f"one of its blocks holds {len(plain)} of {wanted} bytes; copy it again"
        )
    if split:
        # The low bytes of all pixels come first, then the high ones.
        halves = np.frombuffer(plain[:wanted], np.uint8).reshape(2, -1)
        return np.ascontiguousarray(halves.T).view("<u2").reshape(shape).astype(dtype, copy=False)
    return np.frombuffer(plain[:wanted], dtype).reshape(shape)


class _Planes:
    """Puts planes together from their blocks; no file stays open between reads."""

    def __init__(
        self,
        path: Path,
        blocks: Mapping[int, list[Block]],
        corner: tuple[int, int],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._path, self._blocks, self._corner, self._shape, self._dtype = (
            path,
            blocks,
            corner,
            shape,
            dtype,
        )

    def __call__(self, index: int) -> npt.NDArray[Any]:
        out = np.zeros(self._shape, self._dtype.newbyteorder("="))
        samples = self._shape[2:]
        with self._path.open("rb") as handle:
            for block in self._blocks[index]:
                rows, columns = block.size["Y"], block.size["X"]
                data = _decode(
                    self._path,
                    block,
                    self._raw(handle, block),
                    (rows, columns, *samples),
                    self._dtype,
                )
                y, x = block.start["Y"] - self._corner[0], block.start["X"] - self._corner[1]
                out[y : y + rows, x : x + columns] = data
        return out[..., ::-1] if samples == (3,) else out

    def _raw(self, handle: BinaryIO, block: Block) -> bytes:
        content = _segment(
            self._path, handle, block.position, b"ZISRAWSUBBLOCK", self._path.stat().st_size
        )
        handle.seek(content)
        metadata, _, data = struct.unpack("<iiq", _exactly(self._path, handle, 16))
        if data < 0 or data > self._path.stat().st_size:
            raise ReadError(
                self._path, f"one of its blocks claims {data} bytes; it is damaged, copy it again"
            )
        handle.seek(content + max(256, 16 + block.entry_bytes) + metadata)
        return _exactly(self._path, handle, data)


def _choose_scene(path: Path, blocks: list[Block], series: int) -> tuple[list[Block], int]:
    scenes = sorted({b.start.get("S", 0) for b in blocks})
    if not 0 <= series < len(scenes):
        raise ReadError(
            path, f"series {series} was requested, but it holds series 0 to {len(scenes) - 1}"
        )
    return [b for b in blocks if b.start.get("S", 0) == scenes[series]], len(scenes)


def _layout(
    path: Path, blocks: list[Block]
) -> tuple[str, tuple[int, ...], dict[int, list[Block]], tuple[int, int, int, int]]:
    """Return outer axes, their lengths, blocks by plane, and the mosaic's top, left and size."""
    for letter in sorted({a for b in blocks for a in b.start} - set("TCZYXMS")):
        if len({b.start.get(letter, 0) for b in blocks}) > 1:
            raise ReadError(
                path,
                f'it has several values along the axis "{letter}"; export one of them as OME-TIFF',
            )
    if any(b.size.get(a, 1) != 1 for b in blocks for a in "TCZ"):
        raise ReadError(
            path,
            "its blocks hold several planes each, which is not supported; export it as OME-TIFF",
        )
    values = {a: sorted({b.start.get(a, 0) for b in blocks}) for a in "TCZ"}
    axes = "".join(a for a in "TCZ" if len(values[a]) > 1)
    lead = tuple(len(values[a]) for a in axes)
    planes: dict[int, list[Block]] = {}
    for block in blocks:
        place = [values[a].index(block.start.get(a, 0)) for a in axes]
        planes.setdefault(int(np.ravel_multi_index(place, lead)) if place else 0, []).append(block)
    missing = math.prod(lead) - len(planes)
    if missing:
        raise ReadError(
            path,
            f"{missing} of its {math.prod(lead)} planes are missing; export the complete part as "
            "OME-TIFF",
        )
    top, left = min(b.start["Y"] for b in blocks), min(b.start["X"] for b in blocks)
    rows = max(b.start["Y"] + b.size["Y"] for b in blocks) - top
    columns = max(b.start["X"] + b.size["X"] for b in blocks) - left
    return axes, lead, planes, (top, left, rows, columns)


def _metadata(path: Path, handle: BinaryIO, position: int, size: int) -> CziMeta:
    if position <= 0:
        return CziMeta()
    handle.seek(_segment(path, handle, position, b"ZISRAWMETADATA", size))
    (length,) = struct.unpack("<i", _exactly(path, handle, 4))
    if not 0 <= length <= MAX_XML_BYTES:
        raise ReadError(path, f"its XML metadata claim {length} bytes; it is damaged")
    _exactly(path, handle, 252)
    return parse_czi_xml(
        path, _exactly(path, handle, length).rstrip(b"\0").decode("utf-8", "replace")
    )


def read_czi(path: Path, series: int = 0) -> Source:
    """Open one scene of a CZI file; planes are decoded on demand, mosaics are assembled.

    Parameters
    ----------
    path : Path
        A file that begins with ``ZISRAWFILE``.
    series : int
        Which scene.

    Raises
    ------
    ReadError
        The file is cut short or damaged, planes are missing, or it has phases, views or
        illuminations.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        handle.seek(_segment(path, handle, 0, b"ZISRAWFILE", size))
        head = _exactly(path, handle, 80)
        directory, xml = struct.unpack_from("<qq", head, 52)
        blocks = _directory(path, handle, directory, size)
        if not blocks or any("Y" not in b.start or "X" not in b.start for b in blocks):
            raise ReadError(path, "it holds no image blocks; export it again")
        for block in (min(blocks, key=lambda b: b.position), max(blocks, key=lambda b: b.position)):
            _segment(path, handle, block.position, b"ZISRAWSUBBLOCK", size)
        meta = _metadata(path, handle, xml, size)
    blocks, count = _choose_scene(path, blocks, series)
    kinds = {b.pixel_type for b in blocks}
    if len(kinds) > 1 or not kinds <= set(_PIXELS):
        raise ReadError(
            path,
            f"its pixels are of the types {sorted(kinds)}; only one type of real numbers is "
            "read, export it as OME-TIFF",
        )
    code, samples = _PIXELS[kinds.pop()]
    axes, lead, planes, (top, left, rows, columns) = _layout(path, blocks)
    if samples > 1 and "C" in axes:
        raise ReadError(
            path, "it has both channels and colour samples; export one of them as OME-TIFF"
        )
    dtype = np.dtype(code)
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    check_claim(path, math.prod((*lead, *shape)) * dtype.itemsize, size)
    array = LazyArray(
        path, lead, shape, dtype.newbyteorder("="), _Planes(path, planes, (top, left), shape, dtype)
    )
    names = ("red", "green", "blue") if samples == 3 else meta.channel_names
    return Source(
        array,
        axes + ("YX" if samples == 1 else "YXC"),
        "Zeiss CZI",
        meta.voxel_um,
        channel_names=names,
        metadata=meta.light,
        series=count,
    )
