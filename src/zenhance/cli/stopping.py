"""Pass Ctrl-C and SIGTERM to a run: a cancel event while it computes, else an interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "stop_on_signals"]

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

    @contextmanager
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


@contextmanager
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
