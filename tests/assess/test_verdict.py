"""The verdict in words: what makes it red, amber or green."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zenhance.assess.heldout import HeldOutReport
from zenhance.assess.reblur import ReblurReport, detection_limit_photons
from zenhance.assess.verdict import decide

CLEAN = ReblurReport(
    grade="pass",
    flagged_share=0.0,
    missing_share=0.0,
    added_share=0.0,
    threshold_z=5.6,
    highest_z=4.0,
    lowest_z=-4.0,
    spread_z=0.9,
    judged_voxels=1000,
    width=1.0,
    width_at_bound=False,
    slope=1.0,
    offset=0.0,
    discrepancy=0.99,
    discrepancy_grade="pass",
    chi2_per_slice=(1.0, 1.0),
    correlation=0.9,
    expected_correlation=0.9,
    peak_photons=50.0,
    smallest_visible=0.05,
    smallest_visible_bright=0.2,
)
HELD = HeldOutReport("pass", 1.0, 1.1, 1.05, 0.01, 0.01)


def test_a_clean_result_is_green_and_says_what_could_not_be_seen():
    verdict = decide(CLEAN, HELD)
    assert verdict.light == "green"
    assert any("fainter than 5 %" in r for r in verdict.reasons)


@pytest.mark.parametrize(
    ("added", "missing", "words"),
    [
        (0.02, 0.001, "was not measured"),
        (0.001, 0.02, "missing from the result"),
        (0.01, 0.01, "in others"),
    ],
)
def test_a_flagged_result_is_red_and_says_which_way(added, missing, words):
    verdict = decide(
        replace(
            CLEAN,
            grade="fail",
            flagged_share=added + missing,
            added_share=added,
            missing_share=missing,
        ),
        None,
    )
    assert verdict.light == "red"
    assert words in verdict.headline


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grade": "warn", "flagged_share": 5e-4}, "look at the z-map"),
        ({"discrepancy": 0.4, "discrepancy_grade": "fail"}, "follows the noise"),
        ({"discrepancy": 0.93, "discrepancy_grade": "warn"}, "noise a little"),
        ({"discrepancy": 1.2, "discrepancy_grade": "fail"}, "fit to the measurement is off"),
        ({"width": 0.85, "width_at_bound": True}, "narrower than the one given"),
        ({"smallest_visible": 0.7}, "nothing can be judged"),
        ({"spread_z": 2.0}, "gain or offset"),
    ],
)
def test_each_doubt_makes_it_amber_and_is_named(change, words):
    verdict = decide(replace(CLEAN, **change), None)
    assert verdict.light == "amber"
    assert words in verdict.headline


def test_without_a_check_it_is_amber_with_the_reason():
    assert decide(None, None, "the voxel size is unknown").headline.endswith(
        "could not be judged: the voxel size is unknown."
    )
    assert decide(None, None).light == "amber"


def test_held_out_photons_can_turn_it_red_or_amber():
    assert decide(CLEAN, replace(HELD, grade="fail")).light == "red"
    assert decide(CLEAN, replace(HELD, grade="warn")).light == "amber"


def test_red_is_never_hidden_behind_a_doubt():
    bad = replace(
        CLEAN,
        grade="fail",
        flagged_share=0.05,
        added_share=0.05,
        smallest_visible=0.7,
        discrepancy=0.2,
        discrepancy_grade="fail",
    )
    verdict = decide(bad, replace(HELD, grade="warn"))
    assert verdict.light == "red"
    assert len(verdict.reasons) >= 3


def test_the_detection_limit_is_the_root_of_its_equation():
    found = detection_limit_photons(10.0, 2.0, 5.6)
    assert found == pytest.approx((5.6 + 1.645) / 2.0 * (10.0 + found / 2) ** 0.5)
    assert detection_limit_photons(1.0, 2.0, 5.6) < found < detection_limit_photons(10.0, 1.0, 5.6)


def test_a_few_places_are_named_without_changing_the_light():
    verdict = decide(replace(CLEAN, place_count=3), None)
    assert verdict.light == "green"
    assert any(r.startswith("3 small places") for r in verdict.reasons)
