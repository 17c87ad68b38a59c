"""What is typed after ``zenhance benchmark``, but for ``speed`` and ``sample``, reaches the benchmark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import judging
from zenhance.cli.app import app

FORWARDED = (
    "run_quality_benchmark", "run_alone_benchmark", "run_prediction_benchmark",
    "run_domains_benchmark", "run_real_benchmark", "run_models_table",
)  # fmt: skip


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["benchmark", *(str(word) for word in words)])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    kept: list[tuple[Any, ...]] = []
    for name in FORWARDED:
        monkeypatch.setattr(
            judging, name, lambda *words, name=name, **options: kept.append((name, words, options))
        )
    return kept


def test_quality_gets_methods_size_and_real_stacks(
    calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    assert (
        run(
            "quality", "--methods", "rdn,rl", "--quick", "--real", tmp_path, "--out", tmp_path
        ).exit_code
        == 0
    )
    assert run("quality", "--write-docs", "--json").exit_code == 0
    common = {"device": "cpu"}
    first = {
        "methods": ["rdn", "rl"],
        "quick": True,
        "real": tmp_path,
        "write_docs": False,
        "json_line": False,
        **common,
    }
    second = {
        "methods": [],
        "quick": False,
        "real": None,
        "write_docs": True,
        "json_line": True,
        **common,
    }
    assert calls == [
        ("run_quality_benchmark", (tmp_path,), first),
        ("run_quality_benchmark", (None,), second),
    ]


def test_domains_real_and_models_get_what_is_theirs(
    calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    assert run("domains", "--quick").exit_code == 0
    assert run("real", "--real", tmp_path, "--write-docs").exit_code == 0
    assert run("models", "--write-docs").exit_code == 0
    assert [name for name, _, _ in calls] == [
        "run_domains_benchmark",
        "run_real_benchmark",
        "run_models_table",
    ]
    assert calls[0][2]["quick"]
    assert calls[1][1] == (tmp_path, None)
    assert calls[2][2] == {"write_docs": True, "json_line": False}


def test_how_long_is_learnt_is_ten_minutes_for_alone_and_not_at_all_for_real(
    calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    for words in (
        ("alone", "--quick"),
        ("alone", "--minutes", "90s"),
        ("real", "--real", tmp_path),
        ("real", "--real", tmp_path, "--minutes", 3),
    ):
        assert run(*words).exit_code == 0
    assert [(name, options["minutes"]) for name, _, options in calls] == [
        ("run_alone_benchmark", 10.0), ("run_alone_benchmark", 1.5), ("run_real_benchmark", None), ("run_real_benchmark", 3.0),
    ]  # fmt: skip
    for wrong in ("0", "-2", "soon"):
        result = run("alone", "--minutes", wrong)
        assert result.exit_code == 2
        assert "--minutes is" in result.stderr
    assert len(calls) == 4
    assert run("prediction", "--quick").exit_code == 0
    assert calls[-1][0] == "run_prediction_benchmark"


def test_real_without_a_stack_says_what_is_missing(calls: list[tuple[Any, ...]]) -> None:
    result = run("real")
    assert result.exit_code == 2
    assert re.search("the benchmark real needs a stack; give one with --real FILE", result.stderr)
    assert calls == []


def test_an_unknown_row_is_refused_before_anything_is_measured() -> None:
    result = run("quality", "--methods", "wienr")
    assert result.exit_code == 2
    assert re.search('the quality table has no row "wienr"; did you mean "wiener"', result.stderr)
