"""How a solved or measured volume answers for its tiles: cut out, replayed, or plane by plane (loads torch only when called)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from zenhance.contract.spec import Prepared, TileGenerator
from zenhance.errors import MethodError
from zenhance.solvers.tensors import to_device, to_numpy
from zenhance.steps import relay
from zenhance.types import FloatArray, Triple

if TYPE_CHECKING:
    import torch

    from zenhance.methods.deconvolution.imagej import PlaneResult

__all__ = ["CutOut", "Planes", "Replayed"]


@dataclass
class CutOut(Prepared):
    """A volume that is already solved; tiles are cut out of it, and need no context."""

    solved: FloatArray

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        place = tuple(
            slice(start, start + size) for start, size in zip(origin_px, tile.shape, strict=True)
        )
        yield 1.0
        return {"enhanced": self.solved[place].copy()}


@dataclass
class Replayed(Prepared):
    """The same work on each tile, with numbers of the whole volume only."""

    solve: Callable[[torch.Tensor], Generator[float, None, torch.Tensor]]
    device: str

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        enhanced = yield from self.solve(to_device(tile, self.device))
        return {"enhanced": to_numpy(enhanced)}


@dataclass
class Planes(Prepared):
    """Whole planes, each with its own stop; what a plane did is filled in, in the lists already handed out, when it is done.

    Parameters
    ----------
    solve : callable
        Takes a plane (Y, X) and returns a generator of fractions that returns a :class:`zenhance.methods.deconvolution.imagej.PlaneResult`.
    shape_px : tuple of int
        (Z, Y, X) of the volume.
    device : str
        Where the work is done.
    form : str
        Name of the algorithm, for the notes.
    """

    solve: Callable[[torch.Tensor], Generator[float, None, PlaneResult]]
    shape_px: Triple
    device: str
    form: str
    iterations: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Fill in what is handed out: the plugins pad, and may stop, by all of a plane."""
        self.halo_px = (0, self.shape_px[1], self.shape_px[2])
        self.iterations = [0] * self.shape_px[0]
        self.curves = {"mean_change_percent": []}
        self.notes = {"imagej_form": self.form, "iterations_per_plane": self.iterations}

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        if tile.shape[1:] != self.shape_px[1:]:
            raise MethodError(
                f"ImageJ's plugins need whole planes, and this tile of {tile.shape[1:]} px is a part of {self.shape_px[1:]} px; "
                "use variant richardson_lucy, or crop the stack"
            )
        planes = to_device(tile, self.device)
        enhanced = np.empty_like(tile)
        for index in range(tile.shape[0]):
            result = yield from relay(
                self.solve(planes[index]),
                lambda fraction, done=index: (done + fraction) / tile.shape[0],  # type: ignore[misc]
            )
            enhanced[index] = to_numpy(result.plane)
            z = origin_px[0] + index
            self.iterations[z] = result.iterations
            if z == self.shape_px[0] // 2:
                self.curves["mean_change_percent"][:] = result.percent
        return {"enhanced": enhanced}
