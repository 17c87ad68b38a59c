"""Write a Stack in the format that the file name asks for, and check what was written."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zenhance.errors import FailureKind, ReadError, WriteError
from zenhance.io.commit import commit
from zenhance.io.open import open_stack
from zenhance.io.write_tiff import hash_planes, plane_count
from zenhance.lazy_view import select
from zenhance.provenance import METADATA_KEY, Provenance
from zenhance.stack import Stack

__all__ = ["verify_image", "write_stack"]

_ENDINGS = (
    (".ome.tif", "ome"),
    (".ome.tiff", "ome"),
    (".ome.zarr", "zarr"),
    (".tif", "imagej"),
    (".tiff", "imagej"),
    (".h5", "hdf"),
)
_VOXEL_TOLERANCE = 1e-6


def _format_of(path: Path) -> str:
    for ending, name in _ENDINGS:
        if path.name.lower().endswith(ending) and not path.name.startswith("."):
            return name
    raise WriteError(
        f'the format of "{path.name}" is not known; end the name in .ome.tif, .tif, .ome.zarr '
        "or .h5",
        FailureKind.BAD_PARAMETER,
    )


def _provenance_text(stack: Stack, given: Provenance | str | None) -> str | None:
    """Return the record as JSON in ASCII, which survives every container."""
    if given is None:
        return _own_provenance(stack.metadata.get(METADATA_KEY))
    text = given.to_json() if isinstance(given, Provenance) else given
    try:
        return json.dumps(json.loads(text))
    except ValueError as error:
        raise WriteError(
            f"the provenance is not JSON ({str(error)[:80]}); nothing was written",
            FailureKind.BAD_PARAMETER,
        ) from error


def _own_provenance(record: Any) -> str | None:
    """Return a stack's record unchanged; a later version may have written more into it."""
    try:
        if isinstance(record, Provenance):
            record = record.to_json()
        if isinstance(record, Mapping):
            return json.dumps(record)
        return json.dumps(json.loads(record)) if isinstance(record, str) else None
    except (ValueError, TypeError) as error:
        warnings.warn(
            f"the provenance record cannot be read ({str(error)[:80]}) and is left out of the file",
            UserWarning,
            stacklevel=4,
        )
        return None


