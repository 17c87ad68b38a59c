"""Dim images: the stop rule never returns an image that is worse than the measurement."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zenhance
from zenhance.physics.blur import Blur
from zenhance.physics.psf import gaussian

VOXEL_UM = (1.0, 1.0, 1.0)
SIGMA_UM = (1.2, 1.2, 1.2)
OFFSET, GAIN, READ_NOISE = 100.0, 2.0, 1.5


def _specimen(kind: str, shape: tuple[int, int, int]) -> np.ndarray:
    z, y, x = np.indices(shape)
    if kind == "walls":
        return ((((y + z) % 17 < 3) | ((x - z) % 19 < 2)) + 0.02).astype(np.float32)
    rng = np.random.default_rng(5)
    beads = np.zeros(shape, np.float32)
    for centre in rng.uniform(0, 1, (40, 3)) * shape:
        squares = (z - np.floor(centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        beads += np.exp(-0.5 * squares / 0.9**2).astype(np.float32)
    return beads + np.float32(0.02)


@pytest.mark.parametrize("shape", [(1, 96, 96), (12, 48, 48)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("kind", ["walls", "beads"])
@pytest.mark.parametrize("photons", [1.0, 3.0, 6.0, 12.0, 30.0])
def test_a_dim_image_is_never_worse_than_its_measurement(
    photons: float, kind: str, shape: tuple[int, int, int]
) -> None:
    specimen = photons * _specimen(kind, shape)
    blur = Blur.from_psf(gaussian(SIGMA_UM), VOXEL_UM, shape)
    light = blur(torch.from_numpy(specimen)).numpy().clip(0)
    rng = np.random.default_rng(int(photons))
    y = OFFSET + GAIN * rng.poisson(light) + rng.normal(0.0, READ_NOISE, shape)
    y = y.astype(np.float32)
    result = zenhance.enhance(
        y, axes="ZYX", voxel_size_um=VOXEL_UM, psf="sigma_um=1.2,1.2,1.2", device="cpu"
    )
    truth = OFFSET + GAIN * specimen
    error = np.mean((np.asarray(result.stack.data) - truth) ** 2)
    assert error < np.mean((y - truth) ** 2)
