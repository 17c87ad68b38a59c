"""The microscope of a layer: measured or saved profile, its plot, its numbers and its doubts."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QInputDialog,
    QLabel,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from zenhance.errors import StackError, ZenhanceError
from zenhance.physics.profile import (
    MAX_ATTENUATION_UM,
    MicroscopeProfile,
    Quantity,
    load_profile,
)
from zenhance.pipeline import EnhanceRequest, Progress
from zenhance.pipeline.profile import measured_by_default, too_small
from zenhance.pipeline.request import MEASURE, NO_PROFILE
from zenhance.plugin.dock_words import dock_sentence, in_dock_words
from zenhance.plugin.fields import COLOURS, add_row, narrow, new_form
from zenhance.plugin.layer_bridge import is_result, level_zero
from zenhance.plugin.profile_plot import ProfilePlot
from zenhance.plugin.profile_store import profile_path, save_profile, saved_names
from zenhance.plugin.task import Outcome, Steps, Task
from zenhance.stack import Stack

__all__ = ["MAX_AUTOMATIC_VOXELS", "MicroscopePanel", "Subject", "doubt_sentence"]

_OWN: dict[str | None, str] = {
    None: "automatic",
    MEASURE: "measured on this layer",
    NO_PROFILE: "none: one PSF for all depths",
}
_OF_LAYER = (None, MEASURE)

MAX_AUTOMATIC_VOXELS = 100_000_000
"""Larger layers are measured only when the user clicks."""
MIN_AUTOMATIC_PLANES = 5
QUIET_MS = 1500
MAX_DOUBTS = 2


@dataclass(frozen=True)
class Subject:
    """What to measure: a layer, its stack as the request reads it, and the request."""

    layer: Any
    stack: Stack
    request: EnhanceRequest

    @property
    def voxels(self) -> int:
        """Size of one volume."""
        return int(np.prod(self.stack.volume_shape, dtype=np.int64))

    def key(self) -> tuple[Any, ...]:
        """Return what the measurement depends on; equal keys need no new measurement."""
        pixels = id(level_zero(self.layer))
        return (pixels, self.stack.axes, self.stack.voxel_size.zyx_um, self.request.channel)


def measuring_steps(stack: Stack, request: EnhanceRequest) -> Steps:
    """Read the first volume plane by plane and measure it as a run does; in the worker.

    Raises
    ------
    StackError
        The layer has no depth, or its voxel size is unknown.
    """
    from zenhance.pipeline.plan import psf_for
    from zenhance.pipeline.profile import profile_of_steps
    from zenhance.steps import relay

    if "Z" not in stack.axes:
        raise StackError(
            f'the layer "{stack.name}" has no z axis; the microscope is measured on a z-stack'
        )
    wanted = request.model_copy(update={"profile": MEASURE})
    return (
        yield from relay(
            profile_of_steps(stack, wanted, 0, psf_for(stack, request)),
            lambda step: Progress("measure", step[1], None, step[0]),
        )
    )


def doubt_sentence(profile: MicroscopeProfile | None) -> str:
    """Return the doubts as one sentence; the first two in full, the others as their number."""
    doubts = () if profile is None else profile.doubts
    if not doubts:
        return ""
    more = len(doubts) - MAX_DOUBTS
    tail = f"; and {more} more under Microscope" if more > 0 else ""
    return in_dock_words(f"Check: {'; '.join(doubts[:MAX_DOUBTS])}{tail}.")


class MicroscopePanel(QWidget):
    """Plot and numbers of a profile, with buttons to measure it and to save it.

    Parameters
    ----------
    ask : callable
        Returns the subject, or None if there is nothing to measure.
    """

    changed = Signal()
    edited = Signal()
    started = Signal(object)
    failed = Signal(str)

    def __init__(self, ask: Callable[[], Subject | None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ask = ask
        self._task: Task | None = None
        self._held = self._due = False
        self._measured: list[tuple[weakref.ref[Any], tuple[Any, ...], MicroscopeProfile]] = []
        self._shown_key: tuple[Any, ...] | None = None
        self.profile: MicroscopeProfile | None = None
        self.source = narrow(QComboBox(self))
        self.even = QCheckBox(self)
        self.plot = ProfilePlot(self)
        self.numbers = QLabel(self)
        self.numbers.setTextFormat(Qt.TextFormat.RichText)
        self.numbers.setWordWrap(True)
        self.usage = QLabel(self)
        self.status = QLabel(self)
        for label in (self.usage, self.status):
            label.setWordWrap(True)
        self.measure_button = QPushButton("Measure", self)
        self.save_button = QPushButton("Use for all layers of this microscope…", self)
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.timeout.connect(self._start)
        self.source.currentIndexChanged.connect(self._picked)
        self.even.toggled.connect(self.edited)
        self.measure_button.clicked.connect(self._clicked)
        self.save_button.clicked.connect(self._save_clicked)
        self.refresh_names()
        self._show(None)

    def _lay_out(self) -> None:
        form = new_form()
        add_row(
            form,
            "profile",
            self.source,
            "light, camera noise and blur by depth, in place of one PSF for all; automatic: "
            "a run that deblurs measures them where neither you nor the file gives the PSF",
        )
        add_row(
            form,
            "even out depth",
            self.even,
            "divide the result by the light at each depth, for looking and segmenting; "
            "its intensities are then no longer proportional to photons, and noise grows with them",
        )
        self.measure_button.setToolTip(
            "measure light, camera noise and blur by depth on the pixels of this layer"
        )
        self.save_button.setToolTip(
            "save this profile under a name; it is then offered for every layer, also later"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(form)
        for widget in (
            self.usage,
            self.plot,
            self.numbers,
            self.status,
            self.measure_button,
            self.save_button,
        ):
            layout.addWidget(widget)

    # ------------------------------------------------------------------ which profile

    def request_fields(self) -> dict[str, Any]:
        """Return the fields of the request that this panel decides."""
        return {"profile": self.source.currentData(), "even_light": self.even.isChecked()}

    def show_request(self, request: EnhanceRequest) -> None:
        """Show which profile a request uses: measured, saved, or that of its record."""
        spec = request.profile
        with QSignalBlocker(self.even):
            self.even.setChecked(request.even_light)
        with QSignalBlocker(self.source):
            if self._index(spec) < 0:
                self.source.addItem("of the settings", spec)
            self.source.setCurrentIndex(self._index(spec))
        self._chosen()

    def _index(self, spec: str | None) -> int:
        """Return the row of a profile, -1 if it is not listed."""
        listed = (self.source.itemData(row) == spec for row in range(self.source.count()))
        return next((row for row, same in enumerate(listed) if same), -1)

    def refresh_names(self, choose: str | None = None) -> None:
        """List the saved profiles again; keep the choice, or choose a name."""
        wanted = choose or self.source.currentText()
        with QSignalBlocker(self.source):
            self.source.clear()
            for spec, title in _OWN.items():
                self.source.addItem(title, spec)
            for name in saved_names():
                self.source.addItem(name, str(profile_path(name)))
            self.source.setCurrentIndex(max(0, self.source.findText(wanted)))

    def refresh(self) -> None:
        """Show the profile of the layer in the form; measure it soon if that is quick."""
        subject = self._ask()
        key = None if subject is None else (id(subject.layer), *subject.key())
        if self.source.currentData() not in _OF_LAYER or key == self._shown_key:
            self._say_usage(subject)
            return
        self._stop()
        self._shown_key = key
        self._show(None if subject is None else self._kept(subject))
        self._say_usage(subject)
        self._due = subject is not None and self.profile is None and _quick(subject)
        if self._due and not self._held:
            self._timer.start()

    def _say_usage(self, subject: Subject | None) -> None:
        """Say whether the run uses the profile, and why not."""
        text = _usage(self.source.currentData(), subject, self.profile)
        self.usage.setText(in_dock_words(text))
        self.usage.setVisible(bool(text))

    def _kept(self, subject: Subject) -> MicroscopeProfile | None:
        key = subject.key()
        kept = (p for layer, k, p in self._measured if layer() is subject.layer and k == key)
        return next(kept, None)

    def _picked(self, *_: Any) -> None:
        """Use the profile that the user picks; show it."""
        self._chosen()
        self.edited.emit()

    def _chosen(self) -> None:
        self._stop()
        self._shown_key = None
        spec = self.source.currentData()
        if spec in _OWN:
            self._show(None)
            self.refresh()
            return
        self._say_usage(None)
        if spec.startswith(("{", "[")):
            # The record of a result holds one profile a channel, which the run reads.
            self._show(None)
            return
        try:
            self._show(load_profile(Path(spec)))
        except ZenhanceError as error:
            self._show(None)
            self.failed.emit(dock_sentence(error))

    def _show(self, profile: MicroscopeProfile | None) -> None:
        self.profile = profile
        self.plot.show_profile(profile)
        self.plot.setVisible(profile is not None)
        self.numbers.setText("" if profile is None else _table(profile))
        self.numbers.setVisible(profile is not None)
        self.status.hide()
        saved = self.source.currentData() not in _OF_LAYER
        self.measure_button.setText("Measure" if profile is None else "Measure again")
        self.measure_button.setVisible(not saved)
        self.save_button.setVisible(profile is not None and not saved)
        self.changed.emit()

    # ------------------------------------------------------------------ measuring

    @property
    def measuring(self) -> bool:
        """Whether a measurement is in progress."""
        return self._task is not None

    def hold(self, held: bool) -> None:
        """Measure nothing automatically during a run, which needs the processor."""
        self._held = held
        if held:
            self._timer.stop()
        elif self._due:
            self._timer.start()

    def measure_for_run(self) -> None:
        """Use the microscope as measured on this layer, and measure it if that is still to do."""
        self.source.setCurrentIndex(self._index(MEASURE))
        if self.profile is None and not self.measuring:
            self._start()

    def _clicked(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._start()

    def _start(self) -> None:
        subject = self._ask()
        if subject is None or self.measuring:
            return
        self._timer.stop()
        self._due = False
        self._shown_key = (id(subject.layer), *subject.key())
        layer, key = weakref.ref(subject.layer), subject.key()
        stack, request = subject.stack, subject.request
        task = Task(
            lambda _: measuring_steps(stack, request),
            on_progress=self._progressed,
            on_outcome=partial(self._ended, layer, key),
        )
        self._task = task
        self.measure_button.setText("Cancel")
        self._say("measuring the microscope…")
        self.started.emit(task)
        task.start()

    def _stop(self) -> None:
        """Give up the measurement of a layer or voxel size that is not shown any more."""
        self._timer.stop()
        if self._task is not None:
            self._task.forget()
            self._task = None

    def _progressed(self, progress: Progress) -> None:
        self._say(f"{progress.message}: {100 * progress.fraction:.0f} %")

    def _ended(self, layer: weakref.ref[Any], key: tuple[Any, ...], outcome: Outcome) -> None:
        self._task = None
        if not isalive(self):
            return
        if outcome.value is None:
            self._show(self.profile)
            self._say(outcome.failure or "cancelled; nothing was measured")
            return
        self._measured = [
            entry
            for entry in self._measured
            if entry[0]() is not None and (entry[0]() is not layer() or entry[1] != key)
        ]
        self._measured.append((layer, key, outcome.value))
        self._show(outcome.value)
        self._say_usage(self._ask())

    def _say(self, text: str) -> None:
        self.status.setText(text)
        self.status.setVisible(bool(text))

    # ------------------------------------------------------------------ saving

    def _save_clicked(self) -> None:
        name, accepted = QInputDialog.getText(
            self, "Save the profile", "name of the microscope and its settings"
        )
        if accepted:
            self.save_as(name.strip())

    def save_as(self, name: str) -> None:
        """Save the shown profile and choose it for all layers."""
        if self.profile is None:
            return
        try:
            taken = profile_path(name).exists()
            if taken and not self._may_replace(name):
                return
            save_profile(self.profile, name, overwrite=taken)
        except (ZenhanceError, OSError) as error:
            self.failed.emit(dock_sentence(error))
            return
        self.refresh_names(name)
        self._picked()

    def _may_replace(self, name: str) -> bool:
        answer = QMessageBox.question(
            self, "zenhance", f'A profile "{name}" exists already. Replace it?'
        )
        return bool(answer == QMessageBox.StandardButton.Yes)


def _usage(spec: str | None, subject: Subject | None, profile: MicroscopeProfile | None) -> str:
    """Return a sentence on whether a run uses the profile that is chosen."""
    if spec == NO_PROFILE:
        return "The run uses one PSF for all depths."
    if spec is not None:
        return "The run uses this profile."
    if subject is None:
        return ""
    if not subject.request.needs_blur_by_depth:
        return "This method takes one PSF for all depths."
    if not measured_by_default(subject.stack, subject.request):
        return "The run uses the PSF above."
    why = too_small(subject.stack)
    if not why and profile is not None and not profile.blur_is_measured:
        why = "the blur could not be measured on this layer"
    return f"The run uses the default PSF: {why}." if why else "The run uses this profile."


def _quick(subject: Subject) -> bool:
    """Tell whether a layer is measured without a click."""
    return (
        "Z" in subject.stack.axes
        and subject.stack.volume_shape[0] >= MIN_AUTOMATIC_PLANES
        and subject.voxels <= MAX_AUTOMATIC_VOXELS
        and None not in subject.stack.voxel_size.zyx_um
        and not is_result(subject.layer)
    )


def _table(profile: MicroscopeProfile) -> str:
    """Return the numbers as a table: name, value with its interval, and mark."""
    length = profile.attenuation_um
    rows = [
        ("light falls to 1/e in", length, "µm"),
        ("gain", profile.gain, "per photon"),
        ("offset", profile.offset, ""),
        ("read noise", profile.read_noise, ""),
        ("background", profile.background, ""),
    ]
    for depth in sorted({0.0, profile.sigma_yx_um.depth_um[-1]}):
        for name, curve in (("z", profile.sigma_z_um), ("yx", profile.sigma_yx_um)):
            rows.append((f"σ {name} at {depth:.3g} µm", curve.quantity_at(depth), "µm"))
    cells = "".join(
        f"<tr><td>{name}</td><td style='padding-left: 8px'>{_words(quantity, unit)}</td>"
        f"<td style='padding-left: 8px; color: {COLOURS[quantity.origin]}'>{quantity.origin}</td>"
        "</tr>"
        for name, quantity, unit in rows
    )
    doubts = "".join(f"<br>• {in_dock_words(doubt)}" for doubt in profile.doubts)
    return f"<table style='font-size: 10px'>{cells}</table>" + (
        f"<span style='font-size: 10px'>To check:{doubts}</span>" if doubts else ""
    )


def _words(quantity: Quantity, unit: str) -> str:
    """Return value, interval and unit."""
    if quantity.value >= MAX_ATTENUATION_UM:
        return "no loss found"
    unit = f" {unit}" if unit else ""
    if quantity.low == quantity.high:
        return f"{quantity.value:.3g}{unit}"
    high = "∞" if quantity.high >= MAX_ATTENUATION_UM else f"{quantity.high:.3g}"
    return f"{quantity.value:.3g} ({quantity.low:.3g} – {high}){unit}"
