"""Shoot apical meristem: layered cells with stained walls under a dome, beside a young flower.

The epidermis (L1) and the layer beneath it (L2) are one cell thick each; deeper cells have no
order. Cells are about 5 µm wide, as in Arabidopsis (Reddy et al., Development 131:4225, 2004;
Fernandez et al., Nature Methods 7:547, 2010, who image the same organ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zenhance.simulate.cells import Cells, IntArray, coverage
from zenhance.simulate.specimen import Dye, Grid, Parameters, renumbered, setting, tissue_above_um
from zenhance.simulate.tissue import Tissue, Waves
from zenhance.types import FloatArray

__all__ = ["Meristem"]

# A stain rarely leaves a wall fully dark, and a junction is rarely over three times brighter than
# its walls.
WALL_BRIGHTNESS_RANGE = (0.3, 2.2)
NUCLEUS_RADIUS_SHARE = 0.32
FOLD_CELLS = 2.0
"""Wavelength of the folds between layers, in cells."""


class Meristem(Parameters):
    """Settings of the organ; lengths in µm; z = 0 is the first plane of the field."""

    cell_um: float = setting(5.0, "mean edge length of a cell", "µm", ge=2, le=20)
    layer_um: float = setting(4.8, "thickness of L1 and of L2", "µm", ge=2, le=20)
    wall_um: float = setting(0.3, "thickness of the walls", "µm", ge=0.05, le=1)
    radius_um: float = setting(20.0, "radius of the dome", "µm", ge=8, le=200)
    apex_um: float = setting(1.5, "depth of the apex below the first plane", "µm", ge=0, le=50)
    bump_um: float = setting(0.5, "unevenness of the skin", "µm", ge=0, le=3)
    bend_um: float = setting(0.25, "how far walls bend from planes", "µm", ge=0, le=1)
    fold_um: float = setting(0.0, "unevenness of the boundaries between layers", "µm", ge=0, le=2)
    wall_spread: float = setting(
        0.4, "spread of brightness from wall to wall (log-normal)", ge=0, le=1
    )
    cytoplasm: float = setting(0.06, "dye in the cytoplasm, relative to a wall", ge=0, le=1)
    flower: bool = setting(True, "whether a young flower stands beside the dome")
    nuclei: bool = setting(False, "whether a second channel with nuclei is rendered")

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return dye, labels and depth on a grid.

        Parameters
        ----------
        grid : Grid
            The field; the dome is in the middle of its rows and left of the middle of its columns.
        seed : int
            The same seed gives the same bytes.

        Returns
        -------
        Dye
            Channel ``membrane``, and ``nuclei`` where asked for.
        """
        rng = np.random.default_rng([seed, 1])
        organ = _Organ.grow(self, grid, rng)
        points = grid.points_um()
        inward = organ.cells.tissue.inward_um(points)
        inside_index = np.flatnonzero(inward > -max(grid.voxel_size_um))
        wall, owner, inside = organ.render_walls(points[inside_index], inward[inside_index])
        cytoplasm = organ.render_cytoplasm(points[inside_index], owner) * inside
        channels = [
            _spread(
                np.maximum(wall, cytoplasm) * organ.stain(points[inside_index]), inside_index, grid
            )
        ]
        if self.nuclei:
            channels.append(
                _spread(
                    organ.render_nuclei(points[inside_index], owner) * inside, inside_index, grid
                )
            )
        within = (inward > 0).reshape(grid.shape_px)
        labels = (
            _spread((owner + 1).astype(np.float32), inside_index, grid).astype(np.int64) * within
        )
        names = ("membrane", "nuclei") if self.nuclei else ("membrane",)
        return Dye(
            np.stack(channels),
            renumbered(labels),
            tissue_above_um(within, grid.voxel_size_um[0]),
            names,
        )


