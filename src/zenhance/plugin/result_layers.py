"""Add a result to the viewer in which its run was started, at the place of the original.

Of a result with several samples, an animation shows one after the other: what they share stays
still, what flickers is not supported by the data.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Layer
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from zenhance.contract import registry
from zenhance.contract.spec import STD
from zenhance.errors import ZenhanceError
from zenhance.pipeline import EnhanceRequest, EnhanceResult, Progress
from zenhance.plugin.layer_bridge import layer_tuple, read_facts
from zenhance.plugin.snapshot import Snapshot
from zenhance.provenance import METADATA_KEY, SAMPLES_AXIS, Provenance, sample_count
from zenhance.stack import Stack

__all__ = [
    "FRAMES_PER_SECOND",
    "SamplePlayer",
    "add_preview",
    "add_results",
    "range_remark",
    "result_entries",
    "sample_axis",
    "title_of",
]

FRAMES_PER_SECOND = 4


def sample_axis(layer: Any) -> int | None:
    """Return the dimension of a layer that holds its samples, or None if it has no samples.

    Parameters
    ----------
    layer : napari.layers.Layer
        Made by a run, or opened from a result's file; the record decides.
    """
    count = sample_count(layer.metadata.get(METADATA_KEY)) if isinstance(layer, Image) else 0
    if count < 2:
        return None
    try:
        facts = read_facts(layer)
    except ZenhanceError:
        return None
    sizes = dict(zip(facts.axes, facts.shape, strict=True))
    # A layer that was cut out of the samples has their record, but another size.
    return facts.axes.index(SAMPLES_AXIS) if sizes.get(SAMPLES_AXIS) == count else None


class SamplePlayer(QWidget):
    """A button that animates the samples, and a line on how to read them.

    It is shown while the viewer has a layer with samples.

    Parameters
    ----------
    viewer : napari.Viewer
        Kept by weak reference.
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = weakref.ref(viewer)
        self._layer: weakref.ref[Any] | None = None
        self.button = QPushButton("Animate samples", self)
        self.button.setCheckable(True)
        self.button.setToolTip(
            f"show {FRAMES_PER_SECOND} samples a second, one after the other; press again to stop"
        )
        self.line = QLabel("what flickers is not supported by the data", self)
        self.line.setWordWrap(True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.button)
        row.addWidget(self.line, 1)
        self.timer = QTimer(self)
        self.timer.setInterval(1000 // FRAMES_PER_SECOND)
        self.timer.timeout.connect(self._next)
        self.button.toggled.connect(self._toggled)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self.refresh)
        self.refresh()

    @property
    def playing(self) -> bool:
        """Whether the animation is on."""
        return bool(self.timer.isActive())

    @property
    def layer(self) -> Any:
        """The animated layer, or None."""
        return None if self._layer is None else self._layer()

    def _found(self) -> list[Any]:
        viewer = self._viewer()
        return (
            []
            if viewer is None
            else [layer for layer in viewer.layers if sample_axis(layer) is not None]
        )

    def refresh(self, _event: Any = None) -> None:
        """Show the button if there are samples; stop if they are gone."""
        if not isalive(self):
            return
        found = self._found()
        if self.playing and all(layer is not self.layer for layer in found):
            self.stop()
        self.setVisible(bool(found))

    def start(self) -> None:
        """Animate the samples of the selected layer, or the latest ones."""
        self.button.setChecked(True)

    def stop(self) -> None:
        """Stop at the present sample."""
        self.button.setChecked(False)

    def _toggled(self, wanted: bool) -> None:
        if not wanted:
            self.timer.stop()
            self._layer = None
            return
        viewer, found = self._viewer(), self._found()
        if viewer is None or not found:
            self.stop()
            return
        active = viewer.layers.selection.active
        layer = active if any(active is one for one in found) else found[-1]
        layer.visible = True
        self._layer = weakref.ref(layer)
        self.timer.start()

    def _next(self) -> None:
        """Go to the next sample, and from the last to the first."""
        viewer, layer = self._viewer(), self.layer
        axis = None if layer is None else sample_axis(layer)
        if viewer is None or layer is None or axis is None or layer not in viewer.layers:
            self.stop()
            return
        place = list(layer.world_to_data(viewer.dims.point))
        count = sample_count(layer.metadata.get(METADATA_KEY))
        place[axis] = (min(max(round(place[axis]), 0), count - 1) + 1) % count
        viewer.dims.set_point(
            viewer.dims.ndim - layer.ndim + axis, layer.data_to_world(place)[axis]
        )


LayerData = tuple[Any, dict[str, Any], str]
# Perceptually uniform: twice the deviation looks twice as bright.
STD_COLORMAP = "inferno"


def _starts(request: EnhanceRequest) -> dict[str, int]:
    crop = request.crop or ((None, None),) * 3
    return {axis: start or 0 for axis, (start, _) in zip("ZYX", crop, strict=True)}


def title_of(request: EnhanceRequest, provenance: Provenance) -> str:
    """Return method and model in a few letters: ``DQLR``, ``DQLR my_model``."""
    title = registry.load(request.method).spec.title.partition(" (")[0]
    learnt = provenance.notes.get("learnt")
    model = learnt.get("model") if isinstance(learnt, Mapping) else request.weights
    return f"{title} {Path(str(model)).stem}" if model else title


