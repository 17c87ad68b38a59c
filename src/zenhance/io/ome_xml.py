"""Read voxel size, channels, optics and our own annotations from OME-XML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from zenhance.errors import ReadError
from zenhance.io.limits import check_xml
from zenhance.io.units import number, to_seconds, to_um, um_per_unit

__all__ = [
    "NAMESPACE",
    "OmeImage",
    "file_names",
    "metadata_file",
    "modality_of",
    "outside_names",
    "parse_ome",
]

NAMESPACE = "zenhance.org/provenance"
_LENGTH_DEFAULT = "µm"


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One Image element.

    Parameters
    ----------
    sizes : dict
        Length along each of T, C, Z, Y, X.
    voxel_um, origin_um : tuple of float or None
        For z, y, x; None where the file does not say.
    channel_names : tuple of str
        Empty where no channel has a name.
    metadata : dict
        The acquisition keys that are known.
    annotations : dict
        Keys and values of our own map annotation.
    name : str
        Of the image.
    order : str
        Of the planes in the file, fastest axis first.
    """

    sizes: dict[str, int]
    voxel_um: tuple[float | None, float | None, float | None]
    origin_um: tuple[float | None, float | None, float | None]
    channel_names: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    name: str = ""
    order: str = "XYZCT"


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _local(child) == name)


def _everywhere(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element.iter() if _local(child) == name)


def modality_of(text: str | None) -> str | None:
    """Return confocal, widefield, lightsheet or None for a text such as OME's AcquisitionMode."""
    plain = re.sub(r"[^a-z]", "", (text or "").lower())
    if "confocal" in plain or "spinningdisk" in plain or "lsm" in plain:
        return "confocal"
    if "lightsheet" in plain or plain in ("spim", "lls"):
        return "lightsheet"
    if "widefield" in plain or plain in ("wf", "epifluorescence"):
        return "widefield"
    return None


def _length(element: ElementTree.Element, name: str) -> float | None:
    return to_um(element.get(name), element.get(name + "Unit", _LENGTH_DEFAULT))


def _wavelength_nm(channel: ElementTree.Element, name: str) -> float | None:
    value, factor = number(channel.get(name)), um_per_unit(channel.get(name + "Unit", "nm"))
    if value is None or factor is None:
        return None
    length_nm = value * factor * 1000
    return round(length_nm, 6) if 100 < length_nm < 3000 else None


def _per_channel(values: list[float | None]) -> float | list[float] | None:
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return known[0] if len(set(known)) == 1 else None
    return known[0] if len(known) == 1 else known


def _objective(root: ElementTree.Element, image: ElementTree.Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    settings = next(_children(image, "ObjectiveSettings"), None)
    wanted = settings.get("ID") if settings is not None else None
    objectives = list(_everywhere(root, "Objective"))
    chosen = next(
        (o for o in objectives if o.get("ID") == wanted),
        objectives[0] if len(objectives) == 1 else None,
    )
    if chosen is not None:
        aperture = number(chosen.get("LensNA"))
        if aperture is not None and 0 < aperture < 2:
            found["na"] = aperture
    index = number(settings.get("RefractiveIndex")) if settings is not None else None
    if index is None and chosen is not None:
        index = {
            "Oil": 1.515,
            "Water": 1.333,
            "WaterDipping": 1.333,
            "Air": 1.0,
            "Glycerol": 1.47,
        }.get(chosen.get("Immersion", ""))
    if index is not None and 0.9 < index < 2:
        found["refractive_index"] = index
    return found


def _acquisition(
    root: ElementTree.Element, image: ElementTree.Element, pixels: ElementTree.Element
) -> dict[str, Any]:
    found = _objective(root, image)
    channels = list(_children(pixels, "Channel"))
    for key, name in (
        ("excitation_nm", "ExcitationWavelength"),
        ("emission_nm", "EmissionWavelength"),
    ):
        value = _per_channel([_wavelength_nm(c, name) for c in channels])
        if value is not None:
            found[key] = value
    modality = next(
        (m for m in (modality_of(c.get("AcquisitionMode")) for c in channels) if m), None
    )
    if modality:
        found["modality"] = modality
    step = to_seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    if step is not None:
        found["time_step_s"] = step
    return found


def _annotations(root: ElementTree.Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for annotation in _everywhere(root, "MapAnnotation"):
        if annotation.get("Namespace") == NAMESPACE:
            found.update({m.get("K", ""): m.text or "" for m in _everywhere(annotation, "M")})
    return found


def _origin(pixels: ElementTree.Element) -> tuple[float | None, float | None, float | None]:
    plane = next(_children(pixels, "Plane"), None)
    if plane is None:
        return (None, None, None)

    def position(axis: str) -> float | None:
        value = number(plane.get(f"Position{axis}"))
        factor = um_per_unit(plane.get(f"Position{axis}Unit"))
        return None if value is None or factor is None else value * factor

    return (position("Z"), position("Y"), position("X"))


def parse_ome(path: Path, text: str) -> list[OmeImage]:
    """Parse OME-XML into one record an image.

    Raises
    ------
    ReadError
        The XML is hostile or no XML, or an image has no sizes.
    """
    check_xml(path, text)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ReadError(
            path, f"its OME-XML cannot be parsed ({error}); export the file again"
        ) from error
    annotations = _annotations(root)
    images = []
    for image in _children(root, "Image"):
        pixels = next(_children(image, "Pixels"), None)
        if pixels is None:
            continue
        try:
            sizes = {axis: int(pixels.get(f"Size{axis}", "1")) for axis in "TCZYX"}
        except ValueError as error:
            raise ReadError(
                path, f"its OME-XML gives no sizes ({error}); export the file again"
            ) from error
        order = pixels.get("DimensionOrder", "XYZCT")
        names = [c.get("Name") for c in _children(pixels, "Channel")]
        names_given = any(names) and len(names) == sizes["C"]
        images.append(
            OmeImage(
                sizes=sizes,
                voxel_um=(
                    _length(pixels, "PhysicalSizeZ"),
                    _length(pixels, "PhysicalSizeY"),
                    _length(pixels, "PhysicalSizeX"),
                ),
                origin_um=_origin(pixels),
                channel_names=tuple(n or f"channel {i}" for i, n in enumerate(names))
                if names_given
                else (),
                metadata=_acquisition(root, image, pixels),
                annotations=annotations,
                name=image.get("Name", ""),
                order=order if sorted(order) == sorted("XYZCT") else "XYZCT",
            )
        )
    return images


def file_names(text: str) -> list[str]:
    """Return the names of the files that OME-XML points to, each once, in order."""
    found = re.findall(r"(?:FileName|MetadataFile)\s*=\s*[\"']([^\"']*)[\"']", text)
    return [html.unescape(name) for name in dict.fromkeys(found)]


def metadata_file(text: str) -> str | None:
    """Return the name of the file that holds the metadata, if this OME-XML is a mere pointer."""
    found = re.search(r"<(?:\w+:)?BinaryOnly\b[^>]*MetadataFile\s*=\s*[\"']([^\"']*)[\"']", text)
    return html.unescape(found.group(1)) if found else None


def outside_names(text: str) -> list[str]:
    """Return the file names in OME-XML that are more than a bare name in the same folder."""
    names = file_names(text)
    return [n for n in names if n in ("", ".", "..") or any(c in n for c in "/\\:\0")]
