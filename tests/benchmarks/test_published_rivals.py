"""Published rivals of DPS do what their publications say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.published_rivals import (
    DeepPrior,
    _sparse,
    deep_prior,
    mean_shift_resolution,
    sparse_deconvolution,
)
from benchmarks.rivals import FineMicroscope
from zenhance.physics.psf import parse_psf


def spot(sigma_px: float, size: int = 41) -> np.ndarray:
    image = np.zeros((size, size), np.float32)
    image[size // 2, size // 2] = 1000.0
    return np.asarray(ndimage.gaussian_filter(image, sigma_px), np.float32)


def width_px(image: np.ndarray) -> float:
    """Full width at half maximum through the middle."""
    line = image[image.shape[0] // 2]
    return float((line > 0.5 * line.max()).sum())


def test_mean_shift_narrows_a_spot_and_leaves_its_place() -> None:
    blurred = spot(3.0)
    found = mean_shift_resolution(blurred, 7.0)
    assert width_px(found) < 0.8 * width_px(blurred)
    assert np.unravel_index(found.argmax(), found.shape) == (20, 20)


def test_repeated_mean_shift_is_not_linear_in_intensity() -> None:
    image = spot(3.0)
    two = np.concatenate([image, 0.1 * image], axis=1)
    ratios = []
    for order in (0, 1):
        found = mean_shift_resolution(two, 7.0, order)
        ratios.append(float(found[:, 41:].sum() / found[:, :41].sum()))
    assert ratios[0] == pytest.approx(0.1, rel=1e-3)
    assert ratios[1] > 0.102


def test_sparse_deconvolution_narrows_a_spot() -> None:
    blurred = spot(2.0) + 1.0
    microscope = FineMicroscope(parse_psf("sigma_um=2,2", 2), 1.0, 1)
    images = dict(sparse_deconvolution(blurred, microscope, 0.01))
    image = images["fidelity 150, sparsity 10, 20 iterations"]
    assert width_px(image) < width_px(blurred)


def test_more_sparsity_leaves_less_light() -> None:
    blurred = spot(2.0) + 1.0
    light = [float(_sparse(blurred, 15.0, sparsity).sum()) for sparsity in (1.0, 100.0)]
    assert light[1] < 0.9 * light[0]


def test_a_large_fidelity_returns_the_picture() -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((32, 32)), 2).astype(np.float32)
    np.testing.assert_allclose(_sparse(image, 1e9, 1.0), image, atol=1e-4)


@pytest.mark.parametrize("guided", [False, True])
def test_a_deep_prior_finds_a_picture_whose_blur_is_the_measurement(guided: bool) -> None:
    truth = np.zeros((40, 40), np.float32)
    truth[10:30, 12:20], truth[16:24, 24:34] = 1.0, 0.6
    blurred = ndimage.gaussian_filter(truth, 1.5)
    image, kernel = deep_prior(
        blurred, DeepPrior(channels=8, iterations=150, kernel_px=9, guided=guided)
    )
    assert image.shape == blurred.shape
    assert kernel.sum() == pytest.approx(1.0, abs=1e-4)
    assert kernel.min() >= 0.0
    again = ndimage.correlate(image, kernel)[6:-6, 6:-6]
    assert np.corrcoef(again.ravel(), blurred[6:-6, 6:-6].ravel())[0, 1] > 0.95
