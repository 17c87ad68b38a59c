"""zenhance cite: BibTeX of what made a result."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from zenhance import EnhanceRequest, Stack, VoxelSize, enhance, write_stack
from zenhance.cli.app import app
from zenhance.contract import registry


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_result_names_the_papers_of_its_method(tmp_path: Path) -> None:
    stack = Stack(np.ones((1, 16, 16), np.float32), "ZYX", VoxelSize.of((0.5, 0.2, 0.2)))
    result = enhance(stack, EnhanceRequest(method="identity", profile="none"))
    write_stack(tmp_path / "a.ome.tif", result.stack, provenance=result.provenance)
    said = json.loads(run("cite", tmp_path / "a.ome.tif", "--json").stdout)
    assert (said["methods"], said["dois"]) == (["identity"], [])
    write_stack(tmp_path / "b.ome.tif", stack)
    refused = run("cite", tmp_path / "b.ome.tif")
    assert refused.exit_code != 0
    assert "holds no record of a run" in refused.stderr


@pytest.mark.parametrize("name", [n for n in registry.names() if n != "identity"])
def test_each_method_has_references_that_bibtex_can_read(name: str) -> None:
    said = run("cite", name)
    assert said.exit_code == 0, said.output
    entries = said.stdout.strip().split("\n\n")
    assert entries[0].startswith("@software{zenhance,")
    assert len(entries) == 1 + len(registry.load(name).spec.references) > 1
    for entry in entries:
        assert entry.count("{") == entry.count("}")
        assert re.match(r"@\w+\{\w+,\n", entry)
    for one in registry.load(name).spec.references:
        assert re.fullmatch(r"10\.\d{4,}/\S+", one.doi)
        assert one.key in said.stdout


def test_a_method_that_is_not_there_is_refused_with_the_nearest_name() -> None:
    said = run("cite", "dqlrr")
    assert said.exit_code == 2
    assert "dqlr" in said.stderr
