"""The before/after picture of the package, under the name that the experiments use."""

from zenhance.assess.before_after import (
    GAP_PX,
    MARGIN_PX,
    SCALE_BAR_UM,
    TITLE_PX,
    WIDTH_PX,
    Cut,
    before_after,
    standard_cuts,
)

__all__ = [
    "GAP_PX",
    "MARGIN_PX",
    "SCALE_BAR_UM",
    "TITLE_PX",
    "WIDTH_PX",
    "Cut",
    "before_after",
    "standard_cuts",
]
