"""Open images in HDF5 files (needs h5py): Imaris, BigDataViewer, ilastik, PlantSeg and plain ones.

::

    Imaris          DataSet/ResolutionLevel 0/TimePoint T/Channel C/Data, padded to whole chunks
    BigDataViewer   tTTTTT/sSS/0/cells, voxel size in NAME.xml beside it; 16 bits without sign
    others          a dataset each; axistags or dimension labels name its axes
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.decoded import decoded_bytes
from zenhance.io.limits import check_claim, check_xml, read_bounded
from zenhance.io.source import GuardedArray, LazyArray, Source, parse_index, pick_series
from zenhance.io.units import number, plausible_um, to_um, um_per_unit
from zenhance.io.vendor import library
from zenhance.provenance import METADATA_KEY
from zenhance.wording import format_bytes

__all__ = ["read_hdf"]

MAX_NODES = 10_000
MAX_LINKS = 100_000
MAX_ATTRIBUTE_ITEMS = 65_536
MAX_CHUNK_BYTES = 2**29
MAX_CHUNKS_A_READ = 10**6
MAX_XML_FILES = 50
_MAX_INFLATED = 512 * 2**20
_SLACK_BYTES = 256 * 2**10
_PREFERRED = ("raw", "data", "exported_data", "image")
_GZIP = 1

Triple = tuple[float | None, float | None, float | None]
UNKNOWN: Triple = (None, None, None)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The image that one flavour of HDF5 file holds, pixels unread."""

    data: Any
    axes: str
    format: str
    voxel_um: Triple
    names: tuple[str, ...]
    origin_um: Triple = UNKNOWN
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None


def _attribute(node: Any, name: str) -> Any:
    """Return an attribute of limited size, or None."""
    if name not in node.attrs or math.prod(node.attrs.get_id(name).shape) > MAX_ATTRIBUTE_ITEMS:
        return None
    return node.attrs[name]


def _text(node: Any, name: str) -> str:
    """Return an attribute as text; Imaris stores one character an item."""
    value = _attribute(node, name)
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        value = b"".join(v if isinstance(v, bytes) else str(v).encode() for v in value.ravel())
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    return "" if value is None else str(value)


def _checked(path: Path, dataset: Any) -> Any:
    """Check a dataset's place and layout, and return it guarded against bombs."""
    if dataset.external or dataset.is_virtual:
        raise ReadError(
            path, f'the pixels of "{dataset.name}" are in another file; save them as TIFF'
        )
    check_claim(path, dataset.nbytes, path.stat().st_size)
    if dataset.nbytes and not dataset.id.get_storage_size():
        raise ReadError(
            path, f'no pixel of "{dataset.name}" was written, so that it would read as black'
        )
    chunk_bytes = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise ReadError(
            path,
            f"one of its chunks would take {format_bytes(chunk_bytes)}, more than "
            f"{format_bytes(MAX_CHUNK_BYTES)}; rechunk it",
        )
    return _Dataset(path, dataset) if dataset.chunks else GuardedArray(path, dataset)


