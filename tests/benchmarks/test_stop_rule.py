"""The table of the stop rule: what it compares, on a small image."""

from __future__ import annotations

import pytest

from benchmarks.experiments import stop_rule


def test_the_stop_is_compared_with_the_best_of_all_iterations_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stop_rule, "SHAPES", {"filaments, 2-D": (1, 64, 64)})
    monkeypatch.setattr(stop_rule, "_tried", lambda: [1, 4, 9])
    report = stop_rule.measure_stop_rule((30.0,))
    assert [row.noise for row in report.rows] == ["Poisson", "Gaussian"]
    for row in report.rows:
        assert row.best in (1, 4, 9)
        assert row.stop_db > row.measured_db
    table = stop_rule.stop_rule_table(report)
    assert len(table.rows) == 2
    assert all(len(cells) == len(table.header) for cells in table.rows)
    assert report.record()["rows"][0]["specimen"] == "filaments, 2-D"
