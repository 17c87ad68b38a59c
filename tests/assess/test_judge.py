"""The judge is judged: planted liars are red, honest results are not, noise raises no alarm."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import planted
from planted import BACKGROUND, PSF, VOXEL_UM, Ideal

from zenhance.assess.reblur import detection_limit_photons, reblur_check
from zenhance.assess.smoothness import MatchedFilter
from zenhance.physics.psf import gaussian

SHAPE = (32, 128, 128)
LIARS = ("bead adder 10 %", "eraser", "filament prior", "gamma 0.6", "1-voxel shift")
HONEST = ("truth", "RL25", "RL50")


@pytest.fixture(scope="module", params=[50, 200])
def verdicts(request):
    """Grades of three honest results and five liars at so many photons."""
    measured, truth, spots = planted.phantom(request.param, SHAPE, seed=0)
    restored = planted.richardson_lucy(measured, (25, 50))
    results = {"truth": truth, "RL25": restored[25], "RL50": restored[50]}
    results |= planted.liars(restored[25], request.param, spots, np.random.default_rng(0))
    return {
        name: reblur_check(measured, x, PSF, VOXEL_UM, Ideal())[0] for name, x in results.items()
    }


@pytest.mark.parametrize("name", LIARS)
def test_each_planted_liar_is_red_or_explained_by_another_psf(verdicts, name):
    found = verdicts[name]
    # At 50 photons a PSF of another width explains the contrast that gamma distorts.
    assert found.grade == "fail" or (name == "gamma 0.6" and found.psf_doubtful), found


@pytest.mark.parametrize("name", HONEST)
def test_no_honest_result_is_red(verdicts, name):
    assert verdicts[name].grade != "fail", verdicts[name]


def test_false_beads_are_found_where_they_were_put_and_erased_spots_where_they_were():
    measured, truth, spots = planted.phantom(50, SHAPE, seed=3)
    added = truth.copy()
    place = (16, 64, 64)
    added[place] += planted._point(10.0)
    _, z_map = reblur_check(measured, added, PSF, VOXEL_UM, Ideal())
    assert np.max(np.abs(np.subtract(np.unravel_index(np.argmin(z_map), z_map.shape), place))) <= 1
    erased = planted.eraser(truth, spots[8:9])
    _, z_map = reblur_check(measured, erased, PSF, VOXEL_UM, Ideal())
    assert (
        np.max(np.abs(np.subtract(np.unravel_index(np.argmax(z_map), z_map.shape), spots[8]))) <= 2
    )


@pytest.mark.parametrize("peak", [3, 30])
def test_the_truth_leaves_white_noise_below_the_threshold(peak):
    spreads = []
    for seed in range(4):
        measured, truth, _ = planted.phantom(peak, (24, 96, 96), seed)
        report, _ = reblur_check(measured, truth, PSF, VOXEL_UM, Ideal())
        assert report.flagged_share == 0.0
        assert report.discrepancy == pytest.approx(1.0, abs=0.02)
        assert np.mean(report.chi2_per_slice) == pytest.approx(1.0, abs=0.02)
        spreads.append(report.spread_z)
    assert np.mean(spreads) == pytest.approx(1.0, abs=0.04)


def test_false_spots_above_the_stated_limit_are_found_and_far_below_it_are_not():
    rng = np.random.default_rng(8)
    flat = np.broadcast_to(np.linspace(15, 25, 120, dtype=np.float32), (30, 120, 120)).copy()
    measured = rng.poisson(flat + BACKGROUND).astype(np.uint16)
    places = [(15, 20 + 20 * i, 20 + 20 * j) for i in range(5) for j in range(5)]
    sigma = MatchedFilter(planted.SIGMA_PX)
    limit = detection_limit_photons(22.0, sigma.response(), 5.6)
    found = []
    for factor in (1.2, 0.4):
        false = flat.copy()
        for place in places:
            false[place] += planted._point(factor * limit)
        report, _ = reblur_check(measured, false, PSF, VOXEL_UM, Ideal(), fit_psf=False)
        found.append(report.place_count)
    assert found[0] >= 0.95 * len(places)
    assert found[1] <= 1


def test_the_strongest_places_are_listed_first():
    measured, truth, _ = planted.phantom(50, SHAPE, seed=3)
    added = truth.copy()
    added[16, 30, 40] += planted._point(30.0)
    added[16, 90, 90] += planted._point(10.0)
    report, _ = reblur_check(measured, added, PSF, VOXEL_UM, Ideal())
    first, second = report.places[:2]
    assert np.max(np.abs(np.subtract((first.z_px, first.y_px, first.x_px), (16, 30, 40)))) <= 1
    assert np.max(np.abs(np.subtract((second.z_px, second.y_px, second.x_px), (16, 90, 90)))) <= 1
    assert first.score < second.score < 0


def test_a_psf_ten_percent_too_wide_is_found_and_forgiven():
    measured, truth, _ = planted.phantom(200, SHAPE, seed=1)
    wide = gaussian(tuple(1.12 * s for s in planted.SIGMA_PX), "user")
    blind, _ = reblur_check(measured, truth, wide, VOXEL_UM, Ideal(), fit_psf=False)
    fitted, _ = reblur_check(measured, truth, wide, VOXEL_UM, Ideal())
    assert blind.place_count > 0
    assert fitted.grade == "pass"
    assert fitted.width_z == pytest.approx(1 / 1.12, abs=0.03)
    assert fitted.width_yx == pytest.approx(1 / 1.12, abs=0.03)


@pytest.mark.parametrize("width", [0.7, 0.85, 1.2, 1.4])
def test_a_wrong_psf_is_doubted_and_never_contradicts_the_truth(width):
    measured, truth, _ = planted.phantom(60, (24, 96, 96), seed=2)
    wrong = gaussian(tuple(width * s for s in planted.SIGMA_PX), "user")
    report, _ = reblur_check(measured, truth, wrong, VOXEL_UM, Ideal())
    assert report.psf_doubtful
    assert report.grade == "pass"
    assert report.width_yx == pytest.approx(1 / width, rel=0.05)


def test_a_measurement_passed_off_as_its_own_restoration_is_not_green():
    measured, _, _ = planted.phantom(200, SHAPE, seed=2)
    blurred_twice, _ = reblur_check(measured, measured.astype(np.float32), PSF, VOXEL_UM, Ideal())
    assert blurred_twice.psf_doubtful
    assert blurred_twice.grade != "pass"
    unblurred, _ = reblur_check(
        measured, measured.astype(np.float32), PSF, VOXEL_UM, Ideal(), deblurred=False
    )
    assert unblurred.discrepancy < 0.1
    assert unblurred.discrepancy_grade == "fail"


def test_intensity_scale_offset_and_camera_do_not_change_the_verdict():
    measured, truth, _ = planted.phantom(50, (24, 96, 96), seed=4)
    camera = Ideal(gain=3.0, offset=100.0)
    grey = (3 * measured + 100).astype(np.uint16)
    plain, _ = reblur_check(measured, truth, PSF, VOXEL_UM, Ideal())
    scaled, _ = reblur_check(grey, 0.01 * truth - 7.0, PSF, VOXEL_UM, camera)
    assert scaled.grade == plain.grade == "pass"
    assert scaled.slope == pytest.approx(300.0, rel=0.05)
    assert scaled.discrepancy == pytest.approx(plain.discrepancy, abs=1e-3)
    assert scaled.peak_photons == pytest.approx(plain.peak_photons, rel=0.01)


def test_a_plane_is_judged_like_a_volume():
    rng = np.random.default_rng(0)
    x = np.zeros((1, 160, 160), np.float32)
    x[0, rng.integers(0, 160, 60), rng.integers(0, 160, 60)] = 3000.0
    measured = rng.poisson(planted.blurred(x) + BACKGROUND).astype(np.uint16)
    false = x.copy()
    false[0, 80, 80] += 1500.0
    honest, _ = reblur_check(measured, x, PSF, VOXEL_UM, Ideal())
    liar, z_map = reblur_check(measured, false, PSF, VOXEL_UM, Ideal())
    assert honest.grade == "pass"
    assert liar.grade == "fail"
    assert z_map.shape == (1, 160, 160)


def test_a_result_on_finer_voxels_is_judged_on_the_measured_ones():
    measured, truth, _ = planted.phantom(50, (24, 96, 96), seed=5)
    fine = np.repeat(np.repeat(truth, 2, axis=1), 2, axis=2)
    report, z_map = reblur_check(measured, fine, PSF, VOXEL_UM, Ideal())
    assert z_map.shape == measured.shape
    assert report.grade != "fail"


def test_saturated_and_missing_voxels_are_left_out():
    measured, truth, _ = planted.phantom(50, (24, 96, 96), seed=6)
    hurt, gaps = measured.copy(), truth.copy()
    hurt[12, 40:44, 40:44] = np.iinfo(np.uint16).max
    gaps[12, 60, 60] = np.nan
    report, z_map = reblur_check(hurt, gaps, PSF, VOXEL_UM, Ideal())
    assert report.grade == "pass"
    assert np.isfinite(z_map).all()
    assert report.judged_voxels == (24 - 12) * (96 - 8) ** 2 - 17


@pytest.mark.parametrize(
    ("raw", "result", "match"),
    [
        (np.ones((8, 8, 8)), np.ones((8, 8, 9)), "does not match the voxels"),
        (np.ones((8, 8)), np.ones((8, 8)), "give one volume"),
        (np.ones((8, 8, 8)), np.full((8, 8, 8), np.nan), "no finite voxel"),
        (np.full((8, 8, 8), np.nan), np.ones((8, 8, 8)), "finite and not saturated"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_words(raw, result, match):
    with pytest.raises(ValueError, match=match):
        reblur_check(raw, result, PSF, VOXEL_UM, Ideal())
