"""SRCNN: three convolutions trained on pairs; the baseline of the trained methods."""

from __future__ import annotations

from typing import ClassVar

from zenhance.contract.spec import MethodSpec, Reference
from zenhance.methods._shared.plane_method import PlaneMethod, PlaneParameters

__all__ = ["METHOD", "Srcnn", "SrcnnParameters"]


class SrcnnParameters(PlaneParameters):
    """Settings of SRCNN."""

    prepare_work: ClassVar[float] = 4e5
    voxel_work: ClassVar[float] = 17.0

    @property
    def weights(self) -> str:
        """The default model of this scale."""
        return "srcnn_stack" if self.scale == 1 else "srcnn_x2"


class Srcnn(PlaneMethod):
    """SRCNN as a method."""

    # 9-5-5 has 8; users can train larger networks.
    max_radius_px = 24
    spec = MethodSpec(
        name="srcnn",
        title="SRCNN",
        summary="Three convolutions trained on simulated pairs: a fast baseline for cell walls of "
        "meristems; for other specimens choose DQLR or deconvolution.",
        parameters=SrcnnParameters,
        bytes_per_voxel=900,
        learns="pairs",
        source="Dong, Loy, He, Tang, IEEE TPAMI 38:295 (2016)",
        references=(
            Reference(
                key="dong2016",
                authors="Dong, Chao and Loy, Chen Change and He, Kaiming and Tang, Xiaoou",
                title="Image Super-Resolution Using Deep Convolutional Networks",
                journal="IEEE Transactions on Pattern Analysis and Machine Intelligence 38:295",
                year=2016,
                doi="10.1109/TPAMI.2015.2439281",
            ),
        ),
    )


METHOD = Srcnn()
