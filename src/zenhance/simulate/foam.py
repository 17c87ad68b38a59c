"""Foam of another kind than a meristem's: cells of a power diagram with curved, doubled walls.

::

     ____ ____            one wall:      |          doubled:   | |
    /    V    \\           ______________|______     _________| |______
    \\____o____/   o space where three cells meet

A power diagram divides space by ``|p - s|² - w`` (Aurenhammer, SIAM J. Comput. 16:78, 1987): cells
of unlike sizes, whose walls do not lie half-way. Wall thickness and stain differ from wall to wall.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from zenhance.simulate.cells import coverage
from zenhance.simulate.specimen import Dye, Grid, Parameters, renumbered, setting
from zenhance.simulate.tissue import Waves
from zenhance.types import FloatArray

__all__ = ["Foam"]

NEIGHBOURS = 5
BLOCK_POINTS = 200_000


class Foam(Parameters):
    """Settings of the foam; lengths in µm; it fills everything below its surface."""

    cell_um: float = setting(5.0, "mean edge length of a cell", "µm", ge=1, le=40)
    size_spread: float = setting(0.4, "spread of the cells' sizes, of cell_um", ge=0, le=1)
    wall_um: float = setting(0.3, "mean thickness of a wall", "µm", ge=0.05, le=2)
    wall_spread: float = setting(
        0.5, "spread of thickness and stain from wall to wall (log-normal)", ge=0, le=1
    )
    gap_um: float = setting(0.0, "distance of the two sheets of a doubled wall", "µm", ge=0, le=3)
    space_um: float = setting(0.0, "radius of the spaces between three cells", "µm", ge=0, le=5)
    bend_um: float = setting(0.5, "how far walls bend from planes", "µm", ge=0, le=3)
    cytoplasm: float = setting(0.05, "dye in the cells, relative to a wall", ge=0, le=1)
    surface_um: float = setting(
        1.5, "depth of the surface below the first plane; negative lies above it", "µm", le=100
    )

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return dye, labels and depth on a grid; channel ``membrane``."""
        rng = np.random.default_rng([seed, 1])
        points = grid.points_um()
        skin = Waves.random(rng, 8 * self.cell_um, 0.15 * self.cell_um)
        below = points[:, 0] - self.surface_um - skin(points)
        inside = np.clip(0.5 + below / grid.voxel_size_um[0], 0, 1)
        bends = [Waves.random(rng, 2 * self.cell_um, self.bend_um) for _ in range(3)]
        seeds, lift = self._seeds(grid, rng)
        tree = cKDTree(np.column_stack([seeds, lift]))
        stain = np.exp(rng.normal(0, self.wall_spread, (2, 4096))).astype(np.float32)
        level = np.asarray(self.cytoplasm * np.exp(rng.normal(0, 0.5, len(seeds))), np.float32)
        dye, owner = np.zeros(len(points), np.float32), np.zeros(len(points), np.int64)
        voxel = np.asarray(grid.voxel_size_um, np.float32)
        for first in range(0, len(points), BLOCK_POINTS):
            part = slice(first, first + BLOCK_POINTS)
            bent = points[part] + np.stack([wave(points[part]) for wave in bends], axis=1)
            dye[part], owner[part] = self._walls(bent, tree, voxel, stain, level)
        within = (below > 0).reshape(grid.shape_px)
        return Dye(
            (dye * inside).reshape(1, *grid.shape_px).astype(np.float32),
            renumbered((owner + 1).reshape(grid.shape_px) * within),
            np.clip(below, 0, None).reshape(grid.shape_px).astype(np.float32),
            ("membrane",),
        )

    def _seeds(self, grid: Grid, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return seeds (N, 3) and the fourth coordinate (N,) that stands for their weights."""
        margin = 2 * self.cell_um
        low = np.asarray(grid.origin_um) - margin
        size = np.asarray(grid.size_um) + 2 * margin
        count = max(8, round(float(np.prod(size)) / self.cell_um**3))
        weights = (self.size_spread * self.cell_um * rng.random(count)) ** 2
        return (
            np.asarray(low + size * rng.random((count, 3)), np.float32),
            np.asarray(np.sqrt(weights.max() - weights), np.float32),
        )

    def _walls(
        self,
        points_um: FloatArray,
        tree: cKDTree,
        voxel_um: FloatArray,
        stain: FloatArray,
        level: FloatArray,
    ) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """Return dye and owner of points (N, 3)."""
        flat = np.column_stack([points_um, np.zeros(len(points_um), np.float32)])
        distance, near = tree.query(flat, k=min(NEIGHBOURS, tree.n))
        seeds, own = np.asarray(tree.data[:, :3], np.float32), near[:, 0]
        dye = np.asarray(level[own], np.float32)
        walls = np.zeros(len(points_um), np.float32)
        planes = []
        for k in range(1, near.shape[1]):
            apart = seeds[near[:, k]] - seeds[own]
            length = np.maximum(np.linalg.norm(apart, axis=1), 1e-3)
            plane = ((distance[:, k] ** 2 - distance[:, 0] ** 2) / (2 * length)).astype(np.float32)
            planes.append(plane)
            width = (np.abs(apart) / length[:, None]) @ voxel_um
            # A wall has one number from both its sides.
            wall = (np.minimum(own, near[:, k]) * 611 + np.maximum(own, near[:, k]) * 37) % 4096
            thickness = np.clip(self.wall_um * stain[0, wall], 0.02, 3 * self.wall_um)
            sheet = coverage(plane - self.gap_um / 2, width, thickness)
            np.maximum(walls, sheet * np.clip(stain[1, wall], 0.2, 3), out=walls)
        if self.space_um > 0 and len(planes) > 1:
            # Three cells meet where the second nearest plane is near as well; the space is lined.
            corner = np.sort(np.stack(planes[:2]), axis=0)[1] - self.space_um
            lining = coverage(corner, np.full_like(corner, voxel_um.mean()), self.wall_um)
            walls = np.where(corner < 0, 0, walls)
            dye = np.where(corner < 0, 0, dye)
            np.maximum(walls, 0.7 * lining, out=walls)
        return np.maximum(walls, dye), own
