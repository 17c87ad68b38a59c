"""Check what a file claims against what it can hold and what the computer has."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from zenhance.errors import ReadError
from zenhance.wording import format_bytes

__all__ = [
    "MAX_XML_BYTES",
    "check_claim",
    "check_xml",
    "memory_bytes",
    "open_regular",
    "read_bounded",
]

MAX_XML_BYTES = 64 * 2**20
MAX_XML_DEPTH = 200
MAX_XML_NODES = 10**6
MAX_RATIO = 1000
_CLOSED = "the system refuses access; check the file's permissions"


def memory_bytes() -> int:
    """Return the computer's memory in bytes (8 GB where the system does not say)."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = (
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                *(
                    (name, ctypes.c_ulonglong)
                    for name in (
                        "total",
                        "free",
                        "page_total",
                        "page_free",
                        "virtual",
                        "virtual_free",
                        "extended",
                    )
                ),
            )

        status = Status()
        status.length = ctypes.sizeof(Status)
        return (
            int(status.total)
            if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
            else 8 * 2**30
        )
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 8 * 2**30


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, a device or a folder is refused and never blocks.

    Raises
    ------
    ReadError
        The file is missing, closed to the user, or not a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError as error:
        raise ReadError(path, "there is no such file; check the name") from error
    except IsADirectoryError as error:
        raise ReadError(path, "it is a folder; name a file in it") from error
    except PermissionError as error:
        what = "it is a folder; name a file in it" if path.is_dir() else _CLOSED
        raise ReadError(path, what) from error
    except (OSError, ValueError) as error:
        raise ReadError(path, "it is not a regular file; name a file that holds data") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        os.close(handle)
        raise ReadError(
            path,
            "it is a folder; name a file in it"
            if folder
            else "it is not a regular file; name a file that holds data",
        )
    return os.fdopen(handle, "rb")


def read_bounded(path: str | Path, limit_bytes: int) -> bytes:
    """Read a regular file that comes from outside; more than the limit is never read.

    Parameters
    ----------
    path : str or Path
        Followed if it is a link to a regular file.
    limit_bytes : int
        The file may hold so many bytes.

    Raises
    ------
    ReadError
        The file is missing, not a regular file, or larger than the limit.
    """
    path = Path(path)
    with open_regular(path) as handle:
        # The size is not asked for: some systems' own files claim to have none.
        data = handle.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ReadError(
            path, f"it is larger than {format_bytes(limit_bytes)}, the most that is read of it"
        )
    return data


def check_claim(path: Path, claimed_bytes: int, stored_bytes: int) -> None:
    """Refuse an image that claims far more pixels than its file can hold and the memory could take.

    Raises
    ------
    ReadError
        More than 1000 times the stored bytes are claimed, and more than a quarter of the memory or
        256 MB, whichever is less.
    """
    allowed = min(memory_bytes() // 4, 256 * 10**6)
    if claimed_bytes > MAX_RATIO * max(stored_bytes, 1) and claimed_bytes > allowed:
        raise ReadError(
            path,
            f"it claims {format_bytes(claimed_bytes)} of pixels but holds "
            f"{format_bytes(stored_bytes)}; it is damaged or not an image",
        )


def check_xml(path: Path, text: str) -> None:
    """Refuse XML that could expand, fetch or nest without end, before any parser sees it.

    Raises
    ------
    ReadError
        A DOCTYPE or ENTITY, more than 64 MiB, 10^6 nodes or a depth of 200.
    """
    upper = text[:MAX_XML_BYTES].upper()
    if "<!DOCTYPE" in upper or "<!ENTITY" in upper:
        raise ReadError(
            path,
            "its OME-XML declares a DOCTYPE or ENTITY, which no microscope writes; export the "
            "file again",
        )
    if len(text) > MAX_XML_BYTES or text.count("<") > MAX_XML_NODES:
        raise ReadError(
            path,
            f"its XML metadata are larger than {MAX_XML_BYTES >> 20} MiB or {MAX_XML_NODES} "
            "nodes; export the file again",
        )
    depth = deepest = 0
    for piece in text.split("<")[1:]:
        if piece[:1] == "/":
            depth -= 1
        elif piece[:1] not in "?!" and not piece.partition(">")[0].endswith("/"):
            depth += 1
            deepest = max(deepest, depth)
    if deepest > MAX_XML_DEPTH:
        raise ReadError(
            path,
            f"its XML metadata are nested {deepest} deep, more than {MAX_XML_DEPTH}; export the "
            "file again",
        )
