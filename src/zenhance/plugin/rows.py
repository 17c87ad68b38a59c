"""Forms whose labels are equally wide, so that the fields of one dock stand in one column."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QFormLayout, QLabel, QWidget

__all__ = ["LABEL_WIDTH_PX", "WheelGuard", "add_row", "narrow", "new_form", "show_row"]

LABEL_WIDTH_PX = 112


class WheelGuard(QObject):
    """Keeps the wheel from changing a number or a choice while the dock is scrolled past it; a field that was clicked obeys it."""

    def watch(self, widget: QWidget) -> None:
        """Guard all number boxes and drop-down lists within a widget."""
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


def add_row(form: QFormLayout, title: str, field: Any, tip: str = "") -> None:
    """Add a field with its label; the tooltip is on both."""
    if isinstance(field, QCheckBox):
        field.setText("")
    label = QLabel(title)
    label.setWordWrap(True)
    label.setFixedWidth(LABEL_WIDTH_PX)
    if tip:
        label.setToolTip(tip)
        field.setToolTip(tip)
    form.addRow(label, field)


def show_row(form: QFormLayout, field: QWidget, visible: bool) -> None:
    """Show or hide a row; ``QFormLayout.setRowVisible`` came with Qt 6.4 only."""
    field.setVisible(visible)
    label = form.labelForField(field)
    if label is not None:
        label.setVisible(visible)


def narrow(combo: QComboBox) -> QComboBox:
    """Let a drop-down list be narrower than its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(10)
    return combo
