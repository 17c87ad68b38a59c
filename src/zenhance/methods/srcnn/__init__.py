"""SRCNN: a small three-layer network learnt from pairs; the plainest of the learnt methods, and the baseline of the others."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zenhance.contract.spec import MethodContext, MethodParameters, MethodSpec, Prepared, PsfLike
from zenhance.types import Triple

if TYPE_CHECKING:
    from zenhance.methods._shared.supervised import PairLearner

__all__ = ["METHOD", "Srcnn", "SrcnnParameters"]

# Half the receptive field of 9-5-5, and two pixels for the bicubic enlargement; a model with smaller kernels needs less.
MAX_RADIUS_PX = 8
MAX_WINDOW = 7


class SrcnnParameters(MethodParameters):
    """Settings of SRCNN."""

    scale: Literal[1, 2] = Field(
        1, description="output pixels per input pixel along y and x; needs weights trained for it"
    )


def _scale(parameters: SrcnnParameters) -> Triple:
    return (1, parameters.scale, parameters.scale)


class Srcnn:
    """SRCNN as a method."""

    spec = MethodSpec(
        name="srcnn",
        title="SRCNN",
        summary="Three convolutions learnt from pairs: a fast baseline; choose RDN or deconvolution for results.",
        parameters=SrcnnParameters,
        consumes="z_window",
        output_scale_of=_scale,
        bytes_per_voxel=900,
        learns="pairs",
        default_weights="srcnn_stack",
        source="Dong, Loy, He, Tang, IEEE TPAMI 38:295 (2016)",
    )

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """Return the largest halo any SRCNN of this package needs."""
        return (MAX_WINDOW // 2, MAX_RADIUS_PX, MAX_RADIUS_PX)

    def learner(self) -> PairLearner:
        """Return how it learns."""
        from zenhance.methods._shared.supervised import Architecture, PairLearner
        from zenhance.methods.srcnn.network import SRCNN

        class SrcnnArchitecture(Architecture):
            kernels: tuple[int, int, int] = (9, 5, 5)
            widths: tuple[int, int] = (64, 32)

        return PairLearner(
            SrcnnArchitecture, lambda a: SRCNN(a.window, a.kernels, a.widths, a.scale), "mse"
        )

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Load the weights."""
        from zenhance.methods._shared.supervised import prepare_planes

        prepared = yield from prepare_planes(
            self.spec.name, self.spec.default_weights, self.learner(), _radius_px, context
        )
        return prepared


def _radius_px(architecture: Any) -> int:
    radius = sum(int(k) // 2 for k in architecture.kernels)
    return radius if architecture.scale == 1 else -(-radius // int(architecture.scale)) + 2


METHOD = Srcnn()
