"""DQLR with the front end: it begins as deconvolution, and learns from stacks of all kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_model import NUMBERS, PSF, walls
from zenhance.methods.dqlr.inference import restore_sequence
from zenhance.methods.dqlr.network import Dqlr
from zenhance.methods.dqlr.training import LEARNER
from zenhance.pipeline import enhance
from zenhance.stack import Stack
from zenhance.steps import drain
from zenhance.training.data import TrainingVolume, load_volumes
from zenhance.training.loop import train
from zenhance.training.patches import PatchSampler
from zenhance.training.recipe import Recipe
from zenhance.training.session import optics_steps

SMALL = {
    "front_end": True, "features": 16, "inner": 8, "blocks": 1, "hidden": 8, "dimensions": 8,
    "planes": 6, "reblur": 0.1,
}  # fmt: skip
ALONE = {"method": "dqlr", "device": "cpu", "arbitrate": False}


@pytest.fixture(scope="module")
def volumes() -> list[TrainingVolume]:
    """Two drawn stacks with their features."""
    recipe = Recipe(
        method="dqlr",
        name="small",
        architecture=SMALL,
        data={"drawn": [{"count": 1, "validation": 1, "seed": 4}]},
    )
    train, held = drain(optics_steps(recipe, LEARNER, load_volumes(recipe)))
    return [*train, *held]


def test_untrained_it_gives_the_mean_of_the_deconvolutions(volumes: list[TrainingVolume]) -> None:
    net = LEARNER.build(SMALL).eval()
    batch = PatchSampler(volumes, (6, 32, 32), 2, 0, with_optics=True).draw(0)
    assert batch.deconvolved is not None
    light, early, late = (batch.deconvolved[:, k, 3] for k in (0, -2, -1))
    with torch.inference_mode():
        found = LEARNER.predict(net, batch.seen)[:, 0]
    assert torch.allclose(found, light * (early + late) / 2, rtol=1e-3, atol=1e-4)


def test_the_loss_falls(volumes: list[TrainingVolume]) -> None:
    torch.manual_seed(0)
    net = LEARNER.build(SMALL).train()
    sampler = PatchSampler(volumes, (6, 32, 32), 2, 0, with_optics=True)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss, logs = LEARNER.loss(net, sampler.draw(0))
        assert logs["reblur"] >= 0
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_a_stack_in_strips_is_the_stack_at_once() -> None:
    torch.manual_seed(1)
    net = LEARNER.build(SMALL).eval()
    assert isinstance(net, Dqlr)
    assert net.finish is not None
    torch.nn.init.normal_(net.finish.give.weight, std=0.1)
    features = torch.rand(6, 5, 64, 24)
    whole, _ = drain(restore_sequence(net, features))
    strips, _ = drain(restore_sequence(net, features, pixels_at_once=24 * 16))
    with torch.inference_mode():
        forward = net(features[None]).enhanced[0]
    assert torch.allclose(whole, forward, atol=1e-5)
    assert torch.allclose(strips, whole, atol=1e-5)


def test_it_can_begin_as_a_network_without_the_front_end() -> None:
    torch.manual_seed(2)
    old = LEARNER.build({**SMALL, "front_end": False, "reblur": 0.0}).eval()
    net = LEARNER.build(SMALL).eval()
    net.load_state_dict(LEARNER.adopt(net, old.state_dict()))
    features = torch.rand(1, 6, 5, 24, 24)
    with torch.inference_mode():
        expected = 4 * old(features[:, 0] / 4).enhanced
        assert torch.allclose(net(features).enhanced, expected, atol=1e-5)
    assert LEARNER.adopt(net, net.state_dict()).keys() == net.state_dict().keys()


def test_what_it_gives_follows_the_light() -> None:
    net = LEARNER.build(SMALL).eval()
    seen = torch.rand(1, 7 * 6, 16, 16) + 0.5
    brighter = seen.clone()
    brighter[:, :12] *= 10  # measurement and light
    with torch.inference_mode():
        assert torch.allclose(
            LEARNER.predict(net, brighter), 10 * LEARNER.predict(net, seen), rtol=1e-4
        )


@pytest.fixture(scope="module")
def model(volumes: list[TrainingVolume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that learnt for four steps."""
    recipe = Recipe(
        method="dqlr",
        name="small",
        architecture=SMALL,
        data={"drawn": [{"count": 1, "validation": 1, "seed": 4}]},
        steps=4,
        **NUMBERS,
    )
    folder = tmp_path_factory.mktemp("model")
    return train(recipe, folder, device="cpu", volumes=(volumes, volumes)).path


def stack(shape: tuple[int, int, int], gain: float = 1.0) -> Stack:
    return Stack.from_array(gain * (walls(1, shape)[0] - 50) + 50, "ZYX", (0.5, 0.2, 0.2))


@pytest.mark.parametrize("shape", [(1, 37, 50), (5, 150, 130)])
def test_tiles_agree_with_the_whole(model: Path, shape: tuple[int, int, int]) -> None:
    common = {
        "method": "dqlr",
        "weights": str(model),
        "psf": PSF,
        "device": "cpu",
        "arbitrate": False,
    }
    whole = enhance(stack(shape), **common).stack.read()
    tiled = enhance(stack(shape), **common, tile_px=(shape[0], 32, 48)).stack.read()
    assert whole.shape == shape
    assert np.abs(tiled - whole).max() < 1e-4 * np.ptp(whole)


def test_the_result_has_the_units_of_the_measurement(model: Path) -> None:
    common = {
        "method": "dqlr",
        "weights": str(model),
        "psf": PSF,
        "device": "cpu",
        "arbitrate": False,
    }
    plain, bright = (
        enhance(stack((5, 40, 44), gain), **common).stack.read() for gain in (1.0, 20.0)
    )
    assert plain.mean() == pytest.approx(stack((5, 40, 44)).read().mean(), rel=0.05)
    assert np.allclose((bright - 50) / 20, plain - 50, atol=0.02 * np.ptp(plain))


def test_a_profile_tells_the_network_the_blur_of_each_depth(model: Path) -> None:
    common = {"method": "dqlr", "weights": str(model), "device": "cpu", "arbitrate": False}
    seen = stack((12, 48, 44))
    told = enhance(seen, **common, profile="measure")
    plain = enhance(seen, **common, psf=PSF).stack.read()
    assert np.isfinite(told.stack.read()).all()
    assert np.abs(told.stack.read() - plain).max() > 0.01 * np.ptp(plain)
