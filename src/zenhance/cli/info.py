"""``zenhance info``: what a file says about itself, and which PSF a run would use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zenhance.cli.options import Json, Series
from zenhance.cli.output import facts_table, print_json, show
from zenhance.errors import StackError, ZenhanceError
from zenhance.wording import format_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from zenhance.io import ImageInfo

__all__ = ["info", "info_record", "info_table"]

OPTICS = {
    "modality": "",
    "na": "",
    "refractive_index": "",
    "excitation_nm": "nm",
    "emission_nm": "nm",
    "pinhole_au": "AU",
}
"""What readers look for in a file, and its unit."""


def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Image file or OME-Zarr folder; only its headers are read."
        ),
    ],
    series: Series = None,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Read the pixels too and measure camera, light and blur by depth; default off.",
        ),
    ] = False,
    json_line: Json = False,
) -> None:
    """Show what a file says about itself.

    Shape, axes, voxel size, optics, the PSF that would be used, and how zenhance made the file if
    it did.
    """
    from zenhance.cli.parsing import parse_whole

    number = 0 if series is None else parse_whole("--series", series)
    record = info_record(file, number)
    if profile:
        record["profile"] = _profiles(file, number)
    if json_line:
        print_json(record)
    else:
        show(info_table(record))


def _profiles(path: Path, series: int) -> list[dict[str, Any]]:
    """Measure the microscope of each channel at the first time point."""
    from zenhance.io import open_stack
    from zenhance.pipeline import EnhanceRequest
    from zenhance.pipeline.plan import psf_for
    from zenhance.pipeline.profile import profile_of_steps
    from zenhance.pipeline.request import MEASURE
    from zenhance.steps import drain

    stack = open_stack(path, series=series)
    if "Z" not in stack.axes:
        raise StackError("a profile is measured on a stack; this image has one plane only")
    stack.voxel_size.require(stack.spatial_axes)
    request = EnhanceRequest(profile=MEASURE)
    found = []
    for channel in range(stack.size("C")):
        psf = psf_for(stack, request, channel)
        measured = drain(profile_of_steps(stack, request, channel, psf))
        if measured is not None:
            found.append({**measured.model_dump(mode="json"), "words": list(measured.describe())})
    return found


def _psf(info: ImageInfo) -> dict[str, Any]:
    """Return the PSF that a run without ``--psf`` would use, each number marked file or default."""
    from zenhance.physics.psf import resolve_psf

    channels = info.shape[info.axes.index("C")] if "C" in info.axes else 1
    ndim = 2 if {"Z", "?"}.isdisjoint(info.axes) else 3
    try:
        found = [
            resolve_psf(None, info.metadata, ndim, channel=channel) for channel in range(channels)
        ]
    except ZenhanceError as error:
        return {"error": str(error)}
    marks = {
        value.name: {"value": value.value, "unit": value.unit, "origin": value.origin}
        for value in found[0].values
    }
    return {"per_channel": [psf.describe() for psf in found], "values": marks}


def _provenance(info: ImageInfo) -> dict[str, Any]:
    from zenhance.pipeline.methods_paragraph import methods_paragraph
    from zenhance.provenance import Provenance

    try:
        record = Provenance.find(info.metadata)
    except ZenhanceError as error:
        return {"error": str(error)}
    if record is None:
        return {}
    return {
        "record": record.model_dump(mode="json"),
        "methods_paragraph": methods_paragraph(record),
    }


def info_record(path: Path, series: int = 0) -> dict[str, Any]:
    """Return what the headers of a file say; no pixel is read.

    Raises
    ------
    ReadError
        The file cannot be read.
    """
    from zenhance.io import inspect_image
    from zenhance.provenance import METADATA_KEY

    info = inspect_image(path, series=series)
    voxel = zip("zyx", info.voxel_size.zyx_um, info.voxel_size.origins, strict=True)
    return {
        "path": str(path),
        "format": info.format,
        "axes": info.axes,
        "read_as": info.read_as,
        "shape": list(info.shape),
        "dtype": str(info.dtype),
        "voxel_size_um": {
            axis: {"value": value, "origin": origin} for axis, value, origin in voxel
        },
        "origin_um": info.origin_um,
        "channels": list(info.channel_names),
        "image": series,
        "series": info.series,
        "series_names": list(info.series_names),
        "notes": list(info.metadata.get("warnings", ())),
        "file_bytes": info.file_bytes,
        "decoded_bytes": info.decoded_bytes,
        "optics": {
            key: {"value": info.metadata.get(key), "unit": unit} for key, unit in OPTICS.items()
        },
        "psf": _psf(info),
        "provenance": _provenance(info),
        "metadata_keys": sorted(str(key) for key in info.metadata if key != METADATA_KEY),
    }


def _voxel_text(record: dict[str, Any]) -> str:
    words = []
    for axis, mark in record["voxel_size_um"].items():
        if axis.upper() in record["axes"]:
            words.append(
                f"{axis} unknown"
                if mark["value"] is None
                else f"{axis} {mark['value']:.4g} µm ({mark['origin']})"
            )
    return ", ".join(words)


def _optics_text(record: dict[str, Any]) -> str:
    words = []
    for key, mark in record["optics"].items():
        if mark["value"] is not None:
            value = (
                ", ".join(str(v) for v in mark["value"])
                if isinstance(mark["value"], list | tuple)
                else str(mark["value"])
            )
            words.append(" ".join(part for part in (key, value, mark["unit"], "(file)") if part))
    return ", ".join(words) or "the file says nothing"


def _psf_rows(psf: dict[str, Any]) -> list[tuple[str, str]]:
    """Return one row, or one a channel where the channels differ."""
    found = psf.get("per_channel", [psf.get("error", "")])
    if len(set(found)) == 1:
        return [("PSF", found[0])]
    return [(f"PSF, channel {number}", text) for number, text in enumerate(found)]


def _provenance_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    found = record["provenance"]
    if not found:
        return [("made by", "not by zenhance")]
    if "error" in found:
        return [("made by", found["error"])]
    made = found["record"]
    rows = [
        ("made by", f"zenhance {made['version']}, {made['created']}, from {made['input_name']}"),
        ("device", f"{made['device']}, {made['seconds']:.3g} s"),
        *(("warning", text) for text in made["warnings"]),
        ("for a paper", found["methods_paragraph"]),
    ]
    return rows


def info_table(record: dict[str, Any]) -> Table:
    """Return the record as a table for people."""
    from rich.markup import escape

    stored = format_bytes(record["file_bytes"])
    decoded = format_bytes(record["decoded_bytes"])
    rows = [
        ("file", record["path"]),
        ("format", f"{record['format']}, {stored} on disk, {decoded} in memory"),
        ("axes", _axes_text(record)),
        ("shape", " × ".join(str(n) for n in record["shape"])),
        ("pixels", record["dtype"]),
        ("voxel size", _voxel_text(record)),
        ("channels", ", ".join(record["channels"]) or "not named"),
        ("image", _image_text(record)),
        *(("note", text) for text in record["notes"]),
        ("optics", _optics_text(record)),
        *_psf_rows(record["psf"]),
        *_profile_rows(record.get("profile", [])),
        *_provenance_rows(record),
    ]
    return facts_table((name, escape(value)) for name, value in rows)


def _profile_rows(profiles: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the measured microscope, one line a number and a doubt."""
    rows = []
    for channel, profile in enumerate(profiles):
        title = "profile" if len(profiles) == 1 else f"profile, channel {channel}"
        rows += [(title, text) for text in profile["words"]]
    return rows


def _axes_text(record: dict[str, Any]) -> str:
    """Return the axes, and how a run reads those that the file does not name."""
    from zenhance.provenance import SAMPLES_AXIS, sample_count

    axes = " ".join(record["axes"])
    if "?" in record["axes"]:
        read_as = record["read_as"]
        if read_as is None:
            return f"{axes}   (the file does not name ?; give --axes)"
        return f"{axes}   (the file does not name ?; read as {read_as} unless --axes is given)"
    samples = sample_count(record["provenance"].get("record"))
    if samples and SAMPLES_AXIS in record["axes"]:
        axes += f"   ({SAMPLES_AXIS} is not time: {samples} samples)"
    return axes


def _image_text(record: dict[str, Any]) -> str:
    """Return which image of the file this is."""
    if record["series"] == 1:
        return "the only one in the file"
    names = record["series_names"]
    called = f' "{names[record["image"]]}"' if names else ""
    return f"{record['image'] + 1}{called} of {record['series']}; choose one with --series, from 0"
