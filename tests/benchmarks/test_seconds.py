"""Every method is timed on the same stack, with the settings that the table states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import runner
from benchmarks.experiments import seconds
from benchmarks.experiments.seconds import (
    RUNS,
    Run,
    measure_seconds,
    seconds_table,
)
from zenhance.contract import registry
from zenhance.errors import MethodError
from zenhance.pipeline import EnhanceRequest


def test_every_method_that_changes_an_image_is_timed() -> None:
    assert set(registry.names()) - {run.method for run in RUNS} <= {"identity"}


def test_a_run_asks_for_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[int, ...], EnhanceRequest]] = []
    monkeypatch.setattr(
        seconds, "enhance", lambda stack, request: asked.append((stack.shape, request))
    )
    report = measure_seconds(
        (Run("diffusion", {"steps": 10}), Run("dps", {}, "sigma_um=1,1,1")), quick=True
    )
    assert [(shape, r.method, dict(r.settings), r.psf) for shape, r in asked] == [
        ((6, 128, 128), "diffusion", {"steps": 10}, seconds.PSF),
        ((6, 128, 128), "dps", {}, "sigma_um=1,1,1"),
    ]
    table = seconds_table(report)
    assert table.rows[0][:2] == ("diffusion", "steps 10")
    assert table.rows[1][1:3] == ("as it comes", "`sigma_um=1,1,1`")
    assert "6 × 128 × 128 voxels" in table.markdown()


def test_a_real_run_is_timed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = runner.run("seconds", "--out", tmp_path, "--methods", "srcnn", "--quick", "--json")
    record = json.loads(file.read_text(encoding="utf-8"))
    assert [row["method"] for row in record["rows"]] == ["srcnn"]
    assert 0.005 < record["rows"][0]["seconds"] < 100
    assert json.loads(capsys.readouterr().out)["shape_px"] == [6, 128, 128]


def test_a_method_that_is_not_timed_is_refused() -> None:
    with pytest.raises(MethodError, match="is not timed; known are"):
        runner.run("seconds", "--methods", "nothing")
