"""Keeping the flux place by place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.physics.blur import Blur
from zenhance.solvers.flux import keep_flux
from zenhance.solvers.richardson_lucy import RichardsonLucy
from zenhance.solvers.schedule import CameraModel, Schedule

NARROW = np.array([0.25, 0.5, 0.25], np.float32)
ONE = np.ones(1, np.float32)


def _blur():
    return Blur.from_axis_kernels(NARROW, NARROW, NARROW)


def _random(seed, shape=(5, 20, 24)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 9 + 1


def test_the_sum_becomes_that_of_the_target():
    image, target = _random(0) * 3, _random(1)
    kept = keep_flux(image, target.clone(), _blur())
    assert float(kept.sum(dtype=torch.float64)) == pytest.approx(
        float(target.sum(dtype=torch.float64)), rel=1e-6
    )
    assert float(kept.min()) >= 0.0


def test_an_image_that_explains_the_target_is_left_alone():
    image, blur = _random(0), _blur()
    assert torch.allclose(keep_flux(image, blur(blur(image)), blur), image, rtol=1e-5)


def test_each_place_keeps_its_own_flux():
    image = torch.full((1, 20, 60), 2.0)
    target = torch.full((1, 20, 60), 2.0)
    target[..., 30:] = 3.0
    kept = keep_flux(image, target, Blur.from_axis_kernels(ONE, NARROW, NARROW))
    assert torch.allclose(kept[..., :26], torch.tensor(2.0))
    assert torch.allclose(kept[..., 34:], torch.tensor(3.0))


def test_light_where_the_image_is_black_does_not_blow_up():
    image = torch.full((1, 20, 20), 1e-30)
    image[..., 15:] = 1.0
    kept = keep_flux(image, torch.ones((1, 20, 20)), Blur.from_axis_kernels(ONE, NARROW, NARROW))
    assert float(kept.max()) <= 10.0


@pytest.mark.parametrize(
    ("camera", "ground"),
    [
        (CameraModel(110.0, gain=2.0, offset=100.0, read_noise=4.0), 92.0),
        (CameraModel(0.0, gain=2.0, offset=0.0, read_noise=4.0), 0.0),
        (CameraModel(-3.0, gain=1.0, offset=0.0), -3.0),
    ],
)
def test_nothing_falls_below_the_ground(camera, ground):
    y = torch.from_numpy(
        np.random.default_rng(0).normal(camera.background, 3.0, (4, 30, 30)).astype(np.float32)
    )
    image = RichardsonLucy(_blur(), y, camera, 5.0).image(torch.zeros_like(y), Schedule(()))
    assert camera.ground == ground
    assert float(image.min()) >= ground
