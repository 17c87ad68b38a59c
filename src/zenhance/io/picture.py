"""Open PNG and JPEG pictures as 2-D images; they carry no voxel size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.limits import check_claim
from zenhance.io.source import LazyArray, Source

__all__ = ["read_picture"]

_MODES = {
    "L": (1, "u1"),
    "I;16": (1, "u2"),
    "I": (1, "i4"),
    "F": (1, "f4"),
    "1": (1, "?"),
    "RGB": (3, "u1"),
    "RGBA": (4, "u1"),
}
_COLOURS = ("red", "green", "blue", "alpha")


def read_picture(path: Path, series: int = 0) -> Source:
    """Open a picture; pixels are decoded at first use.

    Raises
    ------
    ReadError
        The picture is damaged, claims too many pixels, or has 16-bit colours, which the library
        would cut to 8 bits.
    """
    from PIL import Image

    if series != 0:
        raise ReadError(path, f"series {series} was requested, but it holds series 0 to 0")
    with path.open("rb") as handle:
        head = handle.read(26)
    if head.startswith(b"\x89PNG") and len(head) == 26 and head[24] == 16 and head[25] in (2, 4, 6):
        raise ReadError(
            path, "it is a PNG with 16-bit colours; save it as TIFF, so that no bits are lost"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as picture:
            mode, (width, height) = picture.mode, picture.size
    if mode in ("P", "LA", "PA", "CMYK", "YCbCr"):
        mode = "L" if mode == "LA" else "RGB"
    if mode not in _MODES:
        raise ReadError(
            path, f'its pixels are of the kind "{mode}"; save it as 8-bit or 16-bit TIFF'
        )
    samples, code = _MODES[mode]
    check_claim(path, width * height * samples * np.dtype(code).itemsize, path.stat().st_size)

    def read(_: int) -> npt.NDArray[Any]:
        with Image.open(path) as opened:
            return np.asarray(opened if opened.mode == mode else opened.convert(mode))

    block = (height, width) if samples == 1 else (height, width, samples)
    return Source(
        LazyArray(path, (), block, code, read),
        "YX" if samples == 1 else "YXC",
        "picture",
        channel_names=_COLOURS[:samples] if samples > 1 else (),
    )
