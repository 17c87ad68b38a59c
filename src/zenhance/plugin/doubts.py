"""What to check before a run, in colour, each sentence with a button that does what it advises."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget
from scipy import ndimage

from zenhance.contract import registry
from zenhance.errors import CheckpointError
from zenhance.models.catalogue import find_weights
from zenhance.models.header import read_card
from zenhance.physics.profile import MicroscopeProfile
from zenhance.pipeline import EnhanceRequest, Progress, RunPlan
from zenhance.pipeline.request import NO_WEIGHTS
from zenhance.pipeline.result import input_warnings
from zenhance.plugin.dock_words import in_dock_words
from zenhance.plugin.layer_bridge import LayerFacts, level_zero
from zenhance.plugin.panels import Message
from zenhance.plugin.placement import Placement
from zenhance.plugin.task import Steps
from zenhance.types import FloatTriple

__all__ = ["AMBER", "Doubt", "DoubtList", "doubts_of", "resample_steps", "trained_voxel_um"]

AMBER = "#e09000"
MAX_SHOWN = 2
MIN_PLANES = 8
"""Fewer planes have no blur along z to measure."""
READER = "zenhance"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A sentence, and what its button says and does.

    Parameters
    ----------
    text, button : str
        For people.
    action : str
        ``reopen``, ``voxel``, ``psf``, ``measure``, ``learn`` or ``resample``.
    """

    text: str
    button: str
    action: str


def doubts_of(
    layer: Any,
    facts: LayerFacts,
    request: EnhanceRequest,
    plan: RunPlan | None,
    profile: MicroscopeProfile | None,
) -> tuple[Doubt, ...]:
    """Return what is doubtful about a run, the most serious first.

    Parameters
    ----------
    layer : napari.layers.Image
        To be enhanced.
    facts : LayerFacts
        Of the layer.
    request : EnhanceRequest
        As the form shows it.
    plan : RunPlan or None
        As soon as there is one: the voxel size as it is read, and the PSF.
    profile : MicroscopeProfile or None
        Of the layer, where it was measured.
    """
    typed = request.voxel_size_um or (None, None, None)
    axes = request.axes or facts.axes
    lengths = {
        axis: own if own is not None else told
        for axis, own, told in zip("ZYX", typed, facts.voxel_size.zyx_um, strict=True)
        if axis in axes
    }
    if None in lengths.values():
        return (_unknown_voxel(layer),)
    found = []
    if plan is not None:
        found += [
            Doubt(f"{text[:1].upper()}{text[1:]}.", "Type it", "voxel")
            for text in input_warnings(plan)
            if text.startswith("voxel size")
        ]
    voxel_um = tuple(lengths.get(axis) or 1.0 for axis in "ZYX")
    model = _foreign_model(request, voxel_um)  # type: ignore[arg-type]
    return (*found, *model, *_default_psf(request, plan, profile))


def _unknown_voxel(layer: Any) -> Doubt:
    source = getattr(layer, "source", None)
    if source is not None and source.path and source.reader_plugin not in (None, READER):
        return Doubt(
            f"The voxel size is unknown: {source.reader_plugin} does not read it from the file.",
            "Reopen with zenhance",
            "reopen",
        )
    return Doubt("The voxel size is unknown; blur and depth follow from it.", "Type it", "voxel")


def trained_voxel_um(request: EnhanceRequest) -> FloatTriple | None:
    """Return the voxel size on which the request's model was trained; None for any or no model."""
    spec = registry.load(request.method).spec
    if spec.learns == "no" or request.weights == NO_WEIGHTS:
        return None
    try:
        card = read_card(
            find_weights(request.method, request.weights, request.parameters().weights)
        )
    except CheckpointError:
        return None
    return card.voxel_size_um


def _foreign_model(request: EnhanceRequest, voxel_um: FloatTriple) -> tuple[Doubt, ...]:
    trained = trained_voxel_um(request)
    if trained is None or request.learn_minutes is not None or _alike(voxel_um, trained):
        return ()
    sizes = " × ".join(f"{v:.3g}" for v in trained)
    text = f"The model was trained on voxels of {sizes} µm, which are unlike those of this layer."
    if registry.load(request.method).spec.learns == "own_stack":
        return (Doubt(text, "Learn first", "learn"),)
    return (Doubt(text, "Resample", "resample"),)


