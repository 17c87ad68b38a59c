"""The command that tries to break reading and writing counts what it tries and what is lost."""

from __future__ import annotations

import importlib
import os

import pytest

BREAK = importlib.import_module("benchmarks.experiments.break")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes that it forks")


def test_a_loss_is_counted_by_kind_and_its_sentence_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {
        "always well": (lambda *_: None, 1.0),
        "often lost": (lambda folder, rng, number: "it is gone" if number % 2 else None, 0.5),
    }
    monkeypatch.setattr(BREAK, "KINDS", kinds)
    report = BREAK.measure_break(10)
    table = BREAK.survival_table(report)
    assert table.rows == (
        ("always well", "10", "10", "0"),
        ("often lost", "5", "3", "2"),
        ("all", "15", "13", "2"),
    )
    assert table.foot == ("often lost: it is gone",) * 2


def test_few_tries_of_each_kind_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {kind: both for kind, both in BREAK.KINDS.items() if kind != "killed while replacing"}
    monkeypatch.setattr(BREAK, "KINDS", kinds)
    report = BREAK.measure_break(3, seed=1)
    assert set(report.tries) == set(kinds)
    assert report.lost == {}
