"""Compose the OME-XML of our OME-TIFF files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from zenhance.errors import FailureKind, WriteError
from zenhance.io.ome_xml import NAMESPACE
from zenhance.io.units import number
from zenhance.stack import Stack

__all__ = ["compose_ome", "ome_type"]

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_TYPES = {
    "bool": "bit",
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "float32": "float",
    "float64": "double",
}
_MODES = {
    "confocal": "LaserScanningConfocalMicroscopy",
    "widefield": "WideField",
    "lightsheet": "SPIM",
}
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def ome_type(dtype: npt.DTypeLike) -> str:
    """Return OME's name of a pixel type.

    Raises
    ------
    WriteError
        OME-TIFF has no such type.
    """
    name = np.dtype(dtype).name
    if name not in _TYPES:
        raise WriteError(
            f"OME-TIFF has no {name} pixels; save as .ome.zarr, or convert to float32 first",
            FailureKind.BAD_PARAMETER,
        )
    return _TYPES[name]


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)


def _of_channel(value: Any, index: int) -> float | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return number(value[index]) if index < len(value) else None
    return number(value)


def _add_channels(pixels: ElementTree.Element, stack: Stack) -> None:
    meta = stack.metadata
    for index in range(stack.size("C")):
        channel = ElementTree.SubElement(
            pixels, "Channel", ID=f"Channel:0:{index}", SamplesPerPixel="1"
        )
        if stack.channel_names:
            channel.set("Name", _clean(stack.channel_names[index]))
        for key, name in (
            ("excitation_nm", "ExcitationWavelength"),
            ("emission_nm", "EmissionWavelength"),
        ):
            value = _of_channel(meta.get(key), index)
            if value is not None:
                channel.set(name, repr(value))
                channel.set(name + "Unit", "nm")
        mode = _MODES.get(str(meta.get("modality")))
        if mode:
            channel.set("AcquisitionMode", mode)


def _add_objective(
    root: ElementTree.Element, image: ElementTree.Element, metadata: Mapping[str, Any]
) -> None:
    aperture, index = number(metadata.get("na")), number(metadata.get("refractive_index"))
    if aperture is None and index is None:
        return
    instrument = ElementTree.Element("Instrument", ID="Instrument:0")
    objective = ElementTree.SubElement(instrument, "Objective", ID="Objective:0:0")
    if aperture is not None:
        objective.set("LensNA", repr(aperture))
    root.insert(0, instrument)
    ElementTree.SubElement(image, "InstrumentRef", ID="Instrument:0")
    settings = ElementTree.SubElement(image, "ObjectiveSettings", ID="Objective:0:0")
    if index is not None:
        settings.set("RefractiveIndex", repr(index))


def compose_ome(stack: Stack, own: Mapping[str, str]) -> bytes:
    """Return OME-XML (2016-06) for one image whose planes are stored in the order z, c, t.

    Parameters
    ----------
    stack : Stack
        Pixels are not read.
    own : mapping of str to str
        Keys and values of our map annotation: axes, sha256 of the planes, provenance.

    Returns
    -------
    bytes
        ASCII, as a TIFF tag must be.
    """
    root = ElementTree.Element("OME", xmlns=_SCHEMA, Creator="zenhance")
    image = ElementTree.SubElement(root, "Image", ID="Image:0", Name=_clean(stack.name))
    _add_objective(root, image, stack.metadata)
    pixels = ElementTree.SubElement(
        image, "Pixels", ID="Pixels:0", DimensionOrder="XYZCT", Type=ome_type(stack.dtype)
    )
    for axis in "XYZCT":
        pixels.set(f"Size{axis}", str(stack.size(axis)))
    for axis, length in zip("ZYX", stack.voxel_size.zyx_um, strict=True):
        if length is not None:
            pixels.set(f"PhysicalSize{axis}", repr(float(length)))
            pixels.set(f"PhysicalSize{axis}Unit", "µm")
    step = number(stack.metadata.get("time_step_s"))
    if step is not None:
        pixels.set("TimeIncrement", repr(step))
        pixels.set("TimeIncrementUnit", "s")
    _add_channels(pixels, stack)
    planes = stack.size("T") * stack.size("C") * stack.size("Z")
    ElementTree.SubElement(pixels, "TiffData", IFD="0", PlaneCount=str(planes))
    origin = stack.metadata.get("origin_um")
    if isinstance(origin, Sequence) and len(origin) == 3:
        plane = ElementTree.SubElement(pixels, "Plane", TheZ="0", TheC="0", TheT="0")
        for axis, position in zip("ZYX", origin, strict=True):
            if number(position) is not None:
                plane.set(f"Position{axis}", repr(float(position)))
                plane.set(f"Position{axis}Unit", "µm")
    ElementTree.SubElement(image, "AnnotationRef", ID="Annotation:0")
    annotations = ElementTree.SubElement(root, "StructuredAnnotations")
    value = ElementTree.SubElement(
        ElementTree.SubElement(
            annotations, "MapAnnotation", ID="Annotation:0", Namespace=NAMESPACE
        ),
        "Value",
    )
    for key, text in own.items():
        ElementTree.SubElement(value, "M", K=key).text = _clean(text)
    xml: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return xml
