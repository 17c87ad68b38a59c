"""A number the user may type over, with a mark that says where it came from: file, user or default."""

from __future__ import annotations

import math

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QSizePolicy, QWidget

__all__ = ["NumberField", "OriginMark"]

# Readable on napari's dark and light themes alike.
_COLOURS = {"file": "#3fa66b", "user": "#4a90d9", "default": "#c98a2b", "unknown": "#d9534f"}
_EXPLAINED = {
    "file": "read from the image file",
    "user": "typed by you",
    "default": "a stated default: check it against your microscope",
    "unknown": "not known: please type it",
    "estimated": "measured on this layer; each run measures it on the whole of what it enhances",
}


class OriginMark(QLabel):
    """A small coloured word: file, user, default or unknown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)

    def show_origin(self, origin: str) -> None:
        """Show an origin; an empty text hides the mark."""
        self.setText(origin)
        self.setToolTip(_EXPLAINED.get(origin, ""))
        self.setStyleSheet(f"color: {_COLOURS.get(origin, '#888888')}; font-size: 10px;")


class NumberField(QWidget):
    """A line for one number that keeps full precision while it shows four digits.

    Clearing the line gives back the number that was there before the user typed (the file's, or the default).

    Parameters
    ----------
    placeholder : str
        Shown while there is no number.
    """

    edited = Signal()

    def __init__(self, placeholder: str = "?", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._given: float | None = None
        self._given_origin = "unknown"
        self._typed: float | None = None
        self.line = QLineEdit(self)
        self.line.setPlaceholderText(placeholder)
        self.line.setMinimumWidth(44)
        self.mark = OriginMark(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.mark)
        self.line.editingFinished.connect(self._read)

    def setToolTip(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Show the tip over the line; the mark has its own."""
        self.line.setToolTip(text)

    def set_given(self, value: float | None, origin: str) -> None:
        """Set the number that holds as long as the user types none."""
        self._given, self._given_origin = value, origin
        self._refresh()

    def set_typed(self, value: float | None) -> None:
        """Set what the user typed; None takes it back."""
        self._typed = value
        self._refresh()

    @property
    def typed(self) -> float | None:
        """What the user typed, or None."""
        return self._typed

    @property
    def value(self) -> float | None:
        """The number that holds."""
        return self._given if self._typed is None else self._typed

    @property
    def origin(self) -> str:
        """Where the number that holds came from."""
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
