"""Resolution and honesty are measured as stated.

Known answers for the truth, the blur, an inventor and an eraser.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks import runner
from benchmarks.experiments import resolution, sweep, universal
from benchmarks.experiments.beads import bead_widths_um, find_beads
from benchmarks.experiments.photographs import (
    METHODS,
    PhotographReport,
    Setting,
    aligned_psnr_db,
    photographs_table,
    read_photographs,
)
from benchmarks.experiments.resolution import ResolutionReport, factor_table, honesty_table
from benchmarks.experiments.sweep import FACTORS, SweepReport, SweepRow, measured_row, sweep_table
from benchmarks.experiments.universal import universality_table
from benchmarks.hallucination import judge_honesty, noise_structures
from benchmarks.machine import describe_machine
from benchmarks.resolving import (
    Sharpness,
    filaments,
    line_chart,
    line_width_px,
    ring_limit_px,
    smallest_distance_px,
    thin_lines,
)
from benchmarks.rivals import FineMicroscope, enlarged
from zenhance.errors import ReadError
from zenhance.methods.dps.optics import DpsArchitecture
from zenhance.physics.psf import parse_psf
from zenhance.training.recipe import Recipe
from zenhance.types import FloatArray

SCOPE = FineMicroscope(parse_psf("srpsf:fwhm_um=0.09", 2), 0.03)
RAYLEIGH_PX = 3.0 * 3.8317 / (2 * 1.61634)


def test_lines_through_a_microscope_are_resolved_down_to_about_rayleighs_distance() -> None:
    chart = line_chart(SCOPE, 900)
    measured = smallest_distance_px(enlarged(chart.expected, 2), chart, SCOPE)
    assert measured == pytest.approx(RAYLEIGH_PX, rel=0.12)
    assert smallest_distance_px(chart.truth, chart, SCOPE) == pytest.approx(1.5)
    assert np.isnan(smallest_distance_px(ndimage.gaussian_filter(chart.truth, 20), chart, SCOPE))


def test_a_line_is_as_wide_as_the_psf() -> None:
    lines = thin_lines(SCOPE, 900)
    assert line_width_px(enlarged(lines.expected, 2), lines) == pytest.approx(2.85, abs=0.25)
    assert line_width_px(lines.truth, lines) < 0.9
    wide = ndimage.gaussian_filter(lines.truth, 2 * 5 / 2.3548)
    assert line_width_px(wide, lines) == pytest.approx(5.0, abs=0.4)


def test_rings_agree_down_to_what_a_blur_leaves() -> None:
    scene = filaments(SCOPE, 900)
    assert ring_limit_px(scene.truth, scene) == pytest.approx(1.0)
    noisy = enlarged(scene.measured(50, 1), 2)
    assert 2.0 < ring_limit_px(noisy, scene) < 6.0


def test_richardson_lucy_sharpens_and_explains_what_was_measured() -> None:
    chart = line_chart(SCOPE, 901)
    y = chart.measured(500, 1)
    found = dict(SCOPE.richardson_lucy(y, 0.02))
    distances = [smallest_distance_px(found[n], chart, SCOPE) for n in (10, 45)]
    assert distances[1] < distances[0] < smallest_distance_px(enlarged(y, 2), chart, SCOPE)
    assert float(np.abs(SCOPE.expected(found[45]) - y).mean()) < float(
        np.abs(SCOPE.expected(found[4]) - y).mean()
    )
    assert float(found[45].mean()) == pytest.approx(float(y.mean()), rel=0.1)


def _plain(y: FloatArray) -> FloatArray:
    return enlarged(y, 2)


def _inventing(y: FloatArray) -> FloatArray:
    """Smooth, and a spot wherever noise stands out."""
    smooth = ndimage.gaussian_filter(y, 1.5)
    peaks = (smooth == ndimage.maximum_filter(smooth, 9)) & (smooth > smooth.mean())
    return enlarged(smooth + ndimage.gaussian_filter(peaks * 60.0 * y.mean(), 1.0), 2)


def _erasing(y: FloatArray) -> FloatArray:
    """Keep what is long, take out spots."""
    return enlarged(np.minimum(y, ndimage.median_filter(y, 9)), 2)


def test_an_inventor_is_found_out_by_noise_alone() -> None:
    honest, _ = noise_structures(
        lambda y: enlarged(ndimage.gaussian_filter(y, 2.0), 2), SCOPE, 10.0
    )
    lied, _ = noise_structures(_inventing, SCOPE, 10.0)
    assert lied > 2 * honest


def test_what_does_nothing_keeps_light_and_proportion() -> None:
    found = judge_honesty(_plain, SCOPE)
    assert found.injected == pytest.approx((1.0, 1.0, 1.0), abs=0.25)
    assert found.doubled == pytest.approx(2.0, rel=0.05)
    assert found.scaled < 1e-5
    assert abs(found.mean_error) < 0.01


def test_an_eraser_loses_beads() -> None:
    assert judge_honesty(_erasing, SCOPE).injected[0] < 0.5


def test_tables_say_whether_the_goal_is_reached() -> None:
    sharp = {
        "measurement": {100.0: Sharpness(3.6, 3.0, 3.3)},
        "DPS": {100.0: Sharpness(1.8, 2.0, 1.65)},
    }
    honest = {"DPS": judge_honesty(_plain, SCOPE)}
    report = ResolutionReport((100.0,), sharp, honest, describe_machine(), "w")
    text = factor_table(report).markdown()
    assert (
        "2.00 for line pairs (reached), 1.50 for thin lines (0.17 short), 2.00 for rings (reached)"
        in text
    )
    assert "| DPS |" in honesty_table(report).markdown()
    psnr = {
        kind: dict.fromkeys(("filaments", "membranes", "dots", "rings"), 20.0)
        for kind in ("filaments", "membranes", "dots", "rings")
    }
    psnr["dots"]["rings"] = 18.5
    words = universality_table(psnr, {k: k for k in psnr}).markdown()
    assert "largest loss is 1.50 dB, of the one trained on dots on rings" in words
    assert "which is missed" in words


def test_photographs_are_read_cropped_and_scaled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(20, 200, (91, 101), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "readme.txt").write_text("no picture")
    found = read_photographs(tmp_path)
    assert list(found) == ["a"]
    assert found["a"].shape == (90, 100)
    assert (found["a"].min(), found["a"].max()) == (0.0, 1.0)
    with pytest.raises(ReadError, match="no picture"):
        read_photographs(tmp_path / "none")
    (tmp_path / "broken.png").write_bytes(b"no")
    with pytest.raises(ReadError, match="cannot be read as a picture"):
        read_photographs(tmp_path)


def test_the_psnr_is_after_alignment_and_the_mean_is_told() -> None:
    truth = np.random.default_rng(0).random((80, 80)).astype(np.float32)
    assert aligned_psnr_db(3 * truth + 7, truth) > 60
    noisy = truth + np.random.default_rng(1).normal(0, 0.1, truth.shape).astype(np.float32)
    assert aligned_psnr_db(noisy, truth) == pytest.approx(20.5, abs=0.7)
    report = PhotographReport(Setting(), "w", {"a": {m: 20.0 + n for n, m in enumerate(METHODS)}})
    assert "DPS is 5.00 dB above the best iteration of RL" in photographs_table(report).markdown()


def test_widths_of_beads_are_those_they_were_made_with() -> None:
    volume = np.zeros((5, 90, 90), np.float32)
    for y, x in ((30, 30), (60, 55)):
        volume[2, y, x] = 1000.0
    blurred = ndimage.gaussian_filter(volume, (0.8, 4.0, 4.0)) + 3
    places = find_beads(blurred, (0.05, 0.05))
    assert [(y, x) for _, y, x in sorted(places)] == [(30, 30), (60, 55)]
    assert bead_widths_um(blurred, places, (0.05, 0.05), 0.8) == pytest.approx(
        (0.471, 0.471), rel=0.04
    )


def test_a_sweep_says_which_term_was_changed_and_what_came_of_it() -> None:
    rows = (
        SweepRow("", 1.0, Sharpness(2.0, 1.5, 1.2), 27.5, 0.95, 300.0),
        SweepRow("hessian", 0.01, Sharpness(2.6, 1.9, 1.4), 27.0, 0.99, 20.0),
    )
    report = SweepReport(50, rows)
    table = sweep_table(report)
    assert table.rows[0][:3] == ("as shipped", "-", "2.00")
    assert table.rows[1] == ("hessian", "0.01", "2.60", "1.90", "1.40", "27.00", "0.990", "20")
    assert "for 50 steps" in table.markdown()
    assert report.record()["rows"][1]["sharpness"]["pairs_px"] == 2.6
    known = set(DpsArchitecture.model_fields)
    assert set(FACTORS) <= known


def test_the_sweep_begins_with_the_measurement_itself() -> None:
    row = measured_row()
    assert (row.term, sweep_table(SweepReport(1, (row,))).rows[0][:2]) == (
        "measurement",
        ("measurement", "-"),
    )
    assert row.sharpness.pairs_px == pytest.approx(RAYLEIGH_PX, rel=0.12)
    assert row.deviance > 1.1


def test_universal_trains_a_network_on_each_kind_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, object, object]] = []

    def train(recipe: Recipe, folder: Path, device: str) -> None:
        (plan,) = recipe.data.simulated
        trained.append((plan.settings["kind"], recipe.minutes, device))
        folder.mkdir(parents=True)
        (folder / f"{recipe.name}.safetensors").write_bytes(b"")

    def measured(models: dict[str, str], device: str) -> dict[str, dict[str, float]]:
        assert all(Path(models[kind]).is_file() for kind in universal.KINDS)
        rows = ("measurement", *models)
        return {name: dict.fromkeys(universal.KINDS, 20.0) for name in rows}

    monkeypatch.setattr(universal, "train", train)
    monkeypatch.setattr(universal, "measure_universality", measured)
    for _ in range(2):
        (file,) = runner.run("universal", "--out", tmp_path, "--minutes", "90s", "--json")
    assert trained == [(kind, 1.5, "cpu") for kind in universal.KINDS]
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["minutes"] == 1.5
    assert set(record["psnr_db"]) == {"measurement", *universal.KINDS, "mixed (ships)"}


def test_resolution_and_sweep_write_their_tables_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "methods" / "dps.md"
    page.parent.mkdir()
    marks = ("resolution", "honesty", "sweep")
    page.write_text(
        "".join(f"<!-- begin {m} -->\nworn\n<!-- end {m} -->\n" for m in marks), encoding="utf-8"
    )
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    sharp = {name: {50.0: Sharpness(2.0, 2.0, 2.0)} for name in ("measurement", "DPS")}
    asked: list[object] = []

    def resolved(**options: object) -> ResolutionReport:
        asked.append(options["quick"])
        return ResolutionReport((50.0,), sharp, {}, describe_machine(), "w")

    def swept(steps: int, **_: object) -> SweepReport:
        asked.append(steps)
        return SweepReport(steps, (SweepRow("", 1.0, Sharpness(2, 2, 2), 27.5, 0.95, 300.0),))

    monkeypatch.setattr(resolution, "measure_resolution", resolved)
    monkeypatch.setattr(sweep, "measure_sweep", swept)
    runner.run("resolution", "--quick", "--write-docs")
    runner.run("sweep", "--steps", "7", "--write-docs", "--out", tmp_path / "out")
    assert asked == [True, 7]
    text = page.read_text(encoding="utf-8")
    assert "worn" not in text
    assert "| line pairs: DPS | 2.00 (1.00 ×) |" in text
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["steps"] == 7
