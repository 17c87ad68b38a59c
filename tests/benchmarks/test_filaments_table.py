"""The report's table.

No truth in training, a generous rival, spreads over seeds, and nothing measured twice.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import runner
from benchmarks.experiments import filaments
from benchmarks.experiments.filaments import filaments_table, loss_panels
from benchmarks.filaments import measure
from benchmarks.filaments.measure import (
    FilamentReport,
    RowScore,
    measure_filaments,
    report_psnr_db,
    unseen_plans,
)
from benchmarks.filaments.rivals import best_by_truth
from benchmarks.filaments.rows import (
    PRESETS,
    ROWS,
    TEST_SEED,
    TRAINING_SEED,
    FilamentOptions,
    Row,
)
from benchmarks.filaments.training import (
    data_without_truth,
    input_of,
    nats_per_latent,
    samples_per_second,
)
from benchmarks.machine import Machine
from benchmarks.scenes import domain_plans
from zenhance.methods.divblurring.network import Vae
from zenhance.methods.divblurring.training import VaeLearner
from zenhance.models.catalogue import list_weights
from zenhance.models.checkpoint import load_network, read_checkpoint
from zenhance.training.data import load_volumes
from zenhance.training.recipe import load_recipe
from zenhance.types import FloatArray

SET1, SET2 = PRESETS
TINY = FilamentOptions(
    images=3,
    repeats=2,
    steps=3,
    test_images=2,
    samples=3,
    iterations=12,
    shape_px=(1, 64, 64),
    test_seed=910,
)
MACHINE = Machine("Some CPU", 2, 2, "", "3.12", "2.13")
DOCS = Path(__file__).resolve().parents[2] / "docs"


def row(name: str) -> Row:
    return next(r for r in ROWS if r.name == name)


def wave(shape: tuple[int, int, int], across: int) -> np.ndarray:
    """Waves of different numbers of periods have nothing in common, nor with a constant."""
    return np.broadcast_to(
        np.sin(2 * np.pi * across * np.arange(shape[2]) / shape[2]), shape
    ).astype(np.float32)


def test_psnr_is_the_peak_of_the_light_over_the_error_that_no_scale_or_offset_takes_away() -> None:
    light, wrong = 3 * wave((1, 4, 64), 2), 0.1 * wave((1, 4, 64), 5)
    assert report_psnr_db(5 * light + 7, light) > 120
    expected = 20 * math.log10(float(light.max()) / float(np.sqrt(np.mean(np.square(wrong)))))
    assert report_psnr_db(20 * (light + wrong) - 3, light) == pytest.approx(expected, abs=1e-2)


def test_the_truth_chooses_the_best_of_all_iterations_and_weights() -> None:
    scene = unseen_plans(SET2, TINY)[0].make()
    light = np.asarray(scene.truth - scene.microscope.offset, np.float32)
    raw = report_psnr_db(scene.measured.read().astype(np.float32), light)
    few = best_by_truth(scene, light, (0.0,), 3, report_psnr_db)
    many = best_by_truth(scene, light, (0.0,), 40, report_psnr_db)
    both = best_by_truth(scene, light, (0.0, 0.0003), 40, report_psnr_db)
    assert raw < few.psnr_db < many.psnr_db <= both.psnr_db
    assert few.iteration == 3
    assert 3 < many.iteration <= 40
    seen: list[float] = []

    def noted(image: FloatArray, truth: FloatArray) -> float:
        seen.append(report_psnr_db(image, truth))
        return seen[-1]

    best_by_truth(scene, light, (0.0,), 40, noted)
    assert max(seen) == many.psnr_db
    assert seen.index(max(seen)) + 1 == many.iteration


def test_training_images_have_optics_and_no_truth_and_are_none_that_anything_is_tested_on() -> None:
    recipe = load_recipe("divblurring_paper").model_copy(
        update={"data": data_without_truth(SET1, 2, TRAINING_SEED, (1, 64, 64))}
    )
    train, held = load_volumes(recipe)
    assert all(v.truth is None and v.optics_of is not None for v in train + held)
    assert len(train) == 2
    tested = {plan.seed for plan in domain_plans()["filaments"]} | set(
        range(TEST_SEED, TEST_SEED + 40)
    )
    assert not tested & set(range(TRAINING_SEED, TRAINING_SEED + 10_000))


def test_no_model_that_ships_has_seen_the_test_images() -> None:
    tested = set(range(TEST_SEED, TEST_SEED + FilamentOptions().test_images))
    for contender in (r.contender for r in ROWS if r.contender is not None and r.contender.weights):
        for entry in list_weights(contender.method):
            for plan in (
                entry.card.recipe.get("data", {}).get("simulated", ())
                if entry.name == contender.weights
                else ()
            ):
                first = int(plan["seed"])
                seen = range(first, first + int(plan["count"]) + int(plan["validation"]))
                assert plan["specimen"] != "filaments" or not tested & set(seen), entry.name


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("filaments")


@pytest.fixture(scope="module")
def report(kept: Path) -> FilamentReport:
    rows = [
        row(name) for name in ("raw", "rl_best", "divnoising", "divblurring_both", "ladder_alone")
    ]
    return measure_filaments(TINY, rows=rows, sets=(SET1,), folder=kept)


@pytest.mark.slow
def test_each_training_from_another_seed_has_a_figure_for_each_unseen_image(
    report: FilamentReport,
) -> None:
    scores = report.scores[SET1]
    assert {name: score.failure for name, score in scores.items()} == dict.fromkeys(scores, "")
    assert np.shape(scores["raw"].psnr_db) == np.shape(scores["rl_best"].psnr_db) == (1, 2)
    assert np.shape(scores["ladder_alone"].psnr_db) == (1, 2)
    for name in ("divnoising", "divblurring_both"):
        assert np.shape(scores[name].psnr_db) == (2, 2)
        assert scores[name].psnr_db[0] != scores[name].psnr_db[1]
    assert scores["rl_best"].by_repeat()[0] > scores["raw"].by_repeat()[0]
    assert scores["raw"].by_image() == list(scores["raw"].psnr_db[0])


@pytest.mark.slow
def test_each_level_says_its_nats_and_the_loss_is_followed(report: FilamentReport) -> None:
    scores = report.scores[SET1]
    assert [
        len(scores[name].nats) for name in ("raw", "divnoising", "divblurring_both", "ladder_alone")
    ] == [0, 1, 1, 3]
    assert [step for step, _ in scores["divnoising"].loss] == [1, 2, 3]
    assert {s.title for s in report.speeds} == {"the report's network", "the ladder"}
    assert all(s.per_second > 0 and s.shape_px == (64, 64) for s in report.speeds)


@pytest.mark.slow
def test_what_was_trained_and_judged_is_taken_up_unless_other_things_are_asked_for(
    report: FilamentReport, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(measure, "trained", refuse)
    again = measure_filaments(TINY, rows=[row("divnoising")], sets=(SET1,), folder=kept)
    assert again.scores[SET1]["divnoising"] == report.scores[SET1]["divnoising"]
    other = measure_filaments(
        replace(TINY, samples=4), rows=[row("divnoising")], sets=(SET1,), folder=kept
    )
    assert "trained again" in other.scores[SET1]["divnoising"].failure


@pytest.mark.slow
def test_nats_a_latent_are_the_mean_divergence(report: FilamentReport, kept: Path) -> None:
    path = kept / SET1 / "divnoising_0" / "divnoising_0.safetensors"
    seen = input_of(path, unseen_plans(SET1, TINY)[0].make())
    network = load_network(read_checkpoint(path), VaeLearner(), "cpu").eval()
    assert isinstance(network, Vae)
    with torch.inference_mode():
        mean, log_variance = network.encode(seen).features[0].chunk(2, 1)
        by_hand = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    assert nats_per_latent(path, [seen, seen]) == pytest.approx([float(by_hand)], rel=1e-4)
    assert samples_per_second("x", path, seen, 3, "cpu").per_second > 0


def test_a_row_that_fails_says_so_and_the_others_stay() -> None:
    wrong = Row("wrong", "Wrong", architecture={"kl_wieght": 1.0})
    found = measure_filaments(replace(TINY, repeats=1), rows=[row("raw"), wrong], sets=(SET2,))
    table = filaments_table(found)
    assert table.rows[1][:2] == ("Wrong", "failed")
    assert table.rows[0][1] != "failed"
    assert any(line.startswith("Wrong: ") and "kl_weight" in line for line in table.foot)


def scored(*by_repeat: tuple[float, ...], **more: Any) -> RowScore:
    return RowScore(by_repeat, **more)


def test_the_table_has_the_reports_figures_beside_ours_and_says_who_is_better() -> None:
    names = ("raw", "rl_best", "divnoising", "divblurring_plain", "divblurring_l1", "ladder_alone")
    scores = {
        "raw": scored((22.0, 24.0)),
        "rl_best": scored((26.0, 28.0), note="iterations 3 to 9 by image, 5 in the middle"),
        "divnoising": scored(
            (22.1, 24.1), (22.3, 24.3), nats=(0.5,), loss=((1.0, 10.0), (2.0, 1.0))
        ),
        "divblurring_plain": scored(
            (23.0, 25.0), (23.2, 25.2), nats=(0.4,), loss=((1.0, 9.0), (2.0, 0.9))
        ),
        "divblurring_l1": scored((23.5, 25.5), (23.5, 25.5), nats=(0.4,)),
        "ladder_alone": scored((25.0, 29.0), (25.0, 29.0), nats=(0.1, 0.2, 0.3)),
    }
    found = FilamentReport(tuple(row(n) for n in names), TINY, {SET1: scores}, MACHINE)
    table = filaments_table(found)
    plain = table.rows[3]
    assert plain == ("DivBlurring", "24.10 ± 0.14", "1.10 ± 0.14", "0.4", "27.60")
    assert table.rows[0][1:] == ("23.00", "0.00", "-", "-")
    assert table.rows[5][3] == "0.1 / 0.2 / 0.3"
    text = " ".join(table.foot)
    assert "DivBlurring against DivNoising +0.90 dB (better on 2 of 2 stacks)" in text
    assert "DivBlurring + ℓ1 against DivNoising +1.30 dB" in text
    assert (
        "learnt from these images alone against RL, best iteration by the truth +0.00 dB (better "
        "on 1 of 2 stacks)" in text
    )
    assert "iterations 3 to 9 by image" in text
    assert "simulator behind its figures is not published" in text
    panels = loss_panels(found)
    assert sorted(panels[0].lines) == ["DivBlurring", "DivNoising"]
    assert panels[0].lines["DivNoising"][1].tolist() == [1.0, 0.0]


@pytest.mark.slow
def test_table_and_plot_go_where_they_are_asked_for(
    report: FilamentReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "benchmark.md"
    page.write_text("<!-- begin filaments -->\n<!-- end filaments -->\n", encoding="utf-8")
    asked: list[FilamentOptions] = []

    def measured(options: FilamentOptions, **_: object) -> FilamentReport:
        asked.append(options)
        return report

    monkeypatch.setattr(filaments, "measure_filaments", measured)
    files = runner.run(
        "filaments", "--out", "out", "--images", "7", "--steps", "9", "--write-docs", "--json"
    )
    assert asked == [replace(FilamentOptions(), images=7, steps=9)]
    assert all(file.is_file() for file in files)
    assert {file.name for file in files} == {"filaments.json", "benchmark.md", "filaments_loss.png"}
    assert "| DivNoising | " in page.read_text(encoding="utf-8")
    assert set(
        json.loads((tmp_path / "out" / "filaments.json").read_text(encoding="utf-8"))["scores"]
    ) == {SET1}


def test_the_page_has_every_row() -> None:
    section = (
        (DOCS / "benchmark.md")
        .read_text(encoding="utf-8")
        .partition("<!-- begin filaments -->")[2]
        .partition("<!-- end filaments -->")[0]
    )
    titles = {
        line.split(" | ")[0].removeprefix("| ")
        for line in section.splitlines()
        if line.startswith("| ")
    }
    assert {r.title for r in ROWS} <= titles
