"""Write HDF5 as PlantSeg and PanSeg read it: one dataset ``raw`` with ``element_size_um``.

Our own record stands in attributes of the file, where other programs do not look.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from zenhance.errors import FailureKind, WriteError
from zenhance.io import commit
from zenhance.io.write_tiff import SLAB_BYTES, hash_planes
from zenhance.stack import Stack

__all__ = ["check_hdf", "write_hdf"]

DATASET = "raw"
CHUNK_PX = 128


def check_hdf(stack: Stack) -> None:
    """Refuse what an HDF5 file of PlantSeg cannot say.

    Raises
    ------
    WriteError
        A length of the voxel is unknown, the image is a time series, or h5py is missing.
    """
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise WriteError(
            'HDF5 files need h5py; install it with pip install "zenhance[io]", or save as .ome.tif'
        ) from error
    if not stack.voxel_size.is_known(stack.spatial_axes):
        raise WriteError(
            "an HDF5 file for PlantSeg holds the voxel size, and a length of it is unknown; give "
            "it with --voxel-size Z,Y,X or set the layer's scale",
            FailureKind.BAD_PARAMETER,
        )
    if stack.size("T") > 1:
        raise WriteError(
            f"an HDF5 file for PlantSeg holds no time series, and this image has {stack.size('T')} "
            "time points; save as .ome.tif or .ome.zarr",
            FailureKind.BAD_PARAMETER,
        )


def write_hdf(path: Path, stack: Stack, provenance: str | None) -> None:
    """Fill an HDF5 file: the dataset ``raw``, compressed by gzip, with axes (C,) (Z,) Y, X.

    Parameters
    ----------
    path : Path
        An existing empty file.
    stack : Stack
        Of known voxel size, without time (see :func:`check_hdf`); read in slabs.
    provenance : str or None
        JSON.
    """
    import h5py

    check_hdf(stack)
    axes = "".join(a for a in stack.axes if a != "T")
    shape = tuple(stack.size(a) for a in axes)
    sizes = dict(zip(axes, shape, strict=True))
    chunks = tuple({"C": 1, "Z": 1}.get(a, min(CHUNK_PX, sizes[a])) for a in axes)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            DATASET, shape, stack.dtype.newbyteorder("="), chunks=chunks, compression="gzip",
            compression_opts=4, shuffle=True,
        )  # fmt: skip
        # A plane has no depth; PlantSeg wants three numbers all the same.
        data.attrs["element_size_um"] = np.array(stack.voxel_size.require(stack.spatial_axes))
        for dimension, axis in zip(data.dims, axes, strict=True):
            dimension.label = axis.lower()
        _fill(data, stack, axes)
        record = {
            "axes": axes,
            "channel_names": list(stack.channel_names),
            "sha256": hash_planes(stack),
            "provenance": provenance,
        }
        file.attrs["zenhance"] = json.dumps(record)


def _fill(data: object, stack: Stack, axes: str) -> None:
    """Copy the pixels in slabs of planes."""
    planes = stack.size("Z")
    step = max(1, SLAB_BYTES // (stack.size("Y") * stack.size("X") * stack.dtype.itemsize))
    whole = slice(None)
    for c in range(stack.size("C")):
        for z in range(0, planes, step):
            part = slice(z, min(z + step, planes))
            block = stack.read(0, c, (part, whole, whole))
            if c == stack.size("C") // 2 and z <= planes // 2 < z + step:
                commit.reach("half")
            at = tuple({"C": c, "Z": part}.get(a, whole) for a in axes)
            data[at] = block if "Z" in axes else block[0]  # type: ignore[index]
