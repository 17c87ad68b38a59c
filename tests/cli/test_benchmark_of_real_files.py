"""What is typed after ``zenhance benchmark beads``, ``pictures`` and ``real`` reaches the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import judging, pictures_command, resolving_command
from zenhance.cli.app import app


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["benchmark", *(str(word) for word in words)])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    kept: list[tuple[Any, ...]] = []
    for module, name in (
        (pictures_command, "run_pictures_benchmark"),
        (resolving_command, "run_beads_benchmark"),
        (judging, "run_real_benchmark"),
    ):
        monkeypatch.setattr(
            module, name, lambda *words, name=name, **options: kept.append((name, words, options))
        )
    return kept


def test_options_reach_the_benchmark(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert (
        run(
            "pictures",
            "--real",
            "a.tif,b.tif",
            "--methods",
            "dps,diffusion",
            "--psf",
            "beads:a.tif@a*",
            "--quick",
        ).exit_code
        == 0
    )
    assert run("beads", "--real", "a.tif,b.tif", "--out", tmp_path, "--write-docs").exit_code == 0
    assert run("real", "--real", tmp_path, "--methods", "diffusion").exit_code == 0
    (name, words, options), beads, real = calls
    assert (name, words) == ("run_pictures_benchmark", (Path("a.tif,b.tif"), None))
    assert (options["methods"], options["psf"], options["quick"]) == (
        ["dps", "diffusion"],
        "beads:a.tif@a*",
        True,
    )
    assert beads[:2] == ("run_beads_benchmark", (Path("a.tif,b.tif"), tmp_path))
    assert beads[2]["write_docs"]
    assert real[2]["methods"] == ["diffusion"]


@pytest.mark.parametrize(
    ("which", "hint"),
    [("pictures", "--real FILE, or a folder"), ("beads", "--real BEADS, or BEADS,LINES")],
)
def test_without_a_file_it_says_what_is_missing(
    calls: list[tuple[Any, ...]], which: str, hint: str
) -> None:
    result = run(which)
    assert result.exit_code == 2
    assert f"the benchmark {which} needs a stack; give one with {hint}" in result.stderr
    assert calls == []


def test_pictures_without_methods_says_what_is_missing() -> None:
    result = run("pictures", "--real", "a.tif")
    assert result.exit_code == 2
    assert "name them with --methods, such as dps,diffusion" in result.stderr
