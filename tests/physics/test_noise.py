"""Poisson-Gauss noise: samples have the moments of the formula, estimates find what was drawn."""

import math
import re

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial import cKDTree
from tifffile import imread

from zenhance.errors import MethodError, StackError
from zenhance.physics.noise import PoissonGauss, estimate, estimate_background
from zenhance.physics.noise_blocks import measure_blocks
from zenhance.physics.noise_estimate import fit_camera


def _membranes(sigma_px: float, seed: int = 1) -> np.ndarray:
    """Blurred cell walls between random points in two thirds of the view; 0 to 1."""
    shape = (12, 128, 128)
    points = np.random.default_rng(seed).random((90, 3)) * np.array(shape)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    distance, _ = cKDTree(points).query(grid, 2)
    walls = (distance[..., 1] - distance[..., 0] < 1.5).astype(float)
    walls[:, :44] = 0.0
    image = ndimage.gaussian_filter(walls, sigma_px)
    return image / image.max()


def _spots(sigma_px: float, seed: int = 2) -> np.ndarray:
    shape, rng = (24, 128, 128), np.random.default_rng(seed)
    image = np.zeros(shape)
    image[tuple(rng.integers(0, n, 300) for n in shape)] = 1.0
    image = ndimage.gaussian_filter(image, sigma_px)
    return image / image.max()


CAMERAS = [
    (30.0, 2.0, 10.0, 1.0),
    (200.0, 1.0, 100.0, 2.0),
    (8.0, 4.0, 10.0, 0.0),
    (100.0, 20.0, 200.0, 10.0),
]


def test_samples_have_the_mean_and_variance_of_the_formula() -> None:
    noise = PoissonGauss(gain=2.5, offset=100.0, read_noise=3.0)
    y = noise.sample(np.full((50, 200, 200), 12.0), 3).astype(np.float64)
    # 2e6 voxels: the mean is known to 0.005, the variance to 0.1 %.
    assert y.mean() == pytest.approx(2.5 * 12.0 + 100.0, abs=0.03)
    assert y.var() == pytest.approx(2.5**2 * 12.0 + 9.0, rel=0.005)
    assert noise.variance(130.0) == pytest.approx(2.5**2 * 12.0 + 9.0)
    assert noise.variance([90.0, 100.0]) == pytest.approx([9.0, 9.0])


def test_a_seed_gives_the_same_picture_and_another_seed_another() -> None:
    noise, photons = PoissonGauss(1.0, 10.0, 1.0), np.linspace(0.0, 50.0, 1000).reshape(10, 10, 10)
    assert np.array_equal(noise.sample(photons, 7), noise.sample(photons, 7))
    assert np.array_equal(
        noise.sample(photons, 7), noise.sample(photons, np.random.Generator(np.random.Philox(7)))
    )
    assert not np.array_equal(noise.sample(photons, 7), noise.sample(photons, 8))
    assert noise.sample(photons, 7).dtype == np.float32


def test_without_light_and_read_noise_the_offset_is_seen() -> None:
    assert np.array_equal(
        PoissonGauss(3.0, 12.0).sample(np.zeros((2, 3, 4)), 0),
        np.full((2, 3, 4), 12.0, dtype=np.float32),
    )


@pytest.mark.parametrize("photons", [-1.0, float("nan"), float("inf")])
def test_photons_that_cannot_be_are_refused(photons: float) -> None:
    with pytest.raises(
        StackError, match=r"expected photons must be finite and 0 or more everywhere"
    ):
        PoissonGauss(1.0).sample(np.array([1.0, photons]), 0)


def test_the_likelihood_is_exact_without_read_noise() -> None:
    noise, counts = PoissonGauss(gain=2.0, offset=5.0), np.arange(0, 30)
    expected = stats.poisson.logpmf(counts, 11.0) - math.log(2.0)
    assert noise.log_likelihood(5.0 + 2.0 * counts, 5.0 + 2.0 * 11.0) == pytest.approx(
        expected, abs=1e-10
    )


