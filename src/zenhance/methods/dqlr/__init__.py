"""DQLR: encoder, recurrence over z, vector quantisation and generator, learnt from stacks like the one to be enhanced."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from zenhance.contract.learner import LearningMethod
from zenhance.contract.spec import ENHANCED, MethodParameters, MethodSpec, OutputSpec, PsfLike
from zenhance.types import Triple

__all__ = ["METHOD", "WEIGHTS", "Dqlr", "DqlrParameters"]

# Tiles are planned before weights are read; no network that looks further is accepted.
MAX_REACH_PX = 48

WEIGHTS = {"dqlr": "dqlr_stack", "paper": "dqlr_paper"}
"""The weights that ship with each preset."""


class DqlrParameters(MethodParameters):
    """Settings of DQLR."""

    prepare_work: ClassVar[float] = 1e6
    voxel_work: ClassVar[float] = 25.0

    preset: Literal["dqlr", "paper"] = Field(
        "dqlr",
        description="dqlr sharpens and denoises; paper is the published form, which learnt to repeat what was measured",
    )
    data_consistency: float = Field(
        0.75,
        ge=0.0,
        le=1.0,
        description="how far the result is brought back to what was measured, as the PSF predicts it; 0 is what the network drew",
        json_schema_extra={"unit": ""},
    )
    codes: bool = Field(
        False,
        description="also give a label layer: which word of the first dictionary stands where",
        json_schema_extra={"advanced": True},
    )

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The enhanced image, and the words of the first dictionary where they are asked for."""
        return (ENHANCED, OutputSpec("codes", "codes", "labels")) if self.codes else (ENHANCED,)

    @property
    def deblurs(self) -> bool:
        """The published form learns to repeat the measurement."""
        return self.preset != "paper"

    @property
    def needs_psf(self) -> bool:
        """For the step back to the measurement alone."""
        return self.deblurs and self.data_consistency > 0

    @property
    def weights(self) -> str:
        """The model that ships with the preset."""
        return WEIGHTS[self.preset]


class Dqlr(LearningMethod):
    """DQLR as a method."""

    spec = MethodSpec(
        name="dqlr",
        title="DQLR",
        summary="Quantised codes that neighbouring slices agree on: denoises and sharpens; can learn from your own stack alone.",
        parameters=DqlrParameters,
        size_multiple=(1, 4, 4),
        bytes_per_voxel=220,
        learns="own_stack",
        source="Gupta, Aich, Rodriguez, Reddy, Roy-Chowdhury, arXiv 2107.14368 (2021)",
    )

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """Return the largest halo any network of this method needs: all planes, since the recurrence goes through them."""
        _, y, x = (0, 0, 0) if psf is None else psf.radius_px(voxel_size_um)
        return (shape_px[0], MAX_REACH_PX + 2 * y, MAX_REACH_PX + 2 * x)


METHOD = Dqlr()
