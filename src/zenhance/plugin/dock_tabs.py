"""The docks of this package share one place: side by side or stacked, neither would have room for its fields."""

from __future__ import annotations

from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

__all__ = ["join_tabs"]

_MARK = "zenhance_dock"


def join_tabs(widget: QWidget) -> None:
    """Once the widget is docked, put its dock behind a tab with another dock of this package, and in front of it."""
    widget.setProperty(_MARK, True)
    QTimer.singleShot(0, lambda: _join(widget))


def _ancestor(widget: QWidget, kind: Any) -> Any:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, kind):
        parent = parent.parentWidget()
    return parent


def _join(widget: QWidget) -> None:
    if not isalive(widget):
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
