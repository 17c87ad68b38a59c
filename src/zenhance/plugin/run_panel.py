"""The buttons of a run, its progress and what it had to say."""

from __future__ import annotations

import math

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from zenhance.pipeline import LearningProgress, Progress
from zenhance.wording import format_seconds

__all__ = ["RunPanel"]

_BAR_STEPS = 1000


class RunPanel(QWidget):
    """Preview, Enhance, Cancel, a bar, and one line of text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.preview = QPushButton("Preview", self)
        self.preview.setToolTip("try these settings on the plane and field in view")
        self.enhance = QPushButton("Enhance", self)
        self.enhance.setToolTip("enhance the whole layer; the result becomes a new layer")
        bold = self.enhance.font()
        bold.setBold(True)
        self.enhance.setFont(bold)
        self.enhance.setMinimumHeight(30)
        self.preview.setMinimumHeight(30)
        self.cancel = QPushButton("Cancel", self)
        self.bar = QProgressBar(self)
        self.bar.setRange(0, _BAR_STEPS)
        self.bar.setTextVisible(True)
        self.note = QLabel(self)
        self.note.setWordWrap(True)
        self.note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        buttons = QHBoxLayout()
        buttons.addWidget(self.preview, 1)
        buttons.addWidget(self.enhance, 2)
        running = QHBoxLayout()
        running.addWidget(self.bar, 1)
        running.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(buttons)
        layout.addLayout(running)
        layout.addWidget(self.note)
        self.set_running(False)

    def set_running(self, running: bool) -> None:
        """Enable what may be clicked now."""
        self.preview.setEnabled(not running)
        self.enhance.setEnabled(not running)
        self.cancel.setEnabled(running)
        self.bar.setVisible(running)
        self.cancel.setVisible(running)
        if running:
            self.bar.setValue(0)
            self.bar.setFormat("starting")

    def show_progress(self, progress: Progress) -> None:
        """Move the bar; say what is being done and how long it will take."""
        self.bar.setValue(round(_BAR_STEPS * min(max(progress.fraction, 0.0), 1.0)))
        left = (
            ""
            if progress.seconds_left is None
            else f", {format_seconds(progress.seconds_left, rough=True)} left"
        )
        text = f"{100 * progress.fraction:.0f} %{left}"
        if isinstance(progress, LearningProgress):
            text = f"learning, {text}" + (
                f", loss {progress.loss:.3g}" if math.isfinite(progress.loss) else ""
            )
        self.bar.setFormat(text)
        self.note.setStyleSheet("")
        self.note.setText(progress.message)

    def say(self, text: str, wrong: bool = False) -> None:
        """Write the line of text."""
        self.note.setStyleSheet("color: #d9534f;" if wrong else "")
        self.note.setText(text)