def _alike(voxel_um: FloatTriple, trained_um: FloatTriple) -> bool:
    # Later, since the advice imports torch.
    from zenhance.pipeline.advice import alike

    return alike(voxel_um, trained_um)


def _default_psf(
    request: EnhanceRequest, plan: RunPlan | None, profile: MicroscopeProfile | None
) -> tuple[Doubt, ...]:
    if plan is None or plan.psf is None or not request.needs_psf():
        return ()
    if all(value.origin != "default" for value in plan.psf.values):
        return ()
    taken = request.needs_blur_by_depth or request.needs_profile
    if taken and profile is not None and profile.blur_is_measured:
        return ()
    text = "The point spread function is a default, so no verdict can be green."
    if "Z" in plan.stack.axes and plan.stack.volume_shape[0] >= MIN_PLANES:
        return (Doubt(text, "Measure", "measure"),)
    return (Doubt(text, "Type it", "psf"),)


def resample_steps(layer: Any, axes: str, voxel_um: FloatTriple, trained_um: FloatTriple) -> Steps:
    """Return pixels and keywords of a layer on other voxels, at the same place.

    Parameters
    ----------
    layer : napari.layers.Image
        Its finest level is interpolated linearly.
    axes : str
        A letter per dimension.
    voxel_um, trained_um : tuple of float
        (z, y, x) of the layer, and of the voxels wanted.
    """
    yield Progress("resample", 0.0, None, "resampling the layer")
    data = level_zero(layer)
    ratios = dict(zip("ZYX", np.divide(voxel_um, trained_um), strict=True))
    shape = {
        axis: max(1, round(size * float(ratios.get(axis, 1.0))))
        for axis, size in zip(axes, data.shape, strict=True)
    }
    factors = {axis: shape[axis] / size for axis, size in zip(axes, data.shape, strict=True)}
    finer = ndimage.zoom(
        np.asarray(data), [factors[axis] for axis in axes], order=1, mode="nearest", grid_mode=True
    )
    placement = Placement.of_layer(layer, axes).resized(factors)
    return finer, placement.keywords()


class DoubtList(QWidget):
    """The first doubts, each with its button; the others as a number.

    Parameters
    ----------
    parent : QWidget
        The dock.
    """

    wanted = Signal(str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(3)
        self.doubts: tuple[Doubt, ...] = ()
        self.rows: list[tuple[Message, QPushButton]] = []
        for _ in range(MAX_SHOWN):
            line, button = Message(self), QPushButton(self)
            button.setToolTip("do what the sentence advises")
            row = QHBoxLayout()
            row.addWidget(line, 1)
            row.addWidget(button)
            self._column.addLayout(row)
            self.rows.append((line, button))
        for number, (_, button) in enumerate(self.rows):
            button.clicked.connect(partial(self._clicked, number))
        self.show_doubts(())

    def show_doubts(self, doubts: tuple[Doubt, ...]) -> None:
        """Show doubts in place of the former ones."""
        self.doubts = doubts
        self.setVisible(bool(doubts))
        for number, (line, button) in enumerate(self.rows):
            doubt = doubts[number] if number < len(doubts) else None
            button.setVisible(doubt is not None)
            line.say("" if doubt is None else in_dock_words(doubt.text))
            line.label.setStyleSheet(f"color: {AMBER};")
            if doubt is not None:
                button.setText(doubt.button)
                button.setToolTip(_TIPS[doubt.action])

    def _clicked(self, number: int, *_: Any) -> None:
        if number < len(self.doubts):
            self.wanted.emit(self.doubts[number].action)


_TIPS = {
    "reopen": "open the file again with the reader of zenhance, which keeps the voxel size",
    "voxel": "show the field of the voxel size",
    "psf": "show the fields of the point spread function",
    "measure": "measure blur, light and noise by depth on this layer and use them",
    "learn": "learn from this layer before enhancing it",
    "resample": "make a layer with the voxels of the training and choose it",
}
