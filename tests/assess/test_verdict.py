"""The verdict in words: what makes it red, amber or green."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zenhance.assess.heldout import HeldOutReport
from zenhance.assess.reblur import detection_limit_photons
from zenhance.assess.reblur_report import ReblurReport
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
    width_z=1.0,
    width_yx=1.0,
    width_at_bound=False,
    psf_doubtful=False,
    psf_places=0,
    slope=1.0,
    offset=0.0,
    discrepancy=0.99,
    discrepancy_grade="pass",
    first_plane=0,
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
        ({"grade": "warn", "flagged_share": 5e-4, "place_count": 7}, "look at the z-map"),
        ({"grade": "warn", "flagged_share": 1e-6, "place_count": 1}, "One place"),
        ({"discrepancy": 0.4, "discrepancy_grade": "fail"}, "follows the noise"),
        ({"discrepancy": 0.93, "discrepancy_grade": "warn"}, "noise a little"),
        ({"discrepancy": 1.2, "discrepancy_grade": "fail"}, "fit to the measurement is off"),
        (
            {"width_yx": 0.8, "psf_doubtful": True, "psf_places": 3},
            "one 0.80 times as wide in the plane and 1.00 times along z fits better, and explains "
            "3 places",
        ),
        (
            {
                "psf_doubtful": True,
                "stack_width_z": (1.1, 0.9, 1.3),
                "stack_width_yx": (1.4, 1.2, 1.6),
            },
            "blur measured on the stack itself is 1.40 (1.20 to 1.60) times as wide in the plane",
        ),
        ({"spread_z": 2.0}, "gain or offset"),
    ],
)
def test_each_doubt_makes_it_amber_and_is_named(change, words):
    verdict = decide(replace(CLEAN, **change), None)
    assert verdict.light == "amber"
    assert words in verdict.headline


def test_too_little_light_is_no_fault_of_the_result_and_is_said():
    verdict = decide(replace(CLEAN, smallest_visible=0.7, peak_photons=0.4), None)
    assert verdict.light == "green"
    assert "at about 0.4 photons in the brightest places" in verdict.headline
    assert "says nothing of details" in verdict.headline
    seen = replace(CLEAN, smallest_visible=0.7, grade="warn", place_count=1)
    assert decide(seen, None).light == "amber"


def test_without_a_check_it_is_amber_with_the_reason():
    assert decide(None, None, "the voxel size is unknown").headline.endswith(
        "could not be judged: the voxel size is unknown."
    )
    assert decide(None, None).light == "amber"


def test_held_out_photons_can_turn_it_red_or_amber():
    assert decide(CLEAN, replace(HELD, grade="fail")).light == "red"
    assert decide(CLEAN, replace(HELD, grade="warn")).light == "amber"
    filtered = decide(CLEAN, replace(HELD, grade="warn", correlated=True))
    assert "neighbouring voxels is correlated" in filtered.headline


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


def test_three_questions_are_answered_first():
    verdict = decide(
        replace(CLEAN, grade="warn", place_count=2, flagged_share=1e-5, prior_share=0.4), None
    )
    data, noise, prior = verdict.reasons[:3]
    assert data == "Consistent with the data? Except in 2 places (0.001 % of the volume disagrees)."
    assert noise.startswith("Follows the noise? No (deviance ratio 0.99")
    assert prior.startswith("How much is prior? 40 % of the structure's power")
    assert decide(CLEAN, None).reasons[0].startswith("Consistent with the data? Yes (0 %")


def test_a_misfit_everywhere_is_red_even_where_no_place_stands_out():
    verdict = decide(replace(CLEAN, grade="fail", discrepancy=77.0, discrepancy_grade="fail"), None)
    assert verdict.light == "red"
    assert "77 times as far off" in verdict.headline


def test_a_default_psf_is_never_green():
    verdict = decide(CLEAN, None, default_psf=True)
    assert verdict.light == "amber"
    assert "is a default, so agreement with it is no evidence" in verdict.headline
