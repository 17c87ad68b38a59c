"""Fluorescent beads at known positions, for PSFs; and the empty field, for noise and inventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zenhance.simulate.specimen import Dye, Grid, LabelArray, Parameters, ThinSpecimen, setting
from zenhance.types import FloatArray

__all__ = ["Ball", "Beads", "Empty", "deposit"]

POINTS_ACROSS = 5
POINTS_PER_VOXEL = 3


@dataclass(frozen=True, slots=True)
class Ball:
    """A ball of dye.

    Parameters
    ----------
    centre_um : tuple of float
        (z, y, x).
    diameter_um : float
        Of the ball; zero is a point.
    voxels : float
        Its dye, in voxels full of dye.
    number : int
        Its label.
    """

    centre_um: tuple[float, float, float]
    diameter_um: float
    voxels: float
    number: int


def deposit(balls: Sequence[Ball], grid: Grid) -> tuple[FloatArray, LabelArray]:
    """Put balls on a grid and return dye and labels (Z, Y, X).

    Each ball is a lattice of points. Each point is shared among the eight voxels around it, so a
    ball's centre of mass is exact wherever it is; this widens the ball by at most half a voxel. In
    a single plane every ball is in that plane.
    """
    shape = np.asarray(grid.shape_px)
    density = np.zeros(int(np.prod(shape)), np.float64)
    labels = np.zeros(density.size, np.uint16)
    for ball in balls:
        place = np.asarray(ball.centre_um) + _lattice(ball.diameter_um, grid.voxel_size_um)
        place = (place - np.asarray(grid.origin_um)) / np.asarray(grid.voxel_size_um) - 0.5
        if shape[0] == 1:
            place[:, 0] = 0.0
        low = np.floor(place).astype(np.int64)
        share = place - low
        for corner in np.ndindex(2, 2, 2):
            index = low + corner
            weight = np.prod(np.where(np.asarray(corner) == 1, share, 1 - share), axis=1)
            inside = ((index >= 0) & (index < shape)).all(axis=1) & (weight > 0)
            flat = np.ravel_multi_index(tuple(index[inside].T), grid.shape_px)
            np.add.at(density, flat, weight[inside] * (ball.voxels / len(place)))
            labels[flat] = ball.number
    return density.reshape(grid.shape_px).astype(np.float32), labels.reshape(grid.shape_px)


def _lattice(diameter_um: float, voxel_um: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Return points (N, 3) in µm that fill a ball evenly."""
    if diameter_um <= 0:
        return np.zeros((1, 3), np.float64)
    lines = []
    for step in voxel_um:
        count = max(POINTS_ACROSS, int(np.ceil(POINTS_PER_VOXEL * diameter_um / step)))
        lines.append(((np.arange(count) + 0.5) / count - 0.5) * diameter_um)
    points: npt.NDArray[np.float64] = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    return np.asarray(points[(points**2).sum(axis=1) <= diameter_um**2 / 4], np.float64)


class Beads(Parameters, ThinSpecimen):
    """Settings of the beads; lengths in µm."""

    count: int = setting(
        20, "number of beads that are tried; those too near to others are left out", ge=1, le=10_000
    )
    diameter_um: float = setting(0.1, "of a bead; 0 is a point", "µm", ge=0, le=20)
    dye_voxels: float = setting(100.0, "dye of a bead, in voxels full of dye", gt=0)
    brightness_spread: float = setting(
        0.0, "spread of brightness from bead to bead (log-normal)", ge=0, le=2
    )
    distance_um: float = setting(
        2.0,
        "smallest distance between two beads, and from the field's edges along y and x",
        "µm",
        ge=0,
        le=100,
    )
    on_voxels: bool = setting(False, "whether beads sit in the middle of voxels")
    in_plane: bool = setting(False, "whether all lie in the middle plane, as on a cover slip")

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return beads on a grid.

        Returns
        -------
        Dye
            Channel ``beads``; labels are bead numbers; the fact ``centres_um`` lists (z, y, x) of
            each, ``dye_voxels`` its dye.
        """
        rng = np.random.default_rng([seed, 1])
        balls = []
        for number, place in enumerate(self._places(grid, rng), start=1):
            bright = self.dye_voxels * float(np.exp(rng.normal(0, self.brightness_spread)))
            balls.append(Ball(place, self.diameter_um, bright, number))
        density, labels = deposit(balls, grid)
        facts = {
            "centres_um": [list(b.centre_um) for b in balls],
            "dye_voxels": [b.voxels for b in balls],
            "diameter_um": self.diameter_um,
        }
        return Dye(density[None], labels, np.zeros(grid.shape_px, np.float32), ("beads",), facts)

    def _places(self, grid: Grid, rng: np.random.Generator) -> list[tuple[float, float, float]]:
        size, step = np.asarray(grid.field_um), np.asarray(grid.voxel_size_um)
        # In a stack flatter than the distance beads keep to its middle.
        keep = np.minimum(self.distance_um, (size - step) / 2)
        kept: list[tuple[float, float, float]] = []
        for _ in range(self.count):
            place = rng.uniform(keep, size - keep)
            if self.in_plane or grid.shape_px[0] == 1:
                place[0] = size[0] / 2
            if self.on_voxels:
                place = (np.floor(place / step) + 0.5) * step
            away = [float(np.linalg.norm(place - np.asarray(other))) for other in kept]
            if not away or min(away) >= self.distance_um:
                kept.append((float(place[0]), float(place[1]), float(place[2])))
        return kept


class Empty(Parameters, ThinSpecimen):
    """Nothing: a method invents everything that it draws here."""

    level: float = setting(0.0, "even dye everywhere, 1 is as bright as a wall", ge=0, le=10)

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return an even field; the seed changes only the noise."""
        shape = grid.shape_px
        density = np.full((1, *shape), self.level, np.float32)
        return Dye(density, np.zeros(shape, np.uint16), np.zeros(shape, np.float32), ("empty",))
