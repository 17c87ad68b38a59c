"""The training data: layers of the viewer, a folder of files, or the recipe's simulated stacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from zenhance.errors import RecipeError, ZenhanceError
from zenhance.physics.psf import resolve_psf
from zenhance.plugin.dock_words import dock_sentence
from zenhance.plugin.fields import add_row, narrow, new_form
from zenhance.plugin.layer_bridge import read_facts
from zenhance.plugin.train_layers import TrainLayers
from zenhance.plugin.training_run import VolumeSteps, layer_volumes
from zenhance.training.recipe import TRUTH, Data, Pair, Recipe, find_data

__all__ = ["FolderLine", "TrainData"]

_TITLES = {
    "layers": "layers of the viewer",
    "folder": "files of a folder",
    "simulated": "simulated stacks of the recipe",
}


class FolderLine(QWidget):
    """A folder and its contents."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._method, self._paired = "", True
        self.line = QLineEdit(self)
        self.line.setPlaceholderText("folder")
        self.button = QPushButton("Choose…", self)
        self.found = QLabel(self)
        self.found.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.line, 1)
        row.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.found)
        self.button.clicked.connect(self._choose)
        self.line.editingFinished.connect(self.look)

    def _choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, "Folder of training stacks", self.line.text()
        )
        if folder:
            self.line.setText(folder)
            self.look()

    def show_method(self, method: str, paired: bool) -> None:
        """Look for pairs, or also for measured stacks without a truth."""
        self._method, self._paired = method, paired
        self.look()

    def data(self) -> Data:
        """Return the files of the folder as data of a recipe.

        Raises
        ------
        RecipeError, ReadError
            There is no such folder, or nothing in it to learn from.
        """
        text = self.line.text().strip()
        if not text:
            raise RecipeError(
                "no folder is chosen; choose one with files NAME.tif"
                + (f" and NAME{TRUTH}.tif" if self._paired else "")
            )
        return find_data([text], self._method)

    def look(self) -> None:
        """Say what the folder contains."""
        wrong = False
        text = (
            f"each measured NAME.tif has its sharp NAME{TRUTH}.tif beside it"
            if self._paired
            else "each file is a measured stack"
        )
        if self.line.text().strip():
            try:
                data = self.data()
                counts = {"pair": len(data.pairs), "stack": len(data.stacks)}
                text = (
                    " and ".join(
                        f"{n} {what}{'s' if n > 1 else ''}" for what, n in counts.items() if n
                    )
                    + " found"
                )
            except ZenhanceError as error:
                text, wrong = dock_sentence(error), True
        self.found.setStyleSheet(f"color: {'#d9534f' if wrong else '#888888'};")
        self.found.setText(text)
        self.changed.emit()


class TrainData(QWidget):
    """The kind of data, and the fields that this kind needs.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are offered.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = QComboBox(self)
        for name, title in _TITLES.items():
            self.kind.addItem(title, name)
        self.layers = TrainLayers(viewer, self)
        self.folder = FolderLine(self)
        self.simulated = QLabel(self)
        self.simulated.setWordWrap(True)
        self.psf_line = QLabel(self)
        self.psf_line.setWordWrap(True)
        self.psf_line.setStyleSheet("color: #888888;")
        self._alone = False
        self.pages = QStackedWidget(self)
        for page in (self.layers, self.folder, self.simulated):
            self.pages.addWidget(page)
        form = new_form()
        add_row(
            form,
            "learn from",
            narrow(self.kind),
            "pairs of a measured and a sharp stack, or measured stacks alone where the method can",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(form)
        layout.addWidget(self.pages)
        layout.addWidget(self.psf_line)
        self.layers.changed.connect(self._show_psf)
        self.kind.currentIndexChanged.connect(self._show_page)
        self._show_page()

    def _show_page(self, *_: Any) -> None:
        index = self.kind.currentIndex()
        self.pages.setCurrentIndex(index)
        # A stack of pages is as high as its highest one; only the shown one may count.
        for number in range(self.pages.count()):
            page = self.pages.widget(number)
            policy = page.sizePolicy()
            policy.setVerticalPolicy(
                policy.Policy.Preferred if number == index else policy.Policy.Ignored
            )
            page.setSizePolicy(policy)
        self.pages.adjustSize()
        self._show_psf()
        self.changed.emit()

    def _show_psf(self) -> None:
        """Show the point spread function for training without a truth."""
        kind = self.kind.currentData()
        self.psf_line.setVisible(self._alone and kind != "simulated")
        if self.psf_line.isHidden():
            return
        layer = (
            self.layers.rows[0].measured.layer if kind == "layers" and self.layers.rows else None
        )
        try:
            facts = None if layer is None else read_facts(layer)
            axes, metadata = ("ZYX", {}) if facts is None else (facts.axes, facts.metadata)
            told = resolve_psf(None, metadata, 3 if "Z" in axes else 2).describe()
        except ZenhanceError as error:
            told = dock_sentence(error)
        source = f'PSF of "{layer.name}"' if layer is not None else "PSF, where a file says nothing"
        self.psf_line.setText(
            f"without a truth, training blurs its own estimate again; {source}: {told}"
        )

    def show_method(self, method: str, learns: str, recipe: Recipe | None) -> None:
        """Offer what the method can learn from.

        Parameters
        ----------
        method, learns : str
            Name of the method, and ``pairs`` or ``own_stack``.
        recipe : Recipe or None
            The one to start from.
        """
        self._alone = learns == "own_stack"
        self.layers.show_truth(learns == "pairs")
        self.folder.show_method(method, learns == "pairs")
        plans = () if recipe is None else recipe.data.simulated
        lines = [
            f"{plan.count} + {plan.validation} × {plan.specimen}, "
            f"{' × '.join(map(str, plan.shape_px))} voxels"
            for plan in plans
        ]
        self.simulated.setText(
            "; ".join(lines) + " (training + validation)"
            if lines
            else "this recipe simulates nothing; choose another one"
        )
        self._show_psf()

    def data(self, base: Recipe | None) -> Data:
        """Return the data entry of the recipe; layers appear by their names.

        Raises
        ------
        RecipeError
            Something is not filled in.
        """
        kind = self.kind.currentData()
        if kind == "folder":
            return self.folder.data()
        if kind == "simulated":
            if base is None or not base.data.simulated:
                raise RecipeError(
                    "the recipe to start from simulates nothing; choose another one, "
                    "or learn from layers or a folder"
                )
            return Data(simulated=base.data.simulated)
        chosen = self.layers.chosen()
        if chosen[0][1] is None:
            return Data(stacks=tuple(measured.name for measured, _ in chosen))
        return Data(
            pairs=tuple(
                Pair(measured=measured.name, truth=truth.name) for measured, truth in chosen
            )
        )

    def volume_steps(self, recipe: Recipe) -> Callable[[], VolumeSteps | None]:
        """Return the steps that load the data in the worker; layers are copied now."""
        if self.kind.currentData() != "layers":
            return lambda: None
        pairs = self.layers.snapshots()
        return lambda: layer_volumes(pairs, recipe)
