"""Open OME-Zarr images (NGFF 0.4 and 0.5) lazily, the highest resolution that is there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from zenhance.errors import ReadError
from zenhance.io.limits import check_claim, memory_bytes
from zenhance.io.source import Source, pick_series
from zenhance.io.units import plausible_um
from zenhance.io.zarr_chunks import CheckedArray, chunk_files, links_in, missing_chunks
from zenhance.io.zarr_meta import (
    ArrayMeta,
    Multiscale,
    array_meta,
    attributes,
    inside,
    load_json,
    multiscale,
)

__all__ = ["OWN_KEY", "read_zarr"]

OWN_KEY = "zenhance"
MAX_IMAGES = 10_000
_LIGHT = (
    "na",
    "refractive_index",
    "excitation_nm",
    "emission_nm",
    "pinhole_au",
    "modality",
    "time_step_s",
)


def _image_nodes(path: Path) -> list[str]:
    """Return the names of the groups that hold the images of a store; one empty name for itself.

    A plate holds an image for each field of each well, a collection (bioformats2raw) several.

    Raises
    ------
    ReadError
        The folder holds no image.
    """
    ngff, everything = attributes(path, path)
    if "plate" in ngff:
        return _plate_fields(path, ngff["plate"])
    if "well" in ngff:
        return _paths(path, ngff["well"], "images")
    if "multiscales" in ngff:
        return [""]
    if "bioformats2raw.layout" in ngff or "bioformats2raw.layout" in everything:
        numbers = sorted(int(p.name) for p in path.iterdir() if p.name.isdecimal())
        if not numbers:
            raise ReadError(path, "it is a collection of images that holds none; copy it again")
        return [str(n) for n in numbers]
    if (path / ".zarray").is_file() or (
        (path / "zarr.json").is_file()
        and load_json(path, path / "zarr.json").get("node_type") == "array"
    ):
        return []
    raise ReadError(
        path,
        "it is a zarr folder without image metadata; open the folder whose metadata say "
        "multiscales",
    )


def _paths(path: Path, record: Any, key: str) -> list[str]:
    """Return the ``path`` of each entry of a list in a plate's or a well's metadata."""
    entries = record.get(key) if isinstance(record, dict) else None
    found = [
        str(e["path"])
        for e in entries or ()
        if isinstance(e, dict) and isinstance(e.get("path"), str)
    ]
    if not found or len(found) > MAX_IMAGES:
        raise ReadError(path, f"its metadata name {len(found)} {key}; copy it again")
    return found


def _plate_fields(path: Path, plate: Any) -> list[str]:
    names: list[str] = []
    for well in _paths(path, plate, "wells"):
        ngff = attributes(path, inside(path, well))[0]
        names += [f"{well}/{field}" for field in _paths(path, ngff.get("well"), "images")]
        if len(names) > MAX_IMAGES:
            raise ReadError(path, f"it holds more than {MAX_IMAGES} images; open a well of it")
    return names


def _bare(path: Path) -> Multiscale:
    """Describe an array that comes without NGFF metadata."""
    meta = array_meta(path, path)
    names = [str(n).upper() for n in meta.dimension_names] or ["?"] * len(meta.shape)
    letters = "".join(n if n in ("T", "C", "Z", "Y", "X") else "?" for n in names)
    if "?" in letters and len(letters) in (2, 3):
        letters = "?YX"[-len(letters) :]
    return Multiscale(path, letters, (None,) * 3, (None,) * 3, ())


def _own(everything: dict[str, Any]) -> dict[str, Any]:
    """Return what our own writer left in the attributes."""
    record = everything.get(OWN_KEY)
    if not isinstance(record, dict):
        return {}
    found = {k: record[k] for k in _LIGHT if k in record}
    if isinstance(record.get("sha256"), list):
        found["sha256"] = tuple(str(h) for h in record["sha256"])
    if isinstance(record.get("provenance"), str):
        found["zenhance"] = record["provenance"]
    return found


def _notes(path: Path, image: Multiscale, meta: ArrayMeta, *, own: bool) -> tuple[str, ...]:
    """Return what is missing or odd in a store.

    Raises
    ------
    ReadError
        There is no chunk at all, or one or a level is missing that this program wrote.
    """
    notes = []
    if image.missing_level is not None:
        if own:
            raise ReadError(
                path,
                f'its finest level "{image.missing_level[:40]}" is missing; copy it again or '
                "repeat the run",
            )
        notes.append(
            f'its finest level "{image.missing_level[:40]}" is missing, so that level '
            f'"{image.level.name}" is read, which is coarser'
        )
    files = chunk_files(image.level)
    total = math.prod(meta.grid)
    lost = missing_chunks(meta, files)
    if lost == total or (own and lost):
        which = "all" if lost == total else str(lost)
        raise ReadError(
            path,
            f"{which} of its {total} chunks are missing, which would read as black; copy it again "
            "or repeat the run",
        )
    if lost:
        notes.append(f"{lost} of its {total} chunks are missing and read as the fill value")
    links = links_in(path)
    if links:
        notes.append(f"{len(links)} links inside it lead elsewhere, the first is {links[0].name}")
    return tuple(notes)


def read_zarr(path: Path, series: int = 0) -> Source:
    """Open an OME-Zarr folder; no chunk is decoded.

    Parameters
    ----------
    path : Path
        A folder with ``zarr.json``, ``.zgroup`` or ``.zarray``.
    series : int
        Which image of a bioformats2raw collection.

    Raises
    ------
    ReadError
        Metadata are damaged or lead outside, a chunk is a bomb, or one that this program wrote is
        missing.
    """
    import zarr

    nodes = _image_nodes(path)
    count = max(len(nodes), 1)
    chosen = pick_series(path, series, count, nodes if count > 1 else ())
    node = inside(path, nodes[chosen]) if nodes and nodes[chosen] else path
    ngff, everything = attributes(path, node)
    image = multiscale(path, node, ngff) if nodes else _bare(path)
    meta = array_meta(path, image.level)
    claimed = math.prod(meta.shape) * meta.item_bytes
    if claimed > memory_bytes():
        check_claim(path, claimed, sum(chunk_files(image.level).values()))
    metadata = _own(everything)
    if image.time_step_s is not None:
        metadata["time_step_s"] = image.time_step_s
    notes = _notes(path, image, meta, own=OWN_KEY in everything)
    if notes:
        metadata["warnings"] = notes
    array = zarr.open_array(store=str(image.level), mode="r")
    names = image.channel_names
    version = ngff.get("version") or (ngff.get("multiscales") or [{}])[0].get("version") or ""
    return Source(
        CheckedArray(path, image.level, array, meta),
        image.axes,
        f"OME-Zarr {version}".strip(),
        (
            plausible_um(image.voxel_um[0]),
            plausible_um(image.voxel_um[1]),
            plausible_um(image.voxel_um[2]),
        ),
        image.origin_um,
        names,
        metadata,
        count,
        tuple(nodes) if count > 1 else (),
    )
