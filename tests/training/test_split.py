"""One stack is divided so that what is validated was never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zenhance.errors import RecipeError
from zenhance.io import write_stack
from zenhance.stack import Stack
from zenhance.training import session
from zenhance.training.data import (
    files_for_test,
    kept_for_test,
    kept_for_validation,
    load_volumes,
    of_stacks,
)
from zenhance.training.loop import train
from zenhance.training.recipe import Data, Recipe
from zenhance.training.session import holdout_strip

ALL = slice(None)


def volumes(height: int, width: int, scale: int = 1) -> list:
    measured = np.arange(3 * height * width, dtype=np.float32).reshape(3, height, width)
    truth = np.repeat(np.repeat(measured, scale, axis=1), scale, axis=2)
    return list(
        of_stacks(
            "cells",
            Stack.from_array(measured, "ZYX", (1, 1, 1)),
            Stack.from_array(truth, "ZYX", (1, 1, 1)),
        )
    )


def test_the_parts_lie_side_by_side_and_make_up_the_whole() -> None:
    (whole,) = volumes(40, 100)
    (train,), (held,) = holdout_strip([whole], 0.2, 16)
    assert (train.shape_px, held.shape_px) == ((3, 40, 80), (3, 40, 20))
    both = np.concatenate([part.measured.read((ALL, ALL, ALL)) for part in (train, held)], axis=2)
    np.testing.assert_array_equal(both, whole.measured.read((ALL, ALL, ALL)))
    assert (train.name, held.name) == ("cells, x 0:80", "cells, x 80:100")
    assert train.scaling == held.scaling == whole.scaling


def test_a_finer_truth_is_cut_at_the_same_place() -> None:
    _, (held,) = holdout_strip(volumes(100, 40, scale=2), 0.25, 16)
    region = (slice(0, 3), slice(0, 25), slice(0, 40))
    fine = held.read_truth(region)
    assert fine.shape == (3, 50, 80)
    np.testing.assert_array_equal(fine[:, ::2, ::2], held.read_measured(region))


def test_no_part_is_smaller_than_a_patch() -> None:
    _, (held,) = holdout_strip(volumes(40, 100), 0.05, 32)
    assert held.shape_px == (3, 40, 32)
    (train,), (held,) = holdout_strip(volumes(40, 60), 0.2, 32)
    assert train is held


@pytest.mark.parametrize("count", range(2, 40))
def test_no_file_is_trained_on_validated_on_and_tested_with(count: int) -> None:
    data = Data(stacks=("a",))
    held, apart = kept_for_validation(count, data), kept_for_test(count, data)
    assert not held & apart
    assert len(apart) == (len(held) if count >= 6 else 0)
    assert held | apart < set(range(count))
    if count == 6:
        assert (count - len(held | apart), len(held), len(apart)) == (4, 1, 1)


def test_of_six_plants_one_is_left_untouched_and_named(tmp_path: Path) -> None:
    paths = []
    for plant in range(6):
        pixels = np.random.default_rng(plant).poisson(50, (4, 16, 16)).astype(np.uint16)
        paths.append(
            str(
                write_stack(
                    tmp_path / f"plant{plant}.ome.tif",
                    Stack.from_array(pixels, "ZYX", (0.5, 0.2, 0.2)),
                )
            )
        )
    recipe = Recipe(method="dqlr", name="plants", data=Data(stacks=tuple(paths)))
    train, held = load_volumes(recipe)
    (apart,) = files_for_test(recipe)
    assert (len(train), len(held)) == (4, 1)
    assert {volume.name for volume in train + held} == {Path(path).name for path in paths} - {
        Path(apart).name
    }


def test_a_training_that_exceeds_the_memory_is_refused_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "free_bytes", lambda _device: 100_000)
    given = volumes(40, 40)
    recipe = Recipe(
        method="srcnn",
        name="large",
        data={"pairs": [{"measured": "a", "truth": "b"}]},
        patch_px=24,
        batch=8,
    )
    with pytest.raises(RecipeError, match="batch 8 and patch_px 24 .* lower batch or patch_px"):
        train(recipe, tmp_path / "run", volumes=(given, given), device="cpu")
