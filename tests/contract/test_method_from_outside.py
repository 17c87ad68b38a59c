"""A trained method is one folder: here one of another package, found by its entry point."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiny_model import SIZE_UM, walls
from zenhance.cli.app import app
from zenhance.contract import registry
from zenhance.io import open_stack, write_stack
from zenhance.models.catalogue import find_weights, shipped_folder
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.stack import Stack
from zenhance.training.recipe import load_recipe, recipe_names

FOLDER = Path(__file__).parent / "tiny_method"
PACKAGE = "zenhance_tiny_method"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the folder as a package of its own would be; return the folder."""
    site = tmp_path / "site"
    folder = site / PACKAGE
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{PACKAGE}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
    group = registry.ENTRY_POINT_GROUP
    (info / "entry_points.txt").write_text(f"[{group}]\ntiny = {PACKAGE}:METHOD\n")
    monkeypatch.syspath_prepend(str(site))
    caches = (registry._plugged_in, registry._folder, registry._load)
    for cache in caches:
        cache.cache_clear()
    yield folder
    for cache in caches:
        cache.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def shell(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_it_learns_and_enhances_from_its_folder_alone(tiny: Path, tmp_path: Path) -> None:
    assert registry.names()[-1] == "tiny"
    assert registry.folder("tiny") == tiny
    assert "tiny_affine" in recipe_names()
    assert load_recipe("tiny_affine").method == "tiny"
    assert "strength" in shell("methods", "tiny")

    shell("train", "tiny_affine", "--out", tmp_path / "run", "--device", "cpu")
    shipped_folder("tiny").mkdir()
    shutil.copy(tmp_path / "run" / "tiny_affine.safetensors", shipped_folder("tiny"))
    assert find_weights("tiny", None, "tiny_affine").parent == tiny / "weights"

    measured = Stack.from_array(walls(2)[0], "ZYX", SIZE_UM)
    source, target = tmp_path / "in.ome.tif", tmp_path / "out.ome.tif"
    write_stack(source, measured)
    options = ("--method", "tiny", "--set", "strength=0.5", "--device", "cpu", "--no-arbitrate")
    shell("enhance", source, target, *options)
    half = np.asarray(open_stack(target).data)

    request = EnhanceRequest(method="tiny", device="cpu", arbitrate=False)
    whole = enhance(measured, request)
    tiled = enhance(measured, request.model_copy(update={"tile_px": (2, 16, 16)}))
    assert tiled.provenance.tiles["count"] > 1
    assert np.array_equal(np.asarray(tiled.stack.data), np.asarray(whole.stack.data))
    assert whole.provenance.notes["model"] == "tiny_affine"
    raw = np.asarray(measured.data)
    assert np.allclose(half - raw, 0.5 * (np.asarray(whole.stack.data) - raw), atol=1e-3)
    assert np.abs(half - raw).max() > 0
