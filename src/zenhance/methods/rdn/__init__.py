"""RDN: a residual dense network trained on pairs; the stronger of the two baselines."""

from __future__ import annotations

from typing import ClassVar

from zenhance.contract.spec import MethodSpec, Reference
from zenhance.methods._shared.plane_method import PlaneMethod, PlaneParameters

__all__ = ["METHOD", "Rdn", "RdnParameters"]


class RdnParameters(PlaneParameters):
    """Settings of RDN."""

    prepare_work: ClassVar[float] = 5e5
    voxel_work: ClassVar[float] = 60.0

    @property
    def weights(self) -> str:
        """The default model of this scale."""
        return "rdn_stack" if self.scale == 1 else "rdn_x2"


class Rdn(PlaneMethod):
    """RDN as a method."""

    # The paper's D = 16, C = 8: three plain layers, 128 dense ones, and those of the output.
    max_radius_px = 134
    spec = MethodSpec(
        name="rdn",
        title="RDN",
        summary="Residual dense network trained on simulated pairs: a baseline for cell walls of "
        "meristems; for other specimens choose DQLR or deconvolution.",
        parameters=RdnParameters,
        bytes_per_voxel=1600,
        learns="pairs",
        source="Zhang, Tian, Kong, Zhong, Fu, CVPR (2018)",
        references=(
            Reference(
                key="zhang2018",
                authors=(
                    "Zhang, Yulun and Tian, Yapeng and Kong, Yu and Zhong, Bineng and Fu, Yun"
                ),
                title="Residual Dense Network for Image Super-Resolution",
                journal="IEEE/CVF Conference on Computer Vision and Pattern Recognition",
                year=2018,
                doi="10.1109/CVPR.2018.00262",
            ),
        ),
    )


METHOD = Rdn()
