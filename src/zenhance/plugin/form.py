"""The form of a method, built by magicgui from the pydantic model of its settings.

Label, tooltip, unit, bounds and choices come from the model. A field marked ``advanced`` is in a
part that opens on demand. This module does not depend on any method.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FloatSpinBox,
    LineEdit,
    SpinBox,
    create_widget,
)
from magicgui.widgets.bases import ValueWidget
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget
from superqt import QCollapsible

from zenhance.contract.settings import current_names
from zenhance.plugin.fields import add_row, narrow, new_form, show_row

__all__ = ["OptionalNumber", "SettingsForm", "bounds_of", "widget_for"]

_LARGEST_INT = 2**31 - 1
_LARGEST_FLOAT = 1e9


def bounds_of(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the smallest and largest value that a field allows; None if there is no limit."""
    low: float | None = None
    high: float | None = None
    for limit in info.metadata:
        for name in ("ge", "gt"):
            low = getattr(limit, name, low)
        for name in ("le", "lt"):
            high = getattr(limit, name, high)
    return low, high


def _extra(info: FieldInfo) -> Mapping[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, Mapping) else {}


def _inner_type(annotation: Any) -> tuple[Any, bool]:
    """Remove ``None`` from a union, and return whether it was in it."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [a for a in get_args(annotation) if a is not type(None)]
        if len(rest) == 1 and len(rest) < len(get_args(annotation)):
            return rest[0], True
    return annotation, False


def _step(default: Any, low: float | None) -> float:
    """Return a tenth of the number's magnitude, so that small and large numbers step alike."""
    reference = default if isinstance(default, int | float) and default else low or 0.01
    return float(10.0 ** (math.floor(math.log10(abs(reference))) - 1))


def _decimals(value: float) -> int:
    text = f"{value:.10f}".rstrip("0")
    return len(text.partition(".")[2])


def _start(info: FieldInfo) -> float:
    """Return the number to show first for a field whose default is *automatic*.

    It is the field's ``start`` in ``json_schema_extra``, or else a number well inside the bounds:
    between positive bounds their geometric mean, to one digit.
    """
    low, high = bounds_of(info)
    told = _extra(info).get("start")
    if told is not None:
        return float(told)
    if low is None or low < 0.0:
        return min(0.0, high) if high is not None else 0.0
    if high is None:
        return low or 1.0
    return float(f"{math.sqrt(low * high):.0e}") if low > 0.0 else high / 10


class OptionalNumber(Container):
    """A box *automatic*, and a number beside it that applies while the box is off."""

    def __init__(self, number: ValueWidget, value: float | None, **keywords: Any) -> None:
        self.automatic = CheckBox(value=value is None, text="automatic", name="automatic")
        self.number = number
        super().__init__(
            widgets=[self.automatic, number], layout="horizontal", labels=False, **keywords
        )
        self.margins = (0, 0, 0, 0)
        self.automatic.changed.connect(self._switch)
        self._switch(value is None)

    def _switch(self, automatic: bool) -> None:
        self.number.enabled = not automatic

    @property
    def value(self) -> Any:
        """The number, or None for *automatic*."""
        return None if self.automatic.value else self.number.value

    @value.setter
    def value(self, value: Any) -> None:
        self.automatic.value = value is None
        if value is not None:
            _set_exactly(self.number, value)


def _number(kind: type, info: FieldInfo, value: Any, keywords: dict[str, Any]) -> ValueWidget:
    low, high = bounds_of(info)
    value = _start(info) if value is None else value
    if kind is int:
        least = -_LARGEST_INT if low is None else int(low)
        most = _LARGEST_INT if high is None else int(min(high, _LARGEST_INT))
        return SpinBox(value=min(max(least, round(value)), most), min=least, max=most, **keywords)
    lowest = -_LARGEST_FLOAT if low is None else float(low)
    highest = _LARGEST_FLOAT if high is None else float(high)
    step = float(_extra(info).get("step", _step(value, low)))
    spin = FloatSpinBox(
        min=lowest, max=highest, step=step, value=min(max(lowest, 0.0), highest), **keywords
    )
    _set_exactly(spin, float(value))
    return spin


def _set_exactly(widget: Any, value: Any) -> None:
    """Set a value without rounding it to the displayed digits."""
    if isinstance(widget, FloatSpinBox):
        native = widget.native
        native.setDecimals(max(native.decimals(), _decimals(float(value))))
    widget.value = value


# Units that names carry as suffixes (``background_um``); the label shows the unit once.
_SUFFIXES = {"µm": "um", "px": "px", "s": "s", "photons": "photons", "nm": "nm", "min": "minutes"}


def _words(name: str, unit: str | None) -> str:
    """Return a field's name in words, without the suffix that repeats its unit."""
    suffix = f"_{_SUFFIXES.get(unit or '', unit)}"
    return name.removesuffix(suffix).replace("_", " ")


