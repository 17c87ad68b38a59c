"""Res-U-DBPN: twice the grid, light in proportion, light kept, and no say beyond its reach."""

from __future__ import annotations

import pytest
import torch

from zenhance.methods.dps.network import ResUDbpn, pooled, reach_px


@pytest.fixture(scope="module")
def network() -> ResUDbpn:
    torch.manual_seed(3)
    return ResUDbpn(8, 6).eval()


def _image(size: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 1, size, size, generator=generator)


@torch.inference_mode()
def test_the_result_is_light_on_a_grid_twice_as_fine(network: ResUDbpn) -> None:
    light = network(_image() - 0.3)
    assert light.shape == (2, 1, 96, 96)
    assert float(light.min()) >= 0


@pytest.mark.parametrize("factor", [1e-2, 2.0, 300.0])
@torch.inference_mode()
def test_so_many_times_the_light_gives_so_many_times_the_result(
    network: ResUDbpn, factor: float
) -> None:
    once, more = network(_image()), network(factor * _image())
    assert float((more / factor - once).abs().max()) < 1e-3 * float(once.max())


@torch.inference_mode()
def test_light_is_kept_place_by_place(network: ResUDbpn) -> None:
    spot = torch.zeros(1, 1, 64, 64)
    spot[..., 30:33, 20:23] = 1.0
    light = network(spot + 0.05)
    near = (slice(None), slice(None), slice(18, 46), slice(8, 36))
    assert float(pooled(light)[near].sum()) == pytest.approx(
        float((spot + 0.05)[near].sum()), rel=0.1
    )


@torch.inference_mode()
def test_nothing_beyond_the_reach_has_a_say(network: ResUDbpn) -> None:
    reach, size = reach_px(), (2 * reach_px() + 43) // 4 * 4
    image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(2)) + 0.2
    changed = image.clone()
    changed[..., 4, :] += 20.0
    difference = (network(changed) - network(image)).abs()[0, 0].amax(1)
    assert float(difference[: 2 * 4].max()) > 0.1
    assert float(difference[2 * (4 + reach) :].max()) < 1e-5


def test_gradients_reach_every_weight(network: ResUDbpn) -> None:
    network.zero_grad()
    network(_image()).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in network.parameters())
