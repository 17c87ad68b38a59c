"""Partial outputs, whose names say whose they are, and how they get their final names.

::

    .NAME.zenhance-RUN.partial/owner.json     who is writing: run, process, host, when
    .NAME.zenhance-RUN.partial/payload        the file or folder being written

This package removes nothing else, and never takes a name that is in use.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zenhance.errors import OutputExistsError
from zenhance.io.limits import read_bounded
from zenhance.io.lock import hidden_name

__all__ = [
    "OWNER",
    "Partial",
    "clean_orphans",
    "place_file",
    "place_folder",
    "process_is_alive",
    "process_start",
    "remove_folder",
    "remove_partial",
]

OWNER = "owner.json"
PAYLOAD = "payload"
MAX_RECORD_BYTES = 4096
MAX_PID = 2**31


@dataclass(frozen=True, slots=True)
class Partial:
    """A folder of ours beside the final path, with one file or folder in it.

    Parameters
    ----------
    folder : Path
        ``.NAME.zenhance-RUN.partial``; same file system as the final path, so that a rename is
        atomic.
    payload : Path
        What will be renamed; it keeps the final name's extension, which some readers ask for.
    """

    folder: Path
    payload: Path

    @classmethod
    def create(cls, path: Path, *, folder: bool) -> Partial:
        """Make the folder, its owner's record and an empty payload; none may exist."""
        run = uuid.uuid4().hex[:12]
        home = path.with_name(f"{_prefix(path)}{run}.partial")
        home.mkdir()
        record = {
            "run": run,
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "host": platform.node(),
            "started": time.time(),
        }
        (home / OWNER).write_text(json.dumps(record), encoding="utf-8")
        payload = home / (PAYLOAD + "".join(path.suffixes[-2:]))
        if folder:
            payload.mkdir()
        else:
            payload.touch(exist_ok=False)
        return cls(home, payload)


def _prefix(path: Path) -> str:
    return f"{hidden_name(path)}.zenhance-"


def _linux_start(pid: int) -> str | None:
    """Return the boot and the clock tick in which a process began (proc(5), field 22 of stat)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{boot}/{line.rpartition(')')[2].split()[19]}"
    except (OSError, ValueError, IndexError):
        return None


def _windows_start(pid: int) -> str | None:
    """Return the creation time of a process; ``""`` if it has ended, None if that is not known."""
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
    handle = kernel.OpenProcess(0x1000, False, pid)
    if not handle:
        return ""
    code, times = ctypes.c_ulong(), (ctypes.c_ulonglong * 4)()
    try:
        if not kernel.GetExitCodeProcess(handle, ctypes.byref(code)):
            return None
        places = [ctypes.byref(times, 8 * i) for i in range(4)]
        known = kernel.GetProcessTimes(handle, *places)
    finally:
        kernel.CloseHandle(handle)
    if code.value != 259:
        return ""
    return str(times[0]) if known else None


def process_start(pid: int) -> str | None:
    """Return a text that distinguishes a process from others with the same number.

    Returns
    -------
    str or None
        None where the system does not say.
    """
    if sys.platform == "linux":
        return _linux_start(pid)
    if sys.platform == "win32":
        return _windows_start(pid) or None
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None


def process_is_alive(pid: int, start: str | None = None) -> bool:
    """Tell whether a process of this computer still runs.

    Parameters
    ----------
    pid : int
        Its number; systems give the number of an ended process to a new one.
    start : str, optional
        What :func:`process_start` said of it; a process that began at another time is another one.
    """
    if not 0 < pid < MAX_PID:
        return False
    if sys.platform == "win32":
        alive = _windows_start(pid) != ""
    else:
        try:
            os.kill(pid, 0)
            alive = True
        except ProcessLookupError:
            return False
        except PermissionError:
            alive = True
    now = process_start(pid) if alive and start else None
    return alive and (now is None or now == start)


def _record(folder: Path) -> dict[str, Any] | None:
    """Return the owner's record of a folder that is really ours, else None."""
    if folder.is_symlink() or not folder.is_dir() or (folder / OWNER).is_symlink():
        return None
    try:
        record = json.loads(read_bounded(folder / OWNER, MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    ours = (
        isinstance(record, dict)
        and isinstance(record.get("pid"), int)
        and f"-{record.get('run')}.partial" in folder.name
    )
    return record if ours else None


def remove_partial(partial: Partial) -> None:
    """Remove a partial folder, if its record says that it is this process's."""
    record = _record(partial.folder)
    if record is not None and record["pid"] == os.getpid():
        shutil.rmtree(partial.folder, ignore_errors=True)


def remove_folder(folder: Path, own_prefix: str, *, strict: bool = False) -> None:
    """Remove a working folder of this package, unless it is a link or holds nothing of ours.

    Parameters
    ----------
    folder : Path
        To remove. Call only while holding its lock.
    own_prefix : str
        At least one entry begins with it, or the folder is empty.
    strict : bool
        Whether a failure to remove is raised.

    Raises
    ------
    OSError
        With ``strict``, where a file cannot be removed.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    names = [entry.name for entry in folder.iterdir()]
    if not names or any(name.startswith(own_prefix) for name in names):
        shutil.rmtree(folder, ignore_errors=not strict)


def _is_at_work(record: dict[str, Any]) -> bool:
    start = record.get("process_start")
    return process_is_alive(record["pid"], start if isinstance(start, str) else None)


def clean_orphans(path: Path) -> None:
    """Remove what killed processes of this computer left; put back an old image moved aside.

    Call only while holding the path's lock.
    """
    prefix = _prefix(path)
    for folder in [
        p
        for p in path.parent.iterdir()
        if p.name.startswith(prefix) and p.name.endswith(".partial")
    ]:
        record = _record(folder)
        if record is None or record.get("host") != platform.node() or _is_at_work(record):
            continue
        aside = folder / "replaced"
        if aside.exists() and not os.path.lexists(path):
            aside.rename(path)
        shutil.rmtree(folder, ignore_errors=True)


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
    """Name a finished file; an existing one is replaced only on request.

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
