"""``zenhance train``: from options to a model, how it stops and resumes, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from zenhance.cli import train_run
from zenhance.cli.app import app
from zenhance.cli.train import TrainWords, build_recipe, command_of
from zenhance.errors import MethodError, ReadError, RecipeError
from zenhance.io import write_stack
from zenhance.models.checkpoint import read_checkpoint
from zenhance.stack import Stack, VoxelSize
from zenhance.training.recipe import find_data

SIZE = VoxelSize.of((0.5, 0.2, 0.2), "file")
TINY = (
    *(
        "--set",
        "architecture={kernels: [5, 1, 3], widths: [8, 8], window: 3}",
        "--set",
        "patch_px=24",
        "--set",
        "batch=4",
    ),
    *(
        "--set",
        "validate_every=10",
        "--set",
        "validation_patches=4",
        "--set",
        "warmup_steps=5",
        "--set",
        "precision=float32",
    ),
    *("--steps", "30", "--seed", "1", "--device", "cpu"),
)


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def write_pair(folder: Path, name: str, seed: int) -> None:
    """Thin random walls, and the same blurred with noise on an offset of 50."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(4, 40, 40)), (2, 4, 4))
    sharp = np.where(np.abs(field) < 0.15 * field.std(), 200.0, 0.0)
    measured = rng.poisson(gaussian_filter(sharp, (0.5, 1.2, 1.2)) / 4) * 4.0 + 50
    folder.mkdir(exist_ok=True)
    for ending, data in (("", measured), ("_truth", sharp + 50)):
        write_stack(
            folder / f"{name}{ending}.ome.tif",
            Stack.from_array(data.astype(np.float32), "ZYX", SIZE),
        )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "my pairs"
    for seed in range(2):
        write_pair(folder, f"stack{seed}", seed)
    return folder


@pytest.fixture(scope="module")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, run("train", "srcnn", "--data", pairs, "--out", folder, *TINY)


def test_a_folder_of_pairs_becomes_a_model_and_its_run_folder_holds_the_account(
    trained: tuple[Path, Any], pairs: Path
) -> None:
    folder, result = trained
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == {
        "recipe.yaml", "state.safetensors", "log.csv", "tensorboard", "srcnn_my_pairs.safetensors",
    }  # fmt: skip
    assert str(folder / "srcnn_my_pairs.safetensors") in result.stdout
    assert re.search(
        r"done after 30 steps; kept is step \d+: validation PSNR [\d.]+ dB \(measurement [\d.]+ "
        r"dB\)",
        result.stdout,
    )
    assert f"zenhance weights add {folder / 'srcnn_my_pairs.safetensors'}" in result.stdout
    assert len((folder / "log.csv").read_text().splitlines()) == 4
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert [Path(pair["measured"]).name for pair in recipe["data"]["pairs"]] == [
        "stack0.ome.tif",
        "stack1.ome.tif",
    ]


def test_a_log_tells_data_steps_loss_and_validation_in_plain_lines(
    trained: tuple[Path, Any],
) -> None:
    _, result = trained
    assert "srcnn_my_pairs: srcnn, 30 steps, in " in result.stderr
    assert "1 volume to train on, 1 to validate on" in result.stderr
    assert "on CPU: as asked" in result.stderr
    assert re.search(r"train \(step 1 of 30, loss [\d.]+\): 3%", result.stderr)
    assert (
        len(
            re.findall(
                r"^  step (?:10|20|30): loss [\d.e-]+, validation PSNR [\d.]+ dB",
                result.stderr,
                re.MULTILINE,
            )
        )
        == 3
    )
    assert "\x1b[" not in result.stderr


