"""Beads at known places, and the empty field."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.simulate.beads import Ball, Beads, Empty, deposit
from zenhance.simulate.microscope import Microscope
from zenhance.simulate.samples import simulate
from zenhance.simulate.specimen import Grid

VOXEL = (0.3, 0.1, 0.1)


@pytest.mark.parametrize("diameter_um", [0.0, 0.1, 1.0])
def test_a_ball_has_its_dye_its_place_and_its_size(diameter_um: float) -> None:
    grid, centre = Grid((20, 40, 40), (0.15, 0.1, 0.1)), (1.53, 2.07, 1.91)
    density, labels = deposit([Ball(centre, diameter_um, 50.0, 3)], grid)
    assert density.sum() == pytest.approx(50.0, rel=1e-5)
    assert np.unique(labels).tolist() == [0, 3]
    for axis, (place, expected, step) in enumerate(
        zip(grid.margins, centre, grid.voxel_size_um, strict=True)
    ):
        profile = density.sum(axis=tuple(a for a in range(3) if a != axis)) / 50.0
        mean = (profile * place).sum()
        assert mean == pytest.approx(expected, abs=1e-4)
        # A filled ball has variance d²/20 along any axis; sharing out adds between 0 and a quarter
        # of a voxel².
        extra = (profile * (place - mean) ** 2).sum() - diameter_um**2 / 20
        assert -0.03 * diameter_um**2 / 20 <= extra <= step**2 / 4 + 1e-6


def test_the_image_of_a_bead_is_the_microscopes_psf() -> None:
    scope = Microscope(
        sigma_shallow_um=(0.6, 0.2, 0.25),
        sigma_deep_um=(0.6, 0.2, 0.25),
        background_photons=0.0,
        offset=0.0,
    )
    settings = {
        "count": 1,
        "diameter_um": 0.0,
        "on_voxels": True,
        "distance_um": 2.0,
        "in_plane": True,
    }
    seen = simulate(
        "beads",
        seed=1,
        shape_px=(31, 61, 61),
        voxel_size_um=VOXEL,
        settings=settings,
        microscope=scope,
    )
    light = seen.blurred.read().astype(np.float64) / scope.gain
    assert light.sum() == pytest.approx(100 * scope.photons, rel=1e-3)
    (centre,) = seen.facts["centres_um"]
    z, y, x = (
        (np.arange(n) + 0.5) * v - c for n, v, c in zip(light.shape, VOXEL, centre, strict=True)
    )
    gauss = np.exp(-((z[:, None, None] / 0.6) ** 2 + (y[:, None] / 0.2) ** 2 + (x / 0.25) ** 2) / 2)
    expected = gauss / gauss.sum() * 100 * scope.photons
    assert np.abs(light - expected).max() < 0.01 * expected.max()


def test_beads_keep_apart_and_are_listed() -> None:
    dye = Beads(count=60, distance_um=1.0).render(Grid((10, 60, 60), (0.5, 0.1, 0.1)), 2)
    centres = np.asarray(dye.facts["centres_um"])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 99 * np.eye(len(centres))
    assert len(centres) > 3
    assert gaps.min() >= 1.0
    assert dye.labels.max() == len(centres)
    assert dye.density.sum() == pytest.approx(100.0 * len(centres), rel=1e-4)


def test_beads_of_one_seed_are_the_same_bytes() -> None:
    grid = Grid((4, 40, 40), VOXEL)
    assert Beads().render(grid, 5).density.tobytes() == Beads().render(grid, 5).density.tobytes()
    assert Beads().render(grid, 5).facts != Beads().render(grid, 6).facts


def test_an_empty_field_is_noise_and_nothing_else() -> None:
    scope = Microscope(background_photons=2.0, gain=5.0, offset=50.0, read_noise=3.0)
    seen = simulate("empty", seed=3, shape_px=(4, 80, 80), voxel_size_um=VOXEL, microscope=scope)
    assert np.ptp(seen.truth.read()) == 0
    assert np.ptp(seen.blurred.read()) == pytest.approx(0, abs=1e-3)
    measured = seen.measured.read().astype(np.float64)
    assert measured.mean() == pytest.approx(50 + 5 * 2, rel=0.01)
    assert measured.var() == pytest.approx(25 * 2 + 9 + 1 / 12, rel=0.05)


def test_an_even_field_is_as_bright_as_asked_for() -> None:
    dye = Empty(level=0.25).render(Grid((2, 4, 4), VOXEL), 0)
    assert np.all(dye.density == 0.25)
    assert dye.labels.max() == 0
