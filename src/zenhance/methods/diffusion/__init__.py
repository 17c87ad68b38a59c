"""Diffusion over blur and noise: reverses both step by step from the image's own timestep."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from zenhance.contract.learner import LearningMethod
from zenhance.contract.spec import (
    ENHANCED,
    STD,
    MethodParameters,
    MethodSpec,
    OutputSpec,
    PlanContext,
    Reference,
)
from zenhance.types import Triple

__all__ = ["METHOD", "Diffusion", "DiffusionParameters"]

# Beyond this distance and the radius of the PSF, a voxel has an influence below 1e-5 of the range.
# Each step returns to the measurement, so that the receptive fields do not add up (measured with 1
# to 100 steps: 1e-5 within 31 px).
MAX_REACH_PX = 48


class DiffusionParameters(MethodParameters):
    """Settings of the diffusion method."""

    prepare_work: ClassVar[float] = 1e6

    steps: int = Field(
        5,
        ge=1,
        le=100,
        description="steps from the image's timestep to the specimen; more steps take more time",
    )
    sampler: Literal["cold", "indi", "stochastic"] = Field(
        "cold",
        description="reverse process: cold and indi are deterministic, "
        "stochastic draws new noise in every step",
    )
    start: float | None = Field(
        None,
        ge=0.02,
        le=1.0,
        description="timestep to start from, 0 to 1; "
        "default that of the image's blur (from the PSF) and noise",
        json_schema_extra={"start": 0.5},
    )
    data_consistency: float = Field(
        0.75,
        ge=0.0,
        le=1.0,
        description="strength of the data consistency after each step, "
        "which needs the PSF; 0 keeps the network's estimate",
        json_schema_extra={"strength": "follow the data"},
    )
    samples: int = Field(
        0,
        ge=0,
        le=64,
        description="runs of the stochastic sampler; the result is their mean and standard "
        "deviation; 0 is one run",
        json_schema_extra={"applies": {"sampler": ["stochastic"]}},
    )

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.samples == 1 or (self.samples and self.sampler != "stochastic"):
            raise ValueError(
                "samples need the stochastic sampler and at least 2 runs; "
                "set sampler to stochastic, or samples to 0"
            )
        return self

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The enhanced image; with samples, their standard deviation and the samples too."""
        if not self.samples:
            return (ENHANCED,)
        samples = OutputSpec("samples", "samples", series=self.samples)
        return (ENHANCED, OutputSpec(STD, "standard deviation"), samples)

    def work(self, volume_voxels: int, read_voxels: int, whole_voxels: int) -> tuple[float, float]:
        """Return the work of one pass of the network per step and run."""
        return self.prepare_work, 10.0 * self.steps * max(1, self.samples) * read_voxels

    @property
    def needs_psf(self) -> bool:
        """The PSF gives the image's timestep and the data consistency."""
        return True

    @property
    def weights(self) -> str:
        """The default model."""
        return "diffusion_stack"


class Diffusion(LearningMethod):
    """Diffusion over blur and noise as a method."""

    spec = MethodSpec(
        name="diffusion",
        title="Diffusion",
        summary="Reverses blur and noise step by step from the image's own timestep, "
        "with one network for all timesteps.",
        parameters=DiffusionParameters,
        size_multiple=(1, 4, 4),
        bytes_per_voxel=220,
        stochastic=True,
        learns="pairs",
        source="after Bansal et al., NeurIPS (2023), and Delbracio, Milanfar, TMLR (2023)",
        references=(
            Reference(
                key="bansal2023",
                authors="Bansal, Arpit and others",
                title="Cold Diffusion: Inverting Arbitrary Image Transforms Without Noise",
                journal="Advances in Neural Information Processing Systems",
                year=2023,
                doi="10.48550/arXiv.2208.09392",
            ),
            Reference(
                key="delbracio2023",
                authors="Delbracio, Mauricio and Milanfar, Peyman",
                title=(
                    "Inversion by Direct Iteration: An Alternative to Denoising Diffusion f"
                    "or Image Restoration"
                ),
                journal="Transactions on Machine Learning Research",
                year=2023,
                doi="10.48550/arXiv.2303.11435",
            ),
        ),
    )

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return all planes, and the radius of the receptive field and the PSF in y and x."""
        _, y, x = plan.psf_radius_px
        return (plan.shape_px[0], MAX_REACH_PX + y, MAX_REACH_PX + x)


METHOD = Diffusion()
