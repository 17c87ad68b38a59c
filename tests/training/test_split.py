"""One stack is divided so that what is validated was never trained on."""

from __future__ import annotations

import numpy as np

from zenhance.stack import Stack
from zenhance.training.data import of_stacks
from zenhance.training.split import strips_apart

ALL = slice(None)


def volumes(height: int, width: int, scale: int = 1) -> list:
    measured = np.arange(3 * height * width, dtype=np.float32).reshape(3, height, width)
    truth = np.repeat(np.repeat(measured, scale, axis=1), scale, axis=2)
    return list(of_stacks("cells", Stack.from_array(measured, "ZYX", (1, 1, 1)), Stack.from_array(truth, "ZYX", (1, 1, 1))))


def test_the_parts_lie_side_by_side_and_make_up_the_whole() -> None:
    (whole,) = volumes(40, 100)
    (train,), (held,) = strips_apart([whole], 0.2, 16)
    assert (train.shape_px, held.shape_px) == ((3, 40, 80), (3, 40, 20))
    both = np.concatenate([part.measured.read((ALL, ALL, ALL)) for part in (train, held)], axis=2)
    np.testing.assert_array_equal(both, whole.measured.read((ALL, ALL, ALL)))
    assert (train.name, held.name) == ("cells, x 0:80", "cells, x 80:100")
    assert train.scaling == held.scaling == whole.scaling


def test_a_finer_truth_is_cut_at_the_same_place() -> None:
    _, (held,) = strips_apart(volumes(100, 40, scale=2), 0.25, 16)
    region = (slice(0, 3), slice(0, 25), slice(0, 40))
    fine = held.read_truth(region)
    assert fine.shape == (3, 50, 80)
    np.testing.assert_array_equal(fine[:, ::2, ::2], held.read_measured(region))


def test_no_part_is_smaller_than_a_patch() -> None:
    _, (held,) = strips_apart(volumes(40, 100), 0.05, 32)
    assert held.shape_px == (3, 40, 32)
    (train,), (held,) = strips_apart(volumes(40, 60), 0.2, 32)
    assert train is held
