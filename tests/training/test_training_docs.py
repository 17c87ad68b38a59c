"""The page on training has the recipe's keys, defaults and meanings; its example is a recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from zenhance.training.recipe import Data, Drawn, Pair, Recipe, Simulated

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def plain(value: Any) -> Any:
    return [plain(v) for v in value] if isinstance(value, tuple | list) else value


def says(cell: str, value: Any) -> bool:
    """Whether a cell of the column "default" says this value; None and empty ones are "empty"."""
    return (
        cell == "empty"
        if value is None or value in ("", (), {})
        else yaml.safe_load(cell.strip("`")) == plain(value)
    )


@pytest.mark.parametrize("model", [Recipe, Data, Drawn, Pair, Simulated])
def test_every_key_stands_in_its_table_with_default_and_meaning(model: type[BaseModel]) -> None:
    section = PAGE.partition(f"<!-- begin {model.__name__} -->")[2].partition(
        f"<!-- end {model.__name__} -->"
    )[0]
    rows = {
        key: (default, meaning)
        for key, default, meaning in re.findall(
            r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, re.MULTILINE
        )
    }
    assert list(rows) == list(model.model_fields)
    for name, info in model.model_fields.items():
        default, meaning = rows[name]
        assert meaning == info.description
        assert (
            default == "needed"
            if info.is_required()
            else says(default, info.get_default(call_default_factory=True))
        )


def test_the_example_on_the_page_is_a_recipe() -> None:
    (example,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    recipe = Recipe.from_yaml(example)
    assert (recipe.method, recipe.minutes, len(recipe.data.pairs)) == ("srcnn", 20, 2)


def test_the_names_of_recipes_on_the_page_exist() -> None:
    from zenhance.training.recipe import load_recipe

    for wanted in re.findall(r"zenhance train (?!my_)(\w+)", PAGE):
        assert load_recipe(wanted).method in ("srcnn", "rdn", "dqlr")
