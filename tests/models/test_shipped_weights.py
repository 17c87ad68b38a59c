"""What lies in the folder of weights that ship: models with their cards, nothing else, and not too much."""

from __future__ import annotations

from pathlib import Path

from zenhance.contract import registry
from zenhance.models.catalogue import SUFFIX, shipped_folder
from zenhance.models.header import read_card

MAX_BYTES = 18_000_000


def shipped() -> list[Path]:
    """Return every file that stands in a method's folder of weights."""
    folders = [shipped_folder(name) for name in registry.names()]
    return [path for folder in folders if folder.is_dir() for path in folder.iterdir()]


def test_only_models_ship_and_each_is_called_as_its_card_says() -> None:
    found = shipped()
    assert len(found) >= 10
    for path in found:
        card = read_card(path)
        assert path.name == f"{card.name}{SUFFIX}"
        assert path.parent == shipped_folder(card.method)


def test_all_models_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in shipped()) <= MAX_BYTES


def test_the_weights_that_a_method_takes_by_itself_ship() -> None:
    names = {path.name.removesuffix(SUFFIX) for path in shipped()}
    for name in registry.names():
        spec = registry.load(name).spec
        wanted = {spec.defaults.weights} - {""}
        assert wanted <= names, name
