"""Figures against a truth: their conventions, checked by algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zenhance.assess.truth import affine_fit, compare_with_truth, psnr_db, robust_range, ssim
from zenhance.errors import StackError

RAMP = np.linspace(0, 1000, 12 * 16 * 16, dtype=np.float32).reshape(12, 16, 16)


def test_psnr_of_a_constant_error_follows_its_definition() -> None:
    assert psnr_db(RAMP + 10, RAMP, 1000.0) == pytest.approx(20 * math.log10(1000 / 10), abs=1e-4)
    assert psnr_db(RAMP, RAMP, 1000.0) == math.inf


def test_the_range_leaves_out_one_hot_voxel() -> None:
    hot = RAMP.copy()
    hot[0, 0, 0] = 1e9
    assert robust_range(hot) == pytest.approx(998.0, rel=2e-3)


def test_a_sparse_truth_falls_back_to_its_full_range() -> None:
    sparse = np.zeros((20, 40, 40), np.float32)
    sparse[3, 3, 3] = 5.0
    assert robust_range(sparse) == 5.0


def test_the_affine_fit_finds_the_line_that_was_hidden() -> None:
    slope, offset = affine_fit((RAMP - 100) / 4, RAMP)
    assert (slope, offset) == pytest.approx((4.0, 100.0), rel=1e-5)
    assert affine_fit(np.full_like(RAMP, 7), RAMP) == pytest.approx((0.0, float(RAMP.mean())))


def test_a_rescaled_truth_is_perfect_only_after_the_fit() -> None:
    report = compare_with_truth(RAMP * 0.5 + 3, RAMP)
    assert report.psnr_db < 20
    assert report.psnr_fit_db > 90
    assert report.ssim_fit == pytest.approx(1.0, abs=1e-4)
    assert report.fit_slope == pytest.approx(2.0, rel=1e-4)
    assert report.rmse == pytest.approx(float(np.sqrt(np.mean((RAMP * 0.5 - 3) ** 2))), rel=1e-5)


@pytest.mark.parametrize("planes", [1, 12])
def test_ssim_of_two_constants_is_its_luminance_term(planes: int) -> None:
    a, b, span = 40.0, 60.0, 100.0
    expected = (2 * a * b + (0.01 * span) ** 2) / (a**2 + b**2 + (0.01 * span) ** 2)
    flat = np.ones((planes, 16, 16), np.float32)
    assert ssim(a * flat, b * flat, span) == pytest.approx(expected, rel=1e-5)


def test_ssim_is_one_for_equal_images_and_sees_inverted_contrast() -> None:
    texture = np.random.default_rng(0).normal(500, 50, size=(12, 24, 24)).astype(np.float32)
    assert ssim(texture, texture, 300.0) == pytest.approx(1.0)
    assert ssim(1000 - texture, texture, 300.0) < -0.5


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(StackError, match="must be volumes"):
        compare_with_truth(RAMP[:5], RAMP)
    with pytest.raises(StackError, match="the truth is constant"):
        compare_with_truth(RAMP, np.ones_like(RAMP))
    broken = RAMP.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(StackError, match="not finite"):
        compare_with_truth(broken, RAMP)
    with pytest.raises(StackError, match="SSIM needs at least 11 rows and columns, not 8 × 16"):
        ssim(RAMP[:, :8], RAMP[:, :8], 1.0)
