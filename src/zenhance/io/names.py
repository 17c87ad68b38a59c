"""Names of image files: which suffixes are looked for in a folder, and what a file is called without its suffix."""

from __future__ import annotations

from pathlib import Path

from zenhance.errors import ReadError

__all__ = ["IMAGE_SUFFIXES", "OUTPUT_SUFFIXES", "images_in", "is_image_folder", "stem"]

OUTPUT_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.zarr", ".tif", ".tiff")
# What a folder given as input is searched for.
IMAGE_SUFFIXES = (
    *OUTPUT_SUFFIXES,
    ".lsm",
    ".stk",
    ".czi",
    ".lif",
    ".nd2",
    ".oib",
    ".oif",
    ".dv",
    ".r3d",
    ".btf",
    ".tf8",
    ".flex",
    ".h5",
    ".hdf5",
    ".inr",
    ".inr.gz",
    ".png",
    ".jpg",
    ".jpeg",
)


def stem(path: Path) -> str:
    """Return a file's name without its suffix, compound suffixes such as ``.ome.tif`` taken whole."""
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_image_folder(path: Path) -> bool:
    """Tell whether a folder is itself an image (OME-Zarr)."""
    return path.suffix.lower() == ".zarr" or any(
        (path / mark).exists() for mark in (".zattrs", ".zgroup", ".zarray", "zarr.json")
    )


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder, by name; hidden files are left out.

    Raises
    ------
    ReadError
        There is none.
    """
    found = [
        p
        for p in sorted(folder.iterdir())
        if p.name.lower().endswith(IMAGE_SUFFIXES) and not p.name.startswith(".")
    ]
    if not found:
        raise ReadError(
            folder,
            "the folder holds no image; give a file, or a folder with TIFF, OME-Zarr or microscope files",
        )
    return found
