"""Shared wording of messages: hints for misspelt names, quoted input, sizes and durations."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["format_bytes", "format_seconds", "hint_for", "quoted"]

MAX_LISTED = 150
"""Characters of a list of names."""
MAX_QUOTED = 60


def quoted(text: str) -> str:
    """Return the user's input in quotes, cut to 60 characters so that it fits into a sentence."""
    return f'"{text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 3] + "..."}"'


def hint_for(name: str, known: Iterable[str], instead: str | None = None) -> str:
    """Return what to do about an unknown name.

    Parameters
    ----------
    name : str
        The name as the user wrote it.
    known : iterable of str
        The names that exist.
    instead : str, optional
        The advice where no known name is similar; the list of known names by default.

    Returns
    -------
    str
        ``did you mean "…"?`` if a known name is similar, else the advice.
    """
    names = list(known)
    near = difflib.get_close_matches(name[:MAX_QUOTED], names, n=1)
    if near:
        return f'did you mean "{near[0]}"?'
    return instead or f"choose one of {_listed(names)}"


def _listed(names: list[str]) -> str:
    """Return names with commas, and how many more where they would make the sentence too long."""
    kept = len(names)
    while kept > 1 and len(", ".join(names[:kept])) > MAX_LISTED:
        kept -= 1
    more = len(names) - kept
    return ", ".join(names[:kept]) + (f" and {more} more" if more else "")


def format_bytes(count: float) -> str:
    """Return a number of bytes as ``512 B``, ``4.1 MB`` or ``1.23 GB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        # from 999.5 on, three digits round up to the next unit
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def format_seconds(seconds: float, *, rough: bool = False) -> str:
    """Return a duration as ``0.4 s``, ``12 s``, ``3 min 05 s`` or ``2 h 10 min``.

    With ``rough``, for estimates: ``1 s``, ``42 s``, ``3 min`` or ``2 h 10 min``.
    """
    if rough:
        if seconds < 89.5:
            return f"{max(1, round(seconds))} s"
        minutes = round(seconds / 60)
        return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
