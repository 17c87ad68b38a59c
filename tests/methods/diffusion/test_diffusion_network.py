"""The network of the reverse process: receptive field, timesteps, no dependence on the tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.errors import RecipeError
from zenhance.methods.diffusion.forward_process import MIN_NOISE_RATIO
from zenhance.methods.diffusion.network import MIN_RATIO, STRIDE, DiffusionNetwork, reach_px
from zenhance.methods.diffusion.training import MAX_REACH_PX, DiffusionLearner

LEVELS = torch.tensor([[0.4, 0.2]])


def network(**sizes: int) -> DiffusionNetwork:
    """A network whose every layer has a say."""
    torch.manual_seed(0)
    made = DiffusionNetwork(
        **{"features": 8, "deep_features": 8, "blocks": 2, "deep_blocks": 1, **sizes}
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return made.eval()


def test_the_reach_is_what_is_said_and_no_more() -> None:
    net, (blocks, deep) = network(), (2, 1)
    image = torch.randn(1, 1, 128, 128, requires_grad=True)
    net(image, LEVELS)[0, 0, 62:66, 62:66].square().sum().backward()
    assert image.grad is not None
    seen = np.nonzero(image.grad[0, 0].abs().sum(0).numpy())[0]
    reach = max(65 - seen.min(), seen.max() - 62)
    assert reach <= reach_px(blocks, deep) + 3
    assert reach >= reach_px(blocks, deep) - 2 * STRIDE


def test_a_place_does_not_see_what_else_is_in_the_tile() -> None:
    net, reach = network(), reach_px(2, 1)
    left = torch.randn(1, 1, 32, 32 + reach)
    dark, bright = (torch.cat([left, torch.full((1, 1, 32, 64), v)], 3) for v in (0.0, 50.0))
    with torch.inference_mode():
        a, b = (net(image, LEVELS)[..., :32] for image in (dark, bright))
    assert torch.allclose(a, b, atol=1e-5)


def test_tiles_that_begin_on_the_stride_see_what_the_whole_sees() -> None:
    net, reach = network(), reach_px(2, 1)
    image = torch.randn(1, 1, 96, 160)
    with torch.inference_mode():
        whole = net(image, LEVELS)
        part = net(image[..., 40:], LEVELS)
    assert torch.allclose(whole[..., 40 + reach :], part[..., reach:], atol=1e-5)


def test_the_level_changes_what_comes_out_and_each_image_has_its_own() -> None:
    net = network()
    image = torch.randn(1, 1, 32, 32)
    levels = torch.tensor([[0.1, 0.05], [0.9, 0.05], [0.1, 0.9]])
    with torch.inference_mode():
        together = net(image.expand(3, -1, -1, -1), levels)
        alone = torch.cat([net(image, level[None]) for level in levels])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3
    assert (together[0] - together[2]).abs().max() > 1e-3


def test_of_a_window_the_middle_plane_is_restored() -> None:
    net = DiffusionNetwork(window=3, features=8, deep_features=8, blocks=2, deep_blocks=1)
    torch.nn.init.zeros_(net.leave.weight)
    torch.nn.init.zeros_(net.leave.bias)
    planes = torch.randn(2, 3, 16, 16)
    assert torch.equal(net(planes, LEVELS.expand(2, 2)), planes[:, 1:2])


def test_a_guess_is_a_level() -> None:
    told = network().guess(torch.randn(5, 1, 32, 32))
    assert told.shape == (5, 2)
    assert bool((told[:, 0] > 0).all() and (told[:, 0] <= 1).all())
    assert bool((told[:, 1] >= MIN_RATIO).all() and (told[:, 1] <= 1).all())
    assert MIN_RATIO == MIN_NOISE_RATIO


def test_what_cannot_be_built_is_refused() -> None:
    for wrong, said in (
        ({"window": 2, "planes": 4}, "odd"),
        ({"window": 3}, "planes"),
        ({"blocks": 8, "deep_blocks": 4}, str(MAX_REACH_PX)),
        ({"measured": 0.0, "made": 0.0}, "nothing to learn"),
        ({"width": 3}, "width"),
    ):
        with pytest.raises(RecipeError, match=said):
            DiffusionLearner().build(wrong)
    with pytest.raises(RecipeError, match="multiple of 4"):
        DiffusionLearner().patch_px({}, 50)
