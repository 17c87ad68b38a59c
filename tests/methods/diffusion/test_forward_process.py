"""The forward process: the exact specimen at timestep 0, the schedules, an image's timestep."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from zenhance.errors import MethodError
from zenhance.methods.diffusion.forward_process import (
    MAX_SIGMA_PX,
    MIN_NOISE_RATIO,
    Timestep,
    blurred,
    degraded,
    match_timestep,
    moved,
    noise_of,
    noise_sd,
    sigma_at,
    timestep_of_sigma,
)
from zenhance.physics.blur import Blur
from zenhance.physics.psf_base import gaussian_kernel_1d
from zenhance.simulate.presets import PRESETS


def specimen(seed: int = 0, shape: tuple[int, int, int] = (6, 40, 36)) -> torch.Tensor:
    made = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) ** 6
    return made / made.max()


def normal(like: torch.Tensor, seed: int = 1) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


WAY = Timestep(0.5, 0.3, 0.2, (1.5, 1.0, 1.0))


def test_level_zero_is_the_specimen_to_the_last_bit() -> None:
    x = specimen()
    assert torch.equal(degraded(x, WAY.at(0.0), normal(x)), x)
    assert torch.equal(moved(normal(x), x, WAY, 0.0), x)
    assert sigma_at(0.0) == 0.0


def test_blur_and_noise_grow_with_the_level_to_beyond_the_worst_stack() -> None:
    sigmas = [sigma_at(t) for t in np.linspace(0, 1, 101)]
    assert all(b > a for a, b in itertools.pairwise(sigmas))
    worst = max(
        PRESETS["throw_away"]["sigma_deep_um"][1] / 0.22,
        PRESETS["filaments_set1"]["sigma_deep_um"][1] / 0.025,
    )
    assert sigmas[-1] == pytest.approx(MAX_SIGMA_PX)
    assert sigmas[-1] > 1.5 * worst
    assert [WAY.at(t).noise for t in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.15, 0.3])


def test_level_of_a_blur_is_the_inverse_of_the_blur_of_a_level() -> None:
    for t in (0.0, 0.01, 0.3, 0.77, 1.0):
        assert timestep_of_sigma(sigma_at(t)) == pytest.approx(t, abs=1e-12)
    assert timestep_of_sigma(50.0) == 1.0


def test_the_blur_is_that_of_the_package_with_the_width_of_the_level() -> None:
    x = specimen()
    z, y, x_ = WAY.sigma_px
    assert (z, y, x_) == pytest.approx((1.5 * sigma_at(0.5), sigma_at(0.5), sigma_at(0.5)))
    expected = Blur.from_axis_kernels(*(gaussian_kernel_1d(round(s, 3)) for s in (z, y, x_)))(x)
    assert torch.allclose(blurred(x, WAY), expected, atol=1e-7)


def test_noise_has_the_standard_deviation_of_the_level_and_grows_with_light() -> None:
    flat = torch.full((4, 200, 200), 0.6)
    level = Timestep(0.5, 0.4, 0.25)
    drawn = degraded(flat, level, normal(flat)) - flat
    assert float(drawn.std()) == pytest.approx(0.2 * math.sqrt(0.25 + 0.75 * 0.6), rel=0.01)
    assert float(noise_sd(torch.tensor(1.0), level)) == pytest.approx(0.2)
    assert float(noise_sd(torch.tensor(-3.0), level)) == pytest.approx(0.1)


def test_the_noise_of_a_state_is_what_it_was_made_with() -> None:
    x = specimen()
    n = normal(x)
    assert torch.allclose(noise_of(degraded(x, WAY, n), x, WAY), n, atol=1e-4)


def test_moving_with_the_true_specimen_gives_the_state_of_the_other_level_with_the_same_noise() -> (
    None
):
    x = specimen()
    n = normal(x)
    assert torch.allclose(
        moved(degraded(x, WAY, n), x, WAY, 0.2), degraded(x, WAY.at(0.2), n), atol=1e-5
    )


def test_noise_drawn_anew_replaces_its_share_of_the_variance() -> None:
    x = torch.full((2, 128, 128), 0.5)
    state = degraded(x, WAY, normal(x))
    kept, replaced = moved(state, x, WAY, 0.3), moved(state, x, WAY, 0.3, normal(x, 2), 0.5)
    assert float((replaced - x).std()) == pytest.approx(float((kept - x).std()), rel=0.03)
    correlation = np.corrcoef((kept - x).flatten(), (replaced - x).flatten())[0, 1]
    assert correlation == pytest.approx(math.sqrt(0.5), abs=0.03)


def test_an_image_finds_its_own_level() -> None:
    found = match_timestep((2.2, 1.1, 1.1), 0.2, 0.3)
    assert found.t == pytest.approx(timestep_of_sigma(1.1))
    assert found.sigma_px == pytest.approx((2.2, 1.1, 1.1))
    assert found.noise == pytest.approx(0.2)
    assert found.constant == 0.3


def test_a_sharp_but_noisy_image_stands_where_the_schedule_may_be_as_noisy() -> None:
    found = match_timestep((0.0, 0.1, 0.1), 0.6)
    assert found.t == pytest.approx(0.6)
    assert found.ratio == 1.0


def test_a_sharp_and_clean_image_stands_next_to_the_specimen_and_the_worst_at_the_end() -> None:
    assert match_timestep((0.0, 0.0, 0.0), 0.0).t == pytest.approx(0.01)
    worst = match_timestep((9.0, 9.0, 9.0), 2.0)
    assert worst.t == 1.0
    assert worst.ratio == 1.0


def test_a_start_chosen_by_hand_keeps_the_noise_of_the_image() -> None:
    own = match_timestep((1.0, 1.0, 1.0), 0.1)
    for t in (0.3, 0.9):
        assert own.started_at(t).noise == pytest.approx(0.1)
    assert own.started_at(0.9).ratio >= MIN_NOISE_RATIO


@pytest.mark.parametrize("wrong", [((0.0, -1.0, 1.0), 0.1), ((0.0, 1.0, 1.0), math.nan)])
def test_a_blur_or_noise_that_is_no_number_has_no_level(
    wrong: tuple[tuple[float, float, float], float],
) -> None:
    with pytest.raises(MethodError, match="has no timestep"):
        match_timestep(*wrong)
