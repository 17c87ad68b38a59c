"""A trained network as a checkpoint: card, weights, and a test input with its output."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from zenhance._version import __version__
from zenhance.contract.learner import Learner
from zenhance.errors import CheckpointError, RecipeError
from zenhance.models.catalogue import find_weights
from zenhance.models.checkpoint import dump_checkpoint, read_checkpoint
from zenhance.models.header import ESTIMATED, Card
from zenhance.training.data import TrainingVolume
from zenhance.training.recipe import Recipe
from zenhance.training.state import Progressed

__all__ = ["fill", "initial_weights", "model_bytes", "source_commit"]

# The test input is small: it is run each time the model is loaded.
TEST_PX = 32


def model_bytes(
    learner: Learner,
    network: Module,
    recipe: Recipe,
    done: Progressed,
    volumes: tuple[list[TrainingVolume], list[TrainingVolume]],
    test_input: Tensor,
    device: str,
    made_by: tuple[str, str],
) -> tuple[bytes, Card]:
    """Return the checkpoint's bytes and its card.

    Parameters
    ----------
    learner, network : Learner, Module
        The trained network, on the CPU, in evaluation mode.
    recipe, done : Recipe, Progressed
        What was asked for and what came of it.
    volumes : tuple of two lists
        Trained and validated on.
    test_input : Tensor (1, Z, Y, X)
        A scaled patch; its corner becomes the test input.
    device : str
        Where it was trained.
    made_by : tuple of str
        The command that makes it again, and the source's commit when the training began.
    """
    small = test_input[..., :TEST_PX, :TEST_PX].contiguous()
    with torch.inference_mode():
        expected = learner.predict(network, small)
    train, held = volumes
    sizes = {v.measured.stack.voxel_size.zyx_um for v in train}
    card = Card(
        method=recipe.method,
        name=recipe.name,
        description=recipe.description,
        version=__version__,
        commit=made_by[1],
        command=made_by[0],
        recipe=recipe.model_dump(mode="json", exclude_defaults=True),
        architecture=recipe.architecture,
        parameters=sum(p.numel() for p in network.parameters()),
        data=tuple(_describe(v, "train") for v in train)
        + tuple(_describe(v, "validation") for v in held),
        seed=recipe.seed,
        steps=done.best_step,
        seconds=round(done.seconds, 1),
        device=device,
        voxel_size_um=_common(sizes),
        intensity={
            "background": float(np.mean([v.scaling.offset for v in train])),
            "span": float(np.mean([v.scaling.span for v in train])),
        },
        metrics={name: round(value, 6) for name, value in done.best_metrics.items()},
    )
    return dump_checkpoint(card, network.state_dict(), small, expected), card


def _common(
    sizes: set[tuple[float | None, float | None, float | None]],
) -> tuple[float, float, float] | None:
    """Return the voxel size that all stacks have; None if they differ or it is not known."""
    z, y, x = next(iter(sizes)) if len(sizes) == 1 else (None, None, None)
    return None if z is None or y is None or x is None else (z, y, x)


def _describe(volume: TrainingVolume, role: str) -> dict[str, object]:
    real = volume.estimated_from
    if real is not None:
        return {"name": volume.name, "role": role, "sha256": real.sha256(), "truth": ESTIMATED}
    return {
        "name": volume.name,
        "role": role,
        "sha256": volume.sha256(),
        "truth": volume.truth is not None,
    }


def source_commit() -> str:
    """Return the source's commit where the package runs from a checkout, else nothing."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def initial_weights(recipe: Recipe) -> Mapping[str, Tensor] | None:
    """Return the weights that the recipe begins from, if it names any.

    Raises
    ------
    CheckpointError
        There are none of that name, or they belong to another method.
    """
    if not recipe.start:
        return None
    checkpoint = read_checkpoint(find_weights(recipe.method, recipe.start))
    if checkpoint.card.method != recipe.method:
        raise CheckpointError(
            f'the model "{recipe.start}" belongs to the method {checkpoint.card.method}, not to '
            f"{recipe.method}"
        )
    return checkpoint.state


def fill(network: Module, initial: Mapping[str, Tensor]) -> None:
    """Put weights into a network.

    Raises
    ------
    RecipeError
        They are of another shape.
    """
    try:
        network.load_state_dict(dict(initial))
    except RuntimeError as error:
        raise RecipeError(
            "the weights to start from belong to another architecture; take the one on their card, "
            "or start from random weights"
        ) from error
