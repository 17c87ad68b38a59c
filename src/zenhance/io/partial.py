"""Partial outputs: made with a name that says whose they are, and the only things this package ever removes.

::

    .NAME.zenhance-RUN.partial/owner.json     who is writing: run, process, host, when
    .NAME.zenhance-RUN.partial/payload        the file or folder being written
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zenhance.io.lock import hidden_name

__all__ = ["OWNER", "Partial", "clean_orphans", "process_is_alive", "remove_partial"]

OWNER = "owner.json"
PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class Partial:
    """A folder of ours beside the final path, with one file or folder in it.

    Parameters
    ----------
    folder : Path
        ``.NAME.zenhance-RUN.partial``; same file system as the final path, so that a rename is atomic.
    payload : Path
        What will be renamed; it keeps the final name's extension, which some readers ask for.
    """

    folder: Path
    payload: Path

    @classmethod
    def create(cls, path: Path, *, folder: bool) -> Partial:
        """Make the folder, its owner's record and an empty payload; fails where any of them exists."""
        run = uuid.uuid4().hex[:12]
        home = path.with_name(f"{_prefix(path)}{run}.partial")
        home.mkdir()
        record = {"run": run, "pid": os.getpid(), "host": platform.node(), "started": time.time()}
        (home / OWNER).write_text(json.dumps(record), encoding="utf-8")
        payload = home / (PAYLOAD + "".join(path.suffixes[-2:]))
        if folder:
            payload.mkdir()
        else:
            payload.touch(exist_ok=False)
        return cls(home, payload)


def _prefix(path: Path) -> str:
    return f"{hidden_name(path)}.zenhance-"


def process_is_alive(pid: int) -> bool:
    """Tell whether a process of this computer still runs."""
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        running = (
            bool(ctypes.windll.kernel32.GetExitCodeProcess(handle, ctypes.byref(code)))
            and code.value == 259
        )
        ctypes.windll.kernel32.CloseHandle(handle)
        return running
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _record(folder: Path) -> dict[str, Any] | None:
    """Return the owner's record of a folder that is really ours, else None."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    try:
        record = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
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


def clean_orphans(path: Path) -> None:
    """Remove what killed processes of this computer left beside a path; an old image moved aside is put back.

    Call only while holding the path's lock.
    """
    prefix = _prefix(path)
    for folder in [
        p
        for p in path.parent.iterdir()
        if p.name.startswith(prefix) and p.name.endswith(".partial")
    ]:
        record = _record(folder)
        if (
            record is None
            or record.get("host") != platform.node()
            or process_is_alive(record["pid"])
        ):
            continue
        aside = folder / "replaced"
        if aside.exists() and not os.path.lexists(path):
            aside.rename(path)
        shutil.rmtree(folder, ignore_errors=True)
