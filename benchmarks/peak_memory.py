"""Peak memory of a piece of work, with torch's and numpy's, as the system reports it."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from types import TracebackType

__all__ = ["PeakMemory"]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Linux: writing this sets the process's high-water mark back to what it holds now (man 5 proc).
_RESET_PEAK = "5"


def _status_bytes(field: str) -> int | None:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def _give_back() -> None:
    """Return freed memory to the system, so that earlier use does not hide the peak."""
    gc.collect()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class PeakMemory:
    """Rise of resident memory since the start; ``peak_bytes`` is None where it is unknown.

    Examples
    --------
    >>> with PeakMemory() as memory:
    ...     work()
    >>> memory.peak_bytes
    """

    peak_bytes: int | None = None
    _held_bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        _give_back()
        try:
            _RESET.write_text(_RESET_PEAK, encoding="ascii")
            self._held_bytes = _status_bytes("VmRSS")
        except OSError:
            self._held_bytes = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        peak = None if self._held_bytes is None else _status_bytes("VmHWM")
        if peak is not None and self._held_bytes is not None:
            self.peak_bytes = max(0, peak - self._held_bytes)
