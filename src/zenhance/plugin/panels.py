"""The lower part of each dock: buttons, progress, and messages of bounded height."""

from __future__ import annotations

import math

from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from zenhance.models.header import Card
from zenhance.pipeline import LearningProgress, Progress
from zenhance.plugin.loss_plot import LossPlot
from zenhance.plugin.model_choice import card_html
from zenhance.plugin.training_run import TrainingView
from zenhance.wording import format_seconds

__all__ = ["Message", "Panel", "RunPanel", "TrainPanel"]

_BAR_STEPS = 1000
BUTTON_PX = 30
# About four lines; a longer message scrolls and leaves the settings their place.
MAX_MESSAGE_PX = 76


class Message(QScrollArea):
    """A text as high as it needs to be, up to a limit; a longer one scrolls."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = QLabel(self)
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.label.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidgetResizable(True)
        self.setWidget(self.label)
        self.say("")

    def text(self) -> str:
        """Return the text that is shown."""
        return str(self.label.text())

    def say(self, text: str, wrong: bool = False) -> None:
        """Show a text, in red if something is wrong; an empty text takes no place."""
        self.label.setStyleSheet("color: #d9534f;" if wrong else "")
        self.label.setText(text)
        self.setVisible(bool(text))
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Adapt the height to the new width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        width = max(self.viewport().width(), 1)
        self.setFixedHeight(min(self.label.heightForWidth(width) + 2, MAX_MESSAGE_PX))


class Panel(QWidget):
    """A bold button that starts, one that ends, a bar, and a message.

    Parameters
    ----------
    start, end : str
        Texts of the two buttons.
    """

    def __init__(self, start: str, end: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.start = QPushButton(start, self)
        bold = self.start.font()
        bold.setBold(True)
        self.start.setFont(bold)
        self.start.setMinimumHeight(BUTTON_PX)
        self.end = QPushButton(end, self)
        self.bar = QProgressBar(self)
        self.bar.setRange(0, _BAR_STEPS)
        self.note = Message(self)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(4)

    def add_progress(self) -> None:
        """Add the bar with its button, and the message below."""
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.end)
        self.column.addLayout(row)
        self.column.addWidget(self.note)

    def set_running(self, running: bool) -> None:
        """Enable the buttons that may be clicked now."""
        self.start.setEnabled(not running)
        self.end.setEnabled(running)
        self.end.setVisible(running)
        self.bar.setVisible(running)
        if running:
            self.bar.setValue(0)
            self.bar.setFormat("starting")

    def show_fraction(self, progress: Progress, before: str = "", after: str = "") -> None:
        """Move the bar and write its percentage and the time left."""
        fraction = min(max(progress.fraction, 0.0), 1.0)
        self.bar.setValue(round(_BAR_STEPS * fraction))
        left = ""
        if progress.seconds_left is not None:
            left = f", {format_seconds(progress.seconds_left, rough=True)} left"
        self.bar.setFormat(f"{before}{100 * fraction:.0f} %{left}{after}")
        self.note.say(progress.message)

    def say(self, text: str, wrong: bool = False) -> None:
        """Show a message."""
        self.note.say(text, wrong)


class RunPanel(Panel):
    """Preview, Enhance, Cancel, progress and message."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Enhance", "Cancel", parent)
        self.enhance, self.cancel = self.start, self.end
        self.enhance.setToolTip("enhance the whole layer; the result becomes a new layer")
        self.cancel.setToolTip("stop the run; the original stays as it is")
        self.preview = QPushButton("Preview", self)
        self.preview.setToolTip("try these settings on the plane and field in view")
        self.preview.setMinimumHeight(BUTTON_PX)
        buttons = QHBoxLayout()
        buttons.addWidget(self.preview, 1)
        buttons.addWidget(self.enhance, 2)
        self.column.addLayout(buttons)
        self.add_progress()
        self.set_running(False)

    def set_running(self, running: bool) -> None:
        """Enable the buttons that may be clicked now."""
        super().set_running(running)
        self.preview.setEnabled(not running)

    def show_progress(self, progress: Progress) -> None:
        """Move the bar; say what the run is doing and how long it will take."""
        if not isinstance(progress, LearningProgress):
            self.show_fraction(progress)
            return
        loss = f", loss {progress.loss:.3g}" if math.isfinite(progress.loss) else ""
        self.show_fraction(progress, "learning, ", loss)


class TrainPanel(Panel):
    """The plot, Train and Stop, progress, message, and the trained model with its name."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Train", "Stop", parent)
        self.stop = self.end
        self.start.setToolTip("start the training; you can go on working meanwhile")
        self.stop.setToolTip("end the training now and keep the best model so far")
        self.plot = LossPlot(self)
        self.name = QLineEdit(self)
        self.name.setToolTip("name of the model, as the Enhance dock lists it under weights")
        self.save = QPushButton("Save model", self)
        self.card = Message(self)
        self.card.label.setTextFormat(Qt.TextFormat.RichText)
        naming = QHBoxLayout()
        naming.addWidget(QLabel("model", self))
        naming.addWidget(self.name, 1)
        naming.addWidget(self.save)
        self.column.addWidget(self.plot)
        self.column.addWidget(self.start)
        self.add_progress()
        self.column.addLayout(naming)
        self.column.addWidget(self.card)
        self.plot.hide()
        self.set_running(False)
        self.show_model(None)

    def clear(self) -> None:
        """Forget the previous training."""
        self.show_model(None)
        self.plot.clear()
        self.plot.show()

    def show_view(self, view: TrainingView) -> None:
        """Move the bar and the plot."""
        self.show_fraction(view)
        self.plot.show()
        self.plot.show_curves(view.losses, view.checks)

    def show_model(self, card: Card | None, saved: bool = False) -> None:
        """Show the model that can be saved, or that there is none."""
        self.save.setEnabled(card is not None and not saved)
        self.save.setText("Saved" if saved else "Save model")
        self.card.say("" if card is None else card_html(card))
