"""Which learnt weights to use, with the card of the chosen ones below; empty and hidden for a method that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QVBoxLayout, QWidget

from zenhance.contract import registry
from zenhance.errors import CheckpointError, sentence
from zenhance.models.catalogue import find_weights, list_weights
from zenhance.models.header import read_card
from zenhance.pipeline.request import NO_WEIGHTS
from zenhance.plugin.card_text import card_html, card_line
from zenhance.plugin.model_store import news
from zenhance.plugin.rows import add_row, narrow, new_form

__all__ = ["WeightsChoice"]

_OTHER = "\x00other"
_RANDOM = "random, to learn from nothing"


class _FreshCombo(QComboBox):
    """Asks for its entries each time it is opened: models come by other ways than this program, too."""

    opening = Signal()

    def showPopup(self) -> None:  # noqa: N802 - Qt's name
        """Open the list."""
        self.opening.emit()
        super().showPopup()


class WeightsChoice(QWidget):
    """A list of models: those that ship, the user's own, and any file."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._method = self._default = ""
        self._random = False
        self.combo = _FreshCombo(self)
        self.card = QLabel(self)
        self.card.setWordWrap(True)
        form = new_form()
        add_row(
            form,
            "weights",
            narrow(self.combo),
            "the learnt model to use; train your own in the Train dock",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(form)
        layout.addWidget(self.card)
        self.combo.opening.connect(self.refresh)
        self.combo.activated.connect(self._activated)
        self.combo.currentIndexChanged.connect(self._chosen)
        news().saved.connect(self._saved)
        self.hide()

    @property
    def weights(self) -> str | None:
        """Name or path of the chosen weights; None leaves it to the method, or says that it has none."""
        if not self._method or registry.load(self._method).spec.learns == "no":
            return None
        chosen = self.combo.currentData()
        return None if chosen is None or chosen == _OTHER else str(chosen)

    def show_method(self, method: str) -> None:
        """Offer the weights of a method."""
        if method != self._method:
            self._method, self._default = method, registry.load(method).spec.defaults.weights
            self.combo.blockSignals(True)
            self.combo.clear()
            self.combo.blockSignals(False)
        learns = registry.load(method).spec.learns != "no"
        self.setVisible(learns)
        if learns:
            self.refresh()

    def show_default(self, name: str) -> None:
        """Say which weights *automatic* means with the method's present settings."""
        if name != self._default:
            self._default = name
            self.combo.setItemData(0, self._automatic(), Qt.ItemDataRole.ToolTipRole)
            self._describe()

    def offer_random(self, offered: bool) -> None:
        """Offer random weights too, which are good only to learn from; where they go, the choice falls back to the method's own."""
        if offered == self._random:
            return
        self._random = offered
        if self._method:
            self.refresh()

    def show_weights(self, weights: str | None) -> None:
        """Choose weights by name or path; those that are not in the list are added to it, so that nothing is changed silently."""
        if weights is not None and self.combo.findData(weights) < 0:
            self._add_file(weights)
        self.combo.setCurrentIndex(
            max(0, self.combo.findData(weights)) if weights is not None else 0
        )

    def refresh(self) -> None:
        """Read the folders again, keeping the choice."""
        chosen = self.weights if self._random or self.weights != NO_WEIGHTS else None
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItem("automatic", None)
        self.combo.setItemData(0, self._automatic(), Qt.ItemDataRole.ToolTipRole)
        for entry in list_weights(self._method):
            self.combo.addItem(
                f"{entry.name} ({'comes with zenhance' if entry.ships else 'yours'})", entry.name
            )
            self.combo.setItemData(
                self.combo.count() - 1, card_html(entry.card), Qt.ItemDataRole.ToolTipRole
            )
        if self._random:
            self.combo.addItem(_RANDOM, NO_WEIGHTS)
        self.combo.addItem("another file…", _OTHER)
        if chosen is not None and self.combo.findData(chosen) < 0:
            self._add_file(chosen)
        self.combo.setCurrentIndex(max(0, self.combo.findData(chosen)) if chosen is not None else 0)
        self.combo.blockSignals(False)
        self._describe()

    def _automatic(self) -> str:
        """Say which model the method takes by itself."""
        try:
            return card_html(read_card(find_weights(self._method, None, self._default)))
        except CheckpointError as error:
            return sentence(error)

    def _add_file(self, weights: str) -> None:
        try:
            tip = card_html(read_card(find_weights(self._method, weights)))
        except CheckpointError as error:
            tip = sentence(error)
        place = max(1, self.combo.findData(_OTHER))
        self.combo.insertItem(place, Path(weights).name, weights)
        self.combo.setItemData(place, tip, Qt.ItemDataRole.ToolTipRole)

    def _activated(self, index: int) -> None:
        if self.combo.itemData(index) != _OTHER:
            return
        chosen, _ = QFileDialog.getOpenFileName(self, "Weights", "", "models (*.safetensors)")
        self.show_weights(chosen or None)

    def _chosen(self, *_: Any) -> None:
        self._describe()
        self.changed.emit()

    def _describe(self) -> None:
        """Write the chosen model's card below the list, or why it cannot be used."""
        tip = str(self.combo.currentData(Qt.ItemDataRole.ToolTipRole) or "")
        if self.weights == NO_WEIGHTS:
            self._write_card("knows nothing yet; it learns from this layer alone", tip, wrong=False)
            return
        try:
            card = read_card(find_weights(self._method, self.weights, self._default))
            foreign = card.method != self._method
            text = (
                f"this model belongs to the method {card.method}, not to {self._method}"
                if foreign
                else card_line(card)
            )
            text = text if foreign or not card.description else f"{card.description}\n{text}"
        except CheckpointError as error:
            foreign, text = True, sentence(error)
        self._write_card(text, tip, wrong=foreign)

    def _write_card(self, text: str, tip: str, *, wrong: bool) -> None:
        self.card.setTextFormat(Qt.TextFormat.PlainText)
        self.card.setStyleSheet(f"color: {'#d9534f' if wrong else '#888888'};")
        self.card.setText(text)
        self.card.setToolTip(tip)

    def _saved(self, _name: str) -> None:
        if isalive(self) and self._method:
            self.show_method(self._method)
