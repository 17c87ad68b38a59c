"""What can go wrong, in one place: error classes, their kind, their exit code and their sentence.

Every error a user can meet says what is wrong, the value, what is allowed and what to do, in one
sentence. Libraries report the same mishap (no memory, no disk) in many disguises; :func:`classify`
sees through them without importing those libraries.
"""

from __future__ import annotations

import errno
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

__all__ = [
    "BusyError",
    "CheckpointError",
    "FailureKind",
    "MemoryBudgetError",
    "MethodError",
    "OutputExistsError",
    "ReadError",
    "RecipeError",
    "RunCancelled",
    "StackError",
    "WriteError",
    "ZenhanceError",
    "classify",
    "exit_code",
    "sentence",
]


class FailureKind(StrEnum):
    """The kinds of failure a user can tell apart; each has one exit code."""

    BAD_PARAMETER = "bad parameter"
    BAD_FILE = "unreadable input"
    BAD_MODEL = "unsafe or invalid model"
    OOM_HOST = "out of memory"
    OOM_DEVICE = "out of device memory"
    DISK_FULL = "disk full"
    PERMISSION = "no permission"
    DEVICE_LOST = "device lost"
    BUSY = "locked by another run"
    OUTPUT_EXISTS = "output exists"
    PARTIAL = "partly done"
    CANCELLED = "cancelled"
    BUG = "internal error"


_EXIT_CODES = {
    FailureKind.BUG: 1,
    FailureKind.BAD_PARAMETER: 2,
    FailureKind.BAD_FILE: 3,
    FailureKind.BAD_MODEL: 4,
    FailureKind.OOM_HOST: 5,
    FailureKind.OOM_DEVICE: 5,
    FailureKind.DISK_FULL: 6,
    FailureKind.PERMISSION: 6,
    FailureKind.DEVICE_LOST: 7,
    FailureKind.BUSY: 8,
    FailureKind.OUTPUT_EXISTS: 9,
    FailureKind.PARTIAL: 10,
    FailureKind.CANCELLED: 130,
}


