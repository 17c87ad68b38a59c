"""Picture of the Train dock at work: a part of ``python -m benchmarks screenshots``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__all__ = ["take_training"]

# Small patches and a short memory of the mean, so that a minute or two show something on two cores.
NUMBERS = {
    "patch_px": 48,
    "batch": 8,
    "validate_every": 25,
    "validation_patches": 16,
    "ema": 0.95,
    "warmup_steps": 20,
}
RECIPE = "srcnn_stack"
CHECKS = 8
TRAIN_WAIT_S = 900.0


def take_training(
    folder: Path,
    size_px: tuple[int, int],
    wait: Callable[[Callable[[], bool], float], bool],
    theme: str = "dark",
) -> Path:
    """Train on the bundled sample, take a picture after a few validations, stop.

    Parameters
    ----------
    folder : Path
        Where the picture goes.
    size_px : tuple of int
        Width and height of the window.
    wait : callable
        Takes a condition and the longest wait in seconds; lets the window work meanwhile.
    theme : str
        Colours of the window: ``dark`` or ``light``.

    Raises
    ------
    RuntimeError
        The training failed or took too long.
    """
    import napari

    path = folder / "train_dock.png"
    viewer = napari.Viewer(title="zenhance")
    kept = os.environ.get("ZENHANCE_WEIGHTS")
    with TemporaryDirectory(prefix="zenhance-pictures-") as home:
        # The names that the dock proposes must not depend on whose computer this is.
        os.environ["ZENHANCE_WEIGHTS"] = home
        try:
            viewer.theme = theme
            viewer.window.resize(*size_px)
            _add_sample(viewer)
            _, dock = viewer.window.add_plugin_dock_widget("zenhance", "Train")
            dock.form.start.setCurrentIndex(dock.form.start.findData(RECIPE))
            dock.form.numbers.show_settings(dock.form.numbers.settings() | NUMBERS)
            dock.panel.start.click()
            if (
                not wait(
                    lambda: len(dock.panel.plot.psnr) >= CHECKS or not dock.running, TRAIN_WAIT_S
                )
                or not dock.running
            ):
                raise RuntimeError(f"the training showed nothing: {dock.panel.note.text()}")
            viewer.screenshot(str(path), canvas_only=False, flash=False)
            dock.panel.stop.click()
            wait(lambda: not dock.running, TRAIN_WAIT_S)
        finally:
            viewer.close()
            os.environ.pop("ZENHANCE_WEIGHTS")
            if kept is not None:
                os.environ["ZENHANCE_WEIGHTS"] = kept
    return path


def _add_sample(viewer: Any) -> None:
    """Add the sample and its truth; the sample stays the lower of the two."""
    import numpy as np

    from zenhance.io import open_sample_truth
    from zenhance.plugin.launch import DEEP, SAMPLE

    viewer.open_sample("zenhance", SAMPLE)
    (measured,) = viewer.layers
    truth = np.asarray(open_sample_truth(SAMPLE)["truth"].data)
    viewer.add_image(
        truth,
        name=f"{measured.name} truth",
        scale=measured.scale,
        units=measured.units,
        visible=False,
    )
    viewer.layers.selection.active = measured
    viewer.dims.set_current_step(0, round(DEEP * viewer.dims.nsteps[0]))
