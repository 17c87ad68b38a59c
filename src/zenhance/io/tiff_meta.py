"""What a TIFF says about its pixels: axes, voxel size, channel names, acquisition, by flavour."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zenhance.errors import ReadError
from zenhance.io.ome_xml import OmeImage
from zenhance.io.units import number, plausible_um, resolution_um, to_seconds, to_um

__all__ = ["IMAGEJ_MARK", "Described", "describe_series"]

Triple = tuple[float | None, float | None, float | None]
UNKNOWN: Triple = (None, None, None)
IMAGEJ_MARK = "zenhance="


@dataclass(slots=True)
class Described:
    """Shape, axes and meaning of one TIFF series."""

    shape: tuple[int, ...]
    axes: str
    format: str = "TIFF"
    voxel_um: Triple = UNKNOWN
    origin_um: Triple = UNKNOWN
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    # 16 bits that ImageJ stores with 32768 added
    signed: bool = False


def _plain_axes(path: Path, series: Any) -> tuple[tuple[int, ...], str]:
    """Rename tifffile's axes: samples become channels, anonymous page axes become ``?``."""
    axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
    if "S" in axes and "C" in axes:
        raise ReadError(
            path,
            "it has both channels and colour samples; split the colours first, for example in "
            "ImageJ",
        )
    axes = axes.replace("S", "C")
    unknown = "".join(a if a in "TCZYX" else "?" for a in axes)
    if "Y" not in unknown or "X" not in unknown:
        raise ReadError(path, f'its axes "{axes}" hold no image plane')
    return shape, unknown


def _page_unit(page: Any) -> str | None:
    tag = page.tags.get("ResolutionUnit")
    return None if tag is None else {2: "inch", 3: "cm"}.get(int(tag.value))


def _page_pixel_um(page: Any, unit: str | None) -> tuple[float | None, float | None]:
    """Return (y, x) in µm from the resolution tags."""
    sizes = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        sizes.append(None if tag is None else resolution_um(tag.value, unit))
    return sizes[0], sizes[1]


def _imagej(described: Described, tif: Any, page: Any) -> None:
    described.format = "ImageJ TIFF"
    meta = tif.imagej_metadata or {}
    described.signed = (
        page.dtype == np.uint16
        and number(meta.get("cf")) == 0
        and (number(meta.get("c0")), number(meta.get("c1"))) == (-32768.0, 1.0)
    )
    unit = str(meta.get("unit", "")) or None
    y_um, x_um = _page_pixel_um(page, unit)
    y_unit = meta.get("yunit")
    if y_unit:
        y_um = _page_pixel_um(page, str(y_unit))[0]
    z_um = to_um(meta.get("spacing"), str(meta.get("zunit") or unit)) if unit else None
    described.voxel_um = (z_um, y_um, x_um)
    # ImageJ writes no unit for seconds.
    step = to_seconds(meta.get("finterval"), str(meta.get("tunit") or "sec"))
    if step is not None and "T" in described.axes:
        described.metadata["time_step_s"] = step
    info = meta.get("Info")
    if isinstance(info, str):
        _imagej_own(described, info)


def _imagej_own(described: Described, info: str) -> None:
    """Take back what our own writer put into the Info property."""
    line = next((part for part in info.splitlines() if part.startswith(IMAGEJ_MARK)), None)
    if line is None:
        return
    try:
        record = json.loads(line[len(IMAGEJ_MARK) :])
        names, voxel = record.get("channel_names", []), record.get("voxel_um", [None] * 3)
        axes, sha256 = str(record.get("axes", "")), str(record.get("sha256", ""))
        provenance = record.get("provenance")
    except (ValueError, AttributeError):
        return
    described.channel_names = tuple(str(n) for n in names)
    # The tags hold rationals; the exact numbers are taken where both agree, so that a later
    # calibration in ImageJ wins.
    exact = [plausible_um(v) for v in voxel][:3]
    described.voxel_um = tuple(  # type: ignore[assignment]
        e if e is not None and t is not None and math.isclose(e, t, rel_tol=1e-5) else t
        for e, t in zip(exact, described.voxel_um, strict=True)
    )
    _take_own(described, axes, sha256, provenance if isinstance(provenance, str) else None)


