"""What a learnt method sees of any microscope: evened light, noise, PSF in voxels, deconvolutions.

::

    y ──► (y - background) / light ──────────► evened measurement
      ──► Richardson-Lucy, few and many ──► / light ──► two estimates without blur
      ──► log(noise / light), log σz, log σyx in voxels

A network that sees these sees the same kind of picture whatever the voxel size, PSF, camera and
depth; what it gives is multiplied by the light again and keeps the measurement's units. The light
is the local brightness, smooth over some 4 µm; it belongs to the volume, not the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zenhance.contract.spec import NoiseLike, PsfLike, VolumeStatistics
from zenhance.physics.blur import BlurOperator
from zenhance.solvers.deconvolved import deconvolved_reach_px, deconvolved_steps
from zenhance.solvers.schedule import CameraModel
from zenhance.types import FloatArray, FloatTriple, Region, Triple

__all__ = ["CHANNELS", "ITERATIONS", "LocalLight", "feature_steps", "front_end_reach_px"]

CHANNELS = ("light", "noise", "sigma_z", "sigma_yx", "early", "late")
"""Besides the measurement. Light in the measurement's units, estimates relative to it, and logs."""
ITERATIONS = (4, 12)
"""Accelerated iterations of the two estimates."""
CELL_UM = 2.0
"""The light is averaged over cells of this edge and their neighbours, and interpolated between."""
MIN_CELL_PX = 4
NOISE_SHARE = 0.5
"""Where there is nothing to see, the light is this share of the noise."""
LEAST_SHARE = 1e-4
"""Of the volume's range: no light is less."""
FLAT_SIGMA = 0.02
"""Stands for the width along an axis that is not blurred, in voxels."""
_LARGEST = 100.0
"""Of the estimates, relative to the light."""


@dataclass(frozen=True)
class LocalLight:
    """Local brightness of a volume: the root of the mean square of what is not noise.

    Parameters
    ----------
    cells : float32 array (z, y, x)
        Light of each cell, in the measurement's units.
    cell_px : tuple of int
        Voxels a cell along z, y, x.
    """

    cells: FloatArray
    cell_px: Triple

    @classmethod
    def steps(
        cls,
        read: Callable[[Region], FloatArray],
        shape_px: Triple,
        voxel_size_um: FloatTriple,
        noise: NoiseLike,
        statistics: VolumeStatistics,
    ) -> Generator[float, None, LocalLight]:
        """Measure the light of a volume; yields the fraction done.

        Parameters
        ----------
        read : callable
            Returns a region (z, y, x) of the volume, in grey values.
        shape_px, voxel_size_um : tuple
            Of the volume.
        noise, statistics : NoiseLike, VolumeStatistics
            Of the volume.
        """
        cell = _cell_px(shape_px, voxel_size_um)
        camera = CameraModel(statistics.background, noise.gain, noise.offset, noise.read_noise)
        _, height, width = shape_px
        layers = []
        for first in range(0, shape_px[0], cell[0]):
            last = min(first + cell[0], shape_px[0])
            block = np.asarray(
                read((slice(first, last), slice(0, height), slice(0, width))), np.float64
            )
            power = _cell_means(np.square(block - camera.background), cell)
            variance = noise.gain * np.clip(_cell_means(block, cell) - camera.shift, 0, None)
            layers.append(np.stack([np.clip(power - variance, 0, None), variance]))
            yield last / shape_px[0]
        squares, variance = np.stack(layers, 1)
        least = LEAST_SHARE * max(statistics.percentile_high - statistics.background, 1e-6)
        light = np.sqrt(_smooth(squares) + NOISE_SHARE**2 * _smooth(variance) + least**2)
        return cls(np.asarray(light, np.float32), cell)

    def at(self, region: Region) -> FloatArray:
        """Return the light of each voxel of a region (Z, Y, X)."""
        light = self.cells
        for axis, (part, cell) in enumerate(zip(region, self.cell_px, strict=True)):
            count = light.shape[axis]
            place = (np.arange(part.start, part.stop) + 0.5) / cell - 0.5
            place = np.clip(place, 0, count - 1)
            low = np.minimum(place.astype(np.int64), max(count - 2, 0))
            share = np.asarray(place - low, np.float32)
            share = share.reshape([-1 if a == axis else 1 for a in range(3)])
            lower, upper = (np.take(light, np.minimum(low + k, count - 1), axis) for k in (0, 1))
            light = lower + share * (upper - lower)
        return np.asarray(light, np.float32)