class ZenhanceError(Exception):
    """Base of every error this package raises on purpose; its text is one sentence for the user.

    Every subclass can be pickled, whatever its constructor takes: a worker process hands it to
    its parent.
    """

    kind = FailureKind.BUG

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(cls: type[ZenhanceError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Return an unpickled error without calling its constructor."""
    # The built-in class whose memory layout an error has must allocate it.
    allocator = OSError if issubclass(cls, OSError) else BaseException
    error = allocator.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class StackError(ZenhanceError, ValueError):
    """The image, its axes or its voxel size cannot be used as given."""

    kind = FailureKind.BAD_PARAMETER


class MethodError(ZenhanceError, ValueError):
    """A method is unknown, or one of its settings is out of range."""

    kind = FailureKind.BAD_PARAMETER


class RecipeError(ZenhanceError, ValueError):
    """A settings or recipe file cannot be used as written."""

    kind = FailureKind.BAD_PARAMETER


class CheckpointError(ZenhanceError, ValueError):
    """Trained weights are missing, damaged, unsafe or do not fit the method."""

    kind = FailureKind.BAD_MODEL


class MemoryBudgetError(ZenhanceError, MemoryError):
    """Even the smallest tile does not fit into the memory that is free."""

    kind = FailureKind.OOM_HOST


MAX_SHOWN_PATH = 200


class ReadError(ZenhanceError, OSError):
    """A file cannot be read; the text names the file and what to do.

    Parameters
    ----------
    path : str or Path
        The file.
    reason : str
        The rest of the sentence, without the file's name.
    """

    kind = FailureKind.BAD_FILE

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        shown = str(path)
        if len(shown) > MAX_SHOWN_PATH:
            shown = f"{shown[: MAX_SHOWN_PATH // 2]}...{shown[-MAX_SHOWN_PATH // 2 :]}"
        super().__init__(f'cannot read "{shown}": {reason}')


class WriteError(ZenhanceError, OSError):
    """A result cannot be written; the text says that nothing was lost."""

    kind = FailureKind.PERMISSION

    def __init__(self, message: str, kind: FailureKind | None = None) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind


class OutputExistsError(WriteError, FileExistsError):
    """The output path exists and overwriting was not requested, or the file is not ours."""

    kind = FailureKind.OUTPUT_EXISTS


class BusyError(WriteError):
    """Another run is writing the same output."""

    kind = FailureKind.BUSY


class RunCancelled(ZenhanceError):
    """The user stopped the run; nothing is wrong."""

    kind = FailureKind.CANCELLED


_DEVICE_OOM = re.compile(
    r"(CUDA|MPS|HIP).{0,40}out of memory"
    r"|(CUDNN|CUBLAS|CUSPARSE|CUSOLVER)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)"
    r"|cuFFT.{0,60}ALLOC_FAILED|cufftalloc",
    re.IGNORECASE | re.DOTALL,
)
_HOST_OOM = re.compile(
    r"DefaultCPUAllocator|can(no|')t allocate memory|not enough memory|Unable to allocate|bad_alloc"
    r"|failed to map segment|can't start new thread|Memory allocation",
    re.IGNORECASE,
)
# ERROR_COMMITMENT_LIMIT: memory-mapping and loading libraries fail with it on Windows.
_WIN_PAGING_FILE_TOO_SMALL = 1455
_DEVICE_LOST = re.compile(
    r"CUDA error:|device-side assert|unspecified launch failure|MPS backend.*(lost|abort)",
    re.IGNORECASE,
)
_DISK_FULL = re.compile(
    r"No space left|disk (is )?full|requested and \d+ written|unexpected pos \d+ vs \d+"
    r"|File too large",
    re.IGNORECASE,
)


def classify(error: BaseException) -> FailureKind:
    """Tell what kind of failure an exception is, whichever library raised it.

    Parameters
    ----------
    error : BaseException
        The exception, as caught.

    Returns
    -------
    FailureKind
        ``BUG`` when nothing known matches.

    Notes
    -----
    torch is not imported: its classes are recognised by name (``OutOfMemoryError``,
    ``AcceleratorError``).
    """
    if isinstance(error, ZenhanceError):
        return error.kind
    if isinstance(error, KeyboardInterrupt):
        return FailureKind.CANCELLED
    names = {c.__name__ for c in type(error).__mro__}
    text = str(error)
    if "OutOfMemoryError" in names or _DEVICE_OOM.search(text):
        return FailureKind.OOM_DEVICE
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and _HOST_OOM.search(text)
    ):
        return FailureKind.OOM_HOST
    if (
        getattr(error, "errno", None) == errno.ENOMEM
        or getattr(error, "winerror", None) == _WIN_PAGING_FILE_TOO_SMALL
    ):
        return FailureKind.OOM_HOST
    if "AcceleratorError" in names or (
        isinstance(error, RuntimeError) and _DEVICE_LOST.search(text)
    ):
        return FailureKind.DEVICE_LOST
    if getattr(error, "errno", None) in (
        errno.ENOSPC,
        errno.EFBIG,
        errno.EDQUOT,
    ) or _DISK_FULL.search(text):
        return FailureKind.DISK_FULL
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in (
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
    ):
        return FailureKind.PERMISSION
    return FailureKind.BUG


def exit_code(error: BaseException) -> int:
    """Return the command line's exit status for an exception (0 is never returned)."""
    return _EXIT_CODES[classify(error)]


def sentence(error: BaseException) -> str:
    """Return one line that a user can act on; foreign exceptions are described by kind."""
    text = " ".join(str(error).split())
    if isinstance(error, ZenhanceError):
        return text
    kind = classify(error)
    advice = {
        FailureKind.OOM_HOST: (
            "the computer ran out of memory; close other programs, crop the stack or set a "
            "smaller tile"
        ),
        FailureKind.OOM_DEVICE: (
            "the GPU ran out of memory; close other programs that use it, or choose device 'cpu'"
        ),
        FailureKind.DEVICE_LOST: (
            "the GPU stopped answering; restart the program, or choose device 'cpu'"
        ),
        FailureKind.DISK_FULL: "the disk is full; free some space or choose another folder",
        FailureKind.PERMISSION: "the system refused access; choose a folder where you may write",
        FailureKind.CANCELLED: "the run was cancelled; nothing was written",
    }.get(kind)
    if advice is None:
        return (
            f"unexpected {type(error).__name__}: {text or 'no message'}; "
            "run again with --debug and report the traceback"
        )
    return f"{advice} ({text[:160]})" if text else advice
