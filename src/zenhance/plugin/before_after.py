"""Before and after in the canvas: a curtain, a key that flips, side by side, and an xz view.

The curtain shows the original on the left and the result on the right of a line::

    layers, bottom to top:  original | result (hidden) | curtain = result[..., line:]

It is a layer of its own, since napari clips images by planes in a 3-D view only; its pixels are a
view of the result's. Whatever a view changes is as before when it is switched off.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from napari.layers import Image
from napari.utils.notifications import show_info
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QPushButton, QSlider, QWidget

from zenhance.plugin.layer_bridge import is_result, level_zero
from zenhance.plugin.placement import Placement
from zenhance.plugin.train_preview import PREVIEW_KEY
from zenhance.provenance import METADATA_KEY

__all__ = ["FLIP_KEY", "BeforeAfterPanel", "Views", "find_pair", "views_of"]

FLIP_KEY = "B"
CURTAIN_STEPS = 1000
LOOK = ("contrast_limits", "gamma", "colormap")
CURTAIN, SIDE, XZ = "curtain", "side by side", "xz"
NO_PAIR = "there is no result with its original in this viewer; enhance a layer first"


def _is_main_result(layer: Any) -> bool:
    """Tell whether a layer is the enhanced image of a run, and none of its further outputs."""
    if not isinstance(layer, Image) or not is_result(layer) or layer.metadata.get(PREVIEW_KEY):
        return False
    return "output" not in layer.metadata[METADATA_KEY].get("notes", {})


def find_pair(viewer: Any) -> tuple[Any, Any] | None:
    """Return original and result: the selected result, or the topmost one; None without a pair."""
    layers = list(viewer.layers)
    active = viewer.layers.selection.active
    results = [layer for layer in layers if _is_main_result(layer)]
    results.sort(key=lambda layer: layer is active)
    for result in reversed(results):
        named = [
            layer
            for layer in layers
            if isinstance(layer, Image) and result.name.startswith(f"{layer.name} · ")
        ]
        below = [
            layer
            for layer in layers[: layers.index(result)]
            if isinstance(layer, Image) and not is_result(layer)
        ]
        if named or below:
            return max(named, key=lambda layer: len(layer.name)) if named else below[-1], result
    return None


def _alone(viewer: Any, *shown: Any) -> Callable[[], None]:
    """Show these layers alone; return what shows all as before."""
    before = [(weakref.ref(layer), layer.visible) for layer in viewer.layers]
    for layer in viewer.layers:
        layer.visible = any(layer is one for one in shown)

    def restore() -> None:
        for reference, visible in before:
            layer = reference()
            if layer is not None:
                layer.visible = visible

    return restore


class Views:
    """The views of one viewer; each is switched on and off by its name.

    Parameters
    ----------
    viewer : napari.Viewer
        Kept by weak reference.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(viewer)
        self._undo: dict[str, Callable[[], None]] = {}
        self._curtain: tuple[weakref.ref[Any], weakref.ref[Any]] | None = None
        self.share = 0.5
        self.changed: Callable[[], None] = lambda: None
        viewer.layers.events.removed.connect(self._removed)

    def is_on(self, name: str) -> bool:
        """Tell whether a view is on."""
        return name in self._undo

    def switch(self, name: str, on: bool) -> None:
        """Switch a view on or off; curtain and side by side exclude each other."""
        viewer = self._viewer()
        if viewer is None or on == self.is_on(name):
            return
        if not on:
            self._undo.pop(name)()
        elif name == XZ:
            self._undo[XZ] = _xz(viewer)
        else:
            self.off()
            pair = find_pair(viewer)
            if pair is None:
                show_info(NO_PAIR)
            else:
                start = self._start_curtain if name == CURTAIN else _side_by_side
                self._undo[name] = start(viewer, *pair)
        self.changed()

    def off(self) -> None:
        """Switch curtain and side by side off."""
        for name in (CURTAIN, SIDE):
            self.switch(name, on=False)

    def flip(self) -> None:
        """Show the original in place of the result, and the other way round."""
        viewer = self._viewer()
        pair = None if viewer is None else find_pair(viewer)
        if pair is None:
            show_info(NO_PAIR)
            return
        self.off()
        original, result = pair
        result.visible = not result.visible
        # Blended additively, original and result would add up.
        original.visible = not result.visible or original.blending != "additive"

    def move(self, share: float) -> None:
        """Move the curtain's line to a share of the width, 0 (left) to 1."""
        self.share = share
        viewer = self._viewer()
        if viewer is None or self._curtain is None:
            return
        result, curtain = (reference() for reference in self._curtain)
        if result is None or curtain is None:
            return
        axis = viewer.dims.displayed[-1] - (viewer.dims.ndim - result.ndim)
        data = level_zero(result)
        size = data.shape[axis]
        first = min(round(share * size), size - 1)
        placement = Placement.of_layer(result, "TCZYX"[-result.ndim :])
        moved = placement.cropped({placement.axes[axis]: first})
        curtain.data = data[(slice(None),) * axis + (slice(first, None),)]
        curtain.translate = moved.translate
        curtain.visible = share < 1.0

    def _start_curtain(self, viewer: Any, original: Any, result: Any) -> Callable[[], None]:
        active = viewer.layers.selection.active
        placed = {
            name: getattr(result, name)
            for name in ("scale", "rotate", "shear", "affine", "units", "axis_labels", *LOOK)
        }
        curtain = Image(
            level_zero(result),
            name=f"{result.name} (curtain)",
            translate=result.translate,
            metadata={PREVIEW_KEY: True},
            blending="opaque",
            interpolation2d=result.interpolation2d,
            rendering=result.rendering,
            **placed,
        )
        restore = _alone(viewer, original)
        viewer.add_layer(curtain)
        viewer.layers.link_layers([result, curtain], LOOK)
        viewer.layers.selection.active = active
        self._curtain = (weakref.ref(result), weakref.ref(curtain))
        viewer.dims.events.order.connect(self._turned)
        self.move(self.share)
        return partial(self._end_curtain, restore)

    def _end_curtain(self, restore: Callable[[], None]) -> None:
        viewer = self._viewer()
        curtain = None if self._curtain is None else self._curtain[1]()
        self._curtain = None
        if viewer is None:
            return
        viewer.dims.events.order.disconnect(self._turned)
        if curtain is not None and curtain in viewer.layers:
            viewer.layers.remove(curtain)
        restore()

    def _turned(self, _event: Any = None) -> None:
        self.move(self.share)

    def _removed(self, event: Any) -> None:
        """End the views when original or result is removed."""
        viewer = self._viewer()
        curtain = None if self._curtain is None else self._curtain[1]()
        if event.value is not curtain and (viewer is None or find_pair(viewer) is None):
            self.off()


