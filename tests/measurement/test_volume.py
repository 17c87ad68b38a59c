"""One pass over a volume gives its statistics, noise and hash; missing voxels do no harm."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from zenhance.errors import StackError
from zenhance.measurement.missing import MAX_ISOLATED
from zenhance.measurement.reader import PixelHash, VolumeReader
from zenhance.measurement.volume import (
    VolumeMeasurement,
    inside_rim,
    measure,
    measure_noise,
    measure_volume,
)
from zenhance.physics.noise import estimate
from zenhance.pipeline import enhance
from zenhance.provenance import hash_array
from zenhance.stack import Stack

WHOLE = (slice(None), slice(None), slice(None))


class Counted:
    """An array in a file that counts how often each voxel is read."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.reads = np.zeros(pixels.shape, np.int32)

    def __getitem__(self, key: Any) -> np.ndarray:
        self.reads[key] += 1
        return np.array(self.pixels[key])


def drain(steps: Any) -> Any:
    fractions = []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as done:
            return done.value, fractions


def light(shape: tuple[int, ...] = (12, 64, 64), mean: float = 1000.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def filled(pixels: np.ndarray) -> np.ndarray:
    return VolumeReader(Stack.from_array(pixels, "ZYX")).read(WHOLE)


def test_one_pass_reads_each_voxel_once_and_tells_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenhance.measurement.reader.SLAB_BYTES", 7 * 64 * 64 * 4)
    stored = Counted(light())
    reader = VolumeReader(Stack.from_array(stored, "ZYX"))
    pixels = PixelHash(reader.stack)
    found, fractions = drain(measure_volume([reader], pixels=pixels))
    digest, more = drain(pixels.finish())
    assert (stored.reads == 1).all()
    assert fractions == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert more == []
    assert digest == hash_array(stored.pixels)
    assert found.statistics.mean == pytest.approx(stored.pixels.mean(dtype=np.float64))
    assert found.statistics.std == pytest.approx(stored.pixels.std(dtype=np.float64))
    assert (found.statistics.minimum, found.statistics.maximum) == (
        stored.pixels.min(),
        stored.pixels.max(),
    )
    inside = stored.pixels[:, *inside_rim(stored.pixels.shape)]
    assert inside.shape == (12, 54, 54)
    assert found.statistics.percentile_high == pytest.approx(np.percentile(inside, 99.9))
    assert found.noise == estimate(inside, offset=found.statistics.background)
    assert (measure([reader]), measure_noise([reader], found.statistics)) == (
        (found.statistics, found.warnings),
        found.noise,
    )


@pytest.mark.parametrize("axes", ["TCZYX", "TZYX", "CZYX", "CYX", "YX"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", ["uint16", ">f4"])
def test_the_hash_of_the_volumes_is_that_of_the_whole_array(
    axes: str, shared: bool, dtype: str
) -> None:
    shape = tuple({"T": 3, "C": 2, "Z": 4, "Y": 9, "X": 11}[a] for a in axes)
    stored = Counted(np.random.default_rng(3).integers(0, 60000, shape).astype(dtype))
    stack = Stack.from_array(stored, axes)
    pixels = PixelHash(stack)
    for t, c in stack.volumes():
        if not shared:
            drain(measure_volume([VolumeReader(stack, t, c)], pixels=pixels))
        elif t == 0:
            drain(
                measure_volume(
                    [VolumeReader(stack, i, c) for i in range(stack.size("T"))], pixels=pixels
                )
            )
    digest, fractions = drain(pixels.finish())
    assert digest == hash_array(stored.pixels)
    assert fractions == sorted(fractions)
    # Only where the volumes came by in another order are some read again.
    assert (stored.reads.max() == 2) == (shared and axes == "TCZYX")


def test_a_hash_can_be_had_without_a_survey() -> None:
    pixels = light((3, 4, 9, 11))
    digest, fractions = drain(PixelHash(Stack.from_array(pixels, "CZYX")).finish())
    assert digest == hash_array(pixels)
    assert fractions[-1] == 1.0


def test_a_survey_counts_what_is_not_finite_in_each_volume() -> None:
    series = light((2, 6, 20, 20))
    series[1, 2, 3, 4:7] = np.nan, np.inf, -np.inf
    stack = Stack.from_array(series, "TZYX")
    found, _ = drain(measure_volume([VolumeReader(stack, t) for t in range(2)]))
    assert isinstance(found, VolumeMeasurement)
    assert [r.not_finite for r in found.readers] == [0, 3]
    assert found.not_finite == 3
    assert any("3 voxels are NaN or infinite" in said for said in found.warnings)
    assert np.isfinite(found.statistics.maximum)


def test_a_volume_known_to_be_finite_is_not_read_for_its_mask() -> None:
    stored = Counted(light())
    reader = VolumeReader(Stack.from_array(stored, "ZYX"))
    assert reader.mask(WHOLE) is None
    assert stored.reads.max() == 1
    found, _ = drain(measure_volume([reader]))
    assert found.readers[0].mask(WHOLE) is None
    assert stored.reads.max() == 2


@pytest.mark.parametrize("empty", [0, 11, (0, 1), (5, 6)])
def test_planes_without_data_are_left_out_of_the_sample_and_copied_from_the_nearest(
    empty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zenhance.measurement.volume.SAMPLE_VOXELS", 64 * 64)
    monkeypatch.setattr("zenhance.measurement.volume.MAX_NON_FINITE", 0.2)
    pixels = light()
    pixels[list(np.atleast_1d(empty))] = np.nan
    found, _ = drain(measure_volume([VolumeReader(Stack.from_array(pixels, "ZYX"))]))
    assert found.statistics.percentile_high == pytest.approx(1000 + 3.09 * 1000**0.5, rel=0.02)
    assert found.noise.gain > 0
    assert measure_noise([VolumeReader(Stack.from_array(pixels, "ZYX"))], found.statistics).gain > 0
    good = [z for z in range(12) if z not in np.atleast_1d(empty)]
    for z, plane in enumerate(filled(pixels)):
        nearest = min(good, key=lambda g: (abs(g - z), g))
        assert np.array_equal(plane, pixels[nearest])


def test_more_than_a_tenth_without_data_is_refused() -> None:
    pixels = light()
    pixels[:2] = np.nan
    with pytest.raises(StackError, match="at most a tenth may be, a rim not counted: repair"):
        drain(measure_volume([VolumeReader(Stack.from_array(pixels, "ZYX"))]))


def test_dead_voxels_take_the_median_of_their_finite_neighbours() -> None:
    pixels = light()
    dead = [(0, 0, 0), (5, 30, 31), (5, 30, 32), (11, 63, 20)]
    for place in dead:
        pixels[place] = np.nan
    result = filled(pixels)
    for z, y, x in dead:
        around = pixels[max(z - 2, 0) : z + 3, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        assert result[z, y, x] == np.float32(np.nanmedian(around.astype(np.float64)))
    assert np.array_equal(result[np.isfinite(pixels)], pixels[np.isfinite(pixels)])


def test_a_large_hole_is_filled_with_the_nearest_voxel_that_has_data() -> None:
    pixels = light((3, 120, 130))
    pixels[:, 20:60, 30:100] = np.nan
    assert np.isnan(pixels[0]).sum() > MAX_ISOLATED
    result = filled(pixels)
    for z in range(3):
        distance = ndimage.distance_transform_edt(np.isnan(pixels[z]))
        for y, x in ((20, 30), (40, 31), (25, 64), (58, 64), (40, 99), (40, 64)):
            rows, columns = np.nonzero(np.isfinite(pixels[z]))
            near = np.isclose(np.hypot(rows - y, columns - x), distance[y, x])
            assert result[z, y, x] in pixels[z][rows[near], columns[near]]


def test_a_hole_in_one_plane_is_bridged_from_the_planes_beside_it() -> None:
    pixels = light((5, 120, 130))
    pixels[2, 20:60, 30:100] = np.nan
    result = filled(pixels)
    inner = (slice(23, 57), slice(33, 97))
    assert np.allclose(result[2][inner], (pixels[1][inner] + pixels[3][inner]) / 2)


@pytest.mark.parametrize("border", [6, 3])
def test_tiles_agree_on_what_is_filled_in(border: int) -> None:
    pixels = light((10, 70, 80))
    pixels[:, :, :border] = np.nan
    pixels[4:6, 30:50, 20:60] = np.nan
    pixels[7, 9, 50] = np.inf
    whole = filled(pixels)
    reader = VolumeReader(Stack.from_array(pixels, "ZYX"))
    for z in range(0, 10, 3):
        for y in range(0, 70, 16):
            for x in range(0, 80, 27):
                region = (
                    slice(z, min(z + 3, 10)),
                    slice(y, min(y + 16, 70)),
                    slice(x, min(x + 27, 80)),
                )
                assert np.array_equal(reader.read(region), whole[region])


def test_many_voxels_without_data_are_filled_from_few_reads() -> None:
    pixels = light((8, 200, 200))
    pixels[:, :, :15] = np.nan
    stored = Counted(pixels)
    VolumeReader(Stack.from_array(stored, "ZYX")).read(WHOLE)
    assert stored.reads.max() <= 3


@pytest.mark.parametrize("scene", ["flat", "ramp"])
def test_columns_beside_a_border_without_data_come_out_as_if_there_were_data(scene: str) -> None:
    flat = light()
    whole = (
        flat
        if scene == "flat"
        else (flat * np.linspace(0.7, 1.3, 64, dtype=np.float32)[:, None]).astype(np.float32)
    )
    padded = whole.copy()
    padded[:, :, :6] = np.nan
    run: dict[str, Any] = {
        "voxel_size_um": (0.5, 0.2, 0.2),
        "psf": "sigma_um=0.6,0.25,0.25",
        "background": 0.0,
        "settings": {"iterations": 20, "stop": "fixed", "acceleration": False},
    }
    expected = np.asarray(enhance(whole, **run).stack.data)
    result = np.asarray(enhance(padded, **run).stack.data)
    assert np.array_equal(np.isnan(result), np.isnan(padded))
    columns = result[:, :, 6:].mean(axis=(0, 1)) / expected[:, :, 6:].mean(axis=(0, 1))
    assert np.abs(columns - 1).max() <= 0.02


def test_a_reader_and_what_it_filled_in_go_away_with_its_last_use() -> None:
    pixels = light()
    pixels[3, 4, 5] = np.nan
    stored = Counted(pixels)
    reader = VolumeReader(Stack.from_array(stored, "ZYX"))
    reader.read(WHOLE)
    gone = weakref.ref(stored)
    gc.disable()
    try:
        del reader, stored
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("dtype", "value"), [(np.float64, 1e300), (np.float32, -3e38)])
def test_values_whose_squares_do_not_fit_into_float32_are_refused(
    dtype: type[Any], value: float
) -> None:
    pixels = np.random.default_rng(0).normal(10, 1, (3, 8, 8)).astype(dtype)
    pixels[1, 2, 3] = value
    with pytest.raises(StackError, match="voxel values reach .*e.*, allowed are magnitudes up to"):
        enhance(Stack.from_array(pixels, "ZYX", (0.5, 0.2, 0.2)), method="identity")
    pixels[1, 2, 3] = 1e15
    assert enhance(Stack.from_array(pixels, "ZYX", (0.5, 0.2, 0.2)), method="identity")


@pytest.mark.parametrize(("dtype", "shift"), [("uint64", 2**63), ("int64", -(2**60))])
def test_whole_numbers_beyond_what_float32_can_square_are_refused(dtype: str, shift: int) -> None:
    pixels = light().astype(dtype) + np.array(shift, dtype)
    with pytest.raises(StackError, match="voxel values reach .*e.*, allowed are magnitudes up to"):
        drain(measure_volume([VolumeReader(Stack.from_array(pixels, "ZYX"))]))
