"""Which layer, and how it is read: ``Z Y X — 61 × 512 × 512, 0.5 × 0.22 × 0.22 µm (file)``."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QLineEdit, QWidget

from zenhance.errors import StackError, ZenhanceError
from zenhance.pipeline import EnhanceRequest
from zenhance.plugin.dock_words import dock_sentence
from zenhance.plugin.fields import NumberField, OriginMark, add_row, narrow, new_form
from zenhance.plugin.layer_bridge import LayerFacts, pixels, read_facts
from zenhance.plugin.train_preview import PREVIEW_KEY

__all__ = ["LayerLine"]

_WATCHED = ("scale", "units", "axis_labels", "data", "affine")


class LayerLine(QWidget):
    """Choice of an image layer, its axes and its voxel size.

    Parameters
    ----------
    viewer : napari.Viewer
        Kept by weak reference.
    """

    layer_changed = Signal()
    edited = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = weakref.ref(viewer)
        self._layers: list[weakref.ref[Any]] = []
        self._chosen: weakref.ref[Any] | None = None
        self.facts: LayerFacts | None = None
        self.combo = QComboBox(self)
        narrow(self.combo)
        self.line = QLabel(self)
        self.line.setWordWrap(True)
        self.line.setMinimumWidth(1)
        self.axes_edit = QLineEdit(self)
        # Three marks in one row would make the form wider than the dock; the row has one.
        self.voxel = {axis: NumberField(parent=self, marked=False) for axis in "ZYX"}
        self.mark = OriginMark(self)
        self._build()
        self.combo.activated.connect(self._activated)
        self.axes_edit.editingFinished.connect(self._axes_edited)
        for field in self.voxel.values():
            field.edited.connect(self._edited)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self.refresh_layers)
        self.refresh_layers()

    def _build(self) -> None:
        form = new_form(self)
        add_row(form, "layer", self.combo, "image layer to enhance")
        form.addRow(self.line)
        # Axes and voxel size are seldom changed; the dock decides where they stand.
        self.details = QWidget(self)
        form = new_form(self.details)
        add_row(
            form,
            "axes",
            self.axes_edit,
            "what each dimension of the layer is: T time, C channel, Z depth, Y rows, X columns",
        )
        sizes = QWidget(self)
        row = QHBoxLayout(sizes)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for axis, field in self.voxel.items():
            row.addWidget(field, 1)
            field.setToolTip(f"size of a voxel along {axis.lower()} in µm")
        row.addWidget(self.mark)
        self.voxel_label = add_row(form, "voxel z y x [µm]", sizes)

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return None if self._chosen is None else self._chosen()

    @property
    def axes(self) -> str:
        """Axes as the user wants them read, in the layer's order."""
        typed = self.axes_edit.text().strip().upper()
        return typed or (self.facts.axes if self.facts else "")

    def typed_voxel_um(self) -> tuple[float | None, float | None, float | None] | None:
        """Return the lengths that the user typed; None if there are none."""
        z, y, x = (self.voxel[axis].typed for axis in "ZYX")
        return None if z is None and y is None and x is None else (z, y, x)

    def show_typed(self, axes: str | None, voxel_um: tuple[float | None, ...] | None) -> None:
        """Fill in axes and voxel size of a request."""
        if self.facts is not None:
            if (
                axes is not None
                and "C" not in self.facts.base_axes
                and len(axes) == len(self.facts.shape) + 1
            ):
                # The axes of a file with several channels, one of which is this layer.
                axes = axes.replace("C", "")
            fits = axes is not None and len(axes) == len(self.facts.shape)
            self.axes_edit.setText(axes if fits and axes else self.facts.axes)
        for axis, value in zip("ZYX", voxel_um or (None,) * 3, strict=True):
            self.voxel[axis].set_typed(value)
        self.describe()

    def request_fields(self) -> dict[str, Any]:
        """Return the fields of the request that this line decides."""
        if self.facts is None:
            raise StackError("there is no image layer to enhance; open a stack first")
        axes = self.axes
        if sorted(axes) != sorted(set(axes)) or len(axes) != len(self.facts.shape):
            raise StackError(
                f'axes "{axes}" do not fit a layer of {len(self.facts.shape)} dimensions; '
                "name each once with letters of TCZYX"
            )
        return {
            "axes": None if axes == self.facts.base_axes else axes,
            "voxel_size_um": self.typed_voxel_um(),
        }

    def choose(self, layer: Any) -> None:
        """Choose a layer."""
        for index, entry in enumerate(self._layers):
            if entry() is layer:
                self.combo.setCurrentIndex(index)
                self._activated(index)

    def refresh_layers(self, _event: Any = None) -> None:
        """Update the list of layers and keep the choice."""
        viewer = self._viewer()
        if viewer is None or not isalive(self):
            return
        images = [
            layer
            for layer in viewer.layers
            if isinstance(layer, Image) and not layer.metadata.get(PREVIEW_KEY)
        ]
        self._layers = [weakref.ref(layer) for layer in images]
        self.combo.clear()
        for layer in images:
            self.combo.addItem(layer.name)
            layer.events.name.connect(self.refresh_layers)
        chosen = self.layer
        if chosen is None or all(chosen is not layer for layer in images):
            active = viewer.layers.selection.active
            chosen = (
                active
                if any(active is layer for layer in images)
                else (images[-1] if images else None)
            )
            self._choose(chosen)
        self.combo.setCurrentIndex(
            next((i for i, layer in enumerate(images) if layer is chosen), -1)
        )

    def _activated(self, index: int) -> None:
        if 0 <= index < len(self._layers) and self._layers[index]() is not self.layer:
            self._choose(self._layers[index]())

    def _choose(self, layer: Any) -> None:
        before = self.layer
        if before is not None:
            for name in _WATCHED:
                getattr(before.events, name).disconnect(self._layer_moved)
        self._chosen = None if layer is None else weakref.ref(layer)
        if layer is not None:
            for name in _WATCHED:
                getattr(layer.events, name).connect(self._layer_moved)
        for field in self.voxel.values():
            field.set_typed(None)
        self.axes_edit.clear()
        self._read_layer()
        self.layer_changed.emit()

    def _layer_moved(self, _event: Any = None) -> None:
        if isalive(self):
            self._read_layer()
            self.edited.emit()

    def _read_layer(self) -> None:
        layer = self.layer
        self.facts = None
        trouble = "no image layer: open a stack, or File ▸ Open Sample ▸ zenhance"
        if layer is not None:
            try:
                self.facts = read_facts(layer)
            except ZenhanceError as error:
                trouble = dock_sentence(error)
        facts = self.facts
        for axis, field in self.voxel.items():
            field.set_given(*((None, "unknown") if facts is None else self._length(facts, axis)))
        if facts is None:
            self.axes_edit.clear()
            self.line.setText(trouble)
            return
        if len(self.axes_edit.text()) != len(facts.axes):
            self.axes_edit.setText(facts.axes)
        self.describe()

    @staticmethod
    def _length(facts: LayerFacts, axis: str) -> tuple[float | None, str]:
        index = "ZYX".index(axis)
        return facts.voxel_size.zyx_um[index], facts.voxel_size.origins[index]

    def _axes_edited(self) -> None:
        text = self.axes_edit.text().strip().upper()
        self.axes_edit.setText(text or (self.facts.axes if self.facts else ""))
        self._edited()

    def _edited(self) -> None:
        self.describe()
        self.edited.emit()

    def describe(self) -> None:
        """Update the line; it says why axes or voxel size are invalid."""
        layer = self.layer
        depth = "Z" in self.axes
        self.voxel["Z"].setVisible(depth)
        self.voxel_label.setText(f"voxel {'z ' if depth else ''}y x [µm]")
        shown = {axis.lower(): self.voxel[axis].origin for axis in ("ZYX" if depth else "YX")}
        self.mark.show_origins(shown)
        if self.facts is None or layer is None:
            return
        try:
            request = EnhanceRequest(**self.request_fields())
            # A description needs no pixels: one zero stands for all of them.
            stand_in = np.broadcast_to(np.zeros((), pixels(layer).dtype), self.facts.shape)
            text = request.apply_to(self.facts.stack(stand_in, layer.name)).describe()
            note = f"<br><i>{self.facts.note}</i>" if self.facts.note else ""
            self.line.setText(f"<b>{text}</b>{note}")
        except ZenhanceError as error:
            self.line.setText(f'<span style="color: #d9534f">{dock_sentence(error)}</span>')
