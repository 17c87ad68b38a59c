"""Write OME-Zarr 0.5 (zarr 3) with a pyramid; each chunk has a checksum.

::

    NAME.ome.zarr/0/c/t/c/z/y/x     full resolution, then 1, 2, ... each half as wide
    NAME.ome.zarr/zarr.json         written when all chunks are there
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError, WriteError
from zenhance.io import commit
from zenhance.io.limits import read_bounded
from zenhance.io.zarr_meta import LIGHT_KEYS, array_meta, load_json
from zenhance.io.zarr_store import OWN_KEY
from zenhance.provenance import hash_array
from zenhance.stack import Stack
from zenhance.types import Triple

__all__ = ["create_array", "foreign_in_store", "write_ome_zarr"]

CHUNK_PX = 256
CHUNK_PLANES = 16
SLAB_BYTES = 64 * 2**20
SMALLEST_PX = 256
MAX_METADATA_BYTES = 2**20
_AXIS_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


def foreign_in_store(path: Path) -> str | None:
    """Name the first thing in a folder that this program did not write there.

    Only the group's ``zarr.json``, the levels that it lists, as they were written, and chunks of
    their grids count as ours.

    Returns
    -------
    str or None
        None if the folder is an image of ours and nothing else; an empty text if it is no image of
        ours at all; else the path of a foreign file, link or folder in it.
    """
    try:
        attributes = load_json(path, path / "zarr.json")["attributes"]
        record, ome = attributes[OWN_KEY], attributes["ome"]
        levels = [str(level["path"]) for level in ome["multiscales"][0]["datasets"]]
        digests = record.get("levels") or {}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ""
    if not all(re.fullmatch(r"\d{1,3}", name) for name in levels):
        return ""
    added = sorted(set(attributes) - {OWN_KEY, "ome"})
    if added:
        return f"zarr.json: {added[0]}"
    grids: dict[str, tuple[int, ...]] = {}
    for name in levels:
        if digests and digests.get(name) != _digest(path / name):
            return f"{name}/zarr.json"
        try:
            grids[name] = array_meta(path, path / name).grid
        except (OSError, ReadError):
            # A level that was lost is no reason to keep the rest.
            grids[name] = ()
    return next((p for p in _walk(path) if not _is_ours(p, grids)), None)


def _digest(node: Path) -> str:
    """Return the sha256 of a level's metadata; empty where there are none."""
    file = node / "zarr.json"
    if file.is_symlink() or not file.is_file():
        return ""
    return hashlib.sha256(read_bounded(file, MAX_METADATA_BYTES)).hexdigest()


