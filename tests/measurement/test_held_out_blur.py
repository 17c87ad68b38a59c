"""Held-out photons correct a width of the blur that is wrong, and leave one that is right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from zenhance.measurement.blur_by_depth import BlurFit
from zenhance.measurement.held_out_blur import corrected_steps
from zenhance.measurement.light_by_depth import find_surface
from zenhance.physics.blur import Blur
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import fit_camera
from zenhance.physics.psf import gaussian
from zenhance.steps import drain

VOXEL_UM = (0.5, 0.2, 0.2)
SIGMA_UM = (0.7, 0.25, 0.25)
CAMERA = PoissonGauss(1.0, 100.0, 1.0)


def thick_walls(photons: float) -> np.ndarray:
    """Walls of 0.4 µm, thicker than the spectra's model of the specimen expects, seen blurred."""
    rng = np.random.default_rng(3)
    lines = np.zeros((24, 64, 64), np.float32)
    points = rng.uniform(0, 1, (20, 3)) * np.array(lines.shape)
    grid = np.indices(lines.shape).reshape(3, -1).T
    scale = np.array([2.5, 1.0, 1.0])
    distance = np.sort(np.linalg.norm((grid[:, None] - points[None]) * scale, axis=2), axis=1)[
        :, :2
    ]
    wall = (distance[:, 1] - distance[:, 0]) < 2.0
    lines.reshape(-1)[wall] = photons
    blur = Blur.from_psf(gaussian(SIGMA_UM), VOXEL_UM, (24, 64, 64))
    seen = blur(torch.from_numpy(ndimage.gaussian_filter(lines, 0.3))[None])[0].clamp(min=0)
    return np.asarray(CAMERA.sample(CAMERA.gain * seen.numpy() + 0.5, rng), np.float32)


def corrected(volume: np.ndarray, factor: float) -> BlurFit:
    knots = np.array([0.0, 5.0, 10.0])
    z, yx = (np.tile([w * factor, 0.5 * w, 2.0 * w], (3, 1)) for w in SIGMA_UM[:2])
    told = np.zeros(3, bool)
    surface = find_surface(volume, VOXEL_UM, fit_camera(measure_blocks(volume)))
    fit = BlurFit(knots, z, yx, told, told)
    return drain(corrected_steps(volume, VOXEL_UM, surface, CAMERA, fit))


@pytest.mark.parametrize("factor", [0.5, 1.8])
def test_a_wrong_width_is_corrected(factor: float) -> None:
    found = corrected(thick_walls(100.0), factor)
    for table, truth in ((found.sigma_z_um, 0.7), (found.sigma_yx_um, 0.25)):
        assert (table[:, 1] < truth).all(), table
        assert (truth < table[:, 2]).all(), table
        assert abs(np.log(table[0, 0] / truth)) < 0.6 * abs(np.log(factor))
    assert found.measured_yx.all()


def test_the_right_width_is_hardly_changed() -> None:
    found = corrected(thick_walls(100.0), 1.0)
    assert (np.abs(np.log(found.sigma_yx_um[:, 0] / 0.25)) < np.log(1.25)).all()
    assert (np.abs(np.log(found.sigma_z_um[:, 0] / 0.7)) < np.log(1.25)).all()


def test_a_stack_without_light_keeps_its_widths() -> None:
    volume = np.asarray(
        CAMERA.sample(np.zeros((24, 64, 64), np.float32), np.random.default_rng(0)), np.float32
    )
    found = corrected(volume, 1.8)
    np.testing.assert_array_equal(found.sigma_yx_um[:, 0], 0.45)
    assert not found.measured_yx.any()
