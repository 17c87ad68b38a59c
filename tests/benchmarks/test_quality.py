"""The quality table.

Everybody gets a row, failures too, and the figures are those of the images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import runner
from benchmarks.contenders import Contender, list_contenders, select
from benchmarks.experiments.quality import by_depth_table, by_stack_table, quality_table
from benchmarks.judging import DEPTH_EDGES_UM, QualityReport, measure_quality
from benchmarks.measures import blurred_psnr_db, psnr_by_depth_db
from benchmarks.scenes import Plan, held_out_seeds
from benchmarks.sheet import GAP_PX, TILE_PX, TITLE_PX, picture_sheet
from benchmarks.tables import mean_sd
from zenhance.contract import registry
from zenhance.errors import MethodError, StackError
from zenhance.models.checkpoint import dump_checkpoint
from zenhance.models.header import Card

PLANS = tuple(
    Plan(title, "meristem", seed, (12, 48, 48), (0.5, 0.22, 0.22), microscope)
    for seed, (title, microscope) in enumerate([("default", {}), ("dim", {"preset": "dim"})])
)


def save_model(
    folder: Path, name: str, scale: int = 1, recipe: dict[str, object] | None = None
) -> None:
    """Write a tiny untrained SRCNN."""
    architecture = {"kernels": (3, 1, 3), "widths": (4, 4), "scale": scale}
    torch.manual_seed(0)
    learner = registry.load("srcnn").learner()  # type: ignore[attr-defined]
    network = learner.build(architecture).eval()
    measured = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        restored = learner.predict(network, measured)
    card = Card(
        method="srcnn", name=name, version="0", architecture=architecture, recipe=recipe or {}
    )
    (folder / f"{name}.safetensors").write_bytes(
        dump_checkpoint(card, network.state_dict(), measured, restored)
    )


@pytest.fixture(scope="module")
def own_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weights")
    save_model(folder, "mine")
    save_model(folder, "mine_x2", scale=2)
    specimen, seed = min(held_out_seeds())
    save_model(
        folder,
        "cheat",
        recipe={"data": {"simulated": [{"specimen": specimen, "seed": seed, "count": 1}]}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZENHANCE_WEIGHTS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def report(own_models: Path) -> QualityReport:
    wanted = select(
        list_contenders(),
        ["truth", "ideal_denoiser", "gaussian_smoothing", "rl", "mine", "mine_x2", "cubic_x2"],
    )
    return measure_quality(
        (*wanted, Contender("broken", "broken model", "srcnn", weights="nowhere")), PLANS
    )


def psnr(report: QualityReport, name: str, stack: int) -> float:
    figures = report.outcomes[name][stack].figures
    assert figures is not None
    return figures.quality.psnr_db


def test_every_method_and_every_model_has_a_row(own_models: Path) -> None:
    rows = list_contenders()
    assert set(registry.names()) == {row.method for row in rows if row.method}
    assert len({row.name for row in rows}) == len(rows)
    by_name = {row.name: row for row in rows}
    assert by_name["mine"].scale == 1
    assert (by_name["mine_x2"].scale, by_name["mine_x2"].settings) == (2, {"scale": 2})
    assert "cubic_x2" in by_name
    assert not by_name["identity"].deblurs
    assert {"imagej", "imagej_rl10", "imagej_wpl5", "wiener", "rl", "rl_tv"} <= set(by_name)
    assert "mine" not in {row.name for row in list_contenders(own_models=False)}


def test_a_model_trained_on_the_test_is_called_out(own_models: Path) -> None:
    (row,) = (row for row in list_contenders() if row.name == "cheat")
    assert "its figures are worthless" in row.note


def test_rows_are_chosen_by_method_or_name_and_the_measurement_stays(own_models: Path) -> None:
    assert {"identity", "mine", "mine_x2", "cheat"} <= {
        row.name for row in select(list_contenders(), ["srcnn"])
    }
    assert [row.name for row in select(list_contenders(), ["rl"])] == ["identity", "rl"]
    with pytest.raises(MethodError, match='has no row "wienr"; did you mean "wiener"'):
        select(list_contenders(), ["wienr"])


def test_the_truth_is_perfect_and_bounds_the_others(report: QualityReport) -> None:
    assert psnr(report, "truth", 0) == math.inf
    for stack in range(2):
        assert psnr(report, "ideal_denoiser", stack) > psnr(report, "identity", stack)
        assert psnr(report, "rl", stack) > psnr(report, "identity", stack) + 1
        assert psnr(report, "gaussian_smoothing", stack) >= psnr(report, "identity", stack) - 0.3


def test_the_identity_row_is_the_measurement(report: QualityReport) -> None:
    scene = PLANS[0].make()
    low, high = np.percentile(scene.truth, [0.1, 99.9])
    rmse = np.sqrt(np.mean((scene.measured.read().astype(np.float64) - scene.truth) ** 2))
    assert psnr(report, "identity", 0) == pytest.approx(
        20 * math.log10((high - low) / rmse), abs=1e-4
    )


def test_a_model_that_enlarges_gets_larger_pixels_and_is_judged_on_the_fine_truth(
    report: QualityReport,
) -> None:
    for name in ("mine_x2", "cubic_x2"):
        figures = report.outcomes[name][0].figures
        assert figures is not None
        assert math.isfinite(figures.quality.psnr_db)
    assert report.crops["mine_x2"].shape == report.crops["truth"].shape


def test_each_row_has_its_psnr_against_the_blurred_specimen_and_by_depth(
    report: QualityReport,
) -> None:
    scene = PLANS[0].make()
    rl, raw, ideal = (
        report.outcomes[name][0].figures for name in ("rl", "identity", "ideal_denoiser")
    )
    assert rl is not None
    assert raw is not None
    assert ideal is not None
    assert raw.blurred_psnr_db == pytest.approx(
        blurred_psnr_db(scene.measured.read().astype(np.float32), scene, deblurred=False)
    )
    assert raw.blurred_psnr_db + 3 < rl.blurred_psnr_db < ideal.blurred_psnr_db == math.inf
    assert raw.depth_psnr_db == psnr_by_depth_db(
        scene.measured.read().astype(np.float32), scene, DEPTH_EDGES_UM
    )


def test_the_depth_table_has_gain_and_psnr_of_each_layer(report: QualityReport) -> None:
    table = by_depth_table(report)
    assert table.header[1::2] == tuple(
        f"{layer}: gain dB" for layer in ("0-5 µm", "5-10 µm", "> 10 µm")
    )
    rows = {row[0]: row[1:] for row in table.rows}
    assert all(len(row) == len(table.header) for row in table.rows)
    assert rows["broken model"][0] == "failed"
    assert rows["measured (identity)"][0] == "0.00 ± 0.00"
    assert rows["measured (identity)"][-2:] == ("-", "-")  # these stacks are not as deep
    figures = {
        name: [o.figures for o in report.outcomes[name] if o.figures] for name in ("identity", "rl")
    }
    raw, rl = (
        [f.depth_psnr_db[0] or math.nan for f in figures[name]] for name in ("identity", "rl")
    )
    assert rows["RL 3-D, stop rule"][0] == mean_sd([a - b for a, b in zip(rl, raw, strict=True)], 2)
    assert rows["RL 3-D, stop rule"][1] == mean_sd(rl, 2)


def test_the_gain_against_the_blurred_specimen_stands_beside_that_against_the_truth(
    report: QualityReport,
) -> None:
    table = quality_table(report)
    place = table.header.index("gain re-blurred")
    rows = {row[0]: row[place] for row in table.rows}
    assert rows["measured (identity)"] == "0.00 ± 0.00"
    assert rows["ideal denoiser"] == "∞"
    assert "gain re-blurred" not in table.narrow().header
    assert any(
        line.startswith("Gain re-blurred, dB: the result blurred again") for line in table.foot
    )


def test_a_failure_keeps_its_row_and_says_why(report: QualityReport) -> None:
    table = quality_table(report)
    (row,) = (row for row in table.rows if row[0] == "broken model")
    assert row[1] == "failed"
    assert "failed" in table.narrow().rows[-1]
    assert len(row) == len(table.header)
    assert any(
        line.startswith('broken model: failed, there are no weights "nowhere" for srcnn')
        for line in table.foot
    )
    assert any("failed" in row for row in by_stack_table(report).rows)


def test_the_table_says_how_it_was_measured(report: QualityReport) -> None:
    table = quality_table(report)
    foot = " ".join(table.foot)
    assert all(len(row) == len(table.header) for row in table.rows)
    assert "2 simulated meristems of 12 × 48 × 48 voxels" in foot
    assert "default 0, dim 1" in foot
    assert "σ " in foot
    assert report.machine.cpu in foot
    identity = next(row for row in table.rows if row[0] == "measured (identity)")
    assert identity[1] == "0.00 ± 0.00"
    assert max(len(row[0]) for row in table.narrow().rows) + 3 + 4 * 16 < 120
    json.dumps(report.record())


def test_the_best_method_of_a_stack_is_in_bold_but_no_reference(report: QualityReport) -> None:
    rows = {row[0]: row[1:] for row in by_stack_table(report).rows}
    assert rows["RL 3-D, stop rule"] == tuple(f"**{psnr(report, 'rl', n):.2f}**" for n in range(2))
    assert not any("**" in cell for cell in rows["the truth itself"] + rows["ideal denoiser"])


def test_mean_and_deviation_are_those_of_a_sample() -> None:
    assert mean_sd([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert mean_sd([1.5], 1) == "1.5"
    assert mean_sd([], 1) == "-"
    assert mean_sd([math.inf, math.inf], 1) == "∞"


def test_the_sheet_shows_all_crops_at_one_contrast() -> None:
    ramp = np.tile(np.linspace(0, 100, 40, dtype=np.float32), (2, 40, 1))
    sheet = np.asarray(
        picture_sheet({"truth": ramp * 5, "a": ramp, "b": ramp / 2}, (1.0, 2.0), 0.2)
    ).astype(int)
    top = 2 * TITLE_PX + GAP_PX

    def tile(number: int) -> np.ndarray:
        left = GAP_PX + number * (2 * TILE_PX + 3 + GAP_PX)
        return sheet[top : top + TILE_PX, left : left + TILE_PX]

    assert tile(1)[:, -1].mean() > 250
    assert tile(2)[:, -1].mean() == pytest.approx(tile(1)[:, -1].mean() / 2, abs=5)
    assert tile(0)[:, TILE_PX // 4].mean() > 250
    with pytest.raises(StackError, match="a picture sheet needs crops of one shape"):
        picture_sheet({"a": ramp, "b": ramp[:, :30]}, (1.0, 2.0), 0.2)


def test_the_command_writes_tables_picture_and_figures(
    report: QualityReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "docs" / "benchmark.md"
    page.parent.mkdir()
    page.write_text(
        "".join(
            f"<!-- begin {m} -->\nworn text\n<!-- end {m} -->\n"
            for m in ("quality", "depths", "microscopes")
        ),
        encoding="utf-8",
    )
    monkeypatch.setattr(runner, "DOCS", page.parent)
    monkeypatch.setattr("benchmarks.experiments.quality.measure_quality", lambda *_, **__: report)
    files = runner.run("quality", "--out", tmp_path / "out", "--write-docs")
    assert {f.name for f in files} == {"quality.json", "quality_sheet.png", "benchmark.md"}
    with Image.open(page.parent / "images" / "quality_sheet.png") as drawn:
        assert drawn.size[0] > 1000
    text = page.read_text(encoding="utf-8")
    assert "worn text" not in text
    assert "| RL 3-D, stop rule |" in text
    assert "broken model: failed" in capsys.readouterr().out
    runner.run("quality", "--json")
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["rows"]) == len(report.contenders)