class _Dataset(GuardedArray):
    """A chunked dataset; a compressed chunk that could become gigabytes is measured first."""

    def __init__(self, path: Path, dataset: Any) -> None:
        super().__init__(path, dataset)
        self._dataset = dataset
        plist = dataset.id.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        self._gzip = _GZIP in filters
        self._outermost = bool(filters) and filters[-1] == _GZIP
        self._limit = 2 * math.prod(dataset.chunks) * dataset.dtype.itemsize + _SLACK_BYTES
        self._measured: set[tuple[int, ...]] = set()

    def __getitem__(self, key: Any, /) -> npt.NDArray[Any]:
        parsed = parse_index(key, self.shape)
        slices = parsed[0] if parsed is not None else [slice(None)] * self.ndim
        ranges = [range(*s.indices(n)) for s, n in zip(slices, self.shape, strict=True)]
        if all(ranges):
            starts = [
                range(min(r) // c * c, max(r) + 1, c)
                for r, c in zip(ranges, self._dataset.chunks, strict=True)
            ]
            wanted = math.prod(map(len, starts))
            if wanted > MAX_CHUNKS_A_READ:
                raise ReadError(
                    self._path, f"{wanted} chunks are needed at once, too many; rechunk it"
                )
            if self._gzip:
                for start in itertools.product(*starts):
                    self._measure(start)
        return super().__getitem__(key)

    def _measure(self, start: tuple[int, ...]) -> None:
        """Refuse a chunk that would become more than twice what a chunk is."""
        if start in self._measured:
            return
        stored = self._dataset.id.get_chunk_info_by_coord(start).size
        # Deflate cannot become more than 1040 times as much.
        if stored * 1040 > max(_MAX_INFLATED, self._limit):
            many = stored
            if self._outermost and stored <= self._limit:
                raw = self._dataset.id.read_direct_chunk(start)[1]
                many = decoded_bytes("zlib", raw, self._limit)
            if many > self._limit or not self._outermost:
                raise ReadError(
                    self._path, f"its chunk at {start} becomes {format_bytes(many)} or more"
                )
        self._measured.add(start)


def _is_image(dataset: Any) -> bool:
    return 2 <= dataset.ndim <= 5 and dataset.dtype.kind in "buif" and min(dataset.shape) > 0


def _datasets(path: Path, file: Any, h5py: Any) -> dict[str, Any]:
    """Collect image datasets, following neither soft nor external links."""
    found: dict[str, Any] = {}
    seen = 0
    groups: list[tuple[Any, int]] = [(file, 0)]
    while groups:
        group, depth = groups.pop()
        for name in group:
            seen += 1
            if len(found) > MAX_NODES or seen > MAX_LINKS:
                raise ReadError(
                    path, f"it holds more than {MAX_NODES} datasets; save the one you want as TIFF"
                )
            if not isinstance(group.get(name, getlink=True), h5py.HardLink) or depth > 20:
                continue
            node = group[name]
            if isinstance(node, h5py.Group):
                groups.append((node, depth + 1))
            elif isinstance(node, h5py.Dataset) and _is_image(node):
                found[node.name] = node
    # A table of numbers is not an image, unless there is nothing else.
    images = {n: d for n, d in found.items() if d.ndim > 2 or min(d.shape) > 4}
    return images or found


def _axes(dataset: Any) -> str:
    """Return the axes that axistags (ilastik) or dimension labels name; ``?`` for the rest."""
    keys: list[str] = []
    try:
        tags = json.loads(_text(dataset, "axistags") or "{}")
        keys = [str(tag["key"]).upper() for tag in tags["axes"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        keys = [str(d.label).upper() for d in dataset.dims]
    letters = "".join(k if k in ("T", "C", "Z", "Y", "X") else "?" for k in keys)
    named = letters.replace("?", "")
    if len(letters) != dataset.ndim or len(set(named)) != len(named) or not {*"YX"} <= {*named}:
        return "?" * (int(dataset.ndim) - 2) + "YX"
    return letters


def _plain(path: Path, file: Any, series: int, h5py: Any) -> _Layout:
    found = _datasets(path, file, h5py)
    order = sorted(found, key=lambda n: (n.strip("/") not in _PREFERRED, n))
    if not order:
        raise ReadError(path, "it holds no dataset that could be an image; save the image as TIFF")
    chosen = found[order[pick_series(path, series, len(order), order)]]
    data, axes, own = _checked(path, chosen), _axes(chosen), _own(file)
    return _Layout(
        data, axes, "HDF5", _sizes(chosen), tuple(order), UNKNOWN, own.pop("channel_names", ()), own
    )


def _own(file: Any) -> dict[str, Any]:
    """Return what zenhance wrote beside the pixels, as far as it is sound."""
    try:
        record = json.loads(_text(file, "zenhance") or "{}")
        found = {
            "channel_names": tuple(str(name) for name in record["channel_names"]),
            "sha256": tuple(str(digest) for digest in record["sha256"]),
            METADATA_KEY: record["provenance"],
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found[METADATA_KEY], str | None) else {}


def _sizes(dataset: Any) -> Triple:
    """Return ``element_size_um`` (z, y, x), which PlantSeg and ilastik write."""
    value = _attribute(dataset, "element_size_um")
    sizes = [plausible_um(v) for v in np.ravel(value)[-3:]] if value is not None else []
    z_um, y_um, x_um = [None] * (3 - len(sizes)) + sizes
    return (z_um, y_um, x_um)


def _numbered(group: Any, pattern: str) -> list[str]:
    """Return the members of a group whose names are a word and a number, by number."""
    found = [(int(m.group(1)), n) for n in group if (m := re.fullmatch(pattern, n))]
    return [name for _, name in sorted(found)]


def _member(path: Path, file: Any, name: str, h5py: Any) -> Any:
    """Return a dataset by its path, following hard links only."""
    node = file
    for part in name.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise ReadError(path, f'its dataset "{name}" is missing; copy or export it again')
        if not isinstance(link, h5py.HardLink):
            raise ReadError(path, f'its dataset "{name}" is in another file; export it as one file')
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.ndim != 3:
        raise ReadError(path, f'its dataset "{name}" is not a volume; export it again')
    return node


def _joined(
    path: Path, volumes: Sequence[Any], lead: tuple[int, ...], shape: tuple[int, ...], dtype: Any
) -> LazyArray:
    """Join volumes to one array that is read plane by plane, without their padding."""
    if any(
        v.dtype != volumes[0].dtype or any(a < b for a, b in zip(v.shape, shape, strict=True))
        for v in volumes
    ):
        raise ReadError(
            path, "its volumes differ in size or type of pixels; export them one by one"
        )
    guarded = [_checked(path, v) for v in volumes]
    depth, rows, columns = shape

    def read(index: int) -> npt.NDArray[Any]:
        volume, z = divmod(index, depth)
        plane: npt.NDArray[Any] = guarded[volume][z, :rows, :columns]
        return plane.view(dtype)

    return LazyArray(path, (*lead, depth), (rows, columns), dtype, read)


def _imaris(path: Path, file: Any, series: int, h5py: Any) -> _Layout:
    """Describe an Imaris file: sizes without padding, extents, channels, times."""
    pick_series(path, series, 1)
    root = (_text(file, "DataSetDirectoryName") or "DataSet") + "/ResolutionLevel 0"
    info = file.get((_text(file, "DataSetInfoDirectoryName") or "DataSetInfo"), {})
    image = info.get("Image")
    times = _numbered(file.get(root, {}), r"TimePoint (\d+)")
    channels = _numbered(file[f"{root}/{times[0]}"], r"Channel (\d+)") if times else []
    if image is None or not channels:
        raise ReadError(path, "its Imaris data set holds no image; export it again")
    places = [f"{root}/{t}/{c}" for t in times for c in channels]
    volumes = [_member(path, file, f"{place}/Data", h5py) for place in places]
    sizes = {a: number(_text(file[places[0]], f"ImageSize{a}") or _text(image, a)) for a in "ZYX"}
    if any(n is None or not 1 <= n <= MAX_CHUNK_BYTES for n in sizes.values()):
        raise ReadError(path, "its Imaris data set gives no sizes; export it again")
    shape = tuple(int(n or 0) for n in sizes.values())
    unit = _text(image, "Unit") or "um"
    low = [number(_text(image, f"ExtMin{i}")) for i in (2, 1, 0)]
    high = [number(_text(image, f"ExtMax{i}")) for i in (2, 1, 0)]
    voxel = [
        None if a is None or b is None else to_um((b - a) / n, unit)
        for a, b, n in zip(low, high, shape, strict=True)
    ]
    factor = um_per_unit(unit)
    origin = [None if a is None or factor is None else a * factor for a in low]
    lead = tuple(len(n) for n in (times, channels) if len(n) > 1)
    axes = ("T" if len(times) > 1 else "") + ("C" if len(channels) > 1 else "") + "ZYX"
    settings = [info.get(c, None) for c in channels]
    names = [_text(s, "Name") if s is not None else "" for s in settings]
    return _Layout(
        _joined(path, volumes, lead, shape, volumes[0].dtype.newbyteorder("=")),
        axes,
        "Imaris",
        (voxel[0], voxel[1], voxel[2]),
        (_text(image, "Name") or "image 1",),
        (origin[0], origin[1], origin[2]),
        tuple(n or f"channel {i}" for i, n in enumerate(names)) if any(names) else (),
        _imaris_light(settings, info.get("TimeInfo"), len(times)),
    )


def _imaris_light(settings: list[Any], times: Any, count: int) -> dict[str, Any]:
    """Return wavelengths and the time step of an Imaris file."""
    found: dict[str, Any] = {}
    for key, name in (
        ("excitation_nm", "LSMExcitationWavelength"),
        ("emission_nm", "LSMEmissionWavelength"),
    ):
        values = [number(_text(s, name).split(" ")[0]) if s is not None else None for s in settings]
        if all(v is not None and 100 < v < 3000 for v in values):
            found[key] = values[0] if len(values) == 1 else values
    if times is not None and count > 1:
        try:
            stamps = [_text(times, f"TimePoint{i}") for i in (1, count)]
            first, last = (datetime.datetime.fromisoformat(s) for s in stamps)
            step = (last - first).total_seconds() / (count - 1)
        except ValueError:
            step = 0.0
        if step > 0:
            found["time_step_s"] = step
    return found


def _bdv(path: Path, file: Any, series: int, h5py: Any) -> _Layout:
    """Describe one view setup of a BigDataViewer file, all its time points."""
    setups = _numbered(file, r"s(\d\d+)")
    times = _numbered(file, r"t(\d{5,})")
    described = _bdv_setups(path)
    names = tuple(described.get(int(s[1:]), (UNKNOWN, ""))[1] or s for s in setups)
    setup = setups[pick_series(path, series, len(setups), names)]
    # A link to another file is there as well, though the file is not followed.
    present = (
        [t for t in times if file.get(f"{t}/{setup}", getlink=True) is not None]
        if all(isinstance(file.get(t, getlink=True), h5py.HardLink) for t in times)
        else times
    )
    if len(present) < len(times):
        raise ReadError(
            path,
            f'{len(times) - len(present)} of {len(times)} time points of "{setup}" are missing; '
            "export it again",
        )
    volumes = [_member(path, file, f"{t}/{setup}/0/cells", h5py) for t in times]
    dtype = volumes[0].dtype.newbyteorder("=")
    if dtype == np.int16:
        # BigDataViewer stores 16 bits without sign as if they had one.
        dtype = np.dtype(np.uint16)
    lead = (len(times),) if len(times) > 1 else ()
    voxel_um = described.get(int(setup[1:]), (UNKNOWN, ""))[0]
    note = "no XML beside it gives its voxel size"
    return _Layout(
        _joined(path, volumes, lead, tuple(volumes[0].shape), dtype),
        ("T" if lead else "") + "ZYX",
        "BigDataViewer",
        voxel_um,
        names,
        metadata=None if described else {"warnings": (note,)},
    )


def _xml_beside(path: Path) -> Iterator[Path]:
    """Yield the XML file of the same name, then the others in the folder."""
    own = path.with_suffix(".xml")
    if own.is_file():
        yield own
    others = (p for p in sorted(path.parent.glob("*.xml")) if p != own and p.is_file())
    yield from itertools.islice(others, MAX_XML_FILES)


def _bdv_setups(path: Path) -> dict[int, tuple[Triple, str]]:
    """Return voxel size and name of each view setup, from the XML that names this file."""
    for file in _xml_beside(path):
        try:
            text = read_bounded(file, 16 * 2**20).decode("utf-8", "replace")
            if "SpimData" not in text or path.name not in text:
                continue
            check_xml(file, text)
            root = ElementTree.fromstring(text)
        except (ReadError, ElementTree.ParseError):
            continue
        found: dict[int, tuple[Triple, str]] = {}
        for setup in root.findall(".//ViewSetups/ViewSetup"):
            identity = number(setup.findtext("id"))
            sizes = (setup.findtext("voxelSize/size") or "").split()
            unit = setup.findtext("voxelSize/unit")
            x_um, y_um, z_um = [to_um(v, unit) for v in sizes] if len(sizes) == 3 else [None] * 3
            if identity is not None:
                found[int(identity)] = ((z_um, y_um, x_um), setup.findtext("name") or "")
        return found
    return {}


def read_hdf(path: Path, series: int = 0) -> Source:
    """Open one image of an HDF5 file; no pixel is read.

    Datasets called ``raw``, ``data``, ``exported_data`` or ``image`` come first, then the others
    by name. ``element_size_um`` gives the voxel size as (z, y, x).

    Raises
    ------
    ReadError
        h5py is missing, there is no image, or its pixels are missing or in another file.
    """
    h5py = library(path, "h5py", "HDF5")
    file = h5py.File(path, "r")
    try:
        if "ImarisDataSet" in file.attrs or "DataSetInfo" in file:
            found = _imaris(path, file, series, h5py)
        elif _numbered(file, r"s(\d\d+)") and _numbered(file, r"t(\d{5,})"):
            found = _bdv(path, file, series, h5py)
        else:
            found = _plain(path, file, series, h5py)
    except BaseException:
        file.close()
        raise
    return Source(
        found.data,
        found.axes,
        found.format,
        found.voxel_um,
        found.origin_um,
        found.channel_names,
        found.metadata or {},
        len(found.names),
        found.names,
    )
