"""How fast is Richardson-Lucy here and elsewhere: same data, same PSF, same iterations, one run.

Programs that begin from different first estimates are each compared with ours begun from the same one. Results are compared away from
the borders, since each program supposes something else beyond them. The smallest time of several repeats is given, and the median.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from zenhance.benchmark.machine import Machine, describe_machine
from zenhance.errors import MethodError
from zenhance.stack import FloatArray

__all__ = ["SpeedReport", "SpeedRow", "measure_speed"]

Triple = tuple[int, int, int]
SHAPE_PX = (32, 256, 256)
VOXEL_UM = (0.5, 0.22, 0.22)
SIGMA_UM = (0.6, 0.3, 0.3)
# Reads and writes of one float32 image per iteration: twice three products of one read and one write, a quotient (2 reads, 1 write),
# and a product (2 reads, 1 write).
PASSES_PER_ITERATION = 18


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One program's time.

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
    *, shape_px: Triple = SHAPE_PX, iterations: int = 10, repeats: int = 5, on_progress: Callable[[str], None] | None = None
) -> SpeedReport:
    """Time every program that is installed on one simulated stack.

    Parameters
    ----------
    shape_px : tuple of int
        (Z, Y, X), at least three kernels wide along each axis, so that something is left away from the borders.
    iterations, repeats : int
        Of Richardson-Lucy, and of the measurement.
    on_progress : callable, optional
        Called with the name of each program before it runs.

    Raises
    ------
    MethodError
        The stack is too small, or a number is below 1.
    """
    if min(iterations, repeats) < 1:
        raise MethodError(f"iterations ({iterations}) and repeats ({repeats}) must be at least 1")
    problem, sigma_px = _make_problem(shape_px, iterations)
    tell = on_progress or (lambda _: None)
    tell("zenhance")
    ours = _time(partial(_ours, problem, _flat_start(problem), "cpu"), repeats)
    rows = [SpeedRow("zenhance (banded products)", "cpu", ours.best_s, ours.median_s, 1.0, 0.0)]
    for program, start, run, note in _others():
        tell(program)
        rows.append(_row(program, problem, start, run, note, ours, repeats))
    rows += _cuda_rows(problem, repeats, ours, tell)
    return SpeedReport(tuple(rows), shape_px, iterations, repeats, sigma_px, problem.border_px, describe_machine())


@dataclass(frozen=True, slots=True)
class _Timing:
    result: FloatArray
    best_s: float
    median_s: float


def _time(run: Callable[[], FloatArray], repeats: int) -> _Timing:
    result = run()  # once for warming up: plans, caches, threads
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
    return _Timing(result, min(seconds), statistics.median(seconds))


Start = Callable[[_Problem], FloatArray]
Run = Callable[[_Problem], FloatArray]


def _others() -> Sequence[tuple[str, Start, Run, str]]:
    return (
        ("scikit-image", _flat_start, _scikit_image, ""),
        ("RedLionfish", _data_start, _redlionfish, ""),
        ("plain torch.fft", _flat_start, _torch_fft, "zero-padded, spectra kept"),
    )


def _row(program: str, problem: _Problem, start: Start, run: Run, note: str, ours: _Timing, repeats: int) -> SpeedRow:
    try:
        timing = _time(partial(run, problem), repeats)
    except ImportError:
        return SpeedRow(program, "cpu", None, None, note="not installed")
    same_start = ours.result if start is _flat_start else _ours(problem, start(problem), "cpu")
    difference = _difference(timing.result, same_start, problem.border_px)
    return SpeedRow(program, "cpu", timing.best_s, timing.median_s, timing.best_s / ours.best_s, difference, note)


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
        raise MethodError(f"a stack of {shape_px} voxels leaves nothing away from the borders; use at least {need}")
    seen = simulate("meristem", seed=3, shape_px=shape_px, voxel_size_um=VOXEL_UM, microscope=Microscope(read_noise=0.0))
    data = np.asarray(seen.measured.data, np.float32)
    data /= data.max()
    # One kernel for all: programs that take a full kernel get the outer product of ours.
    kernel = np.asarray(axes[0][:, None, None] * axes[1][:, None] * axes[2], np.float32)
    return _Problem(data, kernel / kernel.sum(), axes, iterations), psf.sigma_px(VOXEL_UM)


def _flat_start(problem: _Problem) -> FloatArray:
    return np.full_like(problem.data, 0.5)


def _data_start(problem: _Problem) -> FloatArray:
    return problem.data


def _ours(problem: _Problem, start: FloatArray, device: str) -> FloatArray:
    return np.asarray(_ours_on_device(problem, start, device)().cpu().numpy(), np.float32)


def _ours_on_device(problem: _Problem, start: FloatArray, device: str) -> Callable[[], Any]:
    import torch

    from zenhance.physics.blur import Blur
    from zenhance.solvers.richardson_lucy import RichardsonLucy
    from zenhance.solvers.schedule import CameraModel, Schedule

    y, first = (torch.from_numpy(a).to(device) for a in (problem.data, start))
    solver = RichardsonLucy(Blur.from_axis_kernels(*problem.axis_kernels), y, CameraModel(background=0.0), signal=1.0)
    schedule = Schedule(alphas=(0.0,) * problem.iterations)

    def run() -> Any:
        steps = solver.replay(schedule, first)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    return run


def _scikit_image(problem: _Problem) -> FloatArray:
    from skimage.restoration import richardson_lucy

    return np.asarray(richardson_lucy(problem.data, problem.kernel, num_iter=problem.iterations, clip=False), np.float32)


def _redlionfish(problem: _Problem) -> FloatArray:
    from RedLionfishDeconv import doRLDeconvolutionFromNpArrays

    return np.asarray(doRLDeconvolutionFromNpArrays(problem.data, problem.kernel, niter=problem.iterations, method="cpu"), np.float32)


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


def _cuda_rows(problem: _Problem, repeats: int, ours: _Timing, tell: Callable[[str], None]) -> list[SpeedRow]:
    import torch

    if not torch.cuda.is_available():
        return []
    tell("zenhance on CUDA")
    run = _ours_on_device(problem, _flat_start(problem), "cuda")

    def finished() -> FloatArray:
        result = run()
        torch.cuda.synchronize()
        return np.asarray(result.cpu().numpy(), np.float32) if result.device.type == "cpu" else result

    timing = _time(finished, repeats)
    result = np.asarray(torch.as_tensor(timing.result).cpu().numpy(), np.float32)
    traffic_bytes = PASSES_PER_ITERATION * problem.iterations * problem.data.nbytes
    bound_s = traffic_bytes / _cuda_bytes_per_s(problem.data.nbytes)
    note = (
        f"memory traffic alone: {bound_s * 1e3:.2f} ms ({traffic_bytes / 1e9:.2f} GB), the run takes {timing.best_s / bound_s:.1f} × that"
    )
    difference = _difference(result, ours.result, problem.border_px)
    return [SpeedRow("zenhance (banded products)", "cuda", timing.best_s, timing.median_s, timing.best_s / ours.best_s, difference, note)]


def _cuda_bytes_per_s(image_bytes: int) -> float:
    """Measure the rate at which an image larger than any cache is copied, reads and writes counted."""
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
