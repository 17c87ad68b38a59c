"""Prepared deconvolutions: cut tiles from a solved volume, replay a schedule, or solve planes.

The module loads torch only when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from zenhance.contract.spec import Prepared, TileGenerator
from zenhance.errors import MethodError
from zenhance.solvers.tensors import exact_mean, to_device, to_numpy
from zenhance.steps import relay
from zenhance.types import FloatArray, Region, Triple

if TYPE_CHECKING:
    import torch

    from zenhance.methods.deconvolution.imagej import PlaneResult

__all__ = ["CutOut", "Planes", "Replayed"]

MAX_LIGHT_CHANGE = 0.02
"""The total intensity may change by this share without a warning."""


@dataclass
class CutOut(Prepared):
    """A volume that is already solved. Its tiles are cut out of it and need no context."""

    solved: FloatArray

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        place = tuple(
            slice(start, start + size) for start, size in zip(origin_px, tile.shape, strict=True)
        )
        yield 1.0
        return {"enhanced": self.solved[place].copy()}


@dataclass
class Replayed(Prepared):
    """The same work on each tile, with numbers of the whole volume only.

    Parameters
    ----------
    solve : callable
        Takes a tile (Z, Y, X) and its region of the volume.
    device : str
        To compute on.
    """

    solve: Callable[[torch.Tensor, Region], Generator[float, None, torch.Tensor]]
    device: str

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        z, y, x = (slice(o, o + n) for o, n in zip(origin_px, tile.shape, strict=True))
        enhanced = yield from self.solve(to_device(tile, self.device), (z, y, x))
        return {"enhanced": to_numpy(enhanced)}


@dataclass
class Planes(Prepared):
    """Whole planes, each with its own stop.

    The lists of iterations and curves are handed out empty and filled in as planes are done.

    Parameters
    ----------
    solve : callable
        Takes a plane (Y, X) and returns a generator of fractions that returns a
        :class:`zenhance.methods.deconvolution.imagej.PlaneResult`.
    shape_px : tuple of int
        (Z, Y, X) of the volume.
    device : str
        Where the work is done.
    form : str
        Name of the algorithm, for the notes.
    lowest : float
        The grey value that counts as zero light: 0, or the lowest value of signed data.
        These algorithms set negative values to zero.
    """

    solve: Callable[[torch.Tensor], Generator[float, None, PlaneResult]]
    shape_px: Triple
    device: str
    form: str
    lowest: float = 0.0
    iterations: list[int] = field(init=False)
    _light: list[float] = field(init=False, default_factory=lambda: [0.0, 0.0])

    def __post_init__(self) -> None:
        """Fill in what is handed out: the plugins pad, and may stop, by all of a plane."""
        self.halo_px = (0, self.shape_px[1], self.shape_px[2])
        self.iterations = [0] * self.shape_px[0]
        self.curves = {"mean_change_percent": []}
        self.notes = {
            "imagej_form": self.form,
            "iterations_per_plane": self.iterations,
            "zero_light": self.lowest,
        }

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        if tile.shape[1:] != self.shape_px[1:]:
            raise MethodError(
                f"ImageJ's plugins need whole planes, and this tile of {tile.shape[1:]} px is a "
                f"part of {self.shape_px[1:]} px; use variant richardson_lucy, or crop the stack"
            )
        planes = to_device(tile, self.device)
        enhanced = np.empty_like(tile)
        for index in range(tile.shape[0]):
            result = yield from relay(
                self.solve(planes[index] - self.lowest),
                lambda fraction, done=index: (  # type: ignore[misc]
                    (done + fraction) / tile.shape[0]
                ),
            )
            self._light[0] += exact_mean(planes[index]) - self.lowest
            self._light[1] += exact_mean(result.plane)
            enhanced[index] = to_numpy(result.plane) + np.float32(self.lowest)
            z = origin_px[0] + index
            self.iterations[z] = result.iterations
            if z == self.shape_px[0] // 2:
                self.curves["mean_change_percent"][:] = result.percent
        self._compare_light()
        return {"enhanced": enhanced}

    def _compare_light(self) -> None:
        """Warn when the planes done so far changed the total intensity."""
        before, after = self._light
        gained = after / before - 1.0 if before > 0.0 else 0.0
        changed = (
            f"{self.form} changed the total intensity by {100 * gained:+.0f} %, as the ImageJ "
            "plugin does; use variant richardson_lucy to keep it"
        )
        self.warnings = [changed] if abs(gained) > MAX_LIGHT_CHANGE else []
