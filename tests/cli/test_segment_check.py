"""zenhance segment-check: figures, labels and a picture of a measurement and its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.io import open_stack, write_stack
from zenhance.stack import Stack, VoxelSize


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen cells of 5 µm with bright walls; the measurement lacks one wall."""
    place = tmp_path_factory.mktemp("segment")
    labels = np.kron(np.arange(1, 19).reshape(2, 3, 3), np.ones((10, 20, 20), int)).astype(
        np.uint16
    )
    image = np.full(labels.shape, 100.0, np.float32)
    for axis, side in enumerate((10, 20, 20)):
        position = np.arange(labels.shape[axis]) % side
        wall = (position == 0) | (position == side - 1)
        image += 400.0 * wall.reshape([-1 if a == axis else 1 for a in range(3)])
    raw = image.copy()
    raw[1:9, 1:19, 18:22] = 100.0
    size = VoxelSize.of((0.5, 0.25, 0.25))
    for name, data in (("raw", raw), ("better", image), ("labels", labels)):
        write_stack(place / f"{name}.ome.tif", Stack(data, "ZYX", size))
    return place


def test_the_files_and_figures_say_what_changed(folder: Path, tmp_path: Path) -> None:
    files = (folder / "raw.ome.tif", folder / "better.ome.tif")
    truth = ("--labels", folder / "labels.ome.tif", "--kind", "walls")
    said = run("segment-check", *files, *truth, "--json", "--out", tmp_path / "check")
    assert said.exit_code == 0, said.output
    figures = json.loads(said.stdout)
    assert (figures["original"]["cells"], figures["result"]["cells"]) == (17, 18)
    assert figures["agreement"]["split"] == 1
    assert figures["result_truth"]["matched"] == 18
    assert {Path(name).name for name in figures["files"]} == {
        "figures.json",
        "borders.png",
        "original_cells.ome.tif",
        "result_cells.ome.tif",
        "truth_cells.ome.tif",
    }
    cells = open_stack(tmp_path / "check" / "result_cells.ome.tif")
    assert len(np.unique(cells.read())) == 18
    assert cells.voxel_size.zyx_um == (0.5, 0.25, 0.25)
    again = run("segment-check", *files, *truth, "--out", tmp_path / "check")
    assert again.exit_code != 0
    assert "exists already" in again.stderr


def test_people_read_one_sentence_and_a_table(folder: Path) -> None:
    words = ("segment-check", folder / "raw.ome.tif", folder / "better.ome.tif", "--kind", "walls")
    said = run(*words, "--crop", ":10,:,:")
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("8 cells in the original, 9 in the result: 7 the same, 1 split")
    assert "10 × 60 × 60 voxels (z, y, x) as walls, by watershed" in said.stdout


def test_a_crop_outside_the_original_is_refused(folder: Path) -> None:
    words = ("segment-check", folder / "raw.ome.tif", folder / "better.ome.tif")
    said = run(*words, "--crop", "30:40,:,:")
    assert said.exit_code == 2
    assert "--crop begins at z = 30, but there are only 20 voxels along z" in said.stderr
