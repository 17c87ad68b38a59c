"""Training from pairs and restoring a stack plane by plane, for SRCNN and RDN.

Intensities are scaled once per volume (background to 0, 99.9 % percentile to 1) and the output is
scaled back, so that the result has the input's units and follows its gain and offset.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Batch, Learner, Scaling
from zenhance.contract.settings import validate
from zenhance.contract.spec import MethodContext, Prepared, TileGenerator
from zenhance.errors import CheckpointError, RecipeError
from zenhance.methods._shared.loading import load_model, voxel_warnings
from zenhance.methods._shared.plane_method import MAX_WINDOW
from zenhance.methods._shared.planes import restore_planes
from zenhance.types import FloatArray, Triple

__all__ = ["Architecture", "PairLearner", "PlaneRestorer"]


class Architecture(BaseModel):
    """Base of a network's architecture settings: frozen, unknown keys refused."""

    model_config = {"frozen": True, "extra": "forbid"}

    window: int = Field(1, ge=1, le=MAX_WINDOW)
    scale: Literal[1, 2] = 1

    @property
    def radius_px(self) -> int:
        """Radius of the receptive field along y and x, in input pixels."""
        raise NotImplementedError


@dataclass
class PlaneRestorer(Prepared):
    """A network made ready for one volume."""

    network: Module
    scaling: Scaling
    window: int
    scale: int
    device: str

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Restore a tile (Z, Y, X)."""
        stack = torch.from_numpy(self.scaling.forward(tile)).to(self.device)
        restored = yield from restore_planes(self.network, stack, self.window, self.scale)
        return {"enhanced": self.scaling.inverse(restored.cpu().numpy())}


@dataclass(frozen=True)
class PairLearner(Learner):
    """Learns the middle plane of a window from its truth.

    Parameters
    ----------
    architecture : type of Architecture
        Model of the recipe's settings.
    network : callable
        Builds the network from an architecture.
    loss_kind : {'l1', 'mse'}
        Mean absolute or mean squared difference.
    max_radius_px : int
        Radius of the largest receptive field that the method plans with.
    """

    architecture: type[Architecture]
    network: Callable[[Any], Module]
    loss_kind: Literal["l1", "mse"]
    max_radius_px: int

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network."""
        checked = validate(self.architecture, architecture, "architecture key", RecipeError)
        if checked.window % 2 == 0:
            raise RecipeError(
                f"the window is {checked.window} planes; it must be odd, with a middle plane"
            )
        if checked.radius_px > self.max_radius_px:
            raise RecipeError(
                f"the receptive field of this network has a radius of {checked.radius_px} pixels, "
                f"at most {self.max_radius_px} are allowed; give fewer layers or smaller kernels"
            )
        return self.network(checked)

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return (window, size, size)."""
        return (int(architecture.get("window", 1)), size_px, size_px)

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Compare the network's plane with the middle plane of the truth.

        Raises
        ------
        RecipeError
            The batch has no truth on the grid of the network's output.
        """
        if batch.truth is None:
            raise RecipeError(
                "this method learns from pairs, but a training stack has no truth; "
                "give pairs or simulated"
            )
        truth = batch.truth[:, batch.truth.shape[1] // 2][:, None]
        restored = network(batch.measured).float()
        if restored.shape != truth.shape:
            finer = truth.shape[-1] // batch.measured.shape[-1]
            raise RecipeError(
                f"the truth has {finer} × the measurement's pixels along y and x, but the "
                f"network's output {restored.shape[-1] // batch.measured.shape[-1]} ×; "
                f"set architecture.scale to {finer}"
            )
        difference = restored - truth
        loss = difference.abs().mean() if self.loss_kind == "l1" else difference.square().mean()
        return loss, {}

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the restored middle plane (B, 1, sY, sX)."""
        out: Tensor = network(measured)
        return out

    def prepare(self, method: str, context: MethodContext) -> Generator[float, None, PlaneRestorer]:
        """Load the weights of a method and make its network ready for a volume.

        Raises
        ------
        CheckpointError
            The weights cannot be used, or have another scale than the request.
        """
        model = yield from load_model(method, self, context)
        card = model.checkpoint.card
        architecture = validate(
            self.architecture, card.architecture, "architecture key", CheckpointError
        )
        if context.parameters.scale != architecture.scale:
            raise CheckpointError(
                f'the model "{card.name}" enlarges {architecture.scale} ×, '
                f"but the scale is set to {context.parameters.scale}; choose other weights"
            )
        return PlaneRestorer(
            model.network,
            Scaling.of(context.statistics),
            architecture.window,
            architecture.scale,
            context.device,
            halo_px=(architecture.window // 2, architecture.radius_px, architecture.radius_px),
            warnings=voxel_warnings(context, model.checkpoint),
            **model.facts,
        )
