"""The lower part of the Train dock: the plot, Start and Stop with progress, and the model that came out, to be named and saved."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from zenhance.models.card import Card
from zenhance.plugin.card_text import card_html
from zenhance.plugin.loss_plot import LossPlot
from zenhance.plugin.training_run import TrainingView
from zenhance.wording import format_seconds

__all__ = ["TrainPanel"]

_BAR_STEPS = 1000


class TrainPanel(QWidget):
    """Plot, buttons, bar, one line of text, and the model's card with its name and Save."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = LossPlot(self)
        self.start = QPushButton("Train", self)
        self.start.setToolTip("start the training; you can go on working meanwhile")
        bold = self.start.font()
        bold.setBold(True)
        self.start.setFont(bold)
        self.start.setMinimumHeight(30)
        self.stop = QPushButton("Stop", self)
        self.stop.setToolTip("end the training now and keep the best model so far")
        self.bar = QProgressBar(self)
        self.bar.setRange(0, _BAR_STEPS)
        self.note = QLabel(self)
        self.note.setWordWrap(True)
        self.note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.name = QLineEdit(self)
        self.name.setToolTip("name of the model, as the Enhance dock and --weights show it")
        self.save = QPushButton("Save model", self)
        self.card = QLabel(self)
        self.card.setWordWrap(True)
        self.card.setTextFormat(Qt.TextFormat.RichText)
        self._lay_out()
        self.set_running(False)
        self.show_model(None)

    def _lay_out(self) -> None:
        running = QHBoxLayout()
        running.addWidget(self.bar, 1)
        running.addWidget(self.stop)
        naming = QHBoxLayout()
        naming.addWidget(QLabel("model", self))
        naming.addWidget(self.name, 1)
        naming.addWidget(self.save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.plot)
        layout.addWidget(self.start)
        layout.addLayout(running)
        layout.addWidget(self.note)
        layout.addLayout(naming)
        layout.addWidget(self.card)

    def set_running(self, running: bool) -> None:
        """Enable what may be clicked now."""
        self.start.setEnabled(not running)
        self.stop.setEnabled(running)
        self.stop.setVisible(running)
        self.bar.setVisible(running)
        if running:
            self.bar.setValue(0)
            self.bar.setFormat("starting")

    def show_view(self, view: TrainingView) -> None:
        """Move the bar and the plot."""
        self.bar.setValue(round(_BAR_STEPS * min(max(view.fraction, 0.0), 1.0)))
        left = (
            ""
            if view.seconds_left is None
            else f", {format_seconds(view.seconds_left, rough=True)} left"
        )
        self.bar.setFormat(f"{100 * view.fraction:.0f} %{left}")
        self.say(view.message)
        self.plot.show_curves(view.losses, view.checks)

    def show_model(self, card: Card | None, saved: bool = False) -> None:
        """Show the model that can be saved, or that there is none."""
        self.save.setEnabled(card is not None and not saved)
        self.save.setText("Saved" if saved else "Save model")
        self.card.setVisible(card is not None)
        self.card.setText("" if card is None else card_html(card))

    def say(self, text: str, wrong: bool = False) -> None:
        """Write the line of text."""
        self.note.setStyleSheet("color: #d9534f;" if wrong else "")
        self.note.setText(text)