def _take_own(described: Described, axes: str, sha256: str, provenance: str | None) -> None:
    """Restore axes of length 1 that TIFF readers drop, and keep checksums and provenance."""
    if (
        len(axes) > len(described.axes)
        and "".join(a for a in axes if a in described.axes) == described.axes
        and set(axes) <= set("TCZYX")
    ):
        sizes = dict(zip(described.axes, described.shape, strict=True))
        described.axes, described.shape = axes, tuple(sizes.get(a, 1) for a in axes)
    if sha256:
        described.metadata["sha256"] = tuple(sha256.split())
    if provenance:
        described.metadata["zenhance"] = provenance


def _names(text: str | None) -> tuple[str, ...]:
    """Return the list of names in our annotation, which XML could not hold exactly."""
    try:
        names = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(str(n) for n in names) if isinstance(names, list) else ()


def _ome(path: Path, described: Described, images: list[OmeImage], index: int, kind: str) -> None:
    """Take what the OME-XML says of one image, whose pages can be in another order."""
    if kind == "ome":
        described.format = "OME-TIFF"
        if index >= len(images):
            return
        image = images[index]
    else:
        held = math.prod(described.shape)
        wanted = max((math.prod(i.sizes.values()) for i in images), default=0)
        if wanted > held:
            raise ReadError(
                path,
                f"its OME metadata promise {wanted} pixels, but it holds {held}; copy it again",
            )
        fitting = [i for i in images if _fits(described, i)]
        if not fitting:
            note = "its OME metadata do not fit its pages and were ignored"
            described.metadata["warnings"] = (note,)
            return
        image = fitting[min(index, len(fitting) - 1)]
        described.format = "OME-TIFF"
        if "?" in described.axes:
            order = [a for a in reversed(image.order) if image.sizes[a] > 1 or a in "YX"]
            described.axes = "".join(order)
            described.shape = tuple(image.sizes[a] for a in order)
        note = "its OME metadata list no planes, so that its pages were taken in their order"
        if kind != "mmstack":
            described.metadata["warnings"] = (note,)
    described.voxel_um, described.origin_um = image.voxel_um, image.origin_um
    described.channel_names = image.channel_names
    described.metadata.update(image.metadata)
    own = image.annotations
    if own:
        names = _names(own.get("channel_names"))
        described.channel_names = (
            names if len(names) == image.sizes["C"] else described.channel_names
        )
        pinhole = number(own.get("pinhole_au"))
        if pinhole is not None:
            described.metadata["pinhole_au"] = pinhole
        _take_own(described, own.get("axes", ""), own.get("sha256", ""), own.get("provenance"))


def _fits(described: Described, image: OmeImage) -> bool:
    """Tell whether the pages of a series are those that an OME image describes."""
    known = {a: n for a, n in zip(described.axes, described.shape, strict=True) if a != "?"}
    if "?" in described.axes and set(known) != {"Y", "X"}:
        return False
    same = all(image.sizes[a] == n for a, n in known.items())
    return same and math.prod(image.sizes.values()) == math.prod(described.shape)


def _micromanager(described: Described, tif: Any) -> None:
    """Voxel size, channels and time step from Micro-Manager's own summary."""
    described.format = "Micro-Manager"
    summary = (tif.micromanager_metadata or {}).get("Summary") or {}
    pixel = to_um(summary.get("PixelSize_um"), "um")
    described.voxel_um = (to_um(summary.get("z-step_um"), "um"), pixel, pixel)
    names = summary.get("ChNames")
    if isinstance(names, list):
        described.channel_names = tuple(str(n) for n in names)
    step = to_seconds(summary.get("Interval_ms"), "ms")
    if step is not None and "T" in described.axes:
        described.metadata["time_step_s"] = step


def _lsm(described: Described, tif: Any) -> None:
    described.format = "Zeiss LSM"
    meta = tif.lsm_metadata or {}
    described.voxel_um = tuple(to_um(meta.get(f"VoxelSize{a}"), "m") for a in "ZYX")  # type: ignore[assignment]
    origin = [number(meta.get(f"Origin{a}")) for a in "ZYX"]
    described.origin_um = tuple(None if o is None else o * 1e6 for o in origin)  # type: ignore[assignment]
    described.metadata["modality"] = "confocal"
    names = (meta.get("ChannelColors") or {}).get("ColorNames") or []
    described.channel_names = tuple(str(n) for n in names)
    step = number(meta.get("TimeIntervall"))
    if step and "T" in described.axes:
        described.metadata["time_step_s"] = step
    _lsm_light(described, meta.get("ScanInformation") or {})


