"""Self-training: what is imaged again, where it is cut, and rounds that stop and resume."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zenhance.errors import RecipeError, RunCancelled, StackError
from zenhance.models.checkpoint import read_checkpoint
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import gaussian
from zenhance.stack import Stack
from zenhance.training import pseudo_pairs as module
from zenhance.training.data import TrainingVolume, of_stacks
from zenhance.training.loop import TrainProgress, train, train_steps
from zenhance.training.pseudo_pairs import Column, cut_columns, pair_steps, resimulate
from zenhance.training.recipe import Recipe

SIZE_UM = (0.5, 0.2, 0.2)
PSF = gaussian((0.6, 0.3, 0.3))
TINY = {
    "features": 8,
    "inner": 4,
    "blocks": 1,
    "hidden": 4,
    "words": 8,
    "dimensions": 8,
    "levels": 1,
    "planes": 4,
}


def stack(
    seed: int = 0,
    shape: tuple[int, int, int] = (6, 48, 48),
    size_um: tuple[float, float, float] | None = SIZE_UM,
) -> Stack:
    """Walls, blurred, on an offset of 50, four grey values a photon."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), (2, 4, 4))
    blurred = gaussian_filter(
        np.where(np.abs(field) < 0.15 * field.std(), 400.0, 0.0), (1.0, 1.2, 1.2)
    )
    return Stack.from_array(np.float32(rng.poisson(blurred / 4 + 3) * 4.0 + 38), "ZYX", size_um)


def volumes(*stacks: Stack) -> list[TrainingVolume]:
    return [volume for number, s in enumerate(stacks) for volume in of_stacks(f"stack {number}", s)]


def recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "method": "dqlr", "name": "own", "architecture": TINY,
        "data": {"stacks": ["not read"], "psf": "sigma_um=0.5,0.25,0.25"},
        "patch_px": 16, "batch": 2, "steps": 12, "validate_every": 3, "validation_patches": 2,
        "learning_rate": 2e-3,
        "warmup_steps": 2, "ema": 0.9, "rounds": 2,
    }  # fmt: skip
    return Recipe(**(fields | changes))


def lists(*stacks: Stack) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    found = volumes(*(stacks or (stack(),)))
    return found, found


