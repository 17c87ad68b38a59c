"""Base of SRCNN and RDN; imports no torch."""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar, Literal

from pydantic import Field

from zenhance.contract.learner import LearningMethod
from zenhance.contract.spec import MethodContext, MethodParameters, PlanContext, Prepared
from zenhance.types import Triple

__all__ = ["MAX_WINDOW", "PlaneMethod", "PlaneParameters"]

MAX_WINDOW = 7
"""Largest window of planes."""


class PlaneParameters(MethodParameters):
    """Settings of a network that restores one plane from a window of planes."""

    scale: Literal[1, 2] = Field(
        1, description="output pixels per input pixel along y and x; needs weights trained for it"
    )

    @property
    def output_scale(self) -> Triple:
        """Enlarged along y and x only."""
        return (1, self.scale, self.scale)


class PlaneMethod(LearningMethod):
    """A method that restores one plane from a window of planes; its halo is the largest one."""

    max_radius_px: ClassVar[int]
    """Radius of the largest receptive field along y and x."""

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return the halo of the largest network."""
        return (MAX_WINDOW // 2, self.max_radius_px, self.max_radius_px)

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Load the weights and make the network ready for a volume."""
        learner = self._part("training").LEARNER
        prepared: Prepared = yield from learner.prepare(self.spec.name, context)
        return prepared
