"""The microscope: dimming, blur that grows with depth, photon noise, grey values."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from zenhance.simulate.microscope import Microscope
from zenhance.simulate.specimen import Dye, Grid

VOXEL = (0.5, 0.25, 0.25)


def _point_at(depth_um: float, shape: tuple[int, int, int] = (41, 41, 41)) -> Dye:
    density = np.zeros((1, *shape), np.float32)
    density[0, shape[0] // 2, shape[1] // 2, shape[2] // 2] = 1.0
    return Dye(
        density, np.ones(shape, np.uint16), np.full(shape, depth_um, np.float32), ("membrane",)
    )


def _sigma_um(light: np.ndarray) -> list[float]:
    weights = light / light.sum()
    sigmas = []
    for axis, step in enumerate(VOXEL):
        profile = weights.sum(axis=tuple(a for a in range(3) if a != axis))
        position = np.arange(profile.size) * step
        mean = (profile * position).sum()
        sigmas.append(float(np.sqrt((profile * (position - mean) ** 2).sum())))
    return sigmas


@pytest.mark.parametrize(
    ("depth_um", "expected"),
    [(0.0, (0.5, 0.2, 0.2)), (20.0, (1.1, 0.4, 0.4)), (50.0, (1.1, 0.4, 0.4))],
)
def test_a_point_spreads_by_the_psf_of_its_depth(
    depth_um: float, expected: tuple[float, float, float]
) -> None:
    scope = Microscope(
        sigma_shallow_um=(0.5, 0.2, 0.2),
        sigma_deep_um=(1.1, 0.4, 0.4),
        deep_at_um=20.0,
        haze_deep=0.0,
    )
    dye = _point_at(depth_um)
    light = scope.blur_photons(dye.density, dye.depth_um, VOXEL)[0]
    assert _sigma_um(light) == pytest.approx(list(expected), rel=0.01)
    assert scope.sigma_at_um(depth_um) == pytest.approx(expected)


def test_between_two_knots_variances_are_blended() -> None:
    scope = Microscope(
        sigma_shallow_um=(0.5, 0.3, 0.3),
        sigma_deep_um=(1.0, 0.5, 0.5),
        depth_steps=2,
        haze_deep=0.0,
    )
    dye = _point_at(scope.deep_at_um / 2)
    z_um = _sigma_um(scope.blur_photons(dye.density, dye.depth_um, VOXEL)[0])[0]
    assert z_um == pytest.approx(np.sqrt((0.5**2 + 1.0**2) / 2), rel=0.01)


def test_blur_and_haze_keep_every_photon() -> None:
    rng = np.random.default_rng(0)
    emission = rng.uniform(0, 50, size=(2, 12, 20, 20)).astype(np.float32)
    depth = rng.uniform(0, 30, size=(12, 20, 20)).astype(np.float32)
    light = Microscope(haze_deep=0.3).blur_photons(emission, depth, VOXEL)
    assert light.sum(axis=(1, 2, 3)) == pytest.approx(emission.sum(axis=(1, 2, 3)), rel=1e-5)


def test_emission_falls_exponentially_with_depth() -> None:
    scope = Microscope(attenuation_um=10.0, photons=80.0)
    dye = Dye(
        np.ones((1, 3, 1, 1), np.float32),
        np.ones((3, 1, 1), np.uint16),
        np.array([0, 10, 20], np.float32).reshape(3, 1, 1),
        ("m",),
    )
    assert scope.emission_photons(dye).ravel() == pytest.approx([80, 80 / np.e, 80 / np.e**2])


def test_grey_values_have_the_mean_and_variance_of_a_camera() -> None:
    scope = Microscope(gain=20.0, offset=100.0, read_noise=6.0)
    for photons in (0.5, 20.0):
        grey = scope.digitise(
            np.full((1, 40, 60, 60), photons, np.float32), np.random.default_rng(1)
        ).astype(np.float64)
        assert grey.mean() == pytest.approx(100 + 20 * photons, rel=0.005)
        # Poisson, read-out and rounding to whole numbers.
        assert grey.var() == pytest.approx(20**2 * photons + 6**2 + 1 / 12, rel=0.02)


def test_eight_bits_clip_at_255() -> None:
    grey = Microscope(dtype="uint8").digitise(
        np.array([[[[1000.0, 0.0]]]], np.float32), np.random.default_rng(0)
    )
    assert grey.dtype == np.uint8
    assert grey.max() == 255


def test_a_photograph_states_everything_in_the_same_grey_values() -> None:
    scope, grid = Microscope(photons=200.0, haze_deep=0.0), Grid((9, 15, 15), VOXEL)
    margin = scope.margin_px(VOXEL)
    shape = grid.grown(margin).shape_px
    dye = Dye(
        np.ones((1, *shape), np.float32),
        np.ones(shape, np.uint16),
        np.zeros(shape, np.float32),
        ("membrane",),
    )
    seen = scope.photograph(dye, grid, seed=1)
    truth, blurred, measured = (
        s.read().astype(np.float64) for s in (seen.truth, seen.blurred, seen.measured)
    )
    assert truth == pytest.approx(np.full(grid.shape_px, 20 * 200 + 100))
    assert blurred == pytest.approx(truth + 20 * scope.background_photons, rel=1e-5)
    assert measured.mean() == pytest.approx(blurred.mean(), rel=0.01)
    assert seen.measured.axes == "ZYX"
    assert seen.measured.voxel_size.zyx_um == VOXEL
    assert seen.measured.metadata["na"] == 0.9
    assert seen.psf_mean.sigma_um == pytest.approx(seen.psf_shallow.sigma_um)


def test_settings_are_checked_and_frozen() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        Microscope(gain=0)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Microscope(gian=1)
    with pytest.raises(ValidationError, match="frozen"):
        Microscope().gain = 2
