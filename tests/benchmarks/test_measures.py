"""Against the blurred truth and by depth.

Both measures are those they are said to be, and neither can be pleased by a wrong image.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.measures import blurred_psnr_db, psnr_by_depth_db, sharpness
from benchmarks.scenes import Plan, Scene
from zenhance.errors import StackError
from zenhance.physics.blur import Blur

EDGES = (0.0, 5.0, 10.0)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Plan("t", "meristem", 5, (26, 56, 56), (0.5, 0.22, 0.22)).make()


def raw(scene: Scene) -> np.ndarray:
    return scene.measured.read().astype(np.float32)


def test_the_truth_blurred_again_is_the_expectation_but_for_stray_light(scene: Scene) -> None:
    difference = scene.imaged(scene.truth) - scene.blurred
    inner = (slice(6, -6), slice(6, -6), slice(6, -6))
    stray = scene.microscope.background_photons * scene.microscope.gain
    assert float(difference[inner].mean()) == pytest.approx(-stray, abs=0.3)
    assert float(difference[inner].std()) < 1.0
    # One blur for all depths is not what the microscope did.
    once = Blur.from_psf(scene.psf, scene.fine_voxel_um, scene.truth.shape)
    flat = once(torch.from_numpy(scene.truth)).numpy() - scene.blurred
    assert float(flat[inner].std()) > 10 * float(difference[inner].std())


def test_against_the_blurred_specimen_truth_and_ideal_denoiser_win(scene: Scene) -> None:
    measured = blurred_psnr_db(raw(scene), scene, deblurred=False)
    assert blurred_psnr_db(scene.blurred, scene, deblurred=False) == math.inf
    assert blurred_psnr_db(scene.truth, scene, deblurred=True) > measured + 25
    # A result that claims to be sharp and is not is blurred twice.
    assert (
        blurred_psnr_db(scene.blurred, scene, deblurred=True)
        < blurred_psnr_db(scene.truth, scene, deblurred=True) - 15
    )


def test_it_is_the_psnr_of_the_differences_with_the_offset_left_free(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    low, high = np.percentile(scene.blurred, [0.1, 99.9])
    noisy = scene.blurred + rng.normal(0, 0.1 * (high - low), scene.blurred.shape).astype(
        np.float32
    )
    assert blurred_psnr_db(noisy, scene, deblurred=False) == pytest.approx(20.0, abs=0.1)
    assert blurred_psnr_db(noisy + 50, scene, deblurred=False) == pytest.approx(
        blurred_psnr_db(noisy, scene, deblurred=False), abs=1e-3
    )


def test_an_invented_wall_costs(scene: Scene) -> None:
    invented = scene.truth.copy()
    z, y, x = (n // 2 for n in invented.shape)
    invented[z - 2 : z + 3, y - 10 : y + 10, x] += 0.5 * float(np.ptp(scene.truth))
    assert (
        blurred_psnr_db(invented, scene, deblurred=True)
        < blurred_psnr_db(scene.truth, scene, deblurred=True) - 10
    )


def test_by_depth_only_the_layer_that_is_wrong_loses(scene: Scene) -> None:
    deep = (scene.labels > 0) & (scene.depth_um >= 10)
    assert deep.any()
    wrong = scene.truth.copy()
    wrong[deep] += 0.1 * np.float32(np.subtract(*np.percentile(scene.truth[deep], [99.9, 0.1])))
    assert psnr_by_depth_db(wrong, scene, EDGES) == (
        math.inf,
        math.inf,
        pytest.approx(20.0, abs=1e-3),
    )


def test_outside_the_specimen_nothing_counts(scene: Scene) -> None:
    image = raw(scene)
    before = psnr_by_depth_db(image, scene, EDGES)
    image[scene.labels == 0] = 1e5
    assert psnr_by_depth_db(image, scene, EDGES) == before
    assert all(value is not None and math.isfinite(value) for value in before)


def test_a_layer_that_the_stack_does_not_reach_has_no_figure(scene: Scene) -> None:
    assert psnr_by_depth_db(raw(scene), scene, (0.0, 100.0))[1] is None


@pytest.mark.parametrize("break_it", ["shape", "nan"])
def test_images_that_cannot_be_compared_are_refused(scene: Scene, break_it: str) -> None:
    image = raw(scene)
    if break_it == "nan":
        image[3, 4, 5] = np.nan
    else:
        image = image[:, ::2]
    message = "not finite" if break_it == "nan" else "both must be the same"
    with pytest.raises(StackError, match=message):
        blurred_psnr_db(image, scene, deblurred=True)
    with pytest.raises(StackError, match=message):
        psnr_by_depth_db(image, scene, EDGES)


def test_sharpness_knows_blur_from_noise_and_from_too_much(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    span = float(np.ptp(scene.truth))
    noisy = scene.truth + rng.normal(0, 0.3 * span, scene.truth.shape).astype(np.float32)
    assert sharpness(scene.truth, scene) == pytest.approx(1.0)
    assert sharpness(scene.blurred, scene) < 0.7
    assert sharpness(noisy, scene) == pytest.approx(1.0, abs=0.05)
    assert sharpness(1.5 * scene.truth + 7, scene) == pytest.approx(1.5, rel=1e-4)
    assert sharpness(
        rng.normal(0, span, scene.truth.shape).astype(np.float32), scene
    ) == pytest.approx(0.0, abs=0.1)
