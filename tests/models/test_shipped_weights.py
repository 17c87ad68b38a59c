"""The weights that ship: models with their cards, nothing else, and small."""

from __future__ import annotations

from pathlib import Path

import pytest

from zenhance.contract import registry
from zenhance.models.catalogue import SUFFIX, list_weights, shipped_folder
from zenhance.models.header import read_card

MAX_BYTES = 20_000_000


def shipped() -> list[Path]:
    """Return every file in the methods' folders of weights."""
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


def test_the_list_of_a_methods_weights_begins_with_its_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path))
    for name in registry.names():
        spec = registry.load(name).spec
        default = spec.defaults.weights
        (tmp_path / f"a_copy{SUFFIX}").unlink(missing_ok=True)
        if default:
            shipped_model = shipped_folder(name) / f"{default}{SUFFIX}"
            (tmp_path / f"a_copy{SUFFIX}").write_bytes(shipped_model.read_bytes())
        listed = [entry.name for entry in list_weights(name)]
        assert listed[:1] == ([default] if default else []), name
        assert listed[-1:] == (["a_copy"] if default else []), name
