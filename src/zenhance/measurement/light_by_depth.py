"""Surface of the specimen, light and haze by depth, from block means of a stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from zenhance.physics.noise_estimate import CameraFit, Spread
from zenhance.types import FloatTriple

__all__ = ["Light", "Surface", "find_surface", "measure_light"]

Floats = npt.NDArray[np.float64]

BLOCK_UM = 2.5
"""Edge of the blocks whose means are followed along z."""
RISE = 0.3
"""The surface is where a column first reaches this share of its brightest plane."""
STEP_UM = 2.0
DRAWS = 60
UNEVEN = 0.13
"""The rate's interval is at least so wide on each side: specimens are denser at some depths."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Where the specimen begins in each block.

    Parameters
    ----------
    height_um : array (Y blocks, X blocks)
        Distance of the surface from the first plane's centre, 0 or more.
    block_px : int
        Edge of a block in pixels.
    light : array (Z, Y blocks, X blocks)
        Block means above the background, grey values.
    inside_at_top : float
        Share of the blocks in which the first plane is inside the specimen already.
    """

    height_um: Floats
    block_px: int
    light: Floats
    inside_at_top: float

    def depth_um(self, shape: tuple[int, int, int], z_um: float) -> npt.NDArray[np.float32]:
        """Return the depth of each voxel of a stack of that shape; 0 above the surface."""
        rows, columns = self.height_um.shape
        y = np.clip((np.arange(shape[1]) + 0.5) / self.block_px - 0.5, 0, rows - 1)
        x = np.clip((np.arange(shape[2]) + 0.5) / self.block_px - 0.5, 0, columns - 1)
        grid = np.meshgrid(y, x, indexing="ij")
        height = ndimage.map_coordinates(self.height_um, grid, order=1, mode="nearest")
        depth = np.arange(shape[0])[:, None, None] * z_um - height
        return np.asarray(np.clip(depth, 0.0, None), np.float32)

    def height_at(self, y: int, x: int) -> float:
        """Return the height of the surface at a pixel, in µm."""
        rows, columns = self.height_um.shape
        row, column = min(y // self.block_px, rows - 1), min(x // self.block_px, columns - 1)
        return float(self.height_um[row, column])


@dataclass(frozen=True, slots=True)
class Light:
    """Light of the specimen by depth.

    Parameters
    ----------
    depth_um, mean, haze : array (N,)
        Centres of the depth bins; mean light and light between the structures, grey values.
    mean_range, haze_range : array (2, N)
        Their 90 % intervals: from redrawn columns, and from the ranks of a quantile.
    attenuation_um : Spread
        Depth over which the light falls to 1/e.
    measured : bool
        Whether the decay shows.
    """

    depth_um: Floats
    mean: Floats
    mean_range: Floats
    haze: Floats
    haze_range: Floats
    attenuation_um: Spread
    measured: bool


def find_surface(
    volume: npt.NDArray[np.float32], voxel_um: FloatTriple, camera: CameraFit
) -> Surface:
    """Find where each column of blocks enters the specimen."""
    depth, height, width = volume.shape
    block = int(np.clip(round(BLOCK_UM / voxel_um[1]), 2, max(2, min(height, width) // 4)))
    rows, columns = max(1, height // block), max(1, width // block)
    by, bx = min(block, height), min(block, width)
    cut = volume[:, : rows * by, : columns * bx].reshape(depth, rows, by, columns, bx)
    light = cut.mean(axis=(2, 4), dtype=np.float64) - camera.background.value
    smooth = ndimage.uniform_filter1d(light, max(1, round(1.0 / voxel_um[0])), axis=0)
    smooth = ndimage.median_filter(smooth, (1, 3, 3)) if min(rows, columns) >= 3 else smooth
    noise = np.sqrt(max(camera.slope * camera.background.value + camera.intercept, 1e-12))
    top = smooth.max(axis=0)
    level = np.maximum(RISE * top, 6.0 * noise / block)
    above = smooth > level
    first = np.argmax(above, axis=0)
    before = np.maximum(first - 1, 0)
    now, then = (np.take_along_axis(smooth, i[None], axis=0)[0] for i in (first, before))
    share = np.where(first > 0, (level - then) / np.maximum(now - then, 1e-12), 0.0)
    found = (before + np.clip(share, 0.0, 1.0)) * voxel_um[0]
    lit = above.any(axis=0)
    found = np.where(lit, found, np.median(found[lit]) if lit.any() else 0.0)
    inside = float(np.mean(first[lit] == 0)) if lit.any() else 1.0
    if min(rows, columns) >= 3:
        found = ndimage.median_filter(found, 3)
    return Surface(np.asarray(found), block, light, inside)


def measure_light(surface: Surface, z_um: float, camera: CameraFit) -> Light:
    """Fit an exponential to the mean light by depth; the interval comes from redrawn columns."""
    planes, rows, columns = surface.light.shape
    depth = np.arange(planes)[:, None, None] * z_um - surface.height_um
    deepest = float(np.quantile(depth[-1], 0.5))
    count = int(max(2, min(40, deepest // STEP_UM)))
    edges = np.linspace(0.0, max(deepest, z_um), count + 1)
    which = np.digitize(depth, edges) - 1
    columns_of = np.arange(rows * columns).reshape(rows, columns)
    sums, numbers = np.zeros((count, rows * columns)), np.zeros((count, rows * columns))
    inside = (which >= 0) & (which < count)
    place = np.broadcast_to(columns_of, depth.shape)
    np.add.at(sums, (which[inside], place[inside]), surface.light[inside])
    np.add.at(numbers, (which[inside], place[inside]), 1.0)
    centres = 0.5 * (edges[1:] + edges[:-1])
    mean = sums.sum(axis=1) / np.maximum(numbers.sum(axis=1), 1.0)
    haze, haze_range = _haze([surface.light[which == k] for k in range(count)])
    slack = max(camera.background.high - camera.background.low, 0.0) / 3.3
    best = _decay(centres, mean, slack)
    rng = np.random.Generator(np.random.Philox(1))
    tiles = _tiles(rows, columns)
    rates, redrawn = [], []
    for _ in range(DRAWS):
        drawn = np.concatenate([tiles[i] for i in rng.integers(0, len(tiles), len(tiles))])
        share = sums[:, drawn].sum(axis=1) / np.maximum(numbers[:, drawn].sum(axis=1), 1.0)
        redrawn.append(share)
        keep = rng.random(count) < 0.8
        # The specimen's own unevenness counts too: depths are left out at random.
        if keep.sum() >= 4:
            rates.append(_decay(centres[keep], share[keep] + rng.normal(0.0, slack), slack))
    low, high = (np.quantile(rates, q) for q in (0.05, 0.95)) if rates else (best, best)
    low, high = min(float(low), (1 - UNEVEN) * best), max(float(high), (1 + UNEVEN) * best)
    measured = best > 1e-4 and (high - low) < 2.0 * best and deepest > 5.0
    top = 1e6
    length = Spread(
        min(top, 1.0 / max(best, 1e-6)),
        min(top, 1.0 / max(high, 1e-6)),
        min(top, 1.0 / max(low, 1e-6)),
    )
    mean_range = np.quantile(redrawn, [0.05, 0.95], axis=0)
    return Light(centres, mean, mean_range, haze, haze_range, length, bool(measured))


def _haze(light: list[Floats]) -> tuple[Floats, Floats]:
    """Return the darkest tenth of the blocks at each depth, and its 90 % interval (2, N)."""
    found = np.zeros((3, len(light)))
    for k, values in enumerate(light):
        if not values.size:
            continue
        # Neighbouring planes and columns are alike: a quarter of the blocks counts.
        slack = 1.645 * np.sqrt(0.1 * 0.9 / max(values.size / 4.0, 1.0))
        found[:, k] = np.quantile(values, np.clip([0.1, 0.1 - slack, 0.1 + slack], 0.0, 1.0))
    found = np.maximum(found, 0.0)
    return found[0], found[1:]


def _tiles(rows: int, columns: int) -> list[npt.NDArray[np.int64]]:
    """Group the columns of blocks into at most 4 x 4 neighbourhoods."""
    y = np.minimum(np.arange(rows) * 4 // max(rows, 1), 3)
    x = np.minimum(np.arange(columns) * 4 // max(columns, 1), 3)
    tile = (y[:, None] * 4 + x[None, :]).ravel()
    return [np.flatnonzero(tile == t) for t in np.unique(tile)]


def _decay(depth_um: Floats, mean: Floats, slack: float) -> float:
    """Return the decay rate in 1/µm of light that falls exponentially."""
    top = max(float(mean.max()), 1e-12)
    usable = (depth_um > 2.0) & (mean > max(0.01 * top, 3.0 * slack))
    if usable.sum() < 3:
        return 0.0
    x, y = depth_um[usable], np.log(mean[usable])
    weight = 1.0 / np.hypot(0.15, slack / mean[usable])

    def misfit(p: Floats) -> Floats:
        return np.asarray((p[0] - p[1] * x - y) * weight)

    start = np.polyfit(x, y, 1)
    # Imported here, because a dock must open fast.
    from scipy import optimize

    found = optimize.least_squares(misfit, [start[1], -start[0]], loss="soft_l1")
    return float(found.x[1])
