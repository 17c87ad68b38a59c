"""Parts of measured stacks to learn from: the specimen estimated in each, and resimulated."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zenhance.contract import registry
from zenhance.contract.spec import MethodContext
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure_noise
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import Psf
from zenhance.stack import Stack
from zenhance.training.data import TrainingVolume
from zenhance.training.optics import grown_psf, optics_of_camera, psf_for_learning
from zenhance.training.recipe import Recipe
from zenhance.types import FloatArray

__all__ = ["MAX_VOXELS", "Column", "cut_columns", "estimate_steps", "pair_steps", "resimulate"]

MAX_VOXELS = 4_000_000
"""Voxels to learn from, in columns of full depth; more would take over ten minutes."""
VOXELS_A_MINUTE = 400_000
"""With little time, fewer still: the first estimate must leave most of it for learning."""
COLUMN_PX, MIN_PX = 256, 32
GROWTH_STEPS = 4
"""So many widths are blended where the PSF grows with depth."""
DRAWS = 4
"""How often each column is resimulated for training; once more for validation."""


@dataclass(frozen=True)
class Column:
    """A part of a stack that is learnt from, and what is known of how it was measured."""

    volume: TrainingVolume
    measured: FloatArray
    psf: Psf
    noise: PoissonGauss
    voxel_size_um: tuple[float, float, float]
    growth: float = 1.0


def resimulate(
    estimate: FloatArray,
    psf: Psf,
    noise: PoissonGauss,
    voxel_size_um: tuple[float, float, float],
    seed: int,
    growth: float = 1.0,
) -> FloatArray:
    """Return an image of a specimen as this microscope would measure it.

    Parameters
    ----------
    estimate : float32 array (Z, Y, X)
        The specimen, in the camera's grey values.
    psf, noise : Psf, PoissonGauss
        Of the microscope.
    voxel_size_um : tuple of float
        (z, y, x).
    seed : int
        Of the noise.
    growth : float
        Width of the PSF in the last plane over that in the first.

    Returns
    -------
    float32 array (Z, Y, X)
        Grey values, neither rounded nor clipped.
    """
    blurred = _blurred(estimate, psf, voxel_size_um, growth).numpy()
    return noise.sample(np.clip((blurred - noise.offset) / noise.gain, 0.0, None), seed)


def _blurred(
    estimate: FloatArray, psf: Psf, voxel_size_um: tuple[float, float, float], growth: float
) -> torch.Tensor:
    """Blur each plane's light as wide as the PSF is at its depth: blends of a few blurs."""
    depth, height, width = estimate.shape
    light = torch.from_numpy(np.ascontiguousarray(estimate))
    if growth == 1 or depth == 1:
        return Blur.from_psf(psf, voxel_size_um, (depth, height, width))(light)
    place = torch.linspace(0, GROWTH_STEPS - 1, depth)[:, None, None]
    total = torch.zeros_like(light)
    for knot in range(GROWTH_STEPS):
        share = (1 - (place - knot).abs()).clamp_min(0)
        shape = grown_psf(psf, growth, knot / (GROWTH_STEPS - 1))
        total += Blur.from_psf(shape, voxel_size_um, (depth, height, width))(light * share)
    return total


