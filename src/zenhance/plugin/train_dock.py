"""The Train dock: train a method on your own stacks, watch it learn, keep the model.

The dock builds one :class:`~zenhance.training.recipe.Recipe`, as ``zenhance train`` reads it. The
training is a generator in a worker thread (:mod:`zenhance.plugin.training_run`). The Enhance dock
lists a saved model under weights.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget

from zenhance.errors import ZenhanceError
from zenhance.pipeline import Progress
from zenhance.plugin.dock_base import DockBase
from zenhance.plugin.dock_words import dock_sentence
from zenhance.plugin.model_store import check_name, free_name, model_path, save_model
from zenhance.plugin.panels import TrainPanel
from zenhance.plugin.remembered import lasting, recall, remember, write_lasting
from zenhance.plugin.task import Outcome, Task
from zenhance.plugin.train_form import TrainForm
from zenhance.plugin.train_preview import TrainPreview
from zenhance.plugin.training_run import Trained, TrainingView, training_steps

if TYPE_CHECKING:
    import napari

__all__ = ["TrainDock"]

LOG = logging.getLogger(__name__)
_NAME = "train"


class TrainDock(DockBase):
    """The Train dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are the training data and which shows the preview.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        viewer = self._viewer()
        self._stop = threading.Event()
        self._trained: Trained | None = None
        self._saved = True
        # Outlives the dock, to be written when it is closed.
        self._choices: dict[str, Any] = {}
        self.form = TrainForm(viewer, self)
        self.panel = TrainPanel(self)
        self.preview = TrainPreview(viewer)
        self.lay_out(self.form, self.panel)
        self.panel.start.clicked.connect(self.start_training)
        self.panel.stop.clicked.connect(self.stop)
        self.panel.save.clicked.connect(self.save_clicked)
        self._recall()
        self.form.method_changed.connect(self._propose_name)
        self.form.changed.connect(self._edited)
        self._propose_name(self.form.method.currentData() or "model")
        self.destroyed.connect(partial(_write_choices, self._choices))

    # ------------------------------------------------------------------ what is remembered

    def _edited(self) -> None:
        """Remember the form; the last training's message does not apply to other settings."""
        if not self.running and self._saved:
            self.panel.say("")
        self._remember()

    def _remember(self) -> None:
        viewer, state = self._viewer(), self.form.state()
        if viewer is not None:
            kept = {"trained": self._trained, "saved": self._saved}
            remember(viewer, _NAME, {**state, **kept})
            self._choices.update(state["lasting"])

    def _recall(self) -> None:
        """Show what the dock of this viewer showed last, its model included."""
        state = recall(self._viewer(), _NAME) or {"lasting": lasting(_NAME)}
        try:
            self.form.show_state(state)
        except (ZenhanceError, TypeError, ValueError, KeyError, AttributeError) as error:
            self.panel.say(
                f"the remembered settings cannot be used: {dock_sentence(error)}", wrong=True
            )
        self._trained, self._saved = state.get("trained"), state.get("saved", True)
        if self._trained is not None:
            self.panel.show_view(self._trained.view)
            self.panel.show_model(self._trained.card, saved=self._saved)
            self.panel.say("" if self._saved else "this model is not saved yet")

    # ------------------------------------------------------------------ training

    @property
    def trained(self) -> Trained | None:
        """The model of the last training, saved or not."""
        return self._trained

    def start_training(self) -> None:
        """Start a training on the chosen data; a click during a training does nothing."""
        if self.running:
            return
        if self._saved or self.ask(
            "The model that was just trained is not saved. Train again and discard it?"
        ):
            self.begin(self._begin)

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
        self._remember()
        _write_choices(self._choices)
        self.panel.clear()
        self.preview.begin()
        # A training takes long and does not take turns with runs: stacks can be enhanced meanwhile.
        self.start_task(
            Task(
                lambda _cancel: training_steps(recipe, make_volumes, stop, device, command),
                on_progress=partial(self._show, recipe.method),
                on_outcome=partial(self._ended, recipe.method),
                on_finished=self.task_ended,
                exclusive=False,
            )
        )

    def stop(self) -> None:
        """End the training after the present step, and keep the best model."""
        if self.running:
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
            self.report(outcome.failure)
        trained = outcome.value
        if not isinstance(trained, Trained):
            return
        self._show(method, trained.view)
        self._trained, self._saved = trained, False
        self._remember()
        self.panel.show_model(trained.card)
        self.panel.say(
            f"{trained.ended}; the best model is from step {trained.card.steps}. "
            "Save it to use it in the Enhance dock"
        )

    # ------------------------------------------------------------------ the model

    def _propose_name(self, method: str) -> None:
        if not self.panel.name.isModified():
            self.panel.name.setText(free_name(f"my_{method}"))

    def save_clicked(self) -> None:
        """Save the model under the name in the field; ask before replacing another one."""
        trained = self._trained
        if trained is not None:
            self.guarded(lambda: self._save(trained))

    def _save(self, trained: Trained) -> None:
        name = check_name(self.panel.name.text().strip(), trained.card.method)
        replace = model_path(name).exists()
        if replace and not self.ask(f'There is a model "{name}" already. Replace it?'):
            self.panel.say(f'not saved: there is a model "{name}" already; give another name')
            return
        card = save_model(trained.blob, trained.card, name, overwrite=replace)
        self._saved = True
        self._remember()
        self.panel.show_model(card, saved=True)
        self.panel.say(
            f'saved as "{name}" in {model_path(name).parent}; '
            "the Enhance dock lists it under weights"
        )
        self.panel.name.setModified(False)
        show_info(f'model "{name}" saved; choose it under weights in the Enhance dock')


def _write_choices(choices: dict[str, Any], *_: Any) -> None:
    if choices:
        write_lasting(_NAME, choices)
