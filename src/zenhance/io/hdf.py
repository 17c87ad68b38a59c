"""Open image datasets in HDF5 files, as PlantSeg and ilastik write them (needs h5py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zenhance.errors import ReadError
from zenhance.io.limits import check_claim
from zenhance.io.source import GuardedArray, Source
from zenhance.io.units import plausible_um
from zenhance.io.vendor import library

__all__ = ["read_hdf"]

MAX_NODES = 10_000
_PREFERRED = ("raw", "data", "exported_data", "image")


def _datasets(path: Path, group: Any, h5py: Any, found: dict[str, Any], depth: int = 0) -> None:
    """Collect image datasets, following neither soft nor external links."""
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or depth > 20:
            continue
        node = group[name]
        if isinstance(node, h5py.Group):
            _datasets(path, node, h5py, found, depth + 1)
        elif (
            isinstance(node, h5py.Dataset)
            and 2 <= node.ndim <= 5
            and node.dtype.kind in "buif"
            and min(node.shape) > 0
        ):
            found[node.name] = node
        if len(found) > MAX_NODES:
            raise ReadError(
                path, f"it holds more than {MAX_NODES} datasets; save the one you want as TIFF"
            )


def read_hdf(path: Path, series: int = 0) -> Source:
    """Open one dataset of an HDF5 file; no pixel is read.

    Datasets called ``raw``, ``data``, ``exported_data`` or ``image`` come first, then the others by name. ``element_size_um`` gives the
    voxel size as (z, y, x).

    Raises
    ------
    ReadError
        h5py is missing, or there is no image dataset, or its pixels lie in another file.
    """
    h5py = library(path, "h5py", "HDF5")
    file = h5py.File(path, "r")
    try:
        found: dict[str, Any] = {}
        _datasets(path, file, h5py, found)
        order = sorted(found, key=lambda n: (n.strip("/") not in _PREFERRED, n))
        if not order:
            raise ReadError(
                path, "it holds no dataset that could be an image; save the image as TIFF"
            )
        if not 0 <= series < len(order):
            raise ReadError(
                path,
                f"series {series} asked for, but it holds series 0 to {len(order) - 1}: {', '.join(order)[:80]}",
            )
        chosen = found[order[series]]
        if chosen.external or chosen.is_virtual:
            raise ReadError(
                path, f'the pixels of "{chosen.name}" lie in another file; save them as TIFF'
            )
        check_claim(path, chosen.nbytes, path.stat().st_size)
        sizes = np.ravel(chosen.attrs.get("element_size_um", ()))[-3:]
        voxel_um = [None] * (3 - len(sizes)) + [plausible_um(v) for v in sizes]
    except BaseException:
        file.close()
        raise
    axes = "?" * (chosen.ndim - 2) + "YX"
    return Source(
        GuardedArray(path, chosen),
        axes,
        "HDF5",
        (voxel_um[0], voxel_um[1], voxel_um[2]),
        series=len(order),
    )