@pytest.mark.parametrize(
    ("mean_photons", "read_noise"), [(50.0, 4.0), (200.0, 2.0), (20.0, 6.0), (5.0, 8.0)]
)
def test_the_likelihood_follows_the_convolution_of_poisson_and_gauss(
    mean_photons: float, read_noise: float
) -> None:
    noise = PoissonGauss(gain=2.0, offset=10.0, read_noise=read_noise)
    mean, width = (
        10.0 + 2.0 * mean_photons,
        math.sqrt(float(noise.variance(10.0 + 2.0 * mean_photons))),
    )
    y = np.linspace(mean - 2.0 * width, mean + 2.0 * width, 41)
    counts = np.arange(0, 800)
    density = (
        stats.poisson.pmf(counts, mean_photons)
        * stats.norm.pdf(y[:, None], 10.0 + 2.0 * counts, read_noise)
    ).sum(axis=1)
    assert noise.log_likelihood(y, mean) == pytest.approx(np.log(density), abs=0.1)


def test_the_likelihood_of_very_much_light_is_normal_and_finite() -> None:
    noise = PoissonGauss(gain=1e-6, offset=0.0, read_noise=0.5)
    assert noise.log_likelihood([0.7, 0.2], [0.5, 0.5]) == pytest.approx(
        stats.norm.logpdf([0.7, 0.2], 0.5, 0.5), abs=1e-3
    )


def test_what_cannot_be_seen_has_no_likelihood() -> None:
    noise = PoissonGauss(gain=1.0, offset=10.0)
    assert noise.log_likelihood([10.0, 11.0, 9.0], [10.0, 10.0, 20.0]).tolist() == [
        0.0,
        -math.inf,
        -math.inf,
    ]


