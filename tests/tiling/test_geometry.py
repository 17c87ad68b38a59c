"""Tile geometry: what must hold for every volume, core, halo and grid."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zenhance.errors import MemoryBudgetError, MethodError, StackError
from zenhance.tiling.geometry import (
    MAX_ELEMENTS,
    TilePlan,
    halved,
    padded_shape,
    plan_tiles,
    read_shape,
    split,
)


def triples(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int]]:
    return st.tuples(*[st.integers(low, high)] * 3)


plans = st.builds(plan_tiles, triples(1, 23), triples(1, 30), triples(0, 9), triples(1, 5))


def times_written(plan: TilePlan, tiles=None) -> np.ndarray:
    count = np.zeros(plan.shape_px, int)
    for tile in plan.tiles if tiles is None else tiles:
        count[tile.core] += 1
    return count


@settings(deadline=None, max_examples=60)
@given(plans)
def test_tiles_cover_each_voxel_once(plan):
    assert (times_written(plan) == 1).all()


@settings(deadline=None, max_examples=60)
@given(plans)
def test_cores_and_read_regions_start_on_the_grid_and_end_there_or_at_the_volume_end(plan):
    for tile in plan.tiles:
        for region in (tile.core, tile.read):
            for part, size, multiple in zip(region, plan.shape_px, plan.size_multiple, strict=True):
                assert part.start % multiple == 0
                assert part.stop % multiple == 0 or part.stop == size


@settings(deadline=None, max_examples=60)
@given(plans)
def test_read_regions_lie_in_the_volume_and_hold_core_and_halo(plan):
    for tile in plan.tiles:
        for core, read, size, halo in zip(
            tile.core, tile.read, plan.shape_px, plan.halo_px, strict=True
        ):
            assert 0 <= read.start <= core.start < core.stop <= read.stop <= size
            assert read.start <= max(0, core.start - halo)
            assert read.stop >= min(size, core.stop + halo)


@settings(deadline=None, max_examples=60)
@given(plans)
def test_crop_finds_the_core_in_what_was_read(plan):
    volume = np.arange(math.prod(plan.shape_px)).reshape(plan.shape_px)
    for tile in plan.tiles:
        assert np.array_equal(volume[tile.read][tile.crop], volume[tile.core])


@settings(deadline=None, max_examples=60)
@given(plans)
def test_tiles_are_numbered_in_order_and_none_exceeds_the_core_shape(plan):
    assert [tile.index for tile in plan.tiles] == list(range(len(plan.tiles)))
    longest = tuple(
        max(tile.core[a].stop - tile.core[a].start for tile in plan.tiles) for a in range(3)
    )
    assert longest == plan.core_shape_px


@settings(deadline=None, max_examples=60)
@given(plans)
def test_read_shape_bounds_every_padded_tile(plan):
    bound = read_shape(plan.shape_px, plan.core_shape_px, plan.halo_px, plan.size_multiple)
    for tile in plan.tiles:
        padded = padded_shape(tile.read, plan.size_multiple)
        assert all(
            p <= b and p % m == 0 for p, b, m in zip(padded, bound, plan.size_multiple, strict=True)
        )


@settings(deadline=None, max_examples=60)
@given(plans)
def test_split_tiles_cover_the_same_core_on_the_same_grid(plan):
    pieces = [piece for tile in plan.tiles for piece in split(plan, tile)]
    assert (times_written(plan, pieces) == 1).all()
    for piece in pieces:
        for part, read, size, multiple in zip(
            piece.core, piece.read, plan.shape_px, plan.size_multiple, strict=True
        ):
            assert part.start % multiple == 0
            assert read.start % multiple == 0
            assert part.stop % multiple == 0 or part.stop == size


@settings(deadline=None, max_examples=60)
@given(plans)
def test_halving_ends_with_the_smallest_core_and_never_grows(plan):
    core, steps = plan.core_shape_px, 0
    while (smaller := halved(plan, core)) is not None:
        assert math.prod(smaller) < math.prod(core)
        assert all(
            a % m == 0 or a == n
            for a, m, n in zip(smaller, plan.size_multiple, plan.shape_px, strict=True)
        )
        core, steps = smaller, steps + 1
    assert steps <= 15
    assert all(a <= m for a, m in zip(core, plan.size_multiple, strict=True))


def test_halving_takes_the_longest_axis_when_halos_are_equal():
    plan = plan_tiles((64, 256, 512), (64, 256, 512), (4, 4, 4))
    assert halved(plan, (64, 256, 512)) == (64, 256, 256)


def test_halving_passes_over_an_axis_whose_halo_is_the_whole_volume():
    plan = plan_tiles((32, 24, 40), (32, 24, 40), (2, 2, 64))
    assert halved(plan, plan.core_shape_px) == (16, 24, 40)


def test_an_axis_that_is_read_whole_anyway_is_halved_last() -> None:
    """A recurrence through all planes: cutting z would run it again for every part."""
    plan = plan_tiles((200, 100, 100), (200, 100, 100), (200, 48, 48), (1, 4, 4))
    core = plan.core_shape_px
    while max(core[1:]) > 4:
        smaller = halved(plan, core)
        assert smaller is not None
        assert smaller[0] == 200
        core = smaller
    assert halved(plan, core) == (100, 4, 4)


def test_a_core_as_large_as_the_volume_gives_one_tile_that_reads_all():
    plan = plan_tiles((7, 9, 11), (100, 9, 11), (3, 3, 3), (4, 4, 4))
    (tile,) = plan.tiles
    assert tile.core == tile.read == tile.crop == (slice(0, 7), slice(0, 9), slice(0, 11))


def test_a_halo_is_rounded_up_to_the_grid():
    plan = plan_tiles((1, 1, 40), (1, 1, 8), (0, 0, 3), (1, 1, 4))
    assert [(t.read[2].start, t.read[2].stop) for t in plan.tiles] == [
        (0, 12),
        (4, 20),
        (12, 28),
        (20, 36),
        (28, 40),
    ]


def test_splitting_a_tile_to_a_given_core_cuts_every_longer_axis():
    plan = plan_tiles((8, 8, 8), (8, 8, 8), (1, 1, 1))
    pieces = split(plan, plan.tiles[0], (4, 8, 4))
    assert [p.core for p in pieces] == [
        (z, slice(0, 8), x) for z, x in itertools.product((slice(0, 4), slice(4, 8)), repeat=2)
    ]


def test_a_tile_above_the_element_limit_is_refused_with_both_numbers():
    with pytest.raises(
        MemoryBudgetError,
        match=r"8,000,000,000 voxels, at most 2,147,483,647 are possible; set a smaller tile",
    ):
        plan_tiles((2000, 2000, 2000), (2000, 2000, 2000), (8, 8, 8))
    plan = plan_tiles((2000, 2000, 2000), (1000, 1000, 1000), (8, 8, 8))
    assert (
        max(math.prod(padded_shape(t.read, plan.size_multiple)) for t in plan.tiles) <= MAX_ELEMENTS
    )


def test_a_plan_of_too_many_tiles_is_refused_before_it_is_made():
    with pytest.raises(
        MemoryBudgetError, match=r"cut into 1,000,000,000,000 tiles, at most 100,000 are possible"
    ):
        plan_tiles((10**5,) * 3, (10, 10, 10), (0, 0, 0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((0, 4, 4), (1, 1, 1), (0, 0, 0)), StackError, r"shape \(0, 4, 4\) .* has no voxels"),
        (
            ((4, 4, 4), (4, 0, 4), (0, 0, 0)),
            MethodError,
            r"tile size is \(4, 0, 4\).*at least 1 px",
        ),
        (((4, 4, 4), (4, 4, 4), (0, -1, 0)), MethodError, r"halo is \(0, -1, 0\).*0 or more"),
        (
            ((4, 4, 4), (4, 4, 4), (0, 0, 0), (1, 1, 0)),
            MethodError,
            r"size multiple is \(1, 1, 0\).*1 or more",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plan_tiles(*arguments)
