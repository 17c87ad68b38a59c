"""The settings of deconvolution."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zenhance.contract.spec import MethodParameters
from zenhance.solvers.receptive_field import SMALLEST_NOISE_TO_SIGNAL
from zenhance.types import Triple

__all__ = ["GaussianDeconvolutionParameters"]

_STANDARD_ITERATIONS = {"id3d": 100, "rl10": 10, "wpl5": 5, "discrepancy": 100, "fixed": 10}


class GaussianDeconvolutionParameters(MethodParameters):
    """Settings of :data:`zenhance.methods.deconvolution.METHOD`."""

    variant: Literal["richardson_lucy", "wiener", "imagej"] = Field(
        "richardson_lucy",
        description="richardson_lucy: best for photon noise; wiener: one linear step; "
        "imagej: plane by plane as ImageJ's plugins do",
        json_schema_extra={"unit": ""},
    )
    dimensions: Literal[2, 3] = Field(
        3,
        description="3: the stack as a whole; 2: each plane by itself, with the PSF in focus "
        "(a 2-D image and imagej are always 2)",
        json_schema_extra={"applies": {"variant": ["richardson_lucy", "wiener"]}, "unit": ""},
    )
    iterations: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="at most this many; empty: 100 with stop=discrepancy, 10 with stop=fixed, "
        "and for imagej id3d 100, rl10 10, wpl5 5",
        json_schema_extra={
            "applies": {"variant": ["richardson_lucy", "imagej"]},
            "unit": "iterations",
            "start": 10,
        },
    )
    stop: Literal["discrepancy", "fixed"] = Field(
        "discrepancy",
        description="discrepancy: stop where the re-blurred result has reached the noise; "
        "fixed: do all iterations (richardson_lucy)",
        json_schema_extra={"applies": {"variant": ["richardson_lucy"]}, "unit": ""},
    )
    acceleration: bool = Field(
        True,
        description="extrapolate each step (Biggs-Andrews): 3 to 5 times fewer iterations "
        "(richardson_lucy)",
        json_schema_extra={"applies": {"variant": ["richardson_lucy"]}, "unit": ""},
    )
    tv_weight: float = Field(
        0.0,
        ge=0.0,
        le=0.1,
        description="total variation: 0 none, 0.002 calms noise in dim images, 0.02 flattens "
        "(richardson_lucy)",
        json_schema_extra={
            "applies": {"variant": ["richardson_lucy"]},
            "strength": "calm noise",
            "unit": "",
        },
    )
    wiener_noise: float | None = Field(
        None,
        ge=SMALLEST_NOISE_TO_SIGNAL,
        le=100.0,
        description="noise power over signal power; larger is smoother; "
        "empty: chosen by cross-validation (wiener)",
        json_schema_extra={
            "applies": {"variant": ["wiener"]},
            "strength": "smoothness",
            "unit": "",
            "start": 0.01,
        },
    )
    imagej_form: Literal["id3d", "rl10", "wpl5"] = Field(
        "id3d",
        description="id3d: Iterative Deconvolve 3D; rl10: DeconvolutionLab2's RL; "
        "wpl5: WPL of Parallel Iterative Deconvolution",
        json_schema_extra={"applies": {"variant": ["imagej"]}, "unit": "", "advanced": True},
    )
    wiener_gamma: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Wiener filter before the iterations, used above 0.0001 (imagej id3d and wpl5)",
        json_schema_extra={"applies": {"variant": ["imagej"]}, "unit": "", "advanced": True},
    )
    low_pass_px: float = Field(
        1.0,
        ge=0.0,
        le=10.0,
        description="Gaussian low-pass in each iteration; 0 switches it off (imagej id3d and wpl5)",
        json_schema_extra={"applies": {"variant": ["imagej"]}, "unit": "px", "advanced": True},
    )
    terminate_percent: float = Field(
        0.01,
        ge=0.0,
        le=100.0,
        description="stop when the mean change falls by less than this (imagej id3d and wpl5)",
        json_schema_extra={"applies": {"variant": ["imagej"]}, "unit": "%", "advanced": True},
    )
    anti_ringing: bool = Field(
        True,
        description="blend the mirrored margin into its blurred self (imagej id3d and wpl5)",
        json_schema_extra={"applies": {"variant": ["imagej"]}, "unit": "", "advanced": True},
    )

    @property
    def most_iterations(self) -> int:
        """The limit on iterations, the standard of the variant where none is given."""
        if self.iterations is not None:
            return self.iterations
        return _STANDARD_ITERATIONS[self.imagej_form if self.variant == "imagej" else self.stop]

    @property
    def solved_dimensions(self) -> int:
        """2 where each plane is solved on its own."""
        return 2 if self.variant == "imagej" else self.dimensions

    def ndim(self, shape_px: Triple) -> int:
        """2 where each plane of a volume (Z, Y, X) is solved on its own, else 3."""
        return 2 if shape_px[0] == 1 else self.dimensions

    @property
    def needs_psf(self) -> bool:
        """There is nothing to deconvolve without one."""
        return True

    def work(self, volume_voxels: int, read_voxels: int, whole_voxels: int) -> tuple[float, float]:
        """Count most of the work before the tiles where a volume is solved as a whole."""
        if self.variant == "imagej":
            return 0.0, 2.0 * self.most_iterations * read_voxels
        each = 4.0
        if volume_voxels <= whole_voxels:
            return each * volume_voxels, 0.2 * read_voxels
        return each * whole_voxels, 0.5 * each * read_voxels
