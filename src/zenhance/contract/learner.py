"""How a method is trained: its network, its loss, and the patches it needs.

One loop in ``training`` serves all methods. It draws batches of patches, normalised with the
statistics of the volume they were cut from (:class:`Scaling`)::

    volume -> Scaling (once a volume) -> patches (B, Z, Y, X) -> learner.loss(network, batch)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zenhance.contract.spec import Method, MethodContext, Prepared, VolumeStatistics
from zenhance.errors import RecipeError
from zenhance.types import FloatArray, Triple

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["Batch", "Learner", "LearningMethod", "Optics", "Scaling"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scales intensities for a network: background to 0, the 99.9 % percentile to 1.

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
        """Take background and robust maximum from a volume's statistics.

        A volume without contrast keeps its units.
        """
        span = statistics.percentile_high - statistics.background
        return cls(statistics.background, span if span > 0 else 1.0)

    def forward(self, values: FloatArray) -> FloatArray:
        """Return scaled intensities."""
        # Grey values are mostly whole: their difference from a whole number is exact in float32.
        whole = np.round(self.offset)
        above = (values - np.float32(whole)) - np.float32(self.offset - whole)
        return np.asarray(above / np.float32(self.span), dtype=np.float32)

    def inverse(self, values: FloatArray) -> FloatArray:
        """Return intensities in the input's units."""
        return np.asarray(
            values * np.float32(self.span) + np.float32(self.offset), dtype=np.float32
        )


class Optics(Protocol):
    """The microscope of a patch, in scaled intensities, for losses that simulate it."""

    @property
    def dark(self) -> float:
        """Scaled intensity of a truth voxel without dye."""
        ...

    @property
    def base(self) -> float:
        """Expected scaled measurement without dye."""
        ...

    @property
    def sigma_px(self) -> tuple[float, float, float]:
        """Standard deviation of the blur along z, y, x, without widely scattered light."""
        ...

    def expected(self, light: Tensor, finer: int = 1) -> Tensor:
        """Return the expected measurement (..., Z, Y, X) of light above ``dark``.

        The light has shape (..., Z, finer * Y, finer * X). Gradients flow.
        """
        ...

    def variance(self, expected: Tensor) -> Tensor:
        """Return the variance of a measurement with this expectation."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches of the measurement and, where there is one, the truth at the same positions.

    Parameters
    ----------
    measured : Tensor (B, Z, Y, X)
        float32, scaled; Z is the window or sequence that the recipe asks for, 1 for plain 2-D.
    truth : Tensor (B, Z, sY, sX) or None
        The sharp specimen in the same scaling; s is the method's output scale along y and x. None
        when learning from measurements alone.
    depth : Tensor (B,)
        Position of each patch's middle plane in its stack: 0 is the first plane, 1 the last.
    optics : tuple of Optics
        One per patch, the same object for patches with the same microscope; empty unless the
        learner needs it (:meth:`Learner.needs_optics`).
    deconvolved : Tensor (B, K, Z, Y, X) or None
        Scaled Richardson-Lucy estimates of the same patches, if the learner uses them
        (:meth:`Learner.deconvolved`), or the features of the front end (:meth:`Learner.front_end`).
    light : Tensor (B, Z, sY, sX) or None
        The method's own estimate of the specimen, plane by plane, made before training
        (:meth:`Learner.light_of`).
    """

    measured: Tensor
    truth: Tensor | None
    depth: Tensor
    optics: tuple[Optics, ...] = ()
    deconvolved: Tensor | None = None
    light: Tensor | None = None

    @property
    def truth_on_grid(self) -> Tensor:
        """The truth, for a method that learns from pairs and does not enlarge.

        Raises
        ------
        RecipeError
            The batch has no truth, or its truth has finer pixels than the measurement.
        """
        if self.truth is None:
            raise RecipeError(
                "this method learns from pairs, but a training stack has no truth; "
                "give pairs or simulated"
            )
        if self.truth.shape != self.measured.shape:
            raise RecipeError(
                "the truth has finer pixels than the measurement, but this method does not "
                "enlarge; give truth on the same grid"
            )
        return self.truth

    @property
    def seen(self) -> Tensor:
        """Input of a network, (B, Z, Y, X): the measurement, then the estimates plane by plane."""
        if self.deconvolved is None:
            return self.measured
        import torch

        return torch.cat([self.measured, self.deconvolved.flatten(1, 2)], 1)


class Learner(ABC):
    """How a method is trained; its module can import torch.

    ``architecture`` is what the recipe sets and the checkpoint keeps.
    """

    @abstractmethod
    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network; only ``architecture`` decides its shape.

        Raises
        ------
        RecipeError
            The architecture has an unknown key or a value out of range.
        """

    def adopt(self, network: Module, initial: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights for a network to begin from, from those of a model of the method."""
        return initial

    @abstractmethod
    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return the patch (Z, Y, X) to cut for a recipe's patch size along y and x."""

    @abstractmethod
    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Return the scalar to minimise and figures to log (floats, already detached)."""

    @abstractmethod
    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the enhanced middle plane (B, 1, sY, sX) of patches (B, Z, Y, X).

        It serves validation, preview and the test vector; ``measured`` is :attr:`Batch.seen`.
        """

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether ``loss`` needs a truth."""
        return True

    def needs_optics(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether batches need ``optics``."""
        return False

    def deconvolved(self, architecture: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the iterations of each Richardson-Lucy estimate that the network uses.

        Empty for none; used only if the learner needs optics.
        """
        return ()

    def front_end(self, architecture: Mapping[str, Any]) -> bool:
        """Return whether the network sees the features of ``methods/_shared/front_end``.

        They are then in ``Batch.deconvolved``; used only if the learner needs optics.
        """
        return False

    def light_of(
        self, architecture: Mapping[str, Any], measured: FloatArray, optics: Optics
    ) -> FloatArray | None:
        """Return the light (sY, sX) of a scaled plane (Y, X) that the network must recover.

        s is an integer. None if batches need no such light. Called once per plane, and only if the
        learner needs optics.
        """
        return None

    def score(self, network: Module, metrics: Mapping[str, float]) -> float:
        """Return what the best model of a training has most of, from a validation's figures.

        The PSNR in dB where there is a truth, else minus the loss.
        """
        return metrics.get("psnr_db", -metrics["loss"])

    def predict_batch(self, network: Module, batch: Batch) -> Tensor:
        """Return the result of :meth:`predict`, for a network that also uses the optics."""
        return self.predict(network, batch.seen)


class LearningMethod(Method):
    """A method with weights, in its own folder; ``spec.learns`` says what it learns from.

    The folder holds ``training.py`` with ``LEARNER`` and ``inference.py`` with ``prepare``. Both
    are imported on use, so that declaring the method does not import torch.
    """

    def learner(self) -> Learner:
        """Return the learner (imports torch)."""
        learner: Learner = self._part("training").LEARNER
        return learner

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Load the weights and make the network ready for a volume."""
        prepared: Prepared = yield from self._part("inference").prepare(context)
        return prepared

    def _part(self, name: str) -> Any:
        return import_module(f"{type(self).__module__}.{name}")
