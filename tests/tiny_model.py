"""A small stack, and a model of DQLR so small that it learns in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from zenhance.stack import Stack

SIZE_UM = (0.5, 0.2, 0.2)
PSF = "sigma_um=0.3,0.25,0.25"
ARCHITECTURE: dict[str, Any] = {
    "window": 1, "features": 8, "inner": 4, "blocks": 1, "hidden": 4,
    "words": 16, "dimensions": 4, "levels": 1, "predicted": 1, "planes": 3,
}  # fmt: skip
NUMBERS: dict[str, Any] = {
    "patch_px": 16,
    "batch": 2,
    "validate_every": 2,
    "validation_patches": 2,
    "warmup_steps": 1,
}
# Six seconds, of which the start-up takes less than one.
MINUTES = 0.1


def walls(
    seed: int = 0, shape: tuple[int, int, int] = (5, 40, 44)
) -> tuple[np.ndarray, np.ndarray]:
    """Thin random walls blurred, with noise on an offset of 50, and the walls themselves."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), (2, 4, 4))
    sharp = np.where(np.abs(field) < 0.15 * field.std(), 200.0, 0.0)
    measured = rng.poisson(gaussian_filter(sharp, (0.6, 1.25, 1.25)) / 4) * 4.0 + 50
    return measured.astype(np.float32), (sharp + 50).astype(np.float32)


def small_stack(seed: int = 0, name: str = "my cells") -> Stack:
    return Stack.from_array(walls(seed)[0], "ZYX", SIZE_UM, name=name)


def tiny_model(folder: Path, name: str = "tiny", steps: int = 4) -> Path:
    """Train a model of DQLR for a few steps on a pair; return its file."""
    from zenhance.training.data import of_stacks
    from zenhance.training.loop import train
    from zenhance.training.recipe import Recipe

    measured, truth = (Stack.from_array(data, "ZYX", SIZE_UM) for data in walls(9))
    volumes = list(of_stacks("pair", measured, truth))
    recipe = Recipe(
        method="dqlr",
        name=name,
        architecture=ARCHITECTURE,
        data={"stacks": ["pair"]},
        steps=steps,
        **NUMBERS,
    )
    return train(recipe, folder, device="cpu", volumes=(volumes, volumes)).path
