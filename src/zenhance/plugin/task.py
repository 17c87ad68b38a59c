"""A generator run in a worker thread that talks to the window through signals only.

A worker ends in one of four ways: done, failed, cancelled, or stopped by napari. Each calls
``finished`` exactly once in the window's thread, so that a disabled button is always enabled
again. Code in the worker never touches the window.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from napari.qt.threading import thread_worker
from qtpy.QtCore import QObject, Signal

from zenhance.device.choice import spin_briefly
from zenhance.errors import RunCancelled, ZenhanceError
from zenhance.pipeline import Progress
from zenhance.plugin.dock_words import dock_sentence

__all__ = ["Outcome", "Steps", "Task", "busy", "import_torch_later"]

LOG = logging.getLogger(__name__)
Steps = Generator[Progress, None, Any]

# Progress is passed to the window at most this often; more would only queue up there.
PROGRESS_EVERY_S = 0.1
# Runs take turns: two at once would fight for the same memory and device.
_TURN = threading.Lock()


def busy() -> bool:
    """Tell whether a run is on in any window."""
    return _TURN.locked()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: with a value, with a sentence on its failure, or cancelled."""

    value: Any = None
    failure: str = ""
    cancelled: bool = False


def _throttled(steps: Steps, cancel: threading.Event) -> Steps:
    """Pass on at most ten steps a second; stop between two steps if cancelled."""
    last = 0.0
    try:
        while True:
            if cancel.is_set():
                raise RunCancelled("the run was cancelled; the original is unchanged")
            try:
                progress = next(steps)
            except StopIteration as done:
                return done.value
            now = time.monotonic()
            if now - last >= PROGRESS_EVERY_S:
                last = now
                yield progress
    finally:
        steps.close()


def _turn_steps(steps: Steps, cancel: threading.Event) -> Steps:
    """Wait for the runs before this one, then run."""
    while not _TURN.acquire(timeout=PROGRESS_EVERY_S):
        if cancel.is_set():
            raise RunCancelled("the run was cancelled; the original is unchanged")
        yield Progress("wait", 0.0, None, "waiting for another run to end")
    try:
        return (yield from _throttled(steps, cancel))
    finally:
        steps.close()
        _TURN.release()


def _gated(steps: Steps) -> Generator[Progress, None, Outcome]:
    """Turn any error of a run into an outcome.

    The traceback goes to the log as text, so that no frame keeps an array alive. An error of ours
    is already a sentence for the user; its traceback is logged for debugging only.
    """
    try:
        value = yield from steps
    except RunCancelled:
        return Outcome(cancelled=True)
    except ZenhanceError as error:
        LOG.debug("a run was refused\n%s", traceback.format_exc())
        return Outcome(failure=dock_sentence(error))
    except Exception as error:  # noqa: BLE001 - every failure becomes one sentence here
        LOG.error("a run failed\n%s", traceback.format_exc())
        return Outcome(failure=dock_sentence(error))
    return Outcome(value)


@thread_worker  # type: ignore[untyped-decorator]
def _work(steps: Generator[Progress, None, Outcome]) -> Generator[Progress, None, Outcome]:
    return (yield from steps)


class Task:
    """One run of a generator in a worker thread.

    Parameters
    ----------
    make_steps : callable
        Takes the cancel event and returns the generator; called in the window's thread.
    on_progress, on_outcome, on_finished : callable
        Called in the window's thread; ``on_finished`` comes last, once, whatever happened.
    on_orphan : callable, optional
        Called with the value, in the window's thread, if the task was forgotten meanwhile.
    exclusive : bool
        Whether the run waits for other exclusive runs.
    """

    def __init__(
        self,
        make_steps: Callable[[threading.Event], Steps],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
        on_finished: Callable[[], None] | None = None,
        on_orphan: Callable[[Any], object] | None = None,
        exclusive: bool = True,
    ) -> None:
        self.cancel_event = threading.Event()
        self._on_progress, self._on_outcome, self._on_finished = (
            on_progress,
            on_outcome,
            on_finished,
        )
        self._on_orphan = on_orphan
        self._ended = False
        turn = _turn_steps if exclusive else _throttled
        self._steps: Generator[Progress, None, Outcome] | None = _gated(
            turn(make_steps(self.cancel_event), self.cancel_event)
        )
        worker = _work(self._steps)
        worker.yielded.connect(self._yielded)
        worker.returned.connect(self._returned)
        worker.errored.connect(self._errored)
        worker.aborted.connect(self.cancel)
        worker.finished.connect(self._finished)
        self._worker: Any = worker

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    @property
    def running(self) -> bool:
        """Whether the task has not ended."""
        return not self._ended

    def cancel(self) -> None:
        """Ask the run to stop at its next step."""
        self.cancel_event.set()

    def forget(self) -> None:
        """Cancel without any further callback: the window is closed or does not need it."""
        self.cancel()
        self._on_progress = self._on_outcome = self._on_finished = None

    def _yielded(self, progress: Progress) -> None:
        if self._on_progress is not None and not self.cancel_event.is_set():
            self._on_progress(progress)

    def _returned(self, outcome: Outcome) -> None:
        if self._on_outcome is not None:
            self._on_outcome(outcome)
        elif outcome.value is not None and self._on_orphan is not None:
            self._on_orphan(outcome.value)

    def _errored(self, error: Exception) -> None:
        LOG.error("a worker failed outside its gate: %s", error)
        if self._on_outcome is not None:
            self._on_outcome(Outcome(failure=dock_sentence(error)))

    def _finished(self) -> None:
        """Close the generator, which napari's quit leaves suspended, and release its data."""
        if self._ended:
            return
        self._ended = True
        if self._steps is not None:
            self._steps.close()
        done = self._on_finished
        self._steps = self._worker = None
        self._on_progress = self._on_outcome = self._on_finished = self._on_orphan = None
        if done is not None:
            done()


class _Bell(QObject):
    """Signals the end of the import to the window's thread."""

    rung = Signal()


def import_torch_later(then: Callable[[], None]) -> None:
    """Import torch in a separate thread, then call back in the window's thread."""
    if "torch" in sys.modules:
        then()
        return
    spin_briefly()
    bell = _Bell()
    bell.rung.connect(then)

    def work() -> None:
        import_module("torch")
        bell.rung.emit()

    threading.Thread(target=work, name="zenhance-warm-up", daemon=True).start()
