"""What is typed after ``zenhance benchmark resolution``, ``universal`` and ``photographs`` reaches the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import resolving_command
from zenhance.cli.app import app


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["benchmark", *(str(word) for word in words)])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    kept: list[tuple[Any, ...]] = []
    for name in (
        "run_resolution_benchmark",
        "run_universal_benchmark",
        "run_photographs_benchmark",
        "run_sweep_benchmark",
    ):
        monkeypatch.setattr(
            resolving_command,
            name,
            lambda *words, name=name, **options: kept.append((name, words, options)),
        )
    return kept


def test_options_reach_the_benchmark(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert (
        run("resolution", "--quick", "--real", tmp_path / "beads.tif", "--out", tmp_path).exit_code
        == 0
    )
    assert run("universal", "--minutes", "2").exit_code == 0
    assert (
        run(
            "photographs",
            "--folders",
            tmp_path,
            "--psf",
            "sigma_um=2,2",
            "--photons",
            "300",
            "--json",
        ).exit_code
        == 0
    )
    assert run("sweep", "--steps", "7").exit_code == 0
    assert calls[3][2]["steps"] == 7
    name, words, options = calls[0]
    assert (name, words, options["beads"], options["quick"]) == (
        "run_resolution_benchmark",
        (tmp_path,),
        tmp_path / "beads.tif",
        True,
    )
    assert calls[1][2]["minutes"] == 2.0
    _, words, options = calls[2]
    assert words[0] == str(tmp_path)
    assert (options["psf"], options["photons"], options["json_line"]) == (
        "sigma_um=2,2",
        300.0,
        True,
    )


def test_photographs_without_a_folder_says_what_is_missing(calls: list[tuple[Any, ...]]) -> None:
    result = run("photographs")
    assert result.exit_code == 2
    assert "give a folder of them with --folders DIR" in result.stderr
    assert calls == []
