"""What a method that learns declares: its network, its loss, and the patches it wants to see.

One loop in ``training`` serves all methods. It hands out batches of patches, normalised with the statistics of the volume they were cut
from (:class:`Scaling`), and knows nothing of what the network makes of them::

    volume -> Scaling (once a volume) -> patches (B, Z, Y, X) -> learner.loss(network, batch) -> optimiser
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from zenhance.contract.spec import VolumeStatistics
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = [
    "Batch",
    "Learner",
    "Optics",
    "PhysicalLearner",
    "Scaling",
    "SelfTaughtLearner",
    "TellingLearner",
]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Maps a volume's intensities to those a network sees: background to 0, the 99.9 % percentile to 1.

    Parameters
    ----------
    offset : float
        Intensity that becomes 0, in the input's units.
    span : float
        Intensity difference that becomes 1; positive.
    """

    offset: float
    span: float

    @classmethod
    def of(cls, statistics: VolumeStatistics) -> Scaling:
        """Take background and robust maximum from a volume's statistics; a volume without contrast keeps its units."""
        span = statistics.percentile_high - statistics.background
        return cls(statistics.background, span if span > 0 else 1.0)

    def forward(self, values: FloatArray) -> FloatArray:
        """Return what the network sees."""
        return np.asarray(
            (values - np.float32(self.offset)) / np.float32(self.span), dtype=np.float32
        )

    def inverse(self, values: FloatArray) -> FloatArray:
        """Return to the input's units."""
        return np.asarray(
            values * np.float32(self.span) + np.float32(self.offset), dtype=np.float32
        )


class Optics(Protocol):
    """How a patch was measured, in scaled intensities: what a decoder that ends in the microscope needs to know."""

    @property
    def dark(self) -> float:
        """Scaled intensity of a truth voxel without dye."""
        ...

    @property
    def base(self) -> float:
        """Expected scaled measurement where there is no dye."""
        ...

    @property
    def sigma_px(self) -> tuple[float, float, float]:
        """Standard deviation of the blur along z, y, x, without widely scattered light."""
        ...

    def expected(self, light: Tensor, finer: int = 1) -> Tensor:
        """Return the expected measurement (..., Z, Y, X) of light (..., Z, finer * Y, finer * X) above ``dark``. Gradients flow."""
        ...

    def variance(self, expected: Tensor) -> Tensor:
        """Return the variance of a measurement with this expectation."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches cut at the same places from what was measured and, where there is a truth, from it.

    Parameters
    ----------
    measured : Tensor (B, Z, Y, X)
        float32, scaled; Z is the window or sequence the recipe asks for, 1 for plain 2-D.
    truth : Tensor (B, Z, sY, sX) or None
        The sharp specimen in the same scaling; s is the method's output scale along y and x. None when learning from measurements alone.
    depth : Tensor (B,)
        Where each patch's middle plane lies in its stack: 0 is the first plane, 1 the last.
    optics : tuple of Optics
        One a patch, the same object for patches that were measured alike; empty where a method did not ask for it
        (:meth:`PhysicalLearner.needs_optics`).
    deconvolved : Tensor (B, K, Z, Y, X) or None
        Richardson-Lucy estimates of the same patches, scaled, where a method asked for them (:meth:`PhysicalLearner.deconvolved`).
    light : Tensor (B, Z, sY, sX) or None
        What the method itself took the specimen to be, plane by plane and before it learnt (:meth:`SelfTaughtLearner.light_of`).
    """

    measured: Tensor
    truth: Tensor | None
    depth: Tensor
    optics: tuple[Optics, ...] = ()
    deconvolved: Tensor | None = None
    light: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """What a network gets to see, (B, Z, Y, X): the measurement, and behind it, plane after plane, the estimates."""
        if self.deconvolved is None:
            return self.measured
        import torch

        return torch.cat([self.measured, self.deconvolved.flatten(1, 2)], 1)


class Learner(Protocol):
    """How a method learns. Its module may import torch; ask ``Method.learner()`` for it, which imports it late."""

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network; ``architecture`` is what the recipe says and the checkpoint keeps, nothing else decides its shape."""
        ...

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> tuple[int, int, int]:
        """Return the patch (Z, Y, X) to cut for a recipe's patch size along y and x."""
        ...

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Tell whether ``loss`` cannot do without a truth."""
        ...

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Return the scalar to minimise and figures to log (floats, already detached)."""
        ...

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the enhanced middle plane (B, 1, sY, sX) of patches (B, Z, Y, X); used for validation, preview and the test vector.

        ``measured`` is :attr:`Batch.seen`.
        """
        ...


@runtime_checkable
class PhysicalLearner(Learner, Protocol):
    """A learner whose loss looks through the microscope."""

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Tell whether batches must say how their patches were measured."""
        ...

    def deconvolved(self, architecture: Mapping[str, Any]) -> tuple[int, ...]:
        """Return after how many iterations each Richardson-Lucy estimate is taken that the network gets to see; empty for none."""
        ...


@runtime_checkable
class SelfTaughtLearner(PhysicalLearner, Protocol):
    """A learner that makes, from each plane as a whole and once, the light that its network has to find again."""

    def light_of(
        self, architecture: Mapping[str, Any], measured: FloatArray, optics: Optics
    ) -> FloatArray | None:
        """Return the light (sY, sX) of a scaled plane (Y, X), s a whole number; None where the batches do without."""
        ...


@runtime_checkable
class TellingLearner(Learner, Protocol):
    """A learner whose network is told how its patches were measured, so that a validation has to tell it too."""

    def predict_batch(self, network: Module, batch: Batch) -> Tensor:
        """Return what :meth:`Learner.predict` does, (B, 1, sY, sX), with the optics that the batch tells, where it does."""
        ...
