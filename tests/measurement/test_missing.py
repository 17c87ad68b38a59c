"""Missing data: padding, blank planes and outliers are found, and real structure is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import zenhance
from zenhance.errors import StackError
from zenhance.measurement.padding import padding_of
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure_volume
from zenhance.stack import Stack
from zenhance.steps import drain

SHAPE = (6, 64, 72)
RUN = {"voxel_size_um": (0.5, 0.2, 0.2), "psf": "sigma_um=0.6,0.2,0.2", "device": "cpu"}
SETTINGS = ({}, {"variant": "wiener"}, {"variant": "imagej"}, {"tv_weight": 0.002})
CASES = Path(__file__).parents[3] / "shared" / "data" / "cases"


def tissue(seed: int = 0, offset: float = 100.0, light: float = 30.0) -> np.ndarray:
    """Return a stack of blurred walls over a dark background, float32 of whole grey values."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(SHAPE)
    walls = (((y + z) % 23 < 3) | ((x - z) % 19 < 3)).astype(np.float64)
    photons = light * ndimage.gaussian_filter(walls, (1.0, 1.2, 1.2)) + 0.1 * light
    grey = offset + 2.0 * rng.poisson(photons) + rng.normal(0.0, 1.5, SHAPE)
    return np.rint(grey).astype(np.float32)


def surveyed(pixels: np.ndarray) -> VolumeReader:
    return drain(measure_volume([VolumeReader(Stack.from_array(pixels, "ZYX"))])).readers[0]


