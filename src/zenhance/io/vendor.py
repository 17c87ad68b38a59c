"""Open Leica LIF, Nikon ND2 and Olympus OIB files by their libraries (extra ``io``)."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.compound import check_compound
from zenhance.io.limits import check_claim
from zenhance.io.ome_xml import modality_of
from zenhance.io.source import LazyArray, Source, pick_series
from zenhance.io.units import number, plausible_um, to_um

__all__ = ["library", "read_lif", "read_nd2", "read_oib"]


def library(path: Path, name: str, what: str) -> Any:
    """Import a reader library, or say how to install it.

    Raises
    ------
    ReadError
        It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ReadError(
            path,
            f'reading {what} needs the package {name}; install it with: pip install "zenhance[io]"',
        ) from error


def _finds(tree: Any, key: str) -> list[Any]:
    """Return every value under a key anywhere in nested dictionaries and lists."""
    found: list[Any] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            found += [v for k, v in node.items() if k == key]
            stack += list(node.values())
        elif isinstance(node, list | tuple):
            stack += list(node)
    return found


def _lif_light(attributes: Any) -> dict[str, Any]:
    """Objective and pinhole from Leica's hardware record."""
    found: dict[str, Any] = {}
    aperture = next(
        (n for n in map(number, _finds(attributes, "NumericalAperture")) if n and n < 2), None
    )
    index = next(
        (n for n in map(number, _finds(attributes, "RefractionIndex")) if n and 0.9 < n < 2), None
    )
    pinhole = next((n for n in map(number, _finds(attributes, "PinholeAiry")) if n and n > 0), None)
    confocal = bool(_finds(attributes, "ATLConfocalSettingDefinition"))
    for key, value in (
        ("na", aperture),
        ("refractive_index", index),
        ("pinhole_au", pinhole),
        ("modality", "confocal" if confocal else None),
    ):
        if value is not None:
            found[key] = value
    return found


def _lif_step_um(image: Any, axis: str) -> float | None:
    """Return the step along an axis; Leica stores positions in metres."""
    places = image.coords.get(axis)
    if places is None or len(places) < 2:
        return None
    return plausible_um(1e6 * (float(places[-1]) - float(places[0])) / (len(places) - 1))


def _check_memory(path: Path, image: Any) -> None:
    """Make sure that the pixels of an image are in the file."""
    try:
        block = image.memory_block
    except (KeyError, IndexError) as error:
        raise ReadError(
            path, f'the pixels of "{image.name}" are missing: it is cut short; copy it again'
        ) from error
    end, size = int(block.offset) + int(block.size), path.stat().st_size
    if end > size:
        raise ReadError(
            path, f'it is cut short: "{image.name}" ends at {end} of {size} bytes; copy it again'
        )


def _cut_images(path: Path, file: Any) -> list[str]:
    """Return the names of the images whose pixels are not all in the file."""
    cut = []
    for image in file.images:
        try:
            _check_memory(path, image)
        except ReadError:
            cut.append(f'"{image.name}"')
    return cut


def _check_lif_header(path: Path) -> None:
    """Refuse a file that ends within its XML header, in words rather than those of a decoder."""
    with path.open("rb") as handle:
        head = handle.read(13)
    if len(head) < 13 or 13 + 2 * int.from_bytes(head[9:13], "little") > path.stat().st_size:
        raise ReadError(path, "it is cut short: it ends within its header; copy it again")


