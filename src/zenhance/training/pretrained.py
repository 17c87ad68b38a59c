"""Weights that a training begins from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import Module

from zenhance.errors import CheckpointError, RecipeError
from zenhance.models.catalogue import find_weights
from zenhance.models.checkpoint import read_checkpoint
from zenhance.training.recipe import Recipe

__all__ = ["fill", "initial_weights"]


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
            f'the model "{recipe.start}" belongs to the method {checkpoint.card.method}, not to {recipe.method}'
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
            "the weights to start from belong to another architecture; take the one on their card, or start anew"
        ) from error
