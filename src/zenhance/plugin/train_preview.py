"""The preview of a training: one image layer with pictures of a crop, new at each validation."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.layers import Image

from zenhance.types import FloatArray

__all__ = ["PREVIEW_KEY", "TrainPreview", "side_by_side"]

PREVIEW_KEY = "zenhance_training"
ORDER = ("measured", "predicted", "truth", "estimate")
# Empty columns between the pictures; height of the preview relative to the other layers.
GAP_PX = 2
SHARE = 0.5


def side_by_side(preview: Mapping[str, FloatArray]) -> FloatArray:
    """Return the pictures in one row, with dark columns between them.

    Parameters
    ----------
    preview : mapping of str to float32 array (Y, X)
        ``measured``, ``predicted`` and optionally ``truth`` or ``estimate``. Pixels of a coarser
        one are repeated.
    """
    pictures = [np.asarray(preview[name], np.float32) for name in ORDER if name in preview]
    height = max(picture.shape[0] for picture in pictures)
    row: list[FloatArray] = []
    for picture in pictures:
        factor = height // picture.shape[0]
        row += [
            np.kron(picture, np.ones((factor, factor), np.float32)),
            np.zeros((height, GAP_PX), np.float32),
        ]
    return np.concatenate(row[:-1], axis=1)


class TrainPreview:
    """Keeps one layer of a viewer up to date.

    Parameters
    ----------
    viewer : napari.Viewer
        Kept by weak reference.
    naming : str
        How the layer is called; the braces stand for the title that :meth:`show` is given.
    """

    def __init__(self, viewer: Any, naming: str = "training {}") -> None:
        self._viewer = weakref.ref(viewer)
        self._naming = naming
        self._layer: weakref.ref[Any] | None = None
        self._shown: Any = None
        self._wanted = True

    @property
    def layer(self) -> Any:
        """The layer, or None if there is none."""
        layer = None if self._layer is None else self._layer()
        viewer = self._viewer()
        return (
            layer if viewer is not None and layer is not None and layer in viewer.layers else None
        )

    def begin(self) -> None:
        """Allow the layer again for a new training, even if the user removed the last one."""
        self._shown, self._wanted = None, True

    def end(self) -> None:
        """Remove the layer."""
        viewer, layer = self._viewer(), self.layer
        if viewer is not None and layer is not None:
            viewer.layers.remove(layer)
        self._layer = None

    def show(self, preview: Mapping[str, FloatArray], title: str) -> None:
        """Show a preview, unless it is already shown.

        Parameters
        ----------
        preview : mapping
            As :func:`side_by_side` takes it.
        title : str
            What is trained, or learnt from, for the layer's name.
        """
        viewer = self._viewer()
        if viewer is None or not preview or preview is self._shown:
            return
        picture = side_by_side(preview)
        layer = self.layer
        name = f"{self._naming.format(title)}: {' | '.join(n for n in ORDER if n in preview)}"
        if layer is None:
            removed = self._shown is not None
            self._wanted = self._wanted and not removed
            if self._wanted:
                layer = self._add(viewer, picture, name)
        if layer is not None:
            if layer.data.shape != picture.shape:
                layer.translate, layer.scale = self._place(viewer, picture.shape, without=layer)
            layer.data = picture
            layer.name = name
        self._shown = preview

    def _add(self, viewer: Any, picture: FloatArray, name: str) -> Any:
        chosen = set(viewer.layers.selection)
        others = list(viewer.layers)
        translate, scale = self._place(viewer, picture.shape)
        units = tuple(others[0].units[-2:]) if others and others[0].ndim >= 2 else None
        layer = Image(
            picture,
            name=name,
            scale=scale,
            translate=translate,
            units=units,
            contrast_limits=(0.0, 1.0),
            metadata={PREVIEW_KEY: True},
        )
        viewer.add_layer(layer)
        if chosen:
            # The user works during the training: the selection stays.
            viewer.layers.selection = chosen
        viewer.reset_view()
        self._layer = weakref.ref(layer)
        return layer

    def _place(
        self, viewer: Any, shape: tuple[int, ...], without: Any = None
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return translation and scale of a preview right of all layers, half as high."""
        others = [layer for layer in viewer.layers if layer is not without and layer.ndim >= 2]
        if not others:
            return (0.0, 0.0), (1.0, 1.0)
        extents = [np.asarray(layer.extent.world)[:, -2:] for layer in others]
        (top, _), (bottom, right) = (
            np.min([e[0] for e in extents], axis=0),
            np.max([e[1] for e in extents], axis=0),
        )
        pixel = SHARE * float(bottom - top) / shape[0] if bottom > top else 1.0
        return (float(top), float(right) + 4 * pixel), (pixel, pixel)
