"""Write a result beside its place, verify it, make it durable, then give it its name.

::

    lock -> sibling .NAME.zenhance-*.partial -> write -> verify -> fsync -> rename -> fsync folder

A crash at any point leaves the old file or the new one, never something between. Nothing that is
not ours is deleted or overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from zenhance.errors import (
    FailureKind,
    OutputExistsError,
    WriteError,
    ZenhanceError,
    classify,
    sentence,
)
from zenhance.io.lock import check_lock, locked
from zenhance.io.partial import Partial, clean_orphans, place_file, place_folder, remove_partial
from zenhance.wording import format_bytes

__all__ = ["check_output", "commit", "reach", "write_bytes"]


def reach(point: str) -> None:
    """Mark a point of the commit by name, such as ``half``; tests replace this function."""


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return False


def check_output(
    path: Path,
    *,
    overwrite: bool,
    sources: Iterable[Path],
    folder: bool,
    foreign: Callable[[Path], str | None] = lambda _: "",
) -> None:
    """Refuse an output that would cost somebody data, before anything is computed or written.

    Parameters
    ----------
    path : Path
        Where the result shall go.
    overwrite : bool
        Whether the user asked to replace what is there.
    sources : iterable of Path
        Files or folders that are being read.
    folder : bool
        Whether the result is a folder (OME-Zarr).
    foreign : callable
        Names what this program did not write in an existing folder: None for nothing, an empty
        text for the folder itself.

    Raises
    ------
    OutputExistsError
        The path is taken, and not to be overwritten; or its lock cannot be taken.
    WriteError
        The output is the input, lies in it or holds it, or its folder is missing or refuses
        writing.
    """
    parent = path.parent
    if not parent.is_dir():
        raise WriteError(
            f'the folder "{parent}" does not exist; make it first, nothing was written'
        )
    if not os.access(parent, os.W_OK):
        raise WriteError(
            f'the folder "{parent}" may not be written to; choose another one, nothing was written'
        )
    for source in sources:
        inside = source.is_dir() and any(_same(p, source) for p in (path, *path.absolute().parents))
        holds = path.is_dir() and any(_same(p, path) for p in source.absolute().parents)
        if inside or holds or _same(path, source):
            raise WriteError(
                f'the output "{path.name}" is the input or lies within it; choose another name, '
                "the input was not changed",
                FailureKind.BAD_PARAMETER,
            )
    check_lock(path)
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        raise OutputExistsError(
            f'"{path.name}" is a link; choose another name, what it points to was not changed'
        )
    if not overwrite:
        raise OutputExistsError(
            f'"{path.name}" exists already and was not changed; choose another name, or ask to '
            "overwrite it"
        )
    if path.is_dir():
        _check_folder(path, foreign(path) if folder else "")
    if folder and not path.is_dir():
        raise OutputExistsError(
            f'"{path.name}" is a file and was not replaced by a folder; choose another name'
        )
    if not folder and not path.is_file():
        raise OutputExistsError(
            f'"{path.name}" is not a regular file and was not changed; choose another name'
        )


def _check_folder(path: Path, foreign: str | None) -> None:
    """Refuse to replace a folder that holds anything which this program did not write."""
    if foreign is None:
        return
    what = (
        f'holds "{foreign[:80]}", which zenhance did not write,'
        if foreign
        else "is not an image written by zenhance"
    )
    raise OutputExistsError(
        f'the folder "{path.name}" {what} and was not changed; choose another name'
    )


def _check_space(path: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed_bytes * 1.1 > free:
        raise WriteError(
            f'the disk of "{path.parent}" is too full: {format_bytes(needed_bytes * 1.1)} needed, '
            f"{format_bytes(free)} free; "
            "nothing was changed, free some space or choose another folder",
            FailureKind.DISK_FULL,
        )


def fsync_path(path: Path) -> None:
    """Make a file, or a folder's list of names, durable (folders only where the system can)."""
    if path.is_dir() and os.name == "nt":
        return
    # Windows only flushes handles that may write.
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_tree(path: Path) -> None:
    if path.is_dir():
        for root, _, names in os.walk(path):
            for name in names:
                fsync_path(Path(root, name))
            fsync_path(Path(root))
    else:
        fsync_path(path)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what the system or a library raises while writing into one sentence."""
    try:
        yield
    except ZenhanceError:
        raise
    except (
        Exception
    ) as error:  # the gate: disk full alone comes as four exception types from the libraries
        kind = classify(error)
        if kind is FailureKind.BUG and isinstance(error, OSError):
            kind = FailureKind.PERMISSION
        if kind is FailureKind.BUG:
            raise
        raise WriteError(
            f'"{path.name}" was not written: {sentence(error)[:150]}; what was there before is '
            "unchanged",
            kind,
        ) from error


def commit(
    path: str | Path,
    write: Callable[[Path], None],
    *,
    verify: Callable[[Path], None],
    needed_bytes: int,
    folder: bool = False,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
    foreign: Callable[[Path], str | None] = lambda _: "",
) -> Path:
    """Write a file or folder completely or not at all.

    Parameters
    ----------
    path : str or Path
        Final name.
    write : callable
        Fills the partial sibling whose path it is given: an empty file that exists, or an empty
        folder.
    verify : callable
        Reopens the partial and raises :class:`WriteError` where it is not what was meant.
    needed_bytes : int
        Upper bound of the size; 1.1 times as much must be free.
    folder : bool
        Whether the result is a folder.
    overwrite : bool
        Replace a file, or an image folder of ours, at ``path``.
    sources : iterable of Path
        Inputs, which are never overwritten.
    foreign : callable
        Names what is not ours in an existing folder; see :func:`check_output`.

    Returns
    -------
    Path
        The final path.

    Raises
    ------
    BusyError
        Another process is writing the same output.
    OutputExistsError, WriteError
        See :func:`check_output`; also a full disk, or a result that reads back differently.
    """
    path = Path(path)
    sources = tuple(sources)
    check = partial(
        check_output, path, overwrite=overwrite, sources=sources, folder=folder, foreign=foreign
    )
    with _translated(path):
        check()
        _check_space(path, needed_bytes)
        with locked(path):
            clean_orphans(path)
            check()

            def place(payload: Path) -> None:
                if overwrite:
                    # Writing may have taken hours, in which others could add files to a folder.
                    check()
                (place_folder if folder else place_file)(payload, path, overwrite)

            _make(path, write, verify, place, folder=folder)
    return path


def _make(
    path: Path,
    write: Callable[[Path], None],
    verify: Callable[[Path], None],
    place: Callable[[Path], None],
    *,
    folder: bool,
) -> None:
    """Write, verify, make durable and name the result.

    The partial is removed in any case, with an old folder that was swapped into it.
    """
    home = Partial.create(path, folder=folder)
    try:
        reach("after_open")
        write(home.payload)
        verify(home.payload)
        reach("before_fsync")
        _fsync_tree(home.payload)
        reach("before_replace")
        place(home.payload)
        reach("after_replace")
        fsync_path(path.parent)
    finally:
        remove_partial(home)


def write_bytes(path: Path, blob: bytes, *, overwrite: bool = False) -> Path:
    """Write bytes like a result, completely or not at all, and read them back.

    Raises
    ------
    OutputExistsError, WriteError
        As for any result.
    """
    digest = hashlib.sha256(blob).hexdigest()

    def verify(partial: Path) -> None:
        if hashlib.sha256(partial.read_bytes()).hexdigest() != digest:
            raise WriteError(
                f'"{path.name}" did not read back as written; the disk may be failing',
                FailureKind.DISK_FULL,
            )

    return commit(
        path,
        lambda partial: _fill(partial, blob),
        verify=verify,
        needed_bytes=len(blob),
        overwrite=overwrite,
    )


def _fill(partial: Path, blob: bytes) -> None:
    partial.write_bytes(blob)
