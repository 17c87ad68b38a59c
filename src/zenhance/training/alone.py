"""Learning from measurements alone: the microscope is simulated on what is already known of the specimen.

::

    measured y ──► first estimate x (deconvolution, or the model to start from)
                       │
        ┌──────────────┴─────────────┐
        ▼                            │
    blurred with the PSF,            │
    noise of this camera ──► pairs (measured again, x) ──► training ──► network
                                                                          │
                     next estimate  x = network(y)  ◄─────────────────────┘   a few rounds

What is measured again has the specimen's own structures, the stack's own blur and its own noise, but the noise is new each time: the
network learns to take away what the microscope adds, and cannot learn to repeat the noise of ``y``. The estimate is only as good as PSF
and noise model, and keeps what the first one has invented; the re-blur check (``zenhance assess``) tells.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zenhance.contract import registry
from zenhance.contract.checkpoint import read_checkpoint
from zenhance.contract.spec import FloatArray, MethodContext
from zenhance.contract.weights import find_weights
from zenhance.errors import RecipeError
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import Psf
from zenhance.physics.psf_spec import resolve_psf
from zenhance.stack import Stack
from zenhance.training.data import TrainingVolume
from zenhance.training.files import write_bytes
from zenhance.training.recipe import Recipe
from zenhance.volumes import VolumeReader, measure_noise

if TYPE_CHECKING:
    from zenhance.training.loop import TrainProgress, TrainResult

__all__ = ["FIRST_ESTIMATE", "MOST_VOXELS", "alone_steps", "measured_again"]

FIRST_ESTIMATE = "gaussian_deconvolution"
"""The method whose result is the first estimate where no model is there to start from; with its own defaults."""
MOST_VOXELS = 4_000_000
"""So much of the stacks is learnt from, in columns of full depth: more does not fit into a coffee break."""
COLUMN_PX = 256
DRAWS = 4
"""How often each column is measured again for training; once more for validation."""

Region = tuple[slice, slice, slice]
Train = Callable[..., Generator["TrainProgress", None, "TrainResult"]]


@dataclass(frozen=True)
class _Column:
    """A part of a stack that is learnt from, and what is known of how it was measured."""

    volume: TrainingVolume
    measured: FloatArray
    psf: Psf
    noise: PoissonGauss
    voxel_size_um: tuple[float, float, float]


def measured_again(estimate: FloatArray, psf: Psf, noise: PoissonGauss, voxel_size_um: tuple[float, float, float], seed: int) -> FloatArray:
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

    Returns
    -------
    float32 array (Z, Y, X)
        Grey values, neither rounded nor clipped.
    """
    ndim = 2 if estimate.shape[0] == 1 else 3
    blur = Blur.from_psf(psf, voxel_size_um, estimate.shape[3 - ndim :], "cpu")
    shape = estimate.shape[3 - ndim :]
    blurred = blur(torch.from_numpy(np.ascontiguousarray(estimate)).reshape(shape)).numpy().reshape(estimate.shape)
    return noise.sample(np.clip((blurred - noise.offset) / noise.gain, 0.0, None), seed)


def _columns(volumes: Sequence[TrainingVolume], psf: str | None) -> list[_Column]:
    """Cut the brightest columns out of the stacks, as many as may be learnt from, from each stack its share."""
    share = MOST_VOXELS // len(volumes)
    return [column for volume in volumes for column in _columns_of(volume, psf, share)]


