"""Read voxel size, objective and channels from the XML of a CZI file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from zenhance.errors import ReadError
from zenhance.io.limits import check_xml
from zenhance.io.ome_xml import modality_of
from zenhance.io.units import number, plausible_um

__all__ = ["CziMeta", "parse_czi_xml"]


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
