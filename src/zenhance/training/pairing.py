"""The user's own files as training data: which file is the truth of which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zenhance.contract import registry
from zenhance.errors import ReadError, RecipeError
from zenhance.io.names import IMAGE_SUFFIXES, images_in, is_image_folder, stem
from zenhance.training.recipe import Data, Pair

__all__ = ["TRUTH", "find_data"]

TRUTH = "_truth"
# What the simulator writes besides, and nobody trains on.
COMPANIONS = ("_labels", "_blurred")


def find_data(paths: Sequence[str], method: str) -> Data:
    """Return what a method can learn from in files and folders.

    ``NAME.ext`` and ``NAME_truth.ext`` in one folder are a pair, as ``zenhance simulate`` writes
    them; the two may differ in ``ext``. A file without a truth is a stack, for methods that learn
    from measurements alone. ``NAME_labels`` and ``NAME_blurred`` beside a NAME are left out.

    Parameters
    ----------
    paths : sequence of str
        Files and folders.
    method : str
        Name of the method that is to learn.

    Raises
    ------
    ReadError
        A path is not there, or a folder holds no image.
    RecipeError
        A truth has no measurement, or a file no truth and the method needs one.
    """
    given = [path for text in paths for path in _files(text)]
    files = list(dict.fromkeys(given))
    measured = [path for path in files if _owner(path, TRUTH) is None and not _is_companion(path)]
    lost = [
        path
        for path in files
        if (name := _owner(path, TRUTH)) is not None and not _beside(path, name)
    ]
    if lost:
        name = _owner(lost[0], TRUTH)
        raise RecipeError(
            f'"{lost[0].name}" is a truth without its measurement; put "{name}.ome.tif" beside it, '
            "or rename it"
        )
    # a truth that is given alone stands for its pair
    measured += [
        own
        for path in files
        if (name := _owner(path, TRUTH)) is not None
        for own in _beside(path, name)[:1]
    ]
    pairs, stacks = [], []
    for path in dict.fromkeys(measured):
        truths = _beside(path, stem(path) + TRUTH)
        if truths:
            pairs.append(Pair(measured=str(path), truth=str(truths[0])))
        else:
            stacks.append(path)
    if stacks and registry.load(method).spec.learns != "own_stack":
        raise RecipeError(
            f'"{stacks[0].name}" has no truth beside it and {method} learns from pairs only; put '
            f'"{stem(stacks[0])}{TRUTH}.ome.tif" there'
        )
    return Data(pairs=tuple(pairs), stacks=tuple(str(path) for path in stacks))


def _files(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if not os.path.lexists(path):
        raise ReadError(text[:150], "there is no such file or folder; check the path after --data")
    return images_in(path) if path.is_dir() and not is_image_folder(path) else [path]


def _owner(path: Path, ending: str) -> str | None:
    """Return NAME of ``NAME_truth.ext``, or None for any other file."""
    name = stem(path)
    return name.removesuffix(ending) if name.endswith(ending) and len(name) > len(ending) else None


def _is_companion(path: Path) -> bool:
    return any(
        (name := _owner(path, ending)) is not None and bool(_beside(path, name))
        for ending in COMPANIONS
    )


def _beside(path: Path, name: str) -> list[Path]:
    """Return the images called ``name`` beside ``path``, those with its own suffix first."""
    own = path.name[len(stem(path)) :]
    endings = dict.fromkeys((own, *IMAGE_SUFFIXES))
    return [found for ending in endings if (found := path.with_name(name + ending)).exists()]
