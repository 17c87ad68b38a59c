"""Open DeltaVision files (Priism/IVE variant of MRC) as a memory map.

Layout: 1024 bytes of header, an extended header, then planes. The header's numbers are at fixed
places: image size at 0, pixel type at 12, voxel size in µm at 40, size of the extended header at
92, magic -16224 at 96, lens at 162, times at 180, order of planes at 182, wavelengths at 196 and
198.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from zenhance.errors import ReadError
from zenhance.io.source import RawArray, Source
from zenhance.io.units import plausible_um

__all__ = ["read_dv"]

HEADER_BYTES = 1024
_TYPES = {0: "u1", 1: "i2", 2: "f4", 5: "i2", 6: "u2", 7: "i4"}
# Slowest axis first, by the header's number for the order of planes.
_ORDERS = {0: "CTZ", 1: "TZC", 2: "TCZ"}


def _fields(path: Path, head: bytes) -> tuple[str, dict[str, Any]]:
    order = "<" if head[96:98] == b"\xa0\xc0" else ">"

    def take(code: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + code, head, at)

    columns, rows, sections, kind = take("4i", 0)
    times, sequence = take("2h", 180)
    waves, *lengths = take("6h", 196)
    times, waves = max(times, 1), max(waves, 1)
    if (
        min(columns, rows, sections) < 1
        or kind not in _TYPES
        or sequence not in _ORDERS
        or sections % (times * waves)
    ):
        raise ReadError(
            path,
            f"its DeltaVision header is damaged: {columns} x {rows} x {sections}, type {kind}, "
            f"{waves} waves, {times} times",
        )
    return order, {
        "shape": {"T": times, "C": waves, "Z": sections // (times * waves)},
        "plane": (rows, columns),
        "dtype": np.dtype(order + _TYPES[kind]),
        "order": _ORDERS[sequence],
        "voxel_um": take("3f", 40)[::-1],
        "offset": HEADER_BYTES + max(take("i", 92)[0], 0),
        "waves_nm": [float(w) for w in lengths[:waves]],
    }


def read_dv(path: Path, series: int = 0) -> Source:
    """Open a DeltaVision file; no pixel is read.

    Raises
    ------
    ReadError
        The header is damaged, or the file is cut short.
    """
    if series != 0:
        raise ReadError(path, f"series {series} was requested, but it holds series 0 to 0")
    with path.open("rb") as handle:
        head = handle.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise ReadError(
            path,
            f"it is cut short: its header has {len(head)} of {HEADER_BYTES} bytes; copy it again",
        )
    _, found = _fields(path, head)
    lead = tuple(found["shape"][a] for a in found["order"])
    dtype, plane = found["dtype"], found["plane"]
    end = found["offset"] + math.prod(lead) * math.prod(plane) * dtype.itemsize
    if end > path.stat().st_size:
        raise ReadError(
            path, f"it is cut short: {path.stat().st_size} of {end} bytes; copy it again"
        )
    keep = [i for i, a in enumerate(found["order"]) if lead[i] > 1 or a == "Z"]
    axes = "".join(found["order"][i] for i in keep) + "YX"
    waves = [w for w in found["waves_nm"] if 100 < w < 3000]
    metadata: dict[str, Any] = {}
    if len(waves) == found["shape"]["C"]:
        metadata["emission_nm"] = waves if len(waves) > 1 else waves[0]
    if len(waves) > 0:
        metadata["modality"] = "widefield"
    z_um, y_um, x_um = (plausible_um(v) for v in found["voxel_um"])
    return Source(
        RawArray(path, found["offset"], (*(lead[i] for i in keep), *plane), dtype),
        axes,
        "DeltaVision",
        (z_um, y_um, x_um),
        metadata=metadata,
    )
