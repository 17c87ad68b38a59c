"""DivBlurring: a variational auto-encoder whose decoder ends in the microscope."""

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

__all__ = ["METHOD", "WEIGHTS", "Divblurring", "DivblurringParameters"]

# Tiles are planned before weights are read, so that this bounds networks and estimates.
MAX_REACH_PX = 96
MAX_ITERATIONS = 100
MAX_WINDOW = 9
MAX_STEPS = 10

WEIGHTS = {"divblurring": "divblurring_stack", "paper": "divblurring_paper"}
"""The default weights of each preset."""


class DivblurringParameters(MethodParameters):
    """Settings of DivBlurring."""

    prepare_work: ClassVar[float] = 1e6

    preset: Literal["divblurring", "paper"] = Field(
        "divblurring",
        description="divblurring: the ladder, trained on simulated stacks; "
        "paper: the report's flat network, for filaments",
    )
    samples: int = Field(
        20,
        ge=1,
        le=1000,
        description="number of drawn specimens, whose mean is the result; 5 for a quick look, "
        "100 in the report",
        json_schema_extra={"unit": ""},
    )
    uncertainty: bool = Field(
        False,
        description="add a layer with the standard deviation of each voxel over the samples",
    )
    keep_samples: int = Field(
        0,
        ge=0,
        le=100,
        description="number of samples to add, as one layer with a slider",
        json_schema_extra={"unit": ""},
    )
    data_consistency: int | None = Field(
        None,
        ge=0,
        le=MAX_STEPS,
        description="data consistency steps of each sample; "
        "default 1 to 8, by the photons of the brightest voxels",
        json_schema_extra={"unit": "", "start": 2},
    )
    sample_temperature: float = Field(
        1.15,
        gt=0.0,
        le=10.0,
        description="factor on the distance of samples from their centre; "
        "the default is calibrated on simulated stacks",
        json_schema_extra={"unit": "", "advanced": True},
    )
    self_ensemble: bool = Field(
        False,
        description="draw from the eight rotations and reflections of the image in turn; "
        "more stable, but slower",
        json_schema_extra={"advanced": True},
    )
    scale: Literal[1, 2] = Field(
        1,
        description="output pixels per input pixel along y and x; needs weights trained for it",
        json_schema_extra={"advanced": True},
    )

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.uncertainty and self.samples < 2:
            raise ValueError(
                "uncertainty needs at least 2 samples; raise samples, or switch uncertainty off"
            )
        return self

    @property
    def kept_samples(self) -> int:
        """Number of samples to return."""
        return min(self.keep_samples, self.samples)

    @property
    def temperature(self) -> float:
        """Factor on the distance of samples from their centre; 1 in the report's form."""
        return 1.0 if self.preset == "paper" else self.sample_temperature

    @property
    def steps_back(self) -> int | None:
        """Data consistency steps; None for a number by photons, 0 in the report's form."""
        return 0 if self.preset == "paper" else self.data_consistency

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The mean, and the standard deviation and samples if they are set."""
        found = [ENHANCED]
        if self.uncertainty:
            found.append(OutputSpec(STD, "standard deviation"))
        if self.keep_samples:
            found.append(OutputSpec("samples", "samples", series=self.kept_samples))
        return tuple(found)

    @property
    def output_scale(self) -> Triple:
        """Enlarged along y and x only."""
        return (1, self.scale, self.scale)

    def work(self, volume_voxels: int, read_voxels: int, whole_voxels: int) -> tuple[float, float]:
        """Return the work of the estimates and of one pass of the decoder per sample."""
        return self.prepare_work, (30.0 + 8.0 * self.samples) * read_voxels

    @property
    def needs_psf(self) -> bool:
        """The estimates that the network sees and the data consistency need the PSF."""
        return True

    @property
    def weights(self) -> str:
        """The default model of the preset."""
        return WEIGHTS[self.preset]


class Divblurring(LearningMethod):
    """DivBlurring as a method."""

    spec = MethodSpec(
        name="divblurring",
        title="DivBlurring",
        summary="Draws many specimens that explain the image: their mean is denoised and "
        "sharpened, their spread shows the uncertainty.",
        parameters=DivblurringParameters,
        size_multiple=(1, 8, 8),
        bytes_per_voxel=200,
        stochastic=True,
        learns="own_stack",
        source="Muttavarapu (2022), after DivNoising (Prakash, Krull, Jug, ICLR 2021) "
        "and HDN (Prakash et al., ICLR 2022)",
        references=(
            Reference(
                key="prakash2021",
                authors="Prakash, Mangal and Krull, Alexander and Jug, Florian",
                title=(
                    "Fully Unsupervised Diversity Denoising with Convolutional Variational "
                    "Autoencoders"
                ),
                journal="International Conference on Learning Representations",
                year=2021,
                doi="10.48550/arXiv.2006.06072",
            ),
        ),
    )

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return the largest halo of any weights."""
        from zenhance.solvers.receptive_field import iteration_reach_px

        planes = plan.shape_px[0]
        if plan.psf is None:
            return (min(MAX_WINDOW // 2, planes), MAX_REACH_PX, MAX_REACH_PX)
        z, y, x = plan.psf_radius_px
        z = z if planes > 1 else 0
        more = iteration_reach_px((z, y, x), MAX_ITERATIONS, accelerated=True)
        back = iteration_reach_px((z, y, x), MAX_STEPS, accelerated=False)
        return (
            min(MAX_WINDOW // 2 + more[0] + back[0], planes),
            MAX_REACH_PX + more[1] + back[1],
            MAX_REACH_PX + more[2] + back[2],
        )


METHOD = Divblurring()
