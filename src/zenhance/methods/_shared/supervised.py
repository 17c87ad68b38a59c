"""What SRCNN, RDN and their kin share: learning from pairs, and restoring a stack plane by plane with what was learnt.

The network sees intensities scaled once per volume (background to 0, 99.9 % percentile to 1) and its output is scaled back, so that the
result has the input's units and follows its gain and offset.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Batch, Scaling
from zenhance.contract.settings import validate
from zenhance.contract.spec import MethodContext, TileGenerator
from zenhance.errors import CheckpointError, RecipeError
from zenhance.methods._shared.planes import restore_planes
from zenhance.models.checkpoint import Checkpoint, load_network, model_of
from zenhance.types import FloatArray, Triple

__all__ = ["Architecture", "PairLearner", "PlaneRestorer", "prepare_planes"]

# A model is used silently at voxel sizes within this factor of the one it was trained at.
VOXEL_TOLERANCE = 1.25


class Architecture(BaseModel):
    """Base of a network's architecture settings: frozen, unknown keys refused; ``window`` and ``scale`` are common to all."""

    model_config = {"frozen": True, "extra": "forbid"}

    window: int = 1
    scale: Literal[1, 2] = 1


@dataclass(frozen=True)
class PairLearner:
    """Learns the middle plane of a window from its truth.

    Parameters
    ----------
    architecture : type of Architecture
        Checks what a recipe says.
    network : callable
        Builds the network from an architecture.
    loss_kind : {'l1', 'mse'}
        Mean absolute or mean squared difference.
    """

    architecture: type[Architecture]
    network: Callable[[Any], Module]
    loss_kind: Literal["l1", "mse"]

    def build(self, architecture: Mapping[str, Any]) -> Module:
        """Return a new network.

        Raises
        ------
        RecipeError
            The architecture has an unknown key or a value out of range.
        """
        checked = validate(self.architecture, architecture, "architecture key", RecipeError)
        if checked.window % 2 == 0 or checked.window < 1:
            raise RecipeError(
                f"the window is {checked.window} planes; it must be odd, so that there is a middle one"
            )
        return self.network(checked)

    def patch_px(self, architecture: Mapping[str, Any], size_px: int) -> Triple:
        """Return (window, size, size)."""
        return (int(architecture.get("window", 1)), size_px, size_px)

    def needs_truth(self, architecture: Mapping[str, Any]) -> bool:
        """Return True: there is nothing else to compare with."""
        return True

    def loss(self, network: Module, batch: Batch) -> tuple[Tensor, Mapping[str, float]]:
        """Compare the network's plane with the middle plane of the truth.

        Raises
        ------
        RecipeError
            The batch has no truth, or one on another grid than the network's output.
        """
        if batch.truth is None:
            raise RecipeError(
                "this method learns from pairs, but a training stack has no truth; give pairs or simulated"
            )
        truth = batch.truth[:, batch.truth.shape[1] // 2][:, None]
        restored = network(batch.measured).float()
        if restored.shape != truth.shape:
            finer = truth.shape[-1] // batch.measured.shape[-1]
            raise RecipeError(
                f"the truth has {finer} × the measurement's pixels along y and x, but the network's output "
                f"{restored.shape[-1] // batch.measured.shape[-1]} ×; set architecture.scale to {finer}"
            )
        difference = restored - truth
        loss = difference.abs().mean() if self.loss_kind == "l1" else difference.square().mean()
        return loss, {}

    def predict(self, network: Module, measured: Tensor) -> Tensor:
        """Return the restored middle plane (B, 1, sY, sX)."""
        out: Tensor = network(measured)
        return out


@dataclass(frozen=True)
class PlaneRestorer:
    """A network made ready for one volume."""

    network: Module
    scaling: Scaling
    window: int
    scale: int
    device: str
    halo_px: Triple
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Restore a tile (Z, Y, X)."""
        stack = torch.from_numpy(self.scaling.forward(tile)).to(self.device)
        restored = yield from restore_planes(self.network, stack, self.window, self.scale)
        return {"enhanced": self.scaling.inverse(restored.cpu().numpy())}


def voxel_warnings(
    context: MethodContext, checkpoint: Checkpoint, remedy: str = "resample the stack to it"
) -> list[str]:
    """Say where the volume's voxels differ from those the model knows, and what to do."""
    trained = checkpoint.card.voxel_size_um
    if trained is None:
        return []
    known = (trained[0], trained[1], trained[2])
    said = []
    for axis, has, wants in zip("zyx", context.voxel_size_um, known, strict=True):
        if axis == "z" and context.shape_px[0] == 1:
            continue
        if not wants / VOXEL_TOLERANCE <= has <= wants * VOXEL_TOLERANCE:
            said.append(f"{axis} {has:.3g} instead of {wants:.3g} µm")
    if not said:
        return []
    text = ", ".join(said)
    advice = f"{remedy}, or train a model on yours"
    return [
        f'the model "{checkpoint.card.name}" was trained at another voxel size ({text}); {advice}'
    ]


def prepare_planes(
    method: str,
    default_weights: str,
    learner: PairLearner,
    radius_px: Callable[[Any], int],
    context: MethodContext,
) -> Generator[float, None, PlaneRestorer]:
    """Load weights and make a plane-wise network ready for a volume.

    Parameters
    ----------
    method, default_weights : str
        Names for the search of the weights; ``context.weights`` is the request's name or path, or None.
    learner : PairLearner
        Of the method.
    radius_px : callable
        Tells the receptive field's half-width in input pixels from the architecture.
    context : MethodContext
        The volume.
    """
    yield 0.0
    checkpoint = model_of(method, context.weights, default_weights)
    yield 0.5
    network = load_network(checkpoint, learner, context.device)
    architecture = validate(
        learner.architecture, checkpoint.card.architecture, "architecture key", CheckpointError
    )
    radius = radius_px(architecture)
    wanted = int(getattr(context.parameters, "scale", architecture.scale))
    if wanted != architecture.scale:
        raise CheckpointError(
            f'the model "{checkpoint.card.name}" enlarges {architecture.scale} ×, but scale {wanted} was asked for; choose other weights'
        )
    notes = {
        "model": checkpoint.card.name,
        "weights_sha256": checkpoint.sha256,
        "warnings": voxel_warnings(context, checkpoint),
    }
    halo = (architecture.window // 2, radius, radius)
    return PlaneRestorer(
        network,
        Scaling.of(context.statistics),
        architecture.window,
        architecture.scale,
        context.device,
        halo,
        {},
        notes,
    )
