"""Recipes say everything, forbid everything else, and those that ship can be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from zenhance.contract import registry
from zenhance.contract.learner import LearningMethod
from zenhance.errors import RecipeError, StackError
from zenhance.simulate.presets import microscope
from zenhance.simulate.specimen import specimen_names
from zenhance.training.recipe import Recipe, load_recipe, recipe_names

GOOD = "{method: srcnn, name: mine, data: {pairs: [{measured: a.tif, truth: b.tif}]}}"


def test_a_recipe_reads_back_as_it_was_written() -> None:
    recipe = Recipe.from_yaml(GOOD)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("name:", "nam:"), 'called "nam"; did you mean "name"'),
        (GOOD.replace("pairs:", "pair:"), r'called "data.pair"; did you mean "pairs"'),
        (GOOD.replace("truth:", "thruth:"), r'called "data.pairs.0.thruth"; did you mean "truth"'),
        (GOOD.replace("mine", "../mine"), "name is '../mine'"),
        (GOOD.replace("srcnn", "identity"), "does not learn"),
        (GOOD.replace("srcnn", "srcn"), 'did you mean "srcnn"'),
        ("{method: srcnn, name: mine, data: {}}", "names no data"),
        ("{method: srcnn, name: mine, data: {stacks: [a.tif]}}", "learns from pairs only"),
        (GOOD.replace("}}", "}, steps: 0}").replace("]}, steps", "]}, steps"), "steps is 0"),
        ("[1, 2]", "not a list of key: value lines"),
        ("{", "not valid YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_nearest_key(text: str, message: str) -> None:
    with pytest.raises((RecipeError, ValueError), match=message) as caught:
        Recipe.from_yaml(text)
    assert "\n" not in str(caught.value)


def test_a_recipe_is_found_by_path_name_or_method(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_recipe(str(path)).name == "mine"
    assert load_recipe("srcnn").name == registry.load("srcnn").spec.defaults.weights
    assert load_recipe("rdn_x2").architecture["scale"] == 2
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(RecipeError, match="give a YAML file or one of"):
        load_recipe("nothing")


@pytest.mark.parametrize("name", recipe_names())
def test_each_recipe_that_ships_is_named_like_its_file_and_builds_its_network(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    method = registry.load(recipe.method)
    assert isinstance(method, LearningMethod)
    learner = method.learner()
    assert sum(p.numel() for p in learner.build(recipe.architecture).parameters()) < 2_000_000
    for plan in recipe.data.simulated:
        assert plan.specimen in specimen_names()
        for settings in plan.microscopes:
            microscope(**settings)
        assert min(plan.shape_px[1:]) >= recipe.patch_px


def test_a_microscope_that_is_not_known_is_refused() -> None:
    with pytest.raises(StackError, match="did you mean"):
        microscope("filaments_set3")
