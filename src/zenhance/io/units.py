"""Lengths and times as files write them, in µm and seconds; what is not known stays unknown."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from zenhance.stack import MAX_VOXEL_UM, MIN_VOXEL_UM

__all__ = ["number", "plausible_um", "resolution_um", "to_seconds", "to_um", "um_per_unit"]

# Names that differ from others by a prefix only are made by _with_prefixes.
_UM_PER_UNIT = {
    "micron": 1.0,
    "μ": 1.0,
    "å": 1e-4,
    "angstrom": 1e-4,
    "ångström": 1e-4,
    "inch": 25400.0,
    "inches": 25400.0,
    "in": 25400.0,
    "thou": 25.4,
    "mil": 25.4,
}
_S_PER_UNIT = {
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_PREFIXES = {
    "": ("", 1.0),
    "deci": ("d", 1e-1),
    "centi": ("c", 1e-2),
    "milli": ("m", 1e-3),
    "micro": ("μ", 1e-6),
    "nano": ("n", 1e-9),
    "pico": ("p", 1e-12),
}


def _with_prefixes(
    names: dict[str, float], words: tuple[str, ...], symbols: tuple[str, ...]
) -> None:
    """Add a unit with its decimal prefixes, written out or as a symbol; u stands for μ."""
    one = names[""]
    del names[""]
    for prefix, (sign, factor) in _PREFIXES.items():
        for word in words:
            names[prefix + word] = one * factor
        for symbol in symbols:
            names[sign + symbol] = one * factor
            if sign == "μ":
                names["u" + symbol] = one * factor


_UM_PER_UNIT[""] = 1e6
_with_prefixes(_UM_PER_UNIT, ("meter", "metre"), ("m",))
_S_PER_UNIT[""] = 1.0
_with_prefixes(_S_PER_UNIT, ("second", "sec"), ("s", "sec"))

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
    """Return a length in µm if a light microscope could have it, else None.

    Possible are 0.001 to 1000 µm; the sign is dropped.
    """
    length = number(value)
    if length is None or not MIN_VOXEL_UM <= abs(length) <= MAX_VOXEL_UM:
        return None
    return abs(length)


def _factor(unit: Any, table: dict[str, float]) -> float | None:
    """Look a unit up, however it is spelt: both mu characters, escapes, plural, abbreviation."""
    if not isinstance(unit, str) or len(unit) > 64:
        return None
    name = re.sub(r"\\u00b5|\\u03bc|&micro;|&#181;|Âµ|Î¼", "μ", unit, flags=re.IGNORECASE)
    # NFKC makes one character of the micro sign and the Greek letter, and of both angstrom signs.
    name = unicodedata.normalize("NFKC", name).strip(" \t\r\n\0\"'.").lower()
    name = re.sub(r"[\s_-]", "", name)
    found = table.get(name)
    if found is None and len(name) > 2 and name.endswith("s"):
        found = table.get(name[:-1])
    return found


def um_per_unit(unit: Any) -> float | None:
    """Return how many µm a unit of length is, or None if it is not known."""
    return _factor(unit, _UM_PER_UNIT)


def to_um(value: Any, unit: str | None) -> float | None:
    r"""Convert a length to µm.

    Parameters
    ----------
    value : any
        The number; text is fine.
    unit : str or None
        As ImageJ, OME, NGFF or a vendor writes it: ``um``, ``\u00B5m`` (six characters), ``μm``,
        ``micron``, ``nanometers``, ``inches`` ... ``pixel``, None and anything unknown mean that
        nobody calibrated the image.

    Returns
    -------
    float or None
        None unless unit and value give a length between 0.001 and 1000 µm; the sign is dropped.
    """
    length, factor = number(value), um_per_unit(unit)
    return None if length is None or factor is None else plausible_um(length * factor)


def to_seconds(value: Any, unit: str | None) -> float | None:
    """Convert a time to seconds.

    Parameters
    ----------
    value : any
        The number; text is fine.
    unit : str or None
        ``s``, ``sec``, ``ms``, ``msec``, ``millisecond``, ``minutes``, ``hr``, ``day`` ...

    Returns
    -------
    float or None
        None if the unit is not known or the time is not positive.
    """
    time, factor = number(value), _factor(unit, _S_PER_UNIT)
    if time is None or factor is None or time <= 0:
        return None
    return time * factor


def resolution_um(pixels_per_unit: Any, unit: str | None) -> float | None:
    """Turn a TIFF resolution into µm per pixel.

    Print resolutions such as 72 or 300 dpi say nothing about the specimen and give None.
    """
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
