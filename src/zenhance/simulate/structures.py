"""Thin specimens of several structures, alone or mixed: lines, membranes, dots, rings, areas.

::

    filaments  ~~~      membranes  (~)  wavy closed lines      dots  · :     rings  o
    areas  filled discs, the upper hides the lower

Everything is in one plane; in a stack every plane is the same. Lines and dots are points a fraction
of a pixel apart, each shared among the four pixels around it. Areas are the dead-leaves model
(Matheron 1968; Lee, Mumford & Huang, Int. J. Comput. Vis. 41:35, 2001): discs of power-law sizes,
whose edges have the statistics of photographs. ``texture`` modulates their brightness with waves of
all lengths at equal strength, like surfaces in photographs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from zenhance.simulate.specimen import Dye, Grid, Parameters, ThinSpecimen, setting
from zenhance.types import FloatArray

__all__ = ["KINDS", "Structures"]

KINDS = ("filaments", "membranes", "dots", "rings", "areas")
STEP_PX = 0.25
"""Distance of the points along a line that stand for its dye."""
TEXTURES, WAVES = 4, 40
"""Textures that areas choose among, and the waves of each."""
Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Places (N, 2) in µm and the dye of each, in µm² of full cover."""


class Structures(Parameters, ThinSpecimen):
    """Settings of the structures; lengths in µm."""

    kind: Literal["mixed", "filaments", "membranes", "dots", "rings", "areas"] = setting(
        "mixed", "what is drawn; mixed draws several kinds"
    )
    width_um: float = setting(0.03, "width of a line or of a ring's line", "µm", gt=0, le=1)
    density: float = setting(1.0, "how crowded the field is; 1 is usual", gt=0, le=10)
    scale_um: float = setting(
        2.0, "size of a typical cell or area, ten times that of a ring", "µm", gt=0, le=50
    )
    brightness_spread: float = setting(
        0.5, "spread of brightness between structures (log-normal)", ge=0, le=1.5
    )
    texture: float = setting(
        0.0, "largest share of an area's brightness that its texture has", ge=0, le=1
    )
    haze: float = setting(
        0.02, "mean of a smooth background of dye, relative to a pixel full of dye", ge=0, le=1
    )

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return dye and labels on a grid.

        Parameters
        ----------
        grid : Grid
            The field.
        seed : int
            The same seed gives the same bytes; for ``mixed`` it decides which two or three kinds
            are drawn.

        Returns
        -------
        Dye
            Channel ``structures``; the label is 1 where there is more dye than haze. The fact
            ``kinds`` names what was drawn.
        """
        rng = np.random.default_rng([seed, 1])
        kinds = (
            [self.kind]
            if self.kind != "mixed"
            else sorted(rng.choice(KINDS, size=int(rng.integers(1, 4)), replace=False).tolist())
        )
        plane = np.zeros(grid.shape_px[1:], np.float64)
        for kind in kinds:
            if kind == "areas":
                plane += self._areas(grid, rng) * (1.0 if len(kinds) == 1 else 0.3)
                continue
            places, dye = getattr(self, f"_{kind}")(grid, rng)
            _deposit(plane, places, dye, grid)
        marks = plane > 0.02
        plane += self.haze * _smooth_field(grid, rng)
        density = np.ascontiguousarray(np.broadcast_to(plane, grid.shape_px)[None], np.float32)
        labels = np.ascontiguousarray(np.broadcast_to(marks, grid.shape_px), np.uint16)
        return Dye(
            density, labels, np.zeros(grid.shape_px, np.float32), ("structures",), {"kinds": kinds}
        )

    def _bright(self, many: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return np.exp(rng.normal(0.0, self.brightness_spread, many))

    def _count(self, grid: Grid, per_um2: float, rng: np.random.Generator, reach_um: float) -> int:
        _, y_um, x_um = grid.size_um
        return max(
            1,
            int(
                rng.poisson(self.density * per_um2 * (y_um + 2 * reach_um) * (x_um + 2 * reach_um))
            ),
        )

    def _centres(
        self, grid: Grid, many: int, rng: np.random.Generator, reach_um: float
    ) -> npt.NDArray[np.float64]:
        low = np.asarray(grid.origin_um[1:]) - reach_um
        return rng.uniform(low, low + np.asarray(grid.size_um[1:]) + 2 * reach_um, size=(many, 2))

    def _step_um(self, grid: Grid) -> float:
        return STEP_PX * min(grid.voxel_size_um[1:])

    def _filaments(self, grid: Grid, rng: np.random.Generator) -> Points:
        """Worm-like chains, some straight and some curled."""
        length_um, step_um = 3.0 * self.scale_um, self._step_um(grid)
        many = self._count(grid, 0.45 / self.scale_um, rng, length_um / 4)
        points = max(2, round(length_um / step_um))
        turn = np.sqrt(step_um / (self.scale_um * np.exp(rng.normal(1.0, 0.7, (many, 1)))))
        heading = rng.uniform(0, 2 * np.pi, (many, 1)) + np.cumsum(
            rng.normal(0.0, 1.0, (many, points)) * turn, axis=1
        )
        path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=-1), axis=1) * step_um
        path += (self._centres(grid, many, rng, length_um / 4) - path[:, points // 2])[:, None]
        dye = np.broadcast_to(
            self._bright(many, rng)[:, None] * self.width_um * step_um, (many, points)
        )
        return path.reshape(-1, 2), dye.reshape(-1)

    def _loops(
        self, grid: Grid, rng: np.random.Generator, radius_um: npt.NDArray[np.float64], wavy: float
    ) -> Points:
        """Draw closed lines about a centre; ``wavy`` is their deviation from circles."""
        many, step_um = radius_um.size, self._step_um(grid)
        points = max(8, int(np.ceil(2 * np.pi * float(radius_um.max()) * 1.3 / step_um)))
        angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
        radius = np.ones((many, points))
        for wave in range(2, 7):
            radius += (
                wavy
                / wave
                * rng.normal(0, 1, (many, 1))
                * np.cos(wave * angle + rng.uniform(0, 2 * np.pi, (many, 1)))
            )
        radius = np.clip(radius, 0.3, 1.8) * radius_um[:, None]
        path = self._centres(grid, many, rng, float(radius_um.max()))[:, None] + radius[
            ..., None
        ] * np.stack([np.sin(angle), np.cos(angle)], -1)
        steps = np.linalg.norm(np.roll(path, -1, axis=1) - path, axis=-1)
        dye = self._bright(many, rng)[:, None] * self.width_um * steps
        return path.reshape(-1, 2), dye.reshape(-1)

    def _membranes(self, grid: Grid, rng: np.random.Generator) -> Points:
        many = self._count(grid, 0.35 / self.scale_um**2, rng, self.scale_um)
        return self._loops(grid, rng, self.scale_um * rng.uniform(0.35, 1.1, many), 0.25)

    def _rings(self, grid: Grid, rng: np.random.Generator) -> Points:
        many = self._count(grid, 4.0 / self.scale_um**2, rng, 0.1 * self.scale_um)
        return self._loops(grid, rng, 0.1 * self.scale_um * rng.uniform(0.5, 1.8, many), 0.03)

    def _dots(self, grid: Grid, rng: np.random.Generator) -> Points:
        """Points, single and in clusters; a typical one holds the dye of a short piece of line."""
        many = self._count(grid, 6.0 / self.scale_um**2, rng, 0.0)
        centres = self._centres(grid, many, rng, 0.0)
        near = rng.random(many) < 0.5
        centres[near] += rng.normal(0.0, 0.06 * self.scale_um, (int(near.sum()), 2))
        near_to = rng.integers(0, many, many)
        centres[near] = centres[near_to[near]] + rng.normal(
            0.0, 0.08 * self.scale_um, (int(near.sum()), 2)
        )
        return centres, self._bright(many, rng) * 4.0 * self.width_um**2

    def _areas(self, grid: Grid, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw dead leaves: discs fall until everything is covered; uniform brightness.

        Sizes follow the power law r^-3, brightness is in 0.05 to 1. The texture is drawn last and
        does not move the areas.
        """
        plane = np.zeros(grid.shape_px[1:])
        _, y, x = grid.margins
        low, high = 0.1 * self.scale_um, 2.0 * self.scale_um
        many = int(min(3000, self.density * 1.5 * np.prod(grid.size_um[1:]) / low**2 / 4))
        radius = (low**-2 - rng.random(many) * (low**-2 - high**-2)) ** -0.5
        centres = self._centres(grid, many, rng, high / 2)
        level = rng.uniform(0.05, 1.0, many)
        step = min(grid.voxel_size_um[1:])
        fields = (
            [_waves(grid, rng, low, self.width_um) for _ in range(TEXTURES)] if self.texture else []
        )
        strength = self.texture * rng.random(many) if fields else np.zeros(many)
        for number, ((cy, cx), r, bright) in enumerate(zip(centres, radius, level, strict=True)):
            rows = slice(*np.searchsorted(y, (cy - r - step, cy + r + step)))
            columns = slice(*np.searchsorted(x, (cx - r - step, cx + r + step)))
            away = np.hypot(y[rows, None] - cy, x[None, columns] - cx)
            cover = np.clip((r - away) / step + 0.5, 0.0, 1.0)
            shade = (
                bright * (1 + strength[number] * fields[number % TEXTURES][rows, columns])
                if fields
                else bright
            )
            plane[rows, columns] += cover * (shade - plane[rows, columns])
        return plane


