"""Held-out photons are predicted by honest methods, not by those that keep noise or invent."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import planted
from planted import PSF, VOXEL_UM, Ideal

from zenhance.assess.heldout import held_out_photons

SHAPE = (20, 80, 80)


@pytest.fixture(scope="module")
def measured():
    return planted.phantom(100, SHAPE, seed=1)


def restored(grey):
    return planted.richardson_lucy(grey, (25,))[25]


def judge(measured, method, **options):
    return held_out_photons(measured[0], method, PSF, VOXEL_UM, Ideal(), **options)


def test_the_truth_and_richardson_lucy_pass(measured):
    truth, rl = judge(measured, lambda _: measured[1]), judge(measured, restored)
    assert truth.grade == rl.grade == "pass"
    assert truth.method < rl.method < rl.gaussian


def test_large_lies_fail(measured):
    assert judge(measured, lambda g: planted.filament_prior(restored(g))).grade == "fail"
    assert judge(measured, lambda g: planted.shift(restored(g))).grade == "fail"
    beads = judge(
        measured, lambda g: planted.bead_adder(restored(g), 100, np.random.default_rng(0), 0.6)
    )
    assert beads.grade == "fail"


def test_keeping_the_noise_fails_however_faithful_it_looks(measured):
    copy = judge(measured, lambda g: g, deblurred=False)
    assert copy.grade == "fail"
    assert copy.method > copy.gaussian + 10 * copy.standard_error


def test_the_split_does_not_depend_on_gain_and_offset(measured):
    plain = judge(measured, restored)
    grey = (2 * measured[0] + 50).astype(np.uint16)
    scaled = held_out_photons(
        grey, lambda g: restored((g - 50) / 2), PSF, VOXEL_UM, Ideal(gain=2.0, offset=50.0)
    )
    assert scaled.method == pytest.approx(plain.method, rel=0.05)
    assert scaled.grade == "pass"


def test_what_cannot_be_split_is_refused(measured):
    with pytest.raises(ValueError, match="cannot be split"):
        held_out_photons(measured[0][0], lambda g: g, PSF, VOXEL_UM, Ideal())
    with pytest.raises(ValueError, match="does not match the voxels"):
        judge(measured, lambda g: g[:, :-1])


def test_photons_of_a_smoothed_measurement_are_not_judged(measured):
    from scipy.ndimage import gaussian_filter

    grey = gaussian_filter(20.0 * measured[0], (0, 0.7, 0.7)).astype(np.uint16)
    found = held_out_photons(grey, restored, PSF, VOXEL_UM, Ideal(gain=20.0))
    assert found.correlated
    assert found.grade == "warn"
    assert not judge(measured, restored).correlated
