"""Import torch in the background, so that the first plan or preview does not wait for it and opening the dock never does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module

from qtpy.QtCore import QObject, Signal

from zenhance.device.threads import spin_briefly

__all__ = ["import_torch_later"]


class _Bell(QObject):
    """Rings in the window's thread when the import is done."""

    rung = Signal()


def import_torch_later(then: Callable[[], None]) -> None:
    """Import torch in a thread of its own, then call back in the window's thread; at once where it is imported already."""
    if "torch" in sys.modules:
        then()
        return
    spin_briefly()
    bell = _Bell()
    bell.rung.connect(then)

    def work() -> None:
        import_module("torch")
        bell.rung.emit()

    threading.Thread(target=work, name="zenhance-warm-up", daemon=True).start()
