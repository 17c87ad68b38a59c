"""Show progress: a bar on a terminal, plain lines in a log, nothing for a program."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from zenhance.wording import format_seconds

__all__ = ["BarReporter", "PlainReporter", "Reporter", "SilentReporter", "Step", "open_reporter"]

PLAIN_INTERVAL_S = 5.0
# Leaves room for a note of some 35 characters on a terminal of 80.
BAR_WIDTH = 16


class Step(Protocol):
    """The progress of a run at one step, such as :class:`zenhance.pipeline.Progress`."""

    @property
    def stage(self) -> str:
        """Name of the stage."""
        ...

    @property
    def fraction(self) -> float:
        """Fraction done, 0 ... 1."""
        ...

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left; None if unknown."""
        ...

    @property
    def message(self) -> str:
        """What the run does now."""
        ...


class Reporter(Protocol):
    """Shows the progress of a run."""

    def line(self, text: str) -> None:
        """Show a line that stays, such as the device and why it was chosen."""

    def update(self, step: Step) -> None:
        """Show how far the run is."""


class SilentReporter:
    """Shows nothing."""

    def line(self, text: str) -> None:
        """Drop the line."""

    def update(self, step: Step) -> None:
        """Drop the step."""


class PlainReporter:
    """Prints a line when the stage changes and every few seconds, for logs and cluster jobs.

    Parameters
    ----------
    stream : text stream
        Where to, normally stderr.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._stage = ""
        self._next_s = 0.0

    def line(self, text: str) -> None:
        """Print the line."""
        print(text, file=self._stream, flush=True)

    def update(self, step: Step) -> None:
        """Print the step if the stage is new or five seconds have passed."""
        now = self._clock()
        if step.stage == self._stage and now < self._next_s:
            return
        self._stage, self._next_s = step.stage, now + PLAIN_INTERVAL_S
        left = "" if step.seconds_left is None else f", {format_seconds(step.seconds_left)} left"
        note = f" ({step.message})" if step.message else ""
        self.line(f"{step.stage}{note}: {step.fraction:.0%}{left}")


class BarReporter:
    """Draws one bar with stage, tile and time left on a terminal.

    Parameters
    ----------
    progress : rich.progress.Progress
        Already started; the caller closes it.
    """

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=1.0, note="", left="")

    def line(self, text: str) -> None:
        """Print the line above the bar; its brackets are not markup."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, step: Step) -> None:
        """Move the bar."""
        left = "" if step.seconds_left is None else f"{format_seconds(step.seconds_left)} left"
        self._progress.update(
            self._task,
            completed=min(max(step.fraction, 0.0), 1.0),
            description=step.stage,
            note=step.message,
            left=left,
        )


@contextmanager
def open_reporter(json_wanted: bool, stream: TextIO | None = None) -> Iterator[Reporter]:
    """Open the reporter that fits: a bar on a terminal, else lines, nothing for ``--json``."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield SilentReporter() if json_wanted else PlainReporter(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    text = [
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
    ]
    left = TextColumn("{task.fields[left]}", markup=False)
    with Progress(
        text[0],
        BarColumn(bar_width=BAR_WIDTH),
        TaskProgressColumn(),
        left,
        text[1],
        console=Console(file=stream),
        transient=True,
    ) as progress:
        yield BarReporter(progress)
