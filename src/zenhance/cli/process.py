"""What reaches a command from outside: failing streams, and signals to stop.

A result is worth more than a line about it: a closed, full or broken stdout or stderr never stops
a run. The first failure of each stream is kept, so that it can be reported at the end. Ctrl-C and
SIGTERM set a cancel event while a run computes, and interrupt at once elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO, cast

__all__ = ["GuardedStream", "StopRequest", "Streams", "guarded_streams", "stop_on_signals"]


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


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether the user asked to stop, and with which signal.

    Attributes
    ----------
    event : threading.Event
        Set by the first signal; a run checks it after every step.
    signal_number : int or None
        The first signal that came.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal_number: int | None = None
        self._watched = False

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after a terminate signal."""
        return 128 + (self.signal_number or signal.SIGINT)

    @contextlib.contextmanager
    def watched(self) -> Iterator[threading.Event]:
        """Let the first signal only set the event, because the caller checks it."""
        self._watched = True
        try:
            yield self.event
        finally:
            self._watched = False

    def handle(self, signal_number: int, _frame: FrameType | None = None) -> None:
        """Note a signal; a second one, or one while nobody checks the event, interrupts at once."""
        again = self.event.is_set()
        if self.signal_number is None:
            self.signal_number = int(signal_number)
        self.event.set()
        if again or not self._watched:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Route SIGINT and SIGTERM to a :class:`StopRequest`; restore the handlers afterwards.

    Outside the main thread Python allows no handlers; no signal reaches the request there.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
