"""What a run starts from: pixels, place and look of a layer at that moment, and what is in view.

Arrays in memory are copied: small ones at once, large ones as the first step of the worker, so
that the window never freezes. Arrays that are read from disk piece by piece (dask, zarr, memory
maps) are kept as they are. After the run, each copy is compared with its layer.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zenhance.errors import MemoryBudgetError
from zenhance.pipeline import Progress
from zenhance.plugin.layer_bridge import LayerFacts, LayerLook, level_zero, pixels
from zenhance.plugin.placement import Placement
from zenhance.stack import Stack
from zenhance.tiling.budget import free_bytes
from zenhance.wording import format_bytes

__all__ = ["Snapshot", "View", "current_view", "same_view"]

# Copying this much takes less than a tenth of a second; more is copied by the worker.
AT_ONCE_BYTES = 128 * 2**20
# Share of the free memory that a copy may take; a larger copy is refused.
COPY_SHARE = 0.5


class Snapshot:
    """A layer as it was when the run began.

    Parameters
    ----------
    layer : napari.layers.Image
        Kept by weak reference only.
    facts : LayerFacts
        Of the layer.
    axes : str
        As the user wants them read, in the layer's order.
    """

    def __init__(self, layer: Any, facts: LayerFacts, axes: str) -> None:
        self.layer = weakref.ref(layer)
        self.facts = facts
        self.axes = axes
        self.placement = Placement.of_layer(layer, axes)
        self.look = LayerLook.of_layer(layer)
        self.changed = False
        self._shown = weakref.ref(layer.data) if isinstance(layer.data, np.ndarray) else None
        finest = level_zero(layer)
        self._in_memory = isinstance(finest, np.ndarray) and not isinstance(finest, np.memmap)
        self._source: Any = pixels(layer)
        self._copy: npt.NDArray[Any] | None = None
        if self._in_memory and not facts.rgb and finest.nbytes <= AT_ONCE_BYTES:
            self._copy = np.array(finest)

    def copy_steps(self) -> Generator[Progress, None, None]:
        """Copy the layer plane by plane, in the worker, unless it is copied already.

        Raises
        ------
        MemoryBudgetError
            The copy does not fit into memory.
        """
        if self._copy is not None or not self._in_memory:
            return
        dtype = np.dtype(self._source.dtype)
        needed = int(np.prod(self.facts.shape, dtype=np.int64)) * dtype.itemsize
        if needed > COPY_SHARE * free_bytes("cpu"):
            raise MemoryBudgetError(
                f"a copy of the layer needs {format_bytes(needed)} and "
                f"{format_bytes(free_bytes('cpu'))} are free; "
                "close other layers, or open the file as OME-Zarr, which is read piece by piece"
            )
        copy = np.empty(self.facts.shape, dtype)
        for index in range(copy.shape[0]):
            copy[index] = self._source[index]
            yield Progress("copy", 0.0, None, "copying the layer")
        self._copy = copy

    def stack(self) -> Stack:
        """Return the pixels with their axes and voxel size."""
        return self.facts.stack(self._source if self._copy is None else self._copy, self.look.name)

    def compare_steps(self) -> Generator[Progress, None, None]:
        """Check, in the worker, whether the layer's pixels have changed since the start."""
        if self._copy is None:
            return
        for index in range(self._copy.shape[0]):
            if np.asarray(self._source[index]).tobytes() != self._copy[index].tobytes():
                self.changed = True
                return
            yield Progress("check", 1.0, None, "checking the layer")

    def notice(self, layers: Any) -> str:
        """Return how the layer has changed since the start, or an empty text."""
        layer = self.layer()
        if layer is None or layer not in layers:
            return (
                f'layer "{self.look.name}" was removed while it was being enhanced; '
                "the result shows it as it was at the start"
            )
        replaced = self._shown is not None and layer.data is not self._shown()
        if self.changed or replaced:
            return (
                f'layer "{layer.name}" was changed while it was being enhanced; '
                "the result shows it as it was at the start"
            )
        return ""

    def release(self) -> None:
        """Let go of the pixels."""
        self._source = self._copy = None


@dataclass(frozen=True, slots=True)
class View:
    """The part of a layer in view, in voxels, by axis letter.

    Parameters
    ----------
    at : dict
        Index in view along ``T``, ``C`` and ``Z``, for those the layer has.
    field : dict
        Slices along ``Y`` and ``X``; empty in a 3-D view or for a turned stack.
    """

    at: dict[str, int]
    field: dict[str, slice]


def current_view(viewer: Any, layer: Any, axes: str) -> View:
    """Return which part of a layer is in view.

    Parameters
    ----------
    viewer : napari.Viewer
        Its sliders decide.
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


@contextmanager
def same_view(viewer: Any, layer: Any) -> Iterator[None]:
    """Keep a layer's voxels in view while its scale changes.

    Sliders and camera are in world coordinates, so a new voxel size would otherwise show another
    plane at another zoom.
    """
    if viewer is None or layer is None or layer not in viewer.layers:
        yield
        return
    skipped = viewer.dims.ndim - layer.ndim
    shown = [d - skipped for d in viewer.dims.displayed if d >= skipped]
    point = np.asarray(layer.world_to_data(viewer.dims.point[-layer.ndim :]), dtype=float)
    # Since napari 0.9 the camera belongs to the scene.
    camera = getattr(viewer, "scene", viewer).camera
    target = np.asarray(viewer.dims.point, dtype=float)
    target[list(viewer.dims.displayed)] = np.asarray(camera.center)[-viewer.dims.ndisplay :]
    centre = np.asarray(layer.world_to_data(target[-layer.ndim :]), dtype=float)
    zoom, before = camera.zoom, _world_steps(layer)
    yield
    after = _world_steps(layer)
    if np.array_equal(before, after):
        return
    world = np.asarray(layer.data_to_world(point), dtype=float)
    for axis, value in enumerate(world, start=skipped):
        viewer.dims.set_point(axis, float(value))
    moved = np.asarray(layer.data_to_world(centre), dtype=float)
    place = list(camera.center)
    place[-len(shown) :] = [float(moved[d]) for d in shown]
    camera.center = tuple(place)
    camera.zoom = zoom * float(before[shown[-1]] / after[shown[-1]])


def _world_steps(layer: Any) -> npt.NDArray[np.float64]:
    """Return how long a step of one voxel along each axis is in the world."""
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), dtype=float)
    steps = [np.asarray(layer.data_to_world(row)) - origin for row in np.eye(layer.ndim)]
    return np.asarray(np.linalg.norm(steps, axis=1), dtype=float)
