"""Whether a method learns from the layer itself before it enhances it, and for how long."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QHBoxLayout, QWidget

from zenhance.plugin.rows import add_row, new_form

__all__ = ["DEFAULT_MINUTES", "LearnChoice"]

DEFAULT_MINUTES = 10.0
_LEAST_MINUTES, _MOST_MINUTES = 0.01, 24 * 60.0
_TIP = (
    "learn from this layer for so long, then enhance it with what was learnt; needs the PSF, and no sharp stack. "
    "The model is kept among your weights"
)


class LearnChoice(QWidget):
    """A box to tick, and the minutes beside it; hidden for a method that cannot learn from the layer."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._offered = False
        self._exact: float | None = None
        self.tick = QCheckBox(self)
        self.minutes_box = QDoubleSpinBox(self)
        self.minutes_box.setDecimals(2)
        self.minutes_box.setRange(_LEAST_MINUTES, _MOST_MINUTES)
        self.minutes_box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.minutes_box.setSuffix(" min")
        self.minutes_box.setValue(DEFAULT_MINUTES)
        self.minutes_box.setEnabled(False)
        fields = QWidget(self)
        row = QHBoxLayout(fields)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.tick)
        row.addWidget(self.minutes_box, 1)
        add_row(new_form(self), "learn first", fields, _TIP)
        self.tick.toggled.connect(self._toggled)
        self.minutes_box.valueChanged.connect(self._edited)
        self.hide()

    @property
    def minutes(self) -> float | None:
        """How long to learn; None where it is not to learn."""
        if not (self._offered and self.tick.isChecked()):
            return None
        return self.minutes_box.value() if self._exact is None else self._exact

    def show_method(self, learns: str) -> None:
        """Offer it to a method that can; another one does not learn."""
        self._offered = learns == "own_stack"
        self.setVisible(self._offered)

    def show_minutes(self, minutes: float | None) -> None:
        """Fill in how long a request learns; None unticks the box."""
        if minutes is not None:
            self.minutes_box.setValue(minutes)
            # The box shows two digits, but the request is to stay as it was written.
            self._exact = minutes
        self.tick.setChecked(minutes is not None)

    def _toggled(self, ticked: bool) -> None:
        self.minutes_box.setEnabled(ticked)
        self.changed.emit()

    def _edited(self, *_: object) -> None:
        self._exact = None
        self.changed.emit()