def test_the_likelihood_is_highest_at_the_truth() -> None:
    noise = PoissonGauss(gain=3.0, offset=20.0, read_noise=2.0)
    y = noise.sample(np.full(20_000, 15.0), 5)
    trials = np.array([55.0, 60.0, 64.0, 65.0, 66.0, 70.0])
    totals = [float(noise.log_likelihood(y, m).sum()) for m in trials]
    assert trials[int(np.argmax(totals))] == 65.0


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.0, 0.0, 0.0), r"the gain is 0 grey values per photon, allowed is more than 0"),
        ((1.0, math.nan, 0.0), r"the offset is nan, allowed is any finite grey value"),
        ((1.0, 0.0, -1.0), r"the read noise is -1 grey values, allowed is 0 or more"),
    ],
)
def test_impossible_detectors_are_refused(
    numbers: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        PoissonGauss(*numbers)


@pytest.mark.parametrize(("photons", "gain", "offset", "read_noise"), CAMERAS)
@pytest.mark.parametrize("sigma_px", [1.0, 2.0])
@pytest.mark.parametrize("rounded", [False, True], ids=["exact", "rounded"])
def test_the_detector_is_found_on_membranes(
    photons: float, gain: float, offset: float, read_noise: float, sigma_px: float, rounded: bool
) -> None:
    y = PoissonGauss(gain, offset, read_noise).sample(_membranes(sigma_px) * photons + 0.2, 3)
    found = estimate(np.clip(np.rint(y), 0, 65535).astype(np.uint16) if rounded else y)
    assert found.gain == pytest.approx(gain, rel=0.15)
    # What the background is made of: the offset, and the little light that is everywhere.
    assert found.offset == pytest.approx(
        offset + 0.2 * gain, abs=0.3 * math.sqrt(read_noise**2 + 0.2 * gain**2) + 0.1
    )
    assert found.read_noise == pytest.approx(
        math.sqrt(read_noise**2 + 0.2 * gain**2), rel=0.15, abs=0.3
    )


@pytest.mark.parametrize(("photons", "gain", "offset", "read_noise"), CAMERAS)
def test_the_detector_is_found_on_spots(
    photons: float, gain: float, offset: float, read_noise: float
) -> None:
    y = PoissonGauss(gain, offset, read_noise).sample(_spots(1.5) * photons + 0.5, 4)
    assert estimate(y).gain == pytest.approx(gain, rel=0.2)


def test_saturated_voxels_do_not_lower_the_gain() -> None:
    y = np.rint(PoissonGauss(4.0, 10.0, 1.0).sample(_membranes(1.5) * 80.0 + 0.2, 5))
    assert (y > 255).mean() > 0.01
    assert estimate(np.clip(y, 0, 255).astype(np.uint8)).gain == pytest.approx(4.0, rel=0.15)


def test_black_that_is_cut_off_does_not_spoil_the_gain() -> None:
    y = PoissonGauss(4.0, 1.0, 3.0).sample(_membranes(1.5) * 60.0, 6)
    assert (y < 0).mean() > 0.1
    assert estimate(np.clip(np.rint(y), 0, 255).astype(np.uint8)).gain == pytest.approx(
        4.0, rel=0.2
    )


def test_a_padded_border_without_data_does_not_spoil_the_gain() -> None:
    y = PoissonGauss(3.0, 50.0, 2.0).sample(_membranes(1.5) * 60.0, 7)
    y[:, :, :20] = 0.0
    found = estimate(y)
    assert found.gain == pytest.approx(3.0, rel=0.2)
    assert found.offset == pytest.approx(50.0, abs=1.0)


def test_voxels_that_are_not_finite_do_not_spoil_the_gain() -> None:
    y = PoissonGauss(3.0, 50.0, 2.0).sample(_membranes(1.5) * 60.0, 7)
    y[:, 100:110, 20:90] = np.nan
    y[0, 0, 0] = np.inf
    assert estimate(y).gain == pytest.approx(3.0, rel=0.2)


def test_noise_of_one_strength_everywhere_is_read_noise() -> None:
    y = 100.0 + _membranes(2.0) * 50.0 + np.random.default_rng(8).normal(0.0, 3.0, (12, 128, 128))
    found = estimate(y)
    assert math.sqrt(float(found.variance(110.0))) == pytest.approx(3.0, rel=0.1)
    assert found.gain < 0.15


def test_a_known_offset_is_taken_as_given() -> None:
    y = PoissonGauss(3.0, 50.0, 2.0).sample(_membranes(1.5) * 60.0 + 5.0, 9)
    found = estimate(y, offset=50.0)
    assert found.offset == 50.0
    assert found.read_noise == pytest.approx(2.0, abs=2.0)
    assert estimate(y).offset == pytest.approx(65.0, abs=1.0)


def test_steps_of_structure_are_not_noise() -> None:
    ramp = np.add.outer(np.arange(100.0), np.arange(100.0))
    found = estimate(ramp)
    # Rounding to whole grey values is all the noise there is.
    assert found.read_noise == pytest.approx(math.sqrt(1.0 / 12.0), abs=0.01)
    assert found.gain == pytest.approx(198.0 / 1e4, rel=0.2)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, 20, 20)),
        np.full((1, 1), 5, np.uint8),
        np.full((4, 1, 7), 3.0),
        np.random.default_rng(0).random((2, 3, 5)),
        np.random.default_rng(0).random((1, 2, 2)),
        np.full((5, 16, 16), 65535, np.uint16),
        np.where(np.eye(32) > 0, np.nan, 7.0),
        np.random.default_rng(0).normal(0.0, 1.0, (3, 64, 64)) * 1e-12,
        np.random.default_rng(0).normal(0.0, 1.0, (3, 64, 64)) * 1e12,
    ],
    ids=str,
)
def test_any_image_gives_a_finite_detector(image: np.ndarray) -> None:
    found = estimate(image)
    assert found.gain > 0.0
    assert all(
        math.isfinite(v)
        for v in (found.gain, found.offset, found.read_noise, estimate_background(image))
    )


