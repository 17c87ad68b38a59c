"""What SRCNN and RDN declare alike; imports no torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from zenhance.contract.learner import LearningMethod
from zenhance.contract.spec import MethodParameters, PsfLike
from zenhance.types import Triple

__all__ = ["MAX_WINDOW", "PlaneMethod", "PlaneParameters"]

MAX_WINDOW = 7
"""Most planes that a network sees at once."""


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
    """A method whose halo is the receptive field of the largest network in the package."""

    max_radius_px: ClassVar[int]
    """Half the largest receptive field along y and x."""

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """Return the halo of the largest network."""
        return (MAX_WINDOW // 2, self.max_radius_px, self.max_radius_px)
