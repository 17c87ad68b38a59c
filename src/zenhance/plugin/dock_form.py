"""The part of the Enhance dock that is filled in: layer, method, PSF, device, options; and the lines that say what would happen."""

from __future__ import annotations

import contextlib
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from zenhance.contract import registry
from zenhance.contract.spec import MethodParameters
from zenhance.errors import RecipeError, ZenhanceError
from zenhance.pipeline import EnhanceRequest, RunPlan
from zenhance.plugin.form import SettingsForm
from zenhance.plugin.layer_bridge import LayerFacts, read_facts
from zenhance.plugin.layer_line import LayerLine
from zenhance.plugin.learn_choice import LearnChoice
from zenhance.plugin.psf_form import PsfForm, check_psf
from zenhance.plugin.rows import WheelGuard, add_row, narrow, new_form
from zenhance.plugin.run_options import RunOptions
from zenhance.plugin.weights_choice import WeightsChoice
from zenhance.wording import format_bytes, format_seconds

__all__ = ["DockForm"]

_DEVICES = (("auto", "auto"), ("CPU", "cpu"), ("CUDA GPU", "cuda"), ("Apple GPU (MPS)", "mps"))


class DockForm(QWidget):
    """Everything that makes up a request.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are offered.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._wheel_guard = WheelGuard(self)
        self.source = LayerLine(viewer, self)
        self.method = QComboBox(self)
        for name in registry.names():
            self.method.addItem(registry.load(name).spec.title, name)
        self.summary = _grey_label(self)
        self.settings: SettingsForm | None = None
        self.weights = WeightsChoice(self)
        self.learn = LearnChoice(self)
        self.psf = PsfForm(self)
        self.device = QComboBox(self)
        for title, name in _DEVICES:
            self.device.addItem(title, name)
        self.device_line = _grey_label(self)
        self.options = RunOptions(self)
        self.plan_line = QLabel(self)
        self.plan_line.setWordWrap(True)
        self._plan_text = self._ground_text = ""
        self._lay_out()
        self.source.layer_changed.connect(self._layer_changed)
        self.source.edited.connect(self._source_edited)
        self.method.currentIndexChanged.connect(self._method_changed)
        self.device.currentIndexChanged.connect(self._announce)
        self.weights.changed.connect(self._announce)
        self.learn.changed.connect(self._learn_edited)
        self.psf.changed.connect(self._announce)
        self.options.changed.connect(self._announce)
        self._show_method()
        self._wheel_guard.watch(self)
        self._layer_changed()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 4, 0)
        layout.setSpacing(5)
        layout.addWidget(self.source)
        choice = new_form()
        add_row(choice, "method", narrow(self.method))
        layout.addLayout(choice)
        layout.addWidget(self.summary)
        self._settings_place = QVBoxLayout()
        layout.addLayout(self._settings_place)
        layout.addWidget(self.weights)
        layout.addWidget(self.learn)
        layout.addWidget(self.psf)
        device = new_form()
        add_row(
            device,
            "device",
            narrow(self.device),
            "where to compute; auto takes a GPU where there is one that can",
        )
        layout.addLayout(device)
        layout.addWidget(self.device_line)
        self.more = QCollapsible("More options", self, expandedIcon="▾", collapsedIcon="▸")
        self.more.setDuration(0)
        self.more.addWidget(self.options)
        layout.addWidget(self.more)
        layout.addStretch(1)

    # ------------------------------------------------------------------ what is chosen

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        return self.source.layer

    @property
    def facts(self) -> LayerFacts | None:
        """What the chosen layer says about itself."""
        return self.source.facts

    @property
    def axes(self) -> str:
        """Axes in the layer's own order, as the user wants them read."""
        return self.source.axes

    def facts_now(self) -> LayerFacts:
        """Read the layer again."""
        return read_facts(self.layer)

    def request(self) -> EnhanceRequest:
        """Build the request.

        Raises
        ------
        ZenhanceError
            A field cannot be used.
        """
        if self.settings is None:
            raise RecipeError("no method is chosen; choose one")
        request = EnhanceRequest(
            method=self.method.currentData(),
            settings=self.settings.settings(),
            psf=self.psf.spec() if self.psf.isVisibleTo(self) else None,
            weights=self.weights.weights,
            learn_minutes=self.learn.minutes,
            device=self.device.currentData(),
            **self.source.request_fields(),
            **self.options.request_fields(),
        )
        request.parameters()
        return request

    def show_request(self, request: EnhanceRequest) -> None:
        """Fill in a request.

        Raises
        ------
        ZenhanceError
            Method or PSF cannot be used; nothing was filled in.
        """
        index = self.method.findData(request.method)
        if index < 0:
            raise RecipeError(
                f'the settings ask for method "{request.method}", which is not installed; choose another'
            )
        check_psf(request.psf)
        self.method.setCurrentIndex(index)
        if self.settings is not None:
            self.settings.show_settings(request.settings)
        self.source.show_typed(request.axes, request.voxel_size_um)
        self.learn.show_minutes(request.learn_minutes)
        self.weights.show_weights(request.weights)
        self.psf.show_spec(request.psf)
        if self.device.findData(request.device) < 0:
            self.device.addItem(request.device, request.device)
        self.device.setCurrentIndex(self.device.findData(request.device))
        self._source_edited()
        self.options.show_request(request)
        if self.options.kept:
            # A crop decides what is enhanced: it must not hide.
            self.more.expand(animate=False)
        self._announce()

    # ------------------------------------------------------------------ what is shown

    def show_plan(self, plan: RunPlan) -> None:
        """Say which device a run would use and why, how many tiles it would take and how much memory."""
        self.device_line.setText(plan.device.reason)
        z, y, x = plan.tiles.core_shape_px
        count = len(plan.tiles.tiles) * plan.volumes
        tiles = f"{count} tiles of {z} × {y} × {x}" if count > 1 else "1 tile"
        first = "" if plan.learn_minutes is None else f"learns {plan.learn_minutes:g} min first, "
        self._plan_text = f"{first}{tiles}, {format_bytes(plan.working_bytes)} to work in, result {format_bytes(plan.result_bytes)}"
        self._ground_text = ""
        self._write_plan(f"{self._plan_text}; measuring the time…")

    def show_background(self, estimate: float) -> None:
        """Say which background was estimated on the layer; it holds unless the user types one."""
        self.options.show_background(estimate)
        self._ground_text = f"; background about {estimate:.4g}"
        self._write_plan(f"{self._plan_text}{self._ground_text}; measuring the time…")

    def show_time(self, seconds: float) -> None:
        """Add the time that was measured."""
        self._write_plan(
            f"{self._plan_text}{self._ground_text}; about {format_seconds(seconds, rough=True)}"
        )

    def show_trouble(self, text: str) -> None:
        """Say why nothing can be planned."""
        self._write_plan(text, wrong=True)

    def _write_plan(self, text: str, wrong: bool = False) -> None:
        self.plan_line.setStyleSheet("color: #d9534f;" if wrong else "")
        self.plan_line.setText(text)

    def _announce(self, *_: Any) -> None:
        self.changed.emit()

    def _method_changed(self, *_: Any) -> None:
        self._show_method()
        self._announce()

    def _show_method(self) -> None:
        spec = registry.load(self.method.currentData()).spec
        if self.settings is not None:
            self._settings_place.removeWidget(self.settings)
            self.settings.hide()
            self.settings.deleteLater()
        self.settings = SettingsForm(spec.parameters, self)
        self.settings.changed.connect(self._settings_edited)
        self._wheel_guard.watch(self.settings)
        self._settings_place.addWidget(self.settings)
        self.summary.setText(spec.summary)
        self.weights.show_method(spec.name)
        self._show_default_weights()
        self.learn.show_method(spec.learns)
        self._show_learning()

    def _show_learning(self) -> None:
        """Ask for what learning needs: a point spread function, and, if the user wants, no weights to begin from."""
        learns = self.learn.minutes is not None
        self.weights.offer_random(learns)
        self.psf.setVisible(learns or self._parameters().needs_psf)

    def _settings_edited(self) -> None:
        self._show_default_weights()
        self._show_learning()
        self._announce()

    def _show_default_weights(self) -> None:
        """Show which weights *automatic* means with the present settings."""
        self.weights.show_default(self._parameters().weights)

    def _parameters(self) -> MethodParameters:
        """Return the method's parameters; the form reports invalid settings, defaults stand in."""
        method = self.method.currentData()
        if self.settings is not None:
            with contextlib.suppress(ZenhanceError):
                settings = self.settings.settings()
                return EnhanceRequest(method=method, settings=settings).parameters()
        return registry.load(method).spec.defaults

    def _learn_edited(self) -> None:
        self._show_learning()
        self._announce()

    def _layer_changed(self) -> None:
        self.options.forget_crop()
        self.options.show_background(None)
        self._source_edited()
        self._write_plan("")
        self._announce()

    def _source_edited(self) -> None:
        facts = self.facts
        if facts is not None:
            axes = self.axes
            self.psf.show_layer(facts.metadata, 3 if "Z" in axes else 2)
            count = (
                facts.shape[axes.index("C")] if "C" in axes and len(axes) == len(facts.shape) else 0
            )
            self.options.show_channels(count, tuple(facts.metadata.get("channel_names", ())))
        self._announce()


def _grey_label(parent: QWidget) -> QLabel:
    label = QLabel(parent)
    label.setWordWrap(True)
    label.setStyleSheet("color: #888888;")
    return label
