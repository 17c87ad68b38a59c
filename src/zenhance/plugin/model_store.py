"""The user's own models: a trained model gets its name and is put into the folder where every list of weights looks."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from zenhance.errors import RecipeError
from zenhance.io.write_bytes import write_bytes
from zenhance.models.card import Card
from zenhance.models.catalogue import SUFFIX, list_weights, user_folder
from zenhance.models.header import CARD_KEY, read_card
from zenhance.training.recipe import Recipe

__all__ = ["ModelNews", "check_name", "free_name", "model_path", "news", "renamed", "save_model"]

LONGEST = 100
_NAME = re.compile(
    next(
        str(m.pattern) for m in Recipe.model_fields["name"].metadata if getattr(m, "pattern", None)
    )
)


class ModelNews(QObject):
    """Tells every list of weights that there is a new model."""

    saved = Signal(str)


@cache
def news() -> ModelNews:
    """Return the one teller of this process."""
    return ModelNews()


def check_name(name: str, method: str) -> str:
    """Return a name that a model of the user may have.

    Raises
    ------
    RecipeError
        It is no file name, or a model that ships has it.
    """
    if not _NAME.match(name) or len(name) > LONGEST:
        raise RecipeError(
            f'the model\'s name is "{name[:60]}"; use at most 100 letters, digits, dots, dashes and underscores, a letter or digit first'
        )
    if any(entry.ships and entry.name == name for entry in list_weights(method)):
        raise RecipeError(
            f'the name "{name}" belongs to a model that comes with zenhance; choose another one'
        )
    return name


def model_path(name: str) -> Path:
    """Return where a model of that name lies or would lie."""
    return user_folder() / f"{name}{SUFFIX}"


def free_name(wanted: str) -> str:
    """Return the name, with a number where it is taken."""
    number, name = 1, wanted
    while model_path(name).exists():
        number += 1
        name = f"{wanted}_{number}"
    return name


def renamed(blob: bytes, card: Card, name: str) -> bytes:
    """Return a checkpoint's bytes with another name on its card; not a weight is touched."""
    from safetensors.numpy import load, save

    recipe = card.recipe | ({"name": name} if "name" in card.recipe else {})
    return bytes(
        save(
            load(blob),
            metadata={CARD_KEY: card.model_copy(update={"name": name, "recipe": recipe}).to_json()},
        )
    )


def save_model(blob: bytes, card: Card, name: str, *, overwrite: bool = False) -> Card:
    """Put a model among the user's own and tell every list of weights.

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
    news().saved.emit(name)
    return kept
