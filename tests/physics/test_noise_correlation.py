"""How far the noise of neighbouring pixels is correlated."""

import numpy as np
import pytest
from scipy import ndimage

from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import correlation_px, kept_variance


@pytest.mark.parametrize(("sigma", "tolerance"), [(0.0, 0.0), (0.6, 0.08), (0.7, 0.08)])
def test_the_width_of_a_filter_is_read_from_the_noise(sigma: float, tolerance: float) -> None:
    noise = np.random.default_rng(2).normal(200.0, 20.0, (4, 160, 160))
    filtered = ndimage.gaussian_filter(noise, (0.0, sigma, sigma))
    assert correlation_px(measure_blocks(filtered)) == pytest.approx(sigma, abs=tolerance)


def test_second_differences_show_the_share_of_the_variance_that_algebra_says() -> None:
    # A Gaussian of width s gives neighbours k apart the correlation exp(-k² / 4 s²).
    noise = np.random.default_rng(3).normal(0.0, 1.0, (1500, 1500))
    filtered = ndimage.gaussian_filter(noise, 0.9)
    filtered /= filtered.std()
    along = filtered[:-2] - 2.0 * filtered[1:-1] + filtered[2:]
    both = (along[:, :-2] - 2.0 * along[:, 1:-1] + along[:, 2:]) / 6.0
    assert kept_variance(0.9) == pytest.approx(float(both.var()), rel=0.1)
    assert kept_variance(0.0) == 1.0
