"""Pictures of the docks for the docs: ``python -m benchmarks.screenshots FOLDER [FILE]``.

It opens napari with the bundled sample (or FILE), clicks the real Enhance button, waits for the result, and saves ``dock_before.png`` and
``dock_after.png``; then it trains for a while on the sample and saves ``train_dock.png``. ``--only enhance`` or ``--only train`` takes a
part. It needs a display: ``xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.screenshots docs/images``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "take"]

WINDOW_PX = (1580, 990)
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


def take(folder: Path, file: str | None = None) -> list[Path]:
    """Take both pictures.

    Parameters
    ----------
    folder : Path
        Where they go; made if need be.
    file : str, optional
        Another stack than the sample.

    Raises
    ------
    RuntimeError
        The run failed or took too long.
    """
    from zenhance.plugin.launch import open_viewer

    folder.mkdir(parents=True, exist_ok=True)
    before, after = folder / "dock_before.png", folder / "dock_after.png"
    viewer, dock = open_viewer(file)
    try:
        viewer.window.resize(*WINDOW_PX)
        timed: list[float] = []
        dock.outlook.timed.connect(timed.append)
        _wait(lambda: bool(timed), PLAN_WAIT_S)
        viewer.reset_view()
        _shoot(viewer, before)
        layers = len(viewer.layers)
        dock.panel.enhance.click()
        if not _wait(lambda: not dock.running, RUN_WAIT_S) or len(viewer.layers) == layers:
            raise RuntimeError(f"no result came: {dock.panel.note.text()}")
        # Since napari 0.9 the grid belongs to the canvas.
        getattr(viewer, "canvas", viewer).grid.enabled = True
        viewer.reset_view()
        _wait(lambda: len(timed) > 1, PLAN_WAIT_S / 4)
        _shoot(viewer, after)
    finally:
        viewer.close()
    return [before, after]


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the pictures named on the command line; returns the exit status."""
    from benchmarks.train_screenshot import take_training

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.screenshots", description="Pictures of the docks."
    )
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("file", nargs="?", help="stack to open; left out, the bundled sample")
    parser.add_argument(
        "--only",
        choices=("enhance", "train"),
        help="take the pictures of one dock; left out, of both",
    )
    given = parser.parse_args(arguments)
    for path in take(given.folder, given.file) if given.only != "train" else []:
        print(path)
    if given.only != "enhance":
        print(take_training(given.folder, WINDOW_PX, _wait))
    return 0


if __name__ == "__main__":
    sys.exit(main())
