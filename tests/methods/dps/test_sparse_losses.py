"""The terms of DPS against what can be worked out by hand or by another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from zenhance.methods._shared.ssim import structural_dissimilarity
from zenhance.methods.dps.training import (
    fourier_difference,
    hessian,
    light_concentration,
)


def _ramp(*slopes: float) -> torch.Tensor:
    z, y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in (5, 12, 14)), indexing="ij"
    )
    return (slopes[0] * z + slopes[1] * y + slopes[2] * x)[None]


def test_a_plane_has_no_hessian_and_a_parabola_its_curvature() -> None:
    assert float(hessian(_ramp(1.0, 2.0, 3.0), 0.5)) == pytest.approx(0.0, abs=1e-5)
    x = torch.arange(14, dtype=torch.float32)
    parabola = (1.5 * x**2).expand(1, 5, 12, 14)
    assert float(hessian(parabola)) == pytest.approx(3.0)
    saddle = torch.arange(12, dtype=torch.float32)[:, None] * x
    assert float(hessian(saddle.expand(1, 1, 12, 14))) == pytest.approx(2.0)


def test_the_third_axis_counts_as_much_as_its_weight_says() -> None:
    z = torch.arange(5, dtype=torch.float32)[:, None, None]
    bent = (z**2).expand(1, 5, 12, 14)
    assert float(hessian(bent, 0.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(hessian(bent, 0.25)) == pytest.approx(0.5)
    twisted = (z * torch.arange(14, dtype=torch.float32)).expand(1, 5, 12, 14)
    assert float(hessian(twisted, 0.25)) == pytest.approx(2 * 0.5)
    assert float(hessian(bent[:, :1], 0.25)) == pytest.approx(0.0, abs=1e-6)


def test_the_same_light_on_fewer_pixels_is_more_concentrated() -> None:
    spread = torch.full((1, 1, 4, 4), 1.0)
    narrow = torch.zeros(1, 1, 4, 4)
    narrow[..., 0, 0] = 16.0
    assert float(light_concentration(narrow, 0.1)) < 0.1 * float(light_concentration(spread, 0.1))
    assert float(narrow.mean()) == float(spread.mean())


def test_similarity_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((40, 44)).astype(np.float32)
    b = np.clip(a + 0.2 * rng.normal(size=a.shape), 0, 1).astype(np.float32)
    mine = 1 - float(
        structural_dissimilarity(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None])
    )
    _, map_ = structural_similarity(
        a,
        b,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert mine == pytest.approx(float(map_[5:-5, 5:-5].mean()), abs=2e-3)


def test_spectra_differ_by_what_images_differ_by() -> None:
    a = torch.rand(1, 1, 16, 16)
    assert float(fourier_difference(a, a)) == 0.0
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert float(fourier_difference(noise, 0 * noise)) == pytest.approx(
        np.sqrt(np.pi) / 2, rel=0.05
    )
