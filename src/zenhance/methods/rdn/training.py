"""Training of RDN: architecture, loss, receptive field."""

from __future__ import annotations

from pydantic import Field

from zenhance.methods._shared.supervised import Architecture, PairLearner
from zenhance.methods.rdn import METHOD
from zenhance.methods.rdn.network import RDN

__all__ = ["LEARNER", "RdnArchitecture"]


class RdnArchitecture(Architecture):
    """Size of the dense blocks: G0, G, D and C of the paper."""

    features: int = Field(64, ge=1, le=256)
    growth: int = Field(64, ge=1, le=256)
    blocks: int = Field(16, ge=1, le=64)
    layers: int = Field(8, ge=1, le=64)

    @property
    def radius_px(self) -> int:
        """One pixel for each 3 × 3 layer."""
        return 3 + self.blocks * self.layers + (1 if self.scale == 1 else 2)


LEARNER = PairLearner(
    RdnArchitecture,
    lambda a: RDN(a.window, a.features, a.growth, a.blocks, a.layers, a.scale),
    "l1",
    METHOD.max_radius_px,
)
