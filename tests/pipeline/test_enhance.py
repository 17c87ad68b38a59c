"""The main path keeps what a biologist relies on: values, units, place, provenance, cancel."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import zenhance
from zenhance.errors import MemoryBudgetError, MethodError, RunCancelled, StackError
from zenhance.pipeline import (
    EnhanceRequest,
    EnhanceResult,
    enhance,
    enhance_steps,
    estimate_steps,
    plan_run,
    preview_steps,
)
from zenhance.provenance import Provenance
from zenhance.stack import Stack, VoxelSize

VOXEL_UM = (0.5, 0.2, 0.2)
PSF = "sigma_um=0.6,0.25,0.25"


def beads(shape: tuple[int, ...] = (20, 48, 52), seed: int = 0) -> np.ndarray:
    """A few bright points on a camera offset of 100, blurred and noisy."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    truth = np.zeros(shape)
    for _ in range(25):
        truth[tuple(rng.integers(3, n - 3) for n in shape)] = 30000.0
    blurred = gaussian_filter(truth, (1.2, 1.25, 1.25)[-len(shape) :], mode="reflect")
    return (rng.poisson(blurred + 10) + rng.normal(100, 2, shape)).clip(0, 65535).astype(np.uint16)


def drain(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "float16", ">u2", ">f4", "<i2", "bool"]
)
@pytest.mark.parametrize("axes", ["YX", "ZYX", "TZYX", "CYX", "TCZYX"])
def test_the_identity_is_exact_for_every_kind_of_pixel_and_axes(dtype: str, axes: str) -> None:
    shape = tuple({"T": 2, "C": 2, "Z": 5, "Y": 9, "X": 11}[a] for a in axes)
    values = np.random.default_rng(1).integers(-120, 120, shape)
    data = (
        (values > 0)
        if dtype == "bool"
        else (np.abs(values) if "u" in dtype else values).astype(dtype)
    )
    result = enhance(Stack.from_array(data, axes), method="identity", tile_px=(3, 4, 5))
    assert result.stack.axes == axes
    assert result.stack.data.dtype == np.float32
    assert np.array_equal(result.stack.data, data.astype(np.float32))


def test_the_identity_in_the_input_type_is_bit_equal() -> None:
    data = np.random.default_rng(2).integers(0, 65536, (4, 9, 9)).astype(np.uint16)
    result = enhance(data, axes="ZYX", method="identity", dtype="input")
    assert result.stack.data.dtype == np.uint16
    assert np.array_equal(result.stack.data, data)
    assert result.provenance.clipped_voxels == 0


def test_the_public_function_and_the_module_of_that_name_are_both_callable() -> None:
    data = np.ones((5, 6), np.uint8)
    assert np.array_equal(zenhance.enhance(data, method="identity").stack.data, data)
    assert isinstance(enhance(data, method="identity"), EnhanceResult)


def test_voxels_that_are_not_finite_stay_so_and_do_not_spread() -> None:
    clean = beads().astype(np.float32)
    broken = clean.copy()
    broken[10, 20, 20], broken[5, 30, 31] = np.nan, np.inf
    filled = clean.copy()
    for z, y, x in ((10, 20, 20), (5, 30, 31)):
        near = broken[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3]
        filled[z, y, x] = np.median(near[np.isfinite(near)])
    settings = {"iterations": 5, "stop": "fixed"}
    common: dict[str, Any] = {
        "voxel_size_um": VOXEL_UM,
        "psf": PSF,
        "settings": settings,
        "background": 110.0,
    }
    with_holes = enhance(broken, **common)
    whole = enhance(filled, **common)
    bad = ~np.isfinite(broken)
    assert np.array_equal(np.isnan(with_holes.stack.data), bad)
    difference = np.abs(with_holes.stack.data - whole.stack.data)[~bad]
    assert difference.max() <= 1e-6 * np.ptp(whole.stack.data)
    assert any(
        "2 voxels are NaN or infinite" in warning for warning in with_holes.provenance.warnings
    )


def test_a_stack_with_too_many_voxels_that_are_not_finite_is_refused() -> None:
    data = np.ones((6, 10, 10), np.float32)
    data[0] = np.nan
    with pytest.raises(StackError, match="at most a tenth"):
        enhance(data, method="identity")


