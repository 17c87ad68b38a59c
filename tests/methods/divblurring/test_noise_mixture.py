"""The trained camera noise: a density around the signal that can be skewed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zenhance.methods.divblurring.noise_mixture import MixtureNoise


def disturbed(seed: int) -> MixtureNoise:
    """A mixture of no particular form."""
    made = MixtureNoise(3)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.8 * torch.randn(parameter.shape, generator=rng)
    return made


@pytest.mark.parametrize("signal", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_a_density_whose_mean_is_the_signal(signal: float, seed: int) -> None:
    values = torch.linspace(signal - 8, signal + 8, 160_001)
    with torch.no_grad():
        density = disturbed(seed)(
            values, torch.full_like(values, signal), torch.full_like(values, 0.2**2)
        ).exp()
    assert float(torch.trapezoid(density, values)) == pytest.approx(1, abs=1e-3)
    assert float(torch.trapezoid(density * values, values)) == pytest.approx(signal, abs=2e-3)


def test_untrained_it_is_about_the_first_guess_of_the_noise() -> None:
    values = torch.linspace(-3, 4, 70_001)
    with torch.no_grad():
        density = MixtureNoise()(
            values, torch.full_like(values, 0.5), torch.full_like(values, 0.3**2)
        ).exp()
    width = float(torch.trapezoid(density * (values - 0.5).square(), values)) ** 0.5
    assert width == pytest.approx(0.3, rel=0.1)


def learnt(parts: int, measured: Tensor, expected: Tensor) -> float:
    """Fit a mixture; return the mean log density."""
    made = MixtureNoise(parts)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.05)
    guess = torch.full_like(expected, float((measured - expected).var()))
    for _ in range(150):
        loss = -made(measured, expected, guess).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return -float(loss.detach())


def test_it_learns_a_skewed_noise_better_than_one_gaussian_can() -> None:
    rng = torch.Generator().manual_seed(0)
    expected = torch.rand(4000, generator=rng)
    # Few photons, amplified: exponential, of mean 0, and wider where it is bright.
    noise = (0.05 + 0.1 * expected) * (torch.empty(4000).exponential_(generator=rng) - 1)
    one, three = (learnt(parts, expected + noise, expected) for parts in (1, 3))
    assert three > one + 0.1


def test_it_learns_that_bright_places_are_noisier() -> None:
    rng = torch.Generator().manual_seed(0)
    expected = torch.rand(4000, generator=rng)
    measured = expected + (0.02 + 0.2 * expected) * torch.randn(4000, generator=rng)
    even = learnt(1, expected + 0.12 * torch.randn(4000, generator=rng), expected)
    assert learnt(1, measured, expected) > even + 0.1


def test_gradients_reach_the_signal_but_not_by_the_noises_form() -> None:
    """A network is not rewarded for a signal that makes the noise look wider."""
    noise, guess = disturbed(0), torch.full((1000,), 0.04)
    expected = torch.full((1000,), 0.5, requires_grad=True)
    values = 0.5 + 0.2 * torch.randn(1000, generator=torch.Generator().manual_seed(1))
    noise(values, expected, guess).sum().backward()
    assert expected.grad is not None
    with torch.no_grad():
        # To raise the signal with the noise's form kept is to lower the values.
        lower, higher = (
            float(noise(values + step, torch.full((1000,), 0.5), guess).sum())
            for step in (-1e-2, 1e-2)
        )
    assert float(expected.grad.sum()) == pytest.approx((lower - higher) / 2e-2, rel=1e-2)
