"""The Enhance dock: choose a layer and a method, see what will happen, try it on what is in view, run it.

The dock builds one :class:`~zenhance.enhance.EnhanceRequest`, the same that the command line and Python build, and saves and loads it as
YAML. Nothing here computes: plans, previews and runs are generators in worker threads (:mod:`zenhance.plugin.task`).
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.compat import isalive
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from zenhance.contract.spec import REMARK
from zenhance.errors import ZenhanceError, sentence
from zenhance.pipeline import (
    EnhanceRequest,
    EnhanceResult,
    LearningProgress,
    Progress,
    enhance_steps,
    preview_steps,
)
from zenhance.pipeline.request_file import read_request, write_request
from zenhance.plugin.dock_form import DockForm
from zenhance.plugin.dock_tabs import join_tabs
from zenhance.plugin.layer_bridge import pixels, set_voxel_size
from zenhance.plugin.model_store import news
from zenhance.plugin.recording import of_file, with_record_of_file
from zenhance.plugin.recovery import keep, keep_later, tell
from zenhance.plugin.result_layers import add_preview, add_results, result_entries
from zenhance.plugin.run_estimate import Outlook
from zenhance.plugin.run_panel import RunPanel
from zenhance.plugin.sample_player import SamplePlayer
from zenhance.plugin.snapshot import Snapshot
from zenhance.plugin.task import Outcome, Steps, Task
from zenhance.plugin.train_preview import TrainPreview
from zenhance.plugin.view import current_view
from zenhance.plugin.warm_up import import_torch_later
from zenhance.stack import Stack

if TYPE_CHECKING:
    import napari

__all__ = ["EnhanceDock"]

LOG = logging.getLogger(__name__)
PREFERRED_PX = (420, 800)


def _run_steps(
    snapshot: Snapshot, request: EnhanceRequest, cancel: threading.Event, gone: threading.Event
) -> Steps:
    """Run on the snapshot; in the worker. A result that is done when its window has gone is kept on disk."""
    yield from snapshot.copy_steps()
    result = yield from enhance_steps(snapshot.stack(), request, cancel)
    result = with_record_of_file(result, request, snapshot.facts)
    try:
        yield from snapshot.compare_steps()
    finally:
        if gone.is_set():
            keep(result_entries(snapshot, request, result))
    return None if gone.is_set() else result


def _abandon(tasks: weakref.WeakSet[Task], gone: threading.Event, *_: Any) -> None:
    """End whatever runs for a window that is no more."""
    gone.set()
    for task in list(tasks):
        if task.running:
            LOG.info("a run was cancelled because its window was closed")
        task.forget()


class EnhanceDock(QWidget):
    """The Enhance dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer it works for; results go there, wherever the user is by then.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # Plugins get a proxy that wraps whatever it returns; layers are told apart by identity, so the viewer itself is needed.
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._viewer = weakref.ref(viewer)
        self._task: Task | None = None
        self._tasks: weakref.WeakSet[Task] = weakref.WeakSet()
        self._gone = threading.Event()
        self._watched_window: QMainWindow | None = None
        self._preview_layer: weakref.ref[Any] | None = None
        self.learning_preview = TrainPreview(viewer, "{} learning preview")
        self.form = DockForm(viewer, self)
        self.panel = RunPanel(self)
        self.samples = SamplePlayer(viewer, self)
        self.save_button = QPushButton("Save settings…", self)
        self.load_button = QPushButton("Load settings…", self)
        self.outlook = Outlook(self._asked, self)
        self._lay_out()
        self.panel.enhance.clicked.connect(self.start_enhance)
        self.panel.preview.clicked.connect(self.start_preview)
        self.panel.cancel.clicked.connect(self.cancel)
        self.save_button.clicked.connect(self._save_clicked)
        self.load_button.clicked.connect(self._load_clicked)
        self.form.changed.connect(self.outlook.request)
        self.outlook.planned.connect(self.form.show_plan)
        self.outlook.grounded.connect(self.form.show_background)
        self.outlook.timed.connect(self.form.show_time)
        self.outlook.failed.connect(self.form.show_trouble)
        self.destroyed.connect(partial(_abandon, self._tasks, self._gone))
        join_tabs(self)
        # Once the dock is on screen, so that opening it waits for neither torch nor the search for a GPU.
        QTimer.singleShot(0, self._warm_up)

    def _warm_up(self) -> None:
        if not isalive(self):
            return
        import_torch_later(self.outlook.request)
        news = tell()
        if news:
            self.panel.say(news)
            show_info(news)

    def _lay_out(self) -> None:
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setWidget(self.form)
        settings = QHBoxLayout()
        settings.addWidget(self.save_button)
        settings.addWidget(self.load_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(area, 1)
        layout.addWidget(self.form.plan_line)
        layout.addWidget(self.panel)
        layout.addWidget(self.samples)
        layout.addLayout(settings)
        self.setMinimumWidth(330)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for a narrow column: the picture is what people came for."""
        return QSize(PREFERRED_PX[0], PREFERRED_PX[1])

    # ------------------------------------------------------------------ the request

    def request(self) -> EnhanceRequest:
        """Return the request that the dock holds.

        Raises
        ------
        ZenhanceError
            A field cannot be used; the sentence says which.
        """
        return self.form.request()

    def show_request(self, request: EnhanceRequest) -> None:
        """Fill the dock from a request."""
        self.form.show_request(request)

    def save_settings(self, path: Path) -> None:
        """Write the request as YAML, as ``zenhance enhance --request`` reads it."""
        request, facts = self.request(), self.form.facts
        if path.suffix.lower() not in (".yaml", ".yml"):
            path = path.with_name(f"{path.name}.yaml")
        # The file dialog asks before it replaces a file.
        write_request(path, request if facts is None else of_file(request, facts), True)

    def load_settings(self, path: Path) -> None:
        """Fill the dock from a YAML request, or from the record inside an earlier result."""
        self.show_request(read_request(path))

    def _save_clicked(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save settings", "zenhance.yaml", "settings (*.yaml *.yml)"
        )
        if chosen:
            self._guarded(lambda: self.save_settings(Path(chosen)))

    def _load_clicked(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(
            self, "Load settings", "", "settings (*.yaml *.yml)"
        )
        if chosen:
            self._guarded(lambda: self.load_settings(Path(chosen)))

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

    # ------------------------------------------------------------------ plan

    def _asked(self) -> tuple[Stack, EnhanceRequest] | None:
        """Return what the outlook is to plan, or None; a form that cannot be used says so in the plan line."""
        layer, facts = self.form.layer, self.form.facts
        if layer is None or facts is None:
            return None
        try:
            return facts.stack(pixels(layer), layer.name), self.request()
        except ZenhanceError as error:
            self.form.show_trouble(sentence(error))
            return None

    # ------------------------------------------------------------------ runs

    @property
    def running(self) -> bool:
        """Whether a run or a preview is on."""
        return self._task is not None

    def cancel(self) -> None:
        """Ask the run to stop."""
        if self._task is not None:
            self._task.cancel()
            self.panel.say("cancelling…")

    def start_enhance(self) -> None:
        """Start a run on the chosen layer as it is now; a second call while one is on does nothing."""
        if self._task is not None:
            return
        self.panel.set_running(True)
        if not self._guarded(self._begin_enhance):
            self.panel.set_running(False)

    def _snapshot(self) -> tuple[Snapshot, EnhanceRequest]:
        request = self.request()
        layer, axes = self.form.layer, self.form.axes
        typed = {
            a: v
            for a, v in zip("ZYX", request.voxel_size_um or (), strict=False)
            if v is not None and a in axes
        }
        if typed and set_voxel_size(layer, axes, typed):
            show_info(
                f'the voxel size you typed was set on layer "{layer.name}" too, so that it and the result stay on top of each other'
            )
        return Snapshot(layer, self.form.facts_now(), axes), request

    def _begin_enhance(self) -> None:
        snapshot, request = self._snapshot()
        planned = self.outlook.planned_key
        gone = self._gone
        self.learning_preview.begin()
        self._start(
            lambda cancel: _run_steps(snapshot, request, cancel, gone),
            lambda outcome: self._ended(outcome, snapshot, request, planned),
            lambda result: keep_later(result_entries(snapshot, request, result)),
            lambda progress: self._show_progress(progress, snapshot.look.name),
        )

    def _show_progress(self, progress: Progress, name: str) -> None:
        """Show how far the run is, and while it learns what the network makes of a patch by now."""
        self.panel.show_progress(progress)
        if isinstance(progress, LearningProgress):
            self.learning_preview.show(progress.preview, name)

    def start_preview(self) -> None:
        """Enhance what is in view only."""
        if self._task is not None:
            return
        self.panel.set_running(True)
        if not self._guarded(self._begin_preview):
            self.panel.set_running(False)

    def _begin_preview(self) -> None:
        snapshot, request = self._snapshot()
        viewer = self._viewer()
        view = current_view(viewer, self.form.layer, snapshot.axes)
        channel = view.at.get("C", 0) if request.channel is None else request.channel

        def steps(cancel: threading.Event) -> Steps:
            yield from snapshot.copy_steps()
            plane, t = view.at.get("Z", 0), view.at.get("T", 0)
            return (
                yield from preview_steps(
                    snapshot.stack(), request, plane, view.field, t=t, c=channel, cancel=cancel
                )
            )

        at = view.at | ({"C": channel} if "C" in view.at else {})
        self._start(steps, lambda outcome: self._previewed(outcome, snapshot, at))

    def _start(
        self,
        make_steps: Callable[[threading.Event], Steps],
        done: Callable[[Outcome], None],
        orphan: Callable[[Any], object] | None = None,
        show: Callable[[Progress], None] | None = None,
    ) -> None:
        self.outlook.hold(True)
        self._watch_window()
        show = show or self.panel.show_progress
        self._task = Task(
            make_steps, on_progress=show, on_outcome=done, on_finished=self._idle, on_orphan=orphan
        )
        self._tasks.add(self._task)
        self._task.start()

    def _watch_window(self) -> None:
        """End the run with the viewer's window, also where the dock floats in a window of its own."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parentWidget()
        if parent is not None and parent is not self._watched_window:
            self._watched_window = parent
            parent.destroyed.connect(partial(_abandon, self._tasks, self._gone))

    def _idle(self) -> None:
        self._task = None
        if isalive(self):
            self.panel.set_running(False)
            self.outlook.hold(False)

    def _settled(self, outcome: Outcome) -> Any:
        """Return the result, or say why there is none."""
        if outcome.cancelled:
            self.panel.say("cancelled; the original is unchanged")
        elif outcome.failure:
            self._report(outcome.failure)
        return outcome.value

    def _ended(
        self, outcome: Outcome, snapshot: Snapshot, request: EnhanceRequest, planned: str
    ) -> None:
        viewer = self._viewer()
        if viewer is None or not isalive(self):
            if outcome.value is not None:
                keep_later(result_entries(snapshot, request, outcome.value))
            return
        result: EnhanceResult | None = self._settled(outcome)
        if request.learn_minutes is not None:
            self.learning_preview.end()
            # Kept as soon as it is learnt, also where the run did not go on to its end.
            news().saved.emit("")
        notice = snapshot.notice(viewer.layers)
        snapshot.release()
        if result is None:
            return
        self.outlook.learn(planned, result.provenance.seconds)
        self._drop_preview(viewer)
        layer = add_results(viewer, snapshot, request, result)[0]
        remarks = [text for text in (notice, *result.provenance.warnings) if text]
        learnt = result.provenance.notes.get("learnt")
        kept = (
            [
                f'what was learnt is kept as "{learnt["model"]}"; choose it under weights to use it without learning'
            ]
            if learnt
            else []
        )
        if remark := result.provenance.notes.get(REMARK):
            kept.append(remark)
        if any(result.samples(name) for name in result.extras):
            kept.append(
                "its samples lie in a hidden layer with a slider; Animate samples shows them one after the other"
            )
        self.panel.say(
            "\n".join(
                [f'"{layer.name}" made in {result.provenance.seconds:.1f} s', *kept, *remarks]
            )
        )
        if remarks:
            show_warning("; ".join(remarks))

    def _previewed(self, outcome: Outcome, snapshot: Snapshot, at: dict[str, int]) -> None:
        viewer = self._viewer()
        if viewer is None or not isalive(self):
            return
        result: EnhanceResult | None = self._settled(outcome)
        snapshot.release()
        if result is None:
            return
        self._drop_preview(viewer)
        self._preview_layer = weakref.ref(add_preview(viewer, snapshot, result, at))
        said = [
            f"preview made in {result.provenance.seconds:.1f} s; Enhance runs the whole layer",
            result.provenance.notes.get(REMARK),
        ]
        self.panel.say("\n".join(text for text in said if text))

    def _drop_preview(self, viewer: Any) -> None:
        layer = None if self._preview_layer is None else self._preview_layer()
        if layer is not None and layer in viewer.layers:
            viewer.layers.remove(layer)
        self._preview_layer = None
