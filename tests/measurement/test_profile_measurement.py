"""The microscope is found from a stack alone: surface, light, blur by depth, and doubts."""

import time

import numpy as np
import pytest
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.measurement.blur_by_depth import BlurFit
from zenhance.measurement.light_by_depth import find_surface
from zenhance.measurement.profile import (
    doubt_metadata,
    doubt_narrowing,
    measure_profile,
    squeeze_along_z,
)
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import fit_camera
from zenhance.physics.psf import gaussian

VOXEL = (0.75, 0.2, 0.2)
SHAPE = (80, 72, 72)
LENGTH_UM = 25.0
CAMERA = PoissonGauss(4.0, 100.0, 2.0)


def _sigma_um(depth_um: float) -> tuple[float, float]:
    """Widths (z, yx) of the microscope below."""
    share = min(depth_um / 56.0, 1.0)
    return 0.6 + 0.7 * share, 0.18 + 0.2 * share


def _mesh(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random straight filaments in all directions below a slanted surface; light and depth."""
    rng = np.random.default_rng(seed)
    size = np.array(SHAPE) * np.array(VOXEL)
    light = np.zeros(SHAPE)
    for _ in range(900):
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        points = rng.random(3) * size + np.arange(-8.0, 8.0, 0.05)[:, None] * way
        index = np.floor(points / VOXEL).astype(int)
        inside = ((index >= 0) & (index < SHAPE)).all(axis=1)
        np.add.at(light, tuple(index[inside].T), 1.0)
    z = (np.arange(SHAPE[0]) * VOXEL[0])[:, None, None]
    depth = z - 3.0 - 0.1 * (np.arange(SHAPE[2]) * VOXEL[2])
    depth = np.broadcast_to(depth, SHAPE)
    return light * (depth > 0.0), np.clip(depth, 0.0, None)


def _photograph(light: np.ndarray, depth: np.ndarray, seed: int = 3) -> np.ndarray:
    """Blur each depth by its own Gaussian (scipy) and count photons."""
    emission = light * np.exp(-depth / LENGTH_UM) * 250.0
    seen = np.zeros(SHAPE)
    knots = np.linspace(0.0, 56.0, 8)
    share = np.interp(depth, knots, np.arange(8.0))
    for k, knot in enumerate(knots):
        z, yx = _sigma_um(knot)
        weight = np.clip(1.0 - np.abs(share - k), 0.0, None)
        sigma = (z / VOXEL[0], yx / VOXEL[1], yx / VOXEL[2])
        seen += ndimage.gaussian_filter(emission * weight, sigma)
    return np.clip(np.rint(CAMERA.sample(seen + 0.2, seed)), 0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    light, depth = _mesh()
    return _photograph(light, depth), depth


def test_the_profile_of_a_mesh_has_the_numbers_of_its_microscope(scene) -> None:
    found = measure_profile(scene[0], VOXEL)
    assert found.gain.value == pytest.approx(4.0, rel=0.1)
    assert found.offset.value == pytest.approx(100.0, abs=3.0)
    assert found.attenuation_um.value == pytest.approx(LENGTH_UM, rel=0.15)
    assert found.attenuation_um.low <= LENGTH_UM <= found.attenuation_um.high
    for depth in (10.0, 30.0, 50.0):
        z, yx = _sigma_um(depth)
        assert found.sigma_at_um(depth) == pytest.approx((z, yx, yx), rel=0.2)
        for curve, true in ((found.sigma_z_um, z), (found.sigma_yx_um, yx)):
            quantity = curve.quantity_at(depth)
            assert quantity.origin == "measured"
            assert quantity.low <= true <= quantity.high
    assert found.doubts == ()


def test_measuring_twice_gives_the_same_profile_bit_for_bit(scene) -> None:
    assert measure_profile(scene[0], VOXEL).to_json() == measure_profile(scene[0], VOXEL).to_json()


def test_the_depth_of_each_voxel_follows_the_slanted_surface(scene) -> None:
    stack, depth = scene
    camera = fit_camera(measure_blocks(stack))
    found = find_surface(stack.astype(np.float32), VOXEL, camera).depth_um(SHAPE, VOXEL[0])
    assert found.shape == SHAPE
    assert found.min() == 0.0
    deep = depth > 10.0
    assert float(np.median(found[deep] - depth[deep])) == pytest.approx(0.0, abs=1.0)
    # The slope of the surface, 0.1, shows in the last plane.
    row = found[-1].mean(axis=0)
    slope = np.polyfit(np.arange(SHAPE[2]) * VOXEL[2], row, 1)[0]
    assert slope == pytest.approx(-0.1, abs=0.06)


def test_a_z_step_that_cannot_be_right_is_doubted_with_the_factor(scene) -> None:
    wrong = (0.3 * VOXEL[0], *VOXEL[1:])
    (said,) = [d for d in measure_profile(scene[0], wrong).doubts if "z step" in d]
    assert "less than any lens has" in said
    assert "the z step of 0.225 µm is doubtful" in said


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_cells_that_look_squeezed_give_the_factor_of_the_z_step(factor: float) -> None:
    # A random field with structures of 3 µm in all directions, then a wrong distance of planes.
    voxel = (1.0, 0.5, 0.5)
    field = np.random.default_rng(0).normal(size=(96, 128, 128))
    field = ndimage.gaussian_filter(field, [3.0 / v for v in voxel])
    stack = (10.0 + field / field.std()).astype(np.float32)
    stated = (voxel[0] / factor, *voxel[1:])
    found = squeeze_along_z(stack, stated, (0.5, 0.5))
    assert found == pytest.approx(factor, rel=0.25)


def test_a_stack_without_noise_keeps_the_prior_and_says_so() -> None:
    light, _ = _mesh(1)
    smooth = ndimage.gaussian_filter(light, (1.0, 2.0, 2.0)).astype(np.float32) * 100.0 + 10.0
    prior = gaussian((0.5, 0.15, 0.15), "user")
    found = measure_profile(smooth, VOXEL, psf=prior)
    assert set(found.sigma_z_um.origins) == {"user"}
    assert found.sigma_at_um(0.0) == pytest.approx((0.5, 0.15, 0.15), rel=0.05)
    assert found.gain.origin == "default"
    assert any("σ_yx" in d and "could not be measured" in d for d in found.doubts)
    assert any("no pixel noise" in d for d in found.doubts)


def test_two_planes_are_too_few_and_give_a_profile_all_the_same(scene) -> None:
    found = measure_profile(scene[0][20:22], VOXEL)
    assert set(found.sigma_z_um.origins) == {"default"}
    assert any("planes are too few" in d for d in found.doubts)


def test_light_that_does_not_fall_is_not_given_a_length() -> None:
    light, _ = _mesh(2)
    y = CAMERA.sample(ndimage.gaussian_filter(light, (0.9, 1.0, 1.0)) * 100.0 + 0.2, 5)
    found = measure_profile(np.rint(y), VOXEL)
    assert found.attenuation_um.high > 200.0


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"na": 1.4, "refractive_index": 1.33}, "1.4 is not below the refractive index 1.33"),
        ({"na": 2.0}, "not below any immersion"),
        ({"na": 0.0}, "which no lens has"),
        ({"pinhole_au": 0.0}, "pinhole is 0 Airy units"),
        ({"excitation_nm": [520.0], "emission_nm": [488.0]}, "look swapped"),
    ],
)
def test_metadata_that_cannot_be_right_are_doubted(metadata: dict, words: str) -> None:
    (said,) = doubt_metadata(metadata, VOXEL)
    assert words in said


def test_sound_metadata_are_not_doubted() -> None:
    sound = {
        "na": 1.2,
        "refractive_index": 1.33,
        "excitation_nm": [488.0],
        "emission_nm": [520.0],
        "pinhole_au": 1.0,
    }
    assert doubt_metadata(sound, VOXEL) == ()
    # Two-photon excitation is longer than the emission, and right.
    assert doubt_metadata({"excitation_nm": 920.0, "emission_nm": 520.0}, VOXEL) == ()


def test_a_voxel_in_millimetres_is_doubted() -> None:
    said = doubt_metadata({}, (0.001, 0.0002, 0.0002))
    assert len(said) == 3
    assert "millimetres" in said[0]
    assert "too large" in doubt_metadata({}, (1.0, 200.0, 0.2))[0]


@pytest.mark.parametrize(
    ("shape", "voxel", "message"),
    [((5, 5), VOXEL, "a profile is measured on a stack"), (SHAPE, (0.0, 1.0, 1.0), "positive")],
)
def test_what_cannot_be_measured_is_refused(shape, voxel, message: str) -> None:
    with pytest.raises(StackError, match=message):
        measure_profile(np.zeros(shape), voxel)


@pytest.mark.parametrize("fill", [0.0, 7.0, np.nan], ids=["dark", "flat", "nan inside"])
def test_any_stack_gives_a_finite_profile(fill: float) -> None:
    volume = np.full((12, 40, 40), 7.0, np.float32)
    volume[3, 5:9, 5:9] = fill
    found = measure_profile(volume, VOXEL)
    assert np.isfinite(found.sigma_at_um(3.0)).all()


def test_the_real_meristem_is_measured_in_less_than_20_seconds(shared_data) -> None:
    from tifffile import imread

    stack = imread(shared_data / "plant_tissue" / "p60_floral_meristem_membrane_raw.tif")
    start = time.process_time()
    found = measure_profile(stack, (1.0, 0.2, 0.2))
    assert time.process_time() - start < 20.0
    assert found.gain.value == pytest.approx(1.4, rel=0.15)
    assert found.offset.value < stack.min() + 3.0
    assert 0.1 < found.sigma_yx_um.values[0] < 0.3
    assert not any("z step" in d for d in found.doubts)


@pytest.mark.parametrize(
    ("deep", "told", "count"), [(0.5, True, 1), (0.5, False, 0), (0.9, True, 0)]
)
def test_a_psf_that_narrows_with_depth_is_doubted(deep: float, told: bool, count: int) -> None:
    widths = np.array([[v, 0.9 * v, 1.1 * v] for v in (0.8, 0.8 + 0.5 * (deep - 0.8), deep)])
    across = np.array([[0.2, 0.18, 0.22]] * 3)
    marks = np.full(3, told)
    fit = BlurFit(np.array([0.0, 20.0, 40.0]), widths, across, marks, marks)
    said = doubt_narrowing(fit)
    assert len(said) == count
    assert all("falls from 0.8 µm" in text for text in said)
