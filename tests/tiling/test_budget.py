"""Memory budget: what is free, and the tile that is chosen for it."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zenhance.errors import MemoryBudgetError, MethodError, StackError
from zenhance.tiling import budget
from zenhance.tiling.budget import choose_core, free_bytes
from zenhance.tiling.geometry import MAX_ELEMENTS, padded_shape, plan_tiles
from zenhance.tiling.run import run_tiles

SOME = settings(deadline=None, max_examples=60)


def triples(low: int, high: int) -> st.SearchStrategy[tuple[int, int, int]]:
    return st.tuples(*[st.integers(low, high)] * 3)


def reads_along_an_axis(size, core, halo, multiple):
    """Sum and maximum of what the tiles of a volume one voxel wide read."""
    tiles = plan_tiles((1, 1, size), (1, 1, core), (0, 0, halo), (1, 1, multiple)).tiles
    lengths = [padded_shape(tile.read, (1, 1, multiple))[2] for tile in tiles]
    return sum(lengths), max(lengths)


def total_and_largest(shape, core, halo, multiple):
    axes = [
        reads_along_an_axis(*numbers) for numbers in zip(shape, core, halo, multiple, strict=True)
    ]
    return math.prod(total for total, _ in axes), math.prod(largest for _, largest in axes)


@SOME
@given(triples(1, 25), triples(0, 12), triples(1, 5), st.integers(1, 200), st.integers(0, 10**6))
def test_no_tile_exceeds_the_budget_or_the_error_says_needed_and_available(
    shape, halo, multiple, bytes_per_voxel, budget_bytes
):
    try:
        core = choose_core(shape, halo, multiple, bytes_per_voxel, budget_bytes)
    except MemoryBudgetError as error:
        _, smallest = total_and_largest(shape, multiple, halo, multiple)
        assert smallest * bytes_per_voxel > budget_bytes
        assert "needs" in str(error)
        assert "are free" in str(error)
        return
    plan = plan_tiles(shape, core, halo, multiple)
    assert plan.core_shape_px == core
    assert all(
        math.prod(padded_shape(t.read, multiple)) * bytes_per_voxel <= budget_bytes
        for t in plan.tiles
    )


@SOME
@given(triples(1, 25), triples(0, 12), triples(1, 5), st.integers(1, 200))
def test_the_whole_volume_is_one_tile_where_it_fits(shape, halo, multiple, bytes_per_voxel):
    padded = math.prod(-(-n // m) * m for n, m in zip(shape, multiple, strict=True))
    assert choose_core(shape, halo, multiple, bytes_per_voxel, padded * bytes_per_voxel) == shape


@SOME
@given(triples(1, 9), triples(0, 3), triples(1, 3), st.integers(1, 800))
def test_the_choice_costs_at_most_a_tenth_more_than_the_best_of_all_cores(
    shape, halo, multiple, max_voxels
):
    axes = [
        [reads_along_an_axis(n, core, h, m) for core in range(m, n + m, m)]
        for n, h, m in zip(shape, halo, multiple, strict=True)
    ]
    possible = [
        z[0] * y[0] * x[0]
        for z, y, x in itertools.product(*axes)
        if z[1] * y[1] * x[1] <= max_voxels
    ]
    if not possible:
        with pytest.raises(MemoryBudgetError):
            choose_core(shape, halo, multiple, 1, max_voxels)
        return
    total, _ = total_and_largest(
        shape, choose_core(shape, halo, multiple, 1, max_voxels), halo, multiple
    )
    assert total <= budget.WHOLE_Z_EXTRA * min(possible)


@SOME
@given(triples(2000, 9000), triples(0, 30), st.integers(10**6, 10**12))
def test_no_tile_has_more_elements_than_32_bits_count(shape, halo, budget_bytes):
    core = choose_core(shape, halo, (1, 1, 1), 1, budget_bytes)
    assert total_and_largest(shape, core, halo, (1, 1, 1))[1] <= min(MAX_ELEMENTS, budget_bytes)


def test_an_output_larger_than_the_input_counts_for_the_limit_of_elements():
    core = choose_core((1000, 1500, 1500), (0, 0, 0), (1, 1, 1), 1, 10**12, output_scale=(2, 2, 2))
    assert math.prod(core) * 8 <= MAX_ELEMENTS


def test_z_stays_whole_where_that_costs_little():
    core = choose_core((100, 1024, 1024), (8, 8, 8), (1, 1, 1), 64, 2 * 10**9)
    assert core[0] == 100


def test_tiles_are_nearly_square_in_y_and_x_when_halos_are_equal():
    z, y, x = choose_core((64, 4096, 4096), (6, 10, 10), (1, 1, 1), 64, 2 * 10**9)
    assert z == 64
    assert max(y, x) / min(y, x) <= 1.75


def test_a_longer_halo_gets_a_longer_tile():
    _, y, x = choose_core((1, 8192, 8192), (0, 4, 40), (1, 1, 1), 64, 64 * 10**6)
    assert x > 2 * y


def test_a_volume_beyond_any_memory_is_planned_without_allocating():
    tracemalloc.start()
    core = choose_core((10**5, 10**5, 10**5), (8, 12, 12), (1, 4, 4), 64, 4 * 10**9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20
    assert math.prod(c + 2 * 12 for c in core) * 64 <= 4 * 10**9 * 1.1


def test_a_volume_ten_times_the_budget_runs_within_it():
    shape, budget_bytes, bytes_per_voxel = (40, 200, 200), 10_000_000, 64
    plan = plan_tiles(
        shape, choose_core(shape, (2, 4, 4), (1, 1, 1), bytes_per_voxel, budget_bytes), (2, 4, 4)
    )

    def process(tile, origin_px):
        work = np.ones((bytes_per_voxel // 4 - 1, *tile.shape), np.float32)
        yield 0.5
        return {"enhanced": work[0] * tile}

    tracemalloc.start()
    for _ in run_tiles(
        plan,
        lambda region: np.zeros([s.stop - s.start for s in region], np.float32),
        process,
        lambda *ignored: None,
    ):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert math.prod(shape) * bytes_per_voxel > 10 * budget_bytes
    assert peak <= 1.1 * budget_bytes


def test_the_smallest_tile_not_fitting_is_said_in_numbers():
    with pytest.raises(
        MemoryBudgetError,
        match=r"smallest tile, \(9, 9, 9\) \(z, y, x\) px with its halo, needs 46\.7 kB, 1 kB are "
        r"free",
    ):
        choose_core((64, 64, 64), (4, 4, 4), (1, 1, 1), 64, 1000)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ((0, 4, 4), (0, 0, 0), (1, 1, 1), 64, 100),
            StackError,
            r"shape \(0, 4, 4\) .* has no voxels",
        ),
        (((4, 4, 4), (0, 0, -1), (1, 1, 1), 64, 100), MethodError, r"halo is \(0, 0, -1\)"),
        (
            ((4, 4, 4), (0, 0, 0), (1, 1, 1), 0, 100),
            MethodError,
            "working memory is 0 bytes per voxel; it must be more than 0",
        ),
    ],
)
def test_numbers_out_of_range_are_refused_before_the_search(arguments, error, message):
    with pytest.raises(error, match=message):
        choose_core(*arguments)


def test_free_memory_of_the_host_is_positive_and_below_what_is_built_in():
    assert 2**20 < free_bytes("cpu") < 2**46


def test_available_memory_is_read_from_meminfo(tmp_path):
    (tmp_path / "meminfo").write_text(
        "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   12345678 kB\n"
    )
    assert budget._meminfo_bytes(tmp_path / "meminfo") == 12345678 * 1024
    assert budget._meminfo_bytes(tmp_path / "absent") is None


def test_the_tightest_limit_of_nested_control_groups_counts(tmp_path):
    inner = tmp_path / "batch" / "job"
    inner.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/batch/job\n")
    for folder, limit, usage in ((inner, "max", 100), (inner.parent, "5000", 1500)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{usage}\n")
    assert budget._cgroup_bytes(tmp_path / "cgroup", tmp_path) == 3500
    (inner.parent / "memory.stat").write_text("anon 10\ninactive_file 400\nactive_file 7\n")
    assert budget._cgroup_bytes(tmp_path / "cgroup", tmp_path) == 3900


def test_control_groups_of_the_first_version_are_read_too(tmp_path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "cgroup").write_text("9:name=systemd:/\n4:cpu,memory:/docker/unseen\n0::/\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("2000\n")
    (tmp_path / "memory" / "memory.stat").write_text("inactive_file 3\ntotal_inactive_file 30\n")
    assert budget._cgroup_bytes(tmp_path / "cgroup", tmp_path) in (7003, 7030)
    assert budget._cgroup_bytes(tmp_path / "absent", tmp_path) is None


def test_the_least_of_all_limits_is_planned_with(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(budget, "_meminfo_bytes", lambda: 1000)
    monkeypatch.setattr(budget, "_cgroup_bytes", lambda: 400)
    monkeypatch.setattr(budget, "_address_space_bytes", lambda: None)
    assert free_bytes("cpu") == 280
    monkeypatch.setattr(budget, "_cgroup_bytes", lambda: None)
    assert free_bytes("cpu") == 700


@pytest.mark.skipif(sys.platform != "linux", reason="address-space limits are enforced on Linux")
def test_an_address_space_limit_is_respected():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31));"
        "from zenhance.tiling.budget import free_bytes; print(free_bytes('cpu'))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert 2**20 < int(printed) < 0.7 * 2**31


def test_free_memory_of_a_mac_is_read_from_vm_stat(monkeypatch):
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               1000.\n"
        "Pages active:                             5000.\n"
        "Pages inactive:                           2000.\n"
        "Pages speculative:                        300.\nPages purgeable:  7.\n"
    )
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: SimpleNamespace(stdout=text))
    assert budget._macos_bytes() == 3307 * 16384


def test_a_mac_without_vm_stat_is_planned_with_half_of_its_memory(monkeypatch):
    def missing(*args, **options):
        raise FileNotFoundError("vm_stat")

    monkeypatch.setattr(subprocess, "run", missing)
    assert budget._macos_bytes() is None
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(budget, "_cgroup_bytes", lambda: None)
    monkeypatch.setattr(budget, "_address_space_bytes", lambda: None)
    monkeypatch.setattr(
        budget.os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.get, raising=False
    )
    assert free_bytes("cpu") == int(0.7 * 2_048_000)


def test_free_memory_of_windows_is_asked_from_its_kernel(monkeypatch):
    def fill(reference):
        reference._obj.available = 987654321
        return 1

    kernel = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=fill))
    monkeypatch.setattr(budget.ctypes, "windll", kernel, raising=False)
    assert budget._windows_bytes() == 987654321


def test_free_memory_of_a_gpu_counts_the_unused_cache(monkeypatch):
    cuda = SimpleNamespace(
        mem_get_info=lambda index: {0: (1000, 5000), 2: (2000, 5000)}[index],
        memory_reserved=lambda index: 300,
        memory_allocated=lambda index: 100,
        current_device=lambda: 0,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert free_bytes("cuda") == int(0.9 * 1200)
    assert free_bytes("cuda:2") == int(0.9 * 2200)


def test_free_memory_of_an_apple_gpu_is_bounded_by_the_host(monkeypatch):
    mps = SimpleNamespace(recommended_max_memory=lambda: 1000, driver_allocated_memory=lambda: 200)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(mps=mps))
    assert free_bytes("mps") == 560
    monkeypatch.setattr(budget, "_host_bytes", lambda: 100)
    assert free_bytes("mps") == 100


def test_an_unknown_device_is_refused():
    with pytest.raises(
        MethodError, match='there is no device "tpu"; allowed are cpu, cuda, cuda:N and mps'
    ):
        free_bytes("tpu")
