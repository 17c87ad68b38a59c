"""The user's own models: names, the folder where every list of weights looks, and saving."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from zenhance.errors import RecipeError
from zenhance.io.commit import write_bytes
from zenhance.models.catalogue import SUFFIX, list_weights, user_folder
from zenhance.models.header import CARD_KEY, Card, read_card
from zenhance.training.recipe import Recipe

__all__ = [
    "ModelSignals",
    "check_name",
    "free_name",
    "model_path",
    "model_signals",
    "renamed",
    "save_model",
]

MAX_NAME = 100
_NAME = re.compile(
    next(
        str(m.pattern) for m in Recipe.model_fields["name"].metadata if getattr(m, "pattern", None)
    )
)


class ModelSignals(QObject):
    """Signals a new model to every list of weights."""

    saved = Signal(str)


@cache
def model_signals() -> ModelSignals:
    """Return the signals that all docks of this process share."""
    return ModelSignals()


def check_name(name: str, method: str) -> str:
    """Return a name if it is allowed for a model of the user.

    Raises
    ------
    RecipeError
        The name is not a file name, or belongs to a model that comes with zenhance.
    """
    if not _NAME.match(name) or len(name) > MAX_NAME:
        raise RecipeError(
            f'the model\'s name is "{name[:60]}"; use at most 100 letters, digits, dots, dashes '
            "and underscores, and begin with a letter or digit"
        )
    if any(entry.ships and entry.name == name for entry in list_weights(method)):
        raise RecipeError(
            f'the name "{name}" belongs to a model that comes with zenhance; choose another one'
        )
    return name


def model_path(name: str) -> Path:
    """Return the path of a model of that name, whether it exists or not."""
    return user_folder() / f"{name}{SUFFIX}"


def free_name(wanted: str) -> str:
    """Return the name, with a number if it is taken."""
    number, name = 1, wanted
    while model_path(name).exists():
        number += 1
        name = f"{wanted}_{number}"
    return name


def renamed(blob: bytes, card: Card, name: str) -> bytes:
    """Return a checkpoint's bytes with another name on its card and the same weights."""
    from safetensors.numpy import load, save

    recipe = card.recipe | ({"name": name} if "name" in card.recipe else {})
    return bytes(
        save(
            load(blob),
            metadata={CARD_KEY: card.model_copy(update={"name": name, "recipe": recipe}).to_json()},
        )
    )


def save_model(blob: bytes, card: Card, name: str, *, overwrite: bool = False) -> Card:
    """Save a model in the user's folder and signal it to every list of weights.

    Parameters
    ----------
    blob : bytes
        Of the checkpoint.
    card : Card
        Of the checkpoint.
    name : str
        Of the file, without ending.
    overwrite : bool
        Whether a model of that name may be replaced.

    Returns
    -------
    Card
        Read back from the file.

    Raises
    ------
    RecipeError
        The name cannot be used.
    OutputExistsError, WriteError
        The file is there already, or cannot be written.
    """
    path = model_path(check_name(name, card.method))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, renamed(blob, card, name), overwrite=overwrite)
    kept = read_card(path)
    model_signals().saved.emit(name)
    return kept
