"""Training of DivBlurring: posterior collapse, recipes, stacks without a truth, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_divblurring_training import (
    FLAT,
    LADDER,
    LEARNER,
    SIZE_UM,
    batch,
    learnt,
    measured,
    optics,
    specimen,
)

from zenhance.contract import registry
from zenhance.errors import RecipeError
from zenhance.methods.divblurring.network import FlatVae, LadderVae
from zenhance.methods.divblurring.training import COLLAPSED, QUIET
from zenhance.models.checkpoint import read_checkpoint
from zenhance.stack import Stack
from zenhance.training.data import TrainingVolume, of_stacks, with_optics
from zenhance.training.loop import train, train_steps
from zenhance.training.patches import PatchSampler
from zenhance.training.recipe import Recipe, load_recipe, recipe_names

SILENCED: dict[str, Any] = {**FLAT, "kl_weight": 300.0, "warmup_steps": 3}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(registry._BUILT_IN, "divblurring", "zenhance.methods.divblurring:METHOD")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stack(seed: int = 0, shape: tuple[int, int, int] = (4, 48, 48)) -> Stack:
    told = optics(photons=2000.0, read_noise=0.005)
    light = torch.stack([specimen(1, shape[1], 10 * seed + z)[0] for z in range(shape[0])])
    return Stack.from_array(200 * measured(light, told, seed=seed).numpy() + 50, "ZYX", SIZE_UM)


def lists(*stacks: Stack) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    found = [
        volume
        for number, s in enumerate(stacks or (stack(),))
        for volume in of_stacks(f"stack {number}", s)
    ]
    return found, found


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "method": "divblurring", "name": "own", "architecture": LADDER,
        "data": {"stacks": ["not read"], "psf": "sigma_um=0.5,0.24,0.24"},
        "patch_px": 16, "batch": 2, "steps": 12, "validate_every": 3, "validation_patches": 2,
        "learning_rate": 2e-3,
        "warmup_steps": 2, "ema": 0.9, "rounds": 2,
    }  # fmt: skip
    return Recipe(**(fields | changes))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path).state)


def said(logs: dict[str, float]) -> float:
    return sum(value for name, value in logs.items() if name.startswith("kl_"))


def test_latents_that_fall_silent_are_refused_in_one_sentence() -> None:
    with pytest.raises(
        RecipeError, match="no longer depend on the image .* posterior collapse"
    ) as caught:
        learnt(SILENCED, batch(), 250)
    assert "set architecture.free_bits to 0.05, lower kl_weight, or lengthen warmup_steps" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)


def test_a_few_dark_patches_are_no_collapse() -> None:
    network: Any = LEARNER.build(FLAT).train()
    seen = batch(count=1, size=16)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    for layer in (network.mean, network.log_variance):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    for _ in range(QUIET):
        LEARNER.loss(network, seen)
    silent = dict(network.state_dict())
    network.load_state_dict(kept | {"warm": silent["warm"]})
    LEARNER.loss(network, seen)
    assert network.quiet == 0, "one that speaks, and the count begins anew"


@pytest.mark.parametrize("cure", [{"free_bits": 0.05}, {"kl_weight": 1.0}, {"warmup_steps": 2000}])
def test_each_cure_that_is_named_keeps_them_speaking(cure: dict[str, Any]) -> None:
    network, _, logs = learnt({**SILENCED, **cure}, batch(), 250)
    assert said(logs) > 100 * COLLAPSED
    with torch.inference_mode():
        one, two = network.eval()(batch().measured)[:2]
    assert float((one - two).abs().mean()) > 1e-3, "the light depends on the image"


def test_before_the_warm_up_is_well_over_nothing_is_refused() -> None:
    network: Any = LEARNER.build({**FLAT, "warmup_steps": 50}).train()
    for layer in (network.mean, network.log_variance):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    for _ in range(99):
        LEARNER.loss(network, batch(count=1, size=16))
    assert 1.9 < float(network.warm) < 2.0


@pytest.mark.parametrize(
    "name", [name for name in recipe_names() if name.startswith("divblurring")]
)
def test_recipes_that_ship_can_be_built_and_fit_their_patches(name: str) -> None:
    found = load_recipe(name)
    assert found.method == "divblurring"
    network = LEARNER.build(found.architecture)
    window, height, width = LEARNER.patch_px(found.architecture, found.patch_px)
    assert height == width == found.patch_px
    if found.architecture.get("kind") == "flat":
        assert isinstance(network, FlatVae)
        assert sum(p.numel() for p in network.parameters()) == 261_281
    else:
        assert isinstance(network, LadderVae)
    seen = torch.zeros(1, window * (1 + len(LEARNER.deconvolved(found.architecture))), 16, 16)
    assert LEARNER.predict(network.eval(), seen).shape == (1, 1, 16, 16)
    assert Recipe.from_yaml(found.to_yaml()) == found


def test_it_asks_for_what_it_needs() -> None:
    assert LEARNER.needs_optics(LADDER)
    assert LEARNER.deconvolved(LADDER) == ()
    assert LEARNER.deconvolved({**LADDER, "deconvolved": [2, 8]}) == (2, 8)


def test_a_stack_alone_is_learnt_from_directly_where_no_truth_is_wanted(tmp_path: Path) -> None:
    given = lists(stack(shape=(6, 64, 64)))
    wanted = recipe(
        architecture=LADDER, steps=150, validate_every=50, patch_px=32, batch=4, learning_rate=5e-3
    )
    result = train(wanted, tmp_path / "run", volumes=given, device="cpu")
    assert result.log[-1]["loss"] < 0.9 * result.log[0]["loss"]
    assert not (tmp_path / "run" / "round_1").exists()
    assert {entry["sha256"] for entry in result.card.data} == {given[0][0].sha256()}
    assert "psnr_db" not in result.card.metrics


def test_where_a_truth_is_wanted_a_stack_alone_is_learnt_from_in_rounds(tmp_path: Path) -> None:
    wanted = recipe(
        architecture={**LADDER, "window": 3, "planes": 3, "truth": 10.0, "deconvolved": [2, 4]},
        steps=4,
        validate_every=2,
    )
    result = train(wanted, tmp_path / "run", volumes=lists(), device="cpu")
    assert (tmp_path / "run" / "round_2.safetensors").is_file()
    assert result.path.name == "own.safetensors"
    assert {entry["truth"] for entry in result.card.data} == {"estimated"}
    state = weights(result.path)
    assert all(bool(torch.isfinite(value).all()) for value in state.values())
    assert float(state["warm"]) > 0


@pytest.mark.parametrize(
    "architecture",
    [
        {**LADDER, "window": 3, "deconvolved": [2, 4]},
        {**FLAT, "noise": "mixture", "warmup_steps": 7},
    ],
)
def test_a_training_stopped_and_resumed_equals_the_uninterrupted_one(
    tmp_path: Path, architecture: dict[str, Any]
) -> None:
    wanted = recipe(architecture=architecture)
    whole = train(wanted, tmp_path / "whole", volumes=lists(), device="cpu")
    steps = train_steps(wanted, tmp_path / "cut", volumes=lists(), device="cpu")
    for progress in steps:
        if progress.step == 8:
            break
    steps.close()
    resumed = train(wanted, tmp_path / "cut", volumes=lists(), device="cpu", resume=True)
    for name, value in weights(whole.path).items():
        assert torch.equal(weights(resumed.path)[name], value), name


def test_estimates_are_cut_at_the_patch_and_turned_with_it() -> None:
    (volume,), _ = lists()
    with pytest.raises(RecipeError, match="is not known; give data.psf"):
        volume.optics(0)
    told = with_optics(volume, "sigma_um=0.5,0.24,0.24").with_estimates((1, 4))
    assert told.estimates is not None
    assert told.estimates.shape == (2, 4, 48, 48)
    same = np.asarray(told.read_measured((slice(0, 4), slice(0, 48), slice(0, 48))), np.float16)
    marked = [replace(told, estimates=same[None])]
    for step in range(8):
        patch = PatchSampler(marked, (3, 16, 16), 2, 0, with_optics=True).draw(step)
        assert patch.deconvolved is not None
        assert patch.deconvolved.shape == (2, 1, 3, 16, 16)
        torch.testing.assert_close(patch.deconvolved[:, 0], patch.measured, atol=3e-3, rtol=1e-2)
        assert torch.equal(patch.seen, torch.cat([patch.measured, patch.deconvolved[:, 0]], 1))
    assert PatchSampler([volume], (3, 16, 16), 2, 0).draw(0).deconvolved is None