@pytest.mark.parametrize("image", [np.zeros((0, 4, 4)), np.zeros(5), np.zeros((2, 2, 3, 3))])
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(
        StackError,
        match=r"noise is measured on an image \(Y, X\) or a stack \(Z, Y, X\), not on an array",
    ):
        estimate(image)


def test_an_image_without_a_finite_voxel_is_refused() -> None:
    with pytest.raises(StackError, match=r"the image has no finite voxel"):
        estimate_background(np.full((2, 4, 4), np.nan))


@pytest.mark.parametrize("empty", [0.1, 0.2, 0.7])
def test_the_background_is_found_where_little_or_much_is_empty(empty: float) -> None:
    rng = np.random.default_rng(10)
    light = 30.0 + 20.0 * ndimage.gaussian_filter(rng.normal(size=(6, 160, 160)), 6) * 20.0
    light = np.clip(light, 10.0, None)
    light[:, : int(empty * 160)] = 0.0
    y = PoissonGauss(2.0, 100.0, 2.0).sample(light, 11)
    assert estimate_background(y) == pytest.approx(100.0, abs=1.0)


def test_the_noise_of_a_real_confocal_stack_grows_with_its_light(shared_data) -> None:
    stack = imread(shared_data / "plant_tissue" / "p60_floral_meristem_membrane_raw.tif")
    found = estimate(stack)
    assert found.offset == pytest.approx(13.0, abs=1.5)
    # An independent measure: diagonal differences where the contrast is low.
    flat = stack[:, 2:-2, 2:-2].astype(float)
    smooth = ndimage.uniform_filter(flat, (0, 5, 5))
    contrast = ndimage.generic_gradient_magnitude(smooth, ndimage.sobel)
    diagonal = (flat[:, 1:, 1:] - flat[:, 1:, :-1] - flat[:, :-1, 1:] + flat[:, :-1, :-1]) / 2.0
    for low, high in ((30.0, 40.0), (90.0, 110.0)):
        calm = (smooth >= low) & (smooth < high)
        calm &= contrast < np.quantile(contrast[calm], 0.2)
        chosen = diagonal[calm[:, 1:, 1:]]
        middle = (low + high) / 2.0
        assert float(found.variance(middle)) == pytest.approx(chosen.var(), rel=0.25)


@pytest.mark.parametrize("shape", [(20, 48, 52), (8, 64, 64), (5, 9, 9)])
def test_a_smooth_image_without_any_noise_has_hardly_a_gain(shape: tuple[int, int, int]) -> None:
    ramp = np.resize(np.arange(1000, dtype=np.float32), shape)
    for found in (estimate(ramp), estimate(ramp, offset=5.0)):
        assert 0 < found.gain < 1
        assert np.isfinite(found.read_noise)


def _tissue(sigma_px: tuple[float, float, float] = (1.0, 1.3, 1.3), seed: int = 4) -> np.ndarray:
    """Cells that fill the field, with bright walls and cytoplasm of many brightnesses; 0 to 1."""
    shape, rng = (16, 128, 128), np.random.default_rng(seed)
    points = rng.random((160, 3)) * np.array(shape)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    distance, owner = cKDTree(points).query(grid, 2)
    cytoplasm = 0.25 * rng.lognormal(0.0, 0.5, 160)[owner[..., 0]]
    image = np.maximum(distance[..., 1] - distance[..., 0] < 1.5, cytoplasm)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    image = ndimage.gaussian_filter(image * np.exp(0.15 * texture / texture.std()), sigma_px)
    return image / image.max()


