"""The stacks that ship with the package, each with the truth it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from zenhance.errors import StackError
from zenhance.io.open import open_stack
from zenhance.stack import Stack

__all__ = ["open_sample", "open_sample_truth", "sample_names", "sample_path"]

_ENDING = ".ome.tif"
_KINDS = ("truth", "labels")


def _folders() -> Iterator[Path]:
    """Yield where samples can be: in the installed package or at the top of a checkout."""
    package = Path(str(resources.files("zenhance")))
    yield package / "sample_data"
    top = package.parent.parent
    if (top / "pyproject.toml").is_file():
        yield top / "sample_data"


def _files() -> dict[str, Path]:
    for folder in _folders():
        if folder.is_dir():
            found = {p.name[: -len(_ENDING)]: p for p in sorted(folder.glob(f"*{_ENDING}"))}
            if found:
                return found
    return {}


def sample_names() -> tuple[str, ...]:
    """Return the names of the bundled samples, sorted."""
    return tuple(n for n in _files() if not n.endswith(tuple(f"_{k}" for k in _KINDS)))


def sample_path(name: str) -> Path:
    """Return the file of a bundled sample.

    Raises
    ------
    StackError
        There is no such sample; the text lists those there are.
    """
    files = _files()
    if name not in sample_names():
        raise StackError(
            f'there is no sample "{name}"; there are: '
            f"{', '.join(sample_names()) or 'none in this installation'}"
        )
    return files[name]


def open_sample(name: str) -> Stack:
    """Open a bundled sample, voxel size set.

    Raises
    ------
    StackError
        There is no such sample.
    """
    return open_stack(sample_path(name))


def open_sample_truth(name: str) -> Mapping[str, Stack]:
    """Open what a bundled sample was made from.

    Returns
    -------
    mapping of str to Stack
        ``truth`` (the specimen, noise-free and sharp) and ``labels`` (its cells), as far as they
        ship.

    Raises
    ------
    StackError
        There is no such sample.
    """
    folder = sample_path(name).parent
    files = {kind: folder / f"{name}_{kind}{_ENDING}" for kind in _KINDS}
    return {kind: open_stack(path) for kind, path in files.items() if path.is_file()}
