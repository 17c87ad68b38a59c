"""Several files or folders in one option, separated by commas."""

from __future__ import annotations

from pathlib import Path

__all__ = ["places_in"]


def places_in(text: str | Path) -> tuple[Path, ...]:
    """Return the places that an option names: one, also if its own name has a comma, or several separated by commas."""
    whole = Path(text).expanduser()
    if whole.exists():
        return (whole,)
    return tuple(Path(part.strip()).expanduser() for part in str(text).split(",") if part.strip())
