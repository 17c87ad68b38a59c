"""DQLR: encoder, recurrence over z, vector quantisation and generator, trained on stacks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from zenhance.contract.learner import LearningMethod
from zenhance.contract.spec import (
    ENHANCED,
    MethodParameters,
    MethodSpec,
    OutputSpec,
    PlanContext,
    Reference,
)
from zenhance.types import Triple

__all__ = ["METHOD", "WEIGHTS", "Dqlr", "DqlrParameters"]

# Tiles are planned before weights are read, so that this bounds the receptive field of a network.
MAX_REACH_PX = 48
FRONT_END_REACH_PX = 26
"""The same bound for a network that sees deconvolutions, which reach further themselves."""
MAX_ITERATIONS = 12
"""Of those deconvolutions."""

WEIGHTS = {"dqlr": "dqlr_any", "paper": "dqlr_paper"}
"""The default weights of each preset."""


class DqlrParameters(MethodParameters):
    """Settings of DQLR."""

    prepare_work: ClassVar[float] = 1e6
    voxel_work: ClassVar[float] = 25.0

    preset: Literal["dqlr", "paper"] = Field(
        "dqlr",
        description="dqlr sharpens and denoises; paper is the published form, "
        "trained to reproduce the measurement",
    )
    data_consistency: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="strength of the data consistency, which needs the PSF; "
        "0 keeps the network's result",
        json_schema_extra={"strength": "follow the data", "unit": ""},
    )
    codes: bool = Field(
        False,
        description="add a label layer with the word of the first dictionary at each pixel",
        json_schema_extra={"advanced": True},
    )

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The enhanced image, and the words of the first dictionary if ``codes`` is set."""
        return (ENHANCED, OutputSpec("codes", "codes", "labels")) if self.codes else (ENHANCED,)

    @property
    def deblurs(self) -> bool:
        """False for the published form, which reproduces the measurement."""
        return self.preset != "paper"

    @property
    def needs_psf(self) -> bool:
        """Network and data consistency need the PSF, but not the published form."""
        return self.deblurs

    @property
    def weights(self) -> str:
        """The default model of the preset."""
        return WEIGHTS[self.preset]


class Dqlr(LearningMethod):
    """DQLR as a method."""

    spec = MethodSpec(
        name="dqlr",
        title="DQLR",
        summary="Denoises and sharpens with quantised codes that neighbouring slices share; "
        "can be trained on your own stack alone.",
        parameters=DqlrParameters,
        size_multiple=(1, 4, 4),
        bytes_per_voxel=220,
        learns="own_stack",
        source="Gupta, Aich, Rodriguez, Reddy, Roy-Chowdhury, arXiv 2107.14368 (2021)",
        references=(
            Reference(
                key="gupta2021",
                authors=(
                    "Gupta, Akash and Aich, Abhishek and Rodriguez, Kevin and Reddy, G. Ven"
                    "ugopala and Roy-Chowdhury, Amit K."
                ),
                title="Deep Quantized Representation for Enhanced Reconstruction",
                journal="arXiv 2107.14368",
                year=2021,
                doi="10.48550/arXiv.2107.14368",
            ),
        ),
    )

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return the largest halo of any network; in z all planes, because of the recurrence."""
        from zenhance.solvers.receptive_field import iteration_reach_px

        radius = plan.psf_radius_px
        _, y, x = (
            2 * back + max(MAX_REACH_PX, FRONT_END_REACH_PX + more)
            for back, more in zip(
                radius, iteration_reach_px(radius, MAX_ITERATIONS, accelerated=True), strict=True
            )
        )
        return (plan.shape_px[0], y, x)


METHOD = Dqlr()