def test_the_card_holds_the_command_that_makes_the_same_weights_again(
    trained: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, _ = trained
    first = read_checkpoint(folder / "srcnn_my_pairs.safetensors")
    words = shlex.split(first.card.command)
    assert words[:3] == ["zenhance", "train", "srcnn"]
    result = run(*words[1:], "--out", tmp_path / "again", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""
    record = json.loads(result.stdout)
    second = read_checkpoint(Path(record["model"]))
    assert all(np.array_equal(first.state[name], second.state[name]) for name in first.state)
    assert (record["name"], record["method"], record["installed"]) == (
        "srcnn_my_pairs",
        "srcnn",
        None,
    )
    assert record["ended"] == "done after 30 steps"
    assert 0 < record["seconds"] < 600
    assert record["card"]["metrics"] == first.card.metrics


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Press Ctrl-C when a step is shown."""
    shown = train_run._shown

    def press(progress: Any, last: Any) -> Any:
        if progress.step == step and progress.stage == "train":
            signal.raise_signal(signal.SIGINT)
        return shown(progress, last)

    monkeypatch.setattr(train_run, "_shown", press)


def test_an_interrupt_keeps_the_best_and_the_run_can_be_gone_on_with(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: tuple[Path, Any]
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 17)
        stopped = run("train", "srcnn", "--data", pairs, "--out", tmp_path / "run", *TINY)
    assert stopped.exit_code == 0, stopped.output
    assert "stopped by the user after 17 steps" in stopped.stdout
    assert (tmp_path / "run" / "srcnn_my_pairs.safetensors").is_file()
    refused = run("train", "srcnn", "--data", pairs, "--out", tmp_path / "run", *TINY)
    assert refused.exit_code == 9
    assert "resume it with --resume" in refused.stderr
    resumed = run("train", "srcnn", "--resume", "--out", tmp_path / "run", "--device", "cpu")
    assert resumed.exit_code == 0, resumed.output
    assert "done after 30 steps" in resumed.stdout
    made, whole = (
        read_checkpoint(f / "srcnn_my_pairs.safetensors").state
        for f in (tmp_path / "run", trained[0])
    )
    assert all(np.allclose(made[name], whole[name], atol=1e-6) for name in whole)
    other = run("train", "rdn", "--resume", "--out", tmp_path / "run")
    assert other.exit_code == 2
    assert "is srcnn_my_pairs of the method srcnn, not rdn" in other.stderr


def test_a_second_interrupt_ends_at_once_and_says_how_to_go_on(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = train_run._shown

    def press(progress: Any, last: Any) -> Any:
        if progress.step == 15:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return shown(progress, last)

    monkeypatch.setattr(train_run, "_shown", press)
    result = run("train", "srcnn", "--data", pairs, "--out", tmp_path / "run", *TINY)
    assert result.exit_code == 130
    assert "resume it from its last validation" in result.stderr
    assert (tmp_path / "run" / "state.safetensors").is_file()


def test_an_interrupt_before_anything_was_kept_leaves_no_folder(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenhance.training import data

    def interrupted(*_: Any) -> Any:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(data, "of_stacks", interrupted)
    result = run("train", "srcnn", "--data", pairs, "--out", tmp_path / "run", *TINY)
    assert result.exit_code == 130
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_cannot_begin_leaves_no_folder_so_that_it_can_be_tried_again(
    pairs: Path, tmp_path: Path
) -> None:
    result = run(
        "train",
        "srcnn",
        "--data",
        pairs,
        "--out",
        tmp_path / "run",
        *TINY[:2],
        "--set",
        "patch_px=64",
        "--device",
        "cpu",
    )
    assert result.exit_code == 2
    assert "lower patch_px" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_truth_of_another_scale_than_the_network_is_refused_in_words(tmp_path: Path) -> None:
    for seed in range(2):
        write_pair(tmp_path / "fine", f"s{seed}", seed)
        coarse = np.ones((4, 20, 20), np.float32) + np.arange(20, dtype=np.float32)
        write_stack(
            tmp_path / "fine" / f"s{seed}.ome.tif",
            Stack.from_array(coarse, "ZYX", SIZE),
            overwrite=True,
        )
    words = [word if word != "patch_px=24" else "patch_px=16" for word in TINY]
    result = run("train", "srcnn", "--data", tmp_path / "fine", "--out", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert (
        "has 2 × its pixels along y and x, but this model makes 1 ×; set architecture.scale to 2"
        in result.stderr
    )


def test_a_model_installed_by_its_training_enhances_by_its_name(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "weights"))
    words = ("train", "srcnn", "--data", pairs, *TINY, "--name", "leaf", "--install", "--json")
    record = json.loads(run(*words, "--out", tmp_path / "run").stdout)
    assert record["installed"] == str(tmp_path / "weights" / "leaf.safetensors")
    source, target = pairs / "stack0.ome.tif", tmp_path / "better.ome.tif"
    enhanced = run(
        "enhance", source, target, "--method", "srcnn", "--weights", "leaf", "--device", "cpu"
    )
    assert enhanced.exit_code == 0, enhanced.output
    again = run(*words, "--out", tmp_path / "second")
    assert again.exit_code == 9
    assert 'a model called "leaf" exists already' in json.loads(again.stdout)["error"]
    assert not (tmp_path / "second").exists()


def test_a_single_pair_is_divided_so_that_validation_sees_what_training_does_not(
    pairs: Path, tmp_path: Path
) -> None:
    words = [word if word != "patch_px=24" else "patch_px=16" for word in TINY]
    result = run(
        "train",
        "srcnn",
        "--data",
        pairs / "stack0.ome.tif",
        "--out",
        tmp_path / "run",
        *words,
        "--json",
    )
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)["card"]["data"]
    assert [(entry["role"], entry["name"]) for entry in data] == [
        ("train", "stack0.ome.tif, y 0:24"), ("validation", "stack0.ome.tif, y 24:40"),
    ]  # fmt: skip
    small = run(
        "train", "srcnn", "--data", pairs / "stack0.ome.tif", "--out", tmp_path / "small", *TINY
    )
    assert small.exit_code == 0, small.output
    assert (
        "1 volume to train on, 1 to validate on; 1 of them in both, too small to be divided"
        in small.stderr
    )


# ---------------------------------------------------------------------- what is learnt


def test_options_change_the_recipe_that_was_named() -> None:
    words = TrainWords(
        "srcnn",
        (),
        "mine",
        ("architecture.window=3", "data.simulated.1.count=7", "patch_px=32"),
        "2.5",
        "100",
        "9",
    )
    recipe = build_recipe(words)
    assert (recipe.name, recipe.minutes, recipe.steps, recipe.seed, recipe.patch_px) == (
        "mine",
        2.5,
        100,
        9,
        32,
    )
    assert recipe.architecture["window"] == 3
    assert recipe.architecture["widths"] == [64, 32]
    assert [plan.count for plan in recipe.data.simulated] == [12, 7]
    assert build_recipe(TrainWords("rdn_filaments")).name == "rdn_filaments"
    assert command_of(words) == (
        "zenhance train srcnn --set architecture.window=3 --set data.simulated.1.count=7 --set "
        "patch_px=32 "
        "--minutes 2.5 --steps 100 --seed 9 --name mine"
    )


def test_a_recipe_file_is_taken_as_it_is(tmp_path: Path) -> None:
    wanted = build_recipe(TrainWords("srcnn_filaments", steps="7"))
    (tmp_path / "my.yaml").write_text(wanted.to_yaml())
    assert build_recipe(TrainWords(str(tmp_path / "my.yaml"))) == wanted
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadError, match="it is not text"):
        build_recipe(TrainWords(str(tmp_path / "bad.yaml")))


@pytest.mark.parametrize(
    ("words", "error", "pattern"),
    [
        (
            TrainWords("srcn"),
            RecipeError,
            r'there is no recipe or method "srcn"; did you mean "srcnn"\?',
        ),
        (
            TrainWords("qqq"),
            RecipeError,
            r'"qqq"; choose one of dqlr, dps, [a-z, ]*srcnn, or a file ending in \.yaml',
        ),
        (TrainWords("gone.yaml"), RecipeError, r'there is no recipe file "gone\.yaml"'),
        (
            TrainWords("identity"),
            MethodError,
            r"identity does not learn; choose one that does: dqlr, dps",
        ),
        (
            TrainWords("srcnn", set=("lerning_rate=1",)),
            RecipeError,
            r'called "lerning_rate"; did you mean "learning_rate"\?',
        ),
        (
            TrainWords("srcnn", set=("architecture.windw=5",)),
            RecipeError,
            r'architecture key called "windw"; did you mean "window"\?',
        ),
        (
            TrainWords("srcnn", set=("architecture.window=4",)),
            RecipeError,
            r"the window is 4 planes; it must be odd",
        ),
        (
            TrainWords("srcnn", set=("data.simulated.9.count=5",)),
            RecipeError,
            r'"9" is not one of its 2 entries, counted from 0',
        ),
        (
            TrainWords("srcnn", set=("patch_px.size=5",)),
            RecipeError,
            r"patch_px is one value without parts",
        ),
        (
            TrainWords("srcnn", set=("patch_px",)),
            RecipeError,
            r'--set is "patch_px", allowed is key=value',
        ),
        (
            TrainWords("srcnn", steps="0"),
            RecipeError,
            r'--steps is "0", allowed are whole numbers from 1',
        ),
        (
            TrainWords("srcnn", minutes="-1"),
            RecipeError,
            r"recipe key minutes is -1\.0: it should be greater than 0",
        ),
        (TrainWords("srcnn", name="a b"), RecipeError, r"recipe key name is 'a b'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_one_sentence(
    words: TrainWords, error: type[Exception], pattern: str
) -> None:
    with pytest.raises(error, match=pattern) as caught:
        build_recipe(words)
    assert len(str(caught.value)) <= 240


# ---------------------------------------------------------------------- pairs


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_pairs_are_found_by_name_and_companions_are_left_out(tmp_path: Path) -> None:
    folder = touch(
        tmp_path,
        "a.czi",
        "a_truth.ome.tif",
        "b.tif",
        "b_truth.tif",
        "b_labels.tif",
        "b_blurred.tif",
        "b.json",
        ".hidden.tif",
    )
    names = [
        (Path(p.measured).name, Path(p.truth).name) for p in find_data([str(folder)], "srcnn").pairs
    ]
    assert names == [("a.czi", "a_truth.ome.tif"), ("b.tif", "b_truth.tif")]
    single = find_data(
        [str(folder / "b.tif"), str(folder / "b_truth.tif"), str(folder / "b.tif")], "srcnn"
    )
    assert len(single.pairs) == 1


def test_files_that_are_no_pairs_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="check the path after --data"):
        find_data([str(tmp_path / "gone")], "srcnn")
    with pytest.raises(ReadError, match="holds no image"):
        find_data([str(tmp_path)], "srcnn")
    touch(tmp_path, "a.tif", "a_truth.tif", "c.ome.tif")
    with pytest.raises(
        RecipeError,
        match=r'"c\.ome\.tif" has no truth beside it and srcnn learns from pairs only; put '
        r'"c_truth\.ome\.tif"',
    ):
        find_data([str(tmp_path)], "srcnn")
    touch(tmp_path, "d_truth.tif", "c_truth.tif")
    with pytest.raises(
        RecipeError,
        match=r'"d_truth\.tif" is a truth without its measurement; put "d\.ome\.tif" beside it',
    ):
        find_data([str(tmp_path)], "srcnn")


def test_a_method_that_learns_from_stacks_alone_takes_files_without_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from zenhance.contract import registry

    class Alone:
        spec = replace(registry.load("srcnn").spec, name="alone", learns="own_stack")

    monkeypatch.setattr(registry, "load", lambda name: Alone())
    found = find_data([str(touch(tmp_path, "a.tif", "a_truth.tif", "c.tif"))], "alone")
    assert [Path(p).name for p in found.stacks] == ["c.tif"]
    assert [Path(p.measured).name for p in found.pairs] == ["a.tif"]


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        (
            ("--out", "gone/run"),
            6,
            r'the folder "gone" for the training does not exist; make it first',
        ),
        (("--out", "file"), 2, r'"file" for the training is a file; name a folder with --out'),
        (("--device", "tpu"), 2, r'there is no device "tpu"'),
        (("--install", "--name", "srcnn_stack_x/y"), 2, r"recipe key name"),
    ],
)
def test_a_run_that_could_not_be_kept_is_refused_beforehand(
    words: tuple[str, ...], code: int, pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    result = run("train", "srcnn", *words)
    assert result.exit_code == code
    assert re.search(pattern, result.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
