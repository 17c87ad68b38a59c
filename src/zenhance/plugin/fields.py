"""Forms of equally wide labels, and number fields that say where a number came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QWidget,
)
from superqt import QCollapsible

__all__ = [
    "COLOURS",
    "LABEL_WIDTH_PX",
    "NumberField",
    "OriginMark",
    "WheelGuard",
    "add_row",
    "narrow",
    "new_form",
    "new_part",
    "show_row",
]

LABEL_WIDTH_PX = 112


class WheelGuard(QObject):
    """Lets the wheel scroll the dock instead of changing the field under the pointer.

    A field that has the focus obeys the wheel.
    """

    def watch(self, widget: QWidget) -> None:
        """Guard all number boxes and drop-down lists in a widget."""
        for kind in (QAbstractSpinBox, QComboBox):
            for field in [
                *widget.findChildren(kind),
                *([widget] if isinstance(widget, kind) else []),
            ]:
                field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                field.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Pass the wheel on to the scroll area unless the field has the focus."""
        if (
            event.type() == QEvent.Type.Wheel
            and isinstance(watched, QWidget)
            and not watched.hasFocus()
        ):
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))


def new_form(parent: QWidget | None = None) -> QFormLayout:
    """Return an empty form without margins."""
    form = QFormLayout(parent) if parent is not None else QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setHorizontalSpacing(6)
    form.setVerticalSpacing(3)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def add_row(form: QFormLayout, title: str, field: Any, tip: str = "") -> QLabel:
    """Add a field with its label, which is returned; both show the tooltip."""
    if isinstance(field, QCheckBox):
        field.setText("")
    label = QLabel(title)
    label.setWordWrap(True)
    label.setFixedWidth(LABEL_WIDTH_PX)
    if tip:
        label.setToolTip(tip)
        field.setToolTip(tip)
    form.addRow(label, field)
    return label


def show_row(form: QFormLayout, field: QWidget, visible: bool) -> None:
    """Show or hide a row; ``QFormLayout.setRowVisible`` needs Qt 6.4."""
    field.setVisible(visible)
    label = form.labelForField(field)
    if label is not None:
        label.setVisible(visible)


def new_part(title: str, tip: str, *widgets: QWidget) -> QCollapsible:
    """Return a part that opens on demand; while it is closed, the Tab key passes it by."""
    part = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
    part.setDuration(0)
    part.layout().setContentsMargins(0, 0, 0, 0)
    part.toggleButton().setToolTip(tip)
    for widget in widgets:
        part.addWidget(widget)
    content = part.content()
    content.setVisible(False)
    part.toggled.connect(content.setVisible)
    return part


def narrow(combo: QComboBox) -> QComboBox:
    """Let a drop-down list be narrower than its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(10)
    return combo


# Readable on napari's dark and light themes alike.
COLOURS = {
    "file": "#3fa66b",
    "user": "#4a90d9",
    "measured": "#a06fd0",
    "default": "#c98a2b",
    "unknown": "#d9534f",
}
_EXPLAINED = {
    "file": "read from the image file",
    "user": "typed by you",
    "measured": "measured on the pixels",
    "default": "a stated default: check it against your microscope",
    "unknown": "not known: please type it",
    "mixed": "from several sources",
    "estimated": "measured on part of this layer; each run measures all that it enhances",
}


class OriginMark(QLabel):
    """A small coloured word that says where a number comes from."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)

    def show_origin(self, origin: str) -> None:
        """Show an origin; an empty text hides the mark."""
        self.setText(origin)
        self.setToolTip(_EXPLAINED.get(origin, ""))
        self.setStyleSheet(f"color: {COLOURS.get(origin, '#888888')}; font-size: 10px;")

    def show_origins(self, origins: Mapping[str, str]) -> None:
        """Show the origin that several numbers share, or *mixed*.

        Parameters
        ----------
        origins : mapping
            Origin by the name of the number, for the tooltip.
        """
        different = set(origins.values())
        self.show_origin(different.pop() if len(different) == 1 else "mixed" if different else "")
        lines = [f"{name}: {_EXPLAINED.get(mark, mark)}" for name, mark in origins.items()]
        self.setToolTip("\n".join(lines))


class NumberField(QWidget):
    """A line for one number that keeps full precision while it shows four digits.

    Clearing the line restores the number from the file, or the default.

    Parameters
    ----------
    placeholder : str
        Shown while there is no number.
    marked : bool
        Whether the field shows its origin; a row of several fields can share one mark.
    """

    edited = Signal()

    def __init__(
        self, placeholder: str = "?", parent: QWidget | None = None, *, marked: bool = True
    ) -> None:
        super().__init__(parent)
        self._given: float | None = None
        self._given_origin = "unknown"
        self._typed: float | None = None
        self.line = QLineEdit(self)
        self.line.setPlaceholderText(placeholder)
        self.line.setMinimumWidth(44)
        self.mark = OriginMark(self)
        self.mark.setVisible(marked)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.mark)
        self.line.editingFinished.connect(self._read)

    def setToolTip(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Show the tooltip over the line; the mark has its own."""
        self.line.setToolTip(text)

    def set_given(self, value: float | None, origin: str) -> None:
        """Set the number that applies until the user types one."""
        self._given, self._given_origin = value, origin
        self._refresh()

    def set_typed(self, value: float | None) -> None:
        """Set what the user typed; None removes it."""
        self._typed = value
        self._refresh()

    @property
    def typed(self) -> float | None:
        """What the user typed, or None."""
        return self._typed

    @property
    def value(self) -> float | None:
        """The number that applies."""
        return self._given if self._typed is None else self._typed

    @property
    def origin(self) -> str:
        """Where the number that applies comes from."""
        return self._given_origin if self._typed is None else "user"

    def _shown(self) -> str:
        return "" if self.value is None else f"{self.value:.4g}"

    def _refresh(self) -> None:
        self.line.setText(self._shown())
        self.mark.show_origin(self.origin)

    def _read(self) -> None:
        text = self.line.text().strip().replace(",", ".")
        if text == self._shown():
            return
        before = self._typed
        try:
            number = float(text) if text else None
        except ValueError:
            number = before
        if number is not None and not math.isfinite(number):
            number = before
        self._typed = number
        self._refresh()
        if self._typed != before:
            self.edited.emit()
