"""Units of length, as napari's layers name them, in micrometres."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["LENGTH_UNIT", "micrometres"]

LENGTH_UNIT = "micrometer"


@cache
def micrometres(unit: str) -> float | None:
    """Return how many micrometres a unit of length has; None for pixels and whatever is no length."""
    import pint

    registry: Any = pint.get_application_registry()  # type: ignore[no-untyped-call]
    try:
        return float(registry.Quantity(1.0, unit).to(LENGTH_UNIT).magnitude)
    except (pint.DimensionalityError, pint.UndefinedUnitError):
        return None
