"""Run time of each method on one stack."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.machine import Machine, describe_machine
from benchmarks.runner import DEVICE, METHODS, QUICK, Experiment
from benchmarks.tables import TextTable
from zenhance.errors import MethodError
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.simulate.samples import simulate
from zenhance.stack import Stack

__all__ = [
    "EXPERIMENT",
    "RUNS",
    "Run",
    "SecondsReport",
    "measure_seconds",
    "seconds_table",
]

SHAPE_PX, QUICK_SHAPE_PX = (60, 512, 512), (6, 128, 128)
VOXEL_UM = (0.5, 0.22, 0.22)
PSF = "sigma_um=0.6,0.2,0.2"
WIDE_PSF = "sigma_um=0.6,0.28,0.28"
"""Three pixels wide at half maximum, as the networks of DPS expect: nothing is resampled."""


@dataclass(frozen=True, slots=True)
class Run:
    """A request: the method, its settings besides the defaults, and the PSF."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    psf: str = PSF

    @property
    def words(self) -> str:
        """Settings as one would type them."""
        return (
            ", ".join(f"{name} {value}" for name, value in self.settings.items()) or "as it comes"
        )


RUNS = (
    Run("gaussian_deconvolution", {"iterations": 10}),
    Run("srcnn"),
    Run("rdn"),
    Run("dqlr"),
    Run("divblurring", {"samples": 20}),
    Run("dps", {}, WIDE_PSF),
    Run("dps", {}, PSF),
    Run("diffusion", {"steps": 5}),
    Run("diffusion", {"steps": 10}),
)


@dataclass(frozen=True)
class SecondsReport:
    """Seconds of each run on a stack of one shape."""

    shape_px: tuple[int, int, int]
    seconds: tuple[tuple[Run, float], ...]
    device: str
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return everything as plain values."""
        rows = [
            {"method": run.method, "settings": dict(run.settings), "psf": run.psf, "seconds": s}
            for run, s in self.seconds
        ]
        return {
            "shape_px": list(self.shape_px),
            "rows": rows,
            "device": self.device,
            "machine": asdict(self.machine),
        }


def _stack(shape_px: tuple[int, int, int]) -> Stack:
    """Return a simulated meristem, repeated along y and x to the size."""
    planes, height, width = shape_px
    side = min(height, 128)
    small = simulate(
        "meristem", seed=940, shape_px=(planes, side, side), voxel_size_um=VOXEL_UM
    ).measured.read()
    tiled = np.tile(np.asarray(small), (1, -(-height // side), -(-width // side)))[
        :, :height, :width
    ]
    return Stack.from_array(np.ascontiguousarray(tiled), "ZYX", VOXEL_UM)


def measure_seconds(
    runs: Sequence[Run] = RUNS,
    *,
    quick: bool = False,
    device: str = "cpu",
    on_progress: Callable[[str, float], None] = lambda _title, _share: None,
) -> SecondsReport:
    """Enhance one stack by each method and take the time, with reading of the weights.

    Parameters
    ----------
    runs : sequence of Run
        What to time.
    quick : bool
        A stack of 6 × 128 × 128 instead of 60 × 512 × 512 voxels.
    device : str
        Where to compute.
    on_progress : callable
        Told what comes next, and the share that is done.
    """
    machine, shape = describe_machine(), QUICK_SHAPE_PX if quick else SHAPE_PX
    stack = _stack(shape)
    found = []
    for number, run in enumerate(runs):
        on_progress(f"{run.method}, {run.words}", number / len(runs))
        begun = time.perf_counter()
        enhance(
            stack,
            EnhanceRequest(
                method=run.method, settings=dict(run.settings), psf=run.psf, device=device
            ),
        )
        found.append((run, time.perf_counter() - begun))
    return SecondsReport(shape, tuple(found), device, machine)


def seconds_table(report: SecondsReport) -> TextTable:
    """Return method, settings, PSF and seconds."""
    rows = tuple(
        (run.method, run.words, f"`{run.psf}`", f"{seconds:.0f}") for run, seconds in report.seconds
    )
    shape = " × ".join(str(n) for n in report.shape_px)
    voxel = " × ".join(f"{v:g}" for v in VOXEL_UM)
    foot = (
        f"A simulated stack of {shape} voxels of {voxel} µm, 16 bits, in memory; reading weights, "
        "noise estimate and tiling included."
        " DPS twice: with a PSF of three pixels, which its networks know, and with one of 2.1, "
        "for which each plane is resampled.",
        f"Device {report.device}. Measured on {report.machine.describe()}.",
    )
    return TextTable("Seconds", ("method", "settings", "PSF", "seconds"), rows, foot)


def _measure(options: Namespace, tell: Callable[[str, float], None]) -> SecondsReport:
    known = {run.method for run in RUNS}
    if missing := [name for name in options.methods if name not in known]:
        raise MethodError(f'"{missing[0][:60]}" is not timed; known are {", ".join(sorted(known))}')
    runs = [run for run in RUNS if not options.methods or run.method in options.methods]
    return measure_seconds(runs, quick=options.quick, device=options.device, on_progress=tell)


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda report: {"seconds": seconds_table(report)},
    options=(METHODS, QUICK, DEVICE),
)
