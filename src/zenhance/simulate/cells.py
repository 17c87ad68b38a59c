"""Cells in a tissue: relaxed Voronoi cells within each layer, with anti-aliased walls.

Two cells of a layer meet in the plane half-way between their seeds. A wall of thickness ``t``
covers a voxel at distance ``w`` from that plane like a box of the voxel's width ``p`` along the
plane's normal: ``clip((t + p) / 2 - w, 0, min(t, p)) / p``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from zenhance.simulate.tissue import Tissue
from zenhance.types import FloatArray

__all__ = ["Cells", "coverage", "relaxed_seeds"]

IntArray = npt.NDArray[np.int64]
NEIGHBOURS = 9
BLOCK_POINTS = 200_000


def coverage(
    distance_um: FloatArray, width_um: FloatArray, thickness_um: float | FloatArray
) -> FloatArray:
    """Return the share (0 ... 1) of a voxel inside a slab.

    Parameters
    ----------
    distance_um : float32 array
        From the voxel's centre to the slab's middle plane.
    width_um : float32 array
        Length of the voxel along the slab's normal.
    thickness_um : float
        Of the slab.
    """
    overlap = (thickness_um + width_um) / 2 - np.abs(distance_um)
    return np.asarray(
        np.clip(overlap, 0, np.minimum(thickness_um, width_um)) / width_um, np.float32
    )


def relaxed_seeds(
    points_um: FloatArray, count: int, rounds: int, rng: np.random.Generator
) -> FloatArray:
    """Distribute seeds evenly in a point cloud by Lloyd's algorithm.

    Parameters
    ----------
    points_um : float32 array (N, 3)
        Evenly spread over the region to fill.
    count : int
        Number of seeds.
    rounds : int
        More rounds make the cells more alike.
    """
    seeds = points_um[rng.choice(len(points_um), size=count, replace=False)].astype(np.float64)
    for _ in range(rounds):
        owner = cKDTree(seeds).query(points_um)[1]
        size = np.bincount(owner, minlength=count)
        for axis in range(3):
            total = np.bincount(owner, weights=points_um[:, axis], minlength=count)
            seeds[:, axis] = np.where(size > 0, total / np.maximum(size, 1), seeds[:, axis])
    return seeds.astype(np.float32)


@dataclass(frozen=True)
class Cells:
    """Seeds of all cells, layer by layer; cells are numbered from 0 through all layers.

    Parameters
    ----------
    layers_um : tuple of float32 arrays (N_i, 3)
        Seeds of each layer.
    tissue : Tissue
        The organ.
    thicknesses_um : tuple of float
        Of each layer but the last.
    """

    layers_um: tuple[FloatArray, ...]
    tissue: Tissue
    thicknesses_um: tuple[float, ...]

    @property
    def count(self) -> int:
        """Number of cells."""
        return sum(len(seeds) for seeds in self.layers_um)

    @property
    def seeds_um(self) -> FloatArray:
        """Seeds of all cells, (count, 3)."""
        return np.concatenate(self.layers_um)

    @classmethod
    def fill(
        cls,
        tissue: Tissue,
        box_um: FloatArray,
        thicknesses_um: tuple[float, ...],
        cell_um: tuple[float, ...],
        rng: np.random.Generator,
    ) -> Cells:
        """Fill the tissue inside a box, (2, 3) corners in µm, with cells of given sizes."""
        volume_um3 = float(np.prod(box_um[1] - box_um[0]))
        points = rng.uniform(box_um[0], box_um[1], size=(int(volume_um3 * 2.5), 3)).astype(
            np.float32
        )
        inward = tissue.inward_um(points)
        layer = tissue.layer(tissue.layered_um(points, inward), thicknesses_um)
        layers = []
        for number, edge in enumerate(cell_um):
            cloud = points[(layer == number) & (inward > 0)]
            wanted = round(len(cloud) / 2.5 / edge**3)
            layers.append(
                relaxed_seeds(cloud, min(wanted, len(cloud)), 6, rng)
                if wanted
                else np.zeros((0, 3), np.float32)
            )
        return cls(tuple(layers), tissue, thicknesses_um)

    def walls(
        self,
        points_um: FloatArray,
        inward_um: FloatArray,
        voxel_um: FloatArray,
        thickness_um: float,
        brightness: FloatArray,
    ) -> tuple[FloatArray, IntArray]:
        """Render the walls between cells of one layer.

        Parameters
        ----------
        points_um : float32 array (N, 3)
            Voxel centres.
        inward_um : float32 array (N,)
            Their depth as layers count it, :meth:`Tissue.layered_um`.
        voxel_um : float32 array (3,)
            Voxel size.
        thickness_um : float
            Of the walls.
        brightness : float32 array (count, count)
            Dye in the wall between two cells.

        Returns
        -------
        wall : float32 array (N,)
            Dye.
        owner : int array (N,)
            The cell of each voxel.
        """
        wall = np.zeros(len(points_um), np.float32)
        owner = np.zeros(len(points_um), np.int64)
        layer = self.tissue.layer(inward_um, self.thicknesses_um)
        first = 0
        for number, seeds in enumerate(self.layers_um):
            chosen = np.flatnonzero(layer == number)
            tree = cKDTree(seeds) if len(seeds) else None
            for start in range(0, len(chosen), BLOCK_POINTS):
                if tree is None:
                    break
                part = chosen[start : start + BLOCK_POINTS]
                dye, near = _bisector_walls(
                    points_um[part], tree, voxel_um, thickness_um, brightness, first
                )
                wall[part], owner[part] = dye, near
            first += len(seeds)
        return wall, owner


def _bisector_walls(
    points_um: FloatArray,
    tree: cKDTree,
    voxel_um: FloatArray,
    thickness_um: float,
    brightness: FloatArray,
    first: int,
) -> tuple[FloatArray, IntArray]:
    seeds = np.asarray(tree.data, np.float32)
    distance, near = tree.query(points_um, k=min(NEIGHBOURS, len(seeds)))
    if len(seeds) == 1:
        return np.zeros(len(points_um), np.float32), np.full(len(points_um), first, np.int64)
    own = near[:, 0]
    wall = np.zeros(len(points_um), np.float32)
    for k in range(1, near.shape[1]):
        apart = seeds[near[:, k]] - seeds[own]
        length = np.linalg.norm(apart, axis=1)
        to_plane = ((distance[:, k] ** 2 - distance[:, 0] ** 2) / (2 * length)).astype(np.float32)
        width = (np.abs(apart) / length[:, None]) @ voxel_um
        dye = coverage(to_plane, width, thickness_um) * brightness[own + first, near[:, k] + first]
        np.maximum(wall, dye, out=wall)
    return wall, own + first
