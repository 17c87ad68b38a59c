"""The settings of the Enhance dock: layer, purpose, method; and what would happen.

::

    layer, and how it is read          always in view
    what for, method and why
    strength
    ▸ Settings                         of the method; only what applies
    ▸ Microscope                       axes, voxel, PSF, light and blur by depth
    ▸ More                             device, channel, pixel type, ...
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from zenhance.contract import registry
from zenhance.contract.spec import MethodParameters
from zenhance.errors import CheckpointError, RecipeError, ZenhanceError
from zenhance.models.catalogue import find_weights
from zenhance.pipeline import EnhanceRequest, RunPlan
from zenhance.pipeline.arbitration import can_arbitrate
from zenhance.pipeline.request import MEASURE, NO_PROFILE
from zenhance.plugin.dock_base import device_choice, grey_label
from zenhance.plugin.doubts import AMBER, Doubt, doubts_of
from zenhance.plugin.fields import WheelGuard, add_row, narrow, new_form, new_part
from zenhance.plugin.form import SettingsForm
from zenhance.plugin.layer_bridge import LayerFacts, pixels, read_facts
from zenhance.plugin.layer_line import LayerLine
from zenhance.plugin.microscope_panel import MicroscopePanel, Subject, doubt_sentence
from zenhance.plugin.model_choice import LearnChoice, WeightsChoice
from zenhance.plugin.panels import Message
from zenhance.plugin.psf_form import PsfForm, check_psf
from zenhance.plugin.run_options import RunOptions
from zenhance.types import FloatTriple
from zenhance.wording import format_bytes, format_seconds

__all__ = ["DockForm"]

# What belongs to one image, and therefore does not outlast a session.
_OF_ONE_IMAGE = (
    "axes",
    "series",
    "voxel_size_um",
    "channel",
    "crop",
    "psf",
    "background",
    "even_light",
    "tile_px",
)
# What a result is for: output and even light. Neither belongs to a method.
_PURPOSES = (
    ("cleaner and sharper", ("sharp", False), "the specimen without noise and blur"),
    (
        "only cleaner",
        ("denoised", False),
        "without noise, at the resolution of the microscope: claims nothing finer",
    ),
    (
        "for segmentation",
        ("sharp", True),
        "deep layers as visible as the surface; its intensities are no measurement",
    ),
)


class DockForm(QWidget):
    """Every field that a request consists of.

    Parameters
    ----------
    viewer : napari.Viewer
        The form offers its layers.
    """

    changed = Signal()
    purpose_chosen = Signal()
    part_toggled = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._wheel_guard = WheelGuard(self)
        self.source = LayerLine(viewer, self)
        self.purpose = QComboBox(self)
        self.purpose.setPlaceholderText("own choice")
        for title, kind, tip in _PURPOSES:
            self.purpose.addItem(title, kind)
            self.purpose.setItemData(self.purpose.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.method_is_chosen = False
        self.method = QComboBox(self)
        for name in registry.names():
            self.method.addItem(registry.load(name).spec.title, name)
        self.summary = grey_label(self)
        self.settings: SettingsForm | None = None
        self.strength: QWidget | None = None
        self._shown_method = ""
        self._of_method: dict[str, dict[str, Any]] = {}
        self.weights = WeightsChoice(self)
        self.learn = LearnChoice(self)
        self.psf = PsfForm(self)
        self.device = device_choice(self)
        self.device_line = grey_label(self)
        self.options = RunOptions(self)
        self.microscope = MicroscopePanel(self._subject, self)
        self.plan_line = Message(self)
        self.doubt_line = Message(self)
        self._plan: RunPlan | None = None
        self._plan_text = self._background_text = ""
        self._lay_out()
        self._connect()
        self._show_method()
        self._wheel_guard.watch(self)
        self._layer_changed()

    def _connect(self) -> None:
        self.source.layer_changed.connect(self._layer_changed)
        self.source.edited.connect(self._source_edited)
        self.method.currentIndexChanged.connect(self._method_changed)
        self.method.activated.connect(self._method_picked)
        self.purpose.activated.connect(self._purpose_picked)
        self.device.currentIndexChanged.connect(self._announce)
        self.weights.changed.connect(self._announce)
        self.learn.changed.connect(self._learn_edited)
        self.psf.changed.connect(self._announce)
        self.options.changed.connect(self._learn_edited)
        self.changed.connect(self.microscope.refresh)
        self.microscope.changed.connect(self._show_doubts)
        self.microscope.edited.connect(self._announce)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 4, 0)
        layout.setSpacing(5)
        layout.addWidget(self.source)
        choice = new_form()
        add_row(
            choice,
            "what for",
            narrow(self.purpose),
            "chooses the recommended method, what the result is, and whether depth is evened out",
        )
        add_row(choice, "method", narrow(self.method), "how the layer is enhanced")
        layout.addLayout(choice)
        self._advice_place = QVBoxLayout()
        layout.addLayout(self._advice_place)
        layout.addWidget(self.summary)
        self._strength_place = QVBoxLayout()
        layout.addLayout(self._strength_place)
        own, run = QWidget(self), QWidget(self)
        self._settings_place = QVBoxLayout(own)
        self._settings_place.setContentsMargins(0, 0, 0, 0)
        device = new_form(run)
        tip = "where to compute; auto uses a suitable GPU if there is one"
        add_row(device, "device", narrow(self.device), tip)
        device.addRow(self.device_line)
        self.own = new_part(
            "Settings", "settings of the method, its model, learning", own, self.weights, self.learn
        )
        self.optics = new_part(
            "Microscope",
            "axes and voxel size, point spread function, light and blur by depth",
            self.source.details,
            self.psf,
            self.microscope,
        )
        self.more = new_part("More", "device, channel, pixel type, …", run, self.options)
        for part in self.parts.values():
            layout.addWidget(part)
            part.toggled.connect(self.part_toggled)
        layout.addStretch(1)

    @property
    def parts(self) -> dict[str, QCollapsible]:
        """The parts that open on demand, by name."""
        return {"settings": self.own, "microscope": self.optics, "more": self.more}

    def add_below_method(self, widget: QWidget) -> None:
        """Put the recommendation below the method."""
        self._advice_place.addWidget(widget)

    def attend(self, what: str) -> None:
        """Open the part and focus the field that a doubt is about, or do what it advises."""
        if what == "learn":
            self.own.expand(animate=False)
            self.learn.tick.setChecked(True)
            return
        self.optics.expand(animate=False)
        if what == "voxel":
            shown = [field for field in self.source.voxel.values() if not field.isHidden()]
            empty = [field for field in shown if field.value is None]
            (empty or shown)[0].line.setFocus()
        elif what == "psf":
            self.psf.kind.setFocus()
        else:
            self.microscope.measure_for_run()

    def _method_picked(self, *_: Any) -> None:
        self.method_is_chosen = True

    def _purpose_picked(self, *_: Any) -> None:
        """Set output and light of a purpose; the recommendation chooses the method again."""
        output, even = self.purpose.currentData()
        self.method_is_chosen = False
        self.options.output.setCurrentIndex(self.options.output.findData(output))
        self.microscope.even.setChecked(even)
        self.purpose_chosen.emit()

    def _show_purpose(self) -> None:
        """Show which purpose the present output and light are for, if any."""
        now = (self.options.output.currentData(), self.microscope.even.isChecked())
        kinds = [kind for _, kind, _ in _PURPOSES]
        self.purpose.setCurrentIndex(kinds.index(now) if now in kinds else -1)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What to check before a run, each with what to do about it."""
        if self.facts is None:
            return ()
        try:
            request = self.request()
        except ZenhanceError:
            return ()
        return doubts_of(self.layer, self.facts, request, self._plan, self.microscope.profile)

    def _subject(self) -> Subject | None:
        """Return what to measure the microscope on; None if the form is not valid."""
        layer, facts = self.layer, self.facts
        if layer is None or facts is None:
            return None
        try:
            request = self.request()
            stack = request.apply_to(facts.stack(pixels(layer), layer.name))
        except ZenhanceError:
            # The line of the layer or the plan reports it.
            return None
        return Subject(layer, stack, request)

    def _show_doubts(self) -> None:
        self.doubt_line.say(doubt_sentence(self.microscope.profile))
        self.doubt_line.label.setStyleSheet(f"color: {AMBER};")

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

    def voxel_um(self) -> FloatTriple:
        """Return the voxel size (z, y, x) as typed or told; 1 where it is unknown."""
        z, y, x = (field.value or 1.0 for field in self.source.voxel.values())
        return (z, y, x)

    def facts_now(self) -> LayerFacts:
        """Read the layer again."""
        return read_facts(self.layer)

    def request(self) -> EnhanceRequest:
        """Build the request.

        Raises
        ------
        ZenhanceError
            A field is invalid.
        """
        request = EnhanceRequest(
            **self._method_fields(),
            psf=None if self.psf.isHidden() else self.psf.spec(),
            **self.source.request_fields(),
            **self.options.request_fields(),
            **self.microscope.request_fields(),
        )
        request.parameters()
        return request

    def _method_fields(self) -> dict[str, Any]:
        if self.settings is None:
            raise RecipeError("no method is chosen; choose one")
        return {
            "method": self.method.currentData(),
            "settings": self.settings.settings(),
            "weights": self.weights.weights,
            "learn_minutes": self.learn.minutes,
            "device": self.device.currentData(),
        }

    def show_request(self, request: EnhanceRequest) -> None:
        """Fill in a request.

        Raises
        ------
        ZenhanceError
            Method or PSF is invalid; the form is unchanged.
        """
        index = self.method.findData(request.method)
        if index < 0:
            raise RecipeError(
                f'the settings ask for method "{request.method}", which is not installed; '
                "choose another"
            )
        check_psf(request.psf)
        self.method_is_chosen = True
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
        self.microscope.show_request(request)
        if self.options.kept:
            # A crop decides what is enhanced, so it must be visible.
            self.more.expand(animate=False)
        self._announce()

    # ------------------------------------------------------------------ what is remembered

    def state(self) -> dict[str, Any]:
        """Return what to remember of the form; empty while a field is invalid."""
        try:
            fields = {**self._method_fields(), **self.options.request_fields()}
            fields |= self.microscope.request_fields()
            fields["psf"] = None if self.psf.isHidden() else self.psf.spec()
            source = {} if self.facts is None else self.source.request_fields()
            full = EnhanceRequest(**fields, **source).model_dump(exclude_defaults=True)
        except ZenhanceError:
            return {}
        of_method = {**self._of_method, fields["method"]: fields["settings"]}
        lasting = {key: v for key, v in full.items() if key not in _OF_ONE_IMAGE}
        lasting |= {"method": fields["method"], "of_method": of_method}
        lasting["open"] = [name for name, part in self.parts.items() if part.isExpanded()]
        layer = None if self.layer is None else weakref.ref(self.layer)
        return {"request": full | {"method": fields["method"]}, "layer": layer, "lasting": lasting}

    def show_state(self, state: Mapping[str, Any]) -> None:
        """Show what :meth:`state` returned, or only its lasting part.

        Raises
        ------
        ZenhanceError, ValueError
            What was remembered is invalid.
        """
        lasting = dict(state.get("lasting") or {})
        of_method = dict(lasting.pop("of_method", {}))
        opened = lasting.pop("open", [])
        for name, part in self.parts.items():
            if name in opened:
                part.expand(animate=False)
        fields = dict(state.get("request") or lasting)
        if not fields:
            return
        if "request" not in state and not _has_weights(fields):
            del fields["weights"]
        if "request" not in state and not _has_profile(fields.get("profile")):
            del fields["profile"]
        layer = state["layer"]() if state.get("layer") else None
        if layer is not None:
            self.source.choose(layer)
        if layer is None or self.layer is not layer:
            fields = {k: v for k, v in fields.items() if k not in ("axes", "voxel_size_um", "crop")}
        request = EnhanceRequest(**fields)
        request.parameters()
        self.show_request(request)
        self._of_method = {str(name): dict(settings) for name, settings in of_method.items()}

    # ------------------------------------------------------------------ what is shown

    def show_plan(self, plan: RunPlan) -> None:
        """Say which device a run would use and why, and how many tiles and how much memory."""
        self._plan = plan
        self.device_line.setText(plan.device.reason)
        z, y, x = plan.tiles.core_shape_px
        count = len(plan.tiles.tiles) * plan.volumes
        tiles = f"{count} tiles of {z} × {y} × {x}" if count > 1 else "1 tile"
        first = "" if plan.learn_minutes is None else f"learns {plan.learn_minutes:g} min first, "
        working, result = format_bytes(plan.working_bytes), format_bytes(plan.result_bytes)
        self._plan_text = f"{first}{tiles}, {working} to work in, result {result}"
        self._background_text = ""
        self._write_plan(f"{self._plan_text}; measuring the time…")

    def show_background(self, estimate: float) -> None:
        """Show the background estimated on the layer; a typed one takes its place."""
        self.options.show_background(estimate)
        self._background_text = f"; background about {estimate:.4g}"
        self._write_plan(f"{self._plan_text}{self._background_text}; measuring the time…")

    def show_time(self, seconds: float) -> None:
        """Add the measured time."""
        time = format_seconds(seconds, rough=True)
        device = "" if self._plan is None else f" on {self._plan.device.name.upper()}"
        self._write_plan(f"{self._plan_text}{self._background_text}; about {time}{device}")

    def show_trouble(self, text: str) -> None:
        """Say why there is no plan."""
        self._write_plan(text, wrong=True)

    def _write_plan(self, text: str, wrong: bool = False) -> None:
        self.plan_line.say(text, wrong)

    def _announce(self, *_: Any) -> None:
        self._show_purpose()
        self.changed.emit()

    def _method_changed(self, *_: Any) -> None:
        self._show_method()
        self._announce()

    def _show_method(self) -> None:
        spec = registry.load(self.method.currentData()).spec
        if self.settings is not None:
            self._of_method[self._shown_method] = self.settings.settings()
            places = ((self._settings_place, self.settings), (self._strength_place, self.strength))
            for place, old in places:
                if old is not None:
                    place.removeWidget(old)
                    old.hide()
                    old.deleteLater()
        self._shown_method = spec.name
        self.settings = SettingsForm(spec.parameters, self)
        with contextlib.suppress(TypeError, ValueError):
            # Settings of a method that changed meanwhile keep their defaults.
            self.settings.show_settings(self._of_method.get(spec.name, {}))
        self.settings.changed.connect(self._settings_edited)
        self._wheel_guard.watch(self.settings)
        self._settings_place.addWidget(self.settings)
        self.strength = self.settings.strength
        if self.strength is not None:
            self._wheel_guard.watch(self.strength)
            self._strength_place.addWidget(self.strength)
        self.summary.setText(spec.summary)
        self.method.setToolTip(spec.summary)
        self.weights.show_method(spec.name)
        self._show_default_weights()
        self.learn.show_method(spec.learns)
        self._show_learning()

    def _show_learning(self) -> None:
        """Offer what learning needs: a PSF and, as an option, random weights to start from."""
        learns = self.learn.minutes is not None
        self.weights.offer_random(learns)
        parameters = self._parameters()
        reblurs = parameters.deblurs and self.options.output.currentData() == "denoised"
        competes = self.options.arbitrate.currentData() and can_arbitrate(
            registry.load(self.method.currentData()).spec, parameters
        )
        self.psf.setVisible(learns or parameters.needs_psf or reblurs or competes)

    def _settings_edited(self) -> None:
        self._show_default_weights()
        self._show_learning()
        self._announce()

    def _show_default_weights(self) -> None:
        """Show which weights *automatic* means with the present settings."""
        self.weights.show_default(self._parameters().weights)

    def _parameters(self) -> MethodParameters:
        """Return the method's parameters; the form reports invalid settings and uses defaults."""
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
        self._plan = None
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


def _has_weights(fields: Mapping[str, Any]) -> bool:
    """Tell whether the weights that a request names still exist, if it names any."""
    try:
        return not fields.get("weights") or bool(find_weights(fields["method"], fields["weights"]))
    except CheckpointError:
        return False


def _has_profile(spec: str | None) -> bool:
    """Tell whether the profile that a request names still exists, if it names one."""
    if spec is None or spec in (MEASURE, NO_PROFILE):
        return True
    # The profile of a result's record belongs to one image.
    return not spec.startswith(("{", "[")) and Path(spec).is_file()
