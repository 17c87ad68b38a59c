"""Find the images in a folder, and the names of files without their suffix."""

from __future__ import annotations

import re
from pathlib import Path

from zenhance.errors import ReadError
from zenhance.io.limits import MAX_XML_BYTES, open_regular, read_bounded
from zenhance.io.tiff_scan import first_description

__all__ = [
    "IMAGE_SUFFIXES",
    "MAGIC",
    "OUTPUT_SUFFIXES",
    "images_in",
    "is_image_folder",
    "left_out",
    "numbered",
    "stem",
]

# Which module reads what begins how; the extension is never believed.
MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"II*\0", "tiff", "read_tiff"),
    (b"MM\0*", "tiff", "read_tiff"),
    (b"II+\0", "tiff", "read_tiff"),
    (b"MM\0+", "tiff", "read_tiff"),
    (b"ZISRAWFILE", "czi", "read_czi"),
    (b"p\0\0\0", "vendor", "read_lif"),
    (b"\xda\xce\xbe\x0a", "vendor", "read_nd2"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "vendor", "read_oib"),
    (b"\x89HDF\r\n\x1a\n", "hdf", "read_hdf"),
    (b"#INRIMAGE-4#{", "inr", "read_inr"),
    (b"\x1f\x8b", "inr", "read_inr"),
    (b"\x89PNG\r\n\x1a\n", "picture", "read_picture"),
    (b"\xff\xd8\xff", "picture", "read_picture"),
)
MIN_SLICES = 3

OUTPUT_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.zarr", ".tif", ".tiff", ".h5")
# What a folder given as input is searched for.
FOLDER_SUFFIXES = (".ome.zarr",)
IMAGE_SUFFIXES = (
    *OUTPUT_SUFFIXES,
    ".ims",
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
    ".hdf5",
    ".inr",
    ".inr.gz",
    ".png",
    ".jpg",
    ".jpeg",
)


def stem(path: Path) -> str:
    """Return a file's name without its suffix; ``.ome.tif`` counts as one suffix."""
    if path.name.lower().endswith(".zarr") and not path.name.lower().endswith(".ome.zarr"):
        return path.stem
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_image_folder(path: Path) -> bool:
    """Tell whether a folder is itself an image (OME-Zarr)."""
    return path.suffix.lower() == ".zarr" or _is_zarr(path)


def _is_zarr(path: Path) -> bool:
    return any((path / mark).exists() for mark in (".zattrs", ".zgroup", ".zarray", "zarr.json"))


def _is_wanted(path: Path) -> bool:
    """Tell whether something in a folder is an image: files by their name, folders by content."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return _is_zarr(path)
    name = path.name.lower()
    if "." not in name:
        return _begins_like_an_image(path)
    return name.endswith(IMAGE_SUFFIXES) and not name.endswith(FOLDER_SUFFIXES)


def _begins_like_an_image(path: Path) -> bool:
    """Tell by its first bytes whether a file without a suffix is an image."""
    try:
        with open_regular(path) as handle:
            head = handle.read(16)
    except ReadError:
        return False
    return any(head.startswith(magic) for magic, _, _ in MAGIC)


def _ome_parts(path: Path) -> list[str]:
    """Return the files that an OME-TIFF says belong together, or nothing."""
    # Imported here: ``zenhance --help`` must load no numpy.
    from zenhance.io.ome_xml import file_names, metadata_file, outside_names

    try:
        text = first_description(path)
        pointer = metadata_file(text)
        if pointer is not None:
            if outside_names(text):
                return []
            place = path.with_name(pointer)
            is_tiff = pointer.lower().endswith((".tif", ".tiff"))
            text = (
                first_description(place)
                if is_tiff
                else read_bounded(place, MAX_XML_BYTES).decode("utf-8", "replace")
            )
        return [] if outside_names(text) else file_names(text)
    except (ReadError, OSError):
        return []


def _without_parts(files: list[Path]) -> list[Path]:
    """Keep the first file of each image that consists of several OME-TIFF files."""
    kept: list[Path] = []
    taken: set[str] = set()
    for path in files:
        if path.name in taken:
            continue
        kept.append(path)
        taken.update(_parts_of(path))
    return kept


def _parts_of(path: Path) -> list[str]:
    is_ome_tiff = path.name.lower().endswith((".ome.tif", ".ome.tiff")) and path.is_file()
    return _ome_parts(path) if is_ome_tiff else []


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder, by name; hidden files are left out.

    An image that consists of several OME-TIFF files is listed once, by its first file. A folder
    of numbered slices is one image, which is listed as the folder itself.

    Raises
    ------
    ReadError
        There is none.
    """
    found = [p for p in sorted(folder.iterdir()) if _is_wanted(p)]
    if not found:
        raise ReadError(
            folder,
            "the folder holds no image; give a file, or a folder with TIFF, OME-Zarr or "
            "microscope files",
        )
    return [folder] if numbered(found) else _without_parts(found)


def left_out(folder: Path) -> dict[Path, str]:
    """Return the visible files in a folder that are not listed as images, and why."""
    found = [p for p in sorted(folder.iterdir()) if _is_wanted(p)]
    why = {
        path: _why_left_out(path)
        for path in sorted(folder.iterdir())
        if path not in found and not path.name.startswith(".")
    }
    if numbered(found):
        return why
    owners = {name: path.name for path in _without_parts(found) for name in _parts_of(path)}
    for path in found:
        if owners.get(path.name, path.name) != path.name:
            why[path] = f"a part of {owners[path.name]}"
    return why


def _why_left_out(path: Path) -> str:
    if path.is_dir():
        return "a folder, give it by itself"
    if "." not in path.name:
        return "no image by its first bytes"
    return f'"{path.suffix}" is not the name of an image, give the file by itself to try it'


def numbered(files: list[Path]) -> str | None:
    """Tell whether files are the slices of one stack, by their names.

    At least three single-page TIFFs of one size whose names differ in one number only, which has
    as many digits in each and leaves no gap.

    Returns
    -------
    str or None
        The axis that the number counts: C or T if a letter c or t (or ch, time) stands before it,
        else Z.
    """
    if len(files) < MIN_SLICES or not all(
        p.name.lower().endswith((".tif", ".tiff")) and p.is_file() for p in files
    ):
        return None
    parts = [re.split(r"(\d+)", p.name) for p in files]
    if len({len(p) for p in parts}) > 1:
        return None
    varying = [i for i in range(len(parts[0])) if len({p[i] for p in parts}) > 1]
    if len(varying) != 1 or not varying[0] % 2:
        return None
    texts = [p[varying[0]] for p in parts]
    counts = sorted(int(t) for t in texts)
    gapless = counts == list(range(counts[0], counts[0] + len(counts)))
    if not gapless or len({len(t) for t in texts}) > 1 or len(texts[0]) < 2:
        return None
    before = re.search(r"([a-z]*)[ _.-]*$", parts[0][varying[0] - 1].lower())
    word = before.group(1) if before else ""
    return {"t": "T", "time": "T", "c": "C", "ch": "C", "channel": "C"}.get(word, "Z")
