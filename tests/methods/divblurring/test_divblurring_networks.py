"""DivBlurring's networks: sizes, latents, receptive fields, no dependence on the tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from zenhance.methods.divblurring.network import (
    Encoded,
    FlatVae,
    Gaussian,
    LadderVae,
    Vae,
    divergence,
    reach_px,
)

FEATURES, LATENTS = (6, 8, 10), (1, 2, 3)
BOTH = ["flat", "ladder"]


def made(kind: str, **sizes: Any) -> Vae:
    """A small network whose every layer has a say."""
    torch.manual_seed(0)
    net: Vae
    if kind == "flat":
        net = FlatVae(**{"latents": 4, "features": 6, **sizes})
    else:
        net = LadderVae(**{"features": FEATURES, "latents": LATENTS, **sizes})
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            torch.nn.init.normal_(
                module.weight,
                std=1.2
                / (module.weight[0].numel() if isinstance(module, nn.Conv2d) else 12) ** 0.5,
            )
            torch.nn.init.normal_(module.bias, std=0.1)
    return net.eval()


def numbers(net: Vae, height: int, width: int, images: int = 1, seed: int = 5) -> list[Tensor]:
    """Standard normal numbers for each level of images of a size."""
    rng = torch.Generator().manual_seed(seed)
    return [
        torch.randn((images, channels, height // stride, width // stride), generator=rng)
        for stride, channels in net.levels
    ]


def light_of(net: Vae, image: Tensor, noise: list[Tensor] | None = None, **options: Any) -> Tensor:
    with torch.inference_mode():
        return net.decode(
            net.encode(image), None if noise is None else lambda level, _: noise[level], **options
        )[0]


def test_the_flat_network_is_the_reports() -> None:
    net = FlatVae()
    assert sum(p.numel() for p in net.parameters()) == 261_281
    one_layer = nn.Conv2d(64, 64, 3, padding=1)
    assert sum(p.numel() for p in one_layer.parameters()) == 36_928
    assert sum(p.numel() for p in net.mean.parameters()) == 36_928
    pools = [m for m in net.encoder if isinstance(m, nn.MaxPool2d)]
    assert len(pools) == 2
    assert not any(
        isinstance(m, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d) for m in net.modules()
    )
    light, latents = net.decode(net.encode(torch.zeros(2, 1, 32, 48)), None)
    assert light.shape == (2, 1, 32, 48)
    assert latents.posterior[0].mean.shape == (2, 64, 8, 12)
    assert net.levels == ((4, 64),)


def test_the_ladders_latents_lie_on_three_grids() -> None:
    net = made("ladder", window=3, planes=3)
    light, latents = net.decode(net.encode(torch.zeros(2, 3, 32, 48)), None)
    assert light.shape == (2, 3, 32, 48)
    assert [tuple(q.mean.shape[1:]) for q in latents.posterior] == [
        (3, 8, 12),
        (2, 16, 24),
        (1, 32, 48),
    ]
    assert net.levels == ((4, 3), (2, 2), (1, 1))
    assert latents.prior[0] is None
    assert [d.shape for d in latents.divergences()] == [(2,)] * 3


@pytest.mark.parametrize("kind", BOTH)
def test_all_that_is_known_of_an_image_passes_through_the_latents(kind: str) -> None:
    """If the posterior equals the prior, the light does not depend on the image."""
    net, images = made(kind), torch.randn(2, 1, 32, 32)
    noise = [n.expand(2, -1, -1, -1) for n in numbers(net, 32, 32)]
    one, two = light_of(net, images, noise)
    assert float((one - two).abs().max()) > 1e-2
    blind = (
        [net.mean, net.log_variance] if isinstance(net, FlatVae) else [net.first, *net.posteriors]
    )
    for layer in blind:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    one, two = light_of(net, images, noise)
    assert torch.equal(one, two)
    with torch.inference_mode():
        latents = net.decode(net.encode(images), lambda level, _: noise[level])[1]
    assert max(float(d.abs().max()) for d in latents.divergences()) < 1e-3


def test_each_level_of_the_ladder_adds_to_the_light() -> None:
    net, image = made("ladder"), torch.randn(1, 1, 32, 32)
    noise = numbers(net, 32, 32)
    usual = light_of(net, image, noise)
    for level in range(3):
        other = [n + 1.0 if number == level else n for number, n in enumerate(noise)]
        assert float((light_of(net, image, other) - usual).abs().mean()) > 1e-3, level


@pytest.mark.parametrize("kind", BOTH)
def test_light_is_never_negative_and_unchanged_where_it_is_bright(kind: str) -> None:
    net = made(kind, positive=True) if kind == "flat" else made(kind)
    image = 5 * torch.randn(1, 1, 64, 64)
    noise = numbers(net, 64, 64)
    ends: list[Tensor] = []
    hook = net.head.register_forward_hook(lambda *passed: ends.append(passed[2]))  # type: ignore[union-attr]
    light = light_of(net, image, noise)
    hook.remove()
    assert float(ends[0].min()) < -0.5 < 1.0 < float(ends[0].max()), "the test must see both"
    assert float(light.min()) >= 0
    bright = ends[0] > 1
    assert torch.allclose(light[bright], ends[0][bright], atol=1e-4)
    if kind == "flat":
        assert float(light_of(made(kind), image, noise).min()) < 0, (
            "the report's network may go below"
        )


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("scale", [1, 2])
def test_the_middle_plane_alone_is_that_of_all_planes(kind: str, scale: int) -> None:
    net = made(kind, window=5, planes=3, scale=scale)
    image, noise = torch.randn(2, 5, 16, 24), numbers(net, 16, 24, 2)
    whole, middle = light_of(net, image, noise), light_of(net, image, noise, only_middle=True)
    assert whole.shape == (2, 3, 16 * scale, 24 * scale)
    assert middle.shape == (2, 1, 16 * scale, 24 * scale)
    assert torch.allclose(middle, whole[:, 1:2], atol=1e-5)
    with torch.inference_mode():
        assert torch.allclose(net(image), light_of(net, image, only_middle=True))


@pytest.mark.parametrize("kind", BOTH)
def test_the_encoder_is_called_once_for_many_draws(kind: str) -> None:
    net, images, calls = made(kind), torch.randn(2, 1, 16, 16), []
    entrance = net.encoder if isinstance(net, FlatVae) else net.enter
    assert isinstance(entrance, nn.Module)
    entrance.register_forward_hook(lambda *_: calls.append(1))
    noise = numbers(net, 16, 16, 6)
    with torch.inference_mode():
        encoded = net.encode(images)
        together = net.decode(encoded.repeated(3), lambda level, _: noise[level])[0]
        for draw in range(6):
            image = draw // 3
            alone = Encoded(tuple(f[image : image + 1] for f in encoded.features))
            light = net.decode(alone, lambda level, _, draw=draw: noise[level][draw : draw + 1])[0]
            assert torch.allclose(light[0], together[draw], atol=1e-5)
    assert len(calls) == 1
    assert float((together[0] - together[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", BOTH)
def test_what_lies_one_stride_further_comes_out_one_stride_further(kind: str) -> None:
    net, reach = made(kind), reach_px(kind, 1)
    stride, size = net.stride, 2 * -(-reach // 8) * 8 + 48
    image, noise = torch.randn(1, 1, 16, size), numbers(net, 16, size)
    usual = light_of(net, image, noise)
    moved = light_of(
        net,
        image[..., stride:],
        [n[..., stride // s :] for n, (s, _) in zip(noise, net.levels, strict=True)],
    )
    inside = slice(reach, size - stride - reach)
    assert torch.allclose(moved[..., inside], usual[..., stride:][..., inside], atol=1e-5)
    bright = image.clone()
    bright[..., : size // 2 - reach] += 100.0
    assert torch.allclose(
        light_of(net, bright, noise)[..., size // 2 :], usual[..., size // 2 :], atol=1e-5
    ), "no layer knows the tile"


@pytest.mark.parametrize(("kind", "blocks"), [("flat", 1), ("ladder", 1), ("ladder", 2)])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_reach_is_enough_and_not_much_too_much(kind: str, blocks: int, scale: int) -> None:
    net, reach = (
        made(kind, scale=scale, **({"blocks": blocks} if kind == "ladder" else {})),
        reach_px(kind, blocks),
    )
    size = 2 * (reach // 8 + 2) * 8
    furthest = 0
    for place in range(size // 2, size // 2 + net.stride):
        image = torch.randn(1, 1, 32, size, requires_grad=True)
        light = net.decode(net.encode(image), None)[0]
        light[..., scale * place : scale * (place + 1)].square().sum().backward()
        assert image.grad is not None
        seen = np.nonzero(image.grad[0, 0].abs().sum(0).numpy())[0]
        furthest = max(furthest, place - int(seen.min()), int(seen.max()) - place)
    assert furthest <= reach
    assert reach <= furthest + net.stride


def test_divergence_is_that_of_two_normal_distributions() -> None:
    rng = torch.Generator().manual_seed(1)
    q, p = (
        Gaussian(torch.randn(2, 3, 4, 5, generator=rng), torch.randn(2, 3, 4, 5, generator=rng))
        for _ in range(2)
    )
    known = kl_divergence(
        Normal(q.mean, (0.5 * q.log_variance).exp()), Normal(p.mean, (0.5 * p.log_variance).exp())
    )
    assert torch.allclose(divergence(q, p), known, atol=1e-5)
    standard = kl_divergence(Normal(q.mean, (0.5 * q.log_variance).exp()), Normal(0.0, 1.0))
    assert torch.allclose(divergence(q, None), standard, atol=1e-5)
    assert float(divergence(q, q).abs().max()) == 0
    nothing = Gaussian(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert float(divergence(nothing, None).abs().max()) == 0


def test_draws_have_the_mean_and_width_that_are_said() -> None:
    q = Gaussian.of(torch.tensor([3.0, 2 * np.log(0.5)])[None, :, None, None].expand(1, 2, 1, 1))
    drawn = q.draw(torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(0)))
    assert float(drawn.mean()) == pytest.approx(3, abs=0.01)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.01)
    wild = Gaussian.of(torch.tensor([0.0, 1e4])[None, :, None, None])
    assert torch.isfinite(wild.draw(torch.ones(1, 1, 1, 1))).all()


def test_with_a_shortcut_an_untrained_ladder_gives_the_estimate_that_ends_the_image() -> None:
    torch.manual_seed(0)
    network = LadderVae(9, 1, (8, 8, 8), (1, 2, 2), 1, shortcut=3).eval()
    image = torch.rand(2, 9, 32, 32)
    with torch.inference_mode():
        drawn, _ = network.decode(network.encode(image), lambda _, shape: torch.randn(shape))
        assert torch.allclose(drawn[:, 0], image[:, 7].clamp_min(0.01), atol=1e-5)
        assert torch.equal(network(image), network.decode(network.encode(image), None)[0])


def test_a_shortcut_adds_the_middle_planes_of_the_window() -> None:
    torch.manual_seed(0)
    network = LadderVae(10, 3, (8, 8, 8), (1, 2, 2), 1, shortcut=5).eval()
    image = torch.rand(1, 10, 32, 32)
    with torch.inference_mode():
        encoded = network.encode(image)
        whole, middle = (
            network.decode(encoded, None, only_middle=only)[0] for only in (False, True)
        )
    assert torch.allclose(whole, image[:, 6:9].clamp_min(0.01), atol=1e-5)
    assert torch.allclose(middle[:, 0], whole[:, 1], atol=1e-6)