def drain(steps: Any, at: Any = lambda _: None) -> Any:
    while True:
        try:
            at(next(steps))
        except StopIteration as done:
            return done.value


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path).state)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_flat_specimen_resimulate_has_the_cameras_mean_and_variance() -> None:
    noise = PoissonGauss(3.0, 100.0, 5.0)
    for level in (100.0, 160.0, 400.0):
        again = resimulate(np.full((8, 64, 64), level, np.float32), PSF, noise, SIZE_UM, seed=1)
        assert again.dtype == np.float32
        assert again.mean() == pytest.approx(
            level, abs=4 * np.sqrt(noise.variance(level) / again.size) + 1e-3
        )
        assert again.var() == pytest.approx(float(noise.variance(level)), rel=0.05)
    same, other = (
        resimulate(np.full((4, 8, 8), 300, np.float32), PSF, noise, SIZE_UM, seed=s) for s in (1, 2)
    )
    assert np.array_equal(
        same, resimulate(np.full((4, 8, 8), 300, np.float32), PSF, noise, SIZE_UM, seed=1)
    )
    assert abs(np.corrcoef(same.ravel(), other.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("depth", [1, 21])
def test_a_point_resimulate_is_as_wide_as_the_psf(depth: int) -> None:
    point = np.full((depth, 41, 41), 100.0, np.float32)
    point[depth // 2, 20, 20] += 1e9
    again = resimulate(point, PSF, PoissonGauss(1.0, 100.0, 0.0), SIZE_UM, seed=0) - 100.0
    assert float(again.sum(dtype=np.float64)) == pytest.approx(1e9, rel=1e-3)
    expected = (0.6 if depth > 1 else 0.0, 0.3, 0.3)
    for axis, (size, sigma) in enumerate(zip(SIZE_UM, expected, strict=True)):
        profile = again.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
        place = (np.arange(profile.size) - profile.size // 2) * size
        # A pixel's own width is part of what it measures.
        assert np.sqrt((profile * place**2).sum() / profile.sum()) == pytest.approx(
            sigma, abs=0.35 * size
        ), "zyx"[axis]


def columns_of(*stacks: Stack, **changes: Any) -> list[Column]:
    found: list[Column] = drain(cut_columns(volumes(*stacks), recipe(**changes)))
    return found


def test_a_small_stack_is_learnt_from_whole() -> None:
    image = stack(shape=(10, 128, 128))
    (column,) = columns_of(image)
    assert np.array_equal(column.measured, image.data)
    assert column.voxel_size_um == pytest.approx(SIZE_UM)
    assert column.noise.gain == pytest.approx(4.0, rel=0.35)
    assert column.psf.sigma_px(SIZE_UM)[1] == pytest.approx(1.25, rel=0.01)


def test_columns_lie_side_by_side_of_full_depth_the_brightest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COLUMN_PX", 32)
    image = stack(shape=(4, 70, 90))
    found = columns_of(image)
    seen = np.zeros((70, 90), int)
    for column in found:
        assert column.measured.shape == (4, 32, 32)
        corners = [
            (y, x)
            for y in range(39)
            for x in range(59)
            if np.array_equal(image.data[:, y : y + 32, x : x + 32], column.measured)
        ]
        ((y, x),) = corners
        seen[y : y + 32, x : x + 32] += 1
    assert seen.min() == 1
    middle = [float(c.measured[2].mean()) for c in found]
    assert middle == sorted(middle, reverse=True)


def test_no_more_is_learnt_from_than_time_allows_and_each_stack_has_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COLUMN_PX", 32)
    monkeypatch.setattr(module, "MAX_VOXELS", 6 * 4 * 32 * 32)
    images = (stack(1, (4, 96, 96)), stack(2, (4, 96, 96)))
    names = [c.volume.name for c in columns_of(*images)]
    assert names == ["stack 0"] * 3 + ["stack 1"] * 3
    assert len(columns_of(*images, minutes=0.001)) == 2


def test_pairs_differ_in_their_noise_alone_and_their_truth_is_the_estimate() -> None:
    (column,) = columns_of(stack())
    estimate = np.maximum(column.measured, 50.0)
    train_on, held = drain(pair_steps(column, estimate, seed=3))
    assert len(train_on) == module.DRAWS
    region = (slice(None), slice(None), slice(None))
    images = [pair.measured.read(region) for pair in (*train_on, held)]
    for pair in (*train_on, held):
        assert pair.truth is not None
        assert np.array_equal(pair.truth.read(region), estimate)
        assert pair.scaling == column.volume.scaling
    assert len({image.tobytes() for image in images}) == module.DRAWS + 1
    clean = np.mean(images, axis=0)
    noise = [(a - clean).ravel() for a in images]
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1] + 1 / module.DRAWS) < 0.1


def test_each_round_starts_from_the_one_before_and_all_steps_are_counted(tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    result = drain(
        train_steps(recipe(), tmp_path / "run", volumes=lists(), device="cpu"), seen.append
    )
    assert result.path == tmp_path / "run" / "own.safetensors"
    assert result.card.method == "dqlr"
    steps = [p.step for p in seen if p.stage == "train"]
    assert steps == list(range(1, 13))
    fractions = [p.fraction for p in seen]
    assert all(0 <= a <= b + 1e-9 <= 1 + 1e-9 for a, b in itertools.pairwise(fractions))
    pictures = [p.validation.preview for p in seen if p.validation is not None]
    assert len(pictures) == 4
    assert all("estimate" in picture and "truth" not in picture for picture in pictures)
    first, second = (weights(tmp_path / "run" / f"round_{n}.safetensors") for n in (1, 2))
    assert all(torch.equal(second[k], v) for k, v in weights(result.path).items())
    moved = max(float((second[k] - v).abs().max()) for k, v in first.items() if "ways" in k)
    assert 0 < moved < 0.2, "a new start would be as far away as two random networks"


def test_the_progress_of_several_stacks_never_falls_also_when_it_goes_on(tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    wanted, several = recipe(), lists(stack(1), stack(2), stack(3))
    steps = train_steps(wanted, tmp_path / "run", volumes=several, device="cpu")
    for progress in steps:
        seen.append(progress)
        if progress.step == 8:
            break
    steps.close()
    gone_on: list[TrainProgress] = []
    drain(
        train_steps(wanted, tmp_path / "run", volumes=several, device="cpu", resume=True),
        gone_on.append,
    )
    assert gone_on[1].fraction >= 0.5
    for sitting in (seen, gone_on):
        assert all(a.fraction <= b.fraction + 1e-9 for a, b in itertools.pairwise(sitting))


def test_stopping_keeps_the_model_of_the_round(tmp_path: Path) -> None:
    stop = threading.Event()

    def watch(progress: TrainProgress) -> None:
        if progress.step == 4:
            stop.set()

    result = drain(
        train_steps(recipe(steps=2000), tmp_path / "run", volumes=lists(), stop=stop, device="cpu"),
        watch,
    )
    assert "stopped by the user after 4 steps" in result.ended
    assert result.path.is_file()
    assert not (tmp_path / "run" / "round_2").exists()
    stop.set()
    with pytest.raises(RunCancelled, match="there is no model"):
        train(recipe(), tmp_path / "other", volumes=lists(), stop=stop, device="cpu")


@pytest.mark.parametrize("stop_at", [5, 9])
def test_a_training_stopped_in_any_round_and_resumed_equals_the_uninterrupted_one(
    tmp_path: Path, stop_at: int
) -> None:
    wanted = recipe(patience=100, minutes=60.0)
    whole = train(recipe(patience=100), tmp_path / "whole", volumes=lists(), device="cpu")

    steps = train_steps(wanted, tmp_path / "cut", volumes=lists(), device="cpu")
    for progress in steps:
        if progress.step == stop_at:
            break
    steps.close()
    resumed = train(wanted, tmp_path / "cut", volumes=lists(), device="cpu", resume=True)
    for name, value in weights(whole.path).items():
        assert torch.allclose(weights(resumed.path)[name], value, atol=1e-6), name
    done = train(wanted, tmp_path / "cut", volumes=lists(), device="cpu", resume=True)
    assert "done before" in done.ended


def test_all_rounds_together_keep_the_time(tmp_path: Path, patience: float) -> None:
    started = time.perf_counter()
    result = train(
        recipe(steps=10**6, minutes=0.12, validate_every=10**5),
        tmp_path / "run",
        volumes=lists(),
        device="cpu",
    )
    assert 4 < time.perf_counter() - started < 15 * patience
    assert (tmp_path / "run" / "round_2").is_dir()
    assert result.card.steps > 1


def test_what_cannot_be_learnt_from_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="voxel size") as caught:
        train(recipe(), tmp_path / "a", volumes=lists(stack(size_um=None)), device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match="lower patch_px"):
        train(recipe(patch_px=64), tmp_path / "b", volumes=lists(), device="cpu")


def test_the_card_says_that_the_truth_was_estimated_and_names_the_real_stack(
    tmp_path: Path,
) -> None:
    given = lists(stack())
    result = train(recipe(), tmp_path / "run", volumes=given)
    assert result.card.is_self_judged
    assert {entry["truth"] for entry in result.card.data} == {"estimated"}
    assert {entry["sha256"] for entry in result.card.data} == {given[0][0].sha256()}


def test_a_round_that_the_time_ends_counts_only_the_steps_it_took(tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    steps = train_steps(
        recipe(steps=6000, minutes=0.06, validate_every=3000), tmp_path / "run", volumes=lists()
    )
    drain(steps, seen.append)
    taken = [progress.step for progress in seen]
    assert all(after - before in (0, 1) for before, after in itertools.pairwise(taken))
    assert 2 <= taken[-1] < 6000
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