def range_remark(result: EnhanceResult, source: np.dtype[Any]) -> Generator[Progress, None, str]:
    """Say, in the worker, which values of a result the original's pixel type cannot hold.

    Parameters
    ----------
    result : EnhanceResult
    source : numpy.dtype
        Pixel type of the original; only integers have a narrow range.

    Returns
    -------
    str
        Empty if all values fit.
    """
    data = result.stack.data
    if source.kind not in "iu" or np.dtype(data.dtype).kind != "f":
        return ""
    low, high = float(np.iinfo(source).min), float(np.iinfo(source).max)
    least, most, beyond = np.inf, -np.inf, 0
    for index in range(data.shape[0]):
        plane = np.asarray(data[index])
        finite = plane[np.isfinite(plane)]
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
            beyond += int(np.count_nonzero((finite < low - 0.5) | (finite > high + 0.5)))
        yield Progress("check", 1.0, None, "checking the range of the result")
    if not beyond:
        return ""
    share = 100.0 * beyond / int(np.prod(data.shape, dtype=np.int64))
    return (
        f"values {_grey(least)} to {_grey(most)}; {max(share, 0.001):.3g} % of the voxels lie "
        f"outside the {low:.0f} to {high:.0f} that {source.name}, the type of the original, can "
        'hold. The result keeps them as float32; the pixel type "as the input" (More) '
        "clips them"
    )


def _grey(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000.0 else f"{value:.0f}"


def _source_shape(result: EnhanceResult) -> dict[str, int]:
    return dict(zip(result.provenance.input_axes, result.provenance.input_shape, strict=True))


def result_entries(
    snapshot: Snapshot, request: EnhanceRequest, result: EnhanceResult
) -> list[LayerData]:
    """Make the layers of a result, the enhanced one first; safe in any thread."""
    outputs: list[tuple[str, Stack]] = [("", result.stack), *result.extras.items()]
    entries = []
    title = f"{snapshot.look.name} · {title_of(request, result.provenance)}"
    for name, stack in outputs:
        samples = bool(name) and result.samples(name) > 0
        data, keywords, kind = layer_tuple(
            stack,
            result.account(name),
            snapshot.axes,
            _source_shape(result),
            snapshot.placement,
            snapshot.look,
            f"{title} · {stack.name.removeprefix(snapshot.look.name).strip()}" if name else title,
            starts_px=_starts(request),
            samples=samples,
        )
        if name:
            keywords["visible"] = False
        if name == STD:
            keywords |= {
                "colormap": STD_COLORMAP,
                "contrast_limits": _from_zero(stack),
                "blending": "opaque",
            }
        elif samples:
            # The samples keep the original's look, but must not add up with other layers.
            keywords["blending"] = "opaque"
        elif name:
            # The original's contrast does not suit another quantity.
            keywords.pop("contrast_limits", None)
            keywords.pop("colormap", None)
        entries.append((data, keywords, kind))
    return entries


def _from_zero(stack: Stack) -> tuple[float, float]:
    """Return contrast limits from zero to the 99.9th percentile of about two million voxels."""
    step = max(1, int(np.prod(stack.shape, dtype=np.int64)) // 2_000_000)
    values = np.asarray(stack.data).reshape(-1)[::step]
    values = values[np.isfinite(values)]
    high = float(np.percentile(values, 99.9)) if values.size else 0.0
    return (0.0, high if high > 0.0 else 1.0)


def add_results(
    viewer: Any, snapshot: Snapshot, request: EnhanceRequest, result: EnhanceResult
) -> list[Any]:
    """Add the enhanced layer on top, visible, and the method's further outputs, hidden.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer in which the run was started.
    snapshot : Snapshot
        Of the layer at the start.
    request : EnhanceRequest
        The run's request.
    result : EnhanceResult
        The run's result.

    Returns
    -------
    list of napari.layers.Image
        The enhanced layer first.
    """
    entries = result_entries(snapshot, request, result)
    # The enhanced image is added last: the newest result is on top, and selected.
    added = [viewer.add_layer(Layer.create(*entry)) for entry in reversed(entries)][::-1]
    viewer.layers.selection.active = added[0]
    for layer in added[1:]:
        if sample_axis(layer) is not None:
            # The original may have no contrast limits: a colour image.
            layer.contrast_limits = added[0].contrast_limits
    source = snapshot.layer()
    if source is not None and snapshot.look.keywords.get("blending") == "additive":
        # Blended additively, the viewer would show the sum of original and result.
        source.visible = False
    return added


def add_preview(
    viewer: Any, snapshot: Snapshot, result: EnhanceResult, view: Mapping[str, int]
) -> Any:
    """Add a preview on top: one plane of a field, at its place in the original.

    Parameters
    ----------
    view : mapping
        Index of the plane (``Z``), time point (``T``) and channel (``C``) in view.
    """
    crop = result.provenance.request["crop"]
    starts = {axis: int(start or 0) for axis, (start, _) in zip("ZYX", crop, strict=True)} | dict(
        view
    )
    shape = _source_shape(result) | {"Z": 1}
    data, keywords, kind = layer_tuple(
        result.stack,
        result.provenance,
        snapshot.axes,
        shape,
        snapshot.placement,
        snapshot.look,
        f"{snapshot.look.name} preview",
        starts,
    )
    keywords["blending"] = "opaque"
    return viewer.add_layer(Layer.create(data, keywords, kind))