def read_lif(path: Path, series: int = 0) -> Source:
    """Open one image of a Leica LIF file; frames are read on demand.

    An xz or xzt scan, which has no y, gets a y-axis of length 1.

    Raises
    ------
    ReadError
        liffile is missing, or the image has axes besides t, c, z, y, x.
    """
    liffile = library(path, "liffile", "Leica LIF")
    _check_lif_header(path)
    file = liffile.LifFile(str(path))
    with _closed_on_error(file):
        names = tuple(str(image.name) for image in file.images)
        image = file.images[pick_series(path, series, len(names), names)]
        dims = _lif_axes(path, image, series)
        _check_memory(path, image)
        shape, dtype = tuple(int(n) for n in image.shape), np.dtype(image.dtype)
        check_claim(path, math.prod(shape) * dtype.itemsize, path.stat().st_size)
        keep = 3 if "S" in image.dims else 2
        lead, block = shape[:-keep], shape[-keep:]
        if "Y" not in dims:
            # The missing axis stands before X, where it costs nothing.
            at = dims.index("X")
            dims = dims[:at] + "Y" + dims[at:]
            block = (*block[: at - len(lead)], 1, *block[at - len(lead) :])
        voxel_um = (_lif_step_um(image, "Z"), _lif_step_um(image, "Y"), _lif_step_um(image, "X"))
        metadata = _lif_light(image.attrs.get("HardwareSetting"))
        if cut := _cut_images(path, file):
            metadata["warnings"] = (
                f"the file is cut short: of its images {', '.join(cut)} the pixels are not all "
                "there; copy it again",
            )
    loops = [str(d) for d in image.dims][: len(lead)]

    def frame(place: tuple[int, ...]) -> npt.NDArray[Any]:
        data: npt.NDArray[Any] = image.frame(**dict(zip(loops, place, strict=True)))
        return data

    return Source(
        _frames(path, file, lead, block, dtype, frame),
        dims,
        "Leica LIF",
        voxel_um,
        metadata=metadata,
        series=len(names),
        series_names=names,
    )


def _lif_axes(path: Path, image: Any, series: int) -> str:
    dims = "".join(image.dims).replace("S", "C")
    if len(set(dims)) != len(dims) or not set(dims) <= set("TCZYX") or "X" not in dims:
        raise ReadError(
            path,
            f'its image {series} has the axes "{"".join(image.dims)}"; export it as OME-TIFF '
            "with t, c, z, y and x only",
        )
    return dims


