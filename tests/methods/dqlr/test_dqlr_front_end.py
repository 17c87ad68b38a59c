"""DQLR with the front end: it begins as deconvolution, and learns from stacks of all kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.methods.dqlr.network import Dqlr, restore_sequence
from zenhance.methods.dqlr.training import LEARNER
from zenhance.steps import drain
from zenhance.training.data import TrainingVolume, load_volumes
from zenhance.training.patches import PatchSampler
from zenhance.training.recipe import Recipe
from zenhance.training.session import optics_steps

SMALL = {
    "front_end": True, "features": 16, "inner": 8, "blocks": 1, "hidden": 8, "dimensions": 8,
    "planes": 6, "reblur": 0.1,
}  # fmt: skip


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


def test_what_it_gives_follows_the_light() -> None:
    net = LEARNER.build(SMALL).eval()
    seen = torch.rand(1, 7 * 6, 16, 16) + 0.5
    brighter = seen.clone()
    brighter[:, :12] *= 10  # measurement and light
    with torch.inference_mode():
        assert torch.allclose(
            LEARNER.predict(net, brighter), 10 * LEARNER.predict(net, seen), rtol=1e-4
        )
