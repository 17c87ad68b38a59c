"""Pictures of the docks for the documentation. Needs a display.

The experiment opens napari with the bundled sample, clicks the real Enhance button, waits for the
result and its verdict and saves ``dock_before.png``, ``dock_microscope.png``, ``dock_after.png``
and ``dock_curtain.png``, compares the methods and saves ``compare_sheet.png``; then it trains for a
while on the sample and saves ``train_dock.png``::

    xvfb-run -a -s "-screen 0 1366x768x24" python -m benchmarks screenshots --write-docs
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.runner import Experiment, Option, Tell
from benchmarks.train_screenshot import take_training
from zenhance.errors import MethodError

__all__ = ["EXPERIMENT", "take"]

# The smallest screen in common use, without its task bar.
WINDOW_PX = (1366, 740)
# Longest wait for a plan with its time, and for a run, in seconds.
PLAN_WAIT_S = 60.0
RUN_WAIT_S = 1800.0


def _wait(until: Callable[[], bool], limit_s: float) -> bool:
    """Let the window work until something holds, or the time is up."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + limit_s
    while not until():
        if time.monotonic() > end:
            return False
        QApplication.processEvents()
        time.sleep(0.01)
    return True


def _settle(seconds: float = 1.0) -> None:
    end = time.monotonic() + seconds
    _wait(lambda: time.monotonic() > end, seconds + 1.0)


def _shoot(viewer: Any, path: Path) -> None:
    _settle()
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def take(folder: Path, file: str | None = None, theme: str = "dark") -> list[Path]:
    """Take the pictures of the Enhance dock and of its sheet of methods.

    Parameters
    ----------
    folder : Path
        Where they go; created if it is missing.
    file : str, optional
        A stack to use instead of the sample.
    theme : str
        Colours of the window: ``dark`` or ``light``.

    Raises
    ------
    RuntimeError
        The run failed or took too long.
    """
    from zenhance.plugin.launch import open_viewer

    folder.mkdir(parents=True, exist_ok=True)
    names = ("before", "microscope", "after", "curtain")
    before, microscope, after, curtain = (folder / f"dock_{name}.png" for name in names)
    sheet = folder / "compare_sheet.png"
    viewer, dock = open_viewer(file)
    try:
        viewer.theme = theme
        viewer.window.resize(*WINDOW_PX)
        timed: list[float] = []
        dock.estimate.timed.connect(timed.append)
        _wait(lambda: dock.advice.advice is not None, PLAN_WAIT_S)
        _wait(lambda: bool(timed), PLAN_WAIT_S)
        viewer.reset_view()
        _shoot(viewer, before)
        _shoot_microscope(viewer, dock.form, microscope)
        layers = len(viewer.layers)
        dock.panel.enhance.click()
        if not _wait(lambda: not dock.running, RUN_WAIT_S) or len(viewer.layers) == layers:
            raise RuntimeError(f"no result came: {dock.panel.note.text()}")
        _wait(lambda: not dock.verdict.running, RUN_WAIT_S)
        dock.before_after.buttons["side by side"].click()
        _wait(lambda: len(timed) > 1, PLAN_WAIT_S / 4)
        _shoot(viewer, after)
        dock.before_after.buttons["curtain"].click()
        _shoot(viewer, curtain)
        dock.before_after.views.off()
        _shoot_sheet(dock, sheet)
    finally:
        viewer.close()
    return [before, microscope, after, curtain, sheet]


def _shoot_sheet(dock: Any, path: Path) -> None:
    """Compare the methods on what is in view, and take a picture of the sheet."""
    dock.compare_button.click()
    if not _wait(lambda: not dock.running, RUN_WAIT_S) or dock.sheet is None:
        raise RuntimeError(f"the methods were not compared: {dock.panel.note.text()}")
    _settle()
    dock.sheet.grab().save(str(path))
    dock.sheet.close()


def _shoot_microscope(viewer: Any, form: Any, path: Path) -> None:
    """Scroll to the measured microscope, take its picture, and scroll back."""
    panel, bar = form.microscope, form.parentWidget().parentWidget().verticalScrollBar()
    form.optics.expand(animate=False)
    if not _wait(lambda: panel.profile is not None, PLAN_WAIT_S):
        raise RuntimeError(f"the microscope was not measured: {panel.status.text()}")
    _settle()
    bar.setValue(panel.mapTo(form, panel.rect().topLeft()).y() - 30)
    _shoot(viewer, path)
    bar.setValue(0)
    form.optics.collapse(animate=False)


@dataclass(frozen=True)
class Screenshots:
    """PNG files by name."""

    pictures: dict[str, bytes]

    def record(self) -> dict[str, Any]:
        """Return the sizes in bytes as JSON can hold them."""
        return {"bytes": {name: len(data) for name, data in self.pictures.items()}}


def _only(name: str, text: str) -> str:
    if text not in ("enhance", "train"):
        raise MethodError(f'{name} is "{text[:60]}"; give enhance or train')
    return text


def _measure(options: Namespace, tell: Tell) -> Screenshots:
    with TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        # No dock may show what the person who takes the pictures chose last.
        os.environ["ZENHANCE_DOCKS"] = str(Path(place) / "docks.json")
        if options.only != "train":
            tell("the Enhance dock", 0.0)
            take(folder, options.file)
        if options.only != "enhance":
            tell("the Train dock", 0.5)
            take_training(folder, WINDOW_PX, _wait)
        return Screenshots({path.name: path.read_bytes() for path in sorted(folder.iterdir())})


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda _report: {},
    page="images",
    pictures=lambda report: report.pictures,
    options=(
        Option("file", "Stack to open. Without it: the bundled sample.", "FILE"),
        Option(
            "only", "Pictures of one dock: enhance or train. Without it: both.", "DOCK", None, _only
        ),
    ),
)
