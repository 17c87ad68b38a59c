"""The rolling ball: finds smooth background, keeps structures, scales with the light."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.methods.dps.rolling_ball import block_px, reach_px, rolled_background
from zenhance.types import FloatArray


def _field(size: int = 300) -> tuple[FloatArray, FloatArray]:
    y, x = np.mgrid[:size, :size]
    background = 0.5 + 0.3 * np.sin(x / 150.0) * np.cos(y / 170.0)
    lines = np.zeros((size, size))
    lines[::60, :] = 1.0
    return (background + lines).astype(np.float32), background.astype(np.float32)


@pytest.mark.parametrize("radius", [8.0, 20.0, 50.0])
def test_background_is_found_under_lines(radius: float) -> None:
    image, background = _field()
    found = rolled_background(image, radius, 1.0)
    assert float(np.abs(found - background)[20:-20, 20:-20].mean()) < 0.05
    assert float((image - found)[120, 30:-30].min()) > 0.4


def test_a_large_ball_is_rolled_over_fewer_points() -> None:
    assert block_px(8.0) == 1
    assert block_px(50.0) == 7


@pytest.mark.parametrize("radius", [6.0, 30.0])
def test_a_tile_finds_what_the_whole_finds(radius: float) -> None:
    image = _field()[0] + np.random.default_rng(0).normal(0, 0.02, (300, 300)).astype(np.float32)
    whole = rolled_background(image, radius, 1.0)
    tile = rolled_background(image[37:260, 53:251], radius, 1.0, (37, 53))
    reach = reach_px(radius) + block_px(radius)
    inner = (slice(37 + reach, 260 - reach), slice(53 + reach, 251 - reach))
    assert float(np.abs(tile[reach:-reach, reach:-reach] - whole[inner]).max()) < 1e-6


def test_twice_the_light_has_twice_the_background() -> None:
    image, _ = _field()
    assert np.allclose(
        rolled_background(2 * image, 20.0, 2.0), 2 * rolled_background(image, 20.0, 1.0), atol=1e-5
    )
