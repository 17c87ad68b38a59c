"""Installs a trained model: tests it, then copies it into the user's folder of weights."""

from __future__ import annotations

import re
from pathlib import Path

from zenhance.contract import registry
from zenhance.contract.learner import LearningMethod
from zenhance.errors import CheckpointError, MethodError, OutputExistsError, WriteError
from zenhance.io.write_bytes import write_bytes
from zenhance.models.catalogue import SUFFIX, WeightsEntry, shipped_folder, user_folder
from zenhance.models.checkpoint import Checkpoint, load_network, read_checkpoint

__all__ = ["check_name", "install_model", "try_model"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str) -> Path:
    """Return the path at which a model of this name is kept.

    Raises
    ------
    CheckpointError
        The name is not a file name, or a model of that name ships.
    OutputExistsError
        The user has a model of that name.
    """
    if not NAME.fullmatch(name) or len(name) > 100:
        raise CheckpointError(
            f'"{name[:60]}" cannot be the name of a model; '
            "use letters, digits, _, - and dots, at most 100 of them"
        )
    if any((shipped_folder(m) / f"{name}{SUFFIX}").is_file() for m in registry.names()):
        raise CheckpointError(
            f'a model called "{name}" ships with zenhance; give yours another name with --name'
        )
    path = user_folder() / f"{name}{SUFFIX}"
    if path.exists():
        raise OutputExistsError(
            f'a model called "{name}" exists already in "{path.parent}"; '
            "give this one another name with --name"
        )
    return path


def try_model(path: Path) -> Checkpoint:
    """Read a model and run its own test with the network of its method.

    Raises
    ------
    CheckpointError
        It is not a model of this package, is damaged or changed, or its method is not installed.
    """
    checkpoint = read_checkpoint(path)
    try:
        method = registry.load(checkpoint.card.method)
    except MethodError as error:
        raise CheckpointError(f'the model "{path.name}" cannot be used: {error}') from error
    if not isinstance(method, LearningMethod):
        raise CheckpointError(
            f'the model "{path.name}" cannot be used: it is for {checkpoint.card.method}, '
            "which uses no weights"
        )
    load_network(checkpoint, method.learner(), "cpu")
    return checkpoint


def install_model(path: Path, name: str | None = None) -> WeightsEntry:
    """Copy a model into the user's folder, so that ``weights: NAME`` finds it.

    Parameters
    ----------
    path : Path
        A safetensors file that a training wrote.
    name : str, optional
        Name to install it under; default the name on its card.

    Raises
    ------
    CheckpointError
        See :func:`try_model` and :func:`check_name`.
    OutputExistsError, WriteError
        The name is taken, or the folder cannot be written.
    """
    checkpoint = try_model(path)
    target = check_name(checkpoint.card.name if name is None else name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f'the folder "{target.parent}" for models cannot be made ({error.strerror}); '
            "set ZENHANCE_WEIGHTS to a folder that you can write to"
        ) from error
    write_bytes(target, path.read_bytes())
    return WeightsEntry(target.name.removesuffix(SUFFIX), target, checkpoint.card, False)
