"""Pairs are found in a folder by their names, and what is missing is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from zenhance.errors import RecipeError
from zenhance.training.folders import pairs_in, stacks_in


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_each_truth_is_paired_with_the_file_of_its_name_whatever_the_endings(tmp_path: Path) -> None:
    fill(tmp_path, "a.tif", "a_truth.ome.tif", "b_0.5um.czi", "b_0.5um_truth.tif", "b_0.tif", "notes.txt", ".hidden_truth.tif")
    (tmp_path / "c.ome.zarr").mkdir()
    (tmp_path / "c_truth.ome.zarr").mkdir()
    found = [(Path(p.measured).name, Path(p.truth).name) for p in pairs_in(tmp_path)]
    assert found == [("a.tif", "a_truth.ome.tif"), ("b_0.5um.czi", "b_0.5um_truth.tif"), ("c.ome.zarr", "c_truth.ome.zarr")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "holds no pairs; put each measured NAME.tif beside its sharp NAME_truth.tif"),
        (("a.tif", "b.tif"), "holds no pairs"),
        (("a_truth.tif",), '"a_truth.tif" needs one measured file a.* beside it, found none'),
        (("a_truth.tif", "a.tif", "a.czi"), "found a.czi, a.tif; rename or remove files"),
    ],
)
def test_a_folder_without_usable_pairs_is_explained(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("*", r"\*")):
        pairs_in(fill(tmp_path, *names))


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='there is no folder ".*gone"; choose the one that holds your stacks'):
        pairs_in(tmp_path / "gone")


def test_stacks_alone_are_the_images_that_are_no_truth(tmp_path: Path) -> None:
    fill(tmp_path, "a.tif", "a_truth.tif", "b.CZI", "notes.txt")
    assert [Path(path).name for path in stacks_in(tmp_path, (".tif", ".czi"))] == ["a.tif", "b.CZI"]
    with pytest.raises(RecipeError, match="holds no stacks; allowed are files ending in .lif"):
        stacks_in(tmp_path, (".lif",))
