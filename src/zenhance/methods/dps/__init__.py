"""DPS: resolution extension by a network trained with a point spread function."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from zenhance.contract.learner import LearningMethod
from zenhance.contract.spec import MethodParameters, MethodSpec, PlanContext, Reference
from zenhance.types import Triple

__all__ = ["METHOD", "MODULES", "Dps", "DpsParameters"]

MODULES = {
    "extend": "dps_stack",
    "sim_like": "dps_sim",
    "denoise": "dps_denoise",
    "artefacts": "dps_artefacts",
}
"""The default weights of each trained step."""
LARGER_PIXELS = "dps_coarse"
"""Default instead of ``dps_stack`` if pixels are larger than the network's."""
# Tiles are planned before weights are read: bounds of a network's receptive field and of the width
# of its PSF, in pixels of its own grid.
MAX_REACH_PX = 118
MIN_FWHM_PX = 2.7
FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


class DpsParameters(MethodParameters):
    """Settings of DPS."""

    reconstruction: Literal["extend", "sim_like", "none"] = Field(
        "extend",
        description="extend removes the blur of your PSF, trained without sharp images; "
        "sim_like is trained on pairs; both resample your image to their own PSF width and back",
    )
    scale: Literal[1, 2] = Field(1, description="output pixels per input pixel along y and x")
    denoise: bool = Field(False, description="first denoise, with a separate network")
    artefacts: bool = Field(
        False, description="first remove stripes and honeycomb of structured illumination"
    )
    background_um: float = Field(
        0.0,
        ge=0,
        le=100,
        description="radius of the rolling ball that removes the background of each plane, "
        "diffuse signal included; 0 keeps the background",
        json_schema_extra={"unit": "µm", "start": 1.6},
    )
    continuity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of the average of each plane with its two neighbours; "
        "for planes closer than the axial blur",
        json_schema_extra={"unit": "", "advanced": True},
    )

    @property
    def preceding(self) -> tuple[str, ...]:
        """The steps before the reconstruction."""
        steps = (("denoise", self.denoise), ("artefacts", self.artefacts))
        return tuple(name for name, on in steps if on)

    @property
    def output_scale(self) -> Triple:
        """Enlarged along y and x only."""
        return (1, self.scale, self.scale)

    @property
    def deblurs(self) -> bool:
        """Only the reconstruction deblurs."""
        return self.reconstruction != "none"

    def work(self, volume_voxels: int, read_voxels: int, whole_voxels: int) -> tuple[float, float]:
        """Return the work of each step's network; the reconstruction has the finest grid."""
        passes = 40.0 * len(self.preceding) + (250.0 if self.deblurs else 0.0)
        return 5e5 * (len(self.preceding) + self.deblurs), (2.0 + passes) * read_voxels

    @property
    def needs_psf(self) -> bool:
        """The PSF sets the resampling to the networks' PSF width."""
        return True

    @property
    def solved_dimensions(self) -> int:
        """3 if planes are averaged with their neighbours."""
        return 3 if self.continuity > 0 else 2

    @property
    def weights(self) -> str:
        """The model of the last step."""
        if self.deblurs:
            return MODULES[self.reconstruction]
        return MODULES["artefacts" if self.artefacts and not self.denoise else "denoise"]


class Dps(LearningMethod):
    """DPS as a method."""

    spec = MethodSpec(
        name="dps",
        title="DPS (resolution extension)",
        summary="Extends the resolution of thin, bright structures, with a network trained "
        "with the PSF and without sharp images.",
        parameters=DpsParameters,
        bytes_per_voxel=2000,
        learns="own_stack",
        source="Ye et al., Intelligent Computing 3:0082 (2024)",
        references=(
            Reference(
                key="ye2024",
                authors="Ye, Zitong and Huang, Yuran and Zhang, Jinfeng and others",
                title=(
                    "Universal and High-Fidelity Resolution Extending for Fluorescence "
                    "Microscopy Using a Single-Training Physics-Informed Sparse Neural Network"
                ),
                journal="Intelligent Computing 3:0082",
                year=2024,
                doi="10.34133/icomputing.0082",
            ),
        ),
    )

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return the largest halo: all networks in turn, in pixels of this image, and the ball."""
        parameters, size_um = plan.parameters, plan.voxel_size_um
        widths = (
            (MIN_FWHM_PX,) * 2
            if plan.psf is None
            else tuple(s * FWHM_PER_SIGMA for s in plan.psf.sigma_px(size_um)[1:])
        )
        nets = max(1, parameters.deblurs + len(parameters.preceding))
        around = []
        for width, size in zip(widths, size_um[1:], strict=True):
            per_px = max(1.0, width / MIN_FWHM_PX)
            ball = 2.2 * parameters.background_um / size + 16 if parameters.background_um else 0
            around.append(math.ceil((nets * MAX_REACH_PX + 8) * per_px + ball))
        return (1 if parameters.continuity else 0, around[0], around[1])


METHOD = Dps()