def _lsm_light(described: Described, scan: Any) -> None:
    """Objective, wavelengths and pinhole from Zeiss's nested scan record."""
    aperture = (
        number(str(scan.get("Objective", "")).rpartition("/")[2].split()[0])
        if "/" in str(scan.get("Objective", ""))
        else None
    )
    if aperture is not None and 0 < aperture < 2:
        described.metadata["na"] = aperture
    excitation: list[float] = []
    emission: list[float] = []
    for track in scan.get("Tracks") or []:
        for beam in track.get("IlluminationChannels") or []:
            wavelength = number(beam.get("Wavelength"))
            if wavelength and beam.get("Acquire", True):
                excitation.append(wavelength)
        for channel in track.get("DetectionChannels") or []:
            low, high = (
                number(channel.get("SpiWavelengthStart")),
                number(channel.get("SpiWavelengthStop")),
            )
            if low and high and channel.get("Acquire", True):
                emission.append((low + high) / 2)
    count = described.shape[described.axes.index("C")] if "C" in described.axes else 1
    for key, values in (("excitation_nm", excitation), ("emission_nm", emission)):
        if len(values) == count and values:
            described.metadata[key] = values[0] if count == 1 else values


def _stk(described: Described, tif: Any) -> None:
    described.format = "MetaMorph STK"
    meta = tif.stk_metadata or {}
    unit = str(meta.get("CalibrationUnits") or "") or None
    distances = meta.get("ZDistance")
    z_um = None
    if distances is not None and len(distances):
        z_um = to_um(distances[0], unit)
    calibrated = bool(meta.get("SpatialCalibration"))
    described.voxel_um = (
        z_um if calibrated else None,
        to_um(meta.get("YCalibration"), unit) if calibrated else None,
        to_um(meta.get("XCalibration"), unit) if calibrated else None,
    )
    names = meta.get("Name") or ()
    modality = (
        next((n for n in names if isinstance(n, str) and n), None)
        if isinstance(names, list | tuple)
        else None
    )
    if modality:
        described.metadata["illumination"] = modality


def describe_series(
    path: Path,
    tif: Any,
    series: Any,
    index: int,
    images: list[OmeImage] | None,
    legacy: dict[str, Any],
) -> Described:
    """Describe one series of an open tifffile.

    Parameters
    ----------
    path : Path
        Named in errors.
    tif, series : tifffile objects
        The file and one of its series.
    index : int
        Number of the series.
    images : list of OmeImage or None
        What the OME-XML says, if there is any.
    legacy : dict
        What was found in an old Zeiss tag.

    Raises
    ------
    ReadError
        The metadata promise more than the file holds.
    """
    shape, axes = _plain_axes(path, series)
    described = Described(shape, axes)
    page = series.keyframe
    if page.dtype is not None and page.dtype.kind == "c":
        raise ReadError(
            path, f"its pixels are complex numbers ({page.dtype}); save the magnitude instead"
        )
    if images is not None:
        _ome(path, described, images, index, series.kind)
    elif series.kind == "mmstack":
        _micromanager(described, tif)
    elif tif.is_imagej:
        _imagej(described, tif, page)
    elif tif.is_lsm:
        _lsm(described, tif)
    elif tif.is_stk:
        _stk(described, tif)
    else:
        described.voxel_um = (None, *_page_pixel_um(page, _page_unit(page)))
        if legacy:
            described.format = "Zeiss LSM 410 TIFF"
            described.voxel_um = tuple(plausible_um(v) for v in legacy["voxel_um"])  # type: ignore[assignment]
    described.voxel_um = tuple(plausible_um(v) for v in described.voxel_um)  # type: ignore[assignment]
    if (
        "C" in described.axes
        and not described.channel_names
        and "S" in series.axes
        and page.photometric == 2
        and page.dtype.itemsize == 1
    ):
        colours = ("red", "green", "blue", "alpha")
        described.channel_names = colours[: described.shape[described.axes.index("C")]]
    return described