def _deposit(
    plane: npt.NDArray[np.float64],
    places_um: npt.NDArray[np.float64],
    dye_um2: npt.NDArray[np.float64],
    grid: Grid,
) -> None:
    """Add points to a plane (Y, X), each shared out among the four pixels around it."""
    (_, dy, dx), (_, oy, ox), (height, width) = grid.voxel_size_um, grid.origin_um, plane.shape
    place = (places_um - (oy, ox)) / (dy, dx) - 0.5
    low = np.floor(place).astype(np.int64)
    share = place - low
    for down in (0, 1):
        for right in (0, 1):
            row, column = low[:, 0] + down, low[:, 1] + right
            weight = (
                np.abs(1 - down - share[:, 0])
                * np.abs(1 - right - share[:, 1])
                * dye_um2
                / (dy * dx)
            )
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            flat = np.bincount(row[inside] * width + column[inside], weight[inside], plane.size)
            plane += flat.reshape(plane.shape)


def _waves(
    grid: Grid, rng: np.random.Generator, longest_um: float, shortest_um: float
) -> npt.NDArray[np.float64]:
    """Return a field (Y, X) within ± 1 of waves in all directions, lengths log-uniform."""
    _, y, x = grid.margins
    field = np.zeros((y.size, x.size))
    for _ in range(WAVES):
        length = 2 * longest_um * (shortest_um / longest_um) ** rng.random()
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        down, across = (
            np.exp(2j * np.pi / length * np.sin(angle) * y),
            np.exp(2j * np.pi / length * np.cos(angle) * x + 1j * phase),
        )
        field += (down[:, None] * across[None]).real
    # Of many waves the sum is close to normal, with a standard deviation of sqrt(WAVES / 2).
    return np.asarray(np.clip(field / (2.5 * np.sqrt(WAVES / 2)), -1.0, 1.0), np.float64)


def _smooth_field(grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Return a slowly varying field of mean about 1, never negative."""
    _, y, x = grid.margins
    _, y_um, x_um = grid.field_um
    field = np.ones((y.size, x.size))
    for wave in (1, 2):
        for _ in range(2):
            a, b, phase = (
                rng.uniform(-wave, wave),
                rng.uniform(-wave, wave),
                rng.uniform(0, 2 * np.pi),
            )
            field += 0.35 * np.cos(2 * np.pi * (a * y[:, None] / y_um + b * x[None] / x_um) + phase)
    return np.asarray(np.clip(field, 0.0, None), np.float32)
