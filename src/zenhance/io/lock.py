"""A lock per output, held by the operating system, so that it is free again however its owner ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from zenhance.errors import BusyError

__all__ = ["hidden_name", "locked"]

# How often a lock file may vanish between being opened and being locked before somebody else is taken to be at work.
MAX_TRIES = 100


def hidden_name(path: Path) -> str:
    """Return the beginning of the names of our hidden files beside an output; a long name is replaced by its hash to leave room."""
    name = path.name
    if len(os.fsencode(name)) > 180:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{name}"


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            # The byte locked lies behind the text, so that others can still read who holds the lock.
            os.lseek(handle, 4096, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner(lock: Path) -> str:
    try:
        record = json.loads(lock.read_text(encoding="utf-8"))
        return f"process {record['pid']} on {record['host']} since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _unlink_own(handle: int, lock: Path) -> None:
    if sys.platform == "win32":
        os.close(handle)
        with contextlib.suppress(OSError):
            lock.unlink()
        return
    with contextlib.suppress(OSError):
        lock.unlink()
    os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock ``.NAME.lock`` beside an output.

    Raises
    ------
    BusyError
        Another process holds it; the text says which, and since when.
    """
    lock = path.with_name(f"{hidden_name(path)}.lock")
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
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        if not _try_lock(handle):
            os.close(handle)
            raise BusyError(
                f'"{path.name}" is being written by {_owner(lock)}; wait until it is done, or choose another name'
            )
        # Between opening and locking, the former owner may have removed the file: then this lock guards nothing.
        try:
            if os.path.samestat(lock.stat(), os.fstat(handle)):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)
    raise BusyError(
        f'the lock of "{path.name}" was taken away {MAX_TRIES} times; wait until other programs are done with this folder'
    )