@dataclass(frozen=True)
class _Organ:
    settings: Meristem
    voxel_um: FloatArray
    cells: Cells
    brightness: FloatArray  # (cells, cells), symmetric
    level: FloatArray  # (cells,), cytoplasm
    bend: tuple[Waves, Waves, Waves]
    texture: Waves
    unevenness: Waves

    @classmethod
    def grow(cls, settings: Meristem, grid: Grid, rng: np.random.Generator) -> _Organ:
        tissue = _domes(settings, grid, rng)
        # Cells beyond the field shape those inside it: the box is one cell larger all round.
        low = np.asarray(grid.origin_um, np.float32) - settings.cell_um
        high = (
            np.asarray(grid.origin_um, np.float32)
            + np.asarray(grid.size_um, np.float32)
            + settings.cell_um
        )
        layer = settings.layer_um
        edges = (settings.cell_um, settings.cell_um, settings.cell_um * 1.1)
        cells = Cells.fill(tissue, np.stack([low, high]), (layer, layer), edges, rng)
        draw = np.exp(rng.normal(0, settings.wall_spread, size=(cells.count, cells.count)))
        brightness = np.clip(np.triu(draw) + np.triu(draw, 1).T, *WALL_BRIGHTNESS_RANGE)
        level = settings.cytoplasm * np.exp(rng.normal(0, 0.5, size=cells.count))
        bend = (
            Waves.random(rng, 9, settings.bend_um),
            Waves.random(rng, 9, settings.bend_um),
            Waves.random(rng, 9, settings.bend_um),
        )
        return cls(
            settings,
            np.asarray(grid.voxel_size_um, np.float32),
            cells,
            brightness.astype(np.float32),
            level.astype(np.float32),
            bend,
            Waves.random(rng, 1.6, 0.45, count=24),
            Waves.random(rng, 6, 0.18, count=12),
        )

    def stain(self, points_um: FloatArray) -> FloatArray:
        """Uneven staining, about 1."""
        return np.clip(1 + self.unevenness(points_um), 0.4, 1.6)

    def render_walls(
        self, points_um: FloatArray, inward_um: FloatArray
    ) -> tuple[FloatArray, IntArray, FloatArray]:
        """Return dye in the walls, owner of each voxel, and its share inside the tissue."""
        bent = points_um + np.stack([wave(points_um) for wave in self.bend], axis=1)
        normal = _gradient(self.cells.tissue, points_um)
        width = np.abs(normal) @ self.voxel_um
        wall_um = self.settings.wall_um
        layered = self.cells.tissue.layered_um(points_um, inward_um)
        wall, owner = self.cells.walls(bent, layered, self.voxel_um, wall_um, self.brightness)
        inside = np.clip(0.5 + inward_um / width, 0, 1)
        # The skin is half as bright as an inner wall, which two cells make, and just inside the
        # surface.
        skin = coverage(inward_um - wall_um / 2, width, wall_um) * 0.6
        floors = [
            coverage(layered - depth, width, wall_um)
            for depth in np.cumsum(self.cells.thicknesses_um)
        ]
        floor_level = np.clip(self.brightness[owner, owner], *WALL_BRIGHTNESS_RANGE) * 0.9
        periclinal = np.maximum(skin, np.maximum.reduce(floors) * floor_level)
        return np.maximum(wall * inside, periclinal), owner, inside

    def render_cytoplasm(self, points_um: FloatArray, owner: IntArray) -> FloatArray:
        """Faint grainy dye between wall and nucleus."""
        grain = np.clip(1 + self.texture(points_um), 0, None)
        hollow = 1 - 0.7 * self._ball(points_um, owner, soft_um=0.6)
        return self.level[owner] * grain * hollow

    def render_nuclei(self, points_um: FloatArray, owner: IntArray) -> FloatArray:
        """Round nuclei with chromatin grain."""
        grain = np.clip(1 + 0.5 * self.texture(points_um), 0.2, None)
        return np.asarray(
            self._ball(points_um, owner, soft_um=0.2)
            * grain
            * np.clip(self.level[owner] / max(self.settings.cytoplasm, 1e-6), 0.5, 1.5),
            np.float32,
        )

    def _ball(self, points_um: FloatArray, owner: IntArray, soft_um: float) -> FloatArray:
        away = np.linalg.norm(points_um - self.cells.seeds_um[owner], axis=1)
        radius = self.settings.cell_um * NUCLEUS_RADIUS_SHARE
        return np.asarray(np.clip((radius - away) / soft_um + 0.5, 0, 1), np.float32)


def _domes(settings: Meristem, grid: Grid, rng: np.random.Generator) -> Tissue:
    (_, y0, x0), (_, height, width) = grid.origin_um, grid.size_um
    middle_y, middle_x = y0 + height / 2, x0 + width * 0.42
    radius = settings.radius_um
    centres = [(settings.apex_um + radius, middle_y, middle_x)]
    radii = [radius]
    if settings.flower:
        angle = rng.uniform(-0.6, 0.6)
        reach = radius * 1.15
        centres.append(
            (
                settings.apex_um + radius * 1.02,
                middle_y + reach * np.sin(angle),
                middle_x + reach * np.cos(angle),
            )
        )
        radii.append(radius * 0.62)
    bumps = Waves.random(rng, 20, settings.bump_um)
    # Without folds nothing is drawn, so that seeds keep what they have always given.
    folds = (
        Waves.random(rng, FOLD_CELLS * settings.cell_um, settings.fold_um)
        if settings.fold_um > 0
        else None
    )
    return Tissue(np.asarray(centres, np.float32), np.asarray(radii, np.float32), 0.8, bumps, folds)


def _gradient(tissue: Tissue, points_um: FloatArray, step_um: float = 0.1) -> FloatArray:
    columns = []
    for axis in range(3):
        shift = np.zeros(3, np.float32)
        shift[axis] = step_um
        columns.append(
            (tissue.inward_um(points_um + shift) - tissue.inward_um(points_um - shift))
            / (2 * step_um)
        )
    normal = np.stack(columns, axis=1)
    return np.asarray(
        normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6), np.float32
    )


def _spread(values: FloatArray, index: IntArray, grid: Grid) -> FloatArray:
    volume = np.zeros(int(np.prod(grid.shape_px)), np.float32)
    volume[index] = values
    return volume.reshape(grid.shape_px)
