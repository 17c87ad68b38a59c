"""The verdict beside a result: light, sentence, places, report, probes, the text for a paper.

A result is judged right after its run by a part of the measurement, in a task of its own, so that
stopping it keeps the result.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from qtpy.compat import isalive
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices, QGuiApplication
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from zenhance.pipeline import EnhanceRequest, EnhanceResult, Progress
from zenhance.plugin.dock_words import in_dock_words
from zenhance.plugin.layer_bridge import layer_tuple
from zenhance.plugin.panels import Message
from zenhance.plugin.snapshot import Snapshot
from zenhance.plugin.task import Outcome, Steps, Task
from zenhance.provenance import METADATA_KEY
from zenhance.stack import Stack

if TYPE_CHECKING:
    from zenhance.pipeline.judging import Judged
    from zenhance.pipeline.probing import ProbeReport

__all__ = ["VerdictPanel"]

COLOURS = {"green": "#3fa34d", "amber": "#e09000", "red": "#d9534f"}
MAP_COLORMAP = "PiYG"
PROBE_TIP = (
    "plant weak structures into the measurement, enhance it again and count what comes back; takes "
    "about eight runs of a small part"
)


def _steps(
    raw: Stack, result: EnhanceResult, request: EnhanceRequest, cancel: threading.Event
) -> Steps:
    """Judge in the worker; the judge is imported there, not when the dock opens."""
    from zenhance.pipeline.judging import judge_steps

    return (yield from judge_steps(raw, result, request, cancel))


def _probe_steps(judged: Judged, cancel: threading.Event) -> Steps:
    from zenhance.pipeline.probing import probe_judged_steps

    return (yield from probe_judged_steps(judged, cancel))


def _open_page(name: str, text: str) -> None:
    """Write a page into a new folder and open it in the browser."""
    from zenhance.io.commit import write_bytes

    path = Path(tempfile.mkdtemp(prefix="zenhance-report-")) / f"{name}.html"
    write_bytes(path, text.encode("utf-8"))
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))


class VerdictPanel(QWidget):
    """Judges results of the Enhance dock and shows the verdict on the last one.

    Parameters
    ----------
    parent : QWidget
        The dock.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.switch = QCheckBox("judge each result by its measurement", self)
        self.switch.setChecked(True)
        self.switch.setToolTip(
            "after each run, a part of the result is blurred again and compared with the "
            "measurement; takes about 10 s"
        )
        self.line = Message(self)
        self.where = QPushButton("Show where", self)
        self.where.setCheckable(True)
        self.where.setToolTip("show or hide the layer of places that disagree with the measurement")
        self.report = QPushButton("Report", self)
        self.report.setToolTip("open the report in the browser")
        self.probe = QPushButton("Probe", self)
        self.probe.setToolTip(PROBE_TIP)
        self.paragraph = QPushButton("Methods paragraph", self)
        self.paragraph.setToolTip("copy a paragraph for the Methods section of a paper")
        self.stop = QPushButton("Stop", self)
        self.stop.setToolTip("stop the check or the probes; the result stays")
        buttons = QHBoxLayout()
        for button in (self.where, self.report, self.probe, self.paragraph, self.stop):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.line)
        self.probe_line = Message(self)
        column.addLayout(buttons)
        column.addWidget(self.probe_line)
        column.addWidget(self.switch)
        self.judged: Judged | None = None
        self.probed: ProbeReport | None = None
        self._watch: Callable[[Task], None] = lambda _: None
        self._task: Task | None = None
        self._map: weakref.ref[Any] | None = None
        self.where.toggled.connect(self._show_map)
        self.report.clicked.connect(self._open_report)
        self.probe.clicked.connect(self._probe_clicked)
        self.paragraph.clicked.connect(self._copy_paragraph)
        self.stop.clicked.connect(self.cancel)
        self._arrange()

    @property
    def running(self) -> bool:
        """Whether a result is being judged."""
        return self._task is not None and self._task.running

    def clear(self) -> None:
        """Forget the verdict on an earlier result, and stop judging."""
        self.cancel()
        self.judged, self.probed, self._map = None, None, None
        self.line.say("")
        self.probe_line.say("")
        self._arrange()

    def cancel(self) -> None:
        """Stop judging; the result stays."""
        if self._task is not None:
            self._task.cancel()

    def judge(
        self,
        viewer: Callable[[], Any],
        snapshot: Snapshot,
        request: EnhanceRequest,
        result: EnhanceResult,
        layer: Any,
        watch: Callable[[Task], None],
    ) -> None:
        """Start judging a result, unless the switch is off.

        Parameters
        ----------
        viewer : callable
            Returns the viewer that gets the layer of places, or None if it is closed.
        snapshot : Snapshot
            Of the original; its pixels are kept until the verdict is there.
        request, result : EnhanceRequest, EnhanceResult
            Of the run.
        layer : napari.layers.Image
            The result's layer, whose record gets the verdict.
        watch : callable
            Takes the task, to be cancelled with the window.
        """
        self.clear()
        if not self.switch.isChecked():
            return
        raw, shown = snapshot.stack(), weakref.ref(layer)
        self._task = Task(
            lambda cancel: _steps(raw, result, request, cancel),
            on_progress=self._progressed,
            on_outcome=lambda outcome: self._ended(outcome, viewer, snapshot, shown),
            on_finished=self._arrange,
        )
        self._watch = watch
        watch(self._task)
        self.line.say("judging the result by its measurement…")
        self._arrange()
        self._task.start()

    def _progressed(self, progress: Progress) -> None:
        self.line.say(f"{progress.message}…")

    def _arrange(self) -> None:
        """Show the buttons that can be used now."""
        if not isalive(self):
            return
        there = self.judged is not None
        for button in (self.where, self.report, self.probe, self.paragraph):
            button.setVisible(there)
        self.probe.setEnabled(not self.running)
        self.probe.setText("Probe" if self.probed is None else "Probe report")
        self.where.setEnabled(self._map is not None)
        self.stop.setVisible(self.running)

    def _ended(
        self,
        outcome: Outcome,
        viewer: Callable[[], Any],
        snapshot: Snapshot,
        shown: weakref.ref[Any],
    ) -> None:
        if not isalive(self):
            return
        if outcome.value is None:
            why = outcome.failure or "stopped"
            self.line.say(f"not judged: {in_dock_words(why)}")
            return
        judged: Judged = outcome.value
        self.judged = judged
        found = judged.assessment
        self.line.say(f"● {found.verdict}: {in_dock_words(found.headline)}")
        self.line.label.setStyleSheet(f"color: {COLOURS[found.verdict]};")
        self.line.setToolTip("\n".join(found.sentences))
        layer = shown()
        if layer is not None:
            layer.metadata[METADATA_KEY] = judged.provenance.model_dump(mode="json")
        if viewer() is not None:
            self._add_map(viewer(), snapshot, layer)
        self._arrange()

    def _add_map(self, viewer: Any, snapshot: Snapshot, result: Any) -> None:
        """Add the z-map at its place, hidden, below the result."""
        judged = self.judged
        if judged is None or judged.assessment.z_map is None or judged.assessment.reblur is None:
            return
        z_map, region = judged.assessment.z_map, judged.region
        crop = judged.provenance.request.get("crop") or [[0, None]] * 3
        starts = {
            axis: part.start + int(first[0] or 0)
            for axis, part, first in zip("ZYX", region, crop, strict=True)
        }
        starts |= {"T": judged.assessment.time_point}
        sizes = {axis: z_map.size(axis) for axis in z_map.axes}
        data, keywords, kind = layer_tuple(
            z_map, None, snapshot.axes, sizes, snapshot.placement, snapshot.look,
            f"{snapshot.look.name} · where it disagrees", starts,
        )  # fmt: skip
        limit = 2.0 * judged.assessment.reblur.threshold_z
        keywords |= {
            "visible": False,
            "colormap": MAP_COLORMAP,
            "contrast_limits": (-limit, limit),
            "blending": "translucent",
            "opacity": 0.6,
        }
        active = viewer.layers.selection.active
        added = viewer.add_layer(Layer.create(data, keywords, kind))
        if result is not None and result in viewer.layers:
            viewer.layers.selection.active = active
        self._map = weakref.ref(added)

    def _show_map(self, shown: bool) -> None:
        layer = None if self._map is None else self._map()
        if layer is not None:
            layer.visible = shown
        self.where.setText("Hide" if shown else "Show where")

    def _open_report(self) -> None:
        if self.judged is None:
            return
        from zenhance.assess.report import render_report

        text = render_report(
            self.judged.assessment,
            self.judged.raw,
            self.judged.result,
            provenance=self.judged.provenance,
        )
        _open_page("report", text)

    def _probe_clicked(self) -> None:
        """Probe the method on the part that was judged; later clicks open what was found."""
        judged = self.judged
        if self.probed is not None:
            _open_page("probes", self.probed.page())
        elif judged is not None and not self.running:
            self._task = Task(
                lambda cancel: _probe_steps(judged, cancel),
                on_progress=lambda p: self.probe_line.say(f"{p.message}… {p.fraction:.0%}"),
                on_outcome=self._probed,
                on_finished=self._arrange,
            )
            self._watch(self._task)
            self.probe_line.say("probing…")
            self._task.start()
            self._arrange()

    def _probed(self, outcome: Outcome) -> None:
        if not isalive(self):
            return
        self.probed = outcome.value
        if self.probed is None:
            self.probe_line.say(f"not probed: {in_dock_words(outcome.failure or 'stopped')}")
            return
        self.probe_line.say("\n".join(self.probed.sentences))
        head, rows = self.probed.table()
        self.probe_line.setToolTip("\n".join(" · ".join(row) for row in (head, *rows)))

    def _copy_paragraph(self) -> None:
        from zenhance.pipeline.methods_paragraph import methods_paragraph

        if self.judged is not None:
            QGuiApplication.clipboard().setText(methods_paragraph(self.judged.provenance))
            self.paragraph.setText("copied")
