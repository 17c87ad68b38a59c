"""Start levels and light without structure.

The figures mean what they say, and liars are found out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import runner
from benchmarks.experiments import levels
from benchmarks.experiments.levels import (
    LevelsReport,
    NoiseRow,
    StartRow,
    noise_table,
    start_picture,
    start_table,
)
from benchmarks.machine import Machine
from benchmarks.scenes import held_out_seeds
from zenhance.pipeline import EnhanceRequest
from zenhance.stack import Stack
from zenhance.types import FloatArray

MACHINE = Machine("Some CPU", 2, 2, "", "3.12", "2.13")


def report() -> LevelsReport:
    def row(start: float | None, *rmse: float) -> StartRow:
        return StartRow(start, {"meristem": rmse, "filaments": rmse})

    starts = (
        row(None, 5.0, 4.0, 4.5),
        row(0.3, 7.0, 6.0, 6.0),
        row(0.5, 5.1, 4.2, 4.4),
        row(0.9, 9.0, 9.5, 9.9),
    )
    noise = (NoiseRow("RL 3-D, stop rule", (0.0, 3.0), (0.0, 0.001), (0.001, 0.002), (5.0, 6.0)),)
    return LevelsReport(
        {"meristem": 0.45, "filaments": 0.84},
        starts,
        noise,
        MACHINE,
        levels.level_plans(quick=True),
    )


def test_the_best_start_is_named_beside_the_own_level() -> None:
    table = start_table(report())
    assert table.rows[0] == ("own timestep", "5.00", "4.00", "4.50", "5.00", "4.00", "4.50")
    assert any("N = 5 best at 0.5 (4.20, own timestep 4.00)" in line for line in table.foot)
    assert start_picture(report()).size[0] > 600


def test_stacks_are_test_stacks() -> None:
    assert {(plan.specimen, plan.seed) for plan in levels.level_plans()} <= held_out_seeds()


def fake(monkeypatch: pytest.MonkeyPatch, does: str) -> NoiseRow:
    def enhanced(stack: Stack, _request: EnhanceRequest, _device: str) -> FloatArray:
        image = stack.read().astype(np.float32)
        if does == "pattern":
            image = image.mean() + 0 * image
            image[:, ::4, ::4] += 8.0
        if does == "flat":
            image = np.full_like(image, image.mean())
        return image

    monkeypatch.setattr(levels, "_enhanced", enhanced)
    return levels._noise_row("fake", EnhanceRequest(method="identity"), "cpu", True)


def test_noise_kept_counts_as_false_structure_and_does_not_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = fake(monkeypatch, "nothing")
    assert row.false[1] > 1000
    assert max(row.repeated) < 0.05
    assert max(row.mean_error) < 0.01
    assert 7 < row.bead[0] < 16


def test_a_pattern_of_the_methods_own_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    row = fake(monkeypatch, "pattern")
    assert min(row.repeated) > 0.9
    assert min(row.false) > 1000


def test_whoever_draws_nothing_at_all_has_no_structures_and_no_bead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = fake(monkeypatch, "flat")
    assert row.false == (0.0, 0.0)
    assert max(row.bead) < 1e-3


def test_the_command_writes_tables_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.setattr(levels, "measure_levels", lambda **_: report())
    monkeypatch.setattr(levels, "way_back_picture", lambda *_, **__: Image.new("L", (8, 8)))
    files = runner.run("levels", "--out", tmp_path, "--quick")
    assert {f.name for f in files} == {
        "levels.json",
        "diffusion_start.png",
        "diffusion_way_back.png",
    }
    assert json.loads((tmp_path / "levels.json").read_text(encoding="utf-8"))["levels"] == {
        "meristem": 0.45,
        "filaments": 0.84,
    }
    assert "Light without structure" in capsys.readouterr().out
    assert len(noise_table(report()).rows[0]) == len(noise_table(report()).header) == 9