def repaired(pixels: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the places that the measurement takes for outliers."""
    reader = surveyed(pixels)
    found = []
    for z in range(pixels.shape[0]):
        for place in reader.missing.outliers(z)[0]:
            found.append((z, *(int(i) for i in np.divmod(place, pixels.shape[2]))))
    return found


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_hot_and_dead_pixels_are_found_and_nothing_else(offset: float) -> None:
    pixels = tissue(offset=offset, light=200.0)
    places = [(0, 0, 0), (1, 30, 33), (2, 63, 10), (5, 17, 71)]
    for place, value in zip(places, (65535, 3000, 2000, 20000), strict=True):
        pixels[place] = value
    assert repaired(pixels) == places


def test_a_dead_pixel_in_a_bright_place_is_found() -> None:
    rng = np.random.default_rng(4)
    pixels = np.rint(100.0 + 2.0 * rng.poisson(np.full(SHAPE, 2000.0))).astype(np.float32)
    pixels[2, 20, 31] = 100.0
    assert repaired(pixels) == [(2, 20, 31)]


@pytest.mark.parametrize("sigma_px", [0.5, 0.7, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("photons", [30.0, 300.0, 30000.0])
def test_a_bead_is_never_repaired(sigma_px: float, photons: float) -> None:
    rng = np.random.default_rng(int(10 * sigma_px))
    shape = (8, 96, 96)
    specimen = np.zeros(shape)
    index = np.arange(96)
    for _ in range(60):
        y, x = rng.uniform(4, 92, 2)
        profile = [np.exp(-0.5 * ((index - centre) / sigma_px) ** 2) for centre in (y, x)]
        specimen[rng.integers(8)] += photons * np.outer(*profile)
    grey = 100.0 + 2.0 * rng.poisson(specimen + 1.0) + rng.normal(0.0, 1.0, shape)
    assert repaired(np.rint(grey).astype(np.float32)) == []


@pytest.mark.parametrize("photons", [0.02, 0.3, 2.0, 20.0])
def test_single_photons_are_never_repaired(photons: float) -> None:
    rng = np.random.default_rng(5)
    grey = 40.0 * rng.poisson(np.full((8, 128, 128), photons))
    assert repaired(grey.astype(np.float32)) == []


def test_impulse_noise_is_reported_and_left_alone() -> None:
    pixels = tissue()
    rng = np.random.default_rng(1)
    pixels.ravel()[rng.choice(pixels.size, pixels.size // 200, replace=False)] = 5000.0
    found = drain(measure_volume([VolumeReader(Stack.from_array(pixels, "ZYX"))]))
    assert any("were not repaired" in said for said in found.warnings)
    np.testing.assert_array_equal(found.readers[0].read((slice(None),) * 3), pixels)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_hot_pixel_gives_the_result_of_the_stack_without_it(settings) -> None:
    clean = tissue(light=100.0)
    place = (3, 30, 33)
    hot, mended = clean.copy(), clean.copy()
    hot[place] = 65535.0
    window = clean[3, 29:32, 32:35].ravel()
    mended[place] = np.median(np.delete(window, 4))
    result = zenhance.enhance(hot, settings=settings, **RUN)
    expected = np.asarray(zenhance.enhance(mended, settings=settings, **RUN).stack.data)
    np.testing.assert_array_equal(np.asarray(result.stack.data), expected)
    assert any(said.startswith("1 hot or dead pixel that") for said in result.provenance.warnings)
    assert result.provenance.request["repair_outliers"] is True
    span = np.ptp(expected)
    original = np.asarray(zenhance.enhance(clean, settings=settings, **RUN).stack.data)
    far = np.ones(SHAPE, bool)
    far[:, 10:51, 13:54] = False
    assert np.abs(np.asarray(result.stack.data) - original)[far].max() < 1e-3 * span


def test_outliers_are_kept_on_request() -> None:
    pixels = tissue()
    pixels[3, 30, 33] = 65535.0
    result = zenhance.enhance(pixels, method="identity", repair_outliers=False, **RUN)
    np.testing.assert_array_equal(np.asarray(result.stack.data), pixels)
    assert not result.provenance.warnings


def _rims() -> dict[str, np.ndarray]:
    rim = np.zeros(SHAPE, bool)
    rim[:, :2], rim[:, -2:], rim[:, :, :2], rim[:, :, -2:] = True, True, True, True
    one = np.zeros(SHAPE, bool)
    one[:, :1] = True
    corner = np.zeros(SHAPE, bool)
    y, x = np.indices(SHAPE[1:])
    corner[:, y + x < 25] = True
    deskew = np.zeros(SHAPE, bool)
    for z in range(SHAPE[0]):
        deskew[z, :, : 4 * z], deskew[z, :, 50 + 3 * z :] = True, True
    blank = np.zeros(SHAPE, bool)
    blank[[0, 3]] = True
    return {"rim": rim, "one row": one, "corner": corner, "deskewed": deskew, "blank": blank}


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("name", _rims())
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_padding_is_found_to_the_voxel(name: str, offset: float, dtype: str) -> None:
    void = _rims()[name]
    pixels = tissue(offset=offset).clip(0).astype(dtype)
    pixels[void] = 0
    found = surveyed(pixels).mask((slice(None),) * 3)
    assert found is not None
    assert not (void & ~found).any()
    # Measured zeros that touch the padding belong to it as far as anyone can tell.
    assert not ((found & ~void) & (pixels != 0)).any()
    assert (found & ~void).sum() <= 0.005 * void.size


@pytest.mark.parametrize("light", [0.05, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_dark_background_with_many_zeros_is_not_padding(light: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.indices((128, 128))
    cell = light * 20.0 * np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / (2 * 18.0**2))
    for background in (0.0, 0.05, 0.5):
        plane = rng.poisson(cell + background).astype(np.uint8)
        assert padding_of(plane) is None


def test_background_that_was_subtracted_and_clipped_is_not_padding() -> None:
    rng = np.random.default_rng(2)
    y, x = np.indices((128, 128))
    cell = 400.0 * np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / (2 * 15.0**2))
    plane = np.clip(rng.poisson(cell + 100.0) - 130.0, 0, None).astype(np.uint16)
    assert padding_of(plane) is None
    assert padding_of(np.clip(cell + rng.normal(0, 5, cell.shape), 0, 255).astype(np.uint8)) is None


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_rim_without_data_does_not_change_the_centre(settings) -> None:
    full = tissue()
    rim = full.copy()
    void = _rims()["rim"]
    rim[void] = 0.0
    expected = np.asarray(zenhance.enhance(full, settings=settings, **RUN).stack.data)
    result = zenhance.enhance(rim, settings=settings, **RUN)
    image = np.asarray(result.stack.data)
    assert (image[void] == 0.0).all()
    assert any("voxels hold the constant 0" in said for said in result.provenance.warnings)
    span = np.percentile(expected, 99.9) - np.percentile(expected, 0.1)
    assert np.abs(image - expected)[:, 20:-20, 20:-20].max() < 0.01 * span


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
@pytest.mark.parametrize("width", [1, 3, 5])
def test_statistics_and_noise_are_the_same_with_and_without_a_rim(value, width) -> None:
    full = tissue()
    rim = np.full_like(full, value)
    inside = (slice(None), slice(width, -width), slice(width, -width))
    rim[inside] = full[inside]
    whole, part = (
        drain(measure_volume([VolumeReader(Stack.from_array(p, "ZYX"))])) for p in (full, rim)
    )
    assert part.noise == whole.noise
    for name in ("percentile_low", "percentile_high", "background"):
        assert getattr(part.statistics, name) == getattr(whole.statistics, name)


def test_scattered_voxels_that_are_not_finite_are_no_rim() -> None:
    pixels = tissue()
    rng = np.random.default_rng(3)
    pixels.ravel()[rng.choice(pixels.size, pixels.size // 8, replace=False)] = np.nan
    with pytest.raises(StackError, match="a rim not counted"):
        surveyed(pixels)


def test_padding_is_restored_in_the_type_of_the_input() -> None:
    pixels = tissue().astype(np.uint16)
    pixels[:, :, :5] = 7
    result = np.asarray(zenhance.enhance(pixels, dtype="input", **RUN).stack.data)
    assert result.dtype == np.uint16
    assert (result[:, :, :5] == 7).all()
    assert (result[:, :, 5:] > 50).all()


def _case(name: str) -> np.ndarray:
    if not (CASES / name).is_file():
        pytest.skip(f"the small case {name} is not on this machine")
    return np.asarray(tifffile.imread(CASES / name))


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_rim_of_a_registered_stack_leaves_the_centre_as_it_is(settings) -> None:
    expected = np.asarray(
        zenhance.enhance(_case("c11e_full.tif"), settings=settings, **RUN).stack.data
    )
    image = np.asarray(
        zenhance.enhance(_case("c11e_rim2.tif"), settings=settings, **RUN).stack.data
    )
    span = np.percentile(expected, 99.9) - np.percentile(expected, 0.1)
    assert np.abs(image - expected)[:, 38:58, 38:58].max() < 0.01 * span


def test_a_blank_slice_and_hot_pixels_are_reported_in_one_line_each() -> None:
    for name, words in (
        ("c11_blank.tif", "8192 voxels hold the constant 0"),
        ("c11_hot.tif", "12 hot or dead pixels"),
    ):
        result = zenhance.enhance(_case(name), method="identity", **RUN)
        assert sum(words in said for said in result.provenance.warnings) == 1


@pytest.mark.parametrize("seed", range(5))
def test_background_of_a_photon_counting_detector_is_no_padding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(90, 140)), 4)
    walls = (np.abs(field) < 0.25 * field.std()).astype(np.float32)
    counted = rng.poisson(60 * ndimage.gaussian_filter(walls, 1.0)).astype(np.float32)
    assert np.mean(counted == 0) > 0.2
    assert padding_of(counted) is None
