"""``enhance --learn``, and ``train`` on measured stacks alone, also after an interrupt."""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tiny_model import ARCHITECTURE, PSF, small_stack, tiny_model
from zenhance.cli import train_run
from zenhance.cli.app import app
from zenhance.cli.parsing import parse_minutes
from zenhance.errors import RecipeError
from zenhance.io import open_stack, write_stack
from zenhance.models.checkpoint import read_checkpoint
from zenhance.provenance import Provenance

TINY = (
    *(
        "--set",
        f"architecture={json.dumps(ARCHITECTURE)}",
        "--set",
        "patch_px=16",
        "--set",
        "batch=2",
        "--set",
        f"data.psf='{PSF}'",
    ),
    *(
        "--set",
        "validate_every=2",
        "--set",
        "validation_patches=2",
        "--set",
        "warmup_steps=1",
        "--set",
        "precision=float32",
    ),
    *("--steps", "12", "--device", "cpu"),
)


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "leaves"
    folder.mkdir()
    for seed in range(2):
        write_stack(folder / f"leaf {seed}.ome.tif", small_stack(seed))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start") / "run")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("10min", 10),
        ("600s", 10),
        ("1h", 60),
        ("2.5", 2.5),
        ("3 min", 3),
        ("4 minutes", 4),
        ("90 S", 1.5),
    ],
)
def test_times_are_read_in_minutes_seconds_and_hours(text: str, minutes: float) -> None:
    assert math.isclose(parse_minutes("--learn", text), minutes)


