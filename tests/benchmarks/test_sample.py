"""The quality table on the bundled sample: what the documentation promises holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import runner
from benchmarks.experiments import sample
from benchmarks.experiments.sample import (
    CANDIDATES,
    SampleReport,
    measure_sample,
    sample_table,
)
from zenhance.errors import StackError
from zenhance.io import open_sample, open_stack


@pytest.fixture(scope="module")
def report() -> SampleReport:
    with pytest.MonkeyPatch.context() as patch:
        # The demo's rows; imagej's other forms are slower and asked for nowhere below.
        patch.setattr(
            sample,
            "CANDIDATES",
            tuple(c for c in CANDIDATES if c.name in {"raw", "gaussian", "imagej", "rl_tv"}),
        )
        return measure_sample()


@pytest.mark.slow
@pytest.mark.parametrize("rival", ["raw", "gaussian", "imagej"])
def test_3d_richardson_lucy_with_tv_and_stop_rule_beats(report: SampleReport, rival: str) -> None:
    best, other = report.row("rl_tv"), report.row(rival)
    assert best.quality.psnr_db > other.quality.psnr_db + 1
    assert best.quality.ssim > other.quality.ssim + 0.05
    assert best.quality.psnr_fit_db > other.quality.psnr_fit_db + 1
    assert best.quality.ssim_fit > other.quality.ssim_fit + 0.05
    assert best.cells.found > other.cells.found


@pytest.mark.slow
def test_the_raw_row_is_the_untouched_stack(report: SampleReport) -> None:
    truth = report.truth.read().astype(np.float64)
    rmse = np.sqrt(np.mean((open_sample(report.sample).read() - truth) ** 2))
    assert report.row("raw").quality.rmse == pytest.approx(rmse, rel=1e-6)


@pytest.mark.slow
def test_the_result_keeps_place_and_provenance(report: SampleReport) -> None:
    assert report.best.stack.voxel_size.zyx_um == report.measured.voxel_size.zyx_um
    assert report.psf.split("=")[1].split(",")[0] in report.best.provenance.psf


@pytest.mark.slow
def test_deep_cells_are_harder_than_shallow_ones(report: SampleReport) -> None:
    shares = [b.found / b.total for b in report.row("raw").cells.by_depth]
    assert shares[0] > 0.9 > 0.6 > shares[2] >= shares[3]


@pytest.mark.slow
def test_the_command_writes_stack_picture_figures_and_docs(
    report: SampleReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "docs" / "benchmark.md"
    page.parent.mkdir()
    page.write_text(
        "# Page\n<!-- begin sample -->\nold\n<!-- end sample -->\nrest\n", encoding="utf-8"
    )
    monkeypatch.setattr(runner, "DOCS", page.parent)
    monkeypatch.setattr(sample, "measure_sample", lambda *_, **__: report)
    files = runner.run("sample", "--out", tmp_path / "demo", "--write-docs")
    figures, stack, picture, *_ = files
    assert open_stack(stack).voxel_size.zyx_um == pytest.approx(report.measured.voxel_size.zyx_um)
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 1000
    assert len(json.loads(figures.read_text(encoding="utf-8"))["rows"]) == 4
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.endswith("rest\n")
    assert "RL 3-D, TV, stop rule" in text
    assert "Gaussian smoothing: σ = " in text
    shown = capsys.readouterr().out
    assert "PSNR dB" in shown
    assert "> 15 µm" not in shown  # 80 columns have no room for the depths; the page has
    assert "> 15 µm" in text
    assert f"wrote {stack}" in shown


def test_json_is_one_line_and_nothing_else(
    report: SampleReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sample, "measure_sample", lambda *_, **__: report)
    runner.run("sample", "--json")
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["sample"] == "meristem_deep"


@pytest.mark.slow
def test_the_table_names_range_psf_and_machine(report: SampleReport) -> None:
    table = sample_table(report)
    foot = " ".join(table.foot)
    assert "data range" in foot
    assert report.psf in foot
    assert report.machine.cpu in foot
    assert all(len(row) == len(table.header) for row in table.rows)


def test_a_sample_of_several_channels_is_refused() -> None:
    with pytest.raises(StackError, match='sample "meristem_two_channel" cannot be judged'):
        measure_sample("meristem_two_channel")