def _walk(root: Path) -> Iterator[str]:
    """Yield everything in a folder, by path; links are not followed, folders end in a slash."""
    with os.scandir(root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield f"{entry.name}/"
            yield from (f"{entry.name}/{name}" for name in _walk(Path(entry.path)))
        else:
            yield entry.name if entry.is_file(follow_symlinks=False) else f"{entry.name}@"


def _is_ours(name: str, grids: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether a path in a store is metadata or a chunk of a level with this grid."""
    parts = name.rstrip("/").split("/")
    if name in ("zarr.json", f"{parts[0]}/", f"{parts[0]}/zarr.json"):
        return name == "zarr.json" or parts[0] in grids
    if len(parts) < 2:
        return False
    grid, place = grids.get(parts[0], ()), parts[2:]
    inside = all(
        i.isdecimal() and str(int(i)) == i and int(i) < n for i, n in zip(place, grid, strict=False)
    )
    whole = len(place) < len(grid) if name.endswith("/") else len(place) == len(grid) > 0
    return parts[1] == "c" and inside and whole


def _chunks(stack_axes: str, shape: tuple[int, ...], item_bytes: int) -> tuple[int, ...]:
    plane_bytes = shape[-1] * shape[-2] * item_bytes
    planes = max(1, min(CHUNK_PLANES, SLAB_BYTES // max(plane_bytes, 1)))
    wanted = {"T": 1, "C": 1, "Z": planes, "Y": CHUNK_PX, "X": CHUNK_PX}
    return tuple(min(wanted[a], n) for a, n in zip(stack_axes, shape, strict=True))


def create_array(
    folder: Path,
    axes: str,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    chunks: tuple[int, ...] | None = None,
) -> Any:
    """Make a zarr array whose chunks carry checksums; without ``chunks``, they suit viewers."""
    import zarr
    from zarr.codecs import ZstdCodec

    return zarr.create_array(
        store=str(folder),
        shape=shape,
        chunks=chunks or _chunks(axes, shape, np.dtype(dtype).itemsize),
        dtype=np.dtype(dtype),
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=[a.lower() for a in axes],
        fill_value=False if np.dtype(dtype).kind == "b" else 0,
        config={"write_empty_chunks": True},
    )


def _index(axes: str, t: int, c: int, z: slice) -> tuple[Any, ...]:
    picks: dict[str, Any] = {"T": t, "C": c, "Z": z, "Y": slice(None), "X": slice(None)}
    return tuple(picks[a] for a in axes)


def _place(array: Any, axes: str, t: int, c: int, z: slice, block: npt.NDArray[Any]) -> None:
    array[_index(axes, t, c, z)] = block if "Z" in axes else block[0]


def _write_base(folder: Path, stack: Stack) -> list[str]:
    """Write the full resolution in slabs as deep as a chunk; return the sha256 of every plane."""
    shape, axes = stack.shape, stack.axes
    array = create_array(folder, axes, shape, stack.dtype.newbyteorder("="))
    step = array.chunks[axes.index("Z")] if "Z" in axes else 1
    hashes: list[str] = []
    starts = [(t, c, z) for t, c in stack.volumes() for z in range(0, stack.size("Z"), step)]
    for number, (t, c, z) in enumerate(starts):
        if number == len(starts) // 2:
            commit.reach("half")
        part = slice(z, min(z + step, stack.size("Z")))
        block = stack.read(t, c, (part, slice(None), slice(None)))
        hashes += [hash_array(plane) for plane in block]
        _place(array, axes, t, c, part, block)
    return hashes


def shrink(block: npt.NDArray[Any], factors: Triple) -> npt.NDArray[Any]:
    """Average blocks of (z, y, x) factors; integers are rounded, booleans picked."""
    if block.dtype.kind == "b":
        return block[:: factors[0], :: factors[1], :: factors[2]]
    padded = np.pad(
        block, [(0, -n % f) for n, f in zip(block.shape, factors, strict=True)], mode="edge"
    )
    # Sums of eight 16-bit integers are exact in float32.
    exact = np.float32 if block.dtype.itemsize <= 2 or block.dtype == np.float32 else np.float64
    mean: npt.NDArray[Any] = np.zeros(
        [n // f for n, f in zip(padded.shape, factors, strict=True)], exact
    )
    for first in itertools.product(*(range(f) for f in factors)):
        mean += padded[tuple(slice(a, None, f) for a, f in zip(first, factors, strict=True))]
    mean /= np.prod(factors)
    result: npt.NDArray[Any] = (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(
        block.dtype
    )
    return result


def _write_level(source: Any, folder: Path, axes: str, factors: Triple) -> Any:
    """Write the next level of the pyramid from the one before, slab by slab."""
    by_axis = {"T": 1, "C": 1, "Z": factors[0], "Y": factors[1], "X": factors[2]}
    shape = tuple(-(-n // by_axis[a]) for a, n in zip(axes, source.shape, strict=True))
    array = create_array(folder, axes, shape, source.dtype)
    sizes = dict(zip(axes, shape, strict=True))
    depth_before = source.shape[axes.index("Z")] if "Z" in axes else 1
    step = array.chunks[axes.index("Z")] if "Z" in axes else 1
    for t in range(sizes.get("T", 1)):
        for c in range(sizes.get("C", 1)):
            for z in range(0, sizes.get("Z", 1), step):
                part = slice(z, min(z + step, sizes.get("Z", 1)))
                before = slice(part.start * factors[0], min(part.stop * factors[0], depth_before))
                block = np.asarray(source[_index(axes, t, c, before)])
                _place(
                    array,
                    axes,
                    t,
                    c,
                    part,
                    shrink(block if "Z" in axes else block[np.newaxis], factors),
                )
    return array


def _plan_levels(stack: Stack) -> list[Triple]:
    """Return each level's factor: y and x halve, z only while it is about as fine."""
    depth, rows, columns = stack.volume_shape
    z_um, _, x_um = stack.voxel_size.zyx_um
    ratio = z_um / x_um if z_um and x_um else math.inf
    plan: list[Triple] = []
    while max(rows, columns) > SMALLEST_PX:
        factors = (
            2 if ratio < 1.5 and depth > 1 else 1,
            2 if rows > 1 else 1,
            2 if columns > 1 else 1,
        )
        plan.append(factors)
        depth, rows, columns = (
            -(-depth // factors[0]),
            -(-rows // factors[1]),
            -(-columns // factors[2]),
        )
        ratio *= factors[0] / factors[2]
    return plan


def _datasets(stack: Stack, plan: list[Triple]) -> list[dict[str, Any]]:
    """Describe each level: voxel size, and the shift by which its first voxel's centre moved."""
    lengths: dict[str, float] = {
        a: v or 1.0 for a, v in zip("ZYX", stack.voxel_size.zyx_um, strict=True)
    }
    lengths["T"] = float(stack.metadata.get("time_step_s") or 1.0)
    origin = stack.metadata.get("origin_um") or (None, None, None)
    starts = {
        a: float(v) if v is not None and stack.voxel_size.is_known(a) else 0.0
        for a, v in zip("ZYX", origin, strict=True)
    }
    factor = {"Z": 1, "Y": 1, "X": 1}
    described = []
    for level, step in enumerate([(1, 1, 1), *plan]):
        factor = {a: factor[a] * f for a, f in zip("ZYX", step, strict=True)}
        scale = [lengths.get(a, 1.0) * factor.get(a, 1) for a in stack.axes]
        shift = [
            starts.get(a, 0.0) + (factor.get(a, 1) - 1) / 2 * lengths.get(a, 1.0)
            for a in stack.axes
        ]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(shift):
            transforms.append({"type": "translation", "translation": shift})
        described.append({"path": str(level), "coordinateTransformations": transforms})
    return described


def _axes(stack: Stack) -> list[dict[str, str]]:
    """Describe the axes; a length that is unknown has no unit."""
    described = []
    for letter in stack.axes:
        axis = {"name": letter.lower(), "type": _AXIS_TYPES[letter]}
        if letter in "ZYX" and stack.voxel_size.is_known(letter):
            axis["unit"] = "micrometer"
        if letter == "T" and stack.metadata.get("time_step_s"):
            axis["unit"] = "second"
        described.append(axis)
    return described


def write_ome_zarr(path: Path, stack: Stack, provenance: str | None) -> None:
    """Fill an empty folder with an OME-Zarr 0.5 image.

    Parameters
    ----------
    path : Path
        An existing empty folder.
    stack : Stack
        Read in slabs of at most 16 planes.
    provenance : str or None
        JSON.

    Raises
    ------
    WriteError
        The folder is not empty.
    """
    import zarr

    if any(path.iterdir()):
        raise WriteError(f'the folder "{path.name}" is not empty; nothing was written')
    hashes = _write_base(path / "0", stack)
    plan = _plan_levels(stack)
    array = zarr.open_array(store=str(path / "0"), mode="r")
    for level, factors in enumerate(plan, start=1):
        array = _write_level(array, path / str(level), stack.axes, factors)
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": stack.name,
                "axes": _axes(stack),
                "datasets": _datasets(stack, plan),
                "type": "mean",
            }
        ],
    }
    if stack.channel_names:
        ome["omero"] = {
            "channels": [
                {"label": n, "active": True, "color": "FFFFFF"} for n in stack.channel_names
            ]
        }
    own: dict[str, Any] = {
        k: stack.metadata[k] for k in LIGHT_KEYS if stack.metadata.get(k) is not None
    }
    own.update(sha256=hashes, provenance=provenance)
    own["levels"] = {str(level): _digest(path / str(level)) for level in range(len(plan) + 1)}
    content = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome, OWN_KEY: own}}
    (path / "zarr.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