def _side_by_side(viewer: Any, original: Any, result: Any) -> Callable[[], None]:
    """Show original and result beside each other, with one camera, contrast and slider."""
    # Since napari 0.9 the grid belongs to the canvas.
    grid = getattr(viewer, "canvas", viewer).grid
    before = (grid.shape, grid.stride, grid.enabled)
    show = _alone(viewer, original, result)
    look = tuple(name for name in LOOK if getattr(original, "rgb", False) is False)
    if look:
        viewer.layers.link_layers([original, result], look)
    grid.shape, grid.stride, grid.enabled = (1, 2), 1, True
    viewer.reset_view()
    pair, shown_in = (weakref.ref(original), weakref.ref(result)), weakref.ref(viewer)

    def restore() -> None:
        viewer = shown_in()
        if viewer is None:
            return
        grid = getattr(viewer, "canvas", viewer).grid
        grid.shape, grid.stride, grid.enabled = before
        layers = [layer for layer in (one() for one in pair) if layer is not None]
        viewer.layers.unlink_layers(layers, look)
        show()
        viewer.reset_view()

    return restore


def _xz(viewer: Any) -> Callable[[], None]:
    """Show the stack from the side: z downwards, x to the right, a slider along y."""
    dims, camera = viewer.dims, getattr(viewer, "scene", viewer).camera
    order, ndisplay = dims.order, dims.ndisplay
    centre, zoom, shown_in = camera.center, camera.zoom, weakref.ref(viewer)
    dims.ndisplay = 2
    if dims.ndim >= 3:
        *others, z, y, x = sorted(order)
        dims.order = (*others, y, z, x)
    viewer.reset_view()

    def restore() -> None:
        viewer = shown_in()
        if viewer is None:
            return
        if len(order) == viewer.dims.ndim:
            viewer.dims.order = order
        viewer.dims.ndisplay = ndisplay
        camera = getattr(viewer, "scene", viewer).camera
        camera.center, camera.zoom = centre, zoom

    return restore


