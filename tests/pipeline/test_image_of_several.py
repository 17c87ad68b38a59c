"""Which image of a file was enhanced is part of the request, of its record and of what is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.errors import RecipeError
from zenhance.io import open_stack
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.provenance import Provenance

CASES = Path("/work/shared/data/cases")
IMAGES = [
    np.full((4, 8, 9), level, np.uint16) + np.arange(9, dtype=np.uint16)
    for level in (100, 200, 300)
]


@pytest.fixture
def several(tmp_path: Path) -> Path:
    path = tmp_path / "several.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        for image in IMAGES:
            file.write(image, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


def run(*words: object) -> dict[str, object]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(open_stack(path).data[...])


def test_settings_and_results_replay_the_image_that_was_chosen(
    several: Path, tmp_path: Path
) -> None:
    first, saved = tmp_path / "first.ome.tif", tmp_path / "saved.yaml"
    words = ["--method", "identity", "--json", "--series", 2, "--save-request", saved]
    record = run("enhance", several, first, *words)
    np.testing.assert_array_equal(pixels(first), IMAGES[2])
    assert "image 3 of 3" in str(record["warnings"])
    assert EnhanceRequest.from_yaml(saved.read_text(encoding="utf-8")).series == 2
    for number, source in enumerate((saved, first)):
        again = tmp_path / f"again{number}.ome.tif"
        run("enhance", several, again, "--request", source, "--json")
        np.testing.assert_array_equal(pixels(again), pixels(first))
    other = tmp_path / "other.ome.tif"
    run("enhance", several, other, "--request", saved, "--series", 1, "--json")
    np.testing.assert_array_equal(pixels(other), IMAGES[1])


def test_that_one_image_of_several_is_taken_is_said_at_every_door(
    several: Path, tmp_path: Path
) -> None:
    said = 'image 1 of 3 in "several.ome.tif" was taken'
    result = enhance(open_stack(several), method="identity")
    assert any(said in warning for warning in result.provenance.warnings)
    (tmp_path / "in").mkdir()
    several.rename(tmp_path / "in" / several.name)
    out = tmp_path / "out"
    batch = run("enhance", tmp_path / "in", out, "--method", "identity", "--json")
    assert said in json.dumps(batch).replace("\\", "")


def test_a_stack_from_python_records_the_image_that_was_opened(several: Path) -> None:
    result = enhance(open_stack(several, series=1), method="identity")
    record = Provenance.find(result.stack.metadata)
    assert record is not None
    assert record.request["series"] == 1
    assert "images" not in result.stack.metadata, "the result is one image"


def test_a_file_with_one_image_is_not_commented(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.ome.tif", IMAGES[0], metadata={"axes": "ZYX"}, ome=True)
    result = enhance(open_stack(tmp_path / "one.ome.tif"), method="identity")
    assert not any("image 1" in warning for warning in result.provenance.warnings)
    with pytest.raises(RecipeError, match="series is -1"):
        EnhanceRequest(series=-1)


@pytest.mark.parametrize(
    ("name", "count"),
    [("c17_positions.ome.tif", 3), ("c17_scenes.ome.tif", 3), ("c17_zdir/b2r.zarr", 2)],
)
def test_files_of_several_images_as_they_come(name: str, count: int) -> None:
    if not (CASES / name).exists():
        pytest.skip("the shared cases are not on this computer")
    for series in range(count):
        stack = open_stack(CASES / name, series=series)
        result = enhance(stack, method="identity", series=series)
        assert any(
            f"image {series + 1} of {count}" in warning for warning in result.provenance.warnings
        )
        assert result.provenance.request["series"] == series
