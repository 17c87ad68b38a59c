"""How SRCNN learns: architecture, loss, receptive field."""

from __future__ import annotations

from zenhance.methods._shared.supervised import Architecture, PairLearner
from zenhance.methods.srcnn.network import SRCNN

__all__ = ["LEARNER", "SrcnnArchitecture"]


class SrcnnArchitecture(Architecture):
    """Kernel sizes and channels of the three convolutions."""

    kernels: tuple[int, int, int] = (9, 5, 5)
    widths: tuple[int, int] = (64, 32)

    @property
    def radius_px(self) -> int:
        """Half the receptive field, and two pixels for the bicubic enlargement."""
        radius = sum(kernel // 2 for kernel in self.kernels)
        return radius if self.scale == 1 else -(-radius // self.scale) + 2


LEARNER = PairLearner(
    SrcnnArchitecture, lambda a: SRCNN(a.window, a.kernels, a.widths, a.scale), "mse"
)
