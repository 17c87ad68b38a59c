"""How the tiny method learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Batch, Learner
from zenhance.types import Triple

from .network import Affine


class TinyLearner(Learner):
    """Compares the middle plane with the truth."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network."""
        return Affine()

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return single planes."""
        return (1, size_px, size_px)

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean squared difference."""
        assert batch.truth is not None
        return (network(batch.measured) - batch.truth).square().mean(), {}

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the middle plane."""
        middle = measured.shape[1] // 2
        out: Tensor = network(measured[:, middle : middle + 1])
        return out


LEARNER = TinyLearner()