# By the viewer's identity: viewers are not hashable.
_VIEWS: dict[int, Views] = {}


def views_of(viewer: Any) -> Views:
    """Return the views of a viewer."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    if id(viewer) not in _VIEWS:
        _VIEWS[id(viewer)] = Views(viewer)
        weakref.finalize(viewer, _VIEWS.pop, id(viewer), None)
    return _VIEWS[id(viewer)]


def _flip_key(viewer: Any) -> None:
    views_of(viewer).flip()


def _toggle(name: str) -> None:
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        views = views_of(viewer)
        views.switch(name, on=not views.is_on(name))


def flip_command() -> None:
    """Flip original and result; in the command palette."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        views_of(viewer).flip()


def curtain_command() -> None:
    """Switch the curtain; in the command palette."""
    _toggle(CURTAIN)


def side_command() -> None:
    """Switch original and result side by side; in the command palette."""
    _toggle(SIDE)


def xz_command() -> None:
    """Switch the xz view; in the command palette."""
    _toggle(XZ)


class BeforeAfterPanel(QWidget):
    """Buttons of the views, and the curtain's slider; shown while there is a result.

    Parameters
    ----------
    viewer : napari.Viewer
        Kept by weak reference.
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = weakref.ref(viewer)
        self.views = views_of(viewer)
        self.flip = QPushButton("Flip", self)
        self.flip.setToolTip(f"original or result; key {FLIP_KEY} over the canvas")
        self.buttons = {
            CURTAIN: QPushButton("Curtain", self),
            SIDE: QPushButton("Side by side", self),
            XZ: QPushButton("xz", self),
        }
        tips = (
            "original left and result right of a line that the slider moves",
            "original and result beside each other, with the same zoom, plane and contrast",
            "the stack from the side: z downwards",
        )
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setRange(0, CURTAIN_STEPS)
        self.slider.setValue(round(self.views.share * CURTAIN_STEPS))
        self.slider.setToolTip("the curtain's line; arrow keys move it too")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.flip, 0, 0)
        for column, ((name, button), tip) in enumerate(
            zip(self.buttons.items(), tips, strict=True), 1
        ):
            button.setCheckable(True)
            button.setToolTip(tip)
            button.toggled.connect(partial(self.views.switch, name))
            grid.addWidget(button, 0, column)
        grid.addWidget(self.slider, 1, 0, 1, 4)
        self.flip.clicked.connect(self.views.flip)
        self.slider.valueChanged.connect(self._moved)
        viewer.bind_key(FLIP_KEY, _flip_key, overwrite=True)
        reference = weakref.ref(self)
        self.views.changed = partial(_refresh, reference)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self.refresh)
        self.destroyed.connect(partial(_all_off, self.views))
        self.refresh()

    def _moved(self, value: int) -> None:
        self.views.move(value / CURTAIN_STEPS)

    def refresh(self, _event: Any = None) -> None:
        """Show what can be used now."""
        viewer = self._viewer()
        if viewer is None or not isalive(self):
            return
        self.setVisible(find_pair(viewer) is not None)
        for name, button in self.buttons.items():
            button.blockSignals(True)
            button.setChecked(self.views.is_on(name))
            button.blockSignals(False)
        self.slider.setVisible(self.views.is_on(CURTAIN))


def _refresh(reference: weakref.ref[BeforeAfterPanel]) -> None:
    panel = reference()
    if panel is not None:
        panel.refresh()


def _all_off(views: Views, *_: Any) -> None:
    views.changed, views.share = (lambda: None), 0.5
    for name in (CURTAIN, SIDE, XZ):
        views.switch(name, on=False)
