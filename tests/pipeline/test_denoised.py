"""The estimate seen through the microscope again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import zenhance
from zenhance.errors import RecipeError
from zenhance.pipeline import EnhanceRequest
from zenhance.stack import Stack, VoxelSize

VOXEL_UM = (0.5, 0.2, 0.2)
SIGMA_PX = (1.2, 1.5, 1.5)
PSF = "sigma_um=" + ",".join(f"{s * v:g}" for s, v in zip(SIGMA_PX, VOXEL_UM, strict=True))


def beads(seed: int = 0, photons: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a noise-free blurred volume and its Poisson measurement, offset 100, (16, 48, 48)."""
    rng = np.random.default_rng(seed)
    light = np.zeros((16, 48, 48))
    light[tuple(rng.integers(2, n - 2, 40) for n in light.shape)] = 1.0
    clean = ndimage.gaussian_filter(light, SIGMA_PX, mode="reflect", truncate=6)
    clean = photons * clean / clean.max()
    return clean + 100, (rng.poisson(clean + 1) + 99).astype(np.float32)


def run(image: np.ndarray, axes: str = "ZYX", **fields: object) -> zenhance.EnhanceResult:
    stack = Stack.from_array(image, axes).with_data(
        image, voxel_size=VoxelSize.of(VOXEL_UM if "Z" in axes else (None, *VOXEL_UM[1:]))
    )
    return zenhance.enhance(stack, device="cpu", psf=PSF, **fields)


def test_the_denoised_estimate_is_the_sharp_one_blurred_by_the_psf() -> None:
    _, measured = beads()
    sharp = run(measured).stack.read()
    seen = run(measured, output="denoised").stack.read()
    expected = ndimage.gaussian_filter(
        sharp.astype(np.float64), SIGMA_PX, mode="reflect", truncate=5
    )
    assert np.abs(seen - expected).max() < 2e-3 * np.ptp(sharp)
    assert seen.sum() == pytest.approx(sharp.sum(), rel=1e-4)


def test_the_denoised_estimate_is_closer_to_the_noise_free_measurement() -> None:
    for seed in range(3):
        clean, measured = beads(seed)
        seen = run(measured, output="denoised").stack.read()
        assert np.mean((seen - clean) ** 2) < 0.25 * np.mean((measured - clean) ** 2)


def test_tiles_of_the_denoised_estimate_agree_with_the_whole() -> None:
    _, measured = beads()
    whole = run(measured, output="denoised", method="rdn").stack.read()
    tiled = run(measured, output="denoised", method="rdn", tile_px=(16, 24, 24)).stack.read()
    assert np.abs(whole - tiled).max() < 1e-4 * np.ptp(whole)


def test_planes_deblurred_one_by_one_are_blurred_in_the_plane() -> None:
    _, measured = beads()
    settings = {"dimensions": 2, "stop": "fixed", "iterations": 3}
    sharp = run(measured, settings=settings).stack.read()
    seen = run(measured, settings=settings, output="denoised").stack.read()
    expected = ndimage.gaussian_filter(
        sharp.astype(np.float64), (0, *SIGMA_PX[1:]), mode="reflect", truncate=5
    )
    assert np.abs(seen - expected).max() < 2e-3 * np.ptp(sharp)


def test_an_image_of_one_plane_can_be_denoised() -> None:
    _, measured = beads()
    assert run(measured[8], "YX", output="denoised").stack.shape == (48, 48)


def test_a_method_that_does_not_deblur_is_left_as_it_is() -> None:
    _, measured = beads()
    same = run(measured, method="identity", output="denoised").stack.read()
    np.testing.assert_array_equal(same, measured)


def test_the_record_says_that_the_result_keeps_the_blur() -> None:
    _, measured = beads()
    result = run(measured, output="denoised")
    assert result.provenance.deblurs == (False,)
    assert result.provenance.request["output"] == "denoised"
    assert result.stack.name.endswith("denoised")


def test_the_standard_deviation_of_the_sharp_estimate_is_not_given_for_the_blurred_one() -> None:
    drawn = EnhanceRequest(method="divblurring", output="denoised", arbitrate=False)
    assert [spec.name for spec in drawn.outputs() if not spec.series] == ["enhanced"]


def test_a_finer_grid_is_refused() -> None:
    with pytest.raises(RecipeError, match="denoised keeps the grid of the measurement"):
        EnhanceRequest(method="rdn", settings={"scale": 2}, output="denoised").parameters()