def _columns_of(volume: TrainingVolume, psf: str | None, most_voxels: int) -> list[_Column]:
    depth, height, width = volume.shape_px
    stack = volume.measured.stack
    noise = measure_noise([volume.measured], volume.statistics)
    shape = resolve_psf(psf, stack.metadata, 3 if depth > 1 else 2, channel=volume.measured.c)
    lengths = stack.voxel_size.require("ZYX" if depth > 1 else "YX")
    voxel = lengths if len(lengths) == 3 else (1.0, *lengths)
    side = min(COLUMN_PX, max(32, math.isqrt(most_voxels // depth)))
    middle = volume.measured.read((slice(depth // 2, depth // 2 + 1), slice(None), slice(None)))[0]
    found = []
    for y in _starts(height, side):
        for x in _starts(width, side):
            found.append((float(middle[y : y + side, x : x + side].mean()), y, x))
    many = max(1, most_voxels // (depth * min(side, height) * min(side, width)))
    columns = []
    for _, y, x in sorted(found, reverse=True)[:many]:
        region = (slice(0, depth), slice(y, min(y + side, height)), slice(x, min(x + side, width)))
        columns.append(_Column(volume, volume.measured.read(region), shape, noise, (voxel[0], voxel[1], voxel[2])))
    return columns


def _starts(length: int, side: int) -> list[int]:
    """Return where columns begin along an axis: side by side, the last one flush with the end."""
    if length <= side:
        return [0]
    return sorted({*range(0, length - side, side), length - side})


def _estimate(method: str, weights: str | None, column: _Column, device: str, seed: int) -> Generator[float, None, FloatArray]:
    """Run a method on a column; nothing below the background remains, since no light is negative."""
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


def _padded(block: FloatArray, multiple: tuple[int, int, int]) -> tuple[FloatArray, tuple[int, int]]:
    _, height, width = block.shape
    more = [(0, -n % m) for n, m in zip(block.shape, multiple, strict=True)]
    return np.pad(block, [(0, 0), *more[1:]], mode="symmetric"), (height, width)


def _pairs(column: _Column, estimate: FloatArray, seed: int) -> tuple[list[TrainingVolume], TrainingVolume]:
    """Return pairs to train on and one to validate on."""
    size = column.volume.measured.stack.voxel_size
    truth = VolumeReader(Stack.from_array(estimate, "ZYX", size))
    made = []
    for draw in range(DRAWS + 1):
        again = measured_again(estimate, column.psf, column.noise, column.voxel_size_um, seed * (DRAWS + 1) + draw)
        reader = VolumeReader(Stack.from_array(again, "ZYX", size))
        name = f"{column.volume.name}, measured again"
        made.append(TrainingVolume(name, reader, truth, column.volume.scaling, column.volume.statistics))
    return made[:-1], made[-1]


def alone_steps(
    recipe: Recipe, folder: Path, volumes: Sequence[TrainingVolume], train: Train, *, device: str, **options: Any
) -> Generator[TrainProgress, None, TrainResult]:
    """Learn from stacks without truth, in the recipe's rounds.

    Parameters
    ----------
    recipe : Recipe
        ``rounds``, ``start`` and ``data.psf`` are meant for this; steps and minutes are those of all rounds together.
    folder : Path
        Each round has a folder of its own in it; the model lies beside them in the end.
    volumes : sequence of TrainingVolume
        The measurements; a truth is not looked at.
    train : callable
        ``train_steps``; called once a round with pairs.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    **options
        For ``train``.

    Yields
    ------
    TrainProgress

    Returns
    -------
    TrainResult

    Raises
    ------
    StackError
        A stack's voxel size is not known.
    RecipeError
        There are no stacks.
    """
    if not volumes:
        raise RecipeError("there is nothing to learn from; give at least one stack")
    from zenhance.training.loop import TrainProgress

    started = time.perf_counter()
    columns = _columns(volumes, recipe.data.psf)
    method, weights = (recipe.method, recipe.start) if recipe.start else (FIRST_ESTIMATE, None)
    initial = _state_of(find_weights(recipe.method, recipe.start)) if recipe.start else None
    result: TrainResult | None = None
    for number in range(recipe.rounds):
        train_on, held = [], []
        for index, column in enumerate(columns):
            for _ in (steps := _Relay(_estimate(method, weights, column, device, recipe.seed))):
                at = (number + 0.1 * index / len(columns)) / recipe.rounds
                yield TrainProgress("data", number * recipe.steps // recipe.rounds, recipe.steps, at, None)
            pairs, check = _pairs(column, steps.value, recipe.seed * 1009 + number * len(columns) + index)
            train_on += pairs
            held.append(check)
        part = _round(recipe, number, time.perf_counter() - started)
        inner = train(part, folder / f"round_{number + 1}", volumes=(train_on, held), device=device, initial=initial, **options)
        result = yield from _counted(inner, recipe, number)
        stop = options.get("stop")
        if stop is not None and stop.is_set():
            break
        method, weights = recipe.method, str(result.path)
        initial = _state_of(result.path)
    if result is None:
        raise RecipeError(f"the recipe asks for {recipe.rounds} rounds; at least one is needed")
    path = write_bytes(folder / f"{recipe.name}.safetensors", result.path.read_bytes(), overwrite=True)
    return replace(result, path=path)


class _Relay:
    """Goes through a generator's steps and keeps what it returns."""

    value: FloatArray

    def __init__(self, steps: Generator[float, None, FloatArray]) -> None:
        self._steps = steps

    def __iter__(self) -> Generator[float, None, None]:
        self.value = yield from self._steps


def _state_of(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a model."""
    return dict(read_checkpoint(path).state)


def _round(recipe: Recipe, number: int, spent_s: float) -> Recipe:
    """Return the recipe of one round: its share of the steps, and of the minutes that are left."""
    left = recipe.rounds - number
    minutes = None if recipe.minutes is None else max(0.02, (recipe.minutes - spent_s / 60) / left)
    return recipe.model_copy(update={"steps": max(1, recipe.steps // recipe.rounds), "minutes": minutes, "seed": recipe.seed + number})


def _counted(
    steps: Generator[TrainProgress, None, TrainResult], recipe: Recipe, number: int
) -> Generator[TrainProgress, None, TrainResult]:
    """Pass on a round's progress as that of the whole."""
    before = number * (recipe.steps // recipe.rounds)
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as done:
                result: TrainResult = done.value
                return result
            left = progress.seconds_left
            rounds_left = recipe.rounds - number
            whole = None if left is None or progress.fraction >= 1 else left * (rounds_left - progress.fraction) / (1 - progress.fraction)
            fraction = (number + 0.1 + 0.9 * progress.fraction) / recipe.rounds
            yield replace(progress, step=before + progress.step, steps=recipe.steps, fraction=min(1.0, fraction), seconds_left=whole)
    finally:
        steps.close()
