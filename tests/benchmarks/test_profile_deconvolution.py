"""The figures of the experiment profile_deconvolution."""

import json

import numpy as np
import pytest

from benchmarks.experiments.profile import draw_microscope
from benchmarks.experiments.profile_deconvolution import (
    Gain,
    ProfileGains,
    decibels,
    table,
    true_profile,
)


def test_decibels_do_not_depend_on_scale_and_offset() -> None:
    rng = np.random.default_rng(0)
    lit = rng.normal(size=100_000)
    noisy = lit + 0.1 * rng.normal(size=lit.size)
    assert decibels(noisy, lit) == pytest.approx(20.0, abs=0.1)
    assert decibels(7.0 * noisy + 3.0, lit) == pytest.approx(decibels(noisy, lit), abs=1e-9)


def test_the_true_profile_has_the_widths_of_its_microscope() -> None:
    scope, voxel = draw_microscope(201)
    profile = true_profile(scope, voxel)
    for depth in (0.0, 17.0, 60.0):
        assert profile.sigma_at_um(depth) == pytest.approx(scope.sigma_at_um(depth), rel=0.01)


def test_the_table_counts_the_stacks_that_gain() -> None:
    gains = (
        Gain("meristem", 0, (1.0, 2.0, 3.0), (0.0, 1.0, 1.0)),
        Gain("filaments", 0, (2.0, 1.0, 3.0), (0.0, 1.0, 1.0)),
    )
    report = ProfileGains(gains)
    assert json.loads(json.dumps({**report.record()}))["stacks"][1]["whole"] == [2.0, 1.0, 3.0]
    rows = table(report).rows
    assert rows[2] == ("whole stack", "both", "+1.50 dB", "+1.50 dB", "+3.00 dB", "1 of 2")
    assert rows[5][-1] == "2 of 2"
