"""The Enhance dock: choose a layer and a method, see what will happen, preview it, run it.

The dock builds one :class:`~zenhance.pipeline.EnhanceRequest`, the same that the command line and
Python build, and saves and loads it as YAML. This module does no computation itself: plans,
previews and runs are generators in worker threads (:mod:`zenhance.plugin.task`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from zenhance.contract.spec import REMARK
from zenhance.errors import RecipeError, ZenhanceError
from zenhance.pipeline import (
    EnhanceRequest,
    EnhanceResult,
    LearningProgress,
    Progress,
    RunPlan,
    enhance_steps,
    preview_steps,
)
from zenhance.pipeline.request import read_request, replayed, write_request
from zenhance.plugin.before_after import BeforeAfterPanel
from zenhance.plugin.compare_sheet import CompareSheet, compare_view_steps
from zenhance.plugin.dock_base import DockBase
from zenhance.plugin.dock_form import DockForm
from zenhance.plugin.dock_words import dock_sentence, in_dock_words
from zenhance.plugin.doubts import DoubtList, resample_steps, trained_voxel_um
from zenhance.plugin.layer_bridge import is_result, pixels, set_voxel_size
from zenhance.plugin.method_advice import AdviceLine, advice_steps, follow
from zenhance.plugin.model_store import model_signals
from zenhance.plugin.panels import RunPanel
from zenhance.plugin.recording import of_file, with_record_of_file
from zenhance.plugin.recovery import keep, keep_later, recovery_notice
from zenhance.plugin.remembered import lasting, recall, remember, write_lasting
from zenhance.plugin.result_layers import (
    SamplePlayer,
    add_preview,
    add_results,
    range_remark,
    result_entries,
)
from zenhance.plugin.run_estimate import RunEstimate
from zenhance.plugin.snapshot import Snapshot, current_view, same_view
from zenhance.plugin.task import Outcome, Steps, Task, import_torch_later
from zenhance.plugin.train_preview import TrainPreview
from zenhance.plugin.verdict import VerdictPanel
from zenhance.provenance import METADATA_KEY
from zenhance.stack import Stack

if TYPE_CHECKING:
    import napari

__all__ = ["EnhanceDock"]

_NAME = "enhance"
_IN_ZARR = ("zarr.json", ".zattrs", ".zgroup", ".zmetadata")
_SETTINGS = (
    "settings or a result (*.yaml *.yml *.json *.tif *.tiff);;"
    f"inside an OME-Zarr result ({' '.join(_IN_ZARR)});;all files (*)"
)


def _run_steps(
    snapshot: Snapshot, request: EnhanceRequest, cancel: threading.Event, gone: threading.Event
) -> Steps:
    """Run on the snapshot, in the worker; keep the result on disk if its window is closed."""
    yield from snapshot.copy_steps()
    dtype = snapshot.stack().dtype
    result = yield from enhance_steps(snapshot.stack(), request, cancel)
    result = with_record_of_file(result, request, snapshot.facts)
    try:
        remark = yield from range_remark(result, dtype)
        yield from snapshot.compare_steps()
    finally:
        if gone.is_set():
            keep(result_entries(snapshot, request, result))
    return None if gone.is_set() else (result, remark)


class EnhanceDock(DockBase):
    """The Enhance dock.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Results are added to this viewer, whichever window is active by then.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        viewer = self._viewer()
        self._preview_layer: weakref.ref[Any] | None = None
        # Outlives the dock, to be written when it is closed.
        self._choices: dict[str, Any] = {}
        self.learning_preview = TrainPreview(viewer, "{} learning preview")
        self.form = DockForm(viewer, self)
        self.advice = AdviceLine(self.form, self._to_measure, self)
        self.form.add_below_method(self.advice)
        self.doubts = DoubtList(self)
        self.panel = RunPanel(self)
        self.verdict = VerdictPanel(self)
        self.before_after = BeforeAfterPanel(viewer, self)
        self.samples = SamplePlayer(viewer, self)
        self.advise_button = QPushButton("Which method?", self)
        self.advise_button.setToolTip("measure the layer and choose a method for it, with a reason")
        self.compare_button = QPushButton("Compare methods…", self)
        self.compare_button.setToolTip(
            "run all methods on the middle of what is in view and show them on one sheet with "
            "their verdicts; takes a minute or two, can be cancelled"
        )
        self.sheet: CompareSheet | None = None
        self.save_button = QPushButton("Save settings…", self)
        self.load_button = QPushButton("Load settings…", self)
        self.same_button = QPushButton("As the selected result", self)
        self.same_button.setToolTip("fill in the settings that made the selected result layer")
        self.load_button.setToolTip("from a settings file, or from a result (TIFF or OME-Zarr)")
        self.estimate = RunEstimate(self._asked, self)
        settings = QWidget(self)
        row = QHBoxLayout(settings)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (self.advise_button, self.compare_button):
            row.addWidget(button)
        self.save_button.setToolTip("as YAML, as zenhance enhance --request reads it")
        self.form.options.add_buttons(self.save_button, self.load_button)
        self.form.options.add_buttons(self.same_button)
        lines = (self.form.plan_line, self.doubts, self.form.doubt_line)
        below = (self.verdict, self.before_after, self.samples, settings)
        self.lay_out(self.form, *lines, self.panel, *below)
        self._recall()
        self._connect()
        # Later, so that opening the dock waits for neither torch nor the search for a GPU.
        QTimer.singleShot(0, self._warm_up)

    def _connect(self) -> None:
        self.panel.enhance.clicked.connect(self.start_enhance)
        self.panel.preview.clicked.connect(self.start_preview)
        self.panel.cancel.clicked.connect(self.cancel)
        self.advise_button.clicked.connect(self.start_advice)
        self.compare_button.clicked.connect(self.start_comparison)
        self.save_button.clicked.connect(self._save_clicked)
        self.load_button.clicked.connect(self._load_clicked)
        self.same_button.clicked.connect(lambda: self.guarded(self.load_from_layer))
        self.form.changed.connect(self.estimate.request)
        self.form.changed.connect(self._edited)
        self.form.microscope.started.connect(self._watch)
        self.form.microscope.changed.connect(self._show_doubts)
        self.form.part_toggled.connect(self._remember)
        self.verdict.switch.toggled.connect(self._remember)
        self.advice.started.connect(self._watch)
        self.doubts.wanted.connect(self._settle_doubt)
        self.form.microscope.failed.connect(self.report)
        self.estimate.planned.connect(self._planned)
        self.estimate.background_found.connect(self.form.show_background)
        self.estimate.timed.connect(self.form.show_time)
        self.estimate.failed.connect(self.form.show_trouble)
        self.destroyed.connect(partial(_write_choices, self._choices))

    def _warm_up(self) -> None:
        if not isalive(self):
            return
        import_torch_later(self.estimate.request)
        self.advice.refresh()
        notice = recovery_notice()
        if notice:
            self.panel.say(notice)
            show_info(notice)

    # ------------------------------------------------------------------ the request

    def request(self) -> EnhanceRequest:
        """Return the request that the dock shows.

        Raises
        ------
        ZenhanceError
            A field is invalid; the sentence names it.
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
        """Fill the dock from a settings file, or from the record in a result."""
        # A file dialog cannot choose the folder of an OME-Zarr result, but a file in it.
        self.show_request(read_request(path.parent if path.name in _IN_ZARR else path))

    def load_from_layer(self) -> None:
        """Fill the dock with the settings that made the selected result layer.

        Raises
        ------
        RecipeError
            The selected layer is no result.
        """
        viewer = self._viewer()
        layer = None if viewer is None else viewer.layers.selection.active
        if layer is None or not is_result(layer):
            raise RecipeError("the selected layer is no result of zenhance; select one and repeat")
        self.show_request(EnhanceRequest(**replayed(layer.metadata[METADATA_KEY])))

    def _save_clicked(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save settings", "zenhance.yaml", "settings (*.yaml *.yml)"
        )
        if chosen:
            self.guarded(lambda: self.save_settings(Path(chosen)))

    def _load_clicked(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Load settings", "", _SETTINGS)
        if chosen:
            self.guarded(lambda: self.load_settings(Path(chosen)))

    def _edited(self) -> None:
        """Remember the form; the last run's message does not apply to other settings."""
        if not self.running:
            self.panel.say("")
        self._show_doubts()
        self._remember()

    def _remember(self, *_: Any) -> None:
        viewer, state = self._viewer(), self.form.state()
        if viewer is not None and state:
            state["lasting"]["judge"] = self.verdict.switch.isChecked()
            remember(viewer, _NAME, state)
            self._choices.clear()
            self._choices.update(state["lasting"])

    def _recall(self) -> None:
        """Show what the dock of this viewer showed last, else the lasting choices."""
        state = dict(recall(self._viewer(), _NAME) or {"lasting": lasting(_NAME)})
        try:
            state["lasting"] = dict(state["lasting"])
            self.verdict.switch.setChecked(bool(state["lasting"].pop("judge", True)))
            self.form.show_state(state)
        except (ZenhanceError, TypeError, ValueError, KeyError, AttributeError) as error:
            self.form.show_trouble(
                f"the remembered settings cannot be used: {dock_sentence(error)}"
            )

    # ------------------------------------------------------------------ plan

    def _asked(self) -> tuple[Stack, EnhanceRequest] | None:
        """Return what to plan, or None; the plan line says why an invalid form has no plan."""
        layer, facts = self.form.layer, self.form.facts
        if layer is None or facts is None:
            return None
        try:
            return facts.stack(pixels(layer), layer.name), self.request()
        except ZenhanceError as error:
            self.form.show_trouble(dock_sentence(error))
            return None

    def _planned(self, plan: RunPlan) -> None:
        self.form.show_plan(plan)
        self._show_doubts()

    def _to_measure(self) -> tuple[Stack, EnhanceRequest] | None:
        """Return what the advice measures; the line of the layer says why there is nothing."""
        layer, facts = self.form.layer, self.form.facts
        if layer is None or facts is None:
            return None
        try:
            return facts.stack(pixels(layer), layer.name), self.request()
        except ZenhanceError:
            return None

    # ------------------------------------------------------------------ doubts

    def _show_doubts(self) -> None:
        if isalive(self):
            self.doubts.show_doubts(self.form.doubts)

    def _settle_doubt(self, action: str) -> None:
        """Do what the sentence beside the button advises."""
        if self.running:
            return
        if action == "resample":
            self.begin(self._resample)
        else:
            self.guarded(self._reopen if action == "reopen" else partial(self.form.attend, action))

    def _reopen(self) -> None:
        """Open the layer's file again with zenhance's reader, and choose the new layer."""
        viewer, layer = self._viewer(), self.form.layer
        if viewer is not None and layer is not None:
            opened = viewer.open(layer.source.path, plugin="zenhance")
            self.form.source.choose(opened[0])

    def _resample(self) -> None:
        """Make a layer on the voxels of the model's training, and choose it."""
        layer, axes, request = self.form.layer, self.form.axes, self.request()
        voxel_um = self.form.voxel_um()
        trained_um = trained_voxel_um(request) or voxel_um
        name = f"{layer.name} (voxels of the model)"
        look = {"colormap": layer.colormap.name, "contrast_limits": layer.contrast_limits}
        self._start(
            lambda _: resample_steps(layer, axes, voxel_um, trained_um),
            lambda outcome: self._resampled(outcome, name, look),
        )

    def _resampled(self, outcome: Outcome, name: str, look: dict[str, Any]) -> None:
        viewer = self._viewer()
        value = self._settled(outcome) if isalive(self) else None
        if viewer is not None and value is not None:
            data, keywords = value
            self.form.source.choose(viewer.add_image(data, name=name, **keywords, **look))

    # ------------------------------------------------------------------ runs

    def cancel(self) -> None:
        """Ask the run to stop."""
        if self._task is not None:
            self._task.cancel()
            self.panel.say("cancelling…")

    def start_enhance(self) -> None:
        """Start a run on the chosen layer; a click during a run does nothing."""
        if not self.running and self._may_enhance():
            self.begin(self._begin_enhance)

    def _may_enhance(self) -> bool:
        layer = self.form.layer
        return (
            layer is None
            or not is_result(layer)
            or self.ask(
                f'The layer "{layer.name}" is already a result of zenhance. Enhance it once more? '
                "Enhancing twice can turn noise into structure; choose the original layer instead "
                "if you only want other settings."
            )
        )

    def start_preview(self) -> None:
        """Enhance only what is in view."""
        if not self.running:
            self.begin(self._begin_preview)

    def start_advice(self) -> None:
        """Measure the layer and choose a method for it."""
        if not self.running:
            self.begin(self._begin_advice)

    def _begin_advice(self) -> None:
        snapshot, request = self._snapshot()
        self._start(
            lambda cancel: advice_steps(snapshot, request, cancel),
            lambda outcome: self._advised(outcome, snapshot),
        )

    def _advised(self, outcome: Outcome, snapshot: Snapshot) -> None:
        if isalive(self):
            advice = self._settled(outcome)
            snapshot.release()
            if advice is not None:
                self.panel.say(follow(self.form, advice))

    def start_comparison(self) -> None:
        """Run all methods on what is in view and show them on one sheet."""
        if not self.running:
            self.begin(self._begin_comparison)

    def _begin_comparison(self) -> None:
        snapshot, request = self._snapshot()
        view = current_view(self._viewer(), self.form.layer, snapshot.axes)
        self._start(
            lambda cancel: compare_view_steps(snapshot, request, view, cancel),
            lambda outcome: self._compared(outcome, snapshot),
        )

    def _compared(self, outcome: Outcome, snapshot: Snapshot) -> None:
        if not isalive(self):
            return
        value = self._settled(outcome)
        layer = snapshot.layer
        snapshot.release()
        if value is None:
            return
        found, pictures = value
        sheet = CompareSheet(found, pictures, self)
        sheet.chosen.connect(partial(self._run_compared, layer))
        sheet.destroyed.connect(self._forget_sheet)
        self.sheet = sheet
        self.panel.say("the methods are compared in a window of their own")
        sheet.show()

    def _forget_sheet(self, *_: Any) -> None:
        self.sheet = None

    def _run_compared(self, layer: weakref.ref[Any], request: EnhanceRequest) -> None:
        """Run a method of the sheet on the whole of the layer that was compared."""
        compared = layer()
        if compared is None or self.running:
            return
        self.form.source.choose(compared)
        if self.guarded(lambda: self.show_request(request)):
            self.start_enhance()

    def _snapshot(self) -> tuple[Snapshot, EnhanceRequest]:
        request = self.request()
        layer, axes, viewer = self.form.layer, self.form.axes, self._viewer()
        given = zip("ZYX", request.voxel_size_um or (), strict=False)
        typed = {axis: v for axis, v in given if v is not None and axis in axes}
        with same_view(viewer, layer):
            moved = bool(typed) and set_voxel_size(layer, axes, typed)
        if moved:
            show_info(
                f'the layer "{layer.name}" now has the voxel size you typed, '
                "so that it and the result overlap"
            )
        return Snapshot(layer, self.form.facts_now(), axes), request

    def _begin_enhance(self) -> None:
        snapshot, request = self._snapshot()
        _write_choices(self._choices)
        planned, gone = self.estimate.planned_key, self._gone
        self.learning_preview.begin()
        self._start(
            lambda cancel: _run_steps(snapshot, request, cancel, gone),
            lambda outcome: self._ended(outcome, snapshot, request, planned),
            lambda value: keep_later(result_entries(snapshot, request, value[0])),
            lambda progress: self._show_progress(progress, snapshot.look.name),
        )

    def _show_progress(self, progress: Progress, name: str) -> None:
        """Show how far the run is and, while it learns, the network's present output."""
        self.panel.show_progress(progress)
        if isinstance(progress, LearningProgress):
            self.learning_preview.show(progress.preview, name)

    def _begin_preview(self) -> None:
        snapshot, request = self._snapshot()
        view = current_view(self._viewer(), self.form.layer, snapshot.axes)
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
        self._start(steps, lambda outcome: self._previewed(outcome, snapshot, request, at))

    def _start(
        self,
        make_steps: Callable[[threading.Event], Steps],
        done: Callable[[Outcome], None],
        orphan: Callable[[Any], object] | None = None,
        show: Callable[[Progress], None] | None = None,
    ) -> None:
        self.verdict.clear()
        self.estimate.hold(True)
        self.form.microscope.hold(True)
        self.advice.hold(True)
        self.start_task(
            Task(
                make_steps,
                on_progress=show or self.panel.show_progress,
                on_outcome=done,
                on_finished=self.task_ended,
                on_orphan=orphan,
            )
        )

    def _watch(self, task: Task) -> None:
        """Cancel a measurement with its window, like a run."""
        self._watch_window()
        self._tasks.add(task)

    def task_ended(self) -> None:
        """Enable the buttons and the plan again."""
        super().task_ended()
        if isalive(self):
            self.estimate.hold(False)
            self.form.microscope.hold(False)
            self.advice.hold(False)

    def _settled(self, outcome: Outcome) -> Any:
        """Return the result, or say why there is none."""
        if outcome.cancelled:
            self.panel.say("cancelled; the original is unchanged")
        elif outcome.failure:
            self.report(outcome.failure)
        return outcome.value

    def _ended(
        self, outcome: Outcome, snapshot: Snapshot, request: EnhanceRequest, planned: str
    ) -> None:
        viewer = self._viewer()
        if viewer is None or not isalive(self):
            if outcome.value is not None:
                keep_later(result_entries(snapshot, request, outcome.value[0]))
            return
        value: tuple[EnhanceResult, str] | None = self._settled(outcome)
        if request.learn_minutes is not None:
            self.learning_preview.end()
            # A model is kept as soon as it is learnt, even if the run did not finish.
            model_signals().saved.emit("")
        notice = snapshot.notice(viewer.layers)
        if value is None:
            snapshot.release()
            return
        result, remark = value
        self.estimate.remember_time(planned, result.provenance.seconds)
        self._drop_preview(viewer)
        self.before_after.views.off()
        layer = add_results(viewer, snapshot, request, result)[0]
        self.verdict.judge(self._viewer, snapshot, request, result, layer, self._watch)
        snapshot.release()
        said = (notice, *map(in_dock_words, result.provenance.warnings))
        warnings = [text for text in said if text]
        made = f'"{layer.name}" made in {result.provenance.seconds:.1f} s'
        self.panel.say("\n".join([made, *_remarks(result, remark), *warnings]))
        if warnings:
            show_warning("; ".join(warnings))

    def _previewed(
        self, outcome: Outcome, snapshot: Snapshot, request: EnhanceRequest, at: dict[str, int]
    ) -> None:
        viewer = self._viewer()
        if viewer is None or not isalive(self):
            return
        result: EnhanceResult | None = self._settled(outcome)
        snapshot.release()
        if result is None:
            return
        self._drop_preview(viewer)
        self.before_after.views.off()
        self._preview_layer = weakref.ref(add_preview(viewer, snapshot, result, at))
        made = f"preview made in {result.provenance.seconds:.1f} s; Enhance runs the whole layer"
        remark = result.provenance.notes.get(REMARK)
        self.panel.say("\n".join(text for text in (made, remark) if text))

    def _drop_preview(self, viewer: Any) -> None:
        layer = None if self._preview_layer is None else self._preview_layer()
        if layer is not None and layer in viewer.layers:
            viewer.layers.remove(layer)
        self._preview_layer = None


def _remarks(result: EnhanceResult, range_text: str) -> list[str]:
    """Return what to know about a result besides its warnings."""
    notes = result.provenance.notes
    said = [range_text, str(notes.get(REMARK) or "")]
    if learnt := notes.get("learnt"):
        said.insert(
            0,
            f'the trained model is kept as "{learnt["model"]}"; '
            "choose it under weights to use it without learning",
        )
    if any(result.samples(name) for name in result.extras):
        said.append("the samples are in a hidden layer; Animate samples shows them in turn")
    return [text for text in said if text]


def _write_choices(choices: dict[str, Any], *_: Any) -> None:
    if choices:
        write_lasting(_NAME, choices)
