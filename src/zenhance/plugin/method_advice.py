"""Which method? The advice on a layer, measured in the background and shown with its reason."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from zenhance.contract import registry
from zenhance.pipeline import EnhanceRequest, Progress
from zenhance.plugin.dock_form import DockForm
from zenhance.plugin.dock_words import in_dock_words
from zenhance.plugin.panels import Message
from zenhance.plugin.snapshot import Snapshot
from zenhance.plugin.task import Outcome, Steps, Task, busy
from zenhance.stack import Stack

if TYPE_CHECKING:
    from zenhance.pipeline.advice import Advice

__all__ = ["AdviceLine", "advice_steps", "follow"]

LEARN_MINUTES = 10.0
QUIET_MS = 900
MAX_AUTOMATIC_VOXELS = 10**8
"""A larger volume is measured on a click only."""


def advice_steps(snapshot: Snapshot, request: EnhanceRequest, _cancel: threading.Event) -> Steps:
    """Measure the layer and return the advice."""
    yield from snapshot.copy_steps()
    return (yield from _measuring(snapshot.stack(), request))


def _measuring(stack: Stack, request: EnhanceRequest) -> Steps:
    from zenhance.pipeline.advice import advise

    yield Progress("measure", 0.1, None, "measuring light, depth and structures")
    return advise(stack, request)


def follow(form: DockForm, advice: Advice) -> str:
    """Choose the recommended method in the form, and return the reason for the message line."""
    form.method.setCurrentIndex(form.method.findData(advice.method))
    form.learn.show_minutes(LEARN_MINUTES if advice.learn else None)
    lines = (
        f"recommended and chosen: {_title(advice)}. {advice.reason}",
        f"measured: {'; '.join(advice.facts)}",
        *advice.doubts,
    )
    return "\n".join(map(in_dock_words, lines))


def _title(advice: Advice) -> str:
    return registry.load(advice.method).spec.title.partition(" (")[0]


class AdviceLine(QWidget):
    """The recommended method with its reason, and a button where another one is chosen.

    A layer is measured soon after it is chosen. Until the user picks a method, the recommended one
    is taken.

    Parameters
    ----------
    form : DockForm
        Whose layer is measured and whose method is chosen.
    ask : callable
        Returns stack and request, or None while there is nothing to measure.
    """

    started = Signal(object)

    def __init__(
        self,
        form: DockForm,
        ask: Callable[[], tuple[Stack, EnhanceRequest] | None],
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._form, self._ask = form, ask
        self.advice: Advice | None = None
        self._known: list[tuple[weakref.ref[Any], tuple[Any, ...], Advice]] = []
        self._key: tuple[Any, ...] | None = None
        self._task: Task | None = None
        self._held = False
        self.line = Message(self)
        self.use = QPushButton("Use it", self)
        self.use.setToolTip("choose the recommended method")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.use)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.timeout.connect(self._start)
        self.use.clicked.connect(self._use)
        form.changed.connect(self.refresh)
        form.purpose_chosen.connect(self._follow)
        self._show()

    def hold(self, held: bool) -> None:
        """Measure nothing while a run needs the processor."""
        self._held = held
        if held:
            self._timer.stop()
        else:
            self.refresh()

    def refresh(self) -> None:
        """Show what is known about the layer; measure it soon if nothing is."""
        key = self._subject()
        if key is not None and key == self._key:
            self._show()
            return
        self._stop()
        self._key = key
        layer = self._form.layer
        known = (a for ref, k, a in self._known if ref() is layer and k == key)
        self.advice = None if key is None else next(known, None)
        self._follow()
        if key is not None and self.advice is None and not self._held:
            self._timer.start()

    def _subject(self) -> tuple[Any, ...] | None:
        """Return what the advice depends on; None if there is nothing to measure."""
        layer, facts = self._form.layer, self._form.facts
        if layer is None or facts is None:
            return None
        source = self._form.source
        options = self._form.options
        return (
            id(layer),
            source.axes,
            source.typed_voxel_um(),
            facts.voxel_size.zyx_um,
            options.channel.currentData(),
            options.output.currentData(),
        )

    def _stop(self) -> None:
        self._timer.stop()
        if self._task is not None:
            self._task.forget()
            self._task = None

    def _start(self) -> None:
        if busy():
            self._timer.start()
            return
        asked, key, layer = self._ask(), self._key, self._form.layer
        if asked is None or key is None or self._held or layer is None:
            return
        stack, request = asked
        z, y, x = stack.volume_shape
        if z * y * x > MAX_AUTOMATIC_VOXELS:
            return
        shown = weakref.ref(layer)
        self._task = Task(
            lambda _: _measuring(stack, request),
            on_outcome=lambda outcome: self._ended(outcome, shown, key),
        )
        self.started.emit(self._task)
        self._task.start()

    def _ended(self, outcome: Outcome, layer: weakref.ref[Any], key: tuple[Any, ...]) -> None:
        self._task = None
        if not isalive(self) or outcome.value is None:
            return
        self._known = [entry for entry in self._known if entry[0]() is not None]
        self._known.append((layer, key, outcome.value))
        if key == self._key:
            self.advice = outcome.value
            self._follow()

    def _follow(self) -> None:
        """Take the recommended method, unless the user picked one."""
        if self.advice is not None and not self._form.method_is_chosen:
            index = self._form.method.findData(self.advice.method)
            if index >= 0:
                self._form.method.setCurrentIndex(index)
        self._show()

    def _use(self) -> None:
        self._form.method_is_chosen = False
        self._follow()

    def _show(self) -> None:
        advice = self.advice
        self.setVisible(advice is not None)
        # The reason takes the place of the summary, which the tooltip of the method has too.
        self._form.summary.setVisible(advice is None)
        if advice is None:
            return
        taken = self._form.method.currentData() == advice.method
        name = "Recommended" if taken else f"{_title(advice)} is recommended"
        self.line.say(in_dock_words(f"{name}: {advice.reason}"))
        self.line.setToolTip("\n".join(map(in_dock_words, (*advice.facts, *advice.doubts))))
        self.use.setVisible(not taken)
