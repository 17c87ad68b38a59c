"""Photon statistics against scipy's distributions and against algebra."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from zenhance.assess.photons import Readout, counter_uniform, quantum_photons
from zenhance.assess.small_counts import expected_deviance, poisson_deviance, quantile_residuals
from zenhance.assess.smoothness import MatchedFilter, peak_threshold


@pytest.mark.parametrize("mean", [0.3, 2.0, 11.0, 13.0, 80.0, 2000.0])
def test_residuals_of_poisson_counts_are_standard_normal(mean):
    rng = np.random.default_rng(1)
    counts = rng.poisson(mean, 100_000)
    r = quantile_residuals(
        counts, np.full(counts.shape, mean), 1.0, counter_uniform(3, 0, counts.size)
    )
    assert r.mean() == pytest.approx(0.0, abs=0.012)
    assert r.std() == pytest.approx(1.0, abs=0.012)
    assert stats.kstest(r, "norm").statistic < 0.01


def test_residuals_of_wide_grey_steps_and_of_read_noise_are_standard_normal():
    rng = np.random.default_rng(2)
    camera = SimpleNamespace(gain=0.2, offset=10.0, read_noise=0.0)
    grey = np.rint(camera.gain * rng.poisson(60.0, 100_000) + camera.offset).astype(np.uint8)
    quantum = quantum_photons(camera, grey.dtype)
    r = quantile_residuals(
        (grey - 10.0) / 0.2, np.full(grey.shape, 60.0), quantum, counter_uniform(0, 0, grey.size)
    )
    assert quantum == 5.0
    assert r.std() == pytest.approx(1.0, abs=0.03)
    camera = SimpleNamespace(gain=2.0, offset=0.0, read_noise=3.0)
    noisy = 2.0 * rng.poisson(8.0, 100_000) + rng.normal(0, 3.0, 100_000)
    r = quantile_residuals(
        noisy / 2,
        np.full(noisy.shape, 8.0),
        quantum_photons(camera, noisy.dtype),
        np.full(noisy.shape, 0.5),
        1.5,
    )
    assert r.mean() == pytest.approx(0.0, abs=0.03)
    assert r.std() == pytest.approx(1.0, abs=0.03)


def test_each_voxel_has_its_own_number_wherever_a_block_begins():
    whole = counter_uniform(7, 0, 1000)
    np.testing.assert_array_equal(whole[400:600], counter_uniform(7, 400, 200))
    assert not np.array_equal(whole, counter_uniform(8, 0, 1000))
    many = counter_uniform(1, 0, 200_000)
    assert stats.kstest(many, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(many[1:], many[:-1])[0, 1]) < 0.01
    assert many.min() > 0
    assert many.max() < 1


CAMERAS = [(1.0, 0.0), (1.0, 0.75), (2.0, 0.75), (4.0, 0.75), (10.0, 0.3), (10.0, 2.0), (0.4, 0.0)]


@pytest.mark.parametrize(("gain", "sigma"), CAMERAS)
@pytest.mark.parametrize("mean", [0.05, 0.2, 3.0, 40.0])
def test_few_photons_with_read_noise_give_normal_residuals_and_the_expected_deviance(
    gain, sigma, mean
):
    rng = np.random.default_rng(6)
    count = 200_000
    grey = np.rint(gain * (rng.poisson(mean, count) + rng.normal(0, sigma, count)) + 100)
    # An estimate of the read noise includes the rounding.
    camera = SimpleNamespace(
        gain=gain, offset=100.0, read_noise=(gain**2 * sigma**2 + 1 / 12) ** 0.5 if sigma else 0.0
    )
    readout = Readout.of(camera, np.uint16)
    photons, light = readout.photons(grey.astype(np.uint16)), np.full(count, mean)
    uniform = counter_uniform(0, 0, count)
    r = quantile_residuals(photons, light, readout.quantum, uniform, readout.read_noise)
    assert stats.kstest(r, "norm").statistic < 0.006
    assert np.abs(r).max() < 5.8
    deviance = poisson_deviance(photons, light, readout.read_noise)
    expected = expected_deviance(light[:1], readout.read_noise, readout.quantum)[0]
    slack = 4 * deviance.std() / count**0.5
    assert deviance.mean() == pytest.approx(expected, abs=slack + 0.01 * expected)


def test_the_deviance_is_zero_only_for_the_counts_themselves():
    n = np.array([0.0, 1.0, 9.0])
    np.testing.assert_allclose(poisson_deviance(n, n), 0.0, atol=1e-5)
    assert poisson_deviance(np.array([9.0]), np.array([4.0]))[0] == pytest.approx(
        2 * (9 * np.log(9 / 4) - 5)
    )


@pytest.mark.parametrize("sigma", [(2.0, 1.3, 1.3), (0.0, 1.5, 1.5), (0.6, 1.0, 1.0)])
def test_filtered_white_noise_is_standard_normal_and_as_smooth_as_stated(sigma):
    rng = np.random.default_rng(4)
    shape = (60, 90, 90) if sigma[0] else (1, 500, 500)
    matched = MatchedFilter(sigma)
    z = matched.apply(rng.standard_normal(shape).astype(np.float32))
    inner = z[tuple(slice(12, -12) if n > 1 else slice(None) for n in shape)]
    assert inner.std() == pytest.approx(1.0, abs=0.03)
    for axis, width in enumerate(matched.fwhm_px()):
        if sigma[axis] == 0:
            assert width == 0
            continue
        roughness = np.mean(np.diff(inner, axis=axis) ** 2) / inner.var()
        assert width == pytest.approx(np.sqrt(4 * np.log(2) / roughness), rel=0.05)


def test_pure_noise_reaches_the_threshold_as_rarely_as_asked():
    rng = np.random.default_rng(5)
    matched = MatchedFilter((0.0, 1.5, 1.5))
    threshold = peak_threshold((1, 100, 100), matched.fwhm_px(), false_peaks=0.1)
    highest = [
        matched.apply(rng.standard_normal((1, 116, 116)).astype(np.float32))[:, 8:-8, 8:-8].max()
        for _ in range(300)
    ]
    assert 0.06 <= np.mean(np.array(highest) > threshold) <= 0.16


def test_more_voxels_ask_for_a_higher_threshold():
    assert peak_threshold((30, 100, 100), (4.0, 3.0, 3.0)) < peak_threshold(
        (60, 400, 400), (4.0, 3.0, 3.0)
    )
    assert peak_threshold((1, 1, 1), (0.0, 0.0, 0.0)) == pytest.approx(
        stats.norm.isf(0.005), abs=1e-6
    )