@pytest.mark.parametrize("text", ["", "min", "-1", "0", "10 m", "nan", "infh", "ten min"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(
        RecipeError,
        match="--learn is .* allowed is a time above 0 in min, s or h; for example --learn 10min",
    ):
        parse_minutes("--learn", text)


def test_learning_first_keeps_a_model_that_gives_the_same_without_learning(
    stacks: Path, start: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seconds of learning decide nothing: tests/pipeline/test_held_out.py tests the decision.
    monkeypatch.setattr("zenhance.pipeline.learning.is_better", lambda after, before: True)
    source, target = stacks / "leaf 0.ome.tif", tmp_path / "better.ome.tif"
    words = ("--method", "dqlr", "--psf", PSF, "--device", "cpu")
    settings = tmp_path / "settings.yaml"
    result = run(
        "enhance",
        source,
        target,
        *words,
        "--weights",
        start,
        "--learn",
        "4s",
        "--save-request",
        settings,
    )
    assert result.exit_code == 0, result.output
    assert "learns 0.0666667 min first, " in result.stderr
    assert "  PSF: gaussian: sigma_um 0.3" in result.stderr
    assert 'learn (learning from "' in result.stderr
    assert "learnt in " in result.stdout
    assert result.stdout.rstrip().endswith("use it again without learning: --weights dqlr_leaf_0")

    again = run(
        "enhance", source, tmp_path / "again.ome.tif", *words, "--weights", "dqlr_leaf_0", "--json"
    )
    assert "learnt" not in json.loads(again.stdout)
    np.testing.assert_array_equal(
        open_stack(target).read(), open_stack(tmp_path / "again.ome.tif").read()
    )

    replayed = run("enhance", source, tmp_path / "replayed.ome.tif", "--request", target, "--json")
    record = json.loads(replayed.stdout)
    assert record["learnt"]["model"] == "dqlr_leaf_0-2"
    assert record["provenance"]["request"]["learn_minutes"] == pytest.approx(4 / 60)
    assert {path.name for path in own.iterdir()} == {
        "dqlr_leaf_0.safetensors",
        "dqlr_leaf_0-2.safetensors",
    }
    account = Provenance.find(open_stack(tmp_path / "replayed.ome.tif").metadata)
    assert account is not None
    assert account.notes["learnt"] == record["learnt"]
    assert "learn_minutes: 0.0666" in settings.read_text()


def test_what_cannot_be_learnt_is_said_before_anything_is_computed(
    stacks: Path, tmp_path: Path, own: Path
) -> None:
    source, target = stacks / "leaf 0.ome.tif", tmp_path / "better.ome.tif"
    for words, message in (
        (
            ("--method", "rdn", "--learn", "1min"),
            "the method rdn cannot learn from the stack itself; choose one that can (",
        ),
        (("--method", "dqlr", "--weights", "none"), 'weights "none" start from random values'),
        (
            ("--method", "dqlr", "--learn", "25h"),
            "learn_minutes is 1500.0: it should be less than or equal to 1440",
        ),
        (("--method", "dqlr", "--learn", "soon"), '--learn is "soon"'),
    ):
        result = run("enhance", source, target, *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert not own.exists()


def test_an_interrupt_while_it_learns_leaves_no_file_and_no_model(
    stacks: Path, start: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenhance.cli import progress

    update = progress.PlainReporter.update

    def press(self: Any, step: Any) -> None:
        if ": step 2," in step.message:
            signal.raise_signal(signal.SIGINT)
        update(self, step)

    monkeypatch.setattr(progress.PlainReporter, "update", press)
    target = tmp_path / "better.ome.tif"
    result = run(
        "enhance",
        stacks / "leaf 0.ome.tif",
        target,
        "--method",
        "dqlr",
        "--weights",
        start,
        "--learn",
        "5",
        "--psf",
        PSF,
    )
    assert result.exit_code == 130
    assert "cancelled during learning" in result.stderr
    assert not target.exists()
    assert not own.exists()


@pytest.fixture(scope="module")
def trained(stacks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, run("train", "dqlr", "--data", stacks, "--out", folder, *TINY)


def test_a_folder_of_measured_stacks_is_learnt_from_without_truth(
    trained: tuple[Path, Any], stacks: Path, tmp_path: Path
) -> None:
    folder, result = trained
    assert result.exit_code == 0, result.output
    assert (
        "  2 volumes to learn from, without a truth\n  PSF: gaussian: sigma_um 0.3" in result.stderr
    )
    assert {path.name for path in folder.iterdir()} == {
        "recipe.yaml", "round_1", "round_2", "round_1.safetensors", "round_2.safetensors",
        "dqlr_leaves.safetensors",
    }  # fmt: skip
    card = read_checkpoint(folder / "dqlr_leaves.safetensors").card
    assert {entry["name"] for entry in card.data} == {
        f"leaf {seed}.ome.tif, resimulated" for seed in range(2)
    }
    target = tmp_path / "better.ome.tif"
    model = folder / "dqlr_leaves.safetensors"
    done = run(
        "enhance",
        stacks / "leaf 0.ome.tif",
        target,
        "--method",
        "dqlr",
        "--weights",
        model,
        "--device",
        "cpu",
    )
    assert done.exit_code == 0, done.output


def test_a_single_stack_is_not_divided_and_minutes_end_it(stacks: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = [word if word != "12" else "100000" for word in TINY]
    result = run(
        "train",
        "dqlr",
        "--data",
        stacks / "leaf 0.ome.tif",
        "--out",
        folder,
        *words,
        "--minutes",
        "0.06",
    )
    assert result.exit_code == 0, result.output
    assert "  1 volume to learn from, without a truth\n" in result.stderr
    card = read_checkpoint(folder / "dqlr_leaf_0.safetensors").card
    assert {entry["name"] for entry in card.data} == {"leaf 0.ome.tif, resimulated"}


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Press Ctrl-C when a step is shown."""
    shown = train_run._shown

    def press(progress: Any, last: Any) -> Any:
        if progress.step == step and progress.stage == "train":
            signal.raise_signal(signal.SIGINT)
        return shown(progress, last)

    monkeypatch.setattr(train_run, "_shown", press)


@pytest.mark.parametrize("step", [3, 6, 9])
def test_a_training_that_was_interrupted_goes_on_to_the_same_weights(
    trained: tuple[Path, Any],
    stacks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        stopped = run("train", "dqlr", "--data", stacks, "--out", folder, *TINY)
    assert stopped.exit_code == 0, stopped.output
    assert "stopped by the user" in stopped.stdout
    refused = run("train", "dqlr", "--data", stacks, "--out", folder, *TINY)
    assert refused.exit_code == 9
    resumed = run("train", "dqlr", "--out", folder, "--resume", "--device", "cpu")
    assert resumed.exit_code == 0, resumed.output
    whole, gone_on = (
        read_checkpoint(place / "dqlr_leaves.safetensors").state for place in (trained[0], folder)
    )
    assert all(np.array_equal(whole[name], gone_on[name]) for name in whole)


def test_a_finished_training_that_is_gone_on_with_stays_as_it_is(trained: tuple[Path, Any]) -> None:
    folder, _ = trained
    before = (folder / "dqlr_leaves.safetensors").read_bytes()
    result = run("train", "dqlr", "--out", folder, "--resume", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert re.search("all 2 rounds were done before", result.stdout)
    assert (folder / "dqlr_leaves.safetensors").read_bytes() == before


@pytest.mark.parametrize("existed", [False, True])
def test_a_second_interrupt_before_the_first_step_leaves_no_folder(
    stacks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    shown = train_run._shown

    def press(progress: Any, last: Any) -> Any:
        if progress.stage == "data":
            signal.raise_signal(signal.SIGINT)
        return shown(progress, last)

    monkeypatch.setattr(train_run, "_shown", press)
    folder = tmp_path / "run"
    if existed:
        folder.mkdir()
    result = run("train", "dqlr", "--data", stacks, "--out", folder, *TINY)
    assert result.exit_code == 130
    assert not folder.exists() if not existed else not list(folder.iterdir())


def test_a_round_that_fails_in_a_folder_with_other_trainings_leaves_these_and_none_of_its_own(
    stacks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenhance.training import loop

    def break_down(*_: Any) -> Any:
        raise RecipeError("the loss is nan")

    other = tmp_path / "runs" / "other" / "state.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of another training")
    monkeypatch.setattr(loop, "_step", break_down)
    for _ in range(2):
        result = run("train", "dqlr", "--data", stacks, "--out", tmp_path / "runs", *TINY)
        assert result.exit_code == 2
        assert "the loss is nan" in result.stderr
        assert [
            path.relative_to(tmp_path) for path in (tmp_path / "runs").rglob("*") if path.is_file()
        ] == [other.relative_to(tmp_path)]


def test_stacks_of_which_some_have_a_truth_are_refused_by_name(
    stacks: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("leaf 0", "leaf 0_truth", "leaf 1"):
        write_stack(folder / f"{name}.ome.tif", small_stack())
    result = run("train", "dqlr", "--data", folder, "--out", tmp_path / "run", *TINY)
    assert result.exit_code == 2
    assert (
        '"leaf 1.ome.tif" has no truth, but other stacks have; give one for each' in result.stderr
    )
    assert not (tmp_path / "run").exists()
