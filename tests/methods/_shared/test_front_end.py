"""The front end: light and features follow the picture, not its scale, and not the tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.contract.spec import VolumeStatistics
from zenhance.methods._shared.front_end import CHANNELS, LocalLight, feature_steps
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import gaussian
from zenhance.steps import drain
from zenhance.types import FloatArray

SHAPE, VOXEL_UM = (12, 40, 44), (0.5, 0.25, 0.25)
PSF = gaussian((0.5, 0.2, 0.2))
WHOLE = tuple(slice(0, n) for n in SHAPE)


def photons(seed: int = 0) -> FloatArray:
    """Bars that fade with depth."""
    z, _, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    light = 200.0 * (x % 8 < 3) * np.exp(-z / 12.0)
    blur = Blur.from_psf(PSF, VOXEL_UM, SHAPE)
    expected = blur(torch.from_numpy(light.astype(np.float32))).numpy()
    return np.random.default_rng(seed).poisson(expected).astype(np.float32)


def statistics_of(grey: FloatArray, background: float) -> VolumeStatistics:
    low, high = np.percentile(grey, [0.1, 99.9])
    return VolumeStatistics(
        float(grey.min()), float(grey.max()), float(grey.mean()), float(grey.std()), float(low),
        float(high), background,
    )  # fmt: skip


def light_of(grey: FloatArray, noise: PoissonGauss, background: float) -> LocalLight:
    statistics = statistics_of(grey, background)
    return drain(LocalLight.steps(lambda region: grey[region], SHAPE, VOXEL_UM, noise, statistics))


def features_of(grey: FloatArray, noise: PoissonGauss, background: float) -> torch.Tensor:
    light = torch.from_numpy(light_of(grey, noise, background).at(WHOLE))
    blur = Blur.from_psf(PSF, VOXEL_UM, SHAPE)
    widths = torch.tensor(PSF.sigma_px(VOXEL_UM)[:2]).reshape(2, 1, 1, 1)
    statistics = statistics_of(grey, background)
    return drain(feature_steps(torch.from_numpy(grey), light, blur, widths, noise, statistics))


def test_light_follows_the_brightness_that_is_not_noise() -> None:
    seen = photons()
    light = light_of(seen, PoissonGauss(1.0, 0.0), 0.0).at(WHOLE)
    expected = np.sqrt(np.mean(np.square(seen[0]) - seen[0]))
    assert light[0].mean() == pytest.approx(expected, rel=0.35)
    # 11 planes deeper light is e^-0.92; averaging softens that at both ends.
    assert 1.4 < light[0].mean() / light[-1].mean() < np.exp(0.92)


def test_light_of_a_region_is_that_of_the_whole() -> None:
    light = light_of(photons(), PoissonGauss(1.0, 0.0), 0.0)
    region = (slice(3, 9), slice(5, 30), slice(11, 40))
    assert np.array_equal(light.at(region), light.at(WHOLE)[region])


def test_where_there_is_only_noise_the_light_is_a_share_of_it() -> None:
    noise = np.random.default_rng(1).normal(100, 5, SHAPE).astype(np.float32)
    light = light_of(noise, PoissonGauss(1e-3, 100.0, 5.0), 100.0).at(WHOLE)
    assert 2.0 < light.mean() < 4.0


def test_features_do_not_change_with_gain_and_offset() -> None:
    seen = photons()
    plain = features_of(seen, PoissonGauss(1.0, 0.0), 0.0)
    grey = features_of(7 * seen + 50, PoissonGauss(7.0, 50.0), 50.0)
    light = CHANNELS.index("light")
    assert torch.allclose(grey[light], 7 * plain[light], rtol=1e-3)
    assert torch.allclose(grey[1:], plain[1:], rtol=2e-3, atol=2e-3)


def test_features_tell_noise_and_widths() -> None:
    seen = photons()
    features = dict(zip(CHANNELS, features_of(seen, PoissonGauss(1.0, 0.0), 0.0), strict=True))
    assert torch.allclose(features["sigma_z"].exp(), torch.tensor(1.0), atol=1e-4)
    assert torch.allclose(features["sigma_yx"].exp(), torch.tensor(0.8), atol=1e-4)
    # Photon noise over light falls with the root of the light.
    level = features["noise"][..., 1:41:8].mean((1, 2))
    assert 0.1 < float(level[-3] - level[2]) < 7 / 12 / 2


def test_the_later_estimate_is_sharper() -> None:
    early, late = features_of(photons(), PoissonGauss(1.0, 0.0), 0.0)[-2:]
    beside = slice(3, 41, 8)  # the first dark voxel beside each bar
    assert float(late[:, :, beside].mean()) < 0.8 * float(early[:, :, beside].mean())
