"""RDN: residual dense network learnt from pairs; the stronger of the two plain supervised baselines."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zenhance.contract.spec import MethodContext, MethodParameters, MethodSpec, Prepared, PsfLike
from zenhance.types import Triple

if TYPE_CHECKING:
    from zenhance.methods._shared.supervised import PairLearner

__all__ = ["METHOD", "Rdn", "RdnParameters"]

# What the paper's D = 16, C = 8 reaches: three plain layers, 128 dense ones, and the two of the output.
MAX_RADIUS_PX = 134
MAX_WINDOW = 7


class RdnParameters(MethodParameters):
    """Settings of RDN."""

    scale: Literal[1, 2] = Field(
        1, description="output pixels per input pixel along y and x; needs weights trained for it"
    )


def _scale(parameters: RdnParameters) -> Triple:
    return (1, parameters.scale, parameters.scale)


class Rdn:
    """RDN as a method."""

    spec = MethodSpec(
        name="rdn",
        title="RDN",
        summary="Residual dense network learnt from pairs: denoises and sharpens in one pass, where the stack resembles what it learnt.",
        parameters=RdnParameters,
        consumes="z_window",
        output_scale_of=_scale,
        bytes_per_voxel=1600,
        learns="pairs",
        default_weights="rdn_stack",
        source="Zhang, Tian, Kong, Zhong, Fu, CVPR (2018)",
    )

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """Return the largest halo any RDN of this package needs."""
        return (MAX_WINDOW // 2, MAX_RADIUS_PX, MAX_RADIUS_PX)

    def learner(self) -> PairLearner:
        """Return how it learns."""
        from zenhance.methods._shared.supervised import Architecture, PairLearner
        from zenhance.methods.rdn.network import RDN

        class RdnArchitecture(Architecture):
            features: int = 64
            growth: int = 64
            blocks: int = 16
            layers: int = 8

        return PairLearner(
            RdnArchitecture,
            lambda a: RDN(a.window, a.features, a.growth, a.blocks, a.layers, a.scale),
            "l1",
        )

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Load the weights."""
        from zenhance.methods._shared.supervised import prepare_planes

        prepared = yield from prepare_planes(
            self.spec.name, self.spec.default_weights, self.learner(), _radius_px, context
        )
        return prepared


def _radius_px(architecture: Any) -> int:
    """Three 3 × 3 layers before the output, one a dense layer, and the enlargement and output layers."""
    return (
        3
        + int(architecture.blocks) * int(architecture.layers)
        + (1 if architecture.scale == 1 else 2)
    )


METHOD = Rdn()
