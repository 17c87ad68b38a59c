"""The Train dock: teach a method what your own stacks look like, watch it learn, keep the model.

The dock builds one :class:`~zenhance.training.recipe.Recipe`, as ``zenhance train`` reads it; the training itself is a generator in a
worker thread (:mod:`zenhance.plugin.training_run`). A model that is saved appears in the Enhance dock's list of weights.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.compat import isalive
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QMainWindow, QMessageBox, QScrollArea, QVBoxLayout, QWidget

from zenhance.errors import ZenhanceError, sentence
from zenhance.pipeline import Progress
from zenhance.plugin.dock_tabs import join_tabs
from zenhance.plugin.model_store import check_name, free_name, model_path, save_model
from zenhance.plugin.task import Outcome, Task
from zenhance.plugin.train_form import TrainForm
from zenhance.plugin.train_panel import TrainPanel
from zenhance.plugin.train_preview import TrainPreview
from zenhance.plugin.training_run import Trained, TrainingView, training_steps

if TYPE_CHECKING:
    import napari

__all__ = ["TrainDock"]

LOG = logging.getLogger(__name__)
PREFERRED_PX = (420, 820)


def _abandon(tasks: weakref.WeakSet[Task], *_: Any) -> None:
    """End whatever runs for a window that is no more; the training's folder goes with it."""
    for task in list(tasks):
        if task.running:
            LOG.info("a training was cancelled because its window was closed")
        task.forget()


class TrainDock(QWidget):
    """The Train dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are learnt from and which shows the preview.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # Plugins get a proxy that wraps whatever it returns; layers are told apart by identity, so the viewer itself is needed.
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._task: Task | None = None
        self._tasks: weakref.WeakSet[Task] = weakref.WeakSet()
        self._stop = threading.Event()
        self._watched_window: QMainWindow | None = None
        self._trained: Trained | None = None
        self._saved = True
        self.form = TrainForm(viewer, self)
        self.panel = TrainPanel(self)
        self.preview = TrainPreview(viewer)
        self._lay_out()
        self.panel.start.clicked.connect(self.start_training)
        self.panel.stop.clicked.connect(self.stop)
        self.panel.save.clicked.connect(self.save_clicked)
        self.form.method_changed.connect(self._propose_name)
        self._propose_name(self.form.method.currentData() or "model")
        self.destroyed.connect(partial(_abandon, self._tasks))
        join_tabs(self)

    def _lay_out(self) -> None:
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setWidget(self.form)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(area, 1)
        layout.addWidget(self.panel)
        self.setMinimumWidth(330)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for a narrow column: the picture is what people came for."""
        return QSize(PREFERRED_PX[0], PREFERRED_PX[1])

    # ------------------------------------------------------------------ training

    @property
    def running(self) -> bool:
        """Whether a training is on."""
        return self._task is not None

    @property
    def trained(self) -> Trained | None:
        """The model that came out last, saved or not."""
        return self._trained

    def start_training(self) -> None:
        """Start a training on what is chosen; a second call while one is on does nothing."""
        if self._task is not None:
            return
        if not self._saved and not self._ask(
            "The model that was just trained is not saved. Train anew and lose it?"
        ):
            return
        self.panel.set_running(True)
        if not self._guarded(self._begin):
            self.panel.set_running(False)

    def _begin(self) -> None:
        if not self.panel.name.isModified():
            self.panel.name.setText(free_name(self.panel.name.text()))
        recipe = self.form.recipe(
            check_name(self.panel.name.text().strip(), self.form.method.currentData() or "")
        )
        make_volumes = self.form.data.volume_steps(recipe)
        of_layers = self.form.data.kind.currentData() == "layers"
        command = "" if of_layers else f"zenhance train {recipe.name}.yaml --out RUN"
        self._stop = stop = threading.Event()
        device = self.form.device.currentData()
        self._trained, self._saved = None, True
        self.panel.show_model(None)
        self.panel.plot.clear()
        self.preview.begin()
        self._watch_window()
        # Not one of the runs that take turns: a training lasts, and stacks can be enhanced meanwhile.
        self._task = Task(
            lambda _cancel: training_steps(recipe, make_volumes, stop, device, command),
            on_progress=partial(self._show, recipe.method),
            on_outcome=partial(self._ended, recipe.method),
            on_finished=self._idle,
            exclusive=False,
        )
        self._tasks.add(self._task)
        self._task.start()

    def _watch_window(self) -> None:
        """End the training with the viewer's window, also where the dock floats in a window of its own."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parentWidget()
        if parent is not None and parent is not self._watched_window:
            self._watched_window = parent
            parent.destroyed.connect(partial(_abandon, self._tasks))

    def stop(self) -> None:
        """End the training after the step it is at, and keep the best model."""
        if self._task is not None:
            self._stop.set()
            self.panel.stop.setEnabled(False)
            self.panel.say("stopping; the best model is kept…")

    def _show(self, method: str, progress: Progress) -> None:
        if not isalive(self) or not isinstance(progress, TrainingView):
            return
        self.panel.show_view(progress)
        self.preview.show(progress.preview, method)

    def _ended(self, method: str, outcome: Outcome) -> None:
        if not isalive(self):
            LOG.warning("a training ended after its window was closed; its model was dropped")
            return
        if outcome.cancelled:
            self.panel.say("stopped before the first step; there is no model")
        elif outcome.failure:
            self._report(outcome.failure)
        trained = outcome.value
        if not isinstance(trained, Trained):
            return
        self._show(method, trained.view)
        self._trained, self._saved = trained, False
        self.panel.show_model(trained.card)
        self.panel.say(
            f"{trained.ended}; the best model is that of step {trained.card.steps}. Save it to use it in the Enhance dock"
        )

    def _idle(self) -> None:
        self._task = None
        if isalive(self):
            self.panel.set_running(False)

    # ------------------------------------------------------------------ the model

    def _propose_name(self, method: str) -> None:
        if not self.panel.name.isModified():
            self.panel.name.setText(free_name(f"my_{method}"))

    def save_clicked(self) -> None:
        """Save the model under the name in the field; an existing one is replaced only if the user says so."""
        trained = self._trained
        if trained is not None:
            self._guarded(lambda: self._save(trained))

    def _save(self, trained: Trained) -> None:
        name = check_name(self.panel.name.text().strip(), trained.card.method)
        replace = model_path(name).exists()
        if replace and not self._ask(f'There is a model "{name}" already. Replace it?'):
            self.panel.say(f'not saved: there is a model "{name}" already; give another name')
            return
        card = save_model(trained.blob, trained.card, name, overwrite=replace)
        self._saved = True
        self.panel.show_model(card, saved=True)
        self.panel.say(
            f'saved as "{name}" in {model_path(name).parent}; the Enhance dock offers it under weights'
        )
        self.panel.name.setModified(False)
        show_info(f'model "{name}" saved; choose it under weights in the Enhance dock')

    # ------------------------------------------------------------------ talking

    def _ask(self, question: str) -> bool:
        return bool(
            QMessageBox.question(self, "zenhance", question) == QMessageBox.StandardButton.Yes
        )

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Do what a click asks for; a failure becomes one sentence."""
        try:
            action()
        except (ZenhanceError, OSError) as error:
            self._report(sentence(error))
            return False
        return True

    def _report(self, text: str) -> None:
        self.panel.say(text, wrong=True)
        show_error(text)
