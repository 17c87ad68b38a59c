"""Keep a command alive when its terminal, pipe or log file fails.

A result is worth more than a line about it: a closed, full or broken stdout or stderr never stops
a run. The first failure of each stream is kept, so that the gate can report it at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO, cast

__all__ = ["GuardedStream", "Streams", "guarded_streams"]


class GuardedStream:
    """A text stream whose first failure is kept in ``error``; later text is dropped.

    Parameters
    ----------
    stream : text stream
        The one that is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | ValueError | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it after a failure."""
        if self.error is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several pieces of text."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, unless the stream failed before."""
        if self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def _fail(self, error: OSError | ValueError) -> None:
        """Keep the failure and let the text that is still buffered go nowhere.

        Python flushes its streams at exit; without this, it would fail there once more.
        """
        self.error = error
        with contextlib.suppress(OSError, ValueError):
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, self._stream.fileno())
            os.close(sink)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass(frozen=True, slots=True)
class Streams:
    """The two guarded streams of a command."""

    out: GuardedStream
    err: GuardedStream

    @property
    def lost(self) -> str | None:
        """Why text for stdout was lost, or None.

        A reader that closes a pipe early, such as ``head``, has what it wants: nothing is lost.
        """
        error = self.out.error
        if error is None or isinstance(error, BrokenPipeError):
            return None
        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EBADF):
            return None
        return getattr(error, "strerror", None) or str(error)


def _occupy_closed_descriptors() -> None:
    """Open the null device in place of a closed stdin, stdout or stderr.

    Otherwise the next file that is opened takes the free number, and a library that prints an
    error message writes it into the user's result.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def guarded_streams() -> Iterator[Streams]:
    """Guard ``sys.stdout`` and ``sys.stderr``; the streams of before return afterwards."""
    before = sys.stdout, sys.stderr
    _occupy_closed_descriptors()
    with contextlib.ExitStack() as stack:
        guarded = []
        for stream in before:
            # Python has no stream where the descriptor was closed.
            known = stream or stack.enter_context(
                open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
            )
            # File names may hold bytes or letters that the terminal's encoding lacks.
            if hasattr(known, "reconfigure"):
                known.reconfigure(errors="backslashreplace")
            guarded.append(GuardedStream(known))
        streams = Streams(*guarded)
        sys.stdout, sys.stderr = cast("TextIO", streams.out), cast("TextIO", streams.err)
        try:
            yield streams
        finally:
            streams.out.flush()
            streams.err.flush()
            sys.stdout, sys.stderr = before
