"""YAML and text from outside: read within bounds, refused in a sentence, never an endless wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zenhance.cli.parsing import parse_settings
from zenhance.errors import MethodError, ReadError, RecipeError, ZenhanceError
from zenhance.physics.profile import load_profile
from zenhance.pipeline import EnhanceRequest
from zenhance.pipeline.request import read_request
from zenhance.training.recipe import Recipe, load_recipe
from zenhance.yaml_text import MAX_TEXT_BYTES, load_yaml, read_text

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = {
    "laughs": LAUGHS,
    "anchor": "method: &m identity",
    "merge": "base: &b {method: identity}\n<<: *b",
    "deep lists": "[" * 5000,
    "deep closed lists": "[" * 400 + "]" * 400,
    "deep mappings": "{a: " * 2000 + "1" + "}" * 2000,
    "deep blocks": "\n".join(" " * n + "a:" for n in range(500)),
    "endless number": "seed: " + "9" * 5000,
    "endless number with signs": "seed: -" + "1_" * 5000 + "1",
    "endless hexadecimal number": "seed: 0x" + "f" * 500_000,
    "endless number to base 60": "seed: 1" + ":1" * 300_000,
    "too long": "# " + "x" * MAX_TEXT_BYTES + "\nmethod: identity",
    "no date": "method: 2001-99-99",
    "object": "!!python/object/apply:os.getcwd []",
    "tabs": "\t- x: [",
}
DOORS: dict[str, Callable[[str], Any]] = {
    "request": EnhanceRequest.from_yaml,
    "recipe": Recipe.from_yaml,
    "--set": lambda text: parse_settings([f"a={text}"]),
    "text": lambda text: load_yaml(text, "the text"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_yaml_bomb_is_refused_in_one_short_sentence_at_every_door(door: str, bomb: str) -> None:
    started = time.process_time()
    with pytest.raises(ZenhanceError) as caught:
        DOORS[door](BOMBS[bomb])
    assert time.process_time() - started < 5
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_plain_yaml_is_read_as_it_says() -> None:
    text = 'a: [1, 2.5, -3e2, true, null, "0123456789012345678901"]\nb: {c: text}'
    assert load_yaml(text, "it") == {
        "a": [1, 2.5, "-3e2", True, None, "0123456789012345678901"],
        "b": {"c": "text"},
    }
    assert load_yaml("12345678901234567890", "it") == 12345678901234567890


@pytest.mark.parametrize("door", [read_request, lambda path: load_recipe(str(path)), load_profile])
@pytest.mark.parametrize("kind", ["fifo", "device", "link to a device", "folder", "missing", "big"])
def test_only_small_regular_files_are_read(
    tmp_path: Path, kind: str, door: Callable[[Path], Any]
) -> None:
    path = tmp_path / "mine.yaml"
    if kind == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
        if not path.exists():
            pytest.skip("this system has no /dev/zero")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "big":
        with path.open("wb") as file:
            file.truncate(10**10)
    started = time.process_time()
    with pytest.raises((ReadError, RecipeError, MethodError)) as caught:
        door(path)
    assert time.process_time() - started < 2
    assert len(str(caught.value).replace(str(path), "")) < 300


def test_a_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("method: identity\n", encoding="utf-8")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real.yaml")
    assert read_text(tmp_path / "link.yaml") == "method: identity\n"


@pytest.mark.parametrize(
    "change",
    [
        "batch: 100000000",
        "patch_px: 100000",
        "steps: 1000000000000",
        "validation_patches: 100000000",
        "minutes: 1.0e+9",
        "learning_rate: 1.0e+30",
        "seed: 99999999999999999999",
        "data: {simulated: [{specimen: cells, count: 100000000}]}",
        "data: {simulated: [{specimen: cells, shape_px: [100000, 100000, 100000]}]}",
        "data: {simulated: [{specimen: cells, shape_px: [0, 10, 10]}]}",
        "data: {simulated: [{specimen: cells, voxel_size_um: [0, 1, 1]}]}",
        "data: {simulated: [{specimen: cells, microscopes: []}]}",
    ],
)
def test_a_recipe_beyond_all_bounds_is_refused(change: str) -> None:
    fields = {
        "method": "method: srcnn",
        "name": "name: a",
        "data": "data: {pairs: [{measured: a.tif, truth: b.tif}]}",
    }
    text = "\n".join((fields | {change.partition(":")[0]: change}).values())
    with pytest.raises(ZenhanceError):
        Recipe.from_yaml(text)
