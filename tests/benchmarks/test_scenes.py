"""Test stacks: never seen in training, and what is said of them is true."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.experiments.models import learning_methods
from benchmarks.paths import RECIPES, table_models
from benchmarks.scenes import (
    Plan,
    domain_plans,
    held_out_seeds,
    quality_plans,
    trained_on_test,
)
from zenhance.models.header import Card
from zenhance.training.recipe import load_recipe, recipe_names


def test_no_recipe_that_ships_has_seen_a_test_seed() -> None:
    own = [str(path) for path in RECIPES.glob("*.yaml")]
    recipes = [load_recipe(name) for name in (*recipe_names(), *own)]
    used = {
        seed
        for r in recipes
        for s in r.data.simulated
        for seed in range(s.seed, s.seed + s.count + s.validation)
    }
    ours = {seed for _, seed in held_out_seeds()}
    assert len(used) > 50
    assert len(ours) >= 15
    assert not used & ours


def test_no_model_that_ships_has_seen_a_test_seed() -> None:
    for method in learning_methods():
        for entry in table_models(method):
            assert trained_on_test(entry.card) == ()


def test_a_model_that_has_seen_a_test_stack_is_told_from_one_that_has_not() -> None:
    specimen, seed = min(held_out_seeds())

    def card(plan: dict[str, object]) -> Card:
        return Card(method="srcnn", name="m", version="0", recipe={"data": {"simulated": [plan]}})

    assert trained_on_test(
        card({"specimen": specimen, "seed": seed - 2, "count": 2, "validation": 1})
    ) == (f"{specimen} {seed}",)
    assert (
        trained_on_test(card({"specimen": specimen, "seed": seed - 3, "count": 2, "validation": 1}))
        == ()
    )
    assert (
        trained_on_test(card({"specimen": "charts", "seed": seed, "count": 1, "validation": 1}))
        == ()
    )


def test_quality_stacks_are_at_least_five_meristems_with_a_seed_each() -> None:
    plans = quality_plans()
    assert len(plans) >= 5
    assert len({plan.seed for plan in plans}) == len(plans)
    assert {plan.specimen for plan in plans} == {"meristem"}
    assert len(quality_plans(quick=True)) == 2


def test_all_test_stacks_of_a_domain_have_one_size() -> None:
    for quick in (False, True):
        for plans in domain_plans(quick=quick).values():
            assert len({plan.shape_px for plan in plans}) == 1
            assert len({plan.seed for plan in plans}) == len(plans)


def test_larger_pixels_average_photons_and_noise() -> None:
    scene = Plan(
        "t", "empty", 3, (6, 80, 80), (0.5, 0.22, 0.22), {"background_photons": 5.0}
    ).make()
    coarse = scene.binned(2)
    fine = scene.measured.read().astype(np.float64)
    assert coarse.measured.volume_shape == (6, 40, 40)
    assert coarse.voxel_size_um == pytest.approx((0.5, 0.44, 0.44))
    assert coarse.measured.read()[2, 3, 4] == pytest.approx(fine[2, 6:8, 8:10].mean(), abs=1e-4)
    # Of 9600 values the variance is known to 1.4 %.
    photons = 5.0
    expected = coarse.camera.gain * coarse.camera.gain * photons * 4 + coarse.camera.read_noise**2
    assert coarse.measured.read().var() == pytest.approx(expected, rel=0.06)
    assert scene.binned(1) is scene


def test_the_point_spread_function_is_written_as_a_request_takes_it() -> None:
    from zenhance.physics.psf import parse_psf

    scene = Plan("t", "meristem", 3, (6, 16, 16), (0.5, 0.22, 0.22)).make()
    assert parse_psf(scene.psf_spec, 3).sigma_um == pytest.approx(scene.psf.sigma_um, rel=1e-3)