def test_the_background_of_tissue_that_fills_the_field_is_the_offset_not_the_cytoplasm() -> None:
    light = _tissue() * 30.0
    y = np.rint(PoissonGauss(4.0, 100.0, 2.0).sample(light, 12)).astype(np.uint16)
    found = estimate(y)
    # The darkest percent of the tissue is at 113; a background of 120 would erase most of it.
    assert found.offset == pytest.approx(100.0, abs=6.0)
    assert found.read_noise < 6.0
    assert found.gain == pytest.approx(4.0, rel=0.1)
    assert (ndimage.uniform_filter(y.astype(float), 3) < found.offset).mean() < 0.01


def _small_stack(number: int) -> np.ndarray:
    """Return a stack of up to 8 planes that structure fills, of any gain, offset and light."""
    rng = np.random.default_rng(number)
    shape = tuple(int(n) for n in (rng.integers(1, 8), *rng.integers(16, 80, 2)))
    field = ndimage.gaussian_filter(rng.normal(size=shape), [1.0] + [rng.uniform(0.8, 6.0)] * 2)
    field /= field.std()
    light = (
        np.exp(field),
        np.maximum(field + 3.0, 0.0),
        np.abs(field) + rng.uniform(0.0, 2.0),
        (field > 0.0) + rng.uniform(0.0, 1.0),
    )[number % 4]
    gain, offset = 10 ** rng.uniform(-1.0, 1.5), rng.choice([0.0, 30.0, 100.0, 1000.0])
    camera = PoissonGauss(gain, offset, gain * rng.choice([0.0, 0.5, 2.0]))
    grey = camera.sample(light * 10 ** rng.uniform(0.5, 3.0), rng)
    return np.rint(grey) if number % 3 else grey


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_the_offset_is_not_above_the_lowest_voxels_by_more_than_the_noise_allows(
    first: int,
) -> None:
    for number in range(first, first + 30):
        grey = _small_stack(number)
        found = estimate(grey)
        # Of 40 000 draws the lowest is hardly ever more than 4.5 standard deviations down; a
        # photon more or less is in the noise, too.
        noise = math.hypot(found.read_noise, found.gain)
        assert found.offset <= grey.min() + 4.5 * noise, number


def test_fine_structure_that_fills_a_small_stack_is_no_dark_region() -> None:
    rng = np.random.default_rng(1)
    light = 20.0 + 50.0 * np.abs(ndimage.gaussian_filter(rng.normal(size=(4, 48, 48)), 1.0))
    grey = np.rint(PoissonGauss(4.0, 30.0, 1.0).sample(light, 2))
    found = fit_camera(measure_blocks(grey))
    assert not found.dark
    # Taken for a dark region, it gave a gain of 26.
    assert found.gain.value == pytest.approx(4.0, rel=0.6)
    assert found.offset.value <= grey.min() + 4.5 * math.hypot(
        found.read_noise.value, found.gain.value
    )


def test_a_16_bit_stack_without_darkness_has_an_offset_below_its_minimum() -> None:
    light = _tissue((3.0, 5.0, 5.0), seed=6)
    y = np.rint(PoissonGauss(7.4, 748.0, 6.0).sample(light * 360.0, 13)).astype(np.uint16)
    found = estimate(y)
    assert y.min() > 1100
    assert found.offset < y.min()
    assert found.offset == pytest.approx(748.0, abs=100.0)
    assert found.gain == pytest.approx(7.4, rel=0.1)


def test_noise_on_smooth_tissue_is_measured_as_well_as_on_sharp() -> None:
    y = np.rint(PoissonGauss(2.0, 100.0, 2.0).sample(_tissue((3.0, 5.0, 5.0)) * 200.0, 14))
    assert estimate(y.astype(np.uint16)).gain == pytest.approx(2.0, rel=0.1)