def _same_length(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is None and b is None
    return math.isclose(a, b, rel_tol=_VOXEL_TOLERANCE)


def _compare(
    path: Path,
    stack: Stack,
    final: Path,
    provenance: str | None,
    *,
    channels_inside: bool,
    half_known_lost: bool,
) -> None:
    """Reopen a written image and compare everything with the stack it was made from."""

    def differs(what: str, wrote: Any, found: Any) -> WriteError:
        return WriteError(
            f'"{final.name}" did not read back as written ({what}: {wrote} became {found}); what '
            "was there before is unchanged"
        )

    try:
        back = open_stack(path)
        if back.axes != stack.axes or back.shape != stack.shape:
            raise differs("shape", f"{stack.axes} {stack.shape}", f"{back.axes} {back.shape}")
        if back.dtype != stack.dtype.newbyteorder("="):
            raise differs("pixel type", stack.dtype, back.dtype)
        meant = [
            v if a in stack.axes else None
            for a, v in zip("ZYX", stack.voxel_size.zyx_um, strict=True)
        ]
        if half_known_lost and None in meant[1:]:
            meant[1:] = [None, None]
        if not all(_same_length(a, b) for a, b in zip(meant, back.voxel_size.zyx_um, strict=True)):
            raise differs("voxel size", meant, back.voxel_size.zyx_um)
        if back.channel_names != stack.channel_names:
            raise differs("channel names", stack.channel_names, back.channel_names)
        if back.metadata.get(METADATA_KEY) != provenance:
            raise differs("provenance", "a record", "another")
        damaged = _damaged_planes(back, channels_inside=channels_inside)
        if damaged:
            raise differs(
                "pixels",
                f"{plane_count(back)} planes",
                f"{plane_count(back) - len(damaged)} good ones",
            )
    except ReadError as error:
        raise WriteError(
            f'"{final.name}" could not be read back ({error.reason[:120]}); what was there before '
            "is unchanged"
        ) from error


def _damaged_planes(stack: Stack, *, channels_inside: bool) -> list[int]:
    """Return the planes, by number, whose pixels do not match the checksums of the file."""
    recorded = list(stack.metadata.get("sha256", ()))
    found = hash_planes(stack, channels_inside=channels_inside)
    if len(recorded) != len(found):
        return list(range(max(len(recorded), len(found))))
    return [i for i, (a, b) in enumerate(zip(recorded, found, strict=True)) if a != b]


def write_stack(
    path: str | Path,
    stack: Stack,
    *,
    overwrite: bool = False,
    source: str | Path | Iterable[str | Path] | None = None,
    provenance: Provenance | str | None = None,
    compression: Literal["auto", "zlib", "none"] = "auto",
) -> Path:
    """Write a stack; the name's ending chooses the format.

    ``.ome.tif`` gives OME-TIFF, ``.tif`` an ImageJ hyperstack (also for MorphoGraphX),
    ``.ome.zarr`` OME-Zarr 0.5 with a pyramid, ``.h5`` HDF5 for PlantSeg and PanSeg. The file
    appears under its name only when it is whole and has been read back; voxel size (to 1e-6),
    unknown lengths, axes, dtype, channel names and provenance are kept.

    Parameters
    ----------
    path : str or Path
        The result's name.
    stack : Stack
        Read in slabs, never as a whole.
    overwrite : bool
        Replace an existing file, or an image folder that this program wrote.
    source : str or Path, or several, optional
        The inputs that must not be overwritten; the stack's own path is always protected.
    provenance : Provenance or str, optional
        Kept in the file; left out, the stack's own record is.
    compression : {'auto', 'zlib', 'none'}
        For OME-TIFF.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    WriteError, OutputExistsError, BusyError
        Nothing was changed; the text says why.
    """
    path = Path(path)
    kind = _format_of(path)
    text = _provenance_text(stack, provenance)
    if stack.voxel_size.z_um is not None and "Z" not in stack.axes:
        # A plane has no depth; the number would come back as unknown.
        y_um, x_um = stack.voxel_size.y_um, stack.voxel_size.x_um
        stack = replace(
            stack,
            voxel_size=type(stack.voxel_size)(
                None, y_um, x_um, ("unknown", *stack.voxel_size.origins[1:])
            ),
        )
    if kind == "hdf":
        stack = _plain_volume(stack)
    write, needed, foreign = _writer(kind, stack, text, compression)
    given = (source,) if source is None or isinstance(source, str | Path) else tuple(source)
    sources = [Path(p) for p in (*given, stack.path, *_parts(stack.metadata)) if p is not None]
    inside = kind == "imagej"
    return commit(
        path,
        write,
        verify=lambda partial: _compare(
            partial, stack, path, text, channels_inside=inside, half_known_lost=inside
        ),
        needed_bytes=needed,
        folder=kind == "zarr",
        overwrite=overwrite,
        sources=[p for p in sources if p.exists()],
        foreign=foreign,
    )


def _plain_volume(stack: Stack) -> Stack:
    """Take axes of length 1 away that a segmentation program would take for channels."""
    if stack.axes.startswith("T") and stack.size("T") == 1:
        stack = replace(stack, data=select(stack.data, (0,)), axes=stack.axes[1:])
    return stack.pick_channel(0) if stack.size("C") == 1 else stack


def _parts(metadata: Mapping[str, Any]) -> tuple[str | Path, ...]:
    """Return the files that an image of several files consists of."""
    parts = metadata.get("parts") or ()
    return (parts,) if isinstance(parts, str | Path) else tuple(parts)


def _writer(
    kind: str, stack: Stack, text: str | None, compression: str
) -> tuple[Callable[[Path], None], int, Callable[[Path], str | None]]:
    """Return a function that writes, an upper bound of its bytes, and names of foreign files."""
    total = int(np.prod(stack.shape, dtype=np.int64)) * stack.dtype.itemsize
    # A directory and a checksum for each plane, and metadata.
    total += plane_count(stack) * 600 + len(text or "") * 2 + 10_000
    if kind == "zarr":
        from zenhance.io.write_zarr import foreign_in_store, write_ome_zarr

        return lambda p: write_ome_zarr(p, stack, text), total * 3 // 2, foreign_in_store
    if kind == "hdf":
        from zenhance.io.write_hdf import check_hdf, write_hdf

        check_hdf(stack)
        return lambda p: write_hdf(p, stack, text), total, lambda _: ""
    from zenhance.io.write_tiff import check_imagej, write_imagej_tiff, write_ome_tiff

    if kind == "imagej":
        check_imagej(stack)
        return lambda p: write_imagej_tiff(p, stack, text), total, lambda _: ""
    return lambda p: write_ome_tiff(p, stack, text, compression), total, lambda _: ""


def verify_image(path: str | Path) -> int:
    """Check every plane of an image that zenhance wrote against the checksums written with it.

    Parameters
    ----------
    path : str or Path
        OME-TIFF, ImageJ TIFF or OME-Zarr.

    Returns
    -------
    int
        How many planes were checked, all of them sound.

    Raises
    ------
    ReadError
        The image is damaged, was changed after it was written, or carries no checksums.
    """
    stack = open_stack(path)
    metadata: Mapping[str, Any] = stack.metadata
    if not metadata.get("sha256"):
        raise ReadError(
            path,
            "it carries no checksums, as only images written by zenhance do; it cannot be verified",
        )
    damaged = _damaged_planes(stack, channels_inside=metadata.get("format") == "ImageJ TIFF")
    if damaged:
        raise ReadError(
            path,
            f"{len(damaged)} of its {plane_count(stack)} planes changed after it was written, "
            f"the first is plane {damaged[0] + 1}",
        )
    return plane_count(stack)
