"""The point spread function of a run as fields, each number marked file, user or default.

The form builds the text of the request's ``psf``, or None until the user types something: then
the file decides, or else a stated default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from zenhance.errors import ZenhanceError
from zenhance.physics.psf import DEFAULTS, FWHM_PER_SIGMA, PSF_NUMBERS, parse_psf, resolve_psf
from zenhance.plugin.dock_words import dock_sentence
from zenhance.plugin.fields import NumberField, add_row, narrow, new_form, show_row

__all__ = ["PsfForm", "check_psf"]

AUTOMATIC = "automatic"
_KINDS = (
    (AUTOMATIC, "from the file, else default"),
    ("confocal", "confocal"),
    ("widefield", "wide field"),
    ("airy", "scalar diffraction (Airy)"),
    ("gibson_lanni", "Gibson-Lanni (index mismatch)"),
    ("srpsf", "in-focus pattern, modulated (SIM)"),
    ("sigma_um", "Gaussian, standard deviation"),
    ("fwhm_um", "Gaussian, full width at half maximum"),
    ("measured", "measured (bead stack)"),
)
_TITLES = {
    "na": ("NA", "numerical aperture of the objective"),
    "n": ("immersion n", "refractive index of the immersion: water 1.33, glycerol 1.45, oil 1.515"),
    "ex_nm": ("excitation [nm]", "wavelength of the laser"),
    "em_nm": ("emission [nm]", "peak wavelength of the light that is detected"),
    "pinhole_au": ("pinhole [AU]", "diameter of the pinhole in Airy units"),
    "n_sample": ("sample n", "refractive index of the specimen"),
    "depth_um": ("depth [µm]", "depth of the focus below the coverslip"),
    "m_f": (
        "modulation m_f",
        "how much finer the image is than the objective's: wide field 1, confocal 1.41, "
        "structured illumination 2",
    ),
}
_WIDTHS = {"sigma_um": "standard deviation", "fwhm_um": "full width at half maximum"}


def check_psf(spec: str | None) -> None:
    """Check a point spread function, for a stack or for an image.

    Raises
    ------
    MethodError
        The text is not a PSF. A bead stack is checked when it is read.
    """
    text = (spec or "").strip()
    if not text or text.startswith("measured:"):
        return
    kind, _, numbers = text.partition("=")
    # Two widths are for an image, three for a stack; the input is not known yet.
    parse_psf(text, 2 if kind in _WIDTHS and numbers.count(",") == 1 else 3)


class PsfForm(QWidget):
    """Kind of point spread function and its numbers."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._metadata: Mapping[str, Any] = {}
        self._ndim = 3
        self._channel = 0
        self.kind = QComboBox(self)
        for key, title in _KINDS:
            self.kind.addItem(title, key)
        narrow(self.kind)
        self.optics = {name: NumberField(parent=self) for name in _TITLES}
        self.widths = {axis: NumberField(parent=self) for axis in "ZYX"}
        self.file = QLineEdit(self)
        self.file.setPlaceholderText("stack of beads")
        browse = QPushButton("…", self)
        browse.setMaximumWidth(28)
        browse.setToolTip("choose the file of the beads")
        browse.clicked.connect(self._browse)
        self.trouble = QLabel(self)
        self.trouble.setWordWrap(True)
        self.trouble.setStyleSheet("color: #d9534f;")
        self._lay_out(browse)
        self.kind.currentIndexChanged.connect(self._changed)
        self.file.editingFinished.connect(self._changed)
        for field in (*self.optics.values(), *self.widths.values()):
            field.edited.connect(self._changed)
        self._refresh()

    def _lay_out(self, browse: QPushButton) -> None:
        self._form = new_form()
        add_row(
            self._form, "PSF", self.kind, "what one point of the specimen looks like in the image"
        )
        for name, (title, tip) in _TITLES.items():
            add_row(self._form, title, self.optics[name], tip)
        for axis, field in self.widths.items():
            add_row(
                self._form,
                f"{axis.lower()} [µm]",
                field,
                f"width of a point's image along {axis.lower()}",
            )
        self._beads = QWidget(self)
        row = QHBoxLayout(self._beads)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.file, 1)
        row.addWidget(browse)
        add_row(
            self._form,
            "beads",
            self._beads,
            "a stack of beads smaller than the resolution, with its voxel size",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(self._form)
        layout.addWidget(self.trouble)

    def _browse(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Stack of beads", self.file.text())
        if chosen:
            self.file.setText(chosen)
            self._changed()

    @property
    def chosen(self) -> str:
        """The kind that is chosen."""
        return str(self.kind.currentData())

    def show_layer(self, metadata: Mapping[str, Any], ndim: int, channel: int = 0) -> None:
        """Fill in what a layer's file says; numbers typed by the user stay."""
        self._metadata, self._ndim, self._channel = metadata, ndim, channel
        self._refresh()

    def spec(self) -> str | None:
        """Return the PSF as in a request; None if the user typed nothing."""
        kind = self.chosen
        if kind == "measured":
            return f"measured:{self.file.text().strip()}"
        if kind in _WIDTHS:
            if not self._widths_typed():
                # The form shows the widths of the automatic PSF, with their origin.
                return None
            numbers = [self.widths[a].value for a in "ZYX"[3 - self._ndim :]]
            return f"{kind}=" + ",".join("" if v is None else f"{v:.9g}" for v in numbers)
        typed = [
            f"{name}={self.optics[name].typed:.9g}"
            for name in self._names()
            if self.optics[name].typed is not None
        ]
        if kind == AUTOMATIC and not typed:
            return None
        return f"{self._model()}:{','.join(typed)}"

    def show_spec(self, spec: str | None) -> None:
        """Fill the form from a request's text; parts without a field are left out.

        Raises
        ------
        MethodError
            The text is not a PSF; the form is unchanged.
        """
        check_psf(spec)
        spec = (spec or "").strip()
        for field in (*self.optics.values(), *self.widths.values()):
            field.set_typed(None)
        head, _, rest = spec.partition(":")
        kind, _, numbers = spec.partition("=")
        if not spec:
            self._choose(AUTOMATIC)
        elif kind in _WIDTHS:
            values = [float(part) for part in numbers.split(",")]
            for axis, width_um in zip("ZYX"[3 - len(values) :], values, strict=True):
                self.widths[axis].set_typed(width_um)
            self._choose(kind)
        elif head == "measured":
            self.file.setText(rest)
            self._choose(head)
        else:
            for part in filter(None, rest.split(",")):
                name, _, value = part.partition("=")
                if name.strip() in self.optics:
                    self.optics[name.strip()].set_typed(float(value))
            self._choose(head)
        self._refresh()

    def _widths_typed(self) -> bool:
        return any(self.widths[axis].typed is not None for axis in "ZYX"[3 - self._ndim :])

    def _choose(self, kind: str) -> None:
        self.kind.blockSignals(True)
        self.kind.setCurrentIndex(max(0, self.kind.findData(kind)))
        self.kind.blockSignals(False)

    def _model(self) -> str:
        """Return the optical model: the chosen one, or that of the file's modality."""
        if self.chosen not in (AUTOMATIC, *_WIDTHS):
            return self.chosen
        return resolve_psf(None, self._metadata, self._ndim, self._channel).kind

    def _names(self) -> tuple[str, ...]:
        return () if self.chosen in _WIDTHS else PSF_NUMBERS.get(self._model(), ())

    def _changed(self, *_: Any) -> None:
        self._refresh()
        self.changed.emit()

    def _refresh(self) -> None:
        kind = self.chosen
        names = self._names()
        try:
            self._fill()
            self.trouble.hide()
        except ZenhanceError as error:
            self.trouble.setText(dock_sentence(error))
            self.trouble.show()
        for name, field in self.optics.items():
            show_row(self._form, field, name in names)
        for axis, field in self.widths.items():
            show_row(self._form, field, kind in _WIDTHS and axis in "ZYX"[3 - self._ndim :])
        show_row(self._form, self._beads, kind == "measured")

    def _fill(self) -> None:
        """Show the number that applies without typing: the file's, or a matching default."""
        for name in ("n_sample", "depth_um", "m_f"):
            self.optics[name].set_given(DEFAULTS[name], "default")
        model = "widefield" if self._model() == "widefield" else "confocal"
        typed = [
            f"{n}={self.optics[n].typed:.9g}"
            for n in PSF_NUMBERS[model]
            if self.optics[n].typed is not None
        ]
        quiet = resolve_psf(f"{model}:", self._metadata, self._ndim, self._channel)
        told = {
            value.name: value
            for value in resolve_psf(
                f"{model}:{','.join(typed)}", self._metadata, self._ndim, self._channel
            ).values
        }
        for entry in quiet.values:
            holds = told.get(entry.name, entry)
            given = holds if holds.origin != "user" else entry
            if entry.name in self.optics and isinstance(given.value, float | int):
                self.optics[entry.name].set_given(float(given.value), given.origin)
        # One width that is typed makes all of them the user's: a Gaussian is given as a whole.
        origin = (
            "user" if self._widths_typed() else _weakest([value.origin for value in quiet.values])
        )
        for axis, sigma_um in zip("ZYX", quiet.sigma_um, strict=True):
            self.widths[axis].set_given(
                sigma_um * (FWHM_PER_SIGMA if self.chosen == "fwhm_um" else 1.0), origin
            )


def _weakest(origins: Sequence[str]) -> str:
    """Return the origin of a number that was computed from others."""
    return "default" if "default" in origins else "file"
