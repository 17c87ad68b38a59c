"""How a solved or measured volume answers for its tiles: cut out, replayed, or plane by plane (loads torch only when called)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zenhance.contract.spec import TileGenerator
from zenhance.errors import MethodError
from zenhance.solvers.tensors import to_device, to_numpy
from zenhance.types import FloatArray, Triple

if TYPE_CHECKING:
    import torch

    from zenhance.methods.deconvolution.imagej import PlaneResult

__all__ = ["CutOut", "Planes", "Replayed"]


@dataclass
class CutOut:
    """A volume that is already solved; tiles are cut out of it, and need no context."""

    solved: FloatArray
    curves: Mapping[str, list[float]]
    notes: Mapping[str, Any]
    halo_px: Triple = (0, 0, 0)

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        place = tuple(
            slice(start, start + size) for start, size in zip(origin_px, tile.shape, strict=True)
        )
        yield 1.0
        return {"enhanced": self.solved[place].copy()}


@dataclass
class Replayed:
    """The same work on each tile, with numbers of the whole volume only."""

    solve: Callable[[torch.Tensor], Generator[float, None, torch.Tensor]]
    device: str
    halo_px: Triple
    curves: Mapping[str, list[float]]
    notes: Mapping[str, Any]

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        enhanced = yield from self.solve(to_device(tile, self.device))
        return {"enhanced": to_numpy(enhanced)}


@dataclass
class Planes:
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
    curves: dict[str, list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.iterations = [0] * self.shape_px[0]
        self.curves = {"mean_change_percent": []}

    @property
    def halo_px(self) -> Triple:
        """All of the plane: the plugins pad, and may stop, by what they see of it."""
        return 0, self.shape_px[1], self.shape_px[2]

    @property
    def notes(self) -> Mapping[str, Any]:
        """Iterations per plane, 0 where it is not done yet."""
        return {"imagej_form": self.form, "iterations_per_plane": self.iterations}

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        if tile.shape[1:] != self.shape_px[1:]:
            raise MethodError(
                f"ImageJ's plugins need whole planes, and this tile of {tile.shape[1:]} px is a part of {self.shape_px[1:]} px; "
                "use variant richardson_lucy, or crop the stack"
            )
        planes = to_device(tile, self.device)
        enhanced = np.empty_like(tile)
        for index in range(tile.shape[0]):
            result = yield from _within(self.solve(planes[index]), index, tile.shape[0])
            enhanced[index] = to_numpy(result.plane)
            z = origin_px[0] + index
            self.iterations[z] = result.iterations
            if z == self.shape_px[0] // 2:
                self.curves["mean_change_percent"][:] = result.percent
        return {"enhanced": enhanced}


def _within(
    steps: Generator[float, None, PlaneResult], index: int, count: int
) -> Generator[float, None, PlaneResult]:
    """Pass on the fractions of one plane as fractions of all, and return what it returns."""
    while True:
        try:
            fraction = next(steps)
        except StopIteration as stop:
            result: PlaneResult = stop.value
            return result
        yield (index + fraction) / count
