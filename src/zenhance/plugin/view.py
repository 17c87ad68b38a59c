"""What of a layer is in view: the plane the sliders stand at and the field the canvas shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["View", "current_view"]


@dataclass(frozen=True, slots=True)
class View:
    """The part of a layer in view, in voxels, by axis letter.

    Parameters
    ----------
    at : dict
        Index in view along ``T``, ``C`` and ``Z``, for those the layer has.
    field : dict
        Slices along ``Y`` and ``X``; empty where the view does not tell (a 3-D view, or a turned stack).
    """

    at: dict[str, int]
    field: dict[str, slice]


def current_view(viewer: Any, layer: Any, axes: str) -> View:
    """Read what is in view of a layer.

    Parameters
    ----------
    viewer : napari.Viewer
        Its sliders count.
    layer : napari.layers.Image
        Its position in the world counts too.
    axes : str
        A letter per dimension of the layer.
    """
    shape = layer.data[0].shape if layer.multiscale else layer.data.shape
    point = np.asarray(layer.world_to_data(viewer.dims.point[-layer.ndim :]), dtype=float)
    index = {
        a: int(np.clip(np.rint(point[i]), 0, shape[i] - 1))
        for i, a in enumerate(axes)
        if a in "TCZ"
    }
    displayed = [d - (viewer.dims.ndim - layer.ndim) for d in viewer.dims.displayed]
    if sorted(axes[d] for d in displayed if d >= 0) != ["X", "Y"]:
        return View(index, {})
    corners = np.asarray(layer.corner_pixels, dtype=float)
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors[layer.data_level])
    field = {}
    for dimension in displayed:
        first, last = int(np.floor(corners[0, dimension])), int(np.ceil(corners[1, dimension])) + 1
        if last - first > 1:
            field[axes[dimension]] = slice(max(first, 0), min(last, int(shape[dimension])))
    return View(index, field if len(field) == 2 else {})