def test_an_image_without_noise_is_given_ten_thousand_photons_and_says_so() -> None:
    light = 1000.0 + 2000.0 * _tissue((3.0, 5.0, 5.0))
    for image in (light, ndimage.gaussian_filter(np.random.default_rng(0).poisson(light), 1.5)):
        fit = fit_camera(measure_blocks(image))
        bright = float(np.quantile(image, 0.999) - image.min())
        assert fit.gain.value == pytest.approx(bright / 1e4, rel=0.3)
        assert not fit.determined
        assert any("shows no pixel noise" in line for line in fit.remarks)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("number", range(4))
def test_random_cameras_are_found_within_their_intervals(bits: int, number: int) -> None:
    rng, top = np.random.default_rng([bits, number]), 2**bits - 1
    gain = float(np.exp(rng.uniform(math.log(0.1), math.log(20.0))))
    offset, read = rng.uniform(0.0, min(5000.0, 0.2 * top)), rng.uniform(0.0, min(10.0, top / 50))
    photons = min(float(np.exp(rng.uniform(math.log(50.0), math.log(2000.0)))), 0.8 * top / gain)
    light = _tissue(seed=number) * photons + 0.3
    light[:, :40] = 0.3
    y = PoissonGauss(gain, offset, read).sample(light, number)
    fit = fit_camera(measure_blocks(np.clip(np.rint(y), 0, top).astype(np.uint16)))
    # Where read noise and rounding exceed the photons' noise, only the interval is promised.
    telling = gain * gain * photons / 4.0 > 4.0 * (read**2 + 1.0 / 12.0)
    assert fit.gain.low * 0.95 <= gain <= fit.gain.high * 1.05
    if telling:
        assert fit.gain.value == pytest.approx(gain, rel=0.1)
    assert fit.offset.low - 3.0 <= offset <= fit.offset.high + 3.0


def test_light_that_is_everywhere_is_told_from_the_offset_by_its_skewness() -> None:
    y = PoissonGauss(3.0, 50.0, 2.0).sample(_membranes(1.5) * 60.0 + 5.0, 9)
    fit = fit_camera(measure_blocks(y))
    assert fit.background.value == pytest.approx(65.0, abs=1.0)
    assert fit.offset.value == pytest.approx(50.0, abs=4.0)
    assert fit.offset.low <= 50.0 <= fit.offset.high


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda y: ndimage.gaussian_filter(y, (0.0, 0.55, 0.55)), "correlated"),
        (lambda y: ndimage.zoom(y[:, ::2, ::2], (1, 2, 2), order=1), "correlated|no pixel noise"),
        (lambda y: np.rint(np.clip(y - 104.0, 0.0, None)), "have the lowest value 0"),
        (lambda y: np.rint(np.clip(y, 0.0, 130.0)), "have the highest value 130"),
        (lambda y: np.rint(y / 120.0), "smaller than the rounding"),
    ],
    ids=["filtered", "interpolated", "cut off", "saturated", "too few grey values"],
)
def test_what_was_done_to_the_data_is_said(spoil, words: str) -> None:
    y = PoissonGauss(2.0, 100.0, 1.5).sample(_membranes(1.5) * 40.0, 15)
    assert fit_camera(measure_blocks(np.rint(y))).remarks == ()
    assert re.search(words, " ".join(fit_camera(measure_blocks(spoil(y))).remarks))


def test_blocks_of_a_lossy_compression_are_noticed() -> None:
    from scipy.fft import dctn, idctn

    y = PoissonGauss(2.0, 100.0, 1.5).sample(_membranes(1.5) * 40.0, 16)
    blocks = y.reshape(12, 16, 8, 16, 8)
    coefficients = dctn(blocks, axes=(2, 4), norm="ortho")
    step = 12.0 * (1.0 + np.add.outer(np.arange(8), np.arange(8)) / 3.0)[:, None, :]
    squeezed = idctn(np.rint(coefficients / step) * step, axes=(2, 4), norm="ortho")
    remarks = fit_camera(measure_blocks(np.rint(squeezed.reshape(y.shape)))).remarks
    assert any("JPEG" in line for line in remarks)
