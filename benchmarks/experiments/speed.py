"""Speed of Richardson-Lucy here and in other programs: same data, PSF and iterations.

Programs with different first estimates are each compared with ours from the same estimate. Results
are compared away from the borders, where each program makes another assumption. The table has the
best and the median time of several repeats.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import Machine, describe_machine
from benchmarks.runner import Experiment, Option, whole
from benchmarks.tables import TextTable
from zenhance.errors import MethodError
from zenhance.steps import drain
from zenhance.types import FloatArray, Triple

__all__ = ["EXPERIMENT", "SpeedReport", "SpeedRow", "measure_speed", "speed_table"]

if TYPE_CHECKING:
    import torch

    from zenhance.physics.blur import BlurOperator
    from zenhance.physics.profile import MicroscopeProfile
    from zenhance.solvers.richardson_lucy import RichardsonLucy
    from zenhance.solvers.schedule import Schedule

Tell = Callable[[str, float], None]
SHAPE_PX = (32, 256, 256)
VOXEL_UM = (0.5, 0.22, 0.22)
SIGMA_UM = (0.6, 0.3, 0.3)
# Reads and writes of one float32 image per iteration: twice three products of one read and one
# write, a quotient (2 reads, 1 write),
# and a product (2 reads, 1 write).
PASSES_PER_ITERATION = 18
REDLIONFISH_NOTE = (
    "version 0.10 applies the PSF one voxel off centre but its mirror image centred, "
    "so its result drifts and cannot agree with any other"
)


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """Time of one program.

    Parameters
    ----------
    program, device : str
        Who, and where.
    best_s, median_s : float or None
        None where the program is not installed.
    times_slower : float or None
        Than ours on the CPU, by the best times.
    difference : float or None
        Largest difference from ours away from the borders, as a share of our result's range there.
    note : str
        What else must be known.
    """

    program: str
    device: str
    best_s: float | None
    median_s: float | None
    times_slower: float | None = None
    difference: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """All rows of one run, with what they were measured on."""

    rows: tuple[SpeedRow, ...]
    shape_px: Triple
    iterations: int
    repeats: int
    sigma_px: tuple[float, float, float]
    border_px: Triple
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Problem:
    data: FloatArray
    kernel: FloatArray
    axis_kernels: tuple[FloatArray, FloatArray, FloatArray]
    iterations: int

    @property
    def border_px(self) -> Triple:
        z, y, x = (n for n in self.kernel.shape)
        return (z, y, x)


def measure_speed(
    *,
    shape_px: Triple = SHAPE_PX,
    iterations: int = 10,
    repeats: int = 5,
    on_progress: Tell | None = None,
) -> SpeedReport:
    """Time every installed program on one simulated stack.

    The programs take turns, so that a busy moment of the machine affects all of them.


    Parameters
    ----------
    shape_px : tuple of int
        (Z, Y, X), more than two kernels wide along each axis, so that something is left away from
        the borders.
    iterations, repeats : int
        Of Richardson-Lucy, and of the measurement.
    on_progress : callable, optional
        Called with the name of each program and the fraction done.

    Raises
    ------
    MethodError
        The stack is too small, or a number is below 1.
    """
    if min(iterations, repeats) < 1:
        raise MethodError(
            f"iterations ({iterations}) and repeats ({repeats}) must be at least 1; give larger "
            "numbers"
        )
    machine = describe_machine()
    problem, sigma_px = _make_problem(shape_px, iterations)
    tell = on_progress or (lambda _title, _fraction: None)
    programs = [p for p in _programs() if p.available()]
    results, seconds = _take_turns(problem, programs, repeats, tell)
    ours_s = min(seconds[0])
    rows = []
    for program, result, taken in zip(programs, results, seconds, strict=True):
        same_start = (
            results[0] if program.start is _flat_start else _ours(problem, program.start(problem))
        )
        difference = _difference(result, same_start, problem.border_px)
        best, median = min(taken), statistics.median(taken)
        rows.append(
            SpeedRow(program.name, "cpu", best, median, best / ours_s, difference, program.note)
        )
    rows += [
        SpeedRow(p.name, "cpu", None, None, note="not installed")
        for p in _programs()
        if not p.available()
    ]
    rows += _depth_rows(problem, repeats, tell)
    rows += _cuda_rows(problem, repeats, results[0], ours_s, tell)
    return SpeedReport(
        tuple(rows), shape_px, iterations, repeats, sigma_px, problem.border_px, machine
    )


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    start: Callable[[_Problem], FloatArray]
    run: Callable[[_Problem], FloatArray]
    module: str
    note: str = ""

    def available(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


def _programs() -> tuple[_Program, ...]:
    return (
        _Program(
            "zenhance", _flat_start, lambda problem: _ours(problem, _flat_start(problem)), "torch"
        ),
        _Program("scikit-image", _flat_start, _scikit_image, "skimage"),
        _Program("RedLionfish", _data_start, _redlionfish, "RedLionfishDeconv", REDLIONFISH_NOTE),
        _Program(
            "plain torch.fft",
            _flat_start,
            _torch_fft,
            "torch",
            "zero-padded, the kernel's spectrum kept",
        ),
    )


def _take_turns(
    problem: _Problem, programs: list[_Program], repeats: int, tell: Tell
) -> tuple[list[FloatArray], list[list[float]]]:
    results = []
    for program in programs:  # once for warming up: plans, caches, threads
        tell(program.name, 0.0)
        results.append(program.run(problem))
    seconds: list[list[float]] = [[] for _ in programs]
    for turn in range(repeats):
        for program, taken in zip(programs, seconds, strict=True):
            tell(program.name, turn / repeats)
            started = time.perf_counter()
            program.run(problem)
            taken.append(time.perf_counter() - started)
    return results, seconds


def _make_problem(shape_px: Triple, iterations: int) -> tuple[_Problem, tuple[float, float, float]]:
    from zenhance.physics.psf import gaussian
    from zenhance.simulate.microscope import Microscope
    from zenhance.simulate.samples import simulate

    psf = gaussian(SIGMA_UM)
    axes = psf.axis_kernels(VOXEL_UM)
    if axes is None:
        raise MethodError("the PSF of the speed test is not separable; choose a Gaussian")
    if any(n < 2 * k.size + 1 for n, k in zip(shape_px, axes, strict=True)):
        need = tuple(2 * k.size + 1 for k in axes)
        raise MethodError(
            f"a stack of {shape_px} voxels leaves nothing away from the borders; use at least "
            f"{need}"
        )
    seen = simulate(
        "meristem",
        seed=3,
        shape_px=shape_px,
        voxel_size_um=VOXEL_UM,
        microscope=Microscope(read_noise=0.0),
    )
    data = np.asarray(seen.measured.data, np.float32)
    data /= data.max()
    # One kernel for all: programs that take a full kernel get the outer product of ours.
    kernel = np.asarray(axes[0][:, None, None] * axes[1][:, None] * axes[2], np.float32)
    return _Problem(data, kernel / kernel.sum(), axes, iterations), psf.sigma_px(VOXEL_UM)


def _flat_start(problem: _Problem) -> FloatArray:
    return np.full_like(problem.data, 0.5)


def _data_start(problem: _Problem) -> FloatArray:
    return problem.data


def _ours(problem: _Problem, start: FloatArray) -> FloatArray:
    return np.asarray(_ours_on_device(problem, start, "cpu")().numpy(), np.float32)


def _ours_on_device(
    problem: _Problem, start: FloatArray, device: str
) -> Callable[[], torch.Tensor]:
    import torch

    from zenhance.physics.blur import Blur

    solver, schedule = _solver(problem, Blur.from_axis_kernels(*problem.axis_kernels), device)
    return partial(_replayed, solver, schedule, torch.from_numpy(start).to(device))


def _solver(problem: _Problem, blur: BlurOperator, device: str) -> tuple[RichardsonLucy, Schedule]:
    import torch

    from zenhance.solvers.richardson_lucy import RichardsonLucy
    from zenhance.solvers.schedule import CameraModel, Schedule

    y = torch.from_numpy(problem.data).to(device)
    solver = RichardsonLucy(blur, y, CameraModel(background=0.0), signal=1.0)
    return solver, Schedule(alphas=(0.0,) * problem.iterations)


def _replayed(solver: RichardsonLucy, schedule: Schedule, start: torch.Tensor) -> torch.Tensor:
    return drain(solver.replay(schedule, start))


def _scikit_image(problem: _Problem) -> FloatArray:
    from skimage.restoration import richardson_lucy

    return np.asarray(
        richardson_lucy(problem.data, problem.kernel, num_iter=problem.iterations, clip=False),
        np.float32,
    )


def _redlionfish(problem: _Problem) -> FloatArray:
    deconvolve = importlib.import_module("RedLionfishDeconv").doRLDeconvolutionFromNpArrays
    return np.asarray(
        deconvolve(problem.data, problem.kernel, niter=problem.iterations, method="cpu"), np.float32
    )


def _torch_fft(problem: _Problem) -> FloatArray:
    import torch
    from scipy.fft import next_fast_len

    y, kernel = torch.from_numpy(problem.data), torch.from_numpy(problem.kernel)
    size = [next_fast_len(n + k - 1, real=True) for n, k in zip(y.shape, kernel.shape, strict=True)]
    spectrum = torch.fft.rfftn(kernel, s=size)
    starts = [k // 2 for k in kernel.shape]
    inner = tuple(slice(s, s + n) for s, n in zip(starts, y.shape, strict=True))

    def convolve(x: Any, transfer: Any) -> Any:
        return torch.fft.irfftn(torch.fft.rfftn(x, s=size) * transfer, s=size)[inner]

    # A symmetric kernel is its own mirror image.
    x = torch.full_like(y, 0.5)
    for _ in range(problem.iterations):
        x = x * convolve(y / convolve(x, spectrum).clamp_min(1e-12), spectrum)
    return np.asarray(x.numpy(), np.float32)


def _difference(result: FloatArray, ours: FloatArray, border_px: Triple) -> float:
    inner = tuple(slice(b, n - b) for b, n in zip(border_px, ours.shape, strict=True))
    mine, theirs = ours[inner].astype(np.float64), result[inner].astype(np.float64)
    return float(np.abs(mine - theirs).max() / max(float(mine.max() - mine.min()), 1e-30))


DEPTH_SURFACES_UM = {"flat surface": 0.0, "surface risen by 6 µm": 6.0}


def _depth_rows(problem: _Problem, repeats: int, tell: Tell) -> list[SpeedRow]:
    """Time a blur that widens two-fold over the stack; constant and by depth take turns."""
    import torch

    from zenhance.physics.surface_blur import SurfaceBlur

    z, y, x = problem.data.shape
    profile = _widening(z * VOXEL_UM[0])
    rows, columns = np.meshgrid(np.linspace(-1, 1, y), np.linspace(-1, 1, x), indexing="ij")
    bowl = 0.5 * (rows**2 + columns**2)
    start = torch.from_numpy(_flat_start(problem))
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "constant": _ours_on_device(problem, _flat_start(problem), "cpu")
    }
    for title, rise in DEPTH_SURFACES_UM.items():
        blur = SurfaceBlur.from_heights(profile, rise * bowl, z, VOXEL_UM)
        solver, schedule = _solver(problem, blur, "cpu")
        runs[title] = partial(_replayed, solver, schedule, start)
    seconds: dict[str, list[float]] = {title: [] for title in runs}
    for turn in range(repeats + 1):
        tell("zenhance by depth", turn / repeats)
        for title, run in runs.items():
            started = time.perf_counter()
            run()
            # The first turn pays for matrices and memory.
            if turn:
                seconds[title].append(time.perf_counter() - started)
    constant = min(seconds.pop("constant"))
    return [
        SpeedRow(
            f"zenhance, blur by depth, {title}",
            "cpu",
            min(taken),
            statistics.median(taken),
            min(taken) / constant,
        )
        for title, taken in seconds.items()
    ]


def _widening(deepest_um: float) -> MicroscopeProfile:
    """Return a profile whose widths double over a stack, about those of the constant PSF."""
    from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity

    def curve(*values: float) -> DepthCurve:
        depths = (0.0, deepest_um)[: len(values)]
        marks = ("user",) * len(values)
        return DepthCurve(depth_um=depths, values=values, low=values, high=values, origins=marks)

    one, half = Quantity.given(1.0), math.sqrt(0.5)
    return MicroscopeProfile(
        voxel_size_um=VOXEL_UM,
        gain=one,
        offset=one,
        read_noise=one,
        background=one,
        attenuation_um=one,
        bleached_per_plane=Quantity.given(0.0),
        brightness=curve(1.0),
        haze=curve(0.0),
        sigma_z_um=curve(half * SIGMA_UM[0], 2 * half * SIGMA_UM[0]),
        sigma_yx_um=curve(half * SIGMA_UM[1], 2 * half * SIGMA_UM[1]),
    )


def _cuda_rows(
    problem: _Problem, repeats: int, ours: FloatArray, ours_s: float, tell: Tell
) -> list[SpeedRow]:
    import torch

    if not torch.cuda.is_available():
        return []
    run = _ours_on_device(problem, _flat_start(problem), "cuda")
    result = run()
    seconds = []
    for turn in range(repeats):
        tell("zenhance on CUDA", turn / repeats)
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    best = min(seconds)
    traffic_bytes = PASSES_PER_ITERATION * problem.iterations * problem.data.nbytes
    bound_s = traffic_bytes / _cuda_bytes_per_s(problem.data.nbytes)
    note = (
        f"its memory traffic of {traffic_bytes / 1e9:.2f} GB alone takes {bound_s * 1e3:.2f} ms, "
        f"the run {best / bound_s:.1f} times that"
    )
    difference = _difference(np.asarray(result.cpu().numpy(), np.float32), ours, problem.border_px)
    return [
        SpeedRow(
            "zenhance", "cuda", best, statistics.median(seconds), best / ours_s, difference, note
        )
    ]


def _cuda_bytes_per_s(image_bytes: int) -> float:
    """Measure the rate of copying an image larger than any cache; reads and writes count."""
    import torch

    source = torch.empty(max(image_bytes, 2**30) // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    rates = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        rates.append(2 * source.numel() * 4 / (time.perf_counter() - started))
    return max(rates)


def speed_table(report: SpeedReport) -> TextTable:
    """Return the speed table: best and median time, how many times ours, largest difference."""
    header = ("program", "device", "best s", "median s", "times ours", "difference")
    rows = tuple(_speed_row(row) for row in report.rows)
    z, y, x = report.shape_px
    sigma = " × ".join(f"{s:.2f}" for s in report.sigma_px)
    border = " × ".join(str(b) for b in report.border_px)
    foot = (
        f"Richardson-Lucy, {report.iterations} plain iterations, {z} × {y} × {x} voxels, Gaussian "
        f"PSF of σ {sigma} px (z, y, x).",
        f"Best and median of {report.repeats} repeats taken in turns; largest difference from "
        "ours as a share of the range,"
        f" {border} voxels away from the borders, ours begun from the same first estimate.",
        "Blur by depth: widths double over the stack; times are relative to the constant blur, "
        "which took turns with them.",
        *(f"{row.program} on {row.device}: {row.note}." for row in report.rows if row.note),
        f"Measured on {report.machine.describe()}.",
    )
    return TextTable("Speed of Richardson-Lucy", header, rows, foot)


def _speed_row(row: SpeedRow) -> tuple[str, ...]:
    if row.best_s is None or row.median_s is None:
        return (row.program, row.device, "-", "-", "-", "-")
    slower = "-" if row.times_slower is None else f"{row.times_slower:.1f}"
    difference = "-" if row.difference is None else f"{row.difference:.1e}"
    return (row.program, row.device, f"{row.best_s:.3f}", f"{row.median_s:.3f}", slower, difference)


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_speed(
        iterations=options.iterations, repeats=options.repeats, on_progress=tell
    ),
    tables=lambda report: {"speed": speed_table(report)},
    options=(
        Option("iterations", "Iterations of Richardson-Lucy.", "N", 10, whole),
        Option("repeats", "Repeats of each measurement.", "N", 5, whole),
    ),
)
