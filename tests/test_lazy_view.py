"""A view of an array in a file reads what it is asked for, nothing else, and agrees with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zenhance.lazy_view import LazyView, select, transposed
from zenhance.stack import Stack

PIXELS = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6).astype(">u2")


class Stored:
    """An array in a file: takes integers and slices of positive step, and counts pixels read."""

    def __init__(self, pixels: np.ndarray = PIXELS) -> None:
        self.pixels = pixels
        self.shape, self.dtype = pixels.shape, pixels.dtype
        self.read = 0

    def __getitem__(self, key: Any) -> np.ndarray:
        for part, size in zip(key, self.shape, strict=True):
            if isinstance(part, slice):
                assert 0 <= part.start < part.stop <= size
                assert part.step is None or part.step >= 1
            else:
                assert 0 <= part < size
        block = np.array(self.pixels[key])
        self.read += block.size
        return block


def random_index(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    parts: list[Any] = []
    for size in shape:
        first, last = (int(v) for v in rng.integers(-size - 1, size + 2, 2))
        step = int(rng.choice([-2, -1, 1, 1, 2]))
        parts.append(
            rng.choice(np.arange(-size, size)) if rng.random() < 0.3 else slice(first, last, step)
        )
    return tuple(parts[: rng.integers(1, len(parts) + 1)])


@pytest.mark.parametrize("seed", range(40))
def test_views_of_views_are_indexed_as_numpy_indexes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = (
        LazyView(Stored())
        .part((slice(1, 3), slice(0, 4), slice(2, 5), slice(1, 6)))
        .transpose(2, 0, 3, 1)
    )
    plain = PIXELS[1:3, :, 2:5, 1:6].transpose(2, 0, 3, 1)
    if seed % 2:
        view, plain = view.part((slice(None), 1, slice(0, 4), slice(1, 3))), plain[:, 1, 0:4, 1:3]
    assert view.shape == plain.shape
    assert (view.ndim, view.size, view.nbytes, len(view)) == (
        plain.ndim,
        plain.size,
        plain.nbytes,
        len(plain),
    )
    for _ in range(20):
        index = random_index(rng, plain.shape)
        assert np.array_equal(view[index], plain[index])
        assert view[index].shape == plain[index].shape
        assert view[index].dtype == plain[index].dtype


@pytest.mark.parametrize(
    "key",
    [
        ...,
        (..., 0),
        (0, ...),
        (slice(None), ..., slice(1, 2)),
        1,
        [0, 2],
        (slice(None), [1, 3]),
        -1,
    ],
)
def test_ellipses_lists_and_integers_are_indexed_as_numpy_indexes(key: Any) -> None:
    assert np.array_equal(LazyView(Stored())[key], PIXELS[key])
    assert np.array_equal(np.asarray(LazyView(Stored()).transpose())[key], PIXELS.T[key])


def test_only_what_is_asked_for_is_read() -> None:
    stored = Stored()
    view = LazyView(stored).part((slice(0, 3), 2, slice(1, 5), slice(0, 6))).transpose(1, 0, 2)
    assert stored.read == 0
    view[0, 1]
    assert stored.read == 6
    assert view[2:2].shape == (0, 3, 6)
    assert stored.read == 6


@pytest.mark.parametrize(
    ("key", "message"), [(9, "outside an axis of 3"), ((0,) * 5, "5 indices for 4 dimensions")]
)
def test_an_index_that_is_not_there_is_refused(key: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        LazyView(Stored())[key]


def test_an_array_cannot_be_had_without_a_copy() -> None:
    with pytest.raises(ValueError, match="needs a copy"):
        np.asarray(LazyView(Stored()), copy=False)


def test_arrays_that_give_views_themselves_stay_what_they_are() -> None:
    import dask.array as da

    lazy = da.from_array(PIXELS, chunks=(1, 1, 5, 6))
    index = (slice(0, 1), slice(0, 4), slice(0, 5), slice(0, 6))
    assert isinstance(select(lazy, index), da.Array)
    assert isinstance(transposed(lazy, [1, 0, 2, 3]), da.Array)
    assert np.shares_memory(select(PIXELS, index), PIXELS)
    assert np.shares_memory(transposed(PIXELS, [1, 0, 2, 3]), PIXELS)


def test_channel_crop_and_axes_of_a_stack_in_a_file_read_nothing() -> None:
    stored = Stored()
    stack = (
        Stack.from_array(stored, "ZCYX").pick_channel(1).crop({"Z": slice(1, 3), "Y": slice(2, 4)})
    )
    assert stack.shape == (2, 2, 6)
    assert stored.read == 0
    assert np.array_equal(stack.read(), PIXELS[1:3, 1, 2:4])
    assert stored.read == 24


def test_a_part_of_a_zarr_array_is_read_through_the_view(tmp_path: Any) -> None:
    import zarr

    array = zarr.create_array(
        store=str(tmp_path / "a.zarr"), shape=PIXELS.shape, chunks=(1, 4, 5, 6), dtype="uint16"
    )
    array[...] = PIXELS
    stack = (
        Stack.from_array(array, "CZYX").pick_channel(2).crop({"X": slice(1, 4)}).relabelled("YZX")
    )
    assert isinstance(stack.data, LazyView)
    assert np.array_equal(stack.read(), PIXELS[2, :, :, 1:4].transpose(1, 0, 2))


def test_a_plan_with_channel_crop_and_axes_reads_no_pixels() -> None:
    from zenhance.pipeline import EnhanceRequest, plan_run

    stored = Stored(np.zeros((4, 3, 30, 31), np.uint16))
    request = EnhanceRequest(
        psf="sigma_um=0.6,0.25,0.25", axes="ZCYX", channel=1, crop=((1, 4), (2, 20), (None, None))
    )
    plan = plan_run(Stack.from_array(stored, "CZYX", (0.5, 0.2, 0.2)), request)
    assert plan.stack.shape == (3, 18, 31)
    assert stored.read == 0
