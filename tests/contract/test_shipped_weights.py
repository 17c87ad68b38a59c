"""What lies in the folder of weights that ship: models with their cards, nothing else, and not too much."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from zenhance.contract import registry
from zenhance.contract.header import read_card
from zenhance.contract.weights import SUFFIX

MOST_BYTES = 30_000_000
FOLDER = Path(str(files("zenhance.weights")))


def test_only_models_ship_and_each_is_called_as_its_card_says() -> None:
    found = [path for path in FOLDER.iterdir() if path.is_file() and path.name != "__init__.py"]
    assert len(found) >= 10
    for path in found:
        card = read_card(path)
        assert path.name == f"{card.name}{SUFFIX}"
        assert card.method in registry.names()


def test_all_models_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob(f"*{SUFFIX}")) <= MOST_BYTES


def test_the_weights_that_a_method_takes_by_itself_ship() -> None:
    shipped = {path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}")}
    for name in registry.names():
        spec = registry.load(name).spec
        wanted = {spec.default_weights, spec.weights(spec.parameters())} - {""}
        assert wanted <= shipped, name
