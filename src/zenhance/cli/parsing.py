"""Parse the words of options: lengths, tiles, crops, channels and ``--set key=value``.

Every error names the option, what was written, and how to write it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zenhance.errors import RecipeError, StackError
from zenhance.wording import quoted

__all__ = [
    "parse_axes",
    "parse_crop",
    "parse_minutes",
    "parse_number",
    "parse_settings",
    "parse_tile",
    "parse_voxel_size",
    "parse_whole",
]

Span = tuple[int | None, int | None]
_MINUTES = {"minutes": 1.0, "min": 1.0, "s": 1 / 60, "h": 60.0}


def parse_whole(option: str, text: str, maximum: int = 2**63 - 1, minimum: int = 0) -> int:
    """Read a whole number from ``minimum`` to ``maximum``.

    Raises
    ------
    RecipeError
        The text is not a whole number, or it is out of range.
    """
    try:
        number = int(text)
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= maximum:
        raise RecipeError(
            f"{option} is {quoted(text)}, allowed are whole numbers from {minimum} to {maximum}; "
            f"for example {option} 1"
        )
    return number


def parse_number(option: str, text: str) -> float:
    """Read a finite number.

    Raises
    ------
    RecipeError
        The text is not such a number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RecipeError(
            f"{option} is {quoted(text)}, allowed is a finite number; for example {option} 100"
        )
    return number


def parse_minutes(option: str, text: str) -> float:
    """Read a time such as ``10min``, ``600s`` or ``1h`` as minutes; a plain number is minutes.

    Raises
    ------
    RecipeError
        The text is not such a number.
    """
    plain = text.strip().lower()
    unit = next((unit for unit in _MINUTES if plain.endswith(unit)), "")
    try:
        minutes = float(plain.removesuffix(unit)) * _MINUTES[unit] if unit else float(plain)
    except ValueError:
        minutes = math.nan
    if not (math.isfinite(minutes) and minutes > 0):
        raise RecipeError(
            f"{option} is {quoted(text)}, allowed is a time above 0 in min, s or h; "
            f"for example {option} 10min"
        )
    return minutes


def parse_voxel_size(text: str) -> tuple[float | None, ...]:
    """Read ``Z,Y,X`` or ``Y,X`` in micrometres; ``?`` keeps what the file says for that axis.

    Raises
    ------
    StackError
        Not two or three numbers above zero.
    """
    words = [word.strip() for word in text.split(",")]
    try:
        sizes = tuple(None if word == "?" else float(word) for word in words)
    except ValueError:
        sizes = ()
    if len(sizes) not in (2, 3) or any(
        size is not None and not (math.isfinite(size) and size > 0) for size in sizes
    ):
        raise StackError(
            f"--voxel-size is {quoted(text)}, allowed are three numbers above 0, or two for a "
            "2-D image; "
            "write Z,Y,X in µm, for example --voxel-size 0.5,0.2,0.2"
        )
    return sizes


def parse_axes(text: str) -> str:
    """Read the order of the dimensions, for example ``ZYX`` or ``TZCYX``, in either case.

    Raises
    ------
    StackError
        Letters other than TCZYX, a letter twice, or no Y and X.
    """
    axes = text.strip().upper()
    if not {"Y", "X"} <= set(axes) or len(set(axes)) != len(axes) or not set(axes) <= set("TCZYX"):
        raise StackError(
            f"--axes is {quoted(text)}, allowed are the letters T, C, Z, Y and X, each at most "
            "once, Y and X among them; "
            "name the dimensions in the file's order, for example --axes ZYX"
        )
    return axes


def _parse_span(word: str) -> Span:
    first, colon, last = word.partition(":")
    if not colon:
        raise ValueError(word)
    start, stop = (int(end) if end.strip() else None for end in (first, last))
    if (start is not None and start < 0) or (stop is not None and stop <= (start or 0)):
        raise ValueError(word)
    return (start, stop)


def parse_crop(text: str) -> tuple[Span, ...]:
    """Read ``z0:z1,y0:y1,x0:x1`` (or ``y0:y1,x0:x1``) in pixels; a missing end is the border.

    Returns
    -------
    tuple of (start, stop)
        One pair per axis; None where an end was left out. The stop is not included.

    Raises
    ------
    StackError
        Not two or three ranges that go up from 0.
    """
    try:
        spans = tuple(_parse_span(word) for word in text.split(","))
    except ValueError:
        spans = ()
    if len(spans) not in (2, 3):
        raise StackError(
            f"--crop is {quoted(text)}, allowed are three ranges start:stop from 0 up, or two "
            "for a 2-D image; "
            "write z0:z1,y0:y1,x0:x1 in pixels, for example --crop 0:20,100:356,:256"
        )
    return spans


def parse_tile(text: str, option: str = "--tile") -> tuple[int, int, int]:
    """Read a size ``Z,Y,X`` in pixels (``Y,X`` gives one plane).

    Raises
    ------
    StackError
        Not two or three whole numbers above zero.
    """
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) == 2:
        sizes = (1, *sizes)
    if len(sizes) != 3 or min(sizes) < 1:
        raise StackError(
            f"{option} is {quoted(text)}, allowed are three whole numbers above 0, or two for "
            "a 2-D image; "
            f"write Z,Y,X in pixels, for example {option} 32,256,256"
        )
    return (sizes[0], sizes[1], sizes[2])


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read the ``key=value`` words of ``--set``.

    Values are YAML, such as ``10``, ``0.5``, ``true``, ``null`` and ``[1, 2]``.

    Raises
    ------
    RecipeError
        No key, no ``=``, the same key twice, or a value that is not YAML.
    """
    from zenhance.yaml_text import load_yaml

    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(
                f"--set is {quoted(word)}, allowed is key=value; for example --set iterations=20"
            )
        if key in settings:
            raise RecipeError(f"--set gives {quoted(key)} twice; give each setting once")
        settings[key] = load_yaml(value, f"--set {quoted(key)}, {quoted(' '.join(value.split()))}")
    return settings
