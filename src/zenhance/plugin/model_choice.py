"""Which trained model to use, whether to learn from the layer first, and the card of the model."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from zenhance.contract import registry
from zenhance.errors import CheckpointError
from zenhance.models.catalogue import find_weights, list_weights
from zenhance.models.header import Card, read_card
from zenhance.pipeline.request import NO_WEIGHTS
from zenhance.plugin.dock_words import dock_sentence
from zenhance.plugin.fields import add_row, narrow, new_form
from zenhance.plugin.model_store import model_signals
from zenhance.wording import format_seconds

__all__ = ["DEFAULT_MINUTES", "LearnChoice", "WeightsChoice", "card_html", "card_line"]


def _quality(card: Card) -> str:
    figures = card.metrics
    if "psnr_db" not in figures:
        return f"validation loss {figures['loss']:.3g}" if "loss" in figures else ""
    against = " against its own estimate" if card.is_self_judged else ""
    text = f"validation PSNR{against} {figures['psnr_db']:.1f} dB"
    text += (
        f" (untreated {figures['psnr_identity_db']:.1f} dB)"
        if "psnr_identity_db" in figures
        else ""
    )
    return text + (f", SSIM {figures['ssim']:.3f}" if "ssim" in figures else "")


def _voxel(card: Card) -> str:
    return (
        ""
        if card.voxel_size_um is None
        else f"voxels {' × '.join(f'{v:.3g}' for v in card.voxel_size_um)} µm (z y x)"
    )


def _data(card: Card) -> str:
    names = {
        role: [str(entry.get("name")) for entry in card.data if entry.get("role") == role]
        for role in ("train", "validation")
    }
    if not names["train"]:
        return ""
    count = len(names["train"])
    some = ", ".join(dict.fromkeys(names["train"][:3])) + (" …" if count > 3 else "")
    text = f"trained on {count} volume{'s' if count > 1 else ''} ({some})"
    return text + (
        "; validated on the same" if set(names["validation"]) <= set(names["train"]) else ""
    )


def card_line(card: Card) -> str:
    """Return the card in one line: quality and voxel size."""
    return "; ".join(part for part in (_quality(card), _voxel(card)) if part)


def card_html(card: Card) -> str:
    """Return the card as a few lines of rich text.

    Everything is escaped, because models can come from anyone.
    """
    device = card.device or "an unknown device"
    seconds = format_seconds(card.seconds, rough=True)
    made = f"{card.steps} steps, {seconds} on {device}, {card.parameters:,} weights"
    lines = [
        card.description,
        _quality(card),
        _voxel(card),
        _data(card),
        made,
        f"{card.created[:10]}, zenhance {card.version}",
    ]
    return "<br>".join(
        [
            f"<b>{escape(card.name)}</b> ({escape(card.method)})",
            *(escape(line) for line in lines if line),
        ]
    )


_OTHER = "\x00other"
_RANDOM = "random, to learn from scratch"


class _FreshCombo(QComboBox):
    """Updates its entries each time it opens, because other programs can add models too."""

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
            "the trained model to use; train your own in the Train dock",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(form)
        layout.addWidget(self.card)
        self.combo.opening.connect(self.refresh)
        self.combo.activated.connect(self._activated)
        self.combo.currentIndexChanged.connect(self._chosen)
        model_signals().saved.connect(self._saved)
        self.hide()

    @property
    def weights(self) -> str | None:
        """Name or path of the chosen weights; None for *automatic* or a method without any."""
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
        """Show which weights *automatic* means with the method's present settings."""
        if name != self._default:
            self._default = name
            self.combo.setItemData(0, self._automatic(), Qt.ItemDataRole.ToolTipRole)
            self._describe()

    def offer_random(self, offered: bool) -> None:
        """Offer random weights too, which are useful only to learn from."""
        if offered == self._random:
            return
        self._random = offered
        if self._method:
            self.refresh()

    def show_weights(self, weights: str | None) -> None:
        """Choose weights by name or path; unlisted ones are added to the list."""
        if weights is not None and self.combo.findData(weights) < 0:
            self._add_file(weights)
        self.combo.setCurrentIndex(
            max(0, self.combo.findData(weights)) if weights is not None else 0
        )

    def refresh(self) -> None:
        """Read the folders again and keep the choice."""
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
        """Return the card of the model that *automatic* means."""
        try:
            return card_html(read_card(find_weights(self._method, None, self._default)))
        except CheckpointError as error:
            return dock_sentence(error)

    def _add_file(self, weights: str) -> None:
        try:
            tip = card_html(read_card(find_weights(self._method, weights)))
        except CheckpointError as error:
            tip = dock_sentence(error)
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
        """Show the chosen model's card below the list, or why the model cannot be used."""
        tip = str(self.combo.currentData(Qt.ItemDataRole.ToolTipRole) or "")
        if self.weights == NO_WEIGHTS:
            self._write_card(
                "random weights; the model learns from this layer alone", tip, wrong=False
            )
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
            foreign, text = True, dock_sentence(error)
        self._write_card(text, tip, wrong=foreign)

    def _write_card(self, text: str, tip: str, *, wrong: bool) -> None:
        self.card.setTextFormat(Qt.TextFormat.PlainText)
        self.card.setStyleSheet(f"color: {'#d9534f' if wrong else '#888888'};")
        self.card.setText(text)
        self.card.setToolTip(tip)

    def _saved(self, _name: str) -> None:
        if isalive(self) and self._method:
            self.show_method(self._method)


DEFAULT_MINUTES = 10.0
_MIN_MINUTES, _MAX_MINUTES = 0.01, 24 * 60.0
_TIP = (
    "learn from this layer for this time, then enhance it with the trained model; needs the PSF, "
    "but no sharp stack. "
    "The model is kept among your weights"
)


class LearnChoice(QWidget):
    """A box to tick and the minutes beside it; hidden for methods that cannot learn so."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._offered = False
        self._exact: float | None = None
        self.tick = QCheckBox(self)
        self.minutes_box = QDoubleSpinBox(self)
        self.minutes_box.setDecimals(2)
        self.minutes_box.setRange(_MIN_MINUTES, _MAX_MINUTES)
        self.minutes_box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.minutes_box.setSuffix(" min")
        self.minutes_box.setValue(DEFAULT_MINUTES)
        self.minutes_box.setEnabled(False)
        fields = QWidget(self)
        row = QHBoxLayout(fields)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.tick)
        row.addWidget(self.minutes_box, 1)
        add_row(new_form(self), "learn first", fields, _TIP)
        self.tick.toggled.connect(self._toggled)
        self.minutes_box.valueChanged.connect(self._edited)
        self.hide()

    @property
    def minutes(self) -> float | None:
        """How long to learn; None for no learning."""
        if not (self._offered and self.tick.isChecked()):
            return None
        return self.minutes_box.value() if self._exact is None else self._exact

    def show_method(self, learns: str) -> None:
        """Offer learning for a method that learns from the layer itself."""
        self._offered = learns == "own_stack"
        self.setVisible(self._offered)

    def show_minutes(self, minutes: float | None) -> None:
        """Fill in how long a request learns; None unticks the box."""
        if minutes is not None:
            self.minutes_box.setValue(minutes)
            # The box shows two digits, but the request is to stay as it was written.
            self._exact = minutes
        self.tick.setChecked(minutes is not None)

    def _toggled(self, ticked: bool) -> None:
        self.minutes_box.setEnabled(ticked)
        self.changed.emit()

    def _edited(self, *_: object) -> None:
        self._exact = None
        self.changed.emit()
