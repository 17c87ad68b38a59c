"""The judge judged: truths of every camera, planted errors after steps to the data, wrong PSFs."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.experiments.judge import (
    JudgeReport,
    Tally,
    judge_scene,
    judge_tables,
    measure_judge,
)
from benchmarks.judge_results import (
    HONEST,
    LIARS,
    expected_score,
    richardson_lucy,
    towards_the_data,
)
from benchmarks.judge_scenes import KINDS, make_scene
from benchmarks.machine import Machine
from zenhance.assess.reblur import FOUND_SIGMA
from zenhance.assess.verdict import decide
from zenhance.errors import RecipeError


@pytest.fixture(scope="module")
def walls():
    return make_scene("walls", 300.0, 11, read_photons=0.3)


@pytest.mark.parametrize(
    ("kind", "photons", "seed", "camera"),
    [
        # Cases in which the truth was called red: few photons and much read noise.
        ("sparse spots", 30.0, 1, {"gain": 2.0, "read_photons": 0.75, "background": 0.05}),
        ("sparse spots", 30.0, 2, {"gain": 4.0, "read_photons": 0.75, "background": 0.05}),
        ("filaments", 30.0, 3, {"gain": 10.0, "read_photons": 0.75, "background": 0.05}),
        ("walls", 0.3, 4, {"gain": 10.0, "read_photons": 0.3, "background": 0.05}),
        ("walls", 30.0, 5, {"gain": 4.0, "read_photons": 0.75, "haze": 1.0}),
        ("nuclei", 300.0, 6, {"gain": 2.0, "widening": 1.8, "haze": 5.0}),
    ],
)
def test_the_truth_agrees_with_the_measurement_of_every_camera(kind, photons, seed, camera):
    scene = make_scene(kind, photons, seed, **camera)
    report = judge_scene(scene, scene.truth)
    assert report.grade == "pass", report
    assert report.discrepancy_grade == "pass"
    assert not report.psf_doubtful
    assert report.spread_z == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("steps", [0, 1, 3, 6])
def test_a_hole_in_a_wall_stays_found_after_steps_towards_the_data(walls, steps):
    name = "hole of 2 × 3 × 3 voxels"
    planted = LIARS[name](walls, np.random.default_rng(0))
    wrong = towards_the_data(walls, planted, steps)
    error = planted - walls.truth
    left = np.sum((wrong - towards_the_data(walls, walls.truth, steps)) * error) / np.sum(error**2)
    assert left > 0.9
    report = judge_scene(walls, wrong)
    assert decide(report, None).light != "green", report
    assert any(place.score > 0 for place in report.places)
    honest = judge_scene(walls, towards_the_data(walls, walls.truth, steps))
    assert honest.grade == "pass", honest


@pytest.mark.parametrize("name", LIARS)
def test_a_planted_error_above_the_detection_limit_is_not_green(walls, name):
    wrong = LIARS[name](walls, np.random.default_rng(1))
    report = judge_scene(walls, wrong)
    assert expected_score(walls, wrong, walls.truth) > report.threshold_z + FOUND_SIGMA
    assert decide(report, None).light != "green"


@pytest.mark.parametrize("name", [n for n in HONEST if "TV" not in n])
def test_an_honest_result_is_not_red(name):
    scene = make_scene("spots", 60.0, 4, gain=2.0, read_photons=0.3)
    method, deblurred = HONEST[name]
    assert decide(judge_scene(scene, method(scene), deblurred=deblurred), None).light != "red"


@pytest.mark.parametrize(("factor", "light"), [(0.7, "amber"), (1.0, "green"), (1.4, "amber")])
def test_a_psf_that_made_the_result_too_is_doubted_by_the_stack_itself(factor, light):
    scene = make_scene("spots", 100.0, 500, gain=2.0, read_photons=0.3)
    wrong = replace(scene, profile=scene.profile.widened(factor, factor))
    report = judge_scene(wrong, richardson_lucy(wrong, 30))
    assert decide(report, None).light == light
    assert report.psf_doubtful == (light == "amber")


@pytest.mark.parametrize("factor", [0.7, 0.85, 1.2, 1.4])
def test_the_truth_with_a_wrong_psf_is_doubtful_and_not_red(factor):
    scene = make_scene("nuclei", 100.0, 5)
    wrong = replace(scene, profile=scene.profile.widened(factor, factor))
    report = judge_scene(wrong, scene.truth)
    assert decide(report, None).light == "amber"
    assert report.psf_doubtful


def test_the_scenes_have_the_light_and_the_noise_that_they_state():
    for kind in KINDS:
        scene = make_scene(kind, 40.0, 2, gain=4.0, read_photons=0.75)
        seen = scene.expected(scene.truth) + 0.5
        counts = (scene.measured - 100.0) / 4.0
        inner = (slice(8, -8), slice(8, -8), slice(8, -8))
        assert counts[inner].mean() == pytest.approx(seen[inner].mean(), rel=0.05)
        noise = np.var((counts - seen)[inner])
        assert noise == pytest.approx(seen[inner].mean() + 0.75**2 + 1 / 192, rel=0.05)


def test_the_table_counts_lights_and_says_what_was_found():
    tally = Tally("hole, 6 steps", 1, 2, 1, 0, 0, 3, 3, 3.9)
    machine = Machine("Some CPU", 2, 2, "", "3.12", "2.13")
    parts = {"truths": (Tally("truth", 9, 1),), "errors": (tally,)}
    tables = judge_tables(JudgeReport(parts, machine))
    assert tables["judge_truths"].rows[0][:5] == ("truth", "10", "9", "1", "0")
    assert tables["judge_errors"].rows[0][-3:] == ("98%", "3", "3")
    assert all(len(t.header) == len(t.rows[0]) for t in tables.values())
    with pytest.raises(RecipeError, match="parts are truths, honest"):
        measure_judge(Namespace(parts=("lies",)), lambda *_: None)
