"""Show the samples of a result in turn: what they share stays still, what flickers is a guess."""

from __future__ import annotations

import weakref
from typing import Any

from napari.layers import Image
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from zenhance.errors import ZenhanceError
from zenhance.plugin.layer_bridge import read_facts
from zenhance.provenance import METADATA_KEY, SAMPLES_AXIS, sample_count

__all__ = ["FRAMES_PER_SECOND", "SamplePlayer", "sample_axis"]

FRAMES_PER_SECOND = 4


def sample_axis(layer: Any) -> int | None:
    """Return the dimension of a layer that holds its samples, or None if it has no samples.

    Parameters
    ----------
    layer : napari.layers.Layer
        Made by a run, or opened from a result's file; the record decides.
    """
    count = sample_count(layer.metadata.get(METADATA_KEY)) if isinstance(layer, Image) else 0
    if count < 2:
        return None
    try:
        facts = read_facts(layer)
    except ZenhanceError:
        return None
    sizes = dict(zip(facts.axes, facts.shape, strict=True))
    # A layer that was cut out of the samples has their record, but another size.
    return facts.axes.index(SAMPLES_AXIS) if sizes.get(SAMPLES_AXIS) == count else None


class SamplePlayer(QWidget):
    """A button that animates the samples, and a line on how to read them.

    It is shown while the viewer has a layer with samples.

    Parameters
    ----------
    viewer : napari.Viewer
        Kept by weak reference.
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = weakref.ref(viewer)
        self._layer: weakref.ref[Any] | None = None
        self.button = QPushButton("Animate samples", self)
        self.button.setCheckable(True)
        self.button.setToolTip(
            f"show {FRAMES_PER_SECOND} samples a second, one after the other; press again to stop"
        )
        self.line = QLabel("what flickers is not supported by the data", self)
        self.line.setWordWrap(True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.button)
        row.addWidget(self.line, 1)
        self.timer = QTimer(self)
        self.timer.setInterval(1000 // FRAMES_PER_SECOND)
        self.timer.timeout.connect(self._next)
        self.button.toggled.connect(self._toggled)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self.refresh)
        self.refresh()

    @property
    def playing(self) -> bool:
        """Whether the animation is on."""
        return bool(self.timer.isActive())

    @property
    def layer(self) -> Any:
        """The animated layer, or None."""
        return None if self._layer is None else self._layer()

    def _found(self) -> list[Any]:
        viewer = self._viewer()
        return (
            []
            if viewer is None
            else [layer for layer in viewer.layers if sample_axis(layer) is not None]
        )

    def refresh(self, _event: Any = None) -> None:
        """Show the button if there are samples; stop if they are gone."""
        if not isalive(self):
            return
        found = self._found()
        if self.playing and all(layer is not self.layer for layer in found):
            self.stop()
        self.setVisible(bool(found))

    def start(self) -> None:
        """Animate the samples of the selected layer, or the latest ones."""
        self.button.setChecked(True)

    def stop(self) -> None:
        """Stop at the present sample."""
        self.button.setChecked(False)

    def _toggled(self, wanted: bool) -> None:
        if not wanted:
            self.timer.stop()
            self._layer = None
            return
        viewer, found = self._viewer(), self._found()
        if viewer is None or not found:
            self.stop()
            return
        active = viewer.layers.selection.active
        layer = active if any(active is one for one in found) else found[-1]
        layer.visible = True
        self._layer = weakref.ref(layer)
        self.timer.start()

    def _next(self) -> None:
        """Go to the next sample, and from the last to the first."""
        viewer, layer = self._viewer(), self.layer
        axis = None if layer is None else sample_axis(layer)
        if viewer is None or layer is None or axis is None or layer not in viewer.layers:
            self.stop()
            return
        place = list(layer.world_to_data(viewer.dims.point))
        count = sample_count(layer.metadata.get(METADATA_KEY))
        place[axis] = (min(max(round(place[axis]), 0), count - 1) + 1) % count
        viewer.dims.set_point(
            viewer.dims.ndim - layer.ndim + axis, layer.data_to_world(place)[axis]
        )
