"""``zenhance info``: what a file says about itself, which PSF would be used, and how it was made if zenhance made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenhance.errors import ZenhanceError
from zenhance.pipeline.methods_paragraph import methods_paragraph
from zenhance.provenance import METADATA_KEY, SAMPLES_AXIS, Provenance, sample_count

if TYPE_CHECKING:
    from rich.table import Table

    from zenhance.io import ImageInfo

__all__ = ["info_record", "info_table"]

OPTICS = {
    "modality": "",
    "na": "",
    "refractive_index": "",
    "excitation_nm": "nm",
    "emission_nm": "nm",
    "pinhole_au": "AU",
}
"""What readers look for in a file, and its unit."""


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

    info = inspect_image(path, series=series)
    voxel = zip("zyx", info.voxel_size.zyx_um, info.voxel_size.origins, strict=True)
    return {
        "path": str(path),
        "format": info.format,
        "axes": info.axes,
        "shape": list(info.shape),
        "dtype": str(info.dtype),
        "voxel_size_um": {
            axis: {"value": value, "origin": origin} for axis, value, origin in voxel
        },
        "origin_um": info.origin_um,
        "channels": list(info.channel_names),
        "series": info.series,
        "file_bytes": info.file_bytes,
        "decoded_bytes": info.decoded_bytes,
        "optics": {
            key: {"value": info.metadata.get(key), "unit": unit} for key, unit in OPTICS.items()
        },
        "psf": _psf(info),
        "provenance": _provenance(info),
        "metadata_keys": sorted(str(key) for key in info.metadata if key != METADATA_KEY),
    }


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"


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
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    axes = " ".join(record["axes"]) + (
        "   (? is not named by the file; give --axes)" if "?" in record["axes"] else ""
    )
    samples = sample_count(record["provenance"].get("record"))
    if samples and SAMPLES_AXIS in record["axes"]:
        axes += f"   ({SAMPLES_AXIS} is no time: {samples} samples)"
    rows = [
        ("file", record["path"]),
        (
            "format",
            f"{record['format']}, {_size(record['file_bytes'])} on disk, {_size(record['decoded_bytes'])} in memory",
        ),
        ("axes", axes),
        ("shape", " × ".join(str(n) for n in record["shape"])),
        ("pixels", record["dtype"]),
        ("voxel size", _voxel_text(record)),
        ("channels", ", ".join(record["channels"]) or "not named"),
        (
            "images",
            f"{record['series']}" + ("; choose one with --series" if record["series"] > 1 else ""),
        ),
        ("optics", _optics_text(record)),
        *_psf_rows(record["psf"]),
        *_provenance_rows(record),
    ]
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column("what", style="bold", no_wrap=True)
    table.add_column("value", overflow="fold")
    for what, value in rows:
        table.add_row(what, escape(value))
    return table
