"""How long a stack takes, method by method: one size for all, the settings stated, nothing else going on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.console import progress, show, write_json
from benchmarks.docs import DOCS_PAGE, write_between_markers
from benchmarks.machine import Machine, describe_machine
from benchmarks.tables import TextTable
from zenhance.errors import MethodError
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.simulate.samples import simulate
from zenhance.stack import Stack

__all__ = [
    "RUNS",
    "Run",
    "SecondsReport",
    "measure_seconds",
    "run_seconds_benchmark",
    "seconds_table",
]

SHAPE_PX, QUICK_SHAPE_PX = (60, 512, 512), (6, 128, 128)
VOXEL_UM = (0.5, 0.22, 0.22)
PSF = "sigma_um=0.6,0.2,0.2"
WIDE_PSF = "sigma_um=0.6,0.28,0.28"
"""Three pixels wide at half maximum: what the networks of DPS know, so that nothing is resampled."""


@dataclass(frozen=True, slots=True)
class Run:
    """A request: the method, what is set besides its defaults, and the PSF that is told."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    psf: str = PSF

    @property
    def words(self) -> str:
        """Settings as they would be typed."""
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
    """Return a simulated meristem, repeated along y and x up to the size wanted."""
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
    """Enhance one stack by each method and take the time, reading of weights included.

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
        f"A simulated stack of {shape} voxels of {voxel} µm, 16 bits, in memory; reading weights, noise estimate and tiling included."
        " DPS twice: with a PSF of three pixels, which its networks know, and with one of 2.1, for which each plane is resampled.",
        f"Device {report.device}. Measured on {report.machine.describe()}.",
    )
    return TextTable("Seconds", ("method", "settings", "PSF", "seconds"), rows, foot)


def run_seconds_benchmark(
    out: str | Path | None = None,
    *,
    methods: Sequence[str] = (),
    quick: bool = False,
    write_docs: bool = False,
    json_line: bool = False,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Time the methods on one stack; print the table and return the files written.

    Parameters
    ----------
    out : str or Path, optional
        Folder for the figures (JSON).
    methods : sequence of str
        Only these; empty means all.
    quick : bool
        A small stack.
    write_docs : bool
        Put the table into ``docs/benchmark.md``.
    json_line : bool
        Print one line of JSON on stdout instead of the table.
    device : str
        Where to compute.

    Raises
    ------
    MethodError
        A method is not among those that are timed.
    """
    known = {run.method for run in RUNS}
    if missing := [name for name in methods if name not in known]:
        raise MethodError(f'"{missing[0][:60]}" is not timed; known are {", ".join(sorted(known))}')
    runs = [run for run in RUNS if not methods or run.method in methods]
    with progress(silent=json_line) as tell:
        report = measure_seconds(runs, quick=quick, device=device, on_progress=tell)
    table = seconds_table(report)
    files: tuple[Path, ...] = ()
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        files = (write_json(Path(out) / "seconds.json", report.record()),)
    if write_docs:
        files += (write_between_markers(DOCS_PAGE, "seconds", table.markdown()),)
    show(table, report.record(), files, json_line)
    return files
