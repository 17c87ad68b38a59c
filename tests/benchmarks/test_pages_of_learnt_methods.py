"""The pages of the methods that learn say what the methods, their networks and their models say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import runner
from benchmarks.experiments.models import learning_methods, models_table, shipped_cards
from zenhance.contract import registry
from zenhance.methods.rdn.network import RDN
from zenhance.methods.srcnn.network import SRCNN
from zenhance.models.header import Card

DOCS = Path(__file__).resolve().parents[2] / "docs"
METHODS = learning_methods()


def page(method: str) -> str:
    return (DOCS / "methods" / f"{method}.md").read_text(encoding="utf-8")


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_the_page_lists_every_setting_with_its_default_unit_and_description(method: str) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) ?\| ([^|]*) \|$", page(method), flags=re.MULTILINE
    )
    fields = registry.load(method).spec.parameters.model_fields
    expected = [
        (
            name,
            str(field.default),
            str((field.json_schema_extra or {}).get("unit", "")).strip(),
            field.description,
        )
        for name, field in fields.items()
    ]
    assert [(a, b, c.strip(), d) for a, b, c, d in rows] == expected


@pytest.mark.parametrize("method", METHODS)
def test_the_page_names_the_default_weights_and_the_source(method: str) -> None:
    spec = registry.load(method).spec
    assert f"the default is `{spec.defaults.weights}`" in page(method)
    assert spec.source.split(",")[0] in page(method)


def test_the_numbers_of_weights_on_the_page_are_those_of_the_networks() -> None:
    rows = re.findall(r"^\| 9-(\d)-5\S* .*?\| (\d) \| (\d+) \|$", page("srcnn"), flags=re.MULTILINE)
    assert len(rows) == 3
    for middle, window, weights in rows:
        assert count(SRCNN(int(window), (9, int(middle), 5))) == int(weights)
    found = re.findall(
        r"^\| [\w ,]+ \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d) \| (\d) \| (\d+) \|$",
        page("rdn"),
        flags=re.MULTILINE,
    )
    assert len(found) == 4
    for row in found:
        blocks, layers, growth, features, scale, window, weights = (int(n) for n in row)
        with torch.device("meta"):
            assert count(RDN(window, features, growth, blocks, layers, scale)) == weights


@pytest.mark.parametrize("method", METHODS)
def test_the_models_on_the_page_are_those_that_ship(method: str) -> None:
    _, _, rest = page(method).partition("<!-- begin models -->")
    shown = rest.partition("<!-- end models -->")[0].strip()
    assert shown == models_table(method, shipped_cards(method)).markdown().strip(), (
        "run python -m benchmarks models --write-docs"
    )


def test_a_models_row_says_what_its_card_says() -> None:
    card = Card(
        method="rdn",
        name="rdn_stack",
        description="For trying.",
        version="0.1.0",
        architecture={"window": 5, "scale": 2},
        parameters=117889,
        steps=250,
        seconds=600.0,
        voxel_size_um=(0.5, 0.22, 0.22),
        metrics={"psnr_db": 25.123, "psnr_identity_db": 20.0},
    )
    table = models_table("rdn", [card, card.model_copy(update={"name": "other", "metrics": {}})])
    row = (
        "**`rdn_stack`**",
        "For trying.",
        "5",
        "2 ×",
        "117889",
        "0.5 × 0.22 × 0.22",
        "250",
        "10",
        "25.12",
        "20.00",
    )
    assert table.rows == (row, ("`other`", *row[1:8], "-", "-"))
    assert "zenhance 0.1.0" in table.foot[-1]
    assert len(table.header) == len(row)


def test_the_command_writes_each_methods_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "methods"
    folder.mkdir()
    for method in METHODS:
        (folder / f"{method}.md").write_text(
            "<!-- begin models -->\nworn text\n<!-- end models -->\n", encoding="utf-8"
        )
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    files = runner.run("models", "--write-docs")
    assert {f.stem for f in files} == set(METHODS)
    assert all("worn text" not in f.read_text(encoding="utf-8") for f in files)
    capsys.readouterr()
    runner.run("models", "--json")
    (line,) = capsys.readouterr().out.splitlines()
    assert {model["method"] for model in json.loads(line)["models"]} <= set(METHODS)


def test_the_benchmarks_page_has_a_place_for_every_table() -> None:
    text = (DOCS / "benchmark.md").read_text(encoding="utf-8")
    for mark in ("sample", "quality", "depths", "microscopes", "domains", "real", "speed"):
        assert text.count(f"<!-- begin {mark} -->") == text.count(f"<!-- end {mark} -->") == 1
    for command in ("quality", "domains", "real", "sample", "speed"):
        assert f"python -m benchmarks {command}" in text
