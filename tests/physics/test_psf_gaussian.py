"""Gaussian point spread functions: what they sum to, how wide they are, how far they reach."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import erfc

from zenhance.errors import MethodError
from zenhance.physics.psf import (
    FWHM_PER_SIGMA,
    Psf,
    gaussian,
    gaussian_from_fwhm,
    gaussian_kernel_1d,
)

VOXEL = (0.3, 0.1, 0.1)


def _moments(profile: np.ndarray) -> tuple[float, float, float]:
    offsets = np.arange(profile.size) - profile.size // 2
    weights = profile.astype(np.float64)
    mean = float((weights * offsets).sum() / weights.sum())
    return (
        float(weights.sum()),
        mean,
        math.sqrt(float((weights * (offsets - mean) ** 2).sum() / weights.sum())),
    )


@pytest.mark.parametrize("sigma_px", [0.1, 0.25, 0.4, 0.6, 0.75, 1.0, 1.5, 2.0, 3.7, 10.0, 31.4])
def test_a_sampled_gaussian_has_unit_sum_no_shift_and_the_width_asked_for(sigma_px: float) -> None:
    total, mean, sigma = _moments(gaussian_kernel_1d(sigma_px))
    assert total == pytest.approx(1.0, abs=1e-6)
    assert mean == pytest.approx(0.0, abs=1e-7)
    assert sigma == pytest.approx(sigma_px, rel=0.01)


@pytest.mark.parametrize("sigma_px", [1.0, 1.3, 2.0, 6.5])
def test_from_one_pixel_on_the_kernel_is_the_curve_itself_at_the_voxel_centres(
    sigma_px: float,
) -> None:
    kernel = gaussian_kernel_1d(sigma_px).astype(np.float64)
    offsets = np.arange(kernel.size) - kernel.size // 2
    assert kernel / kernel.max() == pytest.approx(
        np.exp(-0.5 * (offsets / sigma_px) ** 2), abs=1e-6
    )


@pytest.mark.parametrize("sigma_px", [0.6, 1.0, 1.5, 2.0, 3.3, 7.9, 20.0])
def test_the_cut_is_at_four_sigma_or_more_and_not_two_voxels_further_than_needed(
    sigma_px: float,
) -> None:
    radius = gaussian_kernel_1d(sigma_px).size // 2
    assert radius >= 4.0 * sigma_px
    assert 3.0 * erfc((radius + 0.5) / sigma_px / math.sqrt(2.0)) < 1e-4
    assert radius - 1 < max(4.0 * sigma_px, 4.17 * sigma_px - 0.5)


def test_no_width_is_no_blur() -> None:
    assert gaussian_kernel_1d(0.0).tolist() == [1.0]


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(MethodError, match=r"standard deviation is -1 px, allowed is 0 or more"):
        gaussian_kernel_1d(-1.0)


def test_the_kernel_is_the_product_of_its_axes() -> None:
    psf = gaussian((0.45, 0.2, 0.15))
    axes = psf.axis_kernels(VOXEL)
    assert axes is not None
    kernel = psf.kernel(VOXEL)
    assert kernel.dtype == np.float32
    assert kernel == pytest.approx(np.einsum("i,j,k->ijk", *axes), abs=1e-7)
    assert kernel.shape == tuple(2 * r + 1 for r in psf.radius_px(VOXEL))
    assert psf.sigma_px(VOXEL) == pytest.approx((1.5, 2.0, 1.5))


def test_a_two_dimensional_kernel_is_one_plane() -> None:
    kernel = gaussian((0.45, 0.2, 0.2)).kernel(VOXEL, ndim=2)
    assert kernel.shape[0] == 1
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)


def test_two_widths_do_not_blur_along_z() -> None:
    psf = gaussian((0.2, 0.2))
    assert psf.sigma_um == (0.0, 0.2, 0.2)
    assert psf.kernel(VOXEL).shape[0] == 1


def test_full_width_at_half_maximum_is_where_the_curve_has_fallen_to_half() -> None:
    psf = gaussian_from_fwhm((0.6, 0.4, 0.4))
    assert psf.sigma_um[2] == pytest.approx(0.4 / 2.354820045)
    assert pytest.approx(math.sqrt(8.0 * math.log(2.0))) == FWHM_PER_SIGMA
    # With voxels of a quarter of the width, one half is reached two voxels from the centre.
    axes = psf.axis_kernels((1.0, 0.1, 0.1))
    assert axes is not None
    middle = axes[2].size // 2
    assert axes[2][middle + 2] / axes[2][middle] == pytest.approx(0.5, rel=1e-4)


def test_the_width_in_micrometres_does_not_depend_on_the_voxel() -> None:
    psf = gaussian((0.5, 0.3, 0.3))
    for voxel in (0.05, 0.1, 0.2, 0.3):
        profile = psf.kernel((voxel, voxel, voxel)).sum(axis=(1, 2))
        assert _moments(profile)[2] * voxel == pytest.approx(0.5, rel=0.01)


def test_the_description_names_each_number_with_its_origin() -> None:
    text = gaussian((0.5, 0.2, 0.2), "default").describe()
    assert (
        text
        == "gaussian: sigma_um 0.5 x 0.2 x 0.2 µm (default); standard deviation 0.5 x 0.2 x 0.2 µm "
        "(z, y, x)"
    )


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        ((0.0, 0.2, 0.2), r"sigma_um is 0 µm, allowed are more than 0 and at most 100"),
        ((0.2, -1.0, 0.2), r"sigma_um is -1 µm"),
        ((0.2, float("nan"), 0.2), r"sigma_um is nan µm"),
        ((0.2, 200.0, 0.2), r"sigma_um is 200 µm"),
        ((0.2,), r"sigma_um has 1 numbers; give three \(z, y, x in µm\), or two"),
    ],
)
def test_impossible_widths_are_refused(sigma: tuple[float, ...], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        gaussian(sigma)


def test_a_kernel_beyond_memory_is_refused_while_its_axes_are_not() -> None:
    psf = gaussian((50.0, 50.0, 50.0))
    with pytest.raises(MethodError, match=r"does not fit into memory; check its width"):
        psf.kernel(VOXEL)
    assert psf.axis_kernels(VOXEL) is not None


@pytest.mark.parametrize("voxel", [(0.0, 0.1, 0.1), (0.1, 0.1), (float("nan"), 0.1, 0.1)])
def test_a_voxel_size_that_is_none_is_refused(voxel: tuple[float, ...]) -> None:
    with pytest.raises(MethodError, match=r"is not three positive lengths"):
        gaussian((0.2, 0.2, 0.2)).kernel(voxel)


def test_only_images_and_stacks_have_kernels() -> None:
    with pytest.raises(MethodError, match=r"a PSF has 2 or 3 dimensions, not 4"):
        gaussian((0.2, 0.2, 0.2)).kernel(VOXEL, ndim=4)


def test_a_psf_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        gaussian((0.2, 0.2, 0.2)).kind = "other"  # type: ignore[misc]
    assert isinstance(hash(gaussian((0.2, 0.2, 0.2))), int)
    assert gaussian((0.2, 0.2, 0.2)) == gaussian((0.2, 0.2, 0.2))
    assert isinstance(gaussian((0.2, 0.2, 0.2)), Psf)


def test_point_spread_functions_and_noise_are_imported_without_torch() -> None:
    code = (
        "import sys, zenhance.physics.psf, zenhance.physics.noise; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
