"""Open INRIMAGE-4 volumes (``.inr``, ``.inr.gz``), as OpenAlea and timagetk write them."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.source import LazyArray, Source, pick_series
from zenhance.io.units import number, plausible_um
from zenhance.wording import format_bytes

__all__ = ["read_inr"]

MAGIC = b"#INRIMAGE-4#{"
MAX_HEADER_BYTES = 65_536
TAIL_BYTES = 2**20
# Deflate cannot shrink by more.
MAX_GZIP_RATIO = 1040
# Specimens shrink by less; the volume is decoded as a whole.
MAX_HONEST_RATIO = 100
MAX_UNASKED_BYTES = 256 * 10**6
_LITTLE = ("decm", "alpha", "pc")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb") if packed else path.open("rb"))


def _header(path: Path) -> tuple[dict[str, str], int]:
    with _open(path) as handle:
        text = handle.read(256)
        if not text.startswith(MAGIC):
            raise ReadError(
                path, "it is compressed with gzip and holds no INRIMAGE; unpack it first"
            )
        while b"##}" not in text:
            block = handle.read(256)
            if not block or len(text) > MAX_HEADER_BYTES:
                raise ReadError(path, "its INRIMAGE header has no end; copy it again")
            text += block
    pairs = (line.partition("=") for line in text.decode("latin-1").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}, -(-len(text) // 256) * 256


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype[Any]:
    kind = {"unsigned fixed": "u", "signed fixed": "i", "float": "f"}.get(fields.get("TYPE", ""))
    bits = fields.get("PIXSIZE", "").split(" ")[0]
    if kind is None or bits not in ("8", "16", "32", "64") or (kind == "f" and bits in ("8", "16")):
        raise ReadError(
            path,
            f'its pixels are "{fields.get("TYPE", "")}" of "{fields.get("PIXSIZE", "")}", which '
            "INRIMAGE does not define",
        )
    return np.dtype(
        ("<" if fields.get("CPU", "decm") in _LITTLE else ">") + kind + str(int(bits) // 8)
    )


def read_inr(path: Path, series: int = 0) -> Source:
    """Open an INRIMAGE; pixels are decoded at first use.

    Raises
    ------
    ReadError
        The header is damaged, or claims more than the file can hold.
    """
    pick_series(path, series, 1)
    fields, offset = _header(path)
    shape, dtype = _sizes(path, fields), _dtype(path, fields)
    needed = math.prod(shape) * dtype.itemsize
    _check_growth(path, needed, offset)

    def read(_: int) -> npt.NDArray[Any]:
        with _open(path) as handle:
            handle.seek(offset)
            raw = handle.read(needed)
            # gzip compares its checksum only where the end is reached.
            handle.read(TAIL_BYTES)
        if len(raw) < needed:
            raise ReadError(
                path, f"it is cut short: {len(raw)} of {needed} bytes of pixels; copy it again"
            )
        return np.frombuffer(raw, dtype)

    many = shape[3] > 1
    block = shape if many else shape[:3]
    z, y, x = (plausible_um(fields.get(f"V{axis}")) for axis in "ZYX")
    array = LazyArray(path, (), block, dtype.newbyteorder("="), read)
    return Source(array, "ZYXC" if many else "ZYX", "INRIMAGE", (z, y, x))


def _sizes(path: Path, fields: dict[str, str]) -> tuple[int, ...]:
    """Return the length of z, y, x and the number of channels."""
    sizes = [number(fields.get(f"{axis}DIM")) for axis in "ZYXV"]
    if any(n is None or n < 1 or n != int(n) for n in sizes):
        raise ReadError(
            path,
            f"its INRIMAGE header gives no sizes: {[fields.get(f'{a}DIM') for a in 'XYZV']}; "
            "copy it again",
        )
    return tuple(int(n or 0) for n in sizes)


def _check_growth(path: Path, needed: int, offset: int) -> None:
    """Refuse a header that claims more pixels than the file can hold, or than it plausibly does."""
    packed = path.stat().st_size
    if needed + offset > packed * MAX_GZIP_RATIO:
        raise ReadError(
            path,
            f"it claims {needed} bytes of pixels, more than its {packed} bytes can "
            "hold; copy it again",
        )
    if needed > max(MAX_UNASKED_BYTES, packed * MAX_HONEST_RATIO):
        raise ReadError(
            path,
            f"it would grow from {format_bytes(packed)} to {format_bytes(needed)}, as no image "
            "does; if it is one, unpack it first",
        )
