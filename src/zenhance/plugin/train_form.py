"""The part of the Train dock that is filled in: method, recipe to start from, data, time, device, and the recipe's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, create_model
from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from zenhance.contract import registry
from zenhance.errors import MethodError, ZenhanceError, sentence
from zenhance.models.catalogue import find_weights, list_weights
from zenhance.models.header import read_card
from zenhance.plugin.form import SettingsForm
from zenhance.plugin.model_store import news
from zenhance.plugin.rows import WheelGuard, add_row, narrow, new_form
from zenhance.plugin.train_data import TrainData
from zenhance.training.recipe import Recipe, load_recipe, recipe_names

__all__ = ["TrainForm", "TrainNumbers", "learning_methods"]

# Fields of a recipe that have a place of their own in the dock, or follow from what is chosen there.
_ELSEWHERE = ("method", "name", "description", "architecture", "data", "minutes", "start")
# In the dock one watches: a validation this often moves the preview, and this small it costs a few per cent of the time and is over
# soon after the window is closed.
WATCHED_STEPS, WATCHED_PATCHES = 100, 32
DEFAULT_MINUTES = 10.0
_DEVICES = (("auto", "auto"), ("CPU", "cpu"), ("CUDA GPU", "cuda"), ("Apple GPU (MPS)", "mps"))

# The numbers of a recipe as a settings model of their own, field by field as :class:`~zenhance.training.recipe.Recipe` declares them.
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
    """Everything that makes up a recipe.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are offered.
    """

    method_changed = Signal(str)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._wheel_guard = WheelGuard(self)
        self.method = QComboBox(self)
        for name in learning_methods():
            self.method.addItem(registry.load(name).spec.title, name)
        self.summary = _grey_label(self)
        self.start = QComboBox(self)
        self.start_line = _grey_label(self)
        self.initial = QComboBox(self)
        self.data = TrainData(viewer, self)
        self.minutes = QDoubleSpinBox(self)
        self.minutes.setRange(0.1, 100_000.0)
        self.minutes.setDecimals(1)
        self.minutes.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.minutes.setSuffix(" min")
        self.minutes.setValue(DEFAULT_MINUTES)
        self.device = QComboBox(self)
        for title, name in _DEVICES:
            self.device.addItem(title, name)
        self.numbers = SettingsForm(TrainNumbers, self)
        self._lay_out()
        self.method.currentIndexChanged.connect(self._show_method)
        self.start.currentIndexChanged.connect(self._show_start)
        self.initial.currentIndexChanged.connect(self._show_shape)
        news().saved.connect(self._offer_initial)
        self._wheel_guard.watch(self)
        self._show_method()

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
            "random ones, or a model that goes on learning; its network keeps its shape",
        )
        layout.addLayout(second)
        layout.addWidget(self.start_line)
        layout.addWidget(self.data)
        third = new_form()
        add_row(
            third,
            "time",
            self.minutes,
            "the training ends then, or when its steps are done; preparing the data comes before it",
        )
        add_row(
            third,
            "device",
            narrow(self.device),
            "where to compute; auto takes a GPU where there is one that can",
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
        """Offer the models of the method to begin from, keeping the choice."""
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
        """Return the network's shape: of the model to begin from, else of the recipe.

        Raises
        ------
        CheckpointError
            The model is there no more.
        """
        model, base = self.initial.currentData(), self.base()
        if model is not None:
            return read_card(find_weights(self.method.currentData(), model)).architecture
        return {} if base is None else base.architecture

    def base(self) -> Recipe | None:
        """Return the recipe to start from, or None where the method has none."""
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
            text = sentence(error)
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
            A field cannot be used.
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
    """Return a recipe's numbers with more frequent, smaller validations; these must not end the training earlier."""
    every = min(numbers["validate_every"], WATCHED_STEPS)
    patience = -(-numbers["patience"] * numbers["validate_every"] // every)
    patches = min(numbers["validation_patches"], WATCHED_PATCHES)
    return numbers | {"validate_every": every, "patience": patience, "validation_patches": patches}


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _grey_label(parent: QWidget) -> QLabel:
    label = QLabel(parent)
    label.setWordWrap(True)
    label.setStyleSheet("color: #888888;")
    return label
