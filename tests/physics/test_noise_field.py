"""Noise that belongs to places."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.physics.noise_field import BLOCK_PX, noise_field

SHAPE = (3, 2 * BLOCK_PX + 9, BLOCK_PX + 30)


def test_same_place_has_same_number_in_every_region() -> None:
    whole = noise_field(3, 1, 5, 2, (0, 0, 0), SHAPE)
    part = noise_field(3, 1, 5, 2, (1, 37, 20), (2, 70, 64))
    np.testing.assert_array_equal(part, whole[1:3, :, 37:107, 20:84])


@pytest.mark.parametrize("other", [(4, 1, 5), (3, 2, 5), (3, 1, 6)])
def test_seed_stream_and_draw_each_make_another_field(other: tuple[int, int, int]) -> None:
    one, two = noise_field(3, 1, 5, 2, (0, 0, 0), SHAPE), noise_field(*other, 2, (0, 0, 0), SHAPE)
    assert abs(float(np.corrcoef(one.ravel(), two.ravel())[0, 1])) < 0.01


def test_numbers_are_standard_normal_and_neighbours_independent() -> None:
    field = noise_field(0, 0, 0, 4, (0, 0, 0), (2, 4 * BLOCK_PX, 4 * BLOCK_PX))
    assert abs(float(field.mean())) < 0.005
    assert float(field.std()) == pytest.approx(1, abs=0.005)
    assert float(np.mean(np.abs(field) < 1.645)) == pytest.approx(0.9, abs=0.003)
    for axis, step in [(0, 1), (1, 1), (2, 1), (3, 1), (2, BLOCK_PX), (3, BLOCK_PX)]:
        one, two = (
            np.take(field, np.arange(s, field.shape[axis] - step + s), axis) for s in (0, step)
        )
        assert abs(float(np.corrcoef(one.ravel(), two.ravel())[0, 1])) < 0.01
