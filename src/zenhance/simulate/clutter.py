"""Structures scattered through a block of tissue: filaments, dots, nuclei, shells or a texture.

::

    filaments ~~~   dots · :   nuclei ●   shells ○ (thin, hollow, apart)   texture ▒ (waves)

Other than :mod:`zenhance.simulate.structures` they fill depth, and the tissue above dims them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from zenhance.simulate.specimen import Dye, Grid, LabelArray, Parameters, setting
from zenhance.simulate.tissue import Waves
from zenhance.types import FloatArray

__all__ = ["KINDS", "Clutter"]

KINDS = ("filaments", "dots", "nuclei", "shells", "texture")
STEP_PX = 0.5
"""Distance of the points along a filament that stand for its dye."""
MAX_DYE = 3.0
"""In a voxel, where lines cross or are thicker than voxels."""


class Clutter(Parameters):
    """Settings of the structures; lengths in µm."""

    kind: Literal["filaments", "dots", "nuclei", "shells", "texture"] = setting(
        "filaments", "what is scattered"
    )
    scale_um: float = setting(
        4.0, "diameter of a nucleus or shell, distance of lines and dots", "µm", gt=0.1, le=40
    )
    line_um: float = setting(0.2, "thickness of a line, dot or shell", "µm", ge=0.02, le=2)
    density: float = setting(1.0, "how crowded the block is; 1 is usual", gt=0, le=10)
    brightness_spread: float = setting(
        0.4, "spread of brightness between structures (log-normal)", ge=0, le=1.5
    )
    haze: float = setting(0.02, "dye between the structures", ge=0, le=1)
    surface_um: float = setting(
        0.0, "depth of the surface below the first plane; negative lies above it", "µm", le=100
    )

    def render(self, grid: Grid, seed: int) -> Dye:
        """Return dye, labels and depth on a grid; channel ``structures``.

        Labels are the structures' numbers where they are bodies, else 1 where there is dye.
        """
        rng = np.random.default_rng([seed, 1])
        depth = np.broadcast_to(
            (grid.margins[0] - self.surface_um)[:, None, None], grid.shape_px
        ).astype(np.float32)
        labels = np.zeros(grid.shape_px, np.uint16)
        if self.kind == "texture":
            dye = self._texture(grid, rng)
        elif self.kind in ("nuclei", "shells"):
            dye = self._bodies(grid, rng, labels)
        else:
            dye = self._points(grid, rng)
        if not labels.any():
            labels[dye > 0.1 * max(float(dye.max()), 1e-6)] = 1
        inside = np.clip(0.5 + depth / grid.voxel_size_um[0], 0, 1)
        return Dye(
            np.asarray((dye + self.haze) * inside, np.float32)[None],
            np.asarray(labels * (depth > 0), np.uint16),
            np.clip(depth, 0, None),
            ("structures",),
        )

    def _spots(self, grid: Grid, rng: np.random.Generator, per_um3: float) -> FloatArray:
        """Return random places (N, 3) in the field and a margin about it."""
        low = np.asarray(grid.origin_um) - self.scale_um
        size = np.asarray(grid.size_um) + 2 * self.scale_um
        count = max(1, min(20_000, round(self.density * per_um3 * float(np.prod(size)))))
        return np.asarray(low + size * rng.random((count, 3)), np.float32)

    def _bright(self, many: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        return np.exp(rng.normal(0.0, self.brightness_spread, many))

    def _texture(self, grid: Grid, rng: np.random.Generator) -> FloatArray:
        """Waves of several lengths, cut off below a level."""
        points = grid.points_um()
        total = sum(
            Waves.random(rng, self.scale_um * share, share**0.5, count=12)(points)
            for share in (1.0, 0.5, 0.25)
        )
        return np.asarray(np.clip(0.4 + 0.5 * total, 0, 2).reshape(grid.shape_px), np.float32)

    def _bodies(self, grid: Grid, rng: np.random.Generator, labels: LabelArray) -> FloatArray:
        """Ellipsoids that hide one another: full and grainy nuclei, or hollow shells."""
        dye = np.zeros(grid.shape_px, np.float32)
        centres = self._spots(grid, rng, 0.35 / self.scale_um**3)
        bright = self._bright(len(centres), rng)
        grain = Waves.random(rng, 0.3 * self.scale_um, 0.35, count=16)
        step = float(np.mean(grid.voxel_size_um))
        for number, centre in enumerate(centres):
            radii = 0.5 * self.scale_um * rng.uniform(0.6, 1.25) * rng.uniform(0.75, 1.25, 3)
            box = tuple(
                slice(*np.searchsorted(axis, (c - r - 2 * step, c + r + 2 * step)))
                for axis, c, r in zip(grid.margins, centre, radii, strict=True)
            )
            points = np.stack(
                np.meshgrid(*(a[b] for a, b in zip(grid.margins, box, strict=True)), indexing="ij"),
                axis=-1,
            )
            if not points.size:
                continue
            away = np.linalg.norm((points - centre) / radii, axis=-1)
            within = (1 - away) * radii.min()
            cover = np.clip(0.5 + within / step, 0, 1)
            if self.kind == "shells":
                fill = np.clip(0.5 + (self.line_um - within) / step, 0, 1) * bright[number]
                fill = fill * min(1.0, self.line_um / step)
            else:
                speckle = grain(points.reshape(-1, 3)).reshape(away.shape)
                fill = bright[number] * np.clip(0.7 + speckle, 0.1, 2)
            dye[box] += cover * (fill - dye[box])
            labels[box][within > 0] = number + 1
        return dye

    def _points(self, grid: Grid, rng: np.random.Generator) -> FloatArray:
        """Dots, single; or worm-like chains, each point shared out among eight voxels."""
        z_um, y_um, x_um = grid.voxel_size_um
        if self.kind == "dots":
            places = self._spots(grid, rng, 1.5 / self.scale_um**3)
            amount = self._bright(len(places), rng).reshape(-1) * self.line_um**3 * 8
        else:
            step, length = STEP_PX * min(grid.voxel_size_um), 6 * self.scale_um
            starts = self._spots(grid, rng, 0.5 / self.scale_um**3)
            many = max(2, round(length / step))
            heading = rng.normal(size=(len(starts), 1, 3)) * (0.6, 1.0, 1.0)
            turns = np.cumsum(rng.normal(size=(len(starts), many, 3)), axis=1)
            heading = heading + turns * np.sqrt(step / (2.0 * self.scale_um))
            heading /= np.linalg.norm(heading, axis=-1, keepdims=True)
            path = starts[:, None] + np.cumsum(heading, axis=1) * step
            places = np.asarray(path.reshape(-1, 3), np.float32)
            each = self._bright(len(starts), rng)[:, None] * self.line_um**2 * step
            amount = np.broadcast_to(each, path.shape[:2]).reshape(-1)
        # A structure thinner than a voxel fills a share of it.
        dye = _deposited(places, amount / (z_um * y_um * x_um), grid)
        return np.minimum(dye, np.float32(MAX_DYE))


def _deposited(places_um: FloatArray, amount: npt.NDArray[np.float64], grid: Grid) -> FloatArray:
    """Return points' dye on the grid, each shared out among the eight voxels around it."""
    place = (places_um - grid.origin_um) / grid.voxel_size_um - 0.5
    low = np.floor(place).astype(np.int64)
    share = place - low
    volume = np.zeros(int(np.prod(grid.shape_px)))
    for corner in np.ndindex(2, 2, 2):
        at = low + corner
        weight = np.abs(1 - np.asarray(corner) - share).prod(axis=1) * amount
        inside = ((at >= 0) & (at < grid.shape_px)).all(axis=1)
        flat = np.ravel_multi_index(tuple(at[inside].T), grid.shape_px)
        volume += np.bincount(flat, weight[inside], volume.size)
    return np.asarray(volume.reshape(grid.shape_px), np.float32)
