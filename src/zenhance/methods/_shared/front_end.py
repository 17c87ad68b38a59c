"""What a trained method sees of any microscope: evened light, noise, PSF in voxels, deconvolutions.

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
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zenhance.contract.spec import MethodContext, NoiseLike, PsfLike, VolumeStatistics
from zenhance.errors import MethodError
from zenhance.methods._shared.planes import mirrored
from zenhance.physics.blur import Blur, BlurOperator, PsfKernels
from zenhance.physics.noise import PoissonGauss
from zenhance.solvers.deconvolved import deconvolved_reach_px, deconvolved_steps
from zenhance.solvers.schedule import CameraModel
from zenhance.types import FloatArray, FloatTriple, Region, Triple

__all__ = [
    "CHANNELS",
    "ITERATIONS",
    "FrontEnd",
    "LocalLight",
    "Seen",
    "feature_steps",
    "front_end_reach_px",
]

CHANNELS = ("light", "noise", "sigma_z", "sigma_yx", "early", "late")
"""Besides the measurement. Light in the measurement's units, estimates relative to it, and logs."""
ITERATIONS = (4, 12)
"""Accelerated iterations of the two estimates."""
CELL_UM = 2.0
"""The light is averaged over cells of this edge and their neighbours, and interpolated between."""
MIN_CELL_PX = 4
NOISE_SHARE = 0.5
"""Where there is nothing to see, the light is this share of the noise."""
MIN_SHARE = 1e-4
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
        least = MIN_SHARE * max(statistics.percentile_high - statistics.background, 1e-6)
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
    sums: npt.NDArray[np.float64] = block.mean(axis=0)
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
    floor = max(noise.read_noise**2, (MIN_SHARE * max(statistics.span, 1e-6)) ** 2)
    level = seen.mul_(noise.gain).clamp_(min=floor).sqrt_().div_(light).log_()
    widths = sigma_px.to(measured.device).clamp(min=FLAT_SIGMA).log().expand(2, *measured.shape)
    estimates = (x.div_(light).clamp_(max=_LARGEST) for x in (early, late))
    return torch.stack([light, level, *widths, *estimates])


@dataclass(frozen=True)
class Seen:
    """A tile as a network sees it.

    Parameters
    ----------
    features : Tensor (channels, Z, Y, X)
        The evened measurement, then :data:`CHANNELS` without the light; Z, Y, X of the padded tile.
    light, measured : Tensor (Z, Y, X)
        In grey values, without padding; the measurement above the ground.
    blur : BlurOperator
        Of the tile without padding.
    background, ground : float
        Grey value of the volume's background above the ground, and the ground: a whole number near
        it, so that differences from it are exact in float32.
    """

    features: Tensor
    light: Tensor
    measured: Tensor
    blur: BlurOperator
    background: float
    ground: float

    def grey(self, relative: Tensor) -> Tensor:
        """Return an image relative to the light as grey values above the ground (Z, Y, X)."""
        z, y, x = self.light.shape
        return relative[:z, :y, :x] * self.light + self.background


@dataclass(frozen=True)
class FrontEnd:
    """The front end of one volume."""

    context: MethodContext
    local: LocalLight

    @classmethod
    def steps(cls, context: MethodContext) -> Generator[float, None, FrontEnd]:
        """Measure the light of a volume; yields the fraction done.

        Raises
        ------
        MethodError
            There is no PSF.
        """
        if context.psf is None or context.noise is None:
            raise MethodError(
                "these weights need the microscope's blur; "
                "give a point spread function, for example psf sigma_um=0.5,0.15,0.15"
            )
        local = yield from LocalLight.steps(
            context.read,
            context.shape_px,
            context.voxel_size_um,
            context.noise,
            context.statistics,
        )
        return cls(context, local)

    def look(self, tile: FloatArray, origin_px: Triple) -> Generator[float, None, Seen]:
        """Return what a network sees of a tile (Z, Y, X), which may be padded at its ends."""
        known = self.context
        size = [
            min(n, whole - start)
            for n, whole, start in zip(tile.shape, known.shape_px, origin_px, strict=True)
        ]
        z, y, x = (slice(start, start + n) for start, n in zip(origin_px, size, strict=True))
        ground = float(np.round(known.statistics.background))
        above = tile[: size[0], : size[1], : size[2]] - np.float32(ground)
        measured = torch.from_numpy(np.ascontiguousarray(above, np.float32)).to(known.device)
        light = torch.from_numpy(self.local.at((z, y, x))).to(known.device)
        blur, sigma_px = self._blur((z, y, x))
        noise, statistics = _above(cast(NoiseLike, known.noise), known.statistics, ground)
        features = yield from feature_steps(measured, light, blur, sigma_px, noise, statistics)
        features[0] = (measured - statistics.background) / light
        for axis, length in enumerate(tile.shape, start=1):
            if features.shape[axis] < length:
                index = torch.from_numpy(mirrored(np.arange(length), features.shape[axis]))
                features = features.index_select(axis, index.to(features.device))
        return Seen(features, light, measured, blur, statistics.background, ground)

    def _blur(self, region: Region) -> tuple[BlurOperator, Tensor]:
        """Return blur and widths in a region: of the profile's depths where there is a profile."""
        known = self.context
        shape = (
            region[0].stop - region[0].start,
            region[1].stop - region[1].start,
            region[2].stop - region[2].start,
        )
        flat = known.shape_px[0] == 1
        if known.profiled is not None and not flat:
            widths = torch.from_numpy(known.profiled.sigma_px(region))
            return known.profiled.blur([region], known.device).blurs[0], widths
        psf = cast(PsfLike, known.psf)
        z, y, _ = psf.sigma_px(known.voxel_size_um)
        widths = torch.tensor([0.0 if flat else z, y], dtype=torch.float32)
        blur = Blur.from_psf(cast(PsfKernels, psf), known.voxel_size_um, shape, known.device)
        return blur, widths.reshape(2, 1, 1, 1)


def _above(
    noise: NoiseLike, statistics: VolumeStatistics, ground: float
) -> tuple[NoiseLike, VolumeStatistics]:
    """Return noise and statistics of a volume minus its ground."""
    levels = ("minimum", "maximum", "mean", "percentile_low", "percentile_high", "background")
    moved = {name: getattr(statistics, name) - ground for name in levels}
    return (
        PoissonGauss(noise.gain, noise.offset - ground, noise.read_noise),
        replace(statistics, **moved),
    )


def front_end_reach_px(psf: PsfLike, voxel_size_um: Sequence[float], depth: int) -> Triple:
    """Return how far (z, y, x) a voxel influences the features."""
    z, y, x = voxel_size_um
    return deconvolved_reach_px(psf, (z, y, x), ITERATIONS, depth)
