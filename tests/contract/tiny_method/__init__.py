"""A trained method in one folder outside the package: one factor and one offset for all pixels."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from zenhance.contract.learner import LearningMethod
from zenhance.contract.spec import MethodParameters, MethodSpec, PlanContext
from zenhance.types import Triple


class TinyParameters(MethodParameters):
    """Settings of the tiny method."""

    prepare_work: ClassVar[float] = 1e4
    voxel_work: ClassVar[float] = 2.0

    strength: float = Field(1.0, ge=0.0, le=1.0, description="share of the network's output")

    @property
    def weights(self) -> str:
        """The model that ships."""
        return "tiny_affine"


class Tiny(LearningMethod):
    """The tiny method."""

    spec = MethodSpec(
        name="tiny",
        title="Tiny",
        summary="Multiplies and adds, as learnt from pairs.",
        parameters=TinyParameters,
        bytes_per_voxel=16,
        learns="pairs",
    )

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return no halo: each pixel stands alone."""
        return (0, 0, 0)


METHOD = Tiny()
