"""Give a finished file or folder its name, and never take one that is in use."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from zenhance.errors import OutputExistsError

__all__ = ["place_file", "place_folder"]

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2


def _taken(path: Path) -> OutputExistsError:
    return OutputExistsError(
        f'"{path.name}" appeared while the result was being written and was not changed; choose '
        "another name"
    )


def _renameat2(old: Path, new: Path, flag: int) -> bool:
    """Rename by the Linux call that can refuse to replace, or swap; False without it."""
    if sys.platform != "linux":
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flag) == 0:
        return True
    error = ctypes.get_errno()
    if flag == _NOREPLACE and error == 17:
        raise _taken(new)
    return False


def place_file(payload: Path, path: Path, overwrite: bool) -> None:
    """Name a finished file; an existing one is replaced only where that was asked for.

    Raises
    ------
    OutputExistsError
        The name was taken meanwhile.
    """
    if overwrite:
        payload.replace(path)
        return
    try:
        os.link(payload, path)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError:
        # Network shares and FAT know no hard links.
        if _renameat2(payload, path, _NOREPLACE):
            return
        if os.path.lexists(path):
            raise _taken(path) from None
        payload.rename(path)


def place_folder(payload: Path, path: Path, overwrite: bool) -> None:
    """Name a finished folder; an old one is swapped into the partial folder, which is removed next.

    Raises
    ------
    OutputExistsError
        The name was taken meanwhile.
    """
    if not os.path.lexists(path):
        if not _renameat2(payload, path, _NOREPLACE):
            payload.rename(path)
        return
    if not overwrite:
        raise _taken(path)
    if _renameat2(payload, path, _EXCHANGE):
        return
    aside = payload.parent / "replaced"
    path.rename(aside)
    try:
        payload.rename(path)
    except OSError:
        aside.rename(path)
        raise
