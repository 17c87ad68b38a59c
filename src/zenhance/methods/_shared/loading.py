"""Loads a model for a volume: finds, reads and checks it, and compares its voxel size."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from zenhance.contract.learner import Learner
from zenhance.contract.spec import MethodContext
from zenhance.models.checkpoint import Checkpoint, load_network, model_of

__all__ = ["LoadedModel", "load_model", "voxel_warnings"]

# Voxel sizes within this factor of the training's give no warning.
VOXEL_TOLERANCE = 1.25
LEARN_FIRST = "let it learn from this stack first (--learn 10min)"


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode on its device, and its checkpoint."""

    network: Any
    checkpoint: Checkpoint

    @property
    def facts(self) -> dict[str, Any]:
        """Fields of :class:`zenhance.contract.spec.Prepared` that describe the model."""
        return {
            "notes": {"model": self.checkpoint.card.name},
            "weights_sha256": self.checkpoint.sha256,
        }


def load_model(
    method: str, learner: Learner, context: MethodContext
) -> Generator[float, None, LoadedModel]:
    """Load the weights of the request, or those of the method's parameters.

    Raises
    ------
    CheckpointError
        There are no such weights, they belong to another method, or they fail their own test.
    """
    yield 0.0
    checkpoint = model_of(method, context.weights, context.parameters.weights)
    yield 0.5
    return LoadedModel(load_network(checkpoint, learner, context.device).eval(), checkpoint)


def voxel_warnings(
    context: MethodContext, checkpoint: Checkpoint, remedy: str = "resample the stack to it"
) -> list[str]:
    """Return a warning if the volume's voxel size differs from that of the training."""
    trained = checkpoint.card.voxel_size_um
    if trained is None:
        return []
    axes = "yx" if context.shape_px[0] == 1 else "zyx"
    lengths = dict(zip("zyx", zip(context.voxel_size_um, trained, strict=True), strict=True))
    model = f'the model "{checkpoint.card.name}" was trained at'
    if unknown := [axis for axis in axes if axis in context.unknown_axes]:
        known = ", ".join(f"{axis} {lengths[axis][1]:.3g} µm" for axis in axes)
        which = "" if len(unknown) == len(axes) else f" along {' and '.join(unknown)}"
        return [f"the voxel size{which} is unknown, and {model} {known}; give the voxel size"]
    differing = [
        f"{axis} {has:.3g} instead of {wants:.3g} µm"
        for axis, (has, wants) in lengths.items()
        if axis in axes and not wants / VOXEL_TOLERANCE <= has <= wants * VOXEL_TOLERANCE
    ]
    if not differing:
        return []
    advice = f"{remedy}, or train a model on yours"
    return [f"{model} another voxel size ({', '.join(differing)}); {advice}"]
