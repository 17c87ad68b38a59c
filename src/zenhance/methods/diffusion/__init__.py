"""Diffusion over blur and noise: undoes both step by step, from the level at which the image stands."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from zenhance.contract.spec import (
    MethodContext,
    MethodParameters,
    MethodSpec,
    OutputSpec,
    Prepared,
    PsfLike,
)
from zenhance.types import Triple

if TYPE_CHECKING:
    from zenhance.methods.diffusion.training import LevelLearner

__all__ = ["METHOD", "Diffusion", "DiffusionParameters"]

# What lies further away than this, and the blur's reach, changes a voxel by less than 1e-5 of the range, however many steps are taken: each
# goes back to the measurement, so that their reaches do not add up (measured with 1 to 100 steps: 1e-5 is reached within 31 px).
MAX_REACH_PX = 48


class DiffusionParameters(MethodParameters):
    """Settings of the diffusion method."""

    steps: int = Field(
        5,
        ge=1,
        le=100,
        description="steps from the image's level to the specimen; more cost more time",
    )
    sampler: Literal["cold", "indi", "stochastic"] = Field(
        "cold",
        description="way back: cold and indi give the same each time, stochastic draws noise anew in every step",
    )
    start: float | None = Field(
        None,
        ge=0.02,
        le=1.0,
        description="level to start from, 0 to 1; left out, that of the image's blur (from the PSF) and noise",
        json_schema_extra={"start": 0.5},
    )
    agreement: float = Field(
        0.75,
        ge=0.0,
        le=1.0,
        description="how far each step is brought back to what was measured, as the PSF predicts it; 0 is what the network drew",
    )
    samples: int = Field(
        0,
        ge=0,
        le=64,
        description="runs of the stochastic sampler whose mean is the result, with their standard deviation; 0 is one run",
    )

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.samples == 1 or (self.samples and self.sampler != "stochastic"):
            raise ValueError(
                "samples need the stochastic sampler and at least 2 runs; set sampler to stochastic, or samples to 0"
            )
        return self


_ENHANCED = OutputSpec("enhanced", "enhanced")
_STD = OutputSpec("std", "standard deviation")


def _outputs(parameters: DiffusionParameters) -> tuple[OutputSpec, ...]:
    if not parameters.samples:
        return (_ENHANCED,)
    return (_ENHANCED, _STD, OutputSpec("samples", "samples", series=parameters.samples))


class Diffusion:
    """Diffusion over blur and noise as a method."""

    spec = MethodSpec(
        name="diffusion",
        title="Diffusion",
        summary="Undoes blur and noise step by step from the level where the image stands; one network for all levels.",
        parameters=DiffusionParameters,
        consumes="sequence",
        outputs=(_ENHANCED, _STD, OutputSpec("samples", "samples")),
        outputs_of=_outputs,
        needs_psf=True,
        size_multiple=(1, 4, 4),
        bytes_per_voxel=220,
        stochastic=True,
        learns="pairs",
        default_weights="diffusion_stack",
        source="after Bansal et al., NeurIPS (2023), and Delbracio, Milanfar, TMLR (2023)",
    )

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """Return the halo: all planes, since every step looks further along z, and along y and x the network's reach and the blur's."""
        _, y, x = (0, 0, 0) if psf is None else psf.radius_px(voxel_size_um)
        return (shape_px[0], MAX_REACH_PX + y, MAX_REACH_PX + x)

    def learner(self) -> LevelLearner:
        """Return how it learns."""
        from zenhance.methods.diffusion.training import LevelLearner

        return LevelLearner()

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Load the weights and find the image's level."""
        from zenhance.methods.diffusion.inference import DiffusionSettings, prepare_reverse

        p: DiffusionParameters = context.parameters
        wanted = DiffusionSettings(
            self.spec.default_weights, p.steps, p.sampler, p.start, p.agreement, p.samples
        )
        halo = self.plan_halo_px(p, context.psf, context.voxel_size_um, context.shape_px)
        prepared = yield from prepare_reverse(self.spec.name, wanted, context, halo)
        return prepared


METHOD = Diffusion()
