"""The table of measured microscopes: drawn alike from a seed, errors and coverage as they are."""

import json

import numpy as np
import pytest

from benchmarks.experiments import profile as bench
from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity


def _true_profile(scope, sigma_factor: float = 1.0) -> MicroscopeProfile:
    def curve(axis: int) -> DepthCurve:
        depths = tuple(float(d) for d in np.linspace(0.0, 60.0, 7))
        values = tuple(sigma_factor * scope.sigma_at_um(d)[axis] for d in depths)
        return DepthCurve(
            depth_um=depths,
            values=values,
            low=tuple(0.95 * v for v in values),
            high=tuple(1.05 * v for v in values),
            origins=("measured",) * len(depths),
        )

    one = Quantity.given(1.0)
    flat = DepthCurve.constant(one)
    return MicroscopeProfile(
        voxel_size_um=(1.0, 0.2, 0.2),
        gain=Quantity.given(scope.gain),
        offset=Quantity.given(scope.offset + 2.0),
        read_noise=one,
        background=one,
        attenuation_um=Quantity.given(scope.attenuation_um),
        bleached_per_plane=Quantity.given(0.0),
        brightness=flat,
        haze=flat,
        sigma_z_um=curve(0),
        sigma_yx_um=curve(1),
    )


def test_a_seed_draws_the_same_microscope_and_another_seed_another() -> None:
    assert bench.draw_microscope(3) == bench.draw_microscope(3)
    assert bench.draw_microscope(3) != bench.draw_microscope(4)
    steps = {bench.draw_microscope(seed)[1][0] for seed in bench.SEEDS}
    assert min(steps) <= 0.5
    assert max(steps) >= 1.25


@pytest.mark.parametrize(("factor", "error", "held"), [(1.0, 0.0, True), (1.2, 20.0, False)])
def test_errors_are_relative_to_the_microscope(factor: float, error: float, held: bool) -> None:
    scope, _ = bench.draw_microscope(0)
    figures = bench.compare(_true_profile(scope, factor), scope, "meristem", 1.0, 2.0)
    for third in range(3):
        for name in ("sigma_yx", "sigma_z"):
            assert figures.errors[name, third] == pytest.approx(error, abs=1e-9)
            assert figures.covered[name, third] is held
    assert figures.errors["offset", 0] == pytest.approx(2.0)
    assert figures.covered["offset", 0] is False
    assert figures.errors["gain", 0] == 0.0


def test_the_table_has_a_row_for_each_quantity_and_third() -> None:
    scope, _ = bench.draw_microscope(0)
    figures = [
        bench.compare(_true_profile(scope, f), scope, s, 1.0, 2.0)
        for f in (1.0, 1.1)
        for s in bench.SPECIMENS
    ]
    report = bench.ProfileReport(tuple(figures))
    assert json.loads(json.dumps({**report.record()}))["stacks"][0]["covered"]["gain 0"] is True
    table = bench.table(report)
    assert ("σ_yx", "deep", "15 %", "5.0 %", "5.0 %", "5.0 %", "50 %") in table.rows
    assert ("offset", "whole", "3 grey values", *["2.0 grey values"] * 3, "0 %") in table.rows
    assert "4 stacks, z steps 1 to 1 µm; slowest measurement 2.0 s." in table.foot[0]


def test_simulated_stacks_have_tissue_to_60_um_and_the_depth_of_each_voxel() -> None:
    scope, _ = bench.draw_microscope(1)
    stack, depth = bench.full_depth("filaments", scope, (2.0, 0.3, 0.3), 1)
    assert stack.shape == depth.shape == (32, bench.SIDE_PX, bench.SIDE_PX)
    assert depth.max() > 57.0
    assert depth[0].max() == 0.0
    # Light falls with depth.
    shallow, deep = stack[4:8].mean() - scope.offset, stack[-4:].mean() - scope.offset
    assert 0.0 < deep < shallow
