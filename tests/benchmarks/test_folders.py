"""The experiment on folders of pictures.

Who learns from what, that nobody is tested on what it learnt, and that colours count.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import runner
from benchmarks.experiments import folders
from benchmarks.experiments.folders import LEVEL, PictureScore, folders_table, measure_folders
from benchmarks.paths import weights
from zenhance.errors import StackError
from zenhance.methods.diffusion.forward_process import blurred
from zenhance.stack import Stack


def make(folder: Path, count: int, *, colour: bool, start: int = 0) -> Path:
    """Write pictures of random discs."""
    folder.mkdir()
    y, x = np.mgrid[:72, :80]
    for number in range(count):
        rng = np.random.default_rng(start + number)
        image = np.zeros((72, 80, 3), np.uint8)
        for _ in range(12):
            inside = (y - rng.integers(72)) ** 2 + (x - rng.integers(80)) ** 2 < rng.integers(
                4, 12
            ) ** 2
            image[inside] = rng.integers(40, 255, 3)
        Image.fromarray(image if colour else image[..., 0]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("pictures")
    first, second = (
        make(place / "faces", 10, colour=True),
        make(place / "guts", 6, colour=False, start=100),
    )
    (first / "notes.txt").write_text("no picture")
    (first / "broken.png").write_bytes(b"\x89PNG nothing")
    return [first, second, make(place / "third", 5, colour=False, start=200)]


@pytest.fixture(scope="module")
def measured(three: list[Path]) -> tuple[folders.FoldersReport, dict[str, int]]:
    """The experiment with finished models in place of trainings, and the pictures of each."""
    seen: dict[str, int] = {}

    def trained(
        method: str, pictures: list[folders.Picture], folder: Path, minutes: float, device: str
    ) -> str:
        seen[folder.name] = len(pictures)
        return weights(f"{method}_meristem")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "_trained", trained)
        patch.setattr(folders, "STEPS", (1, 2))
        return measure_folders(three), seen


@pytest.mark.slow
def test_every_network_learns_each_folder_and_both_and_is_tested_on_all(
    measured: tuple[folders.FoldersReport, dict[str, int]],
) -> None:
    report, learnt = measured
    assert report.counts == {"faces": (8, 2), "guts": (5, 1), "third": (0, 5)}
    trainings = [learnt[f"{m}_{k}"] for m in ("srcnn", "rdn", "diffusion") for k in range(3)]
    assert trainings == [8, 5, 13] * 3
    assert len(report.scores) == 1 + 2 * 3 + 2 * 3
    for by in report.scores.values():
        assert [len(found) for found in by.values()] == [2, 1, 5]


@pytest.mark.slow
def test_the_identity_has_the_error_of_the_damage(
    three: list[Path], measured: tuple[folders.FoldersReport, dict[str, int]]
) -> None:
    score = measured[0].scores["none (identity)"]["third"][0]
    (seen, sharp) = folders._pictures(three[2], 0)[0]
    error = np.asarray(seen.data, np.float64) - np.asarray(sharp.data)
    assert score.rmse == pytest.approx(255 * np.sqrt(np.mean(error**2)), rel=1e-5)
    assert score.sharp < 0.6


def test_colours_are_planes_of_their_own_and_damaged_by_the_forward_process(
    three: list[Path],
) -> None:
    import torch

    seen, sharp = folders._pictures(three[0], 0)[0]
    assert np.asarray(sharp.data).shape == (3, 72, 80)
    assert np.asarray(sharp.data).min() >= 0.0
    assert np.asarray(sharp.data).max() <= 1.0
    expected = blurred(torch.from_numpy(np.asarray(sharp.data))[:, None], LEVEL)[:, 0].numpy()
    noise = np.asarray(seen.data) - expected
    assert abs(noise.mean()) < 0.002
    assert LEVEL.noise * 0.6 < noise.std() < LEVEL.noise


@pytest.mark.slow
def test_a_network_learns_pictures_in_earnest(three: list[Path], tmp_path: Path) -> None:
    pictures = folders._pictures(three[0], 0)
    weights = folders._trained("srcnn", pictures[2:], tmp_path / "model", 0.05, "cpu")
    assert Path(weights).is_file()


@pytest.mark.parametrize("count", [1, 4])
def test_two_or_three_folders_are_wanted(three: list[Path], count: int) -> None:
    with pytest.raises(StackError, match="two to learn from"):
        measure_folders((three * 2)[:count])


def test_a_folder_with_too_few_pictures_is_refused(three: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StackError, match="holds 2 pictures"):
        measure_folders([three[0], make(tmp_path / "few", 2, colour=True)])


def test_the_command_prints_a_row_a_network_and_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = PictureScore(10.0, 28.0, 0.9, 0.8)
    report = folders.FoldersReport(
        {row: {"a": (score,), "b": (score,)} for row in ("none (identity)", "RDN on both")},
        {"a": (4, 1), "b": (4, 1)},
        5.0,
        folders.describe_machine(),
    )
    monkeypatch.setattr(folders, "measure_folders", lambda *_, **__: report)
    files = runner.run("folders", "--folders", "a,b", "--out", tmp_path)
    assert [f.name for f in files] == ["folders.json"]
    assert json.loads(files[0].read_text(encoding="utf-8"))["pictures"] == {
        "a": [4, 1],
        "b": [4, 1],
    }
    assert "RDN on both" in capsys.readouterr().out
    assert len(folders_table(report).header) == 9


def test_a_stack_is_no_picture() -> None:
    with pytest.raises(StackError, match="no picture"):
        folders._planes(Stack.from_array(np.zeros((3, 70, 70), np.uint8), "ZYX", (1.0, 1.0, 1.0)))
