"""The shares of thinned photons: independent, unbiased, and the same in a tile as in the whole."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.physics.noise import PoissonGauss
from zenhance.physics.thinning import camera_of_share, grey_of_share, split_photons

SHAPE = (12, 150, 150)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize(
    ("photons", "gain", "read_noise", "dtype"),
    [
        (0.5, 1.0, 0.0, np.uint16),
        (3.0, 2.0, 6.0, np.float32),
        (40.0, 2.5, 0.0, np.uint16),
        (40.0, 0.5, 0.0, np.uint16),
        (900.0, 1.0, 2.0, np.uint16),
    ],
)
def test_the_shares_are_unbiased_and_uncorrelated_and_have_the_noise_of_their_camera(
    photons, gain, read_noise, dtype, share
):
    rng = np.random.default_rng(1)
    camera = PoissonGauss(gain, 100.0, read_noise)
    grey = camera.sample(np.full(SHAPE, photons), rng)
    measured = (np.rint(grey) if dtype == np.uint16 else grey).astype(dtype)
    kept, held = split_photons(measured, camera, share, seed=3)
    np.testing.assert_allclose(kept + held, (measured - 100.0) / gain, rtol=1e-5, atol=1e-4)
    rounding = 1 / 12 / gain**2 if dtype == np.uint16 and gain < 1 else 0.0
    added = (read_noise / gain) ** 2 + rounding
    for part, p in ((kept, share), (held, 1 - share)):
        variance = p * (photons + added)
        error = np.sqrt(variance / part.size)
        assert part.mean() == pytest.approx(p * photons, abs=5 * error)
        assert part.var() == pytest.approx(variance, rel=0.03)
    # One voxel's correlation is zero within five standard errors.
    assert abs(np.corrcoef(kept.ravel(), held.ravel())[0, 1]) < 5 / np.sqrt(kept.size)
    seen = grey_of_share(kept, camera, share)
    expected = camera_of_share(camera, share)
    rounded = rounding * gain**2 / share
    assert seen.mean() == pytest.approx(100 + gain * photons, rel=0.02)
    assert seen.var() == pytest.approx(
        float(expected.variance(100 + gain * photons)) + rounded, rel=0.03
    )


def test_whole_photons_stay_whole_and_none_is_lost():
    counts = np.random.default_rng(0).poisson(7.0, (3, 80, 80))
    kept, held = split_photons(counts, PoissonGauss(1.0), 0.9, seed=0)
    np.testing.assert_array_equal(kept, np.rint(kept))
    assert kept.min() >= 0
    assert held.min() >= 0
    np.testing.assert_array_equal(kept + held, counts)


def test_a_region_is_split_as_the_whole_volume():
    rng = np.random.default_rng(2)
    camera = PoissonGauss(2.0, 10.0, 3.0)
    whole = camera.sample(np.full((5, 90, 130), 20.0), rng)
    kept, held = split_photons(whole, camera, 0.9, 7)
    region = (slice(1, 4), slice(13, 80), slice(60, 129))
    part = split_photons(whole[region], camera, 0.9, 7, (1, 13, 60))
    np.testing.assert_array_equal(part[0], kept[region])
    np.testing.assert_array_equal(part[1], held[region])
    assert not np.array_equal(split_photons(whole, camera, 0.9, 8)[0], kept)


def test_no_light_gives_no_light():
    dark = np.full((2, 8, 8), 10.0, np.float32)
    kept, held = split_photons(dark, PoissonGauss(1.0, 10.0), 0.9)
    assert not kept.any()
    assert not held.any()
