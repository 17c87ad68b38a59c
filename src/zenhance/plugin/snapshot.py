"""What a run was started on: pixels, place and look of a layer at that moment, whatever happens to the layer afterwards.

Arrays in memory are copied: small ones at once, large ones as the first step of the worker, so that the window never freezes. Arrays that
are read from disk piece by piece (dask, zarr, memory maps) are kept as they are. A copy's original is compared with it after the run.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator
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

__all__ = ["Snapshot"]

# Copying this much takes less than a tenth of a second; more is copied by the worker.
AT_ONCE_BYTES = 128 * 2**20
# Share of the free memory that a copy may take; beyond it the run refuses rather than swap.
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
        """Copy what has not been copied yet, plane by plane; runs in the worker.

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
                f"a copy of the layer needs {format_bytes(needed)} "
                f"and {format_bytes(free_bytes('cpu'))} are free; "
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
        """Find out whether the layer's pixels were painted over meanwhile; runs in the worker."""
        if self._copy is None:
            return
        for index in range(self._copy.shape[0]):
            if np.asarray(self._source[index]).tobytes() != self._copy[index].tobytes():
                self.changed = True
                return
            yield Progress("check", 1.0, None, "checking the layer")

    def notice(self, layers: Any) -> str:
        """Return what the user should know of the layer since the start, or nothing."""
        layer = self.layer()
        if layer is None or layer not in layers:
            return f'layer "{self.look.name}" was removed while it was being enhanced; the result shows it as it was at the start'
        replaced = self._shown is not None and layer.data is not self._shown()
        if self.changed or replaced:
            return f'layer "{layer.name}" was changed while it was being enhanced; the result shows it as it was at the start'
        return ""

    def release(self) -> None:
        """Let go of the pixels."""
        self._source = self._copy = None
