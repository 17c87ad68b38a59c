"""Filaments such as microtubules: smooth random walks that bend with a persistence length.

Each filament is a worm-like chain: over a path ``ds`` its direction turns by a normal angle of
variance ``ds / P``. The correlation of directions falls as ``exp(-s / P)`` when it bends in two
planes and as ``exp(-s / 2P)`` when it bends in one (Landau & Lifshitz, Statistical Physics, § 127).
Microtubules in cells look as if P were about 30 µm (Brangwynne et al., J. Cell Biol. 173:733,
2006), two hundred times less than alone in water.

A field of one plane is a flat specimen in focus, as in simulated localisation data, without light
from other planes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zenhance.simulate.specimen import (
    Dye,
    Grid,
    LabelArray,
    Parameters,
    ThinSpecimen,
    renumbered,
    setting,
)
from zenhance.types import FloatArray

__all__ = ["Filaments"]

STEP_PX = 0.125
"""Distance of the points along a filament that stand for its dye."""
ACROSS_PX = 0.25
POINTS_AT_ONCE = 2_000_000


class Filaments(Parameters, ThinSpecimen):
    """Settings of the filaments; lengths in µm."""

    width_um: float = setting(0.025, "diameter of a filament", "µm", gt=0, le=0.5)
    length_um: float = setting(8.0, "length of a filament", "µm", gt=0, le=200)
    persistence_um: float = setting(
        15.0, "path over which a filament loses its direction", "µm", gt=0.1, le=1e5
    )
    density_per_um: float = setting(
        2.0, "length of filaments per area of a plane", "µm per µm²", gt=0, le=20
    )
    layer_um: float = setting(
        0.6, "height of tissue in which that length lies, for stacks", "µm", gt=0, le=50
    )
    tilt_rad: float = setting(
        0.25, "spread of the slope out of the plane, for stacks", "rad", ge=0, le=1.5
    )
    brightness_spread: float = setting(
        0.2, "spread of brightness between filaments (log-normal)", ge=0, le=1
    )
    unevenness: float = setting(0.15, "spread of brightness along a filament", ge=0, le=1)

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return dye and labels on a grid.

        Parameters
        ----------
        grid : Grid
            The field; with one plane the filaments lie in it.
        seed : int
            The same seed gives the same bytes.

        Returns
        -------
        Dye
            Channel ``filaments``. In a plane the dye of a pixel is its share covered by filaments
            (crossings add up); through a stack the same dye is in the planes of the filament.
            Labels are filament numbers; at a crossing the last one wins.
        """
        rng = np.random.default_rng([seed, 1])
        flat = grid.shape_px[0] == 1
        step_um = STEP_PX * min(grid.voxel_size_um[1:])
        density = np.zeros(int(np.prod(grid.shape_px)), np.float64)
        labels = np.zeros(density.size, np.uint32)
        across = _across_um(self.width_um, min(grid.voxel_size_um[1:]))
        dye_per_point = (
            self.width_um * step_um / (grid.voxel_size_um[1] * grid.voxel_size_um[2]) / len(across)
        )
        count = self._count(grid, flat, rng)
        points_each = max(2, round(self.length_um / step_um))
        at_once = max(1, POINTS_AT_ONCE // (points_each * len(across)))
        for first in range(0, count, at_once):
            many = min(at_once, count - first)
            path, normal, binormal = self._walk(grid, many, points_each, step_um, flat, rng)
            weight = dye_per_point * self._brightness(many, points_each, step_um, rng)
            number = np.broadcast_to(
                np.arange(first + 1, first + many + 1, dtype=np.uint32)[:, None], weight.shape
            )
            for sideways, upwards in across:
                index, inside = _voxels(path + sideways * normal + upwards * binormal, grid)
                density += np.bincount(
                    index[inside], weights=weight[inside], minlength=density.size
                )
                labels[index[inside]] = number[inside]
        return _dye(density, labels, grid)

    def _count(self, grid: Grid, flat: bool, rng: np.random.Generator) -> int:
        """Draw how many filaments start in the field and as far around it as they can reach."""
        z_um, y_um, x_um = grid.size_um
        layers = 1.0 if flat else (z_um + 2 * self._reach_um(flat)[0]) / self.layer_um
        area_um2 = (y_um + self.length_um) * (x_um + self.length_um)
        return int(rng.poisson(self.density_per_um * area_um2 * layers / self.length_um))

    def _reach_um(self, flat: bool) -> tuple[float, float, float]:
        half = self.length_um / 2
        return (
            0.0 if flat else half * float(np.sin(min(2 * self.tilt_rad, np.pi / 2))),
            half,
            half,
        )

    def _walk(
        self,
        grid: Grid,
        many: int,
        points: int,
        step_um: float,
        flat: bool,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the points (many, points, 3) of filaments in µm, and unit vectors across them."""
        reach = np.asarray(self._reach_um(flat))
        low = np.asarray(grid.origin_um) - reach
        middle = rng.uniform(low, low + np.asarray(grid.size_um) + 2 * reach, size=(many, 3))
        turn = np.sqrt(step_um / self.persistence_um)
        heading = rng.uniform(0, 2 * np.pi, size=(many, 1)) + np.cumsum(
            rng.normal(0, turn, size=(many, points)), axis=1
        )
        slope = np.zeros((many, points))
        if not flat:
            slope = rng.normal(0, self.tilt_rad, size=(many, 1)) + np.cumsum(
                rng.normal(0, turn, size=(many, points)), axis=1
            )
        else:
            middle[:, 0] = grid.origin_um[0] + grid.voxel_size_um[0] / 2
        along = np.stack(
            [np.sin(slope), np.cos(slope) * np.sin(heading), np.cos(slope) * np.cos(heading)],
            axis=-1,
        )
        path = np.cumsum(along, axis=1) * step_um
        path += middle[:, None] - path[:, points // 2][:, None]
        sideways = np.stack([np.zeros_like(heading), np.cos(heading), -np.sin(heading)], axis=-1)
        upwards = np.zeros_like(sideways) if flat else np.cross(along, sideways)
        return (
            np.asarray(path, np.float32),
            np.asarray(sideways, np.float32),
            np.asarray(upwards, np.float32),
        )

    def _brightness(
        self, many: int, points: int, step_um: float, rng: np.random.Generator
    ) -> FloatArray:
        """Return brightness (many, points): log-normal, slowly varying along a filament."""
        each = np.exp(rng.normal(0, self.brightness_spread, size=(many, 1)))
        path_um = np.arange(points) * step_um
        waves = np.zeros((many, points))
        for _ in range(4):
            length_um, phase = (
                rng.uniform(0.2, 1.5, size=(many, 1)),
                rng.uniform(0, 2 * np.pi, size=(many, 1)),
            )
            waves += np.cos(2 * np.pi * path_um / length_um + phase) / np.sqrt(2)
        return np.asarray(each * np.clip(1 + self.unevenness * waves, 0.1, None), np.float32)


def _across_um(width_um: float, pixel_um: float) -> list[tuple[float, float]]:
    """Return points (in the plane, out of it) that fill the round cross-section evenly."""
    steps = max(3, int(np.ceil(width_um / (ACROSS_PX * pixel_um))))
    line = (np.arange(steps) + 0.5) / steps - 0.5
    return [
        (float(a) * width_um, float(b) * width_um)
        for a in line
        for b in line
        if a * a + b * b <= 0.25
    ]


def _voxels(
    points_um: FloatArray, grid: Grid
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the flat index of each point's voxel, and whether the point is in the field."""
    index = np.zeros(points_um.shape[:-1], np.int64)
    inside = np.ones(points_um.shape[:-1], bool)
    for axis in range(3):
        place = np.floor(
            (points_um[..., axis] - grid.origin_um[axis]) / grid.voxel_size_um[axis]
        ).astype(np.int64)
        inside &= (place >= 0) & (place < grid.shape_px[axis])
        index = index * grid.shape_px[axis] + place
    return index, inside


def _dye(density: npt.NDArray[np.float64], labels: npt.NDArray[np.uint32], grid: Grid) -> Dye:
    shape = grid.shape_px
    numbers: LabelArray = renumbered(labels.reshape(shape))
    return Dye(
        density.astype(np.float32).reshape((1, *shape)),
        numbers,
        np.zeros(shape, np.float32),
        ("filaments",),
    )
