"""Which layers to learn from: rows of a measured layer and its truth, or measured layers alone."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from napari.layers import Image
from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from zenhance.errors import RecipeError
from zenhance.plugin.fields import narrow
from zenhance.plugin.layer_bridge import read_facts
from zenhance.plugin.snapshot import Snapshot
from zenhance.plugin.train_preview import PREVIEW_KEY
from zenhance.plugin.training_run import LayerPair

__all__ = ["LayerCombo", "TrainLayers"]


class LayerCombo(QComboBox):
    """A choice of image layers, kept by weak reference."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: list[weakref.ref[Any]] = []
        narrow(self)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        index = self.currentIndex()
        return self._layers[index]() if 0 <= index < len(self._layers) else None

    def offer(self, layers: Sequence[Any], otherwise: Any = None) -> None:
        """Offer these layers and keep the choice, unless its layer is gone."""
        chosen = self.layer
        if chosen is None or all(chosen is not layer for layer in layers):
            chosen = otherwise
        self.clear()
        self._layers = [weakref.ref(layer) for layer in layers]
        for layer in layers:
            self.addItem(layer.name)
        self.setCurrentIndex(next((i for i, layer in enumerate(layers) if layer is chosen), -1))

    def choose(self, layer: Any) -> None:
        """Choose a layer."""
        self.setCurrentIndex(next((i for i, ref in enumerate(self._layers) if ref() is layer), -1))


class _Row:
    """The widgets of one pair."""

    def __init__(self, parent: QWidget) -> None:
        self.measured, self.truth = LayerCombo(parent), LayerCombo(parent)
        self.measured.setToolTip("what the microscope recorded")
        self.truth.setToolTip(
            "the same place, sharp and clean; same shape, or a whole multiple of it along y and x"
        )
        self.remove = QToolButton(parent)
        self.remove.setText("✕")
        self.remove.setToolTip("remove this row")

    def widgets(self) -> tuple[QWidget, ...]:
        return (self.measured, self.truth, self.remove)


class TrainLayers(QWidget):
    """Rows of layers, at least one.

    Parameters
    ----------
    viewer : napari.Viewer
        Kept by weak reference.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = weakref.ref(viewer)
        self._paired = True
        self.rows: list[_Row] = []
        self._titles = (QLabel("measured", self), QLabel("truth", self))
        self._grid = QGridLayout()
        self._grid.setSpacing(4)
        for column, title in enumerate(self._titles):
            self._grid.addWidget(title, 0, column)
            self._grid.setColumnStretch(column, 1)
        self.add_button = QPushButton("Add a pair", self)
        below = QHBoxLayout()
        below.addWidget(self.add_button)
        below.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(self._grid)
        layout.addLayout(below)
        self.add_button.clicked.connect(self.add_row)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self.refresh_layers)
        self.add_row()

    def _images(self) -> list[Any]:
        viewer = self._viewer()
        layers = [] if viewer is None else list(viewer.layers)
        return [
            layer
            for layer in layers
            if isinstance(layer, Image) and not layer.metadata.get(PREVIEW_KEY)
        ]

    def refresh_layers(self, _event: Any = None) -> None:
        """Update the lists and keep the choices."""
        if not isalive(self):
            return
        images = self._images()
        for layer in images:
            layer.events.name.connect(self.refresh_layers)
        for row in self.rows:
            taken = [r.measured.layer for r in self.rows if r is not row]
            free = [layer for layer in images if all(layer is not t for t in taken)]
            row.measured.offer(
                images, next((layer for layer in free if not _names_truth(layer.name)), None)
            )
            row.truth.offer(images, _truth_of(row.measured.layer, free))
        self.changed.emit()

    def show_truth(self, paired: bool) -> None:
        """Ask for a truth of each layer, or for measured layers alone."""
        self._paired = paired
        self.add_button.setText("Add a pair" if paired else "Add a layer")
        self._titles[1].setVisible(paired)
        for row in self.rows:
            row.truth.setVisible(paired)

    def add_row(self) -> None:
        """Add a row."""
        row = _Row(self)
        self.rows.append(row)
        line = self._grid.rowCount()
        for column, widget in enumerate(row.widgets()):
            self._grid.addWidget(widget, line, column)
        row.remove.clicked.connect(lambda: self.remove_row(row))
        row.truth.setVisible(self._paired)
        self._show_removal()
        self.refresh_layers()

    def remove_row(self, row: _Row) -> None:
        """Remove a row; the last one stays."""
        if len(self.rows) == 1:
            return
        self.rows.remove(row)
        for widget in row.widgets():
            self._grid.removeWidget(widget)
            widget.hide()
            widget.deleteLater()
        self._show_removal()
        self.changed.emit()

    def _show_removal(self) -> None:
        for row in self.rows:
            row.remove.setVisible(len(self.rows) > 1)

    def chosen(self) -> list[tuple[Any, Any]]:
        """Return the layers of each row; the second is None without a truth.

        Raises
        ------
        RecipeError
            A row is not filled in, or pairs a layer with itself.
        """
        found: list[tuple[Any, Any]] = []
        for number, row in enumerate(self.rows, start=1):
            measured: Any = row.measured.layer
            truth: Any = row.truth.layer if self._paired else None
            if measured is None or (self._paired and truth is None):
                what = "measured layer and its truth" if self._paired else "layer"
                raise RecipeError(
                    f"row {number} of the training data is not filled in; choose a {what}, "
                    "or open a stack first"
                )
            if measured is truth:
                raise RecipeError(
                    f'row {number} pairs the layer "{measured.name}" with itself; '
                    "choose the sharp layer as its truth"
                )
            found.append((measured, truth))
        return found

    def snapshots(self) -> list[LayerPair]:
        """Return a copy of the pixels of each row.

        Raises
        ------
        RecipeError, StackError
            A row is not filled in, or a layer cannot be read.
        """

        def taken(layer: Any) -> Snapshot:
            facts = read_facts(layer)
            return Snapshot(layer, facts, facts.axes)

        return [
            LayerPair(taken(measured), None if truth is None else taken(truth))
            for measured, truth in self.chosen()
        ]


def _names_truth(name: str) -> bool:
    return name.lower().rstrip(" 0123456789[]_").endswith(("truth", "sharp"))


def _truth_of(measured: Any, layers: Sequence[Any]) -> Any:
    """Guess the truth of a layer: named truth or sharp, with the longest common beginning."""
    if measured is None:
        return None
    own = str(measured.name)

    def alike(layer: Any) -> int:
        return next(
            (i for i, (a, b) in enumerate(zip(str(layer.name), own, strict=False)) if a != b),
            len(own),
        )

    return max(
        (layer for layer in layers if layer is not measured and _names_truth(layer.name)),
        key=alike,
        default=None,
    )
