"""Running over tiles: exact, also when memory, device, user or method intervene."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from zenhance.errors import (
    FailureKind,
    MemoryBudgetError,
    MethodError,
    RunCancelled,
    StackError,
    classify,
)
from zenhance.tiling.geometry import plan_tiles
from zenhance.tiling.run import DeviceLostError, run_tiles

RNG = np.random.default_rng(7)
VOLUME = RNG.normal(100, 20, (11, 26, 31)).astype(np.float32)


class Canvas:
    """Where outputs land; counts how often each voxel is written."""

    def __init__(self, shape, scale=(1, 1, 1)):
        self.shape = tuple(n * f for n, f in zip(shape, scale, strict=True))
        self.images, self.counts = {}, {}

    def write(self, name, region, array):
        if name not in self.images:
            self.images[name] = np.full(self.shape, np.nan, np.float32)
            self.counts[name] = np.zeros(self.shape, int)
        assert array.dtype == np.float32
        self.images[name][region] = array
        self.counts[name][region] += 1


def drain(generator):
    steps = []
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as stop:
            return steps, stop.value


def simple(function):
    """Make a process of a function of (tile, origin)."""

    def process(tile, origin_px):
        yield 0.5
        return {"enhanced": function(tile, origin_px)}

    return process


def identity(tile, origin_px):
    return tile


def run(
    process,
    *,
    volume=VOLUME,
    core=(4, 8, 8),
    halo=(0, 0, 0),
    multiple=(1, 1, 1),
    scale=(1, 1, 1),
    **options,
):
    canvas = Canvas(volume.shape, scale)
    plan = plan_tiles(volume.shape, core, halo, multiple)
    steps, report = drain(
        run_tiles(
            plan,
            lambda region: volume[region],
            process,
            canvas.write,
            output_scale=scale,
            **options,
        )
    )
    return canvas, steps, report


@settings(deadline=None, max_examples=60)
@given(
    *[st.tuples(*[st.integers(low, high)] * 3) for low, high in ((1, 13), (1, 14), (0, 5), (1, 4))]
)
def test_identity_and_times_two_are_exact_for_every_geometry(shape, core, halo, multiple):
    volume = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for factor in (1, 2):
        canvas, _, _ = run(
            simple(lambda t, o, f=factor: t * f),
            volume=volume,
            core=core,
            halo=halo,
            multiple=multiple,
        )
        assert np.array_equal(canvas.images["enhanced"], volume * factor)
        assert (canvas.counts["enhanced"] == 1).all()


def test_a_constant_is_written_everywhere_once():
    canvas, _, report = run(
        simple(lambda t, o: np.full_like(t, 3)), halo=(1, 2, 3), multiple=(2, 4, 4)
    )
    assert (canvas.images["enhanced"] == 3).all()
    assert (canvas.counts["enhanced"] == 1).all()
    assert (report.tiles, report.shrunk, report.core_shape_px, report.halo_px) == (
        3 * 4 * 4,
        0,
        (4, 8, 8),
        (1, 2, 3),
    )


def test_each_tile_knows_where_it_lies_in_the_volume():
    def coordinates(tile, origin_px):
        z, y, x = np.indices(tile.shape) + np.reshape(origin_px, (3, 1, 1, 1))
        return (z * 10_000 + y * 100 + x).astype(np.float32)

    canvas, _, _ = run(simple(coordinates), halo=(1, 3, 2), multiple=(1, 2, 4))
    z, y, x = np.indices(VOLUME.shape)
    assert np.array_equal(canvas.images["enhanced"], z * 10_000 + y * 100 + x)


def mirrored_box(tile, origin_px):
    return uniform_filter(tile.astype(np.float64), 5, mode="reflect").astype(np.float32)


@pytest.mark.parametrize("core", [(4, 8, 8), (11, 5, 31), (1, 26, 7)])
def test_a_box_filter_in_tiles_equals_the_one_of_the_whole_volume(core):
    canvas, _, _ = run(simple(mirrored_box), core=core, halo=(2, 2, 2))
    whole = mirrored_box(VOLUME, (0, 0, 0))
    assert np.abs(canvas.images["enhanced"] - whole).max() <= 1e-5 * np.ptp(whole)


def test_a_halo_too_short_for_the_filter_shows():
    canvas, _, _ = run(simple(mirrored_box), halo=(1, 1, 1))
    whole = mirrored_box(VOLUME, (0, 0, 0))
    assert np.abs(canvas.images["enhanced"] - whole).max() > 1e-3 * np.ptp(whole)


def test_pooling_in_aligned_tiles_equals_pooling_the_mirrored_whole():
    def pool(tile, origin_px):
        z, y, x = tile.shape
        means = tile.reshape(z // 2, 2, y // 4, 4, x // 4, 4).mean(axis=(1, 3, 5), dtype=np.float64)
        return means.repeat(2, 0).repeat(4, 1).repeat(4, 2).astype(np.float32)

    padded = np.pad(VOLUME, [(0, 1), (0, 2), (0, 1)], mode="symmetric")
    canvas, _, _ = run(simple(pool), core=(4, 8, 8), halo=(1, 3, 3), multiple=(2, 4, 4))
    z, y, x = VOLUME.shape
    assert np.array_equal(canvas.images["enhanced"], pool(padded, None)[:z, :y, :x])


def test_output_scale_two_doubles_every_region():
    def doubled(tile, origin_px):
        return tile.repeat(2, 0).repeat(2, 1).repeat(2, 2)

    canvas, _, _ = run(simple(doubled), halo=(1, 2, 2), multiple=(1, 4, 2), scale=(2, 2, 2))
    assert np.array_equal(canvas.images["enhanced"], doubled(VOLUME, None))
    assert (canvas.counts["enhanced"] == 1).all()


def test_several_outputs_are_written_side_by_side():
    def process(tile, origin_px):
        yield 0.1
        return {"enhanced": tile + 1, "deviation": tile * 0}

    canvas, _, _ = run(process)
    assert np.array_equal(canvas.images["enhanced"], VOLUME + 1)
    assert not canvas.images["deviation"].any()


def test_a_method_working_in_place_does_not_touch_the_image():
    def spoil(tile, origin_px):
        tile[:] = -1
        return tile

    before = VOLUME.copy()
    run(simple(spoil), core=VOLUME.shape)
    run(simple(spoil), core=(11, 26, 8))
    assert np.array_equal(before, VOLUME)


def limited(make_error, limit, calls):
    def process(tile, origin_px):
        calls.append(tile.shape)
        yield 0.2
        if tile.size > limit:
            raise make_error()
        yield 0.8
        return {"enhanced": mirrored_box(tile, origin_px)}

    return process


def numpy_memory_error():
    return MemoryError("Unable to allocate 1.00 TiB for an array")


OUT_OF_MEMORY = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    lambda: RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    lambda: RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 8 bytes"
    ),
    numpy_memory_error,
    MemoryError,
]


@pytest.mark.parametrize("make_error", OUT_OF_MEMORY)
def test_out_of_memory_in_every_disguise_shrinks_the_tiles_and_changes_nothing(make_error):
    calls = []
    canvas, _, report = run(limited(make_error, 3000, calls), core=VOLUME.shape, halo=(2, 2, 2))
    whole = mirrored_box(VOLUME, (0, 0, 0))
    assert np.abs(canvas.images["enhanced"] - whole).max() <= 1e-6 * np.ptp(whole)
    assert (canvas.counts["enhanced"] == 1).all()
    assert report.shrunk == len([c for c in calls if np.prod(c) > 3000]) > 0


def test_finished_tiles_are_not_computed_again_and_the_smaller_size_is_remembered():
    calls, written = [], []

    def process(tile, origin_px):
        calls.append((origin_px, tile.shape))
        yield 0.0
        if len(calls) == 3:
            raise numpy_memory_error()
        return {"enhanced": tile}

    plan = plan_tiles((4, 8, 32), (4, 8, 8), (0, 0, 0))
    image = np.zeros((4, 8, 32), np.float32)
    drain(
        run_tiles(
            plan,
            lambda region: image[region],
            process,
            lambda name, region, array: written.append(region),
        )
    )
    assert [origin for origin, _ in calls] == [
        (0, 0, 0),
        (0, 0, 8),
        (0, 0, 16),
        (0, 0, 16),
        (0, 4, 16),
        (0, 0, 24),
        (0, 4, 24),
    ]
    assert [shape for _, shape in calls[3:]] == [(4, 4, 8)] * 4
    assert len(written) == 6


def test_split_tiles_stay_on_the_grid_of_the_method():
    seen = []

    def process(tile, origin_px):
        seen.append((origin_px, tile.shape))
        yield 0.0
        if tile.size > 600:
            raise numpy_memory_error()
        return {"enhanced": tile}

    run(process, core=(11, 26, 31), halo=(0, 1, 1), multiple=(2, 4, 4))
    assert all(
        v % m == 0
        for origin, shape in seen
        for at in (origin, shape)
        for v, m in zip(at, (2, 4, 4), strict=True)
    )


def test_memory_running_out_for_good_ends_after_eight_halvings():
    calls = []
    with pytest.raises(
        MemoryBudgetError,
        match=r"ran out of memory.*still so after tiles were halved 8 times, to \(\d+, \d+, \d+\) "
        r"px \(0 done\)",
    ):
        run(
            limited(numpy_memory_error, 0, calls),
            volume=np.zeros((64, 64, 64), np.float32),
            core=(64, 64, 64),
        )
    assert len(calls) == 9


def test_tiles_that_cannot_be_halved_end_the_run_with_the_reason():
    with pytest.raises(
        MemoryBudgetError,
        match=r"tiles of \(1, 1, 2\) px cannot be made smaller, and the computer ran out of memory",
    ):
        run(
            limited(numpy_memory_error, 0, []),
            volume=np.zeros((1, 1, 2), np.float32),
            core=(1, 1, 2),
            multiple=(1, 1, 2),
        )


def test_memory_is_free_again_before_the_retry():
    class Ballast(np.ndarray):
        """An array that can be referred to weakly."""

    ballast, alive = [], []

    def process(tile, origin_px):
        held = np.zeros(1000).view(Ballast)
        ballast.append(weakref.ref(held))
        yield 0.5
        if len(ballast) == 1:
            error = numpy_memory_error()
            held.error = error  # a cycle: array -> error -> traceback -> frame -> array
            raise error
        return {"enhanced": tile}

    gc.disable()
    try:
        run(process, core=VOLUME.shape, release=lambda: alive.append(ballast[0]() is not None))
    finally:
        gc.enable()
    assert alive == [False]


def test_release_is_called_once_per_shrink_and_not_without_one():
    released = []
    _, _, report = run(
        limited(numpy_memory_error, 3000, []), core=VOLUME.shape, release=lambda: released.append(1)
    )
    assert len(released) == report.shrunk > 0
    released.clear()
    run(simple(identity), release=lambda: released.append(1))
    assert not released


def test_a_lost_device_is_reported_at_once_with_the_tiles_that_are_done():
    calls = []

    def process(tile, origin_px):
        calls.append(origin_px)
        yield 0.0
        if len(calls) == 3:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        return {"enhanced": tile}

    canvas = Canvas(VOLUME.shape)
    plan = plan_tiles(VOLUME.shape, (11, 26, 8), (0, 0, 0))
    with pytest.raises(
        DeviceLostError,
        match=r"stopped answering in tile 3 of 4 \(z 0:11, y 0:26, x 16:24\); the 2 tiles before "
        r"it are kept",
    ) as caught:
        drain(run_tiles(plan, lambda region: VOLUME[region], process, canvas.write))
    assert len(calls) == 3
    assert classify(caught.value) is FailureKind.DEVICE_LOST
    assert caught.value.finished == tuple(tile.core for tile in plan.tiles[:2])
    assert np.array_equal(canvas.images["enhanced"][..., :16], VOLUME[..., :16])
    assert len(str(caught.value)) <= 240


def test_a_lost_device_leaves_no_array_alive():
    refs = []

    class Held:
        pass

    def process(tile, origin_px):
        held = Held()
        refs.append(weakref.ref(held))
        yield 0.0
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(DeviceLostError, match=r"no tile was finished before it") as caught:
        run(process)
    assert caught.value.__cause__ is not None
    assert refs[0]() is None


def test_a_device_lost_in_the_second_tile_keeps_the_first():
    def process(tile, origin_px):
        yield 0.0
        if origin_px != (0, 0, 0):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return {"enhanced": tile}

    with pytest.raises(
        DeviceLostError, match=r"tile 2 of 2 .*; the tile before it is kept; restart the program"
    ) as caught:
        run(process, core=(11, 26, 16))
    assert len(caught.value.finished) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_names_the_tile_and_is_not_written(value):
    def process(tile, origin_px):
        yield 0.0
        if origin_px == (4, 8, 0):
            tile[1, 2, 3] = value
        return {"enhanced": tile}

    canvas = Canvas(VOLUME.shape)
    plan = plan_tiles(VOLUME.shape, (4, 8, 31), (0, 0, 0))
    with pytest.raises(
        MethodError,
        match=r'1 voxels of "enhanced" that are not finite in tile 6 of 12 \(z 4:8, y 8:16, x '
        r"0:31\)",
    ):
        drain(run_tiles(plan, lambda region: VOLUME[region], process, canvas.write))
    assert np.isnan(canvas.images["enhanced"][4:8, 8:16]).all()


def test_an_output_that_is_not_finite_in_the_halo_only_does_no_harm():
    def process(tile, origin_px):
        yield 0.0
        tile = tile.copy()
        tile[:, :2] = np.nan if origin_px[1] else tile[:, :2]
        return {"enhanced": tile}

    canvas, _, _ = run(process, core=(11, 8, 31), halo=(0, 4, 0))
    assert np.array_equal(canvas.images["enhanced"], VOLUME)


def test_an_output_of_the_wrong_shape_is_refused():
    with pytest.raises(
        MethodError,
        match=r'gave "enhanced" of shape \(4, 8, 7\) in tile 1 of .*expected \(4, 8, 8\)',
    ):
        run(simple(lambda t, o: t[..., 1:]))


@pytest.mark.parametrize("later", [{"other"}, {"enhanced", "other"}, set()])
def test_outputs_that_change_from_tile_to_tile_are_refused(later):
    def process(tile, origin_px):
        yield 0.0
        return dict.fromkeys({"enhanced"} if origin_px == (0, 0, 0) else later, tile)

    with pytest.raises(
        MethodError, match=r"gave the outputs \[.*\] in tile 2 of .*expected \['enhanced'\]"
    ):
        run(process)


def test_a_method_without_outputs_is_refused():
    def process(tile, origin_px):
        yield 0.0
        return {}

    with pytest.raises(
        MethodError, match=r"gave the outputs \[\] in tile 1 of .*expected at least one"
    ):
        run(process)


def test_a_reader_that_gives_another_shape_is_refused():
    plan = plan_tiles((4, 4, 4), (4, 4, 4), (0, 0, 0))
    with pytest.raises(
        StackError,
        match=r"reading z 0:4, y 0:4, x 0:4 gave an array of shape \(3, 4, 4\), expected \(4, 4, "
        r"4\)",
    ):
        drain(
            run_tiles(
                plan,
                lambda region: np.zeros((3, 4, 4), np.float32),
                simple(identity),
                lambda *a: None,
            )
        )


def test_an_unknown_error_goes_through_with_the_tile_in_its_notes():
    def process(tile, origin_px):
        yield 0.0
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug") as caught:
        run(process)
    assert caught.value.__notes__ == ["in tile 1 of 48 (z 0:4, y 0:8, x 0:8)"]


def test_an_error_of_the_writer_goes_through_and_is_not_tried_again():
    written = []

    def write(name, region, array):
        written.append(region)
        raise OSError(28, "No space left on device")

    plan = plan_tiles(VOLUME.shape, (11, 26, 8), (0, 0, 0))
    with pytest.raises(OSError, match="No space left"):
        drain(run_tiles(plan, lambda region: VOLUME[region], simple(identity), write))
    assert len(written) == 1


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5])
def test_cancel_stops_at_the_next_yield_and_a_second_run_works(stop_at):
    cancel, closed, steps = threading.Event(), [], []

    def process(tile, origin_px):
        try:
            for step in range(3):
                steps.append(step)
                if len(steps) == stop_at:
                    cancel.set()
                yield step / 3
        finally:
            closed.append(origin_px)
        return {"enhanced": tile}

    with pytest.raises(RunCancelled, match=rf"cancelled after {(stop_at - 1) // 3} of 2 tiles"):
        run(process, core=(11, 26, 16), cancel=cancel)
    assert len(steps) == stop_at
    assert len(closed) == 1 + (stop_at - 1) // 3
    cancel.clear()
    canvas, _, _ = run(process, core=(11, 26, 16), cancel=threading.Event())
    assert np.array_equal(canvas.images["enhanced"], VOLUME)


def test_cancel_set_by_the_consumer_between_steps_stops_before_more_work():
    cancel, started = threading.Event(), []

    def process(tile, origin_px):
        started.append(origin_px)
        yield 0.5
        return {"enhanced": tile}

    plan = plan_tiles(VOLUME.shape, (11, 26, 8), (0, 0, 0))
    steps = run_tiles(
        plan, lambda region: VOLUME[region], process, Canvas(VOLUME.shape).write, cancel=cancel
    )
    next(steps)
    cancel.set()
    with pytest.raises(RunCancelled, match="after 0 of 4"):
        next(steps)
    assert len(started) == 1


def test_closing_the_run_closes_the_process():
    closed = []

    def process(tile, origin_px):
        try:
            yield 0.5
        finally:
            closed.append(True)
        return {"enhanced": tile}

    plan = plan_tiles(VOLUME.shape, VOLUME.shape, (0, 0, 0))
    steps = run_tiles(plan, lambda region: VOLUME[region], process, Canvas(VOLUME.shape).write)
    next(steps)
    steps.close()
    assert closed == [True]


def test_progress_counts_inner_fractions_never_falls_and_ends_at_one():
    _, steps, _ = run(limited(numpy_memory_error, 4000, []), core=VOLUME.shape, halo=(1, 1, 1))
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[0] == pytest.approx(0.2)
    assert fractions[-1] == 1.0
    assert steps[-1].seconds_left == pytest.approx(0)
    assert steps[-1].tile == steps[-1].tiles - 1
    assert all(0 <= step.tile < step.tiles for step in steps)


def test_seconds_left_follows_the_voxels_done(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("zenhance.tiling.run.perf_counter", lambda: now[0])

    def process(tile, origin_px):
        yield 0.0
        now[0] += 3
        yield 0.25
        now[0] += 9
        return {"enhanced": tile}

    image = np.zeros((1, 4, 40), np.float32)
    _, steps, report = run(process, volume=image, core=(1, 4, 10))
    # 12 s for each of four equal tiles
    assert [s.seconds_left for s in steps] == pytest.approx(
        [None, 45, 36, 36, 33, 24, 24, 21, 12, 12, 9, 0]
    )
    assert report.seconds == 48


def test_a_tile_whose_output_would_have_too_many_voxels_is_cut_before_the_run(monkeypatch):
    monkeypatch.setattr("zenhance.tiling.run.MAX_ELEMENTS", 4000)
    sizes = []

    def doubled(tile, origin_px):
        sizes.append(tile.size * 8)
        return tile.repeat(2, 0).repeat(2, 1).repeat(2, 2)

    canvas, _, report = run(simple(doubled), core=(11, 26, 31), scale=(2, 2, 2))
    assert max(sizes) <= 4000
    assert (canvas.counts["enhanced"] == 1).all()
    assert report.shrunk == 0
