"""Options of a run that seldom change: channel, pixel type, background, statistics, seed."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

from zenhance.pipeline import EnhanceRequest
from zenhance.plugin.fields import NumberField, add_row, narrow, new_form, show_row

__all__ = ["RunOptions"]

# Fields without a widget: they come from a settings file, are listed, and can be dropped.
_FROM_FILE = ("crop", "tile_px")
_MAX_SEED = 2**31 - 1


class RunOptions(QWidget):
    """The part of a request that is neither layer, method, PSF nor device."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._kept: dict[str, Any] = {}
        self._seed_beyond: int | None = None
        self.channel = QComboBox(self)
        self.output = QComboBox(self)
        self.output.addItem("sharp", "sharp")
        self.output.addItem("denoised only", "denoised")
        self.arbitrate = QComboBox(self)
        self.arbitrate.addItem("where better than deconvolution", True)
        self.arbitrate.addItem("everywhere", False)
        self.dtype = QComboBox(self)
        self.dtype.addItem("float32, same intensity units", "float32")
        self.dtype.addItem("as the input, rounded and clipped", "input")
        self.statistics = QComboBox(self)
        self.statistics.addItem("of each volume", "per_volume")
        self.statistics.addItem("one for all time points", "shared")
        self.background = NumberField("estimated", self)
        self.repair = QComboBox(self)
        self.repair.addItem("repaired from neighbours", True)
        self.repair.addItem("kept", False)
        self.seed = QSpinBox(self)
        self.seed.setRange(0, _MAX_SEED)
        self.from_file = QLabel(self)
        self.from_file.setWordWrap(True)
        self.drop = QPushButton("drop these", self)
        self.drop.setToolTip("enhance the whole layer, with tiles as planned")
        self._lay_out()
        for combo in (
            self.channel,
            self.output,
            self.arbitrate,
            self.dtype,
            self.statistics,
            self.repair,
        ):
            narrow(combo).currentIndexChanged.connect(self._changed)
        self.background.edited.connect(self.changed)
        self.seed.valueChanged.connect(self._seed_edited)
        self.drop.clicked.connect(self._drop)
        self.show_background(None)
        self.show_channels(0)
        self._show_kept()

    def _lay_out(self) -> None:
        self._form = form = new_form(self)
        add_row(form, "channel", self.channel, "which channel to enhance")
        add_row(
            form,
            "result",
            self.output,
            "sharp: the method's estimate; denoised only: that estimate blurred by the PSF again, "
            "without noise and at the resolution of the microscope",
        )
        add_row(
            form,
            "network",
            self.arbitrate,
            "where a trained method is used: only where it predicts held-out photons better than "
            "deconvolution, or everywhere",
        )
        add_row(
            form,
            "pixel type",
            self.dtype,
            "pixel type of the result; rounding and clipping are counted and reported",
        )
        add_row(
            form,
            "background",
            self.background,
            "intensity where there is no specimen (camera offset); empty: estimated",
        )
        add_row(
            form,
            "statistics",
            self.statistics,
            "intensity statistics of each time point, or of all together",
        )
        add_row(
            form, "hot pixels", self.repair, "hot and dead pixels: repaired before a method runs"
        )
        add_row(
            form, "seed", self.seed, "seed of every random draw; only stochastic methods use it"
        )
        form.addRow(self.from_file)
        form.addRow(self.drop)

    def add_buttons(self, *buttons: QPushButton) -> None:
        """Add a row of buttons below the options."""
        row = QHBoxLayout()
        for button in buttons:
            row.addWidget(button)
        self._form.addRow(row)

    def _changed(self, *_: Any) -> None:
        self.changed.emit()

    def _seed_edited(self, *_: Any) -> None:
        self._seed_beyond = None
        self.changed.emit()

    def show_channels(self, count: int, names: tuple[str, ...] = ()) -> None:
        """Offer the channels of the layer; a layer without channels offers no choice."""
        chosen = self.channel.currentData()
        self.channel.blockSignals(True)
        self.channel.clear()
        self.channel.addItem("all", None)
        for index in range(count):
            self.channel.addItem(names[index] if index < len(names) else f"{index}", index)
        self.channel.setCurrentIndex(
            max(0, self.channel.findData(chosen)) if chosen is not None else 0
        )
        self.channel.blockSignals(False)
        show_row(self._form, self.channel, count > 1)

    def request_fields(self) -> dict[str, Any]:
        """Return the fields of the request that these options decide."""
        return {
            "channel": self.channel.currentData(),
            "output": self.output.currentData(),
            "arbitrate": self.arbitrate.currentData(),
            "dtype": self.dtype.currentData(),
            "statistics": self.statistics.currentData(),
            "background": self.background.typed,
            "repair_outliers": self.repair.currentData(),
            "seed": self.seed.value() if self._seed_beyond is None else self._seed_beyond,
            **self._kept,
        }

    def show_request(self, request: EnhanceRequest) -> None:
        """Fill in the options of a request."""
        self.channel.setCurrentIndex(
            0 if request.channel is None else max(0, self.channel.findData(request.channel))
        )
        self.output.setCurrentIndex(self.output.findData(request.output))
        self.arbitrate.setCurrentIndex(self.arbitrate.findData(request.arbitrate))
        self.dtype.setCurrentIndex(self.dtype.findData(request.dtype))
        self.statistics.setCurrentIndex(self.statistics.findData(request.statistics))
        self.background.set_typed(request.background)
        self.repair.setCurrentIndex(self.repair.findData(request.repair_outliers))
        self.seed.setValue(min(request.seed, _MAX_SEED))
        self._seed_beyond = request.seed if request.seed > _MAX_SEED else None
        self._kept = {
            name: getattr(request, name)
            for name in _FROM_FILE
            if getattr(request, name) is not None
        }
        self._show_kept()

    def show_background(self, estimate: float | None) -> None:
        """Show the estimated background; a typed one takes its place."""
        self.background.set_given(estimate, "unknown" if estimate is None else "estimated")
        self.background.mark.setVisible(estimate is not None)

    def forget_crop(self) -> None:
        """Drop the crop of a settings file: it applies only to the layer it was loaded for."""
        if "crop" in self._kept:
            del self._kept["crop"]
            self._show_kept()

    @property
    def kept(self) -> bool:
        """Whether fields from a settings file apply."""
        return bool(self._kept)

    def _show_kept(self) -> None:
        self.from_file.setText(
            "from the settings file: "
            + ", ".join(f"{name} {value}" for name, value in self._kept.items())
        )
        self.from_file.setVisible(bool(self._kept))
        self.drop.setVisible(bool(self._kept))

    def _drop(self) -> None:
        self._kept = {}
        self._show_kept()
        self.changed.emit()
