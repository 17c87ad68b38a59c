"""Training of SRCNN: architecture, loss, receptive field."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from zenhance.methods._shared.supervised import Architecture, PairLearner
from zenhance.methods.srcnn import METHOD
from zenhance.methods.srcnn.network import SRCNN

__all__ = ["LEARNER", "SrcnnArchitecture"]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("must be odd, with a middle pixel")
    return size


Kernel = Annotated[int, Field(ge=1, le=33), AfterValidator(_odd)]
Width = Annotated[int, Field(ge=1, le=512)]


class SrcnnArchitecture(Architecture):
    """Kernel sizes and channels of the three convolutions."""

    kernels: tuple[Kernel, Kernel, Kernel] = (9, 5, 5)
    widths: tuple[Width, Width] = (64, 32)

    @property
    def radius_px(self) -> int:
        """Radius of the receptive field, with two pixels for the bicubic enlargement."""
        radius = sum(kernel // 2 for kernel in self.kernels)
        return radius if self.scale == 1 else -(-radius // self.scale) + 2


LEARNER = PairLearner(
    SrcnnArchitecture,
    lambda a: SRCNN(a.window, a.kernels, a.widths, a.scale),
    "mse",
    METHOD.max_radius_px,
)