def _cell_px(shape_px: Triple, voxel_size_um: FloatTriple) -> Triple:
    """Return the size of a cell; no larger than the volume."""
    least = (1, MIN_CELL_PX, MIN_CELL_PX)
    z, y, x = (
        min(n, max(few, round(CELL_UM / length)))
        for n, few, length in zip(shape_px, least, voxel_size_um, strict=True)
    )
    return (z, y, x)


def _cell_means(block: npt.NDArray[np.float64], cell: Triple) -> npt.NDArray[np.float64]:
    """Average a slab (Z, Y, X), one cell thick, over cells (y, x)."""
    sums = block.mean(axis=0)
    for axis, size in ((0, cell[1]), (1, cell[2])):
        starts = np.arange(0, sums.shape[axis], size)
        counts = np.diff(np.append(starts, sums.shape[axis]))
        sums = np.add.reduceat(sums, starts, axis=axis) / np.expand_dims(counts, 1 - axis)
    return sums


def _smooth(cells: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average neighbouring cells 1 : 2 : 1 along each axis."""
    for axis in range(3):
        wide = np.pad(cells, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
        low, middle, high = (
            np.take(wide, np.arange(k, k + cells.shape[axis]), axis) for k in range(3)
        )
        cells = 0.25 * low + 0.5 * middle + 0.25 * high
    return cells


def feature_steps(
    measured: Tensor,
    light: Tensor,
    blur: BlurOperator,
    sigma_px: Tensor,
    noise: NoiseLike,
    statistics: VolumeStatistics,
) -> Generator[float, None, Tensor]:
    """Return the :data:`CHANNELS` of a volume or a tile of one.

    Parameters
    ----------
    measured, light : Tensor
        float32 (..., Z, Y, X), in grey values; the light from :meth:`LocalLight.at`.
    blur : BlurOperator
        As the user knows it, at each depth if a profile tells.
    sigma_px : Tensor
        (2, ..., Z, Y, X) or broadcast to it: standard deviations of the blur along z, and along y
        and x, in voxels.
    noise, statistics : NoiseLike, VolumeStatistics
        Of the whole volume.

    Yields
    ------
    float
        Fraction done.

    Returns
    -------
    Tensor
        float32 (channels, ..., Z, Y, X).
    """
    early, late = yield from deconvolved_steps(measured, blur, noise, statistics, ITERATIONS)
    camera = CameraModel(statistics.background, noise.gain, noise.offset, noise.read_noise)
    seen = blur(measured).sub_(camera.shift).clamp_(min=0.0)
    floor = max(noise.read_noise**2, (LEAST_SHARE * max(statistics.span, 1e-6)) ** 2)
    level = seen.mul_(noise.gain).clamp_(min=floor).sqrt_().div_(light).log_()
    widths = sigma_px.to(measured.device).clamp(min=FLAT_SIGMA).log().expand(2, *measured.shape)
    estimates = (x.div_(light).clamp_(max=_LARGEST) for x in (early, late))
    return torch.stack([light, level, *widths, *estimates])


def front_end_reach_px(psf: PsfLike, voxel_size_um: Sequence[float], depth: int) -> Triple:
    """Return how far (z, y, x) a voxel influences the features."""
    z, y, x = voxel_size_um
    return deconvolved_reach_px(psf, (z, y, x), ITERATIONS, depth)
