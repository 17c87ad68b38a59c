"""A stack knows its axes, its voxel size and where each number came from."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zenhance.errors import StackError
from zenhance.stack import Stack, VoxelSize, guess_axes


def test_every_order_of_axes_gives_the_same_stack() -> None:
    data = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    for order in itertools.permutations(range(5)):
        axes = "".join("TCZYX"[i] for i in order)
        stack = Stack.from_array(data.transpose(order), axes)
        assert stack.axes == "TCZYX"
        assert np.array_equal(np.asarray(stack.data), data)


@pytest.mark.parametrize(("shape", "axes"), [((7, 9), "YX"), ((7, 8, 9), "ZYX")])
def test_axes_are_guessed_where_only_one_reading_makes_sense(
    shape: tuple[int, ...], axes: str
) -> None:
    assert guess_axes(shape) == axes


@pytest.mark.parametrize("shape", [(3, 64, 64), (64, 64, 3), (2, 3, 64, 64), (2, 2, 3, 9, 9)])
def test_axes_are_asked_for_where_they_could_be_anything(shape: tuple[int, ...]) -> None:
    with pytest.raises(StackError, match="--axes"):
        guess_axes(shape)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((0, 4, 4), "ZYX", "has no planes"),
        ((2, 4, 0), "ZYX", "has no pixels"),
        ((4, 4), "ZY", "are not usable"),
        ((4, 4), "YY", "are not usable"),
        ((4, 4, 4), "YX", "name 2 dimensions but the array has 3"),
    ],
)
def test_a_stack_that_cannot_be_is_refused(shape: tuple[int, ...], axes: str, message: str) -> None:
    with pytest.raises(StackError, match=message):
        Stack.from_array(np.zeros(shape), axes)


@pytest.mark.parametrize("dtype", [np.complex64, "U3", object])
def test_pixels_that_are_not_real_numbers_are_refused(dtype: object) -> None:
    with pytest.raises(StackError, match="convert to real numbers"):
        Stack.from_array(np.zeros((5, 6, 7), dtype=dtype), "ZYX")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e-30, 1e6])
def test_an_absurd_voxel_size_is_refused_with_what_to_do(value: float) -> None:
    with pytest.raises(StackError, match="voxel size in y is .*--voxel-size Z,Y,X"):
        VoxelSize.of((1.0, value, 0.2))


def test_a_voxel_size_remembers_where_each_number_came_from() -> None:
    size = VoxelSize(None, 0.2, 0.2, ("unknown", "file", "file"))
    assert size.origin("YX") == "file"
    assert size.origin("ZYX") == "unknown"
    assert size.require("YX") == (1.0, 0.2, 0.2)
    with pytest.raises(StackError, match="voxel size in z is unknown"):
        size.require("ZYX")
    better = size.replaced_by((0.5, None, None))
    assert better.zyx_um == (0.5, 0.2, 0.2)
    assert better.origins == ("user", "file", "file")
    assert better.origin() == "user"


def test_two_numbers_are_y_and_x() -> None:
    assert VoxelSize.of((0.3, 0.2)).zyx_um == (None, 0.3, 0.2)
    with pytest.raises(StackError, match="2 or 3 numbers"):
        VoxelSize.of((1.0,))


def test_a_region_of_one_volume_is_read_in_native_byte_order() -> None:
    data = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6).astype(">u2")
    stack = Stack.from_array(data, "TCZYX")
    block = stack.read(1, 2, (slice(1, 3), slice(0, 5), slice(2, 4)))
    assert block.dtype.isnative
    assert np.array_equal(block, data[1, 2, 1:3, :, 2:4])


def test_a_plain_image_is_a_volume_of_one_plane() -> None:
    stack = Stack.from_array(np.ones((5, 6)))
    assert stack.volume_shape == (1, 5, 6)
    assert stack.read().shape == (1, 5, 6)
    assert list(stack.volumes()) == [(0, 0)]


def test_a_crop_outside_the_stack_is_refused_and_one_inside_is_taken() -> None:
    stack = Stack.from_array(np.arange(5 * 6 * 7).reshape(5, 6, 7))
    assert np.array_equal(
        np.asarray(stack.crop({"Z": slice(1, 3), "X": slice(2, 7)}).data),
        np.asarray(stack.data)[1:3, :, 2:7],
    )
    with pytest.raises(StackError, match=r"crop z0:9 is outside the stack, which has 5 along z"):
        stack.crop({"Z": slice(0, 9)})
    with pytest.raises(StackError, match="is outside the stack"):
        stack.crop({"Z": slice(3, 3)})


def test_a_channel_is_picked_by_number() -> None:
    stack = Stack.from_array(
        np.arange(2 * 5 * 6 * 7).reshape(2, 5, 6, 7), "CZYX", channel_names=("walls", "nuclei")
    )
    one = stack.pick_channel(1)
    assert one.axes == "ZYX"
    assert one.channel_names == ("nuclei",)
    assert np.array_equal(np.asarray(one.data), np.asarray(stack.data)[1])
    with pytest.raises(StackError, match="channels 0 to 1"):
        stack.pick_channel(2)
    with pytest.raises(StackError, match="the stack has one channel"):
        one.pick_channel(1)


def test_the_line_for_the_user_tells_axes_shape_and_voxel_size() -> None:
    stack = Stack.from_array(np.zeros((61, 12, 12)), "ZYX", VoxelSize.of((0.5, 0.22, 0.22), "file"))
    assert stack.describe() == "Z Y X — 61 × 12 × 12, 0.5 × 0.22 × 0.22 µm (file)"
    assert "? × ?" in Stack.from_array(np.zeros((12, 12))).describe()


def test_a_crop_keeps_its_place_in_space() -> None:
    stack = Stack.from_array(
        np.zeros((5, 6, 7)), "ZYX", (1.0, 0.5, 0.25), metadata={"origin_um": (10.0, 20.0, 30.0)}
    )
    assert stack.crop({"Z": slice(2, 4), "X": slice(4, 7)}).metadata["origin_um"] == (
        12.0,
        20.0,
        31.0,
    )
    assert (
        "origin_um" not in Stack.from_array(np.zeros((5, 6, 7))).crop({"Z": slice(1, 2)}).metadata
    )


def test_relabelling_names_the_dimensions_in_their_present_order() -> None:
    data = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    again = Stack.from_array(data, "ZYX").relabelled("YZX")
    assert again.axes == "ZYX"
    assert np.array_equal(np.asarray(again.data), data.transpose(1, 0, 2))


def test_a_crop_that_cuts_nothing_off_is_the_stack_itself() -> None:
    stack = Stack.from_array(np.zeros((5, 6, 7)))
    assert stack.crop({"Z": slice(0, 5), "X": slice(None)}) is stack


def test_what_a_file_says_once_a_channel_follows_the_channels_kept() -> None:
    light = {
        "emission_nm": [520.0, 615.0, None],
        "na": 1.2,
        "modality": ("confocal", "widefield", "confocal"),
        "sha256": ("a", "b", "c"),
    }
    stack = Stack.from_array(np.zeros((3, 5, 6, 7)), "CZYX", metadata=light)
    assert stack.pick_channel(1).metadata == {
        "emission_nm": 615.0,
        "na": 1.2,
        "modality": "widefield",
        "sha256": ("a", "b", "c"),
    }
    assert "emission_nm" not in stack.pick_channel(2).metadata
    assert stack.crop({"C": slice(1, 3)}).metadata["emission_nm"] == [615.0, None]
    assert stack.crop({"Z": slice(1, 3)}).metadata["emission_nm"] == [520.0, 615.0, None]
    two = Stack.from_array(
        np.zeros((2, 5, 6, 7)), "CZYX", metadata={"emission_nm": [520.0, 615.0, 700.0]}
    )
    assert two.pick_channel(1).metadata["emission_nm"] == [520.0, 615.0, 700.0]


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "f4", "f8", "i4"])
def test_masked_pixels_count_as_no_data_and_the_others_keep_their_values(dtype: str) -> None:
    plain = np.arange(6 * 8 * 9).reshape(6, 8, 9).astype(dtype)
    mask = plain % 7 == 3
    data = np.asarray(Stack.from_array(np.ma.array(plain, mask=mask)).data)
    assert np.isnan(data[mask]).all()
    np.testing.assert_array_equal(data[~mask], plain[~mask])
    unmasked = Stack.from_array(np.ma.array(plain))
    assert unmasked.dtype == plain.dtype


@pytest.mark.parametrize("data", ["stack.tif", Path("stack.tif"), b"stack.tif", None])
def test_what_is_not_an_array_is_named_with_the_way_to_open_a_file(data: Any) -> None:
    with pytest.raises(StackError, match="not an array; open a file with zenhance.open_stack"):
        Stack.from_array(data)


@pytest.mark.parametrize("axes", [None, "TCZYX", "ZYX"])
@pytest.mark.parametrize("count", [1, 6, 7])
def test_an_array_of_too_many_or_too_few_dimensions_is_told_what_to_do(
    axes: str | None, count: int
) -> None:
    what = "give one part of it, such as array" if count > 5 else "give an array of at least Y and"
    with pytest.raises(StackError, match=f"2 to 5 dimensions .* has {count}; {what}"):
        Stack.from_array(np.zeros((2,) * count), axes)
