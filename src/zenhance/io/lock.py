"""A lock per output, held by the operating system: it is free again however its owner ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zenhance.errors import BusyError, OutputExistsError

__all__ = ["check_lock", "hidden_name", "locked"]

# The lock file may vanish between opening and locking; after so many times another program is busy.
MAX_TRIES = 100
MAX_LOCK_BYTES = 4096
_KEYS = {"pid", "host", "since"}
# Links are not followed, and a pipe or device of that name does not block.
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def hidden_name(path: Path) -> str:
    """Return the beginning of the names of our hidden files beside an output.

    A long name is replaced by its hash, which leaves room for the rest of the name.
    """
    name = path.name
    if len(os.fsencode(name)) > 180:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{name}"


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            # The locked byte follows the text, so that others can still read who holds the lock.
            os.lseek(handle, MAX_LOCK_BYTES, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _content(handle: int) -> dict[str, Any] | None:
    """Return the record in a lock file: empty for an empty file, None if we did not write it."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        text = os.read(handle, MAX_LOCK_BYTES + 1)
        if not text:
            return {}
        record = json.loads(text) if len(text) <= MAX_LOCK_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(record, dict) and set(record) == _KEYS and isinstance(record["pid"], int)
    return record if ours else None


def _refusal(path: Path, lock: Path, what: str) -> OutputExistsError:
    return OutputExistsError(
        f'"{lock.name}", which would lock the output "{path.name}", is {what} and was not changed; '
        "rename or remove it, or choose another output name"
    )


def _open(path: Path, lock: Path, *, create: bool = True) -> int:
    """Open the lock file; only a regular file with one name is accepted."""
    try:
        # Windows has no flag against links.
        if lock.is_symlink():
            raise _refusal(path, lock, "a link")
        handle = os.open(lock, _FLAGS | (os.O_CREAT if create else 0), 0o644)
    except OSError as error:
        if isinstance(error, OutputExistsError):
            raise
        if lock.is_symlink():
            raise _refusal(path, lock, "a link") from error
        if lock.exists() and not lock.is_file():
            kind = "a folder" if lock.is_dir() else "not a regular file"
            raise _refusal(path, lock, kind) from error
        raise
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return handle
    os.close(handle)
    what = "a second name of another file" if status.st_nlink > 1 else "not a regular file"
    raise _refusal(path, lock, what)


def _is_at(handle: int, lock: Path) -> bool:
    """Tell whether the lock's name still belongs to the open file."""
    try:
        return os.path.samestat(lock.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _unlink_own(handle: int, lock: Path) -> None:
    own = _is_at(handle, lock)
    if sys.platform == "win32":
        os.close(handle)
    if own:
        with contextlib.suppress(OSError):
            lock.unlink()
    if sys.platform != "win32":
        os.close(handle)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{hidden_name(path)}.lock")


def check_lock(path: Path) -> None:
    """Refuse an output whose lock cannot be taken because its name belongs to something else.

    Raises
    ------
    OutputExistsError
        The lock's name belongs to a link, a folder or a file that this program did not write.
    """
    lock = _lock_of(path)
    if os.path.lexists(lock):
        handle = _open(path, lock, create=False)
        ours = _content(handle) is not None
        os.close(handle)
        if not ours:
            raise _refusal(path, lock, "not a lock of zenhance")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock ``.NAME.lock`` beside an output.

    Raises
    ------
    BusyError
        Another process holds the lock; the text says which, and since when.
    OutputExistsError
        The lock's name belongs to a link, a folder or a file that this program did not write.
    """
    lock = _lock_of(path)
    handle = _acquire(path, lock)
    try:
        record = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        os.lseek(handle, 0, os.SEEK_SET)
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(record).encode())
        yield
    finally:
        _unlink_own(handle, lock)


def _acquire(path: Path, lock: Path) -> int:
    for _ in range(MAX_TRIES):
        handle = _open(path, lock)
        if not _try_lock(handle):
            record = _content(handle) or {}
            os.close(handle)
            owner = "process {pid} on {host} since {since}" if record else "another process"
            raise BusyError(
                f'"{path.name}" is being written by {owner.format(**record)[:120]}; '
                "wait until it is done, or choose another name"
            )
        if _content(handle) is None:
            os.close(handle)
            raise _refusal(path, lock, "not a lock of zenhance")
        # The former owner may have removed the file meanwhile; then this lock guards nothing.
        if _is_at(handle, lock):
            return handle
        os.close(handle)
    raise BusyError(
        f'the lock of "{path.name}" was removed {MAX_TRIES} times; '
        "wait until other programs have finished with this folder"
    )
