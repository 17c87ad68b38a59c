"""Training learns, stops, resumes to the same result after a kill, and explains errors."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zenhance.errors import CheckpointError, OutputExistsError, RecipeError
from zenhance.io import write_stack
from zenhance.models.checkpoint import read_checkpoint
from zenhance.pipeline import enhance
from zenhance.stack import Stack, VoxelSize
from zenhance.training.loop import TrainProgress, train, train_steps
from zenhance.training.recipe import Recipe

SIZE = VoxelSize.of((0.5, 0.2, 0.2), "file")


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Thin random walls, and the same blurred with noise on an offset of 50."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(6, 48, 48)), (2, 4, 4))
    sharp = np.where(np.abs(field) < 0.15 * field.std(), 200.0, 0.0)
    blurred = gaussian_filter(sharp, (0.5, 1.2, 1.2))
    measured = rng.poisson(blurred / 4) * 4.0 + 50
    return measured.astype(np.float32), (sharp + 50).astype(np.float32)


@pytest.fixture(scope="module")
def folder_of_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for seed in range(3):
        for name, data in zip(("measured", "truth"), pair(seed), strict=True):
            write_stack(folder / f"{name}_{seed}.ome.tif", Stack.from_array(data, "ZYX", SIZE))
    return folder


def recipe(folder: Path, **changes: Any) -> Recipe:
    pairs = [
        {
            "measured": str(folder / f"measured_{s}.ome.tif"),
            "truth": str(folder / f"truth_{s}.ome.tif"),
        }
        for s in range(3)
    ]
    fields: dict[str, Any] = {
        "method": "srcnn", "name": "tiny",
        "architecture": {"kernels": [5, 1, 3], "widths": [8, 8], "window": 3},
        "data": {"pairs": pairs}, "patch_px": 24, "batch": 4, "steps": 60,
        "validate_every": 20, "validation_patches": 4,
        "learning_rate": 3e-3, "warmup_steps": 5, "ema": 0.9, "seed": 1,
    }  # fmt: skip
    return Recipe(**(fields | changes))


def drain(steps: Any, at: Any = lambda _: None) -> Any:
    while True:
        try:
            at(next(steps))
        except StopIteration as done:
            return done.value


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path).state)


def test_a_short_training_beats_doing_nothing_and_its_model_enhances(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    result = train(
        recipe(folder_of_pairs, steps=400, validate_every=100), tmp_path / "run", device="cpu"
    )
    assert result.card.metrics["psnr_db"] > result.card.metrics["psnr_identity_db"] + 1
    assert result.card.voxel_size_um == pytest.approx((0.5, 0.2, 0.2))
    assert {d["role"] for d in result.card.data} == {"train", "validation"}
    measured, truth = pair(7)
    stack = Stack.from_array(measured, "ZYX", SIZE)
    common = {"method": "srcnn", "weights": str(result.path), "device": "cpu", "arbitrate": False}
    enhanced = enhance(stack, **common)
    error = np.square(enhanced.stack.data - truth).mean()
    assert error < np.square(measured - truth).mean() / 1.25
    assert enhanced.provenance.weights_sha256 == read_checkpoint(result.path).sha256
    tiled = enhance(stack, **common, tile_px=(2, 16, 20))
    assert tiled.provenance.tiles["count"] > 10
    assert np.abs(tiled.stack.data - enhanced.stack.data).max() <= 1e-5 * np.ptp(
        enhanced.stack.data
    )


def test_the_result_has_the_gain_and_offset_of_its_input(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    model = str(train(recipe(folder_of_pairs), tmp_path / "run", device="cpu").path)
    measured, _ = pair(8)
    common = {"axes": "ZYX", "method": "srcnn", "weights": model, "device": "cpu"}
    plain = enhance(measured, **common, arbitrate=False).stack.data
    moved = enhance(10 * measured + 500, **common, arbitrate=False).stack.data
    assert np.abs((moved - 500) / 10 - plain).max() <= 5e-3 * np.ptp(plain)


def test_the_same_recipe_gives_the_same_weights_and_another_seed_does_not(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    first, second = (
        weights(train(recipe(folder_of_pairs), tmp_path / n, device="cpu").path) for n in "ab"
    )
    other = weights(train(recipe(folder_of_pairs, seed=2), tmp_path / "c", device="cpu").path)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


KILLED = """
import os, signal, sys
from pathlib import Path
from zenhance.training.loop import train_steps
from zenhance.training.recipe import Recipe
import torch
torch.set_num_threads(1)
recipe, folder, kill_at, resume = sys.argv[1:5]
recipe = Recipe.from_yaml(Path(recipe).read_text())
steps = train_steps(recipe, Path(folder), resume=resume == "resume", device="cpu")
for progress in steps:
    if progress.step == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_training_killed_at_random_and_resumed_equals_the_uninterrupted_one(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    wanted = recipe(folder_of_pairs, validate_every=5, patience=100)
    (tmp_path / "recipe.yaml").write_text(wanted.to_yaml())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = train(wanted, tmp_path / "whole", device="cpu")
    torch.set_num_threads(before)
    kills = sorted(np.random.default_rng(0).choice(np.arange(7, 60), 5, replace=False).tolist())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for number, kill_at in enumerate([*kills, -1]):
        arguments = [
            str(tmp_path / "recipe.yaml"),
            str(tmp_path / "killed"),
            str(kill_at),
            "resume" if number else "new",
        ]
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == (-signal.SIGKILL if kill_at > 0 else 0), done.stderr
    resumed = read_checkpoint(tmp_path / "killed" / "tiny.safetensors")
    for name, value in weights(whole.path).items():
        assert torch.allclose(resumed.state[name], value, atol=1e-6), name
    log, expected = (
        list(csv.DictReader((tmp_path / n / "log.csv").read_text().splitlines()))
        for n in ("killed", "whole")
    )
    assert [row["step"] for row in log] == [row["step"] for row in expected]
    assert [float(row["loss"]) for row in log] == pytest.approx(
        [float(row["loss"]) for row in expected], rel=1e-5
    )


def test_stopping_keeps_the_best_model(folder_of_pairs: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def watch(progress: TrainProgress) -> None:
        if progress.step == 7:
            stop.set()

    result = drain(
        train_steps(
            recipe(folder_of_pairs, steps=10_000), tmp_path / "run", stop=stop, device="cpu"
        ),
        watch,
    )
    assert "stopped by the user after 7 steps" in result.ended
    assert result.card.steps == 7
    assert result.path.is_file()


def test_a_time_budget_ends_the_training(
    folder_of_pairs: Path, tmp_path: Path, patience: float
) -> None:
    result = train(
        recipe(folder_of_pairs, steps=10**6, minutes=0.03), tmp_path / "run", device="cpu"
    )
    assert result.card.seconds < 10 * patience


def test_a_loss_that_is_not_a_number_stops_at_once_and_keeps_the_best(
    folder_of_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenhance.methods._shared.supervised import PairLearner

    honest, calls = PairLearner.loss, [0]

    def poisoned(self: PairLearner, network: Any, batch: Any) -> Any:
        loss, logs = honest(self, network, batch)
        calls[0] += network.training
        return (loss * float("nan") if calls[0] > 30 and network.training else loss), logs

    monkeypatch.setattr(PairLearner, "loss", poisoned)
    result = train(recipe(folder_of_pairs), tmp_path / "run", device="cpu")
    # One of the calls estimates the memory before the first step.
    assert "nan at step 29" in result.ended
    assert result.card.steps == 20
    calls[0] = 1000
    with pytest.raises(RecipeError, match="lower learning_rate"):
        train(recipe(folder_of_pairs), tmp_path / "again", device="cpu")


def test_patience_ends_a_training_that_does_not_get_better(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    result = train(
        recipe(folder_of_pairs, steps=400, validate_every=2, patience=3, learning_rate=1e-12),
        tmp_path / "run",
        device="cpu",
    )
    assert "no better model in 3 validations" in result.ended


def test_progress_tells_steps_loss_time_left_and_a_preview(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    seen: list[TrainProgress] = []
    drain(train_steps(recipe(folder_of_pairs), tmp_path / "run", device="cpu"), seen.append)
    assert [p.stage for p in seen[:2]] == ["data", "train"]
    assert seen[-1].stage == "save"
    checked = [p.validation for p in seen if p.validation is not None]
    assert len(checked) == 3
    assert checked[0].preview["predicted"].shape == checked[0].preview["truth"].shape == (24, 24)
    assert seen[30].seconds_left is not None
    assert np.isfinite(seen[30].loss)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_a_training_that_was_too_short_goes_on_with_more_steps(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    train(recipe(folder_of_pairs), tmp_path / "run", device="cpu")
    more = recipe(folder_of_pairs).steps + 5
    seen: list[TrainProgress] = []
    result = drain(
        train_steps(
            recipe(folder_of_pairs, steps=more), tmp_path / "run", device="cpu", resume=True
        ),
        seen.append,
    )
    assert [p.step for p in seen if p.stage == "train"] == list(range(more - 4, more + 1))
    assert result.card.recipe["steps"] == more


def test_a_folder_with_a_training_in_it_is_not_overwritten(
    folder_of_pairs: Path, tmp_path: Path
) -> None:
    train(recipe(folder_of_pairs), tmp_path / "run", device="cpu")
    with pytest.raises(OutputExistsError):
        train(recipe(folder_of_pairs), tmp_path / "run", device="cpu")
    with pytest.raises(RecipeError, match="made with another recipe"):
        train(recipe(folder_of_pairs, seed=5), tmp_path / "run", device="cpu", resume=True)
    (tmp_path / "run" / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="start again without --resume"):
        train(recipe(folder_of_pairs), tmp_path / "run", device="cpu", resume=True)


def test_a_pair_that_does_not_fit_is_refused(folder_of_pairs: Path, tmp_path: Path) -> None:
    write_stack(
        tmp_path / "small.ome.tif", Stack.from_array(np.ones((6, 40, 48), np.float32), "ZYX", SIZE)
    )
    pairs = [
        {
            "measured": str(folder_of_pairs / "measured_0.ome.tif"),
            "truth": str(tmp_path / "small.ome.tif"),
        }
    ]
    with pytest.raises(RecipeError, match="it must have the measurement's"):
        train(recipe(folder_of_pairs, data={"pairs": pairs}), tmp_path / "run", device="cpu")
    with pytest.raises(RecipeError, match="lower patch_px"):
        train(recipe(folder_of_pairs, patch_px=64), tmp_path / "run2", device="cpu")


def test_a_truth_on_a_finer_grid_trains_a_model_that_enlarges(tmp_path: Path) -> None:
    for seed in range(2):
        measured, truth = pair(seed)
        coarse = measured.reshape(6, 24, 2, 24, 2).mean(axis=(2, 4))
        write_stack(
            tmp_path / f"m{seed}.ome.tif",
            Stack.from_array(coarse, "ZYX", VoxelSize.of((0.5, 0.4, 0.4), "file")),
        )
        write_stack(tmp_path / f"t{seed}.ome.tif", Stack.from_array(truth, "ZYX", SIZE))
    pairs = [
        {"measured": str(tmp_path / f"m{s}.ome.tif"), "truth": str(tmp_path / f"t{s}.ome.tif")}
        for s in range(2)
    ]
    architecture = {"kernels": [5, 1, 3], "widths": [8, 8], "scale": 2}
    made = train(
        recipe(tmp_path, data={"pairs": pairs}, architecture=architecture, patch_px=16),
        tmp_path / "run",
        device="cpu",
    )
    coarse = Stack.from_array(
        pair(5)[0].reshape(6, 24, 2, 24, 2).mean(axis=(2, 4)),
        "ZYX",
        VoxelSize.of((0.5, 0.4, 0.4), "file"),
    )
    result = enhance(
        coarse, method="srcnn", settings={"scale": 2}, weights=str(made.path), device="cpu"
    )
    assert result.stack.shape == (6, 48, 48)
    assert result.stack.voxel_size.zyx_um == pytest.approx((0.5, 0.2, 0.2))
    tiled = enhance(
        coarse,
        method="srcnn",
        settings={"scale": 2},
        weights=str(made.path),
        device="cpu",
        tile_px=(3, 10, 12),
    )
    assert np.abs(tiled.stack.data - result.stack.data).max() <= 1e-5 * np.ptp(result.stack.data)
    with pytest.raises(CheckpointError, match="enlarges 2 ×"):
        enhance(coarse, method="srcnn", weights=str(made.path), device="cpu")


def test_a_model_used_at_another_voxel_size_says_so(folder_of_pairs: Path, tmp_path: Path) -> None:
    model = str(train(recipe(folder_of_pairs, steps=20), tmp_path / "run", device="cpu").path)
    stack = Stack.from_array(pair(3)[0], "ZYX", (0.5, 0.4, 0.4))
    result = enhance(stack, method="srcnn", weights=model, device="cpu")
    assert any(
        "trained at another voxel size (y 0.4 instead of 0.2 µm" in w
        for w in result.provenance.warnings
    )