@contextmanager
def _closed_on_error(file: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise


def _frames(
    path: Path,
    file: Any,
    lead: tuple[int, ...],
    block: tuple[int, ...],
    dtype: np.dtype[Any],
    frame: Callable[[tuple[int, ...]], npt.NDArray[Any]],
) -> LazyArray:
    """Return an array that reads one frame at a time and closes the file when it is collected."""
    lock = threading.Lock()

    def read(index: int) -> npt.NDArray[Any]:
        place = tuple(int(i) for i in np.unravel_index(index, lead)) if lead else ()
        with lock:
            return frame(place)

    # Views of the array share this function, and nothing else holds the file.
    weakref.finalize(read, file.close)
    return LazyArray(path, lead, block, dtype.newbyteorder("="), read)


def _nd2_light(channels: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    scope = channels[0].microscope
    index, aperture = (
        number(scope.immersionRefractiveIndex),
        number(scope.objectiveNumericalAperture),
    )
    if aperture and aperture < 2:
        found["na"] = aperture
    if index and 0.9 < index < 2:
        found["refractive_index"] = index
    for key, name in (("excitation_nm", "excitationLambdaNm"), ("emission_nm", "emissionLambdaNm")):
        values = [number(getattr(c.channel, name, None)) for c in channels]
        if all(values):
            found[key] = values[0] if len(values) == 1 else values
    modality = next((m for m in map(modality_of, scope.modalityFlags or ()) if m), None)
    if modality:
        found["modality"] = modality
    return found


def read_nd2(path: Path, series: int = 0) -> Source:
    """Open one position of a Nikon ND2 file; frames are read on demand.

    Raises
    ------
    ReadError
        nd2 is missing, or the file has axes besides t, c, z, y, x and positions.
    """
    nd2 = library(path, "nd2", "Nikon ND2")
    file = nd2.ND2File(str(path))
    with _closed_on_error(file):
        sizes = {str(k): int(v) for k, v in file.sizes.items()}
        loops = [a for a in sizes if a not in ("C", "Y", "X", "S")]
        positions = sizes.get("P", 1)
        pick_series(path, series, positions)
        if not set(loops) <= {"T", "Z", "P"} or ("S" in sizes and sizes.get("C", 1) > 1):
            raise ReadError(
                path,
                f'it has the axes "{"".join(sizes)}"; export it as OME-TIFF with t, c, z, y and '
                "x only",
            )
        dtype = np.dtype(file.dtype)
        check_claim(path, math.prod(sizes.values()) * dtype.itemsize, path.stat().st_size)
        voxel = file.voxel_size()
        channels = list(file.metadata.channels or ())
        metadata = _nd2_light(channels) if channels else {}
        names = tuple(str(c.channel.name) for c in channels) if "S" not in sizes else ()
    kept = [a for a in loops if a != "P"]
    inner = [a for a in sizes if a in ("C", "Y", "X", "S")]
    loop_shape = tuple(sizes[a] for a in loops)

    def frame(place: tuple[int, ...]) -> npt.NDArray[Any]:
        known = {**dict(zip(kept, place, strict=True)), "P": series}
        at = [known[a] for a in loops]
        data: npt.NDArray[Any] = file.read_frame(
            int(np.ravel_multi_index(at, loop_shape)) if at else 0
        )
        return data

    lead, block = tuple(sizes[a] for a in kept), tuple(sizes[a] for a in inner)
    axes = "".join([*kept, *inner]).replace("S", "C")
    z_um = plausible_um(voxel.z) if "Z" in axes else None
    return Source(
        _frames(path, file, lead, block, dtype, frame),
        axes,
        "Nikon ND2",
        (z_um, plausible_um(voxel.y), plausible_um(voxel.x)),
        channel_names=names,
        metadata=metadata,
        series=positions,
    )


def _oib_step_um(settings: Any, axis: str, count: int) -> float | None:
    for index in range(9):
        record = settings.get(f"Axis {index} Parameters Common", {})
        if record.get("AxisCode") != axis:
            continue
        start, end, interval = (
            number(record.get(k)) for k in ("StartPosition", "EndPosition", "Interval")
        )
        unit = str(record.get("PixUnit", ""))
        if axis == "Z":
            return to_um(interval, unit)
        return (
            None
            if start is None or end is None or count < 1
            else to_um((end - start) / count, unit)
        )
    return None


def _oib_light(settings: Any, channels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    records = [settings.get(f"Channel {i + 1} Parameters", {}) for i in range(channels)]
    for key, name in (
        ("excitation_nm", "ExcitationWavelength"),
        ("emission_nm", "EmissionWavelength"),
    ):
        values = [number(r.get(name)) for r in records]
        if all(v and 100 < v < 3000 for v in values):
            found[key] = values[0] if channels == 1 else values
    if any(str(r.get("Confocal")) == "ON" for r in records):
        found["modality"] = "confocal"
    return found


def read_oib(path: Path, series: int = 0) -> Source:
    """Open an Olympus OIB file; it is decoded as a whole at first use.

    Raises
    ------
    ReadError
        oiffile is missing, or the file has axes besides t, c, z, y, x.
    """
    oiffile = library(path, "oiffile", "Olympus OIB")
    check_compound(path)
    with oiffile.OifFile(str(path)) as file:
        pick_series(path, series, 1)
        axes, shape, dtype = str(file.axes), tuple(int(n) for n in file.shape), np.dtype(file.dtype)
        settings = file.mainfile
        if len(set(axes)) != len(axes) or not set(axes) <= set("TCZYX"):
            raise ReadError(
                path, f'it has the axes "{axes}"; export it as OME-TIFF with t, c, z, y and x only'
            )
        check_claim(path, math.prod(shape) * dtype.itemsize, path.stat().st_size)
        sizes = dict(zip(axes, shape, strict=True))
        voxel_um = tuple(_oib_step_um(settings, a, sizes[a]) if a in sizes else None for a in "ZYX")
        channels = sizes.get("C", 1)
        names = tuple(
            str(settings.get(f"Channel {i + 1} Parameters", {}).get("CH Name", f"CH{i + 1}"))
            for i in range(channels)
        )
        metadata = _oib_light(settings, channels)

    def read(_: int) -> npt.NDArray[Any]:
        with oiffile.OifFile(str(path)) as opened:
            data: npt.NDArray[Any] = opened.asarray()
            return data

    array = LazyArray(path, (), shape, dtype.newbyteorder("="), read)
    return Source(
        array,
        axes,
        "Olympus OIB",
        (voxel_um[0], voxel_um[1], voxel_um[2]),
        channel_names=names,
        metadata=metadata,
    )
