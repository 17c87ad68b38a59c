"""Fourier correlation and decorrelation against images whose band limit is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from zenhance.assess.correlation import correlate_halves, correlation_of_raw
from zenhance.assess.decorrelation import decorrelation_resolution
from zenhance.physics.thinning import split_photons

CAMERA = SimpleNamespace(gain=1.0, offset=0.0, read_noise=0.0)
PIXEL_UM = 0.1


def band_limited(shape, cut, rng, voxel=None):
    """White noise without any frequency beyond the cut-off (cycles per µm)."""
    voxel = voxel or (PIXEL_UM,) * len(shape)
    grids = np.meshgrid(
        *(np.fft.fftfreq(n, v) for n, v in zip(shape, voxel, strict=True)), indexing="ij"
    )
    keep = np.sqrt(sum(g**2 for g in grids)) <= cut
    x = np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * keep).real
    return x / x.std()


@pytest.mark.parametrize("cut", [1.0, 2.5, 4.0])
def test_ring_correlation_falls_at_the_band_limit(cut):
    rng = np.random.default_rng(1)
    light = np.stack([200.0 * (1 + 0.2 * band_limited((256, 256), cut, rng)) for _ in range(2)])
    curve = correlation_of_raw(
        rng.poisson(light).astype(np.uint16), CAMERA, (1.0, PIXEL_UM, PIXEL_UM)
    )
    assert 1 / curve.resolution_seventh_um == pytest.approx(cut, abs=3 / (256 * PIXEL_UM))
    assert curve.resolution_half_bit_um == pytest.approx(curve.resolution_seventh_um, rel=0.1)
    assert curve.resolution_143_um == pytest.approx(curve.resolution_seventh_um, rel=0.01)


def test_shell_correlation_falls_at_the_band_limit_on_anisotropic_voxels():
    rng = np.random.default_rng(2)
    voxel = (0.2, 0.1, 0.1)
    light = 300.0 * (1 + 0.2 * band_limited((48, 96, 96), 1.5, rng, voxel))
    raw = rng.poisson(light).astype(np.uint16)
    assert 1 / correlation_of_raw(
        raw, CAMERA, voxel, mode="shell"
    ).resolution_143_um == pytest.approx(1.5, abs=3 / 9.6)
    assert 1 / correlation_of_raw(
        raw, CAMERA, voxel, mode="axial"
    ).resolution_143_um == pytest.approx(1.5, abs=3 / 9.6)


def test_pure_noise_resolves_nothing():
    rng = np.random.default_rng(3)
    curves = []
    for seed in range(6):
        raw = rng.poisson(20.0, (1, 256, 256)).astype(np.uint16)
        curve = correlation_of_raw(raw, CAMERA, (1.0, PIXEL_UM, PIXEL_UM), seed=seed)
        assert curve.resolution_seventh_um > 2.0
        curves.append(curve.correlation)
    # A ring's correlation has a standard error of about 0.05, a mean of six 0.02.
    assert np.abs(np.mean(curves, axis=0)[60:]).max() < 0.08
    assert abs(np.mean(curves)) < 0.02


def test_identical_images_correlate_fully_and_never_cross():
    x = np.random.default_rng(4).standard_normal((1, 64, 64))
    curve = correlate_halves(x, 3 * x + 5, (1.0, PIXEL_UM, PIXEL_UM))
    np.testing.assert_allclose(curve.correlation, 1.0, atol=1e-6)
    assert curve.resolution_seventh_um is None


def test_the_half_bit_line_reaches_its_limit_with_many_voxels():
    x = np.random.default_rng(5).standard_normal((1, 512, 512))
    line = correlate_halves(x, x, (1.0, PIXEL_UM, PIXEL_UM)).half_bit
    assert 0.2071 / 1.2071 < line[-1] < 0.28
    assert np.all(np.diff(line[::16]) < 0)
    assert line[0] > 0.5


def test_a_method_that_invents_detail_gains_nothing():
    rng = np.random.default_rng(6)
    light = 30.0 * (1 + 0.2 * band_limited((256, 256), 2.0, rng))[None]
    raw = rng.poisson(light).astype(np.uint16)
    invented = 20.0 * rng.standard_normal(light.shape)
    voxel = (1.0, PIXEL_UM, PIXEL_UM)
    first, second = split_photons(raw, CAMERA, 0.5, 0)
    honest = correlate_halves(first, second, voxel)
    liar = correlate_halves(first + invented, second, voxel)
    assert np.mean(liar.correlation) < np.mean(honest.correlation)


@pytest.mark.parametrize(
    ("a", "b", "mode", "match"),
    [
        ((1, 64, 64), (1, 64, 63), "ring", "cannot be correlated"),
        ((1, 6, 64), (1, 6, 64), "ring", "at least 8 voxels"),
        ((4, 64, 64), (4, 64, 64), "shell", "at least 8 voxels"),
        ((1, 64, 64), (1, 64, 64), "disc", "choose ring, shell or axial"),
    ],
)
def test_halves_that_cannot_be_correlated_are_refused(a, b, mode, match):
    with pytest.raises(ValueError, match=match):
        correlate_halves(np.zeros(a), np.zeros(b), (1.0, 1.0, 1.0), mode=mode)


@pytest.mark.parametrize("cut", [1.5, 2.5, 3.5])
def test_decorrelation_finds_the_band_limit(cut):
    rng = np.random.default_rng(7)
    image = band_limited((256, 256), cut, rng) + 0.1 * rng.standard_normal((256, 256))
    found = decorrelation_resolution(image, PIXEL_UM)
    assert 1 / found.resolution_um == pytest.approx(cut, rel=0.08)


def test_decorrelation_of_a_constant_finds_nothing():
    assert decorrelation_resolution(np.full((64, 64), 3.0), PIXEL_UM).resolution_um is None


def test_blur_lowers_the_decorrelation_cutoff():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(8)
    points = np.zeros((256, 256))
    points[rng.integers(0, 256, 200), rng.integers(0, 256, 200)] = 100.0
    cutoffs = [
        decorrelation_resolution(
            gaussian_filter(points, s) + 0.02 * rng.standard_normal(points.shape), PIXEL_UM
        ).cutoff
        for s in (1, 2, 4)
    ]
    assert cutoffs[0] > cutoffs[1] > cutoffs[2] > 0


@pytest.mark.parametrize(
    ("image", "match"), [(np.zeros((16, 64)), "at least 32"), (np.full((64, 64), np.nan), "finite")]
)
def test_planes_that_cannot_be_analysed_are_refused(image, match):
    with pytest.raises(ValueError, match=match):
        decorrelation_resolution(image, PIXEL_UM)