def widget_for(name: str, info: FieldInfo) -> Any:
    """Make the magicgui widget of one field.

    Parameters
    ----------
    name : str
        Of the field.
    info : FieldInfo
        Annotation, default, bounds and description; ``unit`` and ``title`` in its
        ``json_schema_extra``.
    """
    kind, optional = _inner_type(info.annotation)
    unit = _extra(info).get("unit")
    label = str(info.title or _words(name, unit))
    keywords: dict[str, Any] = {
        "name": name,
        "label": f"{label} [{unit}]" if unit and unit != label else label,
        "tooltip": str(info.description or ""),
    }
    default = info.get_default(call_default_factory=True)
    if kind in (int, float) and optional:
        bare = {"name": "number", "tooltip": keywords["tooltip"]}
        return OptionalNumber(_number(kind, info, default, bare), default, **keywords)
    if kind in (int, float):
        return _number(kind, info, default, keywords)
    if kind is bool:
        return CheckBox(value=bool(default), text="", **keywords)
    if get_origin(kind) is Literal:
        choices = [(str(c).replace("_", " "), c) for c in get_args(kind)]
        return ComboBox(choices=choices, value=default, nullable=optional, **keywords)
    if kind is str:
        return LineEdit(value=default or "", nullable=optional, **keywords)
    return create_widget(
        annotation=kind,
        value=default,
        **{k: v for k, v in keywords.items() if k != "tooltip"},
        options={"tooltip": keywords["tooltip"]},
    )


class SettingsForm(QWidget):
    """The settings of one method as a form.

    Parameters
    ----------
    model : type of pydantic.BaseModel
        Of the settings. A field with ``strength`` in its ``json_schema_extra`` stands apart, in
        :attr:`strength`; one with ``applies`` is shown while other fields have the values named.
    """

    changed = Signal()

    def __init__(self, model: type[BaseModel], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = model
        self.fields: dict[str, Any] = {
            name: widget_for(name, info) for name, info in model.model_fields.items()
        }
        plain = [
            name for name, info in model.model_fields.items() if not _extra(info).get("advanced")
        ]
        advanced = [name for name in self.fields if name not in plain]
        self._forms: list[QFormLayout] = []
        strong = [name for name in plain if _extra(model.model_fields[name]).get("strength")]
        self.strength = self._part(strong) if strong else None
        plain = [name for name in plain if name not in strong]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self._part(plain))
        self.advanced: QCollapsible | None = None
        if advanced:
            self.advanced = QCollapsible(
                "Advanced settings", self, expandedIcon="▾", collapsedIcon="▸"
            )
            self.advanced.setDuration(0)
            self.advanced.toggleButton().setToolTip("settings that seldom change")
            self.advanced.addWidget(self._part(advanced))
            layout.addWidget(self.advanced)
        for widget in self.fields.values():
            widget.changed.connect(self._announce)
        self._show_applicable()

    def _part(self, names: list[str]) -> QWidget:
        part = QWidget(self)
        form = new_form(part)
        self._forms.append(form)
        for name in names:
            widget = self.fields[name]
            native = widget.native
            if isinstance(native, QComboBox):
                narrow(native)
            label = _extra(self.model.model_fields[name]).get("strength") or widget.label
            add_row(form, str(label), native, widget.tooltip or "")
        return part

    def _show_applicable(self) -> None:
        """Show the settings that the others leave a meaning, such as no Wiener noise without it."""
        for name, info in self.model.model_fields.items():
            wanted = _extra(info).get("applies", {})
            applies = all(self.fields[other].value in values for other, values in wanted.items())
            for form in self._forms:
                if form.labelForField(self.fields[name].native) is not None:
                    show_row(form, self.fields[name].native, applies)
        if self.advanced is not None:
            natives = (
                self.fields[name].native
                for name, info in self.model.model_fields.items()
                if _extra(info).get("advanced")
            )
            self.advanced.setVisible(any(not native.isHidden() for native in natives))

    def _announce(self, *_: Any) -> None:
        self._show_applicable()
        self.changed.emit()

    def settings(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults."""
        found = {}
        for name, widget in self.fields.items():
            value = widget.value
            if (
                isinstance(value, list)
                and get_origin(_inner_type(self.model.model_fields[name].annotation)[0]) is tuple
            ):
                value = tuple(value)
            if value != self.model.model_fields[name].get_default(call_default_factory=True):
                found[name] = value
        return found

    def show_settings(self, settings: Mapping[str, Any]) -> None:
        """Fill the form; a setting that is not named returns to its default."""
        settings = current_names(self.model, settings)
        for name, widget in self.fields.items():
            default = self.model.model_fields[name].get_default(call_default_factory=True)
            _set_exactly(widget, settings.get(name, default))