def cut_columns(
    volumes: Sequence[TrainingVolume], recipe: Recipe
) -> Generator[float, None, list[Column]]:
    """Cut the brightest columns out of the stacks, from each its share."""
    most = (
        MAX_VOXELS
        if recipe.minutes is None
        else min(MAX_VOXELS, max(1, round(VOXELS_A_MINUTE * recipe.minutes)))
    )
    columns: list[Column] = []
    for number, volume in enumerate(volumes):
        yield number / len(volumes)
        columns += _columns_of(volume, recipe, most // len(volumes))
    return columns


def _columns_of(volume: TrainingVolume, recipe: Recipe, most_voxels: int) -> list[Column]:
    depth, height, width = volume.shape_px
    stack = volume.measured.stack
    noise = measure_noise([volume.measured], volume.statistics)
    shape = psf_for_learning(stack, volume.measured.c, recipe.data.psf)
    lengths = stack.voxel_size.require("ZYX" if depth > 1 else "YX")
    voxel = lengths if len(lengths) == 3 else (1.0, *lengths)
    side = max(MIN_PX, recipe.patch_px, min(COLUMN_PX, math.isqrt(most_voxels // depth)))
    middle = volume.measured.read((slice(depth // 2, depth // 2 + 1), slice(None), slice(None)))[0]
    found = []
    for y in _starts(height, side):
        for x in _starts(width, side):
            found.append((float(middle[y : y + side, x : x + side].mean()), y, x))
    many = max(1, most_voxels // (depth * min(side, height) * min(side, width)))
    columns = []
    for _, y, x in sorted(found, reverse=True)[:many]:
        region = (slice(0, depth), slice(y, min(y + side, height)), slice(x, min(x + side, width)))
        columns.append(
            Column(
                volume,
                volume.measured.read(region),
                shape,
                noise,
                (voxel[0], voxel[1], voxel[2]),
                recipe.data.psf_growth,
            )
        )
    return columns


def _starts(length: int, side: int) -> list[int]:
    """Return where columns begin along an axis: side by side, the last one flush with the end."""
    if length <= side:
        return [0]
    return sorted({*range(0, length - side, side), length - side})


def estimate_steps(
    method: str, weights: str | None, column: Column, device: str, seed: int
) -> Generator[float, None, FloatArray]:
    """Run a method on a column and clip the result at the background: light is not negative."""
    loaded = registry.load(method)
    context = MethodContext(
        parameters=loaded.spec.parameters(),
        shape_px=column.measured.shape,
        voxel_size_um=column.voxel_size_um,
        statistics=column.volume.statistics,
        read=lambda region: column.measured[region],
        device=device,
        seed=seed,
        psf=column.psf,
        noise=column.noise,
        weights=weights,
    )
    prepared = yield from loaded.prepare(context)
    padded, (height, width) = _padded(column.measured, loaded.spec.size_multiple)
    outputs = yield from prepared(padded, (0, 0, 0))
    enhanced = outputs["enhanced"][:, :height, :width]
    return np.maximum(enhanced, np.float32(column.volume.statistics.background))


def _padded(
    block: FloatArray, multiple: tuple[int, int, int]
) -> tuple[FloatArray, tuple[int, int]]:
    _, height, width = block.shape
    more = [(0, -n % m) for n, m in zip(block.shape, multiple, strict=True)]
    return np.pad(block, [(0, 0), *more[1:]], mode="symmetric"), (height, width)


def pair_steps(
    column: Column, estimate: FloatArray, seed: int
) -> Generator[float, None, tuple[list[TrainingVolume], TrainingVolume]]:
    """Return pairs to train on and one to validate on."""
    size = column.volume.measured.stack.voxel_size
    truth = VolumeReader(Stack.from_array(estimate, "ZYX", size))
    optics = optics_of_camera(
        column.psf,
        column.noise,
        column.voxel_size_um,
        column.volume.scaling,
        estimate.shape[0],
        column.growth,
    )
    made = []
    for draw in range(DRAWS + 1):
        yield draw / (DRAWS + 1)
        again = resimulate(
            estimate,
            column.psf,
            column.noise,
            column.voxel_size_um,
            seed * (DRAWS + 1) + draw,
            column.growth,
        )
        reader = VolumeReader(Stack.from_array(again, "ZYX", size))
        name = f"{column.volume.name}, resimulated"
        made.append(
            TrainingVolume(
                name,
                reader,
                truth,
                column.volume.scaling,
                column.volume.statistics,
                1,
                column.volume,
                optics,
            )
        )
    return made[:-1], made[-1]
