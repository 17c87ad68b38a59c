"""The calibration table: draws of simulated stacks against their truths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import runner
from benchmarks.calibration import LEVELS, Calibration
from benchmarks.experiments import calibration as bench
from benchmarks.experiments.calibration import (
    CalibrationReport,
    Drawer,
    StackRow,
    calibration_table,
    drawers,
    measure_calibration,
)
from benchmarks.machine import describe_machine
from benchmarks.scenes import Plan
from zenhance.models.catalogue import list_weights
from zenhance.pipeline import EnhanceRequest

PLAN = Plan("small", "meristem", 907, (8, 48, 48), (0.5, 0.22, 0.22))


def drawer(**settings: object) -> Drawer:
    request = EnhanceRequest(
        method="divblurring",
        settings={"samples": 6, "keep_samples": 6, **settings},
        arbitrate=False,
    )
    return Drawer("model", request, (PLAN,))


@pytest.fixture(scope="module")
def reports() -> dict[float, CalibrationReport]:
    return {spread: measure_calibration([drawer(spread=spread)]) for spread in (1.0, 3.0)}


def row(report: CalibrationReport) -> StackRow:
    ((_, (found,)),) = report.rows
    return found


@pytest.mark.slow
def test_wider_draws_are_less_sure(reports: dict[float, CalibrationReport]) -> None:
    plain, wide = (row(reports[s]).calibration for s in (1.0, 3.0))
    assert wide.spread_skill > 1.5 * plain.spread_skill
    assert all(wide.coverage[level] >= plain.coverage[level] for level in LEVELS)
    assert plain.spearman > 0.2


def test_every_model_that_draws_is_judged_on_stacks_it_was_not_trained_on() -> None:
    chosen = drawers()
    shipped = {entry.name: entry.card for entry in list_weights("divblurring") if entry.ships}
    assert {d.request.weights for d in chosen} <= set(shipped)
    for one in chosen:
        names = {str(part["name"]) for part in shipped[str(one.request.weights)].data}
        assert not names & {f"{plan.specimen} seed {plan.seed}" for plan in one.plans}
        assert int(one.request.settings["keep_samples"]) == bench.DRAWS


def made_up() -> CalibrationReport:
    one = Calibration(20, 0.8, {level: level for level in LEVELS}, 0.5, 0.1, 0.02)
    two = Calibration(20, 1.2, {level: level for level in LEVELS}, 0.7, 0.3, 0.04)
    found = (
        StackRow("a", one, 0.2, (0.0, 0.02), 0.0, 1.0),
        StackRow("b", two, 0.4, (0.0, 0.02), 0.01, 1.0),
    )
    return CalibrationReport((("model", found),), describe_machine())


def test_the_table_has_a_line_a_model_and_one_a_stack() -> None:
    table = calibration_table(made_up())
    assert [line[0] for line in table.rows] == ["model", "· a", "· b"]
    assert table.rows[0][1:] == (
        "1.00",
        "50%",
        "68%",
        "90%",
        "95%",
        "0.60",
        "0.20",
        "0.03",
        "30%",
        "1.000%",
        "0.500%",
    )
    assert all(len(line) == len(table.header) for line in table.rows)


def test_the_command_writes_table_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmark.md"
    page.write_text(
        "<!-- begin calibration -->\nworn\n<!-- end calibration -->\n", encoding="utf-8"
    )
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    monkeypatch.setattr(bench, "measure_calibration", lambda *_: made_up())
    files = runner.run("calibration", "--out", tmp_path / "out", "--write-docs", "--json")
    assert "worn" not in page.read_text(encoding="utf-8")
    record = json.loads((tmp_path / "out" / "calibration.json").read_text(encoding="utf-8"))
    figure = record["rows"][0][1][0]["calibration"]["spread_skill"]
    assert figure == 0.8
    assert {f.name for f in files} == {"calibration.json", "benchmark.md"}
