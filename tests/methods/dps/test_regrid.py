"""Resampling: tiles agree with the whole, and smooth images survive the round trip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.methods.dps.regrid import Samples, regrid, samples_of


def _waves(size: int, pitch: float = 1.0, first: int = 0) -> torch.Tensor:
    at = (first + np.arange(size) + 0.5) * pitch
    field = np.sin(at / 5.0)[:, None] + np.cos(at / 7.0)[None]
    return torch.from_numpy(field.astype(np.float32))


@pytest.mark.parametrize("pitch", [0.4, 0.62, 1.7, 2.5])
def test_smooth_images_are_what_they_are_on_any_grid(pitch: float) -> None:
    own = Samples(0, 96, 1.0)
    other = samples_of(0, 96, pitch, 4)
    assert other.count % 4 == 0
    found = regrid(_waves(96), (own, own), (other, other))
    inside = slice(round(8 / pitch), round(88 / pitch))
    assert float((found - _waves(other.count, pitch))[inside, inside].abs().max()) < 0.08 * pitch**2
    back = regrid(found, (other, other), (own, own))
    assert float((back - _waves(96))[8:-8, 8:-8].abs().max()) < 0.15 * pitch**2


@pytest.mark.parametrize("pitch", [0.4, 1.0, 1.7])
def test_a_tile_gets_the_samples_of_the_whole(pitch: float) -> None:
    image = torch.rand(1, 90, 90, generator=torch.Generator().manual_seed(0))
    whole, part = samples_of(0, 90, pitch, 4), samples_of(20, 50, pitch, 4)
    full = regrid(image, (Samples(0, 90, 1.0),) * 2, (whole, whole))
    tile = regrid(image[:, 20:70, 20:70], (Samples(20, 50, 1.0),) * 2, (part, part))
    low, high = (int(np.ceil(v / pitch)) for v in (28, 60))
    same = full[:, low:high, low:high]
    assert (
        float(
            (
                tile[:, low - part.first : high - part.first, low - part.first : high - part.first]
                - same
            )
            .abs()
            .max()
        )
        < 1e-6
    )


def test_constants_stay_and_means_are_averages() -> None:
    own, coarse = Samples(0, 60, 1.0), Samples(0, 20, 3.0)
    assert float((regrid(torch.ones(60, 60), (own, own), (coarse, coarse)) - 1).abs().max()) < 1e-6
    noise = torch.randn(60, 60, generator=torch.Generator().manual_seed(0))
    assert float(regrid(noise, (own, own), (coarse, coarse)).std()) < 0.6
