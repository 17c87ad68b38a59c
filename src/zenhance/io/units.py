"""Lengths as files write them, turned into micrometres, or into None where the file does not really know."""

from __future__ import annotations

import math
from typing import Any

from zenhance.stack import MAX_VOXEL_UM, MIN_VOXEL_UM

__all__ = ["number", "plausible_um", "resolution_um", "to_um"]

_UM_PER_UNIT = {
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "inch": 25400.0,
    "in": 25400.0,
}

# What scanners, cameras and drawing programs write when nobody measured anything.
_PRINT_DPI = (
    72.0,
    75.0,
    96.0,
    100.0,
    120.0,
    144.0,
    150.0,
    180.0,
    200.0,
    240.0,
    300.0,
    360.0,
    400.0,
    600.0,
    720.0,
    1200.0,
    2400.0,
)


def number(value: Any) -> float | None:
    """Return a finite float, or None where there is none."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def plausible_um(value: Any) -> float | None:
    """Return a length in µm if a light microscope could have it (0.001 to 1000 µm; the sign is dropped), else None."""
    length = number(value)
    if length is None or not MIN_VOXEL_UM <= abs(length) <= MAX_VOXEL_UM:
        return None
    return abs(length)


def to_um(value: Any, unit: str | None) -> float | None:
    r"""Convert a length to µm.

    Parameters
    ----------
    value : any
        The number; text is fine.
    unit : str or None
        As written by ImageJ, OME or a vendor: ``um``, ``\u00B5m`` (six characters), ``μm``, ``micron``, ``nm`` ... ``pixel``, None and
        anything unknown mean that nobody calibrated the image.

    Returns
    -------
    float or None
        None where unit or value do not give a length between 0.001 and 1000 µm.
    """
    length = number(value)
    if length is None or unit is None:
        return None
    name = (
        unit.strip()
        .strip('"')
        .replace("\\u00B5", "µ")
        .replace("\\u00b5", "µ")
        .replace("\u03bc", "µ")
        .replace("Â", "")
    )
    factor = _UM_PER_UNIT.get(name.lower())
    if factor is None and name.lower().endswith("s"):
        factor = _UM_PER_UNIT.get(name.lower()[:-1])
    return None if factor is None else plausible_um(length * factor)


def resolution_um(pixels_per_unit: Any, unit: str | None) -> float | None:
    """Turn a TIFF resolution into µm per pixel; print resolutions such as 72 or 300 dpi say nothing and give None."""
    pair = pixels_per_unit if isinstance(pixels_per_unit, tuple) else (pixels_per_unit, 1)
    top, bottom = number(pair[0]), number(pair[1])
    if not top or not bottom:
        return None
    density = top / bottom
    if unit in ("inch", "in") and any(abs(density - dpi) < 1e-3 * dpi for dpi in _PRINT_DPI):
        return None
    if unit == "cm" and any(abs(density * 2.54 - dpi) < 2e-3 * dpi for dpi in _PRINT_DPI):
        return None
    return to_um(1.0 / density, unit)
