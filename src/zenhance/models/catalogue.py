"""Finds trained weights: those that ship, those the user trained, or any path.

The user's own models are in ``~/.zenhance/weights``, or in the folder that the environment
variable ``ZENHANCE_WEIGHTS`` names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from zenhance.contract import registry
from zenhance.errors import CheckpointError
from zenhance.models.header import Card, read_card
from zenhance.wording import hint_for, quoted

__all__ = ["WeightsEntry", "find_weights", "list_weights", "shipped_folder", "user_folder"]

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """A model that a user can choose; ``ships`` says whether it comes with the package."""

    name: str
    path: Path
    card: Card
    ships: bool


def user_folder() -> Path:
    """Return the folder of the user's own models; it need not exist yet."""
    named = os.environ.get("ZENHANCE_WEIGHTS")
    return Path(named).expanduser() if named else Path.home() / ".zenhance" / "weights"


def shipped_folder(method: str) -> Path:
    """Return the folder of the models that ship with a method; it need not exist."""
    return registry.folder(method) / "weights"


def list_weights(method: str) -> tuple[WeightsEntry, ...]:
    """Return the models of a method: its default, the others that ship, then the user's own.

    Files that cannot be read are left out.
    """
    default = registry.load(method).spec.defaults.weights
    found = []
    for folder, ships in ((shipped_folder(method), True), (user_folder(), False)):
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
            try:
                card = read_card(path)
            except CheckpointError:
                continue
            if card.method == method:
                found.append(WeightsEntry(path.name.removesuffix(SUFFIX), path, card, ships))
    return tuple(sorted(found, key=lambda entry: not entry.ships or entry.name != default))


def find_weights(method: str, wanted: str | None, default: str = "") -> Path:
    """Return the file of the weights a request asks for.

    Parameters
    ----------
    method : str
        Name of the method.
    wanted : str or None
        Name or path; None means ``default``, or the first model found if that is empty.
    default : str
        Name of the method's default weights.

    Raises
    ------
    CheckpointError
        There is no such model; the message offers the nearest name.
    """
    if wanted is not None and (
        wanted.endswith(SUFFIX) or os.sep in wanted or Path(wanted).is_file()
    ):
        path = Path(wanted).expanduser()
        if not path.is_file():
            raise CheckpointError(
                f'there is no file "{wanted}"; '
                f"give the name of a model or the path of a {SUFFIX} file"
            )
        return path
    entries = {entry.name: entry.path for entry in list_weights(method)}
    name = wanted or default
    if name in entries:
        return entries[name]
    if not name and entries:
        return next(iter(entries.values()))
    if not entries:
        raise CheckpointError(
            f"there are no weights for {method} yet; train some with `zenhance train {method}`"
        )
    raise CheckpointError(
        f"there are no weights {quoted(name)} for {method}; {hint_for(name, entries)}"
    )
