"""Trainings of the filaments table, without a truth, and what the latents encode."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.scenes import FILAMENTS_VOXEL_UM, Scene
from zenhance.methods.divblurring.network import Vae
from zenhance.methods.divblurring.training import VaeLearner
from zenhance.models.checkpoint import load_network, read_checkpoint
from zenhance.steps import drain
from zenhance.training.data import TrainingVolume, of_stacks, with_optics
from zenhance.training.loop import train_steps
from zenhance.training.patches import VALIDATION, PatchSampler
from zenhance.training.recipe import Data, Recipe, Simulated, load_recipe

__all__ = [
    "ALONE_IMAGES",
    "BATCH",
    "PATCH_PX",
    "Speed",
    "Trained",
    "alone_recipe",
    "data_without_truth",
    "flat_recipe",
    "input_of",
    "nats_per_latent",
    "samples_per_second",
    "trained",
]

FLAT_RECIPE, LADDER_RECIPE = "divblurring_paper", "divblurring_filaments"
VALIDATION_IMAGES, VALIDATION_PATCHES = 6, 24
BATCH, PATCH_PX = 4, 64
RATE = 2e-3
VALIDATIONS = 10
"""In a training."""
ALONE_IMAGES = 8
"""First estimates are made one by one: so many images take about as long as the steps."""
AT_ONCE = 10
"""Samples in a batch, where drawing is timed."""


@dataclass(frozen=True)
class Trained:
    """A network that was trained here: its file, and its validation loss by step."""

    path: Path
    loss: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Speed:
    """Drawing speed of a network: samples of ``shape_px`` (y, x) a second, after one encoding."""

    title: str
    per_second: float
    encode_s: float
    shape_px: tuple[int, int]


def data_without_truth(preset: str, images: int, seed: int, shape_px: tuple[int, int, int]) -> Data:
    """Return images of a set for training and validation, with known optics and no truth."""
    plan = Simulated(
        specimen="filaments",
        count=images,
        validation=VALIDATION_IMAGES,
        seed=seed,
        shape_px=shape_px,
        voxel_size_um=FILAMENTS_VOXEL_UM,
        microscopes=({"preset": preset},),
        measured_only=True,
    )
    return Data(simulated=(plan,))


def flat_recipe(
    name: str,
    data: Data,
    architecture: Mapping[str, Any],
    steps: int,
    minutes: float | None,
    seed: int,
) -> Recipe:
    """Return the recipe of the report's network with these changes of its architecture."""
    return _recipe(FLAT_RECIPE, name, data, architecture, steps, minutes, seed)


def alone_recipe(
    name: str,
    data: Data,
    psf: str,
    architecture: Mapping[str, Any],
    steps: int,
    minutes: float | None,
    seed: int,
) -> Recipe:
    """Return the recipe of the ladder for images without a truth, with a known PSF."""
    return _recipe(
        LADDER_RECIPE,
        name,
        data.model_copy(update={"psf": psf}),
        architecture,
        steps,
        minutes,
        seed,
    )


def _recipe(
    base: str,
    name: str,
    data: Data,
    architecture: Mapping[str, Any],
    steps: int,
    minutes: float | None,
    seed: int,
) -> Recipe:
    known = load_recipe(base)
    changes = {
        "name": name,
        "architecture": {**known.architecture, "warmup_steps": max(1, steps // 5), **architecture},
        "data": data,
        "batch": BATCH,
        "learning_rate": RATE,
        "patch_px": min(PATCH_PX, *(plan.shape_px[2] for plan in data.simulated)),
        "steps": steps,
        "minutes": minutes,
        "warmup_steps": max(1, steps // 20),
        "validate_every": max(1, steps // VALIDATIONS),
        "validation_patches": VALIDATION_PATCHES,
        "seed": seed,
    }
    return known.model_copy(update=changes)


def trained(
    recipe: Recipe,
    folder: Path,
    volumes: tuple[list[TrainingVolume], list[TrainingVolume]],
    device: str,
    tell: Callable[[float], None],
) -> Trained:
    """Train, or reuse an earlier training of the same recipe in the folder.

    Raises
    ------
    RecipeError
        The posterior has collapsed, or the folder holds a training of another recipe.
    """
    steps = train_steps(recipe, folder, resume=folder.is_dir(), volumes=volumes, device=device)
    done = drain(steps, lambda step: tell(step.fraction))
    return Trained(done.path, {entry["step"]: entry["loss"] for entry in done.log})


def input_of(path: Path, scene: Scene) -> Tensor:
    """Return the input of a model for a scene, (1, window, Y, X), scaled, with its estimates."""
    card = read_checkpoint(path).card
    learner = VaeLearner()
    (volume,) = of_stacks(scene.title, scene.measured)
    known = with_optics(volume, scene.psf_spec).with_estimates(
        learner.deconvolved(card.architecture)
    )
    return (
        PatchSampler([known], known.shape_px, 1, 0, augment=False, with_optics=True)
        .draw(0, VALIDATION)
        .seen
    )


def _network(path: Path, device: str = "cpu") -> Vae:
    return cast(Vae, load_network(read_checkpoint(path), VaeLearner(), device).eval())


def nats_per_latent(path: Path, inputs: Sequence[Tensor]) -> list[float]:
    """Return the divergence from the prior in nats per latent, by level, coarsest first."""
    network = _network(path)
    totals = [0.0] * len(network.levels)
    with torch.inference_mode():
        for seen in inputs:
            _, latents = network.decode(network.encode(seen), None)
            for level, found in enumerate(latents.divergences()):
                stride, channels = network.levels[level]
                totals[level] += (
                    float(found.mean()) * stride**2 / (channels * seen.shape[-2] * seen.shape[-1])
                )
    return [total / len(inputs) for total in totals]


def samples_per_second(title: str, path: Path, seen: Tensor, many: int, device: str) -> Speed:
    """Time drawing: the image is encoded once and decoded in batches.

    Parameters
    ----------
    title : str
        Of the network.
    path : Path
        Its weights.
    seen : Tensor
        From :func:`input_of`.
    many : int
        Samples to draw.
    device : str
        Where.
    """
    network, there = _network(path, device), seen.to(device)
    with torch.inference_mode():
        started = time.perf_counter()
        encoded = network.encode(there)
        encode_s = time.perf_counter() - started
        total = torch.zeros((), device=device)
        started = time.perf_counter()
        for first in range(0, many, AT_ONCE):
            batch = encoded.repeated(min(AT_ONCE, many - first))
            total = (
                total
                + network.decode(
                    batch, lambda _, shape: torch.randn(shape, device=device), only_middle=True
                )[0].sum()
            )
        float(total)  # Waits for the device.
        seconds = time.perf_counter() - started
    return Speed(
        title, many / max(seconds, 1e-9), encode_s, (int(seen.shape[-2]), int(seen.shape[-1]))
    )
