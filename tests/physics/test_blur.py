"""One contract for every blur: adjoint, linearity, points, constants, light, edges."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from zenhance.errors import MethodError, StackError
from zenhance.physics.blur import Blur
from zenhance.physics.psf import GaussianShape, Psf, airy, gaussian

UNIT = (1.0, 1.0, 1.0)
GAUSS = gaussian((1.2, 1.7, 2.0))
LOPSIDED = np.random.default_rng(5).random((5, 7, 9))
LOPSIDED_AXES = tuple(np.random.default_rng(6).random(n) for n in (5, 9, 21))


def _gauss_by_axes() -> Blur:
    return Blur.from_psf(GAUSS, UNIT, (12, 40, 70))


def _gauss_by_spectrum() -> Blur:
    return Blur.from_kernel(GAUSS.kernel(UNIT))


OPERATORS = {
    "gauss by axes": _gauss_by_axes,
    "gauss by spectrum": _gauss_by_spectrum,
    "gauss in planes": lambda: Blur.from_psf(gaussian((1.5, 1.5)), UNIT, (12, 40, 70)),
    "airy": lambda: Blur.from_psf(airy(0.8, 1.33, 520.0), (0.8, 0.2, 0.2), (12, 40, 70)),
    "lopsided": lambda: Blur.from_kernel(LOPSIDED),
    "lopsided by axes": lambda: Blur.from_axis_kernels(*LOPSIDED_AXES),
    "wide by axes": lambda: Blur.from_psf(gaussian((6.0, 20.0, 20.0)), UNIT, (12, 40, 70)),
    "no blur": lambda: Blur.from_kernel(np.ones((1, 1, 1))),
    "no blur by axes": lambda: Blur.from_axis_kernels([1.0], [1.0], [1.0]),
}
SHAPES = [
    (12, 40, 70),
    (1, 33, 65),
    (1, 1, 1),
    (2, 3, 1),
    (9, 4, 6),
    (1, 7, 5),
    (3, 2, 8),
    (2, 5, 40, 33),
    (2, 3, 4, 9, 7),
]


def _random(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


@pytest.fixture(scope="module", params=OPERATORS.values(), ids=OPERATORS.keys())
def blur(request: pytest.FixtureRequest) -> Blur:
    return request.param()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5)],
    ids=["float64", "float32"],
)
def test_the_adjoint_is_exact(
    blur: Blur, shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    x, y = _random(shape, 1, dtype), _random(shape, 2, dtype)
    forward = (blur(x).double() * y.double()).sum()
    backward = (x.double() * blur.adjoint(y).double()).sum()
    assert abs(float(forward - backward)) <= tolerance * float(
        x.double().norm() * y.double().norm()
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_linear(blur: Blur, shape: tuple[int, ...]) -> None:
    x, y = _random(shape, 3), _random(shape, 4)
    torch.testing.assert_close(
        blur(2.5 * x - 0.5 * y), 2.5 * blur(x) - 0.5 * blur(y), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_constant_stays_constant_to_the_last_voxel(blur: Blur, shape: tuple[int, ...]) -> None:
    image = torch.full(shape, 7.0)
    torch.testing.assert_close(blur(image), image, rtol=2e-6, atol=0.0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_symmetric_psf_keeps_the_photons_and_is_its_own_adjoint(
    blur: Blur, shape: tuple[int, ...]
) -> None:
    x = _random(shape, 5, torch.float32).abs()
    if not blur.is_symmetric:
        # Light that a lopsided PSF pushes over the edge is not all pushed back; the adjoint shows
        # it.
        assert not torch.allclose(blur(x), blur.adjoint(x), rtol=1e-3) or x.numel() == 1
        return
    assert float(blur(x).double().sum() / x.double().sum()) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(blur(x), blur.adjoint(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("gauss by axes", GAUSS.kernel(UNIT)),
        ("gauss by spectrum", GAUSS.kernel(UNIT)),
        ("lopsided", LOPSIDED / LOPSIDED.sum()),
    ],
)
def test_a_point_becomes_the_psf(name: str, kernel: np.ndarray) -> None:
    shape = tuple(n + 6 for n in kernel.shape)
    point = torch.zeros(shape)
    point[tuple(n // 2 for n in shape)] = 1.0
    seen = OPERATORS[name]()(point).numpy()
    corner = [s // 2 - k // 2 for s, k in zip(shape, kernel.shape, strict=True)]
    inside = tuple(slice(c, c + k) for c, k in zip(corner, kernel.shape, strict=True))
    assert seen[inside] == pytest.approx(kernel, abs=1e-7)
    seen[inside] = 0.0
    assert abs(seen).max() < 1e-7


@pytest.mark.parametrize("shape", [(12, 40, 70), (5, 9, 6), (1, 33, 65), (2, 3, 1)], ids=str)
def test_axes_agree_with_scipys_gaussian_filter(shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(7).random(shape)
    sigma = (0.0 if shape[0] == 1 else 1.2, 1.7, 2.0)
    blur = Blur.from_psf(GAUSS, UNIT, shape)
    expected = ndimage.gaussian_filter(x, sigma, mode="reflect", radius=blur.radius_px)
    assert blur(torch.from_numpy(x)).numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(12, 20, 17), (4, 3, 5), (1, 8, 8), (2, 2, 1)], ids=str)
def test_spectra_agree_with_scipys_convolution_also_where_the_kernel_is_larger_than_the_image(
    shape: tuple[int, int, int],
) -> None:
    x = np.random.default_rng(8).random(shape)
    expected = ndimage.convolve(x, LOPSIDED / LOPSIDED.sum(), mode="reflect")
    assert Blur.from_kernel(LOPSIDED)(torch.from_numpy(x)).numpy() == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spectra_and_axes_agree(shape: tuple[int, ...]) -> None:
    x = _random(shape, 9, torch.float32).abs()
    torch.testing.assert_close(_gauss_by_spectrum()(x), _gauss_by_axes()(x), rtol=1e-5, atol=2e-6)
    product = np.einsum("i,j,k->ijk", *LOPSIDED_AXES)
    by_axes = Blur.from_axis_kernels(*LOPSIDED_AXES)
    torch.testing.assert_close(
        Blur.from_kernel(product).adjoint(x), by_axes.adjoint(x), rtol=1e-5, atol=2e-6
    )


def test_the_same_specimen_on_finer_voxels_looks_the_same_in_micrometres() -> None:
    psf = gaussian((0.5, 0.4, 0.4))
    coarse_x, fine_x = (np.arange(-6.0, 6.0, step) + step / 2 for step in (0.2, 0.1))

    def seen(x: np.ndarray, voxel: float) -> Tensor:
        specimen = torch.from_numpy(np.exp(-0.5 * (x / 0.6) ** 2))[None, None, :].expand(3, 3, -1)
        return Blur.from_psf(psf, (0.3, 0.3, voxel), (3, 3, x.size))(specimen)[1, 1]

    # Gaussians add in squares: sqrt(0.6^2 + 0.4^2) = 0.7211, height 0.6 / 0.7211.
    width = np.hypot(0.6, 0.4)
    for x, voxel in ((coarse_x, 0.2), (fine_x, 0.1)):
        expected = 0.6 / width * np.exp(-0.5 * (x / width) ** 2)
        assert seen(x, voxel).numpy() == pytest.approx(expected, abs=1e-3)


def test_a_batch_is_blurred_as_its_members_are(blur: Blur) -> None:
    batch = _random((2, 3, 6, 9, 8), 10)
    whole = blur(batch)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(whole[i, j], blur(batch[i, j]), rtol=1e-10, atol=1e-12)


def test_views_that_are_not_contiguous_are_blurred_as_their_copies_are(blur: Blur) -> None:
    image = _random((9, 12, 10), 11).transpose(0, 2)
    torch.testing.assert_close(blur(image), blur(image.contiguous()))


def test_out_receives_the_result_and_the_image_is_left_alone(blur: Blur) -> None:
    image = _random((5, 33, 40), 12, torch.float32)
    before, out = image.clone(), torch.empty_like(image)
    assert blur(image, out=out) is out
    torch.testing.assert_close(out, blur(image))
    assert blur.adjoint(image, out=out) is out
    torch.testing.assert_close(out, blur.adjoint(image))
    assert torch.equal(image, before)


def test_gradients_are_the_adjoint(blur: Blur) -> None:
    x = _random((4, 9, 7), 13).requires_grad_(True)
    weights = _random((4, 9, 7), 14)
    (blur(x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, blur.adjoint(weights))
    y = _random((4, 9, 7), 15).requires_grad_(True)
    (blur.adjoint(y) * weights).sum().backward()
    torch.testing.assert_close(y.grad, blur(weights))


def test_second_derivatives_exist() -> None:
    x = _random((2, 5, 5), 16).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda v: (_gauss_by_axes()(v) ** 2).sum(), (x,))


def test_a_blur_tells_its_size_and_cannot_be_changed() -> None:
    blur = _gauss_by_axes()
    assert blur.kernel_shape_px == GAUSS.kernel(UNIT).shape
    assert blur.radius_px == GAUSS.radius_px(UNIT)
    assert blur.is_separable
    assert blur.is_symmetric
    assert not Blur.from_kernel(LOPSIDED).is_symmetric
    with pytest.raises(AttributeError):
        blur.is_symmetric = False  # type: ignore[misc]


def test_changing_the_array_it_was_made_from_changes_nothing() -> None:
    kernel = np.array(LOPSIDED)
    blur, image = Blur.from_kernel(kernel), _random((5, 6, 7), 17)
    before = blur(image)
    kernel[:] = 1.0
    torch.testing.assert_close(Blur.from_kernel(LOPSIDED)(image), before)
    torch.testing.assert_close(blur(image.expand(2, 5, 6, 7))[1], before)


def test_a_single_plane_meets_the_plane_in_focus() -> None:
    blur = Blur.from_psf(GAUSS, UNIT, (1, 20, 20))
    assert blur.kernel_shape_px[0] == 1


def test_a_psf_that_is_no_gaussian_is_not_separable() -> None:
    assert not Blur.from_psf(airy(0.8, 1.33, 520.0), (0.8, 0.2, 0.2), (4, 30, 30)).is_separable
    assert Blur.from_psf(
        Psf("gaussian", (), GaussianShape((0.1, 0.2, 0.3))), UNIT, (4, 30, 30)
    ).is_separable


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (
            np.ones((3, 4, 3)),
            r"a kernel of shape \(3, 4, 3\) cannot be used; it needs 3 axes and an odd, centred "
            r"size",
        ),
        (np.ones(3), r"a kernel of shape \(3,\) cannot be used"),
        (-np.ones((3, 3, 3)), r"a kernel has values that are negative, not finite, or all zero"),
        (np.full((3, 3), np.nan), r"a kernel has values that are negative, not finite"),
        (np.zeros((1, 1, 1)), r"all zero"),
    ],
)
def test_kernels_that_are_no_distribution_of_light_are_refused(
    kernel: np.ndarray, message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        Blur.from_kernel(kernel)


def test_an_even_axis_kernel_is_refused() -> None:
    with pytest.raises(
        MethodError, match=r"an axis kernel of shape \(2,\) cannot be used; it needs 1 axes"
    ):
        Blur.from_axis_kernels([1.0], [0.5, 0.5], [1.0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            torch.zeros(4, 4),
            r"at least the axes Z, Y, X, none of them empty; its shape is \(4, 4\)",
        ),
        (torch.zeros(1, 0, 4), r"none of them empty"),
        (torch.zeros(1, 4, 4, dtype=torch.float16), r"float32 or float64, not torch.float16"),
    ],
)
def test_images_that_cannot_be_blurred_are_refused(image: Tensor, message: str) -> None:
    with pytest.raises(StackError, match=message):
        _gauss_by_axes()(image)


def test_a_place_for_the_result_must_fit_and_not_be_the_image() -> None:
    image = torch.zeros(3, 4, 5)
    with pytest.raises(StackError, match=r"out has shape \(3, 4, 4\)"):
        _gauss_by_axes()(image, out=torch.zeros(3, 4, 4))
    with pytest.raises(StackError, match=r"out is the image itself"):
        _gauss_by_axes()(image, out=image)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_what_the_cpu_gives(blur: Blur) -> None:
    image = _random((12, 40, 70), 18, torch.float32)
    torch.testing.assert_close(blur(image.cuda()).cpu(), blur(image), rtol=1e-4, atol=1e-5)
