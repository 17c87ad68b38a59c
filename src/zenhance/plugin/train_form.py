"""The settings of the Train dock: method, recipe, data, time, device, and the recipe's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, create_model
from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from zenhance.contract import registry
from zenhance.errors import MethodError, ZenhanceError
from zenhance.models.catalogue import find_weights, list_weights
from zenhance.models.header import read_card
from zenhance.plugin.dock_base import device_choice, grey_label
from zenhance.plugin.dock_words import dock_sentence
from zenhance.plugin.fields import WheelGuard, add_row, narrow, new_form
from zenhance.plugin.form import SettingsForm
from zenhance.plugin.model_store import model_signals
from zenhance.plugin.train_data import TrainData
from zenhance.training.recipe import Recipe, load_recipe, recipe_names

__all__ = ["TrainForm", "TrainNumbers", "learning_methods"]

# Fields of a recipe that the dock shows elsewhere, or derives from other choices.
_ELSEWHERE = ("method", "name", "description", "architecture", "data", "minutes", "start")
# Frequent validations move the preview; small ones cost only a few per cent of the time.
WATCHED_STEPS, WATCHED_PATCHES = 100, 32
DEFAULT_MINUTES = 10.0

# The numbers of a recipe as a model of their own, with the fields that Recipe declares.
_FIELDS: dict[str, Any] = {
    name: (info.annotation, info)
    for name, info in Recipe.model_fields.items()
    if name not in _ELSEWHERE
}
TrainNumbers: type[BaseModel] = create_model("TrainNumbers", **_FIELDS)


def learning_methods() -> list[str]:
    """Return the names of the methods that can be trained."""
    return [name for name in registry.names() if registry.load(name).spec.learns != "no"]


class TrainForm(QWidget):
    """Every field that a recipe consists of.

    Parameters
    ----------
    viewer : napari.Viewer
        The form offers its layers.
    """

    method_changed = Signal(str)
    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._wheel_guard = WheelGuard(self)
        self.method = QComboBox(self)
        for name in learning_methods():
            self.method.addItem(registry.load(name).spec.title, name)
        self.summary = grey_label(self)
        self.start = QComboBox(self)
        self.start_line = grey_label(self)
        self.initial = QComboBox(self)
        self.data = TrainData(viewer, self)
        self.minutes = QDoubleSpinBox(self)
        self.minutes.setRange(0.1, 100_000.0)
        self.minutes.setDecimals(1)
        self.minutes.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.minutes.setSuffix(" min")
        self.minutes.setValue(DEFAULT_MINUTES)
        self.device = device_choice(self)
        self.numbers = SettingsForm(TrainNumbers, self)
        self._lay_out()
        self.method.currentIndexChanged.connect(self._show_method)
        self.start.currentIndexChanged.connect(self._show_start)
        self.initial.currentIndexChanged.connect(self._show_shape)
        model_signals().saved.connect(self._offer_initial)
        self._wheel_guard.watch(self)
        self._show_method()
        for signal in (
            self.method.currentIndexChanged,
            self.start.currentIndexChanged,
            self.initial.currentIndexChanged,
            self.minutes.valueChanged,
            self.device.currentIndexChanged,
            self.data.changed,
            self.numbers.changed,
        ):
            signal.connect(self._announce)

    def _announce(self, *_: Any) -> None:
        self.changed.emit()

    # ------------------------------------------------------------------ what is remembered

    def state(self) -> dict[str, Any]:
        """Return what to remember of the form."""
        lasting = {
            "method": self.method.currentData(),
            "minutes": self.minutes.value(),
            "device": self.device.currentData(),
        }
        of_session = {
            "start": self.start.currentData(),
            "initial": self.initial.currentData(),
            "numbers": self.numbers.settings(),
            "kind": self.data.kind.currentData(),
            "folder": self.data.folder.line.text(),
        }
        return {"lasting": lasting, **of_session}

    def show_state(self, state: Mapping[str, Any]) -> None:
        """Show what :meth:`state` returned, or only its lasting part; unknown choices stay."""
        lasting = state.get("lasting") or {}
        _choose(self.method, lasting.get("method"))
        _choose(self.device, lasting.get("device"))
        self.minutes.setValue(float(lasting.get("minutes") or DEFAULT_MINUTES))
        if "numbers" in state:
            _choose(self.start, state["start"])
            _choose(self.initial, state["initial"])
            self.numbers.show_settings(state["numbers"])
            _choose(self.data.kind, state["kind"])
            self.data.folder.line.setText(state["folder"])
            self.data.folder.look()

    # ------------------------------------------------------------------ the form

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 4, 0)
        layout.setSpacing(5)
        first = new_form()
        add_row(first, "method", narrow(self.method))
        layout.addLayout(first)
        layout.addWidget(self.summary)
        second = new_form()
        add_row(
            second,
            "start from",
            narrow(self.start),
            "the recipe that sets the network's shape and all numbers below",
        )
        add_row(
            second,
            "weights",
            narrow(self.initial),
            "random ones, or a model that continues to learn with the shape of its network",
        )
        layout.addLayout(second)
        layout.addWidget(self.start_line)
        layout.addWidget(self.data)
        third = new_form()
        add_row(
            third,
            "time",
            self.minutes,
            "the training ends after this time or its last step; preparing the data comes first",
        )
        add_row(
            third,
            "device",
            narrow(self.device),
            "where to compute; auto uses a suitable GPU if there is one",
        )
        layout.addLayout(third)
        self.advanced = QCollapsible(
            "Advanced: patch, batch, steps …", self, expandedIcon="▾", collapsedIcon="▸"
        )
        self.advanced.setDuration(0)
        self.advanced.addWidget(self.numbers)
        layout.addWidget(self.advanced)
        layout.addStretch(1)

    def _show_method(self, *_: Any) -> None:
        name = self.method.currentData()
        if name is None:
            self.summary.setText("no installed method can be trained")
            return
        spec = registry.load(name).spec
        self.summary.setText(spec.summary)
        recipes = [recipe for recipe in recipe_names() if load_recipe(recipe).method == name]
        recipes.sort(key=lambda recipe: recipe != spec.defaults.weights)
        self.start.blockSignals(True)
        self.start.clear()
        for recipe in recipes:
            self.start.addItem(recipe, recipe)
        if not recipes:
            self.start.addItem("the method's own defaults", None)
        self.start.blockSignals(False)
        self._offer_initial()
        self._show_start()
        self.method_changed.emit(name)

    def _offer_initial(self, *_: Any) -> None:
        """Offer the models of the method to start from, and keep the choice."""
        if not isalive(self):
            return
        chosen = self.initial.currentData()
        self.initial.blockSignals(True)
        self.initial.clear()
        self.initial.addItem("random", None)
        for entry in list_weights(self.method.currentData()):
            self.initial.addItem(
                f"{entry.name} ({'comes with zenhance' if entry.ships else 'yours'})", entry.name
            )
        self.initial.setCurrentIndex(0 if chosen is None else max(0, self.initial.findData(chosen)))
        self.initial.blockSignals(False)

    def _architecture(self) -> Mapping[str, Any]:
        """Return the network's shape, from the model to start from or else from the recipe."""
        model, base = self.initial.currentData(), self.base()
        if model is not None:
            return read_card(find_weights(self.method.currentData(), model)).architecture
        return {} if base is None else base.architecture

    def base(self) -> Recipe | None:
        """Return the recipe to start from, or None if the method has none."""
        chosen = self.start.currentData()
        return None if chosen is None else load_recipe(chosen)

    def _show_start(self, *_: Any) -> None:
        base = self.base()
        self._show_shape()
        self.start.setToolTip("" if base is None else f"{base.name}: {base.description}")
        self.numbers.show_settings(
            _watched(
                {
                    name: getattr(base, name, info.default)
                    for name, info in TrainNumbers.model_fields.items()
                }
            )
        )
        spec = registry.load(self.method.currentData()).spec
        self.data.show_method(spec.name, spec.learns, base)

    def _show_shape(self, *_: Any) -> None:
        try:
            shape = self._architecture()
            text = (
                "network: " + ", ".join(f"{key} {_plain(value)}" for key, value in shape.items())
                if shape
                else ""
            )
        except ZenhanceError as error:
            text = dock_sentence(error)
        self.start_line.setText(text)
        self.start_line.setVisible(bool(text))

    def recipe(self, name: str) -> Recipe:
        """Build the recipe.

        Parameters
        ----------
        name : str
            Of the model.

        Raises
        ------
        RecipeError
            A field is invalid.
        """
        method = self.method.currentData()
        if method is None:
            raise MethodError("no installed method can be trained; install one that learns")
        base = self.base()
        return Recipe(
            method=method,
            name=name,
            description=self._description(base),
            architecture=self._architecture(),
            start=self.initial.currentData() or "",
            data=self.data.data(base),
            minutes=self.minutes.value(),
            **self.numbers.settings(),
        )

    def _description(self, base: Recipe | None) -> str:
        kind = self.data.kind.currentData()
        if kind == "simulated":
            return "" if base is None else base.description
        source = (
            "layers of a viewer"
            if kind == "layers"
            else f"files of {self.data.folder.line.text().strip()}"
        )
        return f"Trained in napari on {source}."


def _watched(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's numbers with frequent, small validations and the same patience in steps."""
    every = min(numbers["validate_every"], WATCHED_STEPS)
    patience = -(-numbers["patience"] * numbers["validate_every"] // every)
    patches = min(numbers["validation_patches"], WATCHED_PATCHES)
    return numbers | {"validate_every": every, "patience": patience, "validation_patches": patches}


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _choose(combo: QComboBox, data: Any) -> None:
    index = combo.findData(data)
    if index >= 0:
        combo.setCurrentIndex(index)
