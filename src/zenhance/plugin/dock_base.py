"""What both docks share: the column of settings, a task that ends with its window, and messages.

A dock is a narrow column: the settings scroll, and below them stand the buttons and messages.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QMessageBox,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from zenhance.errors import ZenhanceError
from zenhance.plugin.dock_words import dock_sentence
from zenhance.plugin.task import Task

__all__ = ["DEVICES", "DockBase", "device_choice", "grey_label"]

LOG = logging.getLogger(__name__)
DEVICES = (("auto", "auto"), ("CPU", "cpu"), ("CUDA GPU", "cuda"), ("Apple GPU (MPS)", "mps"))
PREFERRED_PX = (420, 800)
MIN_WIDTH_PX = 330
# The settings keep at least this height, however long a message is.
MIN_SETTINGS_PX = 160
_MARK = "zenhance_dock"


def grey_label(parent: QWidget) -> QLabel:
    """Return an empty label for an explanation."""
    label = QLabel(parent)
    label.setWordWrap(True)
    label.setStyleSheet("color: #888888;")
    return label


def device_choice(parent: QWidget) -> QComboBox:
    """Return the list of devices."""
    combo = QComboBox(parent)
    for title, name in DEVICES:
        combo.addItem(title, name)
    return combo


def _cancel_tasks(tasks: weakref.WeakSet[Task], gone: threading.Event, *_: Any) -> None:
    """Cancel every task that belongs to a closed window."""
    gone.set()
    for task in list(tasks):
        if task.running:
            LOG.info("a run was cancelled because its window was closed")
        task.forget()


class DockBase(QWidget):
    """A dock with one task at a time.

    A subclass makes its form and its panel, calls :meth:`lay_out`, and starts tasks with
    :meth:`start_task`.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that the dock works for.
    """

    panel: Any

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # napari hands plugins a proxy that wraps whatever it returns. Layers are told apart by
        # identity, so the dock needs the viewer itself.
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._viewer = weakref.ref(viewer)
        self._task: Task | None = None
        self._tasks: weakref.WeakSet[Task] = weakref.WeakSet()
        self._gone = threading.Event()
        self._watched_window: QMainWindow | None = None
        self.destroyed.connect(partial(_cancel_tasks, self._tasks, self._gone))

    def lay_out(self, form: QWidget, *below: QWidget) -> None:
        """Stack a scrolling form and the widgets below it, and join the other dock's tabs."""
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(form)
        area.setMinimumHeight(MIN_SETTINGS_PX)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(area, 1)
        for widget in below:
            layout.addWidget(widget)
        self.setMinimumWidth(MIN_WIDTH_PX)
        self.setProperty(_MARK, True)
        QTimer.singleShot(0, partial(_join_tabs, weakref.ref(self)))

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a narrow column: the image matters most."""
        return QSize(*PREFERRED_PX)

    # ------------------------------------------------------------------ one task at a time

    @property
    def running(self) -> bool:
        """Whether a task is running."""
        return self._task is not None

    def begin(self, action: Callable[[], None]) -> None:
        """Disable the buttons and start; enable them again if the start fails."""
        self.panel.set_running(True)
        if not self.guarded(action):
            self.panel.set_running(False)

    def start_task(self, task: Task) -> None:
        """Start a task that is cancelled when the window closes."""
        self._watch_window()
        self._task = task
        self._tasks.add(task)
        task.start()

    def _watch_window(self) -> None:
        """Cancel the tasks with the viewer's window, also while the dock floats beside it."""
        window = _ancestor(self, QMainWindow)
        if window is not None and window is not self._watched_window:
            self._watched_window = window
            window.destroyed.connect(partial(_cancel_tasks, self._tasks, self._gone))

    def task_ended(self) -> None:
        """Enable the buttons again; called once for each task, however it ended."""
        self._task = None
        if isalive(self):
            self.panel.set_running(False)

    # ------------------------------------------------------------------ messages

    def guarded(self, action: Callable[[], None]) -> bool:
        """Do what a click asks for; report a failure as one sentence."""
        try:
            action()
        except (ZenhanceError, OSError) as error:
            self.report(dock_sentence(error))
            return False
        return True

    def report(self, text: str) -> None:
        """Show an error in the dock and as a notification."""
        self.panel.say(text, wrong=True)
        show_error(text)

    def ask(self, question: str) -> bool:
        """Ask a yes-or-no question."""
        return bool(
            QMessageBox.question(self, "zenhance", question) == QMessageBox.StandardButton.Yes
        )


def _ancestor(widget: QWidget, kind: Any) -> Any:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, kind):
        parent = parent.parentWidget()
    return parent


def _join_tabs(reference: weakref.ref[QWidget]) -> None:
    """Put a dock behind a tab with another dock of this package, and in front of it.

    Side by side or stacked, neither dock would have room for its fields.
    """
    widget = reference()
    if widget is None or not isalive(widget):
        return
    own, window = _ancestor(widget, QDockWidget), _ancestor(widget, QMainWindow)
    if own is None or window is None or own.isFloating():
        return
    for other in window.findChildren(QDockWidget):
        same_place = (
            other is not own
            and not other.isFloating()
            and window.dockWidgetArea(other) == window.dockWidgetArea(own)
        )
        if same_place and any(child.property(_MARK) for child in other.findChildren(QWidget)):
            window.tabifyDockWidget(other, own)
            own.show()
            own.raise_()
            return