@pytest.mark.parametrize("value", [0, 100, 255])
def test_a_constant_stack_stays_constant_and_says_so(value: int) -> None:
    result = enhance(np.full((6, 16, 16), value, np.uint8), voxel_size_um=VOXEL_UM, psf=PSF)
    assert np.ptp(result.stack.data) <= 5e-3 * max(value, 1)
    assert result.stack.data.mean() == pytest.approx(value, abs=5e-3 * max(value, 1))
    assert any("no contrast" in warning for warning in result.provenance.warnings)


def test_a_cast_to_the_input_type_clips_rounds_and_counts() -> None:
    data = beads()
    sharp = enhance(
        data, voxel_size_um=VOXEL_UM, psf=PSF, settings={"iterations": 10, "stop": "fixed"}
    )
    cast = enhance((data // 20).astype(np.uint8), voxel_size_um=VOXEL_UM, psf=PSF, dtype="input")
    assert cast.stack.data.dtype == np.uint8
    assert sharp.stack.data.max() > data.max()
    wide = enhance((data // 20).astype(np.uint8), voxel_size_um=VOXEL_UM, psf=PSF)
    assert cast.provenance.clipped_voxels == np.count_nonzero(np.rint(wide.stack.data) > 255)
    assert np.array_equal(
        cast.stack.data, np.clip(np.rint(wide.stack.data), 0, 255).astype(np.uint8)
    )


def test_intensities_scale_with_the_input() -> None:
    data = beads().astype(np.float32)
    plain = enhance(data, voxel_size_um=VOXEL_UM, psf=PSF).stack.data
    moved = enhance(10 * data + 500, voxel_size_um=VOXEL_UM, psf=PSF).stack.data
    assert np.abs((moved - 500) / 10 - plain).max() <= 5e-3 * np.ptp(plain)


def test_each_volume_of_a_series_is_enhanced_as_if_alone() -> None:
    volumes = np.stack([beads(seed=s) for s in range(4)]).reshape(2, 2, 20, 48, 52)
    series = enhance(Stack.from_array(volumes, "TCZYX", VOXEL_UM), psf=PSF)
    alone = enhance(volumes[1, 0], voxel_size_um=VOXEL_UM, psf=PSF)
    assert series.stack.axes == "TCZYX"
    assert np.array_equal(series.stack.data[1, 0], alone.stack.data)
    assert len(series.provenance.statistics) == 4


def test_with_shared_statistics_each_time_point_is_solved_for_itself() -> None:
    series = np.random.default_rng(0).poisson(20.0, (2, 5, 24, 24)).astype(np.uint16)
    series[1, :, 8:12] += 100
    result = enhance(
        Stack.from_array(series, "TZYX", (0.5, 0.2, 0.2)),
        statistics="shared",
        psf="sigma_um=0.5,0.2,0.2",
    )
    first, second = np.asarray(result.stack.data)
    assert second[:, 8:12].mean() > 4 * first[:, 8:12].mean()


def test_shared_statistics_are_those_of_all_time_points() -> None:
    bright = beads()
    series = np.stack([bright, bright // 2])
    result = enhance(Stack.from_array(series, "TZYX"), method="identity", statistics="shared")
    first, second = result.provenance.statistics
    assert first == second
    assert first["maximum"] == series.max()
    assert first["mean"] == pytest.approx(series.mean(), rel=1e-6)


def test_the_account_of_the_run_is_complete_and_replays_to_the_same_pixels() -> None:
    stack = Stack.from_array(beads(), "ZYX", VoxelSize.of(VOXEL_UM, "file"), name="plant")
    first = enhance(stack, psf=PSF, seed=3)
    record = Provenance.find(first.stack.metadata)
    assert record == first.provenance
    assert record.voxel_size_origins == ("file", "file", "file")
    assert record.device.startswith(("cpu", "cuda", "mps"))
    assert record.device_reason
    assert record.tiles["count"] >= 1
    assert record.seconds > 0
    assert "torch" in record.libraries
    assert record.curves
    assert "0.25" in record.psf
    again = enhance(stack, EnhanceRequest.from_yaml(record.to_json()))
    assert np.array_equal(again.stack.data, first.stack.data)
    assert again.provenance.input_sha256 == record.input_sha256


def test_tiles_do_not_show() -> None:
    data = beads((20, 150, 60))
    common: dict[str, Any] = {"voxel_size_um": VOXEL_UM, "psf": PSF}
    whole = enhance(data, **common)
    tiled = enhance(data, **common, tile_px=(20, 40, 60))
    assert tiled.provenance.tiles["count"] >= 4
    assert np.abs(tiled.stack.data - whole.stack.data).max() <= 1e-5 * np.ptp(whole.stack.data)


def test_a_missing_voxel_size_is_asked_for_only_where_it_is_needed() -> None:
    with pytest.raises(StackError, match="voxel size in z, y, x is unknown"):
        enhance(beads())
    assert enhance(beads(), method="identity").stack.voxel_size.origin() == "unknown"


def test_a_cancelled_run_ends_at_the_next_step_and_leaves_the_input_alone() -> None:
    data = beads()
    before = data.copy()
    stop = threading.Event()
    seen = []

    def watch(progress: Any) -> None:
        seen.append(progress)
        if len(seen) == 4:
            stop.set()

    with pytest.raises(RunCancelled, match="the original is unchanged"):
        enhance(data, voxel_size_um=VOXEL_UM, psf=PSF, on_progress=watch, cancel=stop)
    assert len(seen) <= 5
    assert np.array_equal(data, before)
    assert enhance(data, method="identity").stack.shape == data.shape


def test_progress_only_grows_and_ends_at_one() -> None:
    seen: list[float] = []
    enhance(
        beads(),
        voxel_size_um=VOXEL_UM,
        psf=PSF,
        on_progress=lambda p: seen.append(p.fraction),
        tile_px=(20, 24, 52),
    )
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert 0.95 <= seen[-1] <= 1


class _Untouchable:
    """An array that must not be read."""

    shape = (1000, 10_000, 10_000)
    dtype = np.dtype(np.uint16)

    def __getitem__(self, key: object) -> None:
        raise AssertionError("the plan read pixels")


def test_a_plan_reads_no_pixels_and_cuts_a_huge_volume_into_tiles() -> None:
    stack = Stack(_Untouchable(), "ZYX", VoxelSize.of(VOXEL_UM))
    plan = plan_run(stack, EnhanceRequest(psf=PSF))
    assert len(plan.tiles.tiles) > 100
    assert plan.result_bytes == 4 * 1000 * 10_000**2
    assert "tiles of" in plan.describe()


def test_a_method_that_does_not_fit_is_refused_with_needed_and_available(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zenhance.pipeline.plan.free_bytes", lambda _device: 1000)
    with pytest.raises(MemoryBudgetError):
        plan_run(Stack(_Untouchable(), "ZYX", VoxelSize.of(VOXEL_UM)), EnhanceRequest(psf=PSF))


def test_a_result_that_would_fill_the_memory_goes_to_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = beads()
    monkeypatch.setattr("zenhance.pipeline.output.free_bytes", lambda _device: 1000)
    result = enhance(data, method="identity")
    assert isinstance(result.stack.data, np.memmap)
    assert np.array_equal(result.stack.data, data)


def test_cuda_is_refused_with_a_reason_where_there_is_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(MethodError, match="cuda"):
        enhance(beads(), voxel_size_um=VOXEL_UM, psf=PSF, device="cuda")


@pytest.mark.parametrize(
    ("size", "axes", "warning"),
    [((1e-3 * 4, 0.2, 0.2), "ZYX", "unusual"), ((50.0, 0.2, 0.2), "ZYX", "check the unit")],
)
def test_a_doubtful_voxel_size_is_said(size: tuple[float, ...], axes: str, warning: str) -> None:
    result = enhance(Stack.from_array(beads(), axes, size), method="identity")
    assert any(warning in said for said in result.provenance.warnings)


def test_a_preview_is_one_plane_in_its_place_and_close_to_the_whole_run() -> None:
    stack = Stack.from_array(beads(), "ZYX", VOXEL_UM)
    request = EnhanceRequest(
        psf=PSF,
        settings={"iterations": 6, "stop": "fixed", "acceleration": False},
        background=110.0,
    )
    whole = enhance(stack, request).stack.data
    result = drain(preview_steps(stack, request, 10, {"Y": slice(8, 40), "X": slice(0, 52)}))
    assert result.stack.shape == (1, 32, 52)
    inner = (slice(None), slice(8, -8), slice(None))
    assert np.abs(result.stack.data - whole[10:11, 8:40])[inner].max() <= 0.05 * np.ptp(whole)
    assert result.provenance.request["crop"] == [[6, 15], [8, 40], [0, 52]]


def test_a_preview_of_a_time_point_shows_that_time_point() -> None:
    series = np.stack([beads(seed=0), beads(seed=1)])
    result = drain(
        preview_steps(Stack.from_array(series, "TZYX"), EnhanceRequest(method="identity"), 3, t=1)
    )
    assert np.array_equal(np.asarray(result.stack.data)[0, 0], series[1, 3])


@pytest.mark.parametrize("settings", [{"iterations": 10, "stop": "fixed"}, {}])
def test_the_run_time_is_told_beforehand_within_a_factor(
    settings: dict[str, Any], patience: float
) -> None:
    stack = Stack.from_array(np.tile(beads(), (2, 4, 4)), "ZYX", VOXEL_UM)
    request = EnhanceRequest(psf=PSF, settings=settings)
    told = drain(estimate_steps(stack, request))
    took = enhance(stack, request).provenance.seconds
    assert took / (4 * patience) <= told <= took * 4 * patience


def test_memory_that_runs_out_while_preparing_shrinks_what_is_prepared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zenhance.methods.deconvolution import GaussianDeconvolution

    honest, asked = GaussianDeconvolution.prepare, []

    def hungry(self: GaussianDeconvolution, context: Any) -> Any:
        asked.append(context.whole_voxels)
        if min(context.whole_voxels, 20 * 48 * 52) > 30_000:
            yield 0.0
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                "8 bytes"
            )
        return (yield from honest(self, context))

    whole = enhance(
        beads(),
        voxel_size_um=VOXEL_UM,
        psf=PSF,
        settings={"iterations": 6, "stop": "fixed", "acceleration": False},
    )
    monkeypatch.setattr(GaussianDeconvolution, "prepare", hungry)
    result = enhance(
        beads(),
        voxel_size_um=VOXEL_UM,
        psf=PSF,
        settings={"iterations": 6, "stop": "fixed", "acceleration": False},
    )
    assert asked == [4_000_000, 24_960]
    assert any(
        "memory ran out while preparing" in warning for warning in result.provenance.warnings
    )
    assert np.abs(result.stack.data - whole.stack.data).max() <= 0.01 * np.ptp(whole.stack.data)
    monkeypatch.setattr(GaussianDeconvolution, "prepare", lambda _self, _context: _never())
    with pytest.raises(MemoryBudgetError, match="not even a small part"):
        enhance(beads(), voxel_size_um=VOXEL_UM, psf=PSF)


def _never() -> Any:
    yield 0.0
    raise MemoryError


def test_an_error_while_preparing_that_is_not_memory_is_not_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zenhance.methods.deconvolution import GaussianDeconvolution

    def broken(_self: Any, _context: Any) -> Any:
        yield 0.0
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(GaussianDeconvolution, "prepare", broken)
    with pytest.raises(ZeroDivisionError):
        enhance(beads(), voxel_size_um=VOXEL_UM, psf=PSF)


def test_the_length_along_z_is_not_asked_for_where_nothing_uses_it() -> None:
    flat = Stack.from_array(beads()[:1], "ZYX", (None, 0.2, 0.2))
    assert enhance(flat, psf="sigma_um=0.6,0.25,0.25").stack.shape == (1, 48, 52)
    stack = Stack.from_array(beads(), "ZYX", (None, 0.2, 0.2))
    assert enhance(
        stack, psf="sigma_um=0.6,0.25,0.25", settings={"variant": "imagej", "iterations": 3}
    ).stack.shape == (20, 48, 52)
    with pytest.raises(StackError, match="voxel size in z is unknown"):
        enhance(stack, psf="sigma_um=0.6,0.25,0.25")


def test_the_record_of_an_enhanced_input_is_kept() -> None:
    first = enhance(beads(), axes="ZYX", method="identity", seed=4)
    second = enhance(first.stack, method="identity")
    assert second.provenance.notes["input_record"]["seed"] == 4


def test_closing_the_generator_early_frees_the_run() -> None:
    steps = enhance_steps(Stack.from_array(beads(), "ZYX", VOXEL_UM), EnhanceRequest(psf=PSF))
    next(steps)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_the_axes_of_a_bare_array_are_applied_once() -> None:
    data = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(np.uint16)
    result = enhance(data, method="identity", axes="YZX")
    assert np.array_equal(result.stack.data, data.transpose(1, 0, 2))
    assert result.provenance.request["axes"] == "YZX"
    again = enhance(data, EnhanceRequest.from_yaml(result.provenance.to_json()))
    assert np.array_equal(again.stack.data, result.stack.data)
